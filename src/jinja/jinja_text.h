/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_text.h - Python's view of characters, numbers and their spelling. Private to jinja*.c. */
#pragma once
#include "base/json.h"
#include "jinja/jinja_value.h"

/* ---- characters (code points) */
bool bt__jis_space(uint32_t cp); // str.isspace, and \s
bool bt__jis_printable(uint32_t cp);
bool bt__jis_alpha(uint32_t cp);
bool bt__jis_decimal(uint32_t cp);
bool bt__jis_digit(uint32_t cp);
bool bt__jis_numeric(uint32_t cp);
bool bt__jis_alnum(uint32_t cp);
bool bt__jis_lower(uint32_t cp);
bool bt__jis_upper(uint32_t cp); // upper or title case
/* Decodes at p[0..n); never 0 long: a wrong byte counts as U+FFFD of one byte. */
size_t bt__jdecode(const char *p, size_t n, uint32_t *cp);

size_t bt__jfind(const char *hay, size_t n, const char *needle, size_t m); // SIZE_MAX: none
size_t bt__jrfind(jrt *r, const char *hay, size_t n, const char *needle, size_t m);
/* The part of s without leading (left) and trailing (right) characters that are in set; set NULL:
 * white space. */
void bt__jstrip_span(jrt *r, const jstr *s, const jstr *set, bool left, bool right, size_t *at,
                     size_t *len);
jv bt__jstrip(jrt *r, const jstr *s, const jstr *set, bool left, bool right);
/* Bytes of the line break at p, 0 if there is none (str.splitlines's idea of them). */
size_t bt__jline_break(const char *p, size_t n);

typedef enum jcase { JCASE_UPPER, JCASE_LOWER, JCASE_TITLE, JCASE_CAPITAL, JCASE_SWAP, JCASE_FOLD,
} jcase;
jv bt__jcase(jrt *r, const jstr *s, jcase what);
/* Jinja's own title filter: words begin after white space and -({[<. */
jv bt__jtitle_filter(jrt *r, const jstr *s);
/* 0..n of text become upper case (title) or lower case; appended to b. */
void bt__jsb_case(jsb *b, const jstr *s, size_t at, size_t len, jcase what);

jv bt__jreplace(jrt *r, const jstr *s, const jstr *old, const jstr *new, int64_t count);
jv bt__jpad(jrt *r, const jstr *s, int64_t width, const jstr *fill, char align); // '<' '^' '>' 'c'
bool bt__jstr_is_case(const jstr *s, bool upper);                                // isupper, islower

/* ---- numbers */
enum { JFLOAT_TEXT = 400 };
void bt__jfloat_repr(double f, char dst[static 40]);
bool bt__jparse_float(const char *p, size_t n, double *out); // float(str)
/* int(str, base): JT_INT or JT_BIG; false if it is not one. */
bool bt__jparse_int(jrt *r, const char *p, size_t n, int base, jv *out);
/* int(float): JT_INT or JT_BIG; raises for NaN and infinity. */
jv bt__jfloat_to_int(jrt *r, double f);
double bt__jv_double(jrt *r, jv v); // of a number
/* op: + - * / f (//) % p (**), on numbers. */
jv bt__jarith(jrt *r, char op, jv a, jv b);
/* round(x, digits) for floats. */
double bt__jround(double x, int digits);
jv bt__jround_int(jrt *r, jv v, int64_t digits); // digits < 0

/* ---- JSON */
/* Reads a JSON text as json.loads does, into the arena. NULL: it is not one, and what (if not NULL)
 * says why not. */
typedef struct jjson_fault {
    const char *why;
    size_t at; // the byte
} jjson_fault;
const bt_json *bt__jjson_read(jrt *r, const char *text, size_t len, jjson_fault *what);
/* Of what was read; borrows its strings, which carry flags. */
jv bt__jjson_value(jrt *r, const bt_json *v, unsigned flags);
/* Both. Raises BT_JINJA_CONTEXT. */
jv bt__jjson_parse(jrt *r, const char *text, size_t len, unsigned flags);
/* tojson, as transformers defines it. indent: JT_NONE, an int or a string. */
typedef struct jdump {
    bool ascii, sort_keys;
    jv indent;
    const jstr *item_sep, *key_sep;
} jdump;
jv bt__jjson_dump(jrt *r, jv v, const jdump *how);

/* ---- formatting */
jv bt__jpercent(jrt *r, const jstr *format, jv args);                // format % args
jv bt__jformat(jrt *r, const jstr *format, const jcall *call);       // format.format(...)
jv bt__jformat_map(jrt *r, const jstr *format, jv map);              // format.format_map(map)
jv bt__jformat_spec(jrt *r, jv v, const jstr *spec);                 // format(v, spec)
jv bt__jstrftime(jrt *r, const jstr *format);
