/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_format.c - "..." % args, "...".format(...), format(value, spec), and strftime. */
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include "base/utf8.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

enum { WIDTH_MAX = 1 << 20, PRECISION_MAX = 300 };

/* ---- numbers in a spec */

typedef struct spec {
    jv fill; // one character
    char align, sign, group, type;
    bool alternate, zero, plus_zero; // plus_zero: a negative zero loses its sign
    int64_t width, precision;        // -1 = none
} spec;

/* Digits of |i| in a base. */
static size_t int_digits(uint64_t i, unsigned base, bool upper, char dst[70])
{
    char text[70];
    size_t n = 0, k = 0;
    do {
        unsigned d = (unsigned)(i % base);
        text[n++] = (char)(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
        i /= base;
    } while (i);
    while (n) dst[k++] = text[--n];
    dst[k] = 0;
    return k;
}

/* Digits with a separator between groups, with leading zeros up to a width; "0,001" is one wider
 * than asked, for no separator comes first. */
static jv grouped(jrt *r, const char *digits, size_t n, char group, unsigned every, int64_t width)
{
    jsb b;
    size_t whole = 0, zeros = 0;
    bt__jsb_init(&b, r);
    while (whole < n && strchr(every == 4 ? "0123456789abcdefABCDEF" : "0123456789", digits[whole]))
        whole++;
    while (whole && (int64_t)(n + zeros + (whole + zeros - 1) / every) < width) zeros++;
    for (size_t i = 0; i < zeros + whole; i++) {
        if (i && (zeros + whole - i) % every == 0) bt__jsb_add(&b, &group, 1, 0);
        bt__jsb_add(&b, i < zeros ? "0" : digits + i - zeros, 1, 0);
    }
    bt__jsb_add(&b, digits + whole, n - whole, 0);
    return bt__jsb_done(&b);
}

/* Sign, prefix and digits, padded as the spec says. */
static jv number_done(jrt *r, const spec *f, bool negative, const char *prefix, const char *digits)
{
    jsb b;
    size_t n = strlen(digits);
    char align = f->align ? f->align : f->zero ? '=' : '>';
    bt__jsb_init(&b, r);
    if (negative)
        bt__jsb_adds(&b, "-");
    else if (f->sign == '+' || f->sign == ' ')
        bt__jsb_add(&b, &f->sign, 1, 0);
    bt__jsb_adds(&b, prefix);
    bool zeros = align == '=' && jstr_is(f->fill.u.s, "0");
    jv body = f->group ? grouped(r, digits, n, f->group, strchr("boxX", f->type) && f->type ? 4 : 3,
                                 zeros ? f->width - (int64_t)b.len : 0)
                       : bt__jstr_new(r, digits, n, 0);
    if (align == '=') {
        int64_t pad = f->width - (int64_t)b.len - bt__jstr_chars(body.u.s);
        for (; pad > 0; pad--) bt__jsb_str(&b, f->fill.u.s);
    }
    bt__jsb_str(&b, body.u.s);
    jv text = bt__jsb_done(&b);
    return align == '=' ? text : bt__jpad(r, text.u.s, f->width, f->fill.u.s, align);
}

/* The digits, led by zeros up to the precision: only % lets an integer have one. */
static const char *least_digits(jrt *r, const char *digits, size_t n, const spec *f)
{
    size_t least = f->precision < 0 ? 0 : (size_t)f->precision, zeros = least > n ? least - n : 0;
    char *text = bt__jalloc(r, zeros + n + 1);
    memset(text, '0', zeros);
    memcpy(text + zeros, digits, n);
    return text;
}

static jv format_int(jrt *r, jv v, const spec *f)
{
    char digits[70];
    if (v.type == JT_BIG) {
        bool negative = v.u.s->p[0] == '-';
        if (f->type && !strchr("dn", f->type))
            bt__jraise(r, BT_JINJA_TYPE, "integers beyond 64 bits can only be shown in base 10");
        return number_done(r, f, negative, "",
                           least_digits(r, v.u.s->p + negative, v.u.s->len - negative, f));
    }
    int64_t i = jas_int(v);
    uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (f->type == 'c') {
        if (i < 0 || i > 0x10FFFF) bt__jraise(r, BT_JINJA_TYPE, "%%c arg not in range(0x110000)");
        char utf8[4];
        if (i >= 0xD800 && i < 0xE000) i = 0xFFFD;
        jv ch = bt__jstr_new(r, utf8, bt_utf8_encode((uint32_t)i, utf8), 0);
        return bt__jpad(r, ch.u.s, f->width, f->fill.u.s, f->align ? f->align : '<');
    }
    unsigned base = f->type == 'b'                     ? 2
                    : f->type == 'o'                   ? 8
                    : f->type == 'x' || f->type == 'X' ? 16
                                                       : 10;
    size_t n = int_digits(size, base, f->type == 'X', digits);
    char prefix[3] = {'0', f->type, 0};
    return number_done(r, f, i < 0, f->alternate && base != 10 ? prefix : "",
                       least_digits(r, digits, n, f));
}

static bool is_zero(const char *number)
{
    return strspn(number, "0.") == strcspn(number, "eE%");
}

static jv format_float(jrt *r, double v, const spec *f)
{
    char text[700], shape[8];
    bool negative = signbit(v) && !isnan(v);
    double size = fabs(v);
    char type = f->type == 'n' ? 'g' : f->type;
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    if (precision > PRECISION_MAX) bt__jraise(r, BT_JINJA_TYPE, "the precision is too large");
    if (isnan(v) || isinf(v)) {
        snprintf(text, sizeof text, "%s%s", isnan(v) ? "nan" : "inf", type == '%' ? "%" : "");
        for (char *p = text; (type == 'E' || type == 'F' || type == 'G') && *p; p++)
            *p = (char)toupper((unsigned char)*p);
        return number_done(r, f, negative, "", text);
    }
    if (!type && f->precision < 0) {
        char repr[40];
        bt__jfloat_repr(size, repr);
        return number_done(r, f, negative && !(f->plus_zero && size == 0), "", repr);
    }
    if (type == '%') {
        snprintf(text, sizeof text, "%.*f%%", precision, size * 100);
        return number_done(r, f, negative && !(f->plus_zero && is_zero(text)), "", text);
    }
    if ((type == 'g' || type == 'G' || !type) && precision == 0) precision = 1;
    snprintf(shape, sizeof shape, "%%%s.*%c", f->alternate ? "#" : "", type ? type : 'g');
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, shape, precision, size);
#pragma GCC diagnostic pop
    if (!type && !strpbrk(text, ".e")) strncat(text, ".0", 3);
    return number_done(r, f, negative && !(f->plus_zero && is_zero(text)), "", text);
}

