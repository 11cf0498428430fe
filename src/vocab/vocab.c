/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - the vocabulary as one block of flat tables, and reading them.
 *
 * LAYOUT   A head, then sections that the head names by their distance from its start: two byte
 *          arenas (what a token adds to the text, and how the file spells it) with n + 1 offsets
 *          each, one byte of kind a token, decoder steps, templates, strings.
 * CHECKS   Ids and kinds are checked once, when the block is built, so that readers index without
 *          looking. */
#include "vocab/vocab.h"
#include "base/mem.h"
#include "vocab/spec.h"
#include "vocab/vocab_block.h"
#include <string.h>

static void bind(bt_vocab *v)
{
    const bt__vocab_head *h = v->head;
    const char *base = (const char *)h;
    v->piece_off = (const uint32_t *)(base + h->piece_off);
    v->bytes_off = (const uint32_t *)(base + h->bytes_off);
    v->piece = base + h->piece;
    v->text = base + h->text;
    v->token_kind = (const uint8_t *)base + h->token_kind;
    v->step = (const bt__vocab_step *)(base + h->step);
    v->template = (const bt__vocab_template *)(base + h->template);
    v->string = base + h->string;
}

static bool ids_sound(const int32_t *id, uint32_t count, uint32_t max, int32_t n)
{
    if (count > max) return false;
    for (uint32_t i = 0; i < count; i++)
        if (id[i] < 0 || id[i] >= n) return false;
    return true;
}

/* What would let a reader leave a table; NULL: nothing. */
static const char *find_fault(const bt_vocab *v)
{
    const bt__vocab_head *h = v->head;
    for (int32_t i = 0; i < h->n; i++)
        if (v->token_kind[i] < BT_TOKEN_NORMAL || v->token_kind[i] > BT_TOKEN_BYTE) return "kinds";
    const int32_t one[3] = {h->bos, h->unk, h->eos_token};
    for (int i = 0; i < 3; i++)
        if (one[i] < -1 || one[i] >= h->n) return "special ids";
    if (!ids_sound(h->eos, h->n_eos, BT_VOCAB_EOS_MAX, h->n)) return "end-of-sequence set";
    if (!ids_sound(h->prefix, h->n_prefix, BT_VOCAB_ENDS_MAX, h->n)) return "prefix";
    if (!ids_sound(h->suffix, h->n_suffix, BT_VOCAB_ENDS_MAX, h->n)) return "suffix";
    return NULL;
}

static size_t chain_steps(const bt_vocab *v, bt_chain_step step[BT_CHAIN_STEPS_MAX])
{
    for (uint32_t i = 0; i < v->head->n_steps; i++) {
        const bt__vocab_step *s = &v->step[i];
        step[i] = (bt_chain_step){.kind = (bt_chain_kind)s->kind,
                                  .pattern = {v->string + s->pattern.at, s->pattern.n},
                                  .content = {v->string + s->content.at, s->content.n},
                                  .start = s->start,
                                  .stop = s->stop,
                                  .flag = s->flag != 0};
    }
    return v->head->n_steps;
}

bt_status bt_vocab_build(const bt_spec *spec, bt_vocab **out, bt_err *err)
{
    bt_chain_step step[BT_CHAIN_STEPS_MAX];
    bt_vocab *v = bt_calloc(1, sizeof *v);
    if (!v) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary");
    bt_status st = bt__vocab_block_build(spec, &v->head, err);
    if (st) goto done;
    bind(v);
    const char *what = find_fault(v);
    if (what)
        st =
            bt_spec_refuse(spec, err, BT_EFORMAT, "the vocabulary does not fit together: %s", what);
    else
        st = bt_decode_chain_open(step, chain_steps(v, step), v->head->piece_max, &v->chain, err);
done:
    if (st)
        bt_vocab_close(v);
    else
        *out = v;
    return st;
}

