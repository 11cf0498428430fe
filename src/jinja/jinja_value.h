/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_value.h - values of a running template, and the run that owns them.
 *
 * Everything a run makes lies in its arena, so values are shared freely and never freed. A fault
 * leaves by longjmp to the one setjmp of compile or render (bt__jraise does not return): nothing
 * between owns anything outside the arena. Private to src/jinja and src/chat.
 * Thread: a run belongs to one thread; compiled constants are read-only. */
#pragma once
#include "base/assert.h"
#include "base/mem.h"
#include "jinja/jinja.h"
#include <setjmp.h>
#include <string.h>

typedef enum jtype {
    JT_MISSING, // an argument that was not given; no template sees it
    JT_UNDEF,
    JT_NONE,
    JT_BOOL,
    JT_INT,
    JT_BIG, // an integer of the context beyond 64 bits, as its digits
    JT_FLOAT,
    JT_STR,
    JT_LIST,
    JT_TUPLE,
    JT_DICT,
    JT_RANGE,
    JT_VIEW, // dict.keys(), .values(), .items()
    JT_ITER, // a generator: runs once
    JT_NS,
    JT_MACRO,
    JT_FUNC,   // a global function
    JT_METHOD, // bound
    JT_LOOP,
    JT_CYCLER,
    JT_JOINER,
} jtype;

typedef struct jseg {
    uint32_t end;
    uint32_t flags; // BT_JINJA_USER | BT_JINJA_GENERATION
} jseg;

/* A buffer whose spare room belongs to the string that ends where it is filled. */
typedef struct jroom {
    size_t used, cap;
} jroom;

typedef struct jstr {
    const char *p;
    uint32_t len;
    int32_t chars; // code points; -1 = not yet counted
    bool markup;   // Python's Markup: strings added to it are HTML-escaped
    uint8_t flags; // of all bytes, when n_segs is 0
    uint32_t n_segs;
    const jseg *segs; // ascending ends, the last is len
    jroom *room;      // NULL if p has no spare room behind it
} jstr;

typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jundef jundef;
typedef struct jiter jiter;
typedef struct jmacro jmacro;
typedef struct jmethod jmethod;
typedef struct jloop jloop;
typedef struct jcycler jcycler;
typedef struct jrange jrange;
typedef struct jview jview;
typedef struct jfunc jfunc;

typedef struct jv {
    jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *s; // JT_STR, and the digits of JT_BIG
        jlist *l;      // JT_LIST, JT_TUPLE
        jdict *d;      // JT_DICT, JT_NS
        const jundef *undef;
        const jrange *range;
        const jview *view;
        jiter *it;
        jmacro *macro;
        const jfunc *func;
        jmethod *method;
        jloop *loop;
        jcycler *cycler; // JT_CYCLER, JT_JOINER
    } u;
} jv;

struct jlist {
    jv *v;
    size_t n, cap;
    bool group; // a tuple of groupby: .grouper and .list
};

typedef struct jentry {
    jv key, value;
    uint64_t hash;
} jentry;

struct jdict {
    jentry *e; // in order of insertion
    uint32_t n, cap;
    uint32_t *slot; // open addressing, entry + 1; NULL while small
    uint32_t n_slots;
};

struct jundef {
    const char *hint; // the whole message, if not NULL
    const char *owner; // "str object"; NULL for a variable
    jv name;
    bool security;
};

struct jrange {
    int64_t start, stop, step;
};

struct jview {
    jdict *d;
    int what; // 0 keys, 1 values, 2 items
};

struct jcycler {
    jlist *items; // a joiner's separator is item 0
    size_t pos;
};

struct jmethod {
    jv self;
    const struct jmethod_row *row;
};

typedef struct jrt jrt;
typedef struct jsb jsb;

/* Arguments of one call. */
typedef struct jcall {
    const jv *pos;
    const jv *key; // names of the keyword arguments, strings
    const jv *kw;
    uint32_t n_pos, n_kw;
} jcall;

enum { JARGS_MAX = 8 }; // parameters of a built-in

struct jfunc {
    const char *name;
    const char *params; // space separated; NULL: takes the call as it is
    int required;
    jv (*run)(jrt *r, const jv *args, const jcall *call);
};

typedef struct jmethod_row {
    jtype type;
    const char *name, *params;
    int required;
    jv (*run)(jrt *r, jv self, const jv *args, const jcall *call);
} jmethod_row;

struct jscope;

struct jrt {
    bt_arena arena;
    jmp_buf escape;
    bt_jinja_error fault;  // what ended it
    bt_jinja_output made; // what came of it
    const bt_jinja *tmpl;
    const bt_jinja_limits *limits; // points at use
    bt_jinja_limits use;
    uint64_t steps, look, seed; // look: the number of steps at which bt__jlook() is due
    bt_stop *stop;
    uint32_t depth;
    int32_t line;
    bool plain_safe;
    int64_t now_local_us;
    jv *root; // variables of the context and the outermost sets, by name id
    struct jscope *scope;
    jsb *out;
};

/* A string in the making. */
struct jsb {
    jrt *r;
    char *p;
    size_t len, cap, max;
    jseg *segs;
    size_t n_segs, cap_segs;
    unsigned or_flags; // put on everything that is added
    bool markup;
};

