/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - the vocabulary as one block of flat tables, and reading them.
 *
 * LAYOUT   A head, then sections that the head names by their distance from its start: two byte
 * arenas (what a token adds to the text, and how the file spells it) with n + 1 offsets each, one
 * byte of kind a token, the trie, links between tokens of equal bytes, decoder steps, templates,
 * strings. No pointer is inside, so the block may be written to a file or shared memory and mapped
 * elsewhere.
 *
 * CHECKS  Everything is checked once, when the block is built or mapped, so that readers index
 * without looking. */
#include "vocab/vocab.h"
#include "base/assert.h"
#include "base/mem.h"
#include "vocab/spec.h"
#include "vocab/vocab_block.h"
#include <string.h>

static bt_status damaged(bt_err *err, const char *what)
{
    return bt_err_set(err, BT_EFORMAT, 0, "the vocabulary block is damaged: %s", what);
}

/* The section of count elements at this distance; NULL if it does not lie in the block. */
static const void *section(const bt__vocab_head *h, uint64_t at, uint64_t count,
                           size_t element_bytes)
{
    if (at < sizeof *h || at % 8 != 0 || at > h->bytes) return NULL;
    if (count > (h->bytes - at) / element_bytes) return NULL;
    return (const char *)h + at;
}

static bool bind(bt_vocab *v)
{
    const bt__vocab_head *h = v->head;
    uint64_t n = (uint64_t)h->n;
    v->piece_off = section(h, h->piece_off, n + 1, sizeof *v->piece_off);
    v->bytes_off = section(h, h->bytes_off, n + 1, sizeof *v->bytes_off);
    v->piece = section(h, h->piece, h->n_piece, 1);
    v->text = section(h, h->text, h->n_text, 1);
    v->token_kind = section(h, h->token_kind, n, 1);
    v->same = section(h, h->same, n, sizeof *v->same);
    v->node = section(h, h->node, h->n_nodes, sizeof *v->node);
    v->step = section(h, h->step, h->n_steps, sizeof *v->step);
    v->template =
        section(h, h->template, (uint64_t)h->n_templates + h->n_named, sizeof *v->template);
    v->string = section(h, h->string, h->n_string, 1);
    return v->piece_off && v->bytes_off && v->piece && v->text && v->token_kind && v->same &&
           v->node && v->step && v->template && v->string;
}

static bool offsets_sound(const uint32_t *off, int32_t n, uint64_t bytes)
{
    if (off[0] != 0 || off[n] != bytes) return false;
    for (int32_t i = 0; i < n; i++)
        if (off[i] > off[i + 1]) return false;
    return true;
}

static bool ids_sound(const int32_t *id, uint32_t count, uint32_t max, int32_t n)
{
    if (count > max) return false;
    for (uint32_t i = 0; i < count; i++)
        if (id[i] < 0 || id[i] >= n) return false;
    return true;
}

/* Each node's children fill it exactly, in ascending order. */
static bool trie_sound(const bt_vocab_node *node, uint32_t n_nodes, int32_t n)
{
    if (n_nodes == 0 || node[0].skip_byte >> 8 != n_nodes) return false;
    for (uint32_t i = 0; i < n_nodes; i++) {
        uint32_t skip = node[i].skip_byte >> 8;
        if (skip == 0 || skip > n_nodes - i) return false;
        if (node[i].token < -1 || node[i].token >= n) return false;
        int last = -1;
        for (uint32_t c = i + 1; c < i + skip;) {
            int byte = (int)(node[c].skip_byte & 0xFF);
            uint32_t step = node[c].skip_byte >> 8;
            if (byte <= last || step == 0 || step > i + skip - c) return false;
            last = byte;
            c += step;
        }
    }
    return true;
}

static bool string_sound(const bt__vocab_head *h, bt__vocab_string s)
{
    return s.at < h->n_string && s.n < h->n_string - s.at; // with the NUL behind it
}

static const char *find_damage(const bt_vocab *v)
{
    const bt__vocab_head *h = v->head;
    if (!offsets_sound(v->piece_off, h->n, h->n_piece)) return "pieces";
    if (!offsets_sound(v->bytes_off, h->n, h->n_text)) return "bytes";
    for (int32_t i = 0; i < h->n; i++) {
        if (v->token_kind[i] < BT_TOKEN_NORMAL || v->token_kind[i] > BT_TOKEN_BYTE) return "kinds";
        if (v->piece_off[i + 1] - v->piece_off[i] > h->piece_max) return "piece length";
        if (v->bytes_off[i + 1] - v->bytes_off[i] > h->piece_max) return "bytes length";
        if (v->same[i] != -1 && (v->same[i] <= i || v->same[i] >= h->n)) return "equal tokens";
    }
    const int32_t one[3] = {h->bos, h->unk, h->eos_token};
    for (int i = 0; i < 3; i++)
        if (one[i] < -1 || one[i] >= h->n) return "special ids";
    if (!ids_sound(h->eos, h->n_eos, BT_VOCAB_EOS_MAX, h->n)) return "end-of-sequence set";
    if (!ids_sound(h->prefix, h->n_prefix, BT_VOCAB_ENDS_MAX, h->n)) return "prefix";
    if (!ids_sound(h->suffix, h->n_suffix, BT_VOCAB_ENDS_MAX, h->n)) return "suffix";
    if (!trie_sound(v->node, h->n_nodes, h->n)) return "trie";
    for (uint32_t i = 0; i < h->n_steps; i++)
        if (!string_sound(h, v->step[i].pattern) || !string_sound(h, v->step[i].content) ||
            v->step[i].kind > BT_CHAIN_JOIN)
            return "decoder";
    for (uint32_t i = 0; i < h->n_templates + h->n_named; i++) {
        if (!string_sound(h, v->template[i].name) || !string_sound(h, v->template[i].text))
            return "templates";
        if (v->string[v->template[i].text.at + v->template[i].text.n] != 0 ||
            v->string[v->template[i].name.at + v->template[i].name.n] != 0)
            return "template strings";
    }
    return NULL;
}

