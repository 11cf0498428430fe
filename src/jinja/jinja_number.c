/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_number.c - Python's numbers: spelling, reading and arithmetic. Integers are exact within 64
 * bits; a result beyond them is a fault that says so. */
#include "jinja/jinja_text.h"
#include "base/assert.h"
#include "base/utf8.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The shortest digits that read back equal, laid out as repr() does. */
void bt__jfloat_repr(double f, char dst[static 40])
{
    char e[40], digits[24];
    if (isnan(f) || isinf(f)) {
        snprintf(dst, 40, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(e, sizeof e, "%.*e", precision, f);
        if (strtod(e, NULL) == f) break;
    }
    size_t n = 0;
    const char *p = e;
    bool negative = *p == '-';
    if (negative) p++;
    for (; *p && *p != 'e'; p++)
        if (*p != '.' && n < sizeof digits - 1) digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    int exponent = atoi(p + 1), len = (int)n;
    char *out = dst;
    if (negative) *out++ = '-';
    if (exponent >= 16 || exponent < -4) {
        snprintf(out, 38, "%c%s%.*se%c%02d", digits[0], len > 1 ? "." : "", len - 1, digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent) % 1000);
    } else if (exponent < 0) {
        snprintf(out, 38, "0.%.*s%.*s", -exponent - 1, "0000", len, digits);
    } else if (len <= exponent + 1) {
        snprintf(out, 38, "%.*s%.*s.0", len, digits, exponent + 1 - len, "0000000000000000");
    } else {
        snprintf(out, 38, "%.*s.%.*s", exponent + 1, digits, len - exponent - 1,
                 digits + exponent + 1);
    }
}

/* What int() and float() strip: not the separators that str.isspace counts among ASCII's spaces. */
static bool number_space(uint32_t cp)
{
    return bt__jis_space(cp) && (cp < 0x1C || cp > 0x1F);
}

/* Decimal digits of other scripts become ASCII's; returns the bytes written, at most n. */
static size_t ascii_digits(const char *p, size_t n, char *dst)
{
    size_t len = 0;
    for (size_t at = 0; at < n;) {
        uint32_t cp, first;
        size_t used = bt__jdecode(p + at, n - at, &cp);
        if (cp >= 0x80 && bt__jis_decimal(cp)) {
            for (first = cp; bt__jis_decimal(first - 1); first--) {
            } // they come in tens
            dst[len++] = (char)('0' + (cp - first) % 10);
        } else {
            memcpy(dst + len, p + at, used);
            len += used;
        }
        at += used;
    }
    return len;
}

static void trim_space(const char **p, size_t *n)
{
    uint32_t cp;
    while (*n) {
        size_t used = bt__jdecode(*p, *n, &cp);
        if (!number_space(cp)) break;
        *p += used;
        *n -= used;
    }
    while (*n) {
        size_t last = *n - 1;
        while (last > 0 && bt_utf8_is_tail((*p)[last])) last--;
        bt__jdecode(*p + last, *n - last, &cp);
        if (!number_space(cp)) break;
        *n = last;
    }
}

static size_t float_digits(const char *p, size_t n, size_t at)
{
    bool digit = false;
    while (at < n) {
        bool d = isdigit((unsigned char)p[at]);
        if (!d && !(p[at] == '_' && digit && at + 1 < n && isdigit((unsigned char)p[at + 1])))
            break;
        digit = d;
        at++;
    }
    return at;
}

static bool float_grammar(const char *p, size_t n)
{
    size_t at = n && (p[0] == '+' || p[0] == '-'), whole, part = 0;
    size_t end = float_digits(p, n, at);
    whole = end - at;
    at = end;
    if (at < n && p[at] == '.') {
        end = float_digits(p, n, at + 1);
        part = end - at - 1;
        at = end;
    }
    if (!whole && !part) return false;
    if (at < n && (p[at] == 'e' || p[at] == 'E')) {
        at++;
        if (at < n && (p[at] == '+' || p[at] == '-')) at++;
        end = float_digits(p, n, at);
        if (end == at) return false;
        at = end;
    }
    return at == n;
}

