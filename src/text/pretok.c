/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c - the published pre-tokenizer patterns, spelled so that PCRE2 means what Oniguruma does.
 *
 * PCRE2's \s under UCP also matches U+180E, which has not been white space since Unicode 6.3, so
 * the class is written out. Under UCP the letters and numbers of the two agree. Every character is
 * matched by some branch of each pattern; should one ever not be, it becomes a word of its own. */
#include "text/pretok.h"
#include "base/mem.h"
#include "base/utf8.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#define SPACE "\\x09-\\x0d\\x20\\x85\\p{Z}"
#define SPACES "[" SPACE "]"
#define OTHER "[^" SPACE "\\p{L}\\p{N}]+"
#define TRAILING SPACES "+(?![^" SPACE "])|" SPACES "+"
#define CL100K(numbers)                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?" OTHER              \
    "[\\r\\n]*|" SPACES "*[\\r\\n]+|" TRAILING

static const char *const patterns[] = {
    [BT_VOCAB_PRETOK_GPT2] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" OTHER "|" TRAILING,
    [BT_VOCAB_PRETOK_LLAMA3] = CL100K("\\p{N}{1,3}"),
    [BT_VOCAB_PRETOK_QWEN2] = CL100K("\\p{N}"),
};

enum { JIT_STACK_MIN = 32 << 10, JIT_STACK_MAX = 4 << 20 };

struct bt_pretok {
    pcre2_general_context *memory;
    pcre2_code *code;
    bool jit;
};

struct bt_pretok_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void *pretok_alloc(size_t bytes, void *ud)
{
    (void)ud;
    return bt_malloc(bytes);
}

static void pretok_free(void *p, void *ud)
{
    (void)ud;
    bt_free(p);
}

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the pre-tokenizer");
}

bt_status bt_pretok_open(bt_vocab_pretok which, bt_pretok **out, bt_err *err)
{
    int code = 0;
    size_t at = 0;
    bt_pretok *p = bt_calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    p->memory = pcre2_general_context_create(pretok_alloc, pretok_free, NULL);
    if (p->memory) {
        pcre2_compile_context *cc = pcre2_compile_context_create(p->memory);
        if (cc)
            p->code = pcre2_compile((PCRE2_SPTR)patterns[which], PCRE2_ZERO_TERMINATED,
                                    PCRE2_UTF | PCRE2_UCP, &code, &at, cc);
        pcre2_compile_context_free(cc);
    }
    if (!p->code) {
        bt_pretok_close(p);
        if (code == 0 || code == PCRE2_ERROR_HEAP_FAILED) return no_memory(err);
        return bt_err_set(err, BT_EINTERNAL, code,
                          "PCRE2 refuses the pre-tokenizer's pattern at %zu (code %d)", at, code);
    }
    /* Where the system forbids writable and executable memory the interpreter does the same,
     * slower. */
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    *out = p;
    return BT_OK;
}

void bt_pretok_close(bt_pretok *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    bt_free(p);
}

bt_status bt_pretok_match_open(const bt_pretok *p, bt_pretok_match **out, bt_err *err)
{
    bt_pretok_match *m = bt_calloc(1, sizeof *m);
    if (!m) return no_memory(err);
    m->data = pcre2_match_data_create(1, p->memory);
    m->context = pcre2_match_context_create(p->memory);
    if (p->jit) m->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, p->memory);
    if (!m->data || !m->context || (p->jit && !m->stack)) {
        bt_pretok_match_close(m);
        return no_memory(err);
    }
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return BT_OK;
}

void bt_pretok_match_close(bt_pretok_match *m)
{
    if (!m) return;
    pcre2_jit_stack_free(m->stack);
    pcre2_match_context_free(m->context);
    pcre2_match_data_free(m->data);
    bt_free(m);
}

bt_status bt_pretok_next(const bt_pretok *p, bt_pretok_match *m, const char *text, size_t n,
                         size_t at, size_t *end, bt_err *err)
{
    PCRE2_SPTR s = (PCRE2_SPTR)text;
    int rc = p->jit ? pcre2_jit_match(p->code, s, n, at, 0, m->data, m->context)
                    : pcre2_match(p->code, s, n, at, PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return bt_err_set(err, BT_EINTERNAL, rc, "PCRE2 failed at byte %zu of the text (code %d)",
                          at, rc);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
    if (rc >= 0 && span[0] == at && span[1] > at) {
        *end = span[1];
        return BT_OK;
    }
    uint32_t cp;
    size_t step = bt_utf8_decode(text + at, n - at, &cp);
    *end = at + (step ? step : 1);
    return BT_OK;
}