bt_status bt_vocab_map(const void *block, size_t n, bt_vocab **out, bt_err *err)
{
    const bt__vocab_head *h = block;
    BT_ASSERT((uintptr_t)block % 8 == 0);
    if (n < sizeof *h || h->magic != BT__VOCAB_MAGIC || h->version != BT__VOCAB_VERSION)
        return damaged(err, "its head is not one of this build");
    if (h->bytes != n || h->n < 1 || h->n > BT_VOCAB_SIZE_MAX || h->kind > BT_VOCAB_WORDLEVEL ||
        h->piece_max > BT_VOCAB_PIECE_BYTES_MAX + 1 || h->n_steps > BT_CHAIN_STEPS_MAX ||
        h->n_templates > BT_SPEC_TEMPLATES_MAX || h->n_named > BT_SPEC_NAMED_MAX)
        return damaged(err, "its head holds impossible numbers");
    bt_vocab *v = bt_calloc(1, sizeof *v);
    if (!v) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary");
    v->head = h;
    const char *what = bind(v) ? find_damage(v) : "a table lies outside";
    bt_status st = what ? damaged(err, what) : BT_OK;
    if (!st) {
        bt_chain_step step[BT_CHAIN_STEPS_MAX];
        size_t n_steps = bt_vocab_chain_steps(v, step);
        st = bt_decode_chain_open(step, n_steps, h->piece_max, &v->chain, err);
    }
    if (st) {
        bt_vocab_close(v);
        return st;
    }
    *out = v;
    return BT_OK;
}

bt_status bt_vocab_build(const bt_spec *spec, bt_vocab **out, bt_err *err)
{
    void *block = NULL;
    size_t n = 0;
    bt_status st = bt__vocab_block_build(spec, &block, &n, err);
    if (!st) st = bt_vocab_map(block, n, out, err);
    if (st)
        bt_free(block);
    else
        (*out)->own = block;
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
    bt_free(v->own);
    bt_free(v);
}

const void *bt_vocab_block(const bt_vocab *v, size_t *n)
{
    *n = v->head->bytes;
    return v->head;
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

const char *bt_vocab_chain_token(const bt_vocab *v, int32_t id, size_t *n)
{
    bool bytes = v->head->n_steps && v->step[0].kind == BT_CHAIN_BYTES;
    return bytes && !bt_vocab_is_special(v, id) ? bt_vocab_bytes(v, id, n)
                                                : bt_vocab_piece(v, id, n);
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

bool bt_vocab_add_bos(const bt_vocab *v)
{
    return v->head->n_prefix && v->head->bos >= 0 && v->head->prefix[0] == v->head->bos;
}

bool bt_vocab_add_eos(const bt_vocab *v)
{
    const bt__vocab_head *h = v->head;
    return h->n_suffix && h->eos_token >= 0 && h->suffix[h->n_suffix - 1] == h->eos_token;
}

bool bt_vocab_strip_space(const bt_vocab *v)
{
    for (uint32_t i = 0; i < v->head->n_steps; i++) {
        const bt__vocab_step *s = &v->step[i];
        if (s->kind == BT_CHAIN_STRIP && s->start && s->pattern.n == 1 &&
            v->string[s->pattern.at] == ' ')
            return true;
        if (s->kind == BT_CHAIN_METASPACE && s->flag) return true;
    }
    return false;
}

size_t bt_vocab_chain_steps(const bt_vocab *v, bt_chain_step step[BT_CHAIN_STEPS_MAX])
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

const char *bt_vocab_chat_template(const bt_vocab *v)
{
    const char *name, *text = bt_vocab_template_at(v, 0, &name);
    return text && strcmp(name, "default") == 0 ? text : NULL;
}

uint32_t bt_vocab_trie_step(const bt_vocab *v, uint32_t node, unsigned char byte)
{
    uint32_t end = node + (v->node[node].skip_byte >> 8);
    for (uint32_t c = node + 1; c < end; c += v->node[c].skip_byte >> 8) {
        unsigned char have = (unsigned char)(v->node[c].skip_byte & 0xFF);
        if (have == byte) return c;
        if (have > byte) break;
    }
    return 0;
}

int32_t bt_vocab_token_of(const bt_vocab *v, const char *bytes, size_t n)
{
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++)
        if (!(node = bt_vocab_trie_step(v, node, (unsigned char)bytes[i]))) return -1;
    return v->node[node].token;
}

const bt_vocab_node *bt_vocab_trie(const bt_vocab *v, uint32_t *n)
{
    *n = v->head->n_nodes;
    return v->node;
}
int32_t bt_vocab_same(const bt_vocab *v, int32_t id)
{
    return known_id(v, id) ? v->same[id] : -1;
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
size_t bt_vocab_piece_max(const bt_vocab *v)
{
    return v->head->piece_max;
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
