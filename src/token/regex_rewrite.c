/* SPDX-License-Identifier: Apache-2.0 */
/* regex_rewrite.c - Oniguruma's regular expressions (Ruby syntax, UTF-8) in PCRE2's spelling.
 *
 * ATOMS    The rewriter walks the pattern once and remembers where the last atom began in the
 * output, so that an interval with '+' behind it, which repeats in Oniguruma and is possessive in
 * PCRE2, can be put in a group of its own.
 * SETS     A class becomes an expression for one character: a plain PCRE2 class where it can, else
 * alternatives and look-aheads: [a[^b]] is (?:[a]|[^b]), [a&&b] is (?:(?=[b])[a]).
 * MEANING  Measured over all code points: \s lacks U+180E, \w is Alphabetic, M, Nd and Pc (and
 * six more outside of a class), script names mean Script and not Script_Extensions; and what the
 * newer tables hold beyond PCRE2's is added to each property (regex_table.c). */
#include "base/assert.h"
#include "base/utf8.h"
#include "token/regex.h"
#include "token/regex_table.h"
#include <stdio.h>
#include <string.h>

#define SPACE "\\x09-\\x0d\\x20\\x85\\p{Z}"
#define HEX "0-9A-Fa-f"
#define ANY "[\\x{0}-\\x{10FFFF}]"
enum { GROUPS_MAX = 64, SET_DEPTH_MAX = 16, NAME_MAX_BYTES = 64, NONE = -1 };

typedef struct rewrite {
    const char *s;
    size_t n, at;
    bt_buf *out;
    size_t atom;   // where the last atom begins in out; SIZE_MAX: nothing to repeat
    bool repeated; // the last atom has a quantifier already
    struct {
        size_t start; // in out
        int closings; // parentheses that the group's options opened
    } group[GROUPS_MAX];
    int depth;
    const char *why; // the first thing without an equal
} rewrite;

static bool refuse(rewrite *w, const char *why)
{
    if (!w->why) w->why = why;
    return false;
}

static int peek(const rewrite *w, size_t ahead)
{
    return w->n - w->at > ahead ? (unsigned char)w->s[w->at + ahead] : NONE;
}

static bool next_is(const rewrite *w, const char *what)
{
    size_t n = strlen(what);
    return w->n - w->at >= n && memcmp(w->s + w->at, what, n) == 0;
}

/* The content of another buffer, from byte `from` on; its failure too. */
static void put_buf(bt_buf *out, const bt_buf *b, size_t from)
{
    if (b->failed)
        out->failed = true;
    else if (b->len > from)
        bt_buf_add(out, b->data + from, b->len - from);
}

