/* SPDX-License-Identifier: Apache-2.0 */
/* spec_sentencepiece.c - SentencePiece's tokenizer.model as a tokenizer's description.
 *
 * Its BPE models merge by score, its Unigram models are cut by its own rules. Each piece of text
 * between special tokens is taken for a text of its own, dummy prefix included, as those who drive
 * such models do. */
#include "file/sentencepiece.h"
#include "vocab/spec.h"
#include <string.h>

#define SPACE_MARK "\xE2\x96\x81"

static bool add_replace(bt_spec *s, const char *from, bool regex, const char *to)
{
    bt_normal_step *step = bt_spec_add_normal(s, BT_NORMAL_REPLACE);
    if (!step) return false;
    step->pattern = (bt_str){from, strlen(from)};
    step->content = (bt_str){to, strlen(to)};
    step->regex = regex;
    return true;
}

static bool add_normalizer(bt_spec *s, const bt_spm *m)
{
    bt_normal_step *step;
    if (m->charsmap.n) {
        if (!(step = bt_spec_add_normal(s, BT_NORMAL_CHARSMAP))) return false;
        step->longest = true;
        if (!bt_spec_string(s, m->charsmap.s, m->charsmap.n, &step->pattern)) return false;
    }
    /* Spaces at both ends go, others become one. */
    if (m->remove_extra_whitespaces && !add_replace(s, "\\A +| +\\z| +(?= )", true, ""))
        return false;
    if (m->add_dummy_prefix) {
        if (!(step = bt_spec_add_normal(s, BT_NORMAL_PREPEND))) return false;
        step->content = m->escape_whitespaces ? (bt_str){SPACE_MARK, 3} : (bt_str){" ", 1};
    }
    return !m->escape_whitespaces || add_replace(s, " ", false, SPACE_MARK);
}

static bool add_decoder(bt_spec *s, const bt_spm *m)
{
    bt_chain_step *step = bt_spec_add_chain(s, BT_CHAIN_REPLACE);
    if (!step) return false;
    step->pattern = (bt_str){SPACE_MARK, 3};
    step->content = (bt_str){" ", 1};
    if (!bt_spec_add_chain(s, BT_CHAIN_BYTE_FALLBACK) || !bt_spec_add_chain(s, BT_CHAIN_FUSE))
        return false;
    if (!m->add_dummy_prefix) return true;
    step = bt_spec_add_chain(s, BT_CHAIN_STRIP);
    if (!step) return false;
    step->pattern = (bt_str){" ", 1};
    step->start = 1;
    return true;
}

static bool add_pieces(bt_spec *s, const bt_spm *m)
{
    if (!bt_spec_reserve(s, m->n_pieces)) return false;
    for (size_t i = 0; i < m->n_pieces; i++) {
        const bt_spm_piece *p = &m->piece[i];
        bt_token_kind kind = (bt_token_kind)p->type;
        if (!bt_spec_set_piece(s, (int32_t)i, p->piece.s, p->piece.n, (double)p->score, kind, true))
            return false;
        bt_added token = {.id = (int32_t)i, .content = p->piece, .special = true};
        if (kind == BT_TOKEN_USER) token.special = false;
        if (kind != BT_TOKEN_USER && kind != BT_TOKEN_CONTROL && kind != BT_TOKEN_UNKNOWN) continue;
        if (!bt_spec_add_token(s, &token)) return false;
    }
    return bt_spec_index(s);
}

static bt_status read_model(bt_spec *s, const bt_spm *m, bt_err *err)
{
    if (m->model != BT_SPM_MODEL_BPE && m->model != BT_SPM_MODEL_UNIGRAM)
        return bt_spec_refuse(s, err, BT_EUNSUPPORTED,
                              "SentencePiece models of words or characters are not supported");
    if (m->treat_whitespace_as_suffix)
        return bt_spec_refuse(s, err, BT_EUNSUPPORTED,
                              "treat_whitespace_as_suffix is not supported");
    s->kind = m->model == BT_SPM_MODEL_BPE ? BT_VOCAB_SPM : BT_VOCAB_UNIGRAM;
    s->sentencepiece = s->fuse_unk = true;
    s->byte_fallback = m->byte_fallback;
    s->unk = m->unk;
    s->bos = m->bos;
    s->eos_token = m->eos;
    if (!add_pieces(s, m) || !add_normalizer(s, m) || !add_decoder(s, m))
        return bt_spec_no_memory(s, err);
    bt_spec_add_eos(s, s->eos_token);
    /* What its Unigram models were trained with ends a text; its BPE models begin one. */
    if (s->kind == BT_VOCAB_SPM && s->bos >= 0) s->prefix[s->n_prefix++] = s->bos;
    if (s->kind == BT_VOCAB_UNIGRAM && s->eos_token >= 0) s->suffix[s->n_suffix++] = s->eos_token;
    return BT_OK;
}

bt_status bt_spec_read_sentencepiece(bt_spec *s, const char *path, bt_err *err)
{
    bt_spm *m = NULL;
    bt_status st = bt_spm_open(path, &m, err);
    if (!st) st = read_model(s, m, err);
    bt_spm_close(m);
    return st;
}
