/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_run.h - the compiled tree and what evaluates it. Private to jinja*.c and template*.c. */
#pragma once
#include "jinja/jinja_value.h"

typedef enum jkind {
    /* statements */
    JN_TEXT,         // value
    JN_PRINT,        // a
    JN_FOR,          // a target, b iterable, c test, list body, d else, flag recursive
    JN_IF,           // a test, list body, d else
    JN_SET,          // a target, b value
    JN_SET_BLOCK,    // a target, b filters over NULL, list body
    JN_MACRO,        // name, params, list body, caller, kwargs, varargs
    JN_CALL_BLOCK,   // a call, params, list body
    JN_FILTER_BLOCK, // b filters over NULL, list body
    JN_WITH,         // d SETs, list body
    JN_BLOCK,        // list body, flag scoped
    JN_GENERATION,   // list body
    JN_AUTOESCAPE,   // a, list body
    JN_BREAK,
    JN_CONTINUE,
    JN_LOADER, // include, import, extends: needs a loader, and there is none
    /* expressions */
    JN_CONST, // value
    JN_NAME,  // name
    JN_NSREF, // name, value attribute
    JN_LIST,
    JN_TUPLE,   // list
    JN_DICT,    // list of key, value, key, value
    JN_ATTR,    // a, value
    JN_ITEM,    // a, b
    JN_SLICE,   // a, b start, c stop, d step
    JN_CALL,    // a, args
    JN_FILTER,  // a, value name, func, args
    JN_TEST,    // a, value name, func, args
    JN_COND,    // a test, b then, c else
    JN_AND,     // a, b
    JN_OR,      // a, b
    JN_NOT,     // a
    JN_SIGN,    // op, a
    JN_ARITH,   // op, a, b
    JN_CONCAT,  // list
    JN_COMPARE, // a, list of JN_OPERAND
    JN_OPERAND, // op, a
    JN_KEYWORD, // value name, a
} jkind;

typedef struct jnode jnode;

typedef struct jargs {
    jnode *pos, *kw; // lists
    jnode *star, *star2;
    uint32_t n_pos, n_kw;
} jargs;

typedef struct jparam {
    uint32_t name;
    jnode *initial; // NULL: none
    struct jparam *next;
} jparam;

struct jnode {
    uint8_t kind, op;
    bool flag, caller, kwargs, varargs;
    int32_t line;
    uint32_t name;
    jnode *a, *b, *c, *d, *list, *next;
    jargs *args;
    jparam *params;
    const uint32_t *early, *early_else; // names that begin the scope undefined, up to UINT32_MAX
    const jfunc *func;
    jv value;
};

/* Comparison operators of JN_OPERAND and in JN_ARITH's op beside + - * / % : */
enum { JOP_FLOORDIV = 'f', JOP_POW = 'p', JOP_EQ = 'e', JOP_NE = 'n', JOP_LT = '<', JOP_LE = 'l',
       JOP_GT = '>', JOP_GE = 'g', JOP_IN = 'i', JOP_NOT_IN = 'o' };

struct bt_jinja {
    bt_arena arena;
    jnode *body;
    const uint32_t *early; // of the outermost level, as jnode's
    jv *name; // strings by name id
    uint32_t n_names;
    char *source; // newlines made one kind
};

typedef struct jvar {
    uint32_t name;
    jv value;
} jvar;

typedef struct jscope {
    struct jscope *parent; // NULL: the root
    jvar *v;
    uint32_t n, cap;
} jscope;

struct jmacro {
    const jnode *node; // JN_MACRO or JN_CALL_BLOCK
    jscope *scope;     // where it was defined
};

struct jloop {
    const jnode *node;
    jscope *outer;
    jiter *it;
    jv iterable;
    int64_t index0, length; // length -1: not yet known
    jlist *rest;            // what was drained to learn the length
    size_t rest_at;
    jv now, before, after;
    bool has_after;
    int32_t depth0;
    jv changed;
};

/* jinja_lexer.c */
typedef enum jtok_kind {
    JTOK_EOF,
    JTOK_DATA,
    JTOK_BLOCK_BEGIN,
    JTOK_BLOCK_END,
    JTOK_VAR_BEGIN,
    JTOK_VAR_END,
    JTOK_NAME,
    JTOK_VALUE, // a string or number: value
    JTOK_OP,    // op: the character; the two-character ones as JOP_
} jtok_kind;

typedef struct jtok {
    jtok_kind kind;
    int op;
    int32_t line;
    const char *p; // DATA, NAME
    size_t len;
    jv value;
} jtok;
/* Tokens of source, the last of kind EOF; raises on a fault. */
jtok *bt__jlex(jrt *r, const char *source, size_t len);

/* jinja_statement.c */
struct jparser;
void bt__jparse(jrt *r, bt_jinja *t, struct jparser *p, const jtok *tokens);

/* jinja_scope.c: fills in early; returns the outermost level's. */
const uint32_t *bt__jscopes(jrt *r, jnode *body);

/* jinja_eval.c */
jv bt__jeval(jrt *r, const jnode *n);
void bt__jexec(jrt *r, const jnode *list); // a whole template
int64_t bt__jloop_len(jrt *r, jloop *loop);
jv bt__jloop_next(jrt *r, jloop *loop); // JT_MISSING at the end; leaves it for the next turn
jv bt__jcall(jrt *r, jv callee, const jcall *call);

/* jinja_access.c */
jv bt__jgetattr(jrt *r, jv obj, jv name);
jv bt__jgetitem(jrt *r, jv obj, jv key);
jv bt__jslice(jrt *r, jv obj, jv start, jv stop, jv step);
jv bt__jbinary(jrt *r, char op, jv a, jv b);
bool bt__jcompare(jrt *r, char op, jv a, jv b);

/* Binds a call to named parameters; absent ones are JT_MISSING. */
void bt__jbind(jrt *r, const char *function, const char *params, int required,
               const jcall *call, jv out[static JARGS_MAX]);
/* Runs a built-in on a call. */
jv bt__jrun_func(jrt *r, const jfunc *f, const jcall *call);
/* Value as first argument, then the call's. */
jv bt__jrun_filter(jrt *r, const jfunc *f, jv value, const jcall *call);

/* Typed arguments, with Python's complaints. */
int64_t bt__jarg_int(jrt *r, jv v, int64_t initial);
bool bt__jarg_bool(jrt *r, jv v, bool initial);
const jstr *bt__jarg_str(jrt *r, jv v, const char *what);

/* The tables; NULL where the name is unknown. */
const jfunc *bt__jfilter_find(const char *name, size_t len);
const jfunc *bt__jtest_find(const char *name, size_t len);
const jfunc *bt__jglobal_find(const char *name, size_t len);
const jmethod_row *bt__jmethod_find(jtype type, const jstr *name);
extern const jfunc bt__jtext_filters[], bt__jlist_filters[];  // end at name NULL
extern const jmethod_row bt__jstr_methods[], bt__jobject_methods[]; // end at name NULL
jv bt__jsort(jrt *r, jv list, bool reverse, jv (*key)(jrt *r, jv item, void *ud), void *ud);

/* jinja.c: one run with a context that make() builds inside it. */
typedef jdict *(*bt__jcontext)(jrt *r, void *ud);
typedef void (*bt__jafter)(jrt *r, void *ud, jsb *text); // sees the text before it is handed out
bt_status bt__jinja_run(const bt_jinja *t, bt__jcontext make, bt__jafter after, void *ud,
                        const bt_jinja_options *options, bt_jinja_output *out,
                        bt_jinja_error *error, bt_err *err);