static void put_code_point(bt_buf *out, uint32_t cp)
{
    bool plain = (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
    if (plain)
        bt_buf_addc(out, (char)cp);
    else
        bt_buf_addf(out, "\\x{%X}", (unsigned)cp);
}

/* ---- Properties. */

static const char *property_alias(const char *name)
{
    static const char *const alias[][2] = {{"letter", "L"},
                                           {"uppercaseletter", "Lu"},
                                           {"lowercaseletter", "Ll"},
                                           {"titlecaseletter", "Lt"},
                                           {"modifierletter", "Lm"},
                                           {"otherletter", "Lo"},
                                           {"mark", "M"},
                                           {"nonspacingmark", "Mn"},
                                           {"spacingmark", "Mc"},
                                           {"enclosingmark", "Me"},
                                           {"number", "N"},
                                           {"decimalnumber", "Nd"},
                                           {"letternumber", "Nl"},
                                           {"othernumber", "No"},
                                           {"punctuation", "P"},
                                           {"connectorpunctuation", "Pc"},
                                           {"dashpunctuation", "Pd"},
                                           {"openpunctuation", "Ps"},
                                           {"closepunctuation", "Pe"},
                                           {"initialpunctuation", "Pi"},
                                           {"finalpunctuation", "Pf"},
                                           {"otherpunctuation", "Po"},
                                           {"symbol", "S"},
                                           {"mathsymbol", "Sm"},
                                           {"currencysymbol", "Sc"},
                                           {"modifiersymbol", "Sk"},
                                           {"othersymbol", "So"},
                                           {"separator", "Z"},
                                           {"spaceseparator", "Zs"},
                                           {"lineseparator", "Zl"},
                                           {"paragraphseparator", "Zp"},
                                           {"other", "C"},
                                           {"control", "Cc"},
                                           {"format", "Cf"},
                                           {"surrogate", "Cs"},
                                           {"privateuse", "Co"},
                                           {"unassigned", "Cn"},
                                           {"digit", "Nd"},
                                           {"alphabetic", "Alphabetic"},
                                           {"alpha", "Alphabetic"},
                                           {"uppercase", "Uppercase"},
                                           {"upper", "Uppercase"},
                                           {"lowercase", "Lowercase"},
                                           {"lower", "Lowercase"},
                                           {"any", "Any"},
                                           {"ideographic", "Ideographic"},
                                           {"emoji", "Emoji"},
                                           {"extendedpictographic", "Extended_Pictographic"}};
    for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
        if (strcmp(alias[i][0], name) == 0) return alias[i][1];
    return NULL;
}

static bool is_category(const char *name)
{
    static const char known[] = " l lu ll lt lm lo m mn mc me n nd nl no p pc pd ps pe pi pf po "
                                "s sm sc sk so z zs zl zp c cc cf cs co cn ";
    char spaced[NAME_MAX_BYTES + 3];
    snprintf(spaced, sizeof spaced, " %s ", name);
    return strlen(name) <= 2 && strstr(known, spaced) != NULL;
}

/* What stands for several characters in a class. */
typedef struct set {
    char items[4096];
    bool negated;
} set;

static void set_items(set *x, const char *items, bool negated)
{
    snprintf(x->items, sizeof x->items, "%s", items);
    x->negated = negated;
}

/* Adds a property under PCRE2's name, and what it lacks. */
static void set_property(set *x, const char *name)
{
    size_t n = strlen(x->items);
    bool word = strcmp(name, "w") == 0;
    if (word)
        n += (size_t)snprintf(x->items + n, sizeof x->items - n, "%s",
                              "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}");
    else
        n += (size_t)snprintf(x->items + n, sizeof x->items - n, "\\p{%s}", name);
    for (size_t i = 0; i < bt__regex_extras_len; i++)
        if (strcmp(bt__regex_extras[i].property, name) == 0)
            snprintf(x->items + n, sizeof x->items - n, "%s", bt__regex_extras[i].items);
}

static void set_properties(set *x, const char *first, const char *second, bool negated)
{
    set_items(x, "", negated);
    set_property(x, first);
    if (second) set_property(x, second);
}

/* After \p or \P: {Name} or {^Name}. */
static bool read_property(rewrite *w, bool negated, set *x)
{
    char name[NAME_MAX_BYTES], shown[NAME_MAX_BYTES];
    size_t n = 0;
    if (peek(w, 0) != '{') return refuse(w, "a property without braces");
    w->at++;
    if (peek(w, 0) == '^') {
        negated = !negated;
        w->at++;
    }
    size_t n_shown = 0;
    for (int c; (c = peek(w, 0)) != '}'; w->at++) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != ' ' && c != '-') return refuse(w, "a property's name");
        if (n_shown + 1 == sizeof shown) return refuse(w, "a property's name");
        shown[n_shown++] = (char)c;
        if (letter) name[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    w->at++;
    name[n] = shown[n_shown] = 0;
    const char *alias = property_alias(name);
    if (strcmp(name, "space") == 0 || strcmp(name, "whitespace") == 0)
        set_items(x, SPACE, negated);
    else if (strcmp(name, "word") == 0)
        set_properties(x, "w", NULL, negated);
    else if (strcmp(name, "alnum") == 0)
        set_properties(x, "Alphabetic", "Nd", negated);
    else if (strcmp(name, "xdigit") == 0)
        set_items(x, HEX, negated);
    else if (strcmp(name, "ascii") == 0)
        set_items(x, "\\x00-\\x7f", negated);
    else {
        char item[NAME_MAX_BYTES + 16];
        if (is_category(name)) name[0] = (char)(name[0] - 32); // Lu
        snprintf(item, sizeof item, "%s%s", alias || n <= 2 ? "" : "sc:",
                 alias                                ? alias
                 : n <= 2                             ? name
                 : n == 3 && strcmp(name, "han") == 0 ? "Han"
                                                      : shown);
        set_properties(x, item, NULL, negated);
    }
    return true;
}

/* \s, \S, \d, \D, \w, \W, \h, \H, \p, \P: what follows the backslash. *is: false if it is none of
 * these. */
static bool read_set_escape(rewrite *w, set *x, bool *is)
{
    int c = peek(w, 0);
    *is = true;
    switch (c) {
    case 's':
    case 'S': set_items(x, SPACE, c == 'S'); break;
    case 'd':
    case 'D': set_properties(x, "Nd", NULL, c == 'D'); break;
    case 'w':
    case 'W': set_properties(x, "w", NULL, c == 'W'); break;
    case 'h':
    case 'H': set_items(x, HEX, c == 'H'); break;
    case 'p':
    case 'P': w->at++; return read_property(w, c == 'P', x);
    default: *is = false; return true;
    }
    w->at++;
    return true;
}

/* ---- Single characters. */

static bool read_hex(rewrite *w, int min, int max, uint32_t *cp)
{
    int n = 0;
    *cp = 0;
    for (; n < max; n++, w->at++) {
        int c = peek(w, 0);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : NONE;
        if (digit < 0) break;
        *cp = *cp << 4 | (uint32_t)digit;
    }
    return n >= min && *cp <= 0x10FFFF ? true : refuse(w, "a character's number");
}

/* The character that an escape names, after the backslash. */
static bool read_char_escape(rewrite *w, uint32_t *cp)
{
    static const char letter[] = "nrtfvae", value[] = "\n\r\t\f\v\a\x1B";
    int c = peek(w, 0);
    if (c == NONE) return refuse(w, "a backslash at the end");
    const char *simple = strchr(letter, c);
    if (simple && c) {
        *cp = (unsigned char)value[simple - letter];
        w->at++;
        return true;
    }
    if (c == 'u') {
        w->at++;
        return read_hex(w, 4, 4, cp);
    }
    if (c == 'x' && peek(w, 1) == '{') {
        w->at += 2;
        if (!read_hex(w, 1, 8, cp)) return false;
        if (peek(w, 0) != '}') return refuse(w, "several numbers in \\x{}");
        w->at++;
        return true;
    }
    if (c == 'x') {
        w->at++;
        return read_hex(w, 1, 2, cp) && *cp < 0x80 ? true : refuse(w, "\\x of a byte above 7F");
    }
    bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (alnum) return refuse(w, "an escape");
    w->at += bt_utf8_decode(w->s + w->at, w->n - w->at, cp);
    return true;
}

/* ---- Sets. */

/* A union in the making: plain items, and alternatives that no plain class can hold. */
typedef struct klass {
    bt_buf items, alternatives;
} klass;

static void klass_release(klass *k)
{
    bt_buf_release(&k->items);
    bt_buf_release(&k->alternatives);
}

static void klass_add(klass *k, const set *x)
{
    if (!x->negated)
        bt_buf_adds(&k->items, x->items);
    else
        bt_buf_addf(&k->alternatives, "|[^%s]", x->items);
}

/* The expression for one character of the union, or for one that is not of it. */
static void klass_print(const klass *k, bool negated, bt_buf *out)
{
    bool items = k->items.len > 0, plain = k->alternatives.len == 0;
    out->failed = out->failed || k->items.failed || k->alternatives.failed;
    if (!plain) bt_buf_adds(out, negated ? "(?:(?!" : "(?:");
    if (items || plain) {
        bt_buf_adds(out, plain && negated ? "[^" : "[");
        put_buf(out, &k->items, 0);
        bt_buf_addc(out, ']');
    }
    put_buf(out, &k->alternatives, items ? 0 : 1); // without the bar in front
    if (!plain) bt_buf_adds(out, negated ? ")" ANY ")" : ")");
}

static bool read_posix(rewrite *w, set *x)
{
    static const struct {
        const char *name, *items, *first, *second; // items, else one or two properties
    } known[] = {{"alpha", NULL, "Alphabetic", NULL},
                 {"alnum", NULL, "Alphabetic", "Nd"},
                 {"digit", NULL, "Nd", NULL},
                 {"upper", NULL, "Uppercase", NULL},
                 {"lower", NULL, "Lowercase", NULL},
                 {"space", SPACE, NULL, NULL},
                 {"punct", NULL, "P", "S"},
                 {"xdigit", HEX, NULL, NULL},
                 {"word", NULL, "w", NULL},
                 {"cntrl", "\\p{Cc}", NULL, NULL},
                 {"blank", "\\p{Zs}\\x09", NULL, NULL},
                 {"ascii", "\\x00-\\x7f", NULL, NULL}};
    w->at += 2; // [:
    bool negated = peek(w, 0) == '^';
    w->at += negated;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].name);
        if (!next_is(w, known[i].name) || peek(w, n) != ':' || peek(w, n + 1) != ']') continue;
        w->at += n + 2;
        if (known[i].items)
            set_items(x, known[i].items, negated);
        else
            set_properties(x, known[i].first, known[i].second, negated);
        return true;
    }
    return refuse(w, "a bracket of that name ([:...:])");
}