static jv format_text(jrt *r, const jstr *s, const spec *f)
{
    jv v = {.type = JT_STR, .u.s = s};
    if (f->precision >= 0 && f->precision < bt__jstr_chars(s))
        v = bt__jstr_sub(r, s, 0, bt__jstr_at(s, f->precision));
    return bt__jpad(r, v.u.s, f->width, f->fill.u.s, f->align ? f->align : '<');
}

/* ---- format specs */

static int64_t spec_number(jrt *r, const jstr *s, size_t *at)
{
    int64_t v = -1;
    while (*at < s->len && isdigit((unsigned char)s->p[*at])) {
        v = (v < 0 ? 0 : v) * 10 + (s->p[(*at)++] - '0');
        if (v > WIDTH_MAX) bt__jraise(r, BT_JINJA_TYPE, "Too many decimal digits in format string");
    }
    return v;
}

static char spec_one(const jstr *s, size_t *at, const char *set)
{
    if (*at < s->len && s->p[*at] && strchr(set, s->p[*at])) return s->p[(*at)++];
    return 0;
}

static spec spec_parse(jrt *r, const jstr *s, bool is_text)
{
    spec f = {.fill = bt__jstr_lit(r, " "), .width = 0, .precision = -1};
    size_t at = 0, fill = 0;
    bool filled = false;
    uint32_t cp;
    if (s->len) fill = bt__jdecode(s->p, s->len, &cp);
    if (fill && fill < s->len && strchr("<>=^", s->p[fill])) {
        f.fill = bt__jstr_sub(r, s, 0, fill);
        f.align = s->p[fill];
        filled = true;
        at = fill + 1;
    } else {
        f.align = spec_one(s, &at, "<>=^");
    }
    f.sign = spec_one(s, &at, "+- ");
    f.plus_zero = spec_one(s, &at, "z");
    f.alternate = spec_one(s, &at, "#");
    f.zero = spec_one(s, &at, "0");
    if (f.zero && !f.align) f.align = is_text ? '<' : '=';
    if (f.zero && !filled) f.fill = bt__jstr_lit(r, "0");
    int64_t width = spec_number(r, s, &at);
    f.width = BT_MAX(width, 0);
    f.group = spec_one(s, &at, ",_");
    if (f.group && spec_one(s, &at, ",_"))
        bt__jraise(r, BT_JINJA_TYPE,
                   s->p[at - 1] == f.group ? "Cannot specify '%c' with '%c'."
                                           : "Cannot specify both ',' and '_'.",
                   f.group, f.group);
    if (at < s->len && s->p[at] == '.') {
        at++;
        f.precision = spec_number(r, s, &at);
        if (f.precision < 0) bt__jraise(r, BT_JINJA_TYPE, "Format specifier missing precision");
    }
    if (at < s->len) f.type = s->p[at++];
    if (at < s->len) bt__jraise(r, BT_JINJA_TYPE, "Invalid format specifier");
    if (f.group && !strchr(f.group == '_' ? "defgEG%FboxX" : "defgEG%F", f.type    ? f.type
                                                                         : is_text ? 's'
                                                                                   : 'd'))
        bt__jraise(r, BT_JINJA_TYPE, "Cannot specify '%c' with '%c'.", f.group,
                   f.type ? f.type : 's');
    return f;
}

