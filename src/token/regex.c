/* SPDX-License-Identifier: Apache-2.0 */
#include "token/regex.h"
#include "base/mem.h"
#include "base/utf8.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum { JIT_STACK_MIN = 32 << 10, JIT_STACK_MAX = 16 << 20 };

struct bt__regex {
    pcre2_general_context *memory;
    pcre2_code *code; // NULL: a literal
    bool jit;
    char *literal; // owned
    size_t n_literal;
};

struct bt__regex_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void *regex_alloc(size_t bytes, void *ud)
{
    (void)ud;
    return bt_malloc(bytes);
}

static void regex_free(void *p, void *ud)
{
    (void)ud;
    bt_free(p);
}

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a regular expression");
}

static bt_status compile(bt__regex *r, bt_str pattern, const bt_buf *spelled, bt_err *err)
{
    int code = 0;
    size_t at = 0;
    pcre2_compile_context *cc = NULL;
    r->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    if (r->memory) cc = pcre2_compile_context_create(r->memory);
    if (!cc) return no_memory(err);
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)spelled->data, spelled->len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (r->code) {
        /* Where the system forbids writable and executable memory the interpreter does the same,
         * slower. */
        r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
        return BT_OK;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED) return no_memory(err);
    PCRE2_UCHAR why[120] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return bt_err_set(err, BT_EFORMAT, code, "the pattern '%.64s' is refused: %.100s",
                      bt_str_shown(pattern).s, (const char *)why);
}

bt_status bt__regex_open(bt_str pattern, bool is_regex, bt__regex **out, bt_err *err)
{
    bt_buf spelled = BT_BUF_INIT;
    bt__regex *r = bt_calloc(1, sizeof *r);
    bt_status st = r ? BT_OK : no_memory(err);
    if (!st && is_regex) {
        st = bt__regex_rewrite(pattern, &spelled, err);
        if (!st) st = compile(r, pattern, &spelled, err);
    } else if (!st) {
        r->literal = bt_strndup(pattern.s, pattern.n);
        r->n_literal = pattern.n;
        st = r->literal ? BT_OK : no_memory(err);
    }
    bt_buf_release(&spelled);
    if (st) {
        bt__regex_close(r);
        return st;
    }
    *out = r;
    return BT_OK;
}

void bt__regex_close(bt__regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    pcre2_general_context_free(r->memory);
    bt_free(r->literal);
    bt_free(r);
}

bt_status bt__regex_match_open(const bt__regex *r, bt__regex_match **out, bt_err *err)
{
    bt__regex_match *m = bt_calloc(1, sizeof *m);
    if (!m) return no_memory(err);
    if (r->literal) {
        *out = m;
        return BT_OK;
    }
    m->data = pcre2_match_data_create(1, r->memory);
    m->context = pcre2_match_context_create(r->memory);
    if (r->jit) m->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, r->memory);
    if (!m->data || !m->context || (r->jit && !m->stack)) {
        bt__regex_match_close(m);
        return no_memory(err);
    }
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return BT_OK;
}

void bt__regex_match_close(bt__regex_match *m)
{
    if (!m) return;
    pcre2_jit_stack_free(m->stack);
    pcre2_match_context_free(m->context);
    pcre2_match_data_free(m->data);
    bt_free(m);
}

static size_t find_literal(const bt__regex *r, const char *text, size_t n, size_t at)
{
    size_t len = r->n_literal;
    if (len == 0) return at;
    while (n - at >= len) {
        const char *p = memchr(text + at, r->literal[0], n - at - len + 1);
        if (!p) break;
        at = (size_t)(p - text);
        if (memcmp(p, r->literal, len) == 0) return at;
        at++;
    }
    return SIZE_MAX;
}

bt_status bt__regex_find(const bt__regex *r, bt__regex_match *m, const char *text, size_t n,
                         size_t at, size_t *start, size_t *end, bt_err *err)
{
    if (r->literal) {
        *start = find_literal(r, text, n, at);
        *end = *start == SIZE_MAX ? SIZE_MAX : *start + r->n_literal;
        return BT_OK;
    }
    PCRE2_SPTR s = (PCRE2_SPTR)text;
    int rc = r->jit ? pcre2_jit_match(r->code, s, n, at, 0, m->data, m->context)
                    : pcre2_match(r->code, s, n, at, PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *start = *end = SIZE_MAX;
        return BT_OK;
    }
    if (rc < 0)
        return bt_err_set(err, BT_EINTERNAL, rc, "PCRE2 failed at byte %zu of the text (code %d)",
                          at, rc);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
    *start = span[0];
    *end = span[1];
    return BT_OK;
}

bt_status bt__regex_walk_next(const bt__regex *r, bt__regex_match *m, const char *text, size_t n,
                              bt__regex_walk *walk, size_t *start, size_t *end, bt_err *err)
{
    while (walk->at <= n) {
        bt_status st = bt__regex_find(r, m, text, n, walk->at, start, end, err);
        if (st || *start == SIZE_MAX) return st;
        if (*start != *end || *end != walk->last_end) {
            walk->at = walk->last_end = *end;
            return BT_OK;
        }
        uint32_t cp;
        size_t step = walk->at < n ? bt_utf8_decode(text + walk->at, n - walk->at, &cp) : 0;
        walk->at += step ? step : 1;
    }
    *start = *end = SIZE_MAX;
    return BT_OK;
}