static bool read_class(rewrite *w, bt_buf *out, klass *into, int depth);

/* A character of a class, not a set; after it may come "-" and the range's end. */
static bool read_class_char(rewrite *w, uint32_t *cp)
{
    if (peek(w, 0) == '\\') {
        w->at++;
        if (peek(w, 0) == 'b') { // a backspace here
            w->at++;
            *cp = 8;
            return true;
        }
        return read_char_escape(w, cp);
    }
    w->at += bt_utf8_decode(w->s + w->at, w->n - w->at, cp);
    return true;
}

static bool ends_range(const rewrite *w)
{
    static const char sets[] = "sSdDwWhHpP";
    int c = peek(w, 1), e = peek(w, 2);
    if (peek(w, 0) != '-' || c == NONE || c == ']' || c == '[') return false;
    if (c == '&' && e == '&') return false;
    return !(c == '\\' && e != NONE && e && strchr(sets, e));
}

static bool read_class_item(rewrite *w, klass *k, int depth)
{
    set x;
    if (next_is(w, "[:")) {
        if (!read_posix(w, &x)) return false;
        klass_add(k, &x);
        return true;
    }
    if (peek(w, 0) == '[') return read_class(w, NULL, k, depth + 1);
    if (peek(w, 0) == '\\') {
        bool is;
        w->at++;
        if (!read_set_escape(w, &x, &is)) return false;
        if (is) {
            klass_add(k, &x);
            return true;
        }
        w->at--;
    }
    uint32_t first, last;
    if (!read_class_char(w, &first)) return false;
    put_code_point(&k->items, first);
    if (!ends_range(w)) return true;
    w->at++;
    if (!read_class_char(w, &last)) return false;
    if (last < first) return refuse(w, "a range that ends before it begins");
    bt_buf_addc(&k->items, '-');
    put_code_point(&k->items, last);
    return true;
}