/* What a spec may not ask of an integer or of text. */
static void check_spec(jrt *r, const spec *f, bool is_text)
{
    if (is_text && f->sign)
        bt__jraise(r, BT_JINJA_TYPE, "%s not allowed in string format specifier",
                   f->sign == ' ' ? "Space" : "Sign");
    if (f->plus_zero)
        bt__jraise(r, BT_JINJA_TYPE, "Negative zero coercion (z) not allowed in%s format specifier",
                   is_text ? " string" : " integer");
    if (is_text && f->alternate)
        bt__jraise(r, BT_JINJA_TYPE, "Alternate form (#) not allowed in string format specifier");
    if (is_text && f->align == '=')
        bt__jraise(r, BT_JINJA_TYPE, "'=' alignment not allowed in string format specifier");
    if (!is_text && f->precision >= 0)
        bt__jraise(r, BT_JINJA_TYPE, "Precision not allowed in integer format specifier");
    if (f->type == 'c' && (f->sign || f->alternate))
        bt__jraise(r, BT_JINJA_TYPE, "%s not allowed with integer format specifier 'c'",
                   f->sign ? "Sign" : "Alternate form (#)");
}

jv bt__jformat_spec(jrt *r, jv v, const jstr *s)
{
    const char *type = bt__jv_type(v);
    if (!s->len) return bt__jv_str(r, v);
    if (v.type != JT_STR && !jis_num(v))
        bt__jraise(r, BT_JINJA_TYPE, "unsupported format string passed to %s.__format__", type);
    spec f = spec_parse(r, s, v.type == JT_STR);
    bool known = v.type == JT_STR     ? !f.type || f.type == 's'
                 : v.type == JT_FLOAT ? !f.type || strchr("eEfFgGn%", f.type)
                                      : !f.type || strchr("bcdoxXneEfFgG%", f.type);
    if (!known)
        bt__jraise(r, BT_JINJA_TYPE, "Unknown format code '%c' for object of type '%s'", f.type,
                   type);
    if (v.type == JT_FLOAT || (v.type != JT_STR && f.type && strchr("eEfFgG%", f.type)))
        return format_float(r, bt__jv_double(r, v), &f);
    check_spec(r, &f, v.type == JT_STR);
    if (v.type == JT_STR) return format_text(r, v.u.s, &f);
    return format_int(r, v, &f);
}