bt_status bt_vocab_open(const bt_gguf *file, bt_vocab **out, bt_err *err)
{
    bt_spec spec;
    bt_spec_init(&spec, bt_gguf_path(file));
    bt_status st = bt_spec_read_gguf(&spec, file, true, err);
    if (!st) st = bt_vocab_build(&spec, out, err);
    bt_spec_release(&spec);
    return st;
}

void bt_vocab_close(bt_vocab *v)
{
    if (!v) return;
    bt_decode_chain_close(v->chain);
    bt_free(v->head);
    bt_free(v);
}

static bool known_id(const bt_vocab *v, int32_t id)
{
    return id >= 0 && id < v->head->n;
}

const char *bt_vocab_bytes(const bt_vocab *v, int32_t id, size_t *n)
{
    if (!known_id(v, id)) {
        *n = 0;
        return NULL;
    }
    *n = v->bytes_off[id + 1] - v->bytes_off[id];
    return v->text + v->bytes_off[id];
}

const char *bt_vocab_piece(const bt_vocab *v, int32_t id, size_t *n)
{
    if (!known_id(v, id)) {
        *n = 0;
        return NULL;
    }
    *n = v->piece_off[id + 1] - v->piece_off[id];
    return v->piece + v->piece_off[id];
}

int32_t bt_vocab_find(const bt_vocab *v, const char *piece, int kind)
{
    size_t len = strlen(piece);
    for (int32_t i = 0; i < v->head->n; i++) {
        if (kind && v->token_kind[i] != kind) continue;
        if (v->piece_off[i + 1] - v->piece_off[i] == len &&
            memcmp(v->piece + v->piece_off[i], piece, len) == 0)
            return i;
    }
    return -1;
}

bt_token_kind bt_vocab_token_kind(const bt_vocab *v, int32_t id)
{
    return known_id(v, id) ? (bt_token_kind)v->token_kind[id] : BT_TOKEN_UNUSED;
}

bool bt_vocab_is_special(const bt_vocab *v, int32_t id)
{
    bt_token_kind kind = bt_vocab_token_kind(v, id);
    return kind == BT_TOKEN_CONTROL || kind == BT_TOKEN_UNKNOWN;
}

bool bt_vocab_is_eos(const bt_vocab *v, int32_t id)
{
    for (uint32_t i = 0; i < v->head->n_eos; i++)
        if (v->head->eos[i] == id) return true;
    return false;
}

const int32_t *bt_vocab_eos(const bt_vocab *v, int32_t *n)
{
    *n = (int32_t)v->head->n_eos;
    return v->head->eos;
}

const int32_t *bt_vocab_prefix(const bt_vocab *v, size_t *n)
{
    *n = v->head->n_prefix;
    return v->head->prefix;
}

const int32_t *bt_vocab_suffix(const bt_vocab *v, size_t *n)
{
    *n = v->head->n_suffix;
    return v->head->suffix;
}

const char *bt_vocab_template_at(const bt_vocab *v, size_t i, const char **name)
{
    if (i >= v->head->n_templates) return NULL;
    if (name) *name = v->string + v->template[i].name.at;
    return v->string + v->template[i].text.at;
}

const char *bt_vocab_named_at(const bt_vocab *v, size_t i, const char **name)
{
    if (i >= v->head->n_named) return NULL;
    const bt__vocab_template *t = &v->template[v->head->n_templates + i];
    *name = v->string + t->name.at;
    return v->string + t->text.at;
}

const bt_decode_chain *bt_vocab_chain(const bt_vocab *v)
{
    return v->chain;
}
size_t bt_vocab_n_templates(const bt_vocab *v)
{
    return v->head->n_templates;
}
bt_vocab_kind bt_vocab_kind_of(const bt_vocab *v)
{
    return (bt_vocab_kind)v->head->kind;
}
int32_t bt_vocab_size(const bt_vocab *v)
{
    return v->head->n;
}
int32_t bt_vocab_bos(const bt_vocab *v)
{
    return v->head->bos;
}
int32_t bt_vocab_unk(const bt_vocab *v)
{
    return v->head->unk;
}
int32_t bt_vocab_eos_token(const bt_vocab *v)
{
    return v->head->eos_token;
}