bool bt__jparse_float(const char *p, size_t n, double *out)
{
    char ascii[JFLOAT_TEXT], text[JFLOAT_TEXT], *to = text;
    trim_space(&p, &n);
    if (n == 0 || n >= sizeof text) return false;
    n = ascii_digits(p, n, ascii);
    p = ascii;
    for (size_t i = 0; i < n; i++)
        if (p[i] != '_') *to++ = (char)tolower((unsigned char)p[i]);
    *to = 0;
    const char *word = text + (text[0] == '+' || text[0] == '-');
    if (strcmp(word, "inf") && strcmp(word, "infinity") && strcmp(word, "nan") &&
        !float_grammar(p, n))
        return false;
    if (strlen(text) != n && (strchr(text, 'i') || strchr(text, 'n'))) return false;
    *out = strtod(text, NULL);
    return true;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

/* Decimal digits beyond 64 bits: kept as text without leading zeros. */
static jv big_of(jrt *r, const char *digits, size_t n, bool negative)
{
    char *text = bt__jalloc(r, n + 2);
    size_t len = 0;
    if (negative) text[len++] = '-';
    for (size_t i = 0; i < n; i++)
        if (digits[i] != '_') text[len++] = digits[i];
    jv v = bt__jstr_ref(r, text, len, 0);
    v.type = JT_BIG;
    return v;
}

bool bt__jparse_int(jrt *r, const char *p, size_t n, int base, jv *out)
{
    char *ascii = bt__jalloc(r, n + 1);
    trim_space(&p, &n);
    n = ascii_digits(p, n, ascii);
    p = ascii;
    bool negative = n && p[0] == '-', over = false, digit = false;
    if (n && (p[0] == '-' || p[0] == '+')) p++, n--;
    if (n > 1 && p[0] == '0') {
        int named = strchr("xX", p[1]) ? 16 : strchr("oO", p[1]) ? 8 : strchr("bB", p[1]) ? 2 : 0;
        if (p[1] && named && (base == 0 || base == named)) {
            p += 2, n -= 2, base = named;
            if (n && p[0] == '_') p++, n--;
        }
    }
    if (base == 0) {
        for (size_t i = 1; i < n && p[0] == '0'; i++)
            if (p[i] != '0' && p[i] != '_') return false;
        base = 10;
    }
    while (n > 1 && p[0] == '0') p++, n--, digit = true;
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '_' && digit && i + 1 < n) {
            digit = false;
            continue;
        }
        int d = digit_of(p[i]);
        if (d >= base) return false;
        digit = true;
        over |= __builtin_mul_overflow(v, (int64_t)base, &v);
        over |= negative ? __builtin_sub_overflow(v, (int64_t)d, &v)
                         : __builtin_add_overflow(v, (int64_t)d, &v);
    }
    if (!digit) return false;
    if (over && base != 10)
        bt__jraise(r, BT_JINJA_TYPE, "integers beyond 64 bits can only be read in base 10");
    *out = over ? big_of(r, p, n, negative) : jint(v);
    return true;
}

jv bt__jfloat_to_int(jrt *r, double f)
{
    char text[JFLOAT_TEXT];
    if (isnan(f)) bt__jraise(r, BT_JINJA_TYPE, "cannot convert float NaN to integer");
    if (isinf(f)) bt__jraise(r, BT_JINJA_TYPE, "cannot convert float infinity to integer");
    f = trunc(f);
    if (f >= -0x1p63 && f < 0x1p63) return jint((int64_t)f);
    int n = snprintf(text, sizeof text, "%.0f", fabs(f));
    return big_of(r, text, (size_t)n, f < 0);
}

double bt__jv_double(jrt *r, jv v)
{
    double f = 0;
    (void)r;
    if (v.type == JT_FLOAT) return v.u.f;
    if (v.type == JT_BIG) {
        bt__jparse_float(v.u.s->p, v.u.s->len, &f);
        return f;
    }
    return (double)jas_int(v);
}

static _Noreturn void raise_over(jrt *r)
{
    bt__jraise(r, BT_JINJA_TYPE, "arithmetic on integers beyond 64 bits is not supported");
}

static jv int_power(jrt *r, int64_t base, int64_t exponent)
{
    int64_t v = 1;
    if (exponent < 0) {
        if (base == 0) bt__jraise(r, BT_JINJA_TYPE, "0.0 cannot be raised to a negative power");
        return jfloat(pow((double)base, (double)exponent));
    }
    while (exponent) {
        if (exponent & 1 && __builtin_mul_overflow(v, base, &v)) raise_over(r);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) raise_over(r);
    }
    return jint(v);
}