/* repr(v), or ascii(v): the same with everything beyond ASCII escaped. */
static jv repr_of(jrt *r, jv v, bool ascii)
{
    jsb text, escaped;
    bt__jsb_init(&text, r);
    bt__jsb_repr(&text, v);
    v = bt__jsb_done(&text);
    if (!ascii) return v;
    const jstr *s = v.u.s;
    uint32_t cp;
    bt__jsb_init(&escaped, r);
    for (size_t at = 0, n; at < s->len; at += n) {
        char code[16];
        n = bt__jdecode(s->p + at, s->len - at, &cp);
        if (cp < 0x80) {
            bt__jsb_sub(&escaped, s, at, n);
            continue;
        }
        int len = snprintf(code, sizeof code,
                           cp < 0x100     ? "\\x%02x"
                           : cp < 0x10000 ? "\\u%04x"
                                          : "\\U%08x",
                           cp);
        bt__jsb_add(&escaped, code, (size_t)len, bt__jstr_flags_at(s, at));
    }
    return bt__jsb_done(&escaped);
}

/* ---- str.format */

typedef struct formatter {
    jrt *r;
    const jcall *call;
    const jdict *map;
    int64_t next; // automatic number; -1 once a field was numbered by hand
} formatter;

static jv field_value(formatter *f, const char *p, size_t n, bool alone)
{
    jrt *r = f->r;
    jv number;
    bool digits = n > 0;
    for (size_t i = 0; i < n; i++) digits &= isdigit((unsigned char)p[i]) != 0;
    if (n && !digits) {
        jv key = bt__jstr_new(r, p, n, 0);
        for (uint32_t i = 0; f->call && i < f->call->n_kw; i++)
            if (bt__jv_equal(r, f->call->key[i], key)) return f->call->kw[i];
        const jv *found = f->map ? bt__jdict_find(r, f->map, key) : NULL;
        if (!found) bt__jraise(r, BT_JINJA_TYPE, "'%.*s'", (int)BT_MIN(n, (size_t)80), p);
        return *found;
    }
    if (digits) {
        if (alone && f->next > 0)
            bt__jraise(r, BT_JINJA_TYPE,
                       "cannot switch from manual field specification to "
                       "automatic field numbering");
        if (alone) f->next = -1; // "{0.x}" is not looked at
        if (!bt__jparse_int(r, p, n, 10, &number) || number.type != JT_INT)
            number = jint(INT64_MAX);
    } else {
        if (f->next < 0)
            bt__jraise(r, BT_JINJA_TYPE,
                       "cannot switch from manual field specification to "
                       "automatic field numbering");
        number = jint(f->next++);
    }
    if (!f->call || number.u.i >= f->call->n_pos)
        bt__jraise(r, BT_JINJA_TYPE, "tuple index out of range");
    return f->call->pos[number.u.i];
}

/* "name.attr[item]" */
static jv field_of(formatter *f, const char *p, size_t n)
{
    size_t at = 0;
    jrt *r = f->r;
    while (at < n && p[at] != '.' && p[at] != '[') at++;
    if (at == 0 && n) bt__jraise(r, BT_JINJA_TYPE, "''"); // Formatter numbers "{}" alone
    jv v = field_value(f, p, at, at == n), key;
    while (at < n) {
        bool item = p[at] == '[';
        size_t from = ++at;
        while (at < n && (item ? p[at] != ']' : p[at] != '.' && p[at] != '[')) at++;
        if (at == from || (item && at == n))
            bt__jraise(r, BT_JINJA_TYPE, "Empty attribute in format string");
        key = bt__jstr_new(r, p + from, at - from, 0);
        if (item) {
            jv number;
            if (isdigit((unsigned char)p[from]) &&
                bt__jparse_int(r, p + from, at - from, 10, &number))
                key = number;
            v = bt__jgetitem(r, v, key);
            at++;
        } else {
            v = bt__jgetattr(r, v, key);
        }
    }
    return v;
}

static jv format_run(formatter *f, const jstr *s, int depth);

