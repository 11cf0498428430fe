/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_parse.h - what the two halves of the parser share. */
#pragma once
#include "base/assert.h"
#include "base/hash.h"
#include "jinja/jinja_run.h"

enum {
    JPARSE_DEPTH_MAX = 120,
    JPARSE_BLOCKS_MAX = 1000,
    JTUPLE_PARENS = 1,    // "()" is an empty tuple
    JTUPLE_TARGET = 2,    // primaries only
    JTUPLE_NAMESPACE = 4, // targets may be ns.attribute
    JTUPLE_NO_COND = 8,
    JSEEN_CALLER = 1,
    JSEEN_KWARGS = 2,
    JSEEN_VARARGS = 4,
};

typedef struct jparser {
    jrt *r;
    const jtok *t; // the current token
    int depth;
    unsigned seen;     // JSEEN_ names read since the innermost macro began
    int loops;         // loops around us inside the innermost macro
    int loop_stores;   // assignments to a variable named loop so far
    jparam *blocks;    // their names
    int n_blocks;
    const char *wants; // the tags that the innermost open statement looks for
    const jtok *tag;   // its name
    const jtok *open;  // name of the statement that is being read
    jv *name;
    uint32_t n_names, cap_names;
    bt_map names; // hash -> id; the one thing outside the arena, released by bt__jparse's caller
} jparser;

static inline bool jat_op(const jparser *p, int op)
{
    return p->t->kind == JTOK_OP && p->t->op == op;
}
_Noreturn void bt__jfail_at(jparser *p, int32_t line, const char *what);
_Noreturn void bt__jfail_expected(jparser *p, const char *want);
void bt__jtok_text(const jtok *t, char dst[static 80]);
bool bt__jskip_op(jparser *p, int op);
void bt__jexpect_op(jparser *p, int op);
bool bt__jat_name(const jparser *p, const char *name);
bool bt__jskip_name(jparser *p, const char *name);
void bt__jexpect_name(jparser *p, const char *name);
jnode *bt__jnode_new(jparser *p, jkind kind, int32_t line);
uint32_t bt__jname_id(jparser *p, const char *text, size_t len);
unsigned bt__jseen(const jstr *name);

jnode *bt__jparse_expr(jparser *p, bool with_cond);
jnode *bt__jparse_primary(jparser *p, bool with_namespace);
jnode *bt__jparse_tuple(jparser *p, unsigned how, const char *end_name);
jnode *bt__jparse_filter(jparser *p, jnode *value, bool start_inline);