/* ---- the run */
_Noreturn void bt__jraise(jrt *r, bt_jinja_fault fault, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *bt__jalloc(jrt *r, size_t bytes); // zeroed; never NULL
_Noreturn void bt__jno_memory(jrt *r, size_t bytes); // the arena has not so many
void bt__jcharge(jrt *r, size_t bytes); // counts work on that many bytes as steps
void bt__jlook(jrt *r);                 // whether it has run for too long, or is to stop
static inline void jstep(jrt *r)
{
    if (++r->steps >= r->look) bt__jlook(r);
}
static inline void jenter(jrt *r)
{
    if (++r->depth > r->limits->depth)
        bt__jraise(r, BT_JINJA_LIMIT, "the template nests or recurses more than %u levels deep",
                   r->limits->depth);
}
static inline void jleave(jrt *r) { r->depth--; }

/* ---- making values */
static inline jv jnone(void) { return (jv){.type = JT_NONE}; }
static inline jv jbool(bool b) { return (jv){.type = JT_BOOL, .u.b = b}; }
static inline jv jint(int64_t i) { return (jv){.type = JT_INT, .u.i = i}; }
static inline jv jfloat(double f) { return (jv){.type = JT_FLOAT, .u.f = f}; }
static inline jv jmissing(void) { return (jv){.type = JT_MISSING}; }
static inline jv jof_list(jlist *l) { return (jv){.type = JT_LIST, .u.l = l}; }
static inline jv jof_tuple(jlist *l) { return (jv){.type = JT_TUPLE, .u.l = l}; }
static inline jv jof_dict(jdict *d) { return (jv){.type = JT_DICT, .u.d = d}; }
jv bt__jundef_hint(jrt *r, const char *hint);
jv bt__jundef_name(jrt *r, jv name);          // 'x' is undefined
jv bt__jundef_in(jrt *r, jv owner, jv name);  // 'str object' has no attribute 'x'
_Noreturn void bt__jraise_undef(jrt *r, jv undef);

/* ---- strings */
jv bt__jstr_new(jrt *r, const char *p, size_t len, unsigned flags); // copies
jv bt__jstr_ref(jrt *r, const char *p, size_t len, unsigned flags); // borrows p
jv bt__jstr_lit(jrt *r, const char *literal);                       // borrows, the template's
jv bt__jstr_sub(jrt *r, const jstr *s, size_t at, size_t len);      // shares the bytes
jv bt__jstr_cat(jrt *r, const jstr *a, const jstr *b);
jv bt__jstr_mark(jrt *r, const jstr *s, bool markup);
int32_t bt__jstr_chars(const jstr *s); // code points; caches
/* Byte offset of code point i, 0 <= i <= chars. */
size_t bt__jstr_at(const jstr *s, int64_t i);
unsigned bt__jstr_flags_at(const jstr *s, size_t at);
static inline bool jstr_is(const jstr *s, const char *text)
{
    return strlen(text) == s->len && memcmp(s->p, text, s->len) == 0;
}

void bt__jsb_init(jsb *b, jrt *r);
void bt__jsb_add(jsb *b, const char *p, size_t n, unsigned flags);
void bt__jsb_adds(jsb *b, const char *text); // the template's
void bt__jsb_addf(jsb *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bt__jsb_str(jsb *b, const jstr *s);
void bt__jsb_sub(jsb *b, const jstr *s, size_t at, size_t len);
void bt__jsb_escaped(jsb *b, const jstr *s); // HTML-escaped, unless it is Markup
void bt__jsb_value(jsb *b, jv v);            // str(v)
void bt__jsb_repr(jsb *b, jv v);
jv bt__jsb_done(jsb *b);
jv bt__jv_str(jrt *r, jv v); // str(v), but strings stay as they are (soft_str)

/* ---- lists and dicts */
jlist *bt__jlist_new(jrt *r, size_t cap);
void bt__jlist_add(jrt *r, jlist *l, jv v);
jdict *bt__jdict_new(jrt *r, uint32_t cap);
jv *bt__jdict_find(jrt *r, const jdict *d, jv key); // NULL if absent; raises if unhashable
jv *bt__jdict_find_text(const jdict *d, const char *key);
void bt__jdict_put(jrt *r, jdict *d, jv key, jv value);
void bt__jdict_put_text(jrt *r, jdict *d, const char *key, jv value);

/* ---- Python's notions */
const char *bt__jv_type(jv v); // "str", "NoneType"
bool bt__jv_true(jrt *r, jv v);
bool bt__jv_equal(jrt *r, jv a, jv b);
int bt__jv_order(jrt *r, jv a, jv b, const char *op); // <0, 0, >0; 2 = unordered (NaN); TypeError
uint64_t bt__jv_hash(jrt *r, jv v);
bool bt__jv_hashable(jrt *r, jv v);
bool bt__jv_len(jrt *r, jv v, int64_t *len); // false: has no len()
bool bt__jv_in(jrt *r, jv item, jv container);
static inline bool jis_int(jv v) { return v.type == JT_INT || v.type == JT_BOOL; }
static inline int64_t jas_int(jv v) { return v.type == JT_BOOL ? v.u.b : v.u.i; }
static inline bool jis_num(jv v) { return jis_int(v) || v.type == JT_FLOAT || v.type == JT_BIG; }

/* ---- iteration */
jiter *bt__jiter_new(jrt *r, jv v); // raises TypeError for what cannot be iterated
bool bt__jiter_can(jv v);
bool bt__jiter_next(jrt *r, jiter *it, jv *out);
/* A generator that hands out what step() makes; step returns false at the end. */
typedef bool (*jiter_step)(jrt *r, jiter *it, jv *out);
struct jiter {
    jiter_step step;
    const char *name; // of the generator, for repr
    jv src;
    jiter *from;
    size_t at;
    void *state;
};
jlist *bt__jlist_of(jrt *r, jv v); // list(v)