/* One field, from behind '{' to its '}'; returns the bytes used with the brace. */
static size_t format_field(formatter *f, const jstr *s, size_t from, jsb *b, int depth)
{
    jrt *r = f->r;
    size_t end = from, name_end, spec_at;
    char conversion = 0;
    int nested = 1;
    for (; end < s->len; end++) {
        if (s->p[end] == '{') nested++;
        if (s->p[end] == '}' && --nested == 0) break;
    }
    if (end == s->len) bt__jraise(r, BT_JINJA_TYPE, "expected '}' before end of string");
    name_end = from;
    bool item = false;
    for (; name_end < end; name_end++) {
        if (s->p[name_end] == '[') item = true;
        if (s->p[name_end] == ']') item = false;
        if (!item && (s->p[name_end] == ':' || s->p[name_end] == '!')) break;
    }
    spec_at = name_end;
    jv v = field_of(f, s->p + from, name_end - from);
    if (spec_at < end && s->p[spec_at] == '!') {
        if (spec_at + 1 >= end) bt__jraise(r, BT_JINJA_TYPE, "unmatched '{' in format spec");
        conversion = s->p[spec_at + 1];
        spec_at += 2;
        if (spec_at < end && s->p[spec_at] != ':')
            bt__jraise(r, BT_JINJA_TYPE, "expected ':' after conversion specifier");
    }
    if (conversion == 'r' || conversion == 'a') {
        v = repr_of(r, v, conversion == 'a');
    } else if (conversion == 's') {
        v = bt__jv_str(r, v);
    } else if (conversion) {
        bt__jraise(r, BT_JINJA_TYPE, "Unknown conversion specifier %c", conversion);
    }
    jv inner = bt__jstr_lit(r, "");
    if (spec_at < end) {
        inner = bt__jstr_sub(r, s, spec_at + 1, end - spec_at - 1);
        inner = format_run(f, inner.u.s, depth + 1);
    }
    jv text = bt__jformat_spec(r, v, inner.u.s);
    if (b->markup)
        bt__jsb_escaped(b, text.u.s);
    else
        bt__jsb_str(b, text.u.s);
    return end + 1 - from;
}

static jv format_run(formatter *f, const jstr *s, int depth)
{
    jsb b;
    if (depth > 2) bt__jraise(f->r, BT_JINJA_TYPE, "Max string recursion exceeded");
    bt__jsb_init(&b, f->r);
    b.markup = s->markup && depth == 1;
    for (size_t at = 0; at < s->len;) {
        char c = s->p[at];
        if ((c == '{' || c == '}') && at + 1 < s->len && s->p[at + 1] == c) {
            bt__jsb_sub(&b, s, at, 1);
            at += 2;
        } else if (c == '}') {
            bt__jraise(f->r, BT_JINJA_TYPE, "Single '}' encountered in format string");
        } else if (c == '{') {
            if (at + 1 == s->len)
                bt__jraise(f->r, BT_JINJA_TYPE, "Single '{' encountered in format string");
            at += 1 + format_field(f, s, at + 1, &b, depth);
        } else {
            bt__jsb_sub(&b, s, at++, 1);
        }
    }
    return bt__jsb_done(&b);
}

jv bt__jformat(jrt *r, const jstr *format, const jcall *call)
{
    formatter f = {.r = r, .call = call};
    return format_run(&f, format, 1);
}

jv bt__jformat_map(jrt *r, const jstr *format, jv map)
{
    if (map.type != JT_DICT)
        bt__jraise(r, BT_JINJA_TYPE, "format_map() argument must be a mapping, not %s",
                   bt__jv_type(map));
    formatter f = {.r = r, .map = map.u.d};
    return format_run(&f, format, 1);
}

/* ---- % */

typedef struct percent {
    jrt *r;
    jv args;
    size_t at; // of a tuple
} percent;

/* To % these are mappings, whose items need not be used up. */
static bool takes_keys(jv args)
{
    return args.type == JT_DICT || args.type == JT_LIST || args.type == JT_RANGE ||
           args.type == JT_UNDEF;
}

