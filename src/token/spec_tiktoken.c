/* SPDX-License-Identifier: Apache-2.0 */
/* spec_tiktoken.c - tiktoken vocabularies as a tokenizer's description.
 *
 * The file says ranks only. The pattern and the special tokens are those that were published with
 * the vocabulary, told by its number of ranks. Merging the pair whose bytes have the lowest rank is
 * the same as merging by a list: for each token in rank order all its cuts into two tokens, those
 * with the lowest left part first. */
#include "base/assert.h"
#include "base/utf8.h"
#include "file/tiktoken.h"
#include "vocab/byte_level.h"
#include "vocab/spec.h"
#include "vocab/spec_pre.h"
#include <stdio.h>
#include <string.h>

typedef struct extra {
    int32_t id;
    const char *name;
} extra;

static const struct known {
    size_t ranks;
    const char *name, *pattern;
    bool add_bos;
    extra token[10];
} vocabularies[] = {
    {50256, "r50k", bt__pattern_gpt2, false, {{50256, "<|endoftext|>"}}},
    {50280, "p50k", bt__pattern_gpt2, false, {{50256, "<|endoftext|>"}}},
    {50281, "p50k", bt__pattern_gpt2, false, {{50256, "<|endoftext|>"}}},
    {100256,
     "cl100k",
     bt__pattern_cl100k,
     false,
     {{100257, "<|endoftext|>"},
      {100258, "<|fim_prefix|>"},
      {100259, "<|fim_middle|>"},
      {100260, "<|fim_suffix|>"},
      {100276, "<|endofprompt|>"}}},
    {128000,
     "llama3",
     bt__pattern_llama3,
     true,
     {{128000, "<|begin_of_text|>"},
      {128001, "<|end_of_text|>"},
      {128006, "<|start_header_id|>"},
      {128007, "<|end_header_id|>"},
      {128009, "<|eot_id|>"}}},
    {151643,
     "qwen",
     bt__pattern_qwen2,
     false,
     {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}}},
    {163584, "kimi", bt__pattern_kimi, false, {{163584, "[BOS]"}, {163585, "[EOS]"}}},
    {199998,
     "o200k",
     bt__pattern_o200k,
     false,
     {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}}},
};

static bool add_pieces(bt_spec *s, const bt_tiktoken *t)
{
    char *spelled = bt_malloc(2 * BT_TIKTOKEN_TOKEN_BYTES_MAX);
    bool ok = spelled && bt_spec_reserve(s, t->n_ranks);
    for (size_t i = 0; ok && i < t->n_ranks; i++) {
        size_t n;
        if (!t->token[i].n) continue;
        bt__byte_level_encode(t->token[i].s, t->token[i].n, spelled, &n);
        ok = bt_spec_set_piece(s, (int32_t)i, spelled, n, 0, BT_TOKEN_NORMAL, true);
    }
    bt_free(spelled);
    return ok && bt_spec_index(s);
}

/* A token's spelling cut after each character: the cuts whose halves are both tokens, lowest left
 * rank first. */
static bool add_cuts(bt_spec *s, int32_t id)
{
    bt_str text = bt_spec_text(s, id);
    size_t first = s->n_merges;
    for (size_t i = 1; i < text.n; i++) {
        if (bt_utf8_is_tail(text.s[i])) continue;
        int32_t left = bt_spec_find(s, text.s, i);
        int32_t right = left < 0 ? -1 : bt_spec_find(s, text.s + i, text.n - i);
        if (right < 0) continue;
        if (!bt_spec_add_merge(s, left, right, id)) return false;
        size_t at = s->n_merges - 1;
        bt_spec_merge last = s->merge[at];
        for (; at > first && s->merge[at - 1].left > left; at--) s->merge[at] = s->merge[at - 1];
        s->merge[at] = last;
    }
    return true;
}

static bool add_extra(bt_spec *s, int32_t id, const char *name)
{
    bt_added token = {.id = id, .content = {name, strlen(name)}, .special = true};
    if ((size_t)id < s->n_pieces && s->piece[id].kind) return true;
    return bt_spec_set_piece(s, id, name, strlen(name), 0, BT_TOKEN_CONTROL, false) &&
           bt_spec_add_token(s, &token);
}

static bool add_special(bt_spec *s, const struct known *k)
{
    for (size_t i = 0; i < BT_COUNT(k->token) && k->token[i].name; i++)
        if (!add_extra(s, k->token[i].id, k->token[i].name)) return false;
    int number = 0;
    for (int32_t id = 128000; k->ranks == 128000 && id < 128256; id++) { // Llama 3 numbers others
        char name[40];
        if ((size_t)id < s->n_pieces && s->piece[id].kind) continue;
        snprintf(name, sizeof name, "<|reserved_special_token_%d|>", number++);
        if (!add_extra(s, id, name)) return false;
    }
    if (!bt_spec_index(s)) return false;
    if (k->add_bos) s->prefix[s->n_prefix++] = s->bos = k->token[0].id;
    s->eos_token = k->token[k->add_bos || k->ranks == 163584 ? 1 : 0].id;
    bt_spec_add_eos(s, s->eos_token);
    bt_spec_mark_by_name(s);
    return true;
}

static bt_status read_ranks(bt_spec *s, const bt_tiktoken *t, const char *pattern, bt_err *err)
{
    const struct known *k = NULL;
    for (size_t i = 0; i < BT_COUNT(vocabularies); i++)
        if (vocabularies[i].ranks == t->n_ranks) k = &vocabularies[i];
    if (!k && !pattern)
        return bt_spec_refuse(
            s, err, BT_EUNSUPPORTED,
            "a tiktoken vocabulary of %zu ranks is not known, so nobody knows how "
            "text is split; the model's tokenizer.json would say",
            t->n_ranks);
    s->kind = BT_VOCAB_BPE;
    s->ignore_merges = true;
    if (!pattern) pattern = k->pattern;
    bt_split_step *split = bt_spec_add_split(s, BT_SPLIT_PATTERN);
    if (split) split->regex = true;
    bool ok = split && bt_spec_string(s, pattern, strlen(pattern), &split->pattern) &&
              bt_spec_add_split(s, BT_SPLIT_BYTE_LEVEL) && bt_spec_add_chain(s, BT_CHAIN_BYTES) &&
              add_pieces(s, t);
    for (size_t i = 0; ok && i < t->n_ranks; i++)
        if (s->piece[i].kind) ok = add_cuts(s, (int32_t)i);
    if (ok && k) ok = add_special(s, k);
    return ok ? BT_OK : bt_spec_no_memory(s, err);
}

bt_status bt_spec_read_tiktoken(bt_spec *s, const char *path, const char *pattern, bt_err *err)
{
    bt_tiktoken *t = NULL;
    bt_status st = bt_tiktoken_open(path, &t, err);
    if (!st) st = read_ranks(s, t, pattern, err);
    bt_tiktoken_close(t);
    return st;
}