static bool closes_later(const rewrite *w)
{
    for (size_t i = w->at + 1; i < w->n; i++)
        if (w->s[i] == ']') return true;
    return false;
}

/* Up to "&&" or the closing bracket, which is left. */
static bool read_union(rewrite *w, klass *k, bool first, int depth)
{
    bool any = false;
    for (;; any = true) {
        int c = peek(w, 0);
        if (c == NONE) return refuse(w, "a class that does not end");
        if (next_is(w, "&&")) break;
        /* a bracket that comes first stands for itself if another one follows */
        bool itself = first && !any && closes_later(w);
        if (c == ']' && !itself) break;
        if (!read_class_item(w, k, depth)) return false;
    }
    return any ? true : refuse(w, "an empty class");
}

/* From the opening bracket. Into `out` as an expression, or (out NULL) joined to the class around
 * it. */
static bool read_class(rewrite *w, bt_buf *out, klass *into, int depth)
{
    klass k = {0};
    bt_buf others = BT_BUF_INIT, text = BT_BUF_INIT;
    bool ok = depth < SET_DEPTH_MAX ? true : refuse(w, "classes nested too deeply");
    w->at++;
    bool negated = peek(w, 0) == '^';
    w->at += negated;
    ok = ok && read_union(w, &k, true, depth);
    bool crossed = false;
    while (ok && next_is(w, "&&")) {
        klass other = {0};
        crossed = true;
        w->at += 2;
        ok = read_union(w, &other, false, depth);
        if (ok) {
            bt_buf_adds(&others, "(?=");
            klass_print(&other, false, &others);
            bt_buf_adds(&others, ")");
        }
        klass_release(&other);
    }
    if (ok) w->at++;                          // ]
    if (ok && !crossed && !negated && !out) { // a set in a union
        put_buf(&into->items, &k.items, 0);
        put_buf(&into->alternatives, &k.alternatives, 0);
    } else if (ok) {
        if (crossed) bt_buf_adds(&text, negated ? "(?:(?!" : "(?:");
        put_buf(&text, &others, 0);
        klass_print(&k, negated && !crossed, &text);
        if (crossed) bt_buf_adds(&text, negated ? ")" ANY ")" : ")");
        if (!out) bt_buf_addc(&into->alternatives, '|');
        put_buf(out ? out : &into->alternatives, &text, 0);
    }
    klass_release(&k);
    bt_buf_release(&others);
    bt_buf_release(&text);
    return ok;
}