static jv percent_next(percent *p)
{
    bool tuple = p->args.type == JT_TUPLE;
    if (tuple ? p->at >= p->args.u.l->n : p->at > 0)
        bt__jraise(p->r, BT_JINJA_TYPE, "not enough arguments for format string");
    return tuple ? p->args.u.l->v[p->at++] : (p->at++, p->args);
}

static jv percent_key(percent *p, const jstr *s, size_t *at)
{
    size_t from = ++*at;
    int depth = 1;
    for (; *at < s->len; ++*at) {
        if (s->p[*at] == '(') depth++;
        if (s->p[*at] == ')' && --depth == 0) break;
    }
    if (*at == s->len) bt__jraise(p->r, BT_JINJA_TYPE, "incomplete format key");
    if (p->args.type == JT_UNDEF) bt__jraise_undef(p->r, p->args);
    if (p->args.type != JT_DICT && takes_keys(p->args))
        bt__jraise(p->r, BT_JINJA_TYPE, "%s indices must be integers or slices, not str",
                   bt__jv_type(p->args));
    if (p->args.type != JT_DICT) bt__jraise(p->r, BT_JINJA_TYPE, "format requires a mapping");
    const jv *found =
        bt__jdict_find(p->r, p->args.u.d, bt__jstr_new(p->r, s->p + from, *at - from, 0));
    if (!found)
        bt__jraise(p->r, BT_JINJA_TYPE, "'%.*s'", (int)BT_MIN(*at - from, (size_t)80), s->p + from);
    ++*at;
    p->at = 1; // what follows without a key finds nothing
    return *found;
}

static jv percent_one(percent *p, jv v, char type, spec *f)
{
    jrt *r = p->r;
    switch (type) {
    case 's':
    case 'r':
    case 'a':
        v = type == 's' ? bt__jv_str(r, v) : repr_of(r, v, type == 'a');
        return format_text(r, v.u.s, f);
    case 'c':
        f->precision = -1;
        if (v.type == JT_STR && bt__jstr_chars(v.u.s) == 1) return format_text(r, v.u.s, f);
        if (!jis_int(v)) bt__jraise(r, BT_JINJA_TYPE, "%%c requires int or char");
        f->type = 'c';
        return format_int(r, v, f);
    case 'd':
    case 'i':
    case 'u':
        if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
        if (v.type == JT_FLOAT) v = bt__jfloat_to_int(r, v.u.f);
        if (!jis_num(v))
            bt__jraise(r, BT_JINJA_TYPE, "%%%c format: a real number is required, not %s", type,
                       bt__jv_type(v));
        f->type = 'd';
        return format_int(r, v, f);
    case 'o':
    case 'x':
    case 'X':
        if (!jis_int(v))
            bt__jraise(r, BT_JINJA_TYPE, "%%%c format: an integer is required, not %s", type,
                       bt__jv_type(v));
        f->type = type;
        return format_int(r, v, f);
    default:
        if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
        if (!jis_num(v))
            bt__jraise(r, BT_JINJA_TYPE, "must be real number, not %s", bt__jv_type(v));
        f->type = type;
        return format_float(r, bt__jv_double(r, v), f);
    }
}

/* A width or precision: a number, or '*' for one among the arguments; -1 if there is none. */
static int64_t percent_number(percent *p, const jstr *s, size_t *at)
{
    if (*at >= s->len || s->p[*at] != '*') return spec_number(p->r, s, at);
    ++*at;
    jv v = percent_next(p);
    if (!jis_int(v)) bt__jraise(p->r, BT_JINJA_TYPE, "* wants int");
    int64_t n = jas_int(v);
    if (n < -WIDTH_MAX || n > WIDTH_MAX) bt__jraise(p->r, BT_JINJA_TYPE, "width too big");
    return n;
}