static jv int_arith(jrt *r, char op, int64_t a, int64_t b)
{
    int64_t v = 0;
    bool over = false;
    if (b == 0 && (op == 'f' || op == '%'))
        bt__jraise(r, BT_JINJA_TYPE, "%s",
                   op == 'f' ? "integer division or modulo by zero" : "integer modulo by zero");
    if (b == 0 && op == '/') bt__jraise(r, BT_JINJA_TYPE, "division by zero");
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, &v); break;
    case '-': over = __builtin_sub_overflow(a, b, &v); break;
    case '*': over = __builtin_mul_overflow(a, b, &v); break;
    case '/': return jfloat((double)a / (double)b);
    case 'p': return int_power(r, a, b);
    default:
        if (b == -1) { // INT64_MIN // -1 does not fit
            over = op == 'f' && __builtin_sub_overflow((int64_t)0, a, &v);
            break;
        }
        v = op == 'f' ? a / b : a % b;
        if (a % b != 0 && (a % b < 0) != (b < 0)) v += op == 'f' ? -1 : b;
    }
    if (over) raise_over(r);
    return jint(v);
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) m += b;
    return m == 0 ? copysign(0, b) : m;
}

/* a // b in CPython's steps, which decide the last digit of large quotients. */
static double float_floordiv(double a, double b)
{
    double m = fmod(a, b), div = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) div -= 1;
    if (div == 0) return copysign(0, a / b);
    double whole = floor(div);
    return div - whole > 0.5 ? whole + 1 : whole;
}

static jv float_arith(jrt *r, char op, double a, double b)
{
    if (b == 0 && (op == '/' || op == 'f' || op == '%'))
        bt__jraise(r, BT_JINJA_TYPE, "%s",
                   op == '/'   ? "float division by zero"
                   : op == 'f' ? "float floor division by zero"
                               : "float modulo");
    switch (op) {
    case '+': return jfloat(a + b);
    case '-': return jfloat(a - b);
    case '*': return jfloat(a * b);
    case '/': return jfloat(a / b);
    case '%': return jfloat(float_mod(a, b));
    case 'f': return jfloat(float_floordiv(a, b));
    default: break;
    }
    if (a == 0 && b < 0) bt__jraise(r, BT_JINJA_TYPE, "0.0 cannot be raised to a negative power");
    if (a < 0 && b != floor(b)) bt__jraise(r, BT_JINJA_TYPE, "complex numbers are not supported");
    double p = pow(a, b);
    if (isinf(p) && !isinf(a) && !isinf(b))
        bt__jraise(r, BT_JINJA_TYPE, "(34, 'Numerical result out of range')");
    return jfloat(p);
}

jv bt__jarith(jrt *r, char op, jv a, jv b)
{
    if (jis_int(a) && jis_int(b)) return int_arith(r, op, jas_int(a), jas_int(b));
    if (a.type == JT_FLOAT || b.type == JT_FLOAT)
        return float_arith(r, op, bt__jv_double(r, a), bt__jv_double(r, b));
    raise_over(r);
}

/* To a multiple of a power of ten, halves to the even one; digits < 0. */
jv bt__jround_int(jrt *r, jv v, int64_t digits)
{
    uint64_t unit = 1;
    if (v.type == JT_BIG) raise_over(r);
    int64_t i = jas_int(v);
    uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    for (int64_t k = BT_MAX(digits, -20); k < 0; k++)
        if (__builtin_mul_overflow(unit, 10u, &unit)) return jint(0);
    uint64_t rest = size % unit, whole = size / unit;
    if (rest > unit - rest || (rest == unit - rest && whole % 2)) whole++;
    if (__builtin_mul_overflow(whole, unit, &size) || size > INT64_MAX) raise_over(r);
    return jint(i < 0 ? -(int64_t)size : (int64_t)size);
}

double bt__jround(double x, int digits)
{
    char text[JFLOAT_TEXT + 64];
    if (isnan(x) || isinf(x) || digits > 300) return x;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", digits, x);
        return strtod(text, NULL);
    }
    double scale = pow(10, -digits);
    return isinf(scale) ? 0 : nearbyint(x / scale) * scale;
}