/* ---- The pattern around them. */

static void begin_atom(rewrite *w)
{
    w->atom = w->out->len;
    w->repeated = false;
}

/* Outside of a class, \w also takes these of Latin-1. */
static void add_fractions(set *x)
{
    size_t n = strlen(x->items);
    snprintf(x->items + n, sizeof x->items - n, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}");
}

static bool read_escape(rewrite *w)
{
    static const char anchors[] = "AzZG";
    set x;
    bool is;
    uint32_t cp;
    w->at++;
    int c = peek(w, 0);
    if (c != NONE && c && strchr(anchors, c)) {
        bt_buf_addf(w->out, "\\%c", c);
        w->atom = SIZE_MAX;
        w->at++;
        return true;
    }
    begin_atom(w);
    if (c == 'b' || c == 'B') {
        set_properties(&x, "w", NULL, false);
        add_fractions(&x);
        bt_buf_addf(w->out,
                    c == 'b' ? "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))"
                             : "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))",
                    x.items, x.items, x.items, x.items);
        w->at++;
        return true;
    }
    if (c >= '1' && c <= '9') { // what a group matched
        bt_buf_addf(w->out, "\\g{%c}", c);
        w->at++;
        return peek(w, 0) >= '0' && peek(w, 0) <= '9' ? refuse(w, "\\10 and above") : true;
    }
    if (!read_set_escape(w, &x, &is)) return false;
    if (c == 'w' || c == 'W') add_fractions(&x);
    if (is) {
        bt_buf_addf(w->out, x.negated ? "[^%s]" : "[%s]", x.items);
        return true;
    }
    if (!read_char_escape(w, &cp)) return false;
    put_code_point(w->out, cp);
    return true;
}

/* (?imx-imx) and (?imx-imx:...): Ruby's m is PCRE2's s. */
static bool read_options(rewrite *w)
{
    char text[16] = "(?";
    size_t n = 2;
    for (int c; (c = peek(w, 0)) != ':' && c != ')'; w->at++) {
        if (c != 'i' && c != 'm' && c != '-') return refuse(w, "an option of a group");
        if (n + 2 > sizeof text) return refuse(w, "the options of a group");
        text[n++] = (char)(c == 'm' ? 's' : c);
    }
    text[n] = 0;
    bt_buf_addf(w->out, "%s:", text);
    /* Without a colon the options hold to the end of the group around, alternatives included. */
    if (peek(w, 0) == ':') {
        w->at++;
        return true;
    }
    w->at++;
    w->depth--;
    w->group[w->depth].closings++;
    w->atom = SIZE_MAX;
    return true;
}

static bool read_group(rewrite *w)
{
    static const char *const plain[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    if (w->depth + 1 == GROUPS_MAX) return refuse(w, "groups nested too deeply");
    if (next_is(w, "(?#")) {
        const char *end = memchr(w->s + w->at, ')', w->n - w->at);
        if (!end) return refuse(w, "a comment that does not end");
        w->at = (size_t)(end - w->s) + 1;
        return true;
    }
    w->depth++;
    w->group[w->depth].start = w->out->len;
    w->group[w->depth].closings = 0;
    w->atom = SIZE_MAX;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (!next_is(w, plain[i])) continue;
        bt_buf_adds(w->out, plain[i]);
        w->at += strlen(plain[i]);
        return true;
    }
    if (!next_is(w, "(?")) {
        if (next_is(w, "(*")) return refuse(w, "a verb");
        bt_buf_addc(w->out, '(');
        w->at++;
        return true;
    }
    w->at += 2;
    return read_options(w);
}

static bool close_group(rewrite *w)
{
    if (w->depth == 0) return refuse(w, "a parenthesis that closes nothing");
    for (int i = 0; i < w->group[w->depth].closings; i++) bt_buf_addc(w->out, ')');
    bt_buf_addc(w->out, ')');
    w->atom = w->group[w->depth].start;
    w->repeated = false;
    w->depth--;
    w->at++;
    return true;
}

/* Puts the last atom, quantifier and all, into a group. */
static void wrap_atom(rewrite *w)
{
    bt_buf tail = BT_BUF_INIT;
    put_buf(&tail, w->out, w->atom);
    w->out->len = BT_MIN(w->out->len, w->atom);
    bt_buf_adds(w->out, "(?:");
    put_buf(w->out, &tail, 0);
    bt_buf_addc(w->out, ')');
    bt_buf_release(&tail);
    w->repeated = false;
}