/* Flags, width, precision and type behind '%'. */
static size_t percent_field(percent *p, const jstr *s, size_t at, jsb *b)
{
    jrt *r = p->r;
    spec f = {.fill = bt__jstr_lit(r, " "), .align = '>', .precision = -1};
    jv v = jmissing();
    if (at < s->len && s->p[at] == '%') {
        bt__jsb_adds(b, "%");
        return at + 1;
    }
    if (at < s->len && s->p[at] == '(') v = percent_key(p, s, &at);
    for (; at < s->len && s->p[at] && strchr("-+ #0", s->p[at]); at++) {
        if (s->p[at] == '-') f.align = '<';
        if (s->p[at] == '+' || (s->p[at] == ' ' && f.sign != '+')) f.sign = s->p[at];
        if (s->p[at] == '#') f.alternate = true;
        if (s->p[at] == '0') f.zero = true;
    }
    bool star = at < s->len && s->p[at] == '*';
    f.width = percent_number(p, s, &at);
    if (star && f.width < 0) f.align = '<', f.width = -f.width;
    f.width = BT_MAX(f.width, 0);
    if (at < s->len && s->p[at] == '.') {
        at++;
        f.precision = percent_number(p, s, &at);
        f.precision = BT_MAX(f.precision, 0);
    }
    if (at < s->len && strchr("hlL", s->p[at]) && s->p[at]) at++;
    if (at == s->len) bt__jraise(r, BT_JINJA_TYPE, "incomplete format");
    char type = s->p[at];
    if (v.type == JT_MISSING) v = percent_next(p);
    if (!type || !strchr("sraciduoxXeEfFgG", type))
        bt__jraise(r, BT_JINJA_TYPE, "unsupported format character '%c' (0x%x) at index %zu", type,
                   (unsigned)(unsigned char)type, at);
    if (f.zero && f.align == '>' && !strchr("srac", type)) {
        f.fill = bt__jstr_lit(r, "0");
        f.align = '=';
    }
    jv text = percent_one(p, v, type, &f);
    if (b->markup && !(v.type == JT_STR && v.u.s->markup))
        bt__jsb_escaped(b, text.u.s);
    else
        bt__jsb_str(b, text.u.s);
    return at + 1;
}

jv bt__jpercent(jrt *r, const jstr *s, jv args)
{
    percent p = {.r = r, .args = args};
    jsb b;
    bt__jsb_init(&b, r);
    b.markup = s->markup;
    for (size_t at = 0; at < s->len;) {
        size_t run = at;
        while (at < s->len && s->p[at] != '%') at++;
        bt__jsb_sub(&b, s, run, at - run);
        if (at < s->len) at = percent_field(&p, s, at + 1, &b);
    }
    if (args.type == JT_TUPLE ? p.at < args.u.l->n : p.at == 0 && !takes_keys(args))
        bt__jraise(r, BT_JINJA_TYPE, "not all arguments converted during string formatting");
    return bt__jsb_done(&b);
}

/* ---- strftime */

jv bt__jstrftime(jrt *r, const jstr *s)
{
    struct tm tm;
    jsb b;
    time_t seconds = (time_t)(r->now_local_us / 1000000);
    int64_t us = r->now_local_us % 1000000;
    if (us < 0) us += 1000000, seconds--;
    memset(&tm, 0, sizeof tm);
    gmtime_r(&seconds, &tm);
    tm.tm_isdst = -1;
    bt__jsb_init(&b, r);
    for (size_t at = 0; at < s->len;) {
        char directive[4] = {'%', 0}, text[200];
        if (s->p[at] != '%' || at + 1 >= s->len) {
            bt__jsb_sub(&b, s, at++, 1);
            continue;
        }
        size_t n = 1;
        if (strchr("-_0^#", s->p[at + 1]) && s->p[at + 1] && at + 2 < s->len)
            directive[n++] = s->p[at + 1];
        char what = directive[n] = s->p[at + n];
        if (what == 'f') {
            bt__jsb_addf(&b, "%06d", (int)us);
        } else if (what != 'z' && what != 'Z') { // a naive time has no zone
            size_t len = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            if (isalpha((unsigned char)what) || what == '%')
                len = strftime(text, sizeof text, directive, &tm);
#pragma GCC diagnostic pop
            if (len)
                bt__jsb_add(&b, text, len, 0);
            else if (what != 'p' && what != 'P')
                bt__jsb_sub(&b, s, at, n + 1);
        }
        at += n + 1;
    }
    return bt__jsb_done(&b);
}