/* {n}, {n,}, {,m}, {n,m}: its length, 0 if it is none of these. */
static size_t read_interval(const rewrite *w, char dst[static 24], bool *fixed)
{
    size_t i = 1, from = i;
    unsigned long low = 0, high = 0;
    for (int c; (c = peek(w, i)) >= '0' && c <= '9' && low < 100000; i++)
        low = low * 10 + (unsigned long)(c - '0');
    bool has_low = i > from, has_high = false;
    bool comma = peek(w, i) == ',';
    i += comma;
    from = i;
    for (int c; comma && (c = peek(w, i)) >= '0' && c <= '9' && high < 100000; i++)
        high = high * 10 + (unsigned long)(c - '0');
    has_high = i > from;
    if (peek(w, i) != '}' || (!has_low && !has_high)) return 0;
    *fixed = !comma;
    if (!comma)
        snprintf(dst, 24, "{%lu}", low);
    else if (has_high)
        snprintf(dst, 24, "{%lu,%lu}", low, high);
    else
        snprintf(dst, 24, "{%lu,}", low);
    return i + 1;
}

static bool read_quantifier(rewrite *w)
{
    char text[24] = {(char)peek(w, 0), 0};
    bool interval = text[0] == '{', fixed = false;
    size_t len = interval ? read_interval(w, text, &fixed) : 1;
    if (len == 0) { // a brace that stands for itself
        begin_atom(w);
        bt_buf_adds(w->out, "\\{");
        w->at++;
        return true;
    }
    if (w->atom == SIZE_MAX) return refuse(w, "a quantifier behind nothing");
    if (w->repeated) wrap_atom(w);
    bt_buf_adds(w->out, text);
    w->at += len;
    w->repeated = true;
    int c = peek(w, 0);
    bool lazy = c == '?' && !fixed, possessive = c == '+' && !interval;
    if (lazy || possessive) {
        bt_buf_addc(w->out, (char)c);
        w->at++;
    }
    return true;
}

static bool read_plain(rewrite *w)
{
    int c = peek(w, 0);
    if (c == '|' || c == '^' || c == '$') {
        bt_buf_addc(w->out, (char)c);
        w->atom = SIZE_MAX;
        w->at++;
        return true;
    }
    begin_atom(w);
    if (c == '.') {
        bt_buf_addc(w->out, '.');
        w->at++;
        return true;
    }
    uint32_t cp = 0;
    w->at += bt_utf8_decode(w->s + w->at, w->n - w->at, &cp);
    put_code_point(w->out, cp);
    return true;
}

static bool rewrite_all(rewrite *w)
{
    bool ok = true;
    while (ok && w->at < w->n) {
        switch (peek(w, 0)) {
        case '\\': ok = read_escape(w); break;
        case '[':
            begin_atom(w);
            ok = read_class(w, w->out, NULL, 0);
            break;
        case '(': ok = read_group(w); break;
        case ')': ok = close_group(w); break;
        case '*':
        case '+':
        case '?':
        case '{': ok = read_quantifier(w); break;
        default: ok = read_plain(w);
        }
    }
    if (ok && w->depth) ok = refuse(w, "a group that does not end");
    for (int i = 0; ok && i < w->group[0].closings; i++) bt_buf_addc(w->out, ')');
    return ok;
}

bt_status bt__regex_rewrite(bt_str pattern, bt_buf *out, bt_err *err)
{
    rewrite w = {.s = pattern.s, .n = pattern.n, .out = out, .atom = SIZE_MAX};
    if (bt_utf8_valid_prefix(pattern.s, pattern.n) != pattern.n)
        return bt_err_set(err, BT_EFORMAT, 0, "a pattern of the tokenizer is not UTF-8");
    bt_buf_adds(out, "");
    if (bt_str_is(pattern, "\\s+$")) {
        /* From each place of a long run of spaces the search would go to the run's end. The first
         * place decides: if it finds no end of line, none behind it does. */
        bt_buf_adds(out, "(?<![" SPACE "])[" SPACE "]+$");
    } else if (!rewrite_all(&w)) {
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "the pattern '%.64s' of the tokenizer holds %s that is not understood "
                          "(byte %zu)",
                          bt_str_shown(pattern).s, w.why, w.at);
    }
    return out->failed ? bt_err_set(err, BT_ENOMEM, 0, "out of memory for a pattern") : BT_OK;
}
