/* SPDX-License-Identifier: Apache-2.0 */
/* spec_tokenizer.c - tokenizer.json, of every age, as a tokenizer's description.
 *
 * The file is walked once, without a tree: the vocabulary is taken as it comes, the merges when all
 * pieces are known. Old files leave out the model's type (then its members tell), spell merges as
 * "a b" instead of ["a", "b"], and may miss flags. Truncation and padding are for training and
 * are not applied. */
#include "base/assert.h"
#include "vocab/byte_level.h"
#include "token/spec_steps.h"
#include <stdio.h>
#include <string.h>

static const char affix[] = "continuing_subword_prefix";

/* The parts that are read when the model is known. */
typedef struct parts {
    bt__jload l;
    bt_str added, normalizer, pre_tokenizer, post_processor, decoder;
    bt__fields model; // n == 0: none was met
    bt_str merges;    // of the model, where they are not read yet
    int32_t merged;   // what the merge before makes
    bool has_vocab, has_scores, has_merges;
} parts;

/* ---- Vocabulary. */

static bool store_piece(parts *p, int64_t id, const char *s, size_t n, double score)
{
    bt_spec *spec = p->l.s;
    if (n > BT_VOCAB_PIECE_BYTES_MAX)
        return bt__jfail(&p->l, BT_EFORMAT, "token %lld has %zu bytes; at most %d are allowed",
                         (long long)id, n, BT_VOCAB_PIECE_BYTES_MAX);
    if (id < 0 || id >= BT_VOCAB_SIZE_MAX)
        return bt__jfail(&p->l, BT_EFORMAT, "a token has id %lld; ids go from 0 to %d",
                         (long long)id, BT_VOCAB_SIZE_MAX - 1);
    if ((size_t)id < spec->n_pieces && spec->piece[id].kind)
        return bt__jfail(&p->l, BT_EFORMAT, "two tokens have id %lld", (long long)id);
    return bt_spec_set_piece(spec, (int32_t)id, s, n, score, BT_TOKEN_NORMAL, true)
               ? true
               : bt__jmemory(&p->l);
}

/* {"piece": id, ...} */
static bool read_vocabulary(parts *p, bt_json_reader *r)
{
    const char *s;
    size_t n;
    int64_t id;
    if (!bt_json_enter(r, '{')) return false;
    while (bt_json_next_key(r, &s, &n))
        if (!bt_json_read_int(r, &id) || !store_piece(p, id, s, n, 0)) return false;
    return true;
}

/* [["piece", score], ...] */
static bool read_scored(parts *p, bt_json_reader *r)
{
    const char *s, *number;
    size_t n, n_number;
    double score;
    p->has_scores = true;
    if (!bt_json_enter(r, '[')) return false;
    for (int64_t id = 0; bt_json_next_item(r); id++) {
        if (!bt_json_enter(r, '[') || !bt_json_next_item(r) || !bt_json_read_string(r, &s, &n) ||
            !bt_json_next_item(r) || !bt_json_read_number(r, &number, &n_number))
            return bt_json_fail(r, "a piece is not a text and its score");
        if (!bt__json_double(number, n_number, &score))
            return bt_json_fail(r, "a score is too large");
        if (!store_piece(p, id, s, n, score)) return false;
        if (bt_json_next_item(r)) return bt_json_fail(r, "a piece has more than a score");
    }
    return true;
}

/* ---- Merges. */

/* The piece that a merge makes: mostly that of the merge before, or the next one. */
static int32_t find_merged(parts *p, const char *text, size_t n)
{
    const bt_spec *s = p->l.s;
    for (int32_t id = p->merged; id <= p->merged + 1; id++) {
        if (id < 0 || (size_t)id >= s->n_pieces || !s->piece[id].kind) continue;
        bt_str piece = bt_spec_text(s, id);
        if (piece.n == n && memcmp(piece.s, text, n) == 0) return id;
    }
    return bt_spec_find(s, text, n);
}

static bool store_merge(parts *p, size_t i, bt_str left, bt_str right)
{
    bt_spec *s = p->l.s;
    char both[2 * BT_VOCAB_PIECE_BYTES_MAX];
    size_t skip = s->subword_prefix.n;
    if (left.n > BT_VOCAB_PIECE_BYTES_MAX || right.n > BT_VOCAB_PIECE_BYTES_MAX || right.n < skip)
        return bt__jfail(&p->l, BT_EFORMAT, "merge %zu is not of two pieces", i);
    memcpy(both, left.s, left.n);
    memcpy(both + left.n, right.s + skip, right.n - skip);
    int32_t a = bt_spec_find(s, left.s, left.n), b = bt_spec_find(s, right.s, right.n);
    int32_t c = find_merged(p, both, left.n + right.n - skip);
    if (a < 0 || b < 0 || c < 0)
        return bt__jfail(&p->l, BT_EFORMAT, "merge %zu names a piece that is not in the vocabulary",
                         i);
    p->merged = c;
    return bt_spec_add_merge(s, a, b, c) ? true : bt__jmemory(&p->l);
}

static bool read_merge(parts *p, bt_json_reader *r, size_t i)
{
    bt_str left, right;
    if (bt_json_peek(r) == BT_JSON_STRING) {
        bt_str text;
        if (!bt_json_read_string(r, &text.s, &text.n)) return false;
        const char *space = text.n > 2 ? memchr(text.s + 1, ' ', text.n - 2) : NULL;
        if (!space) return bt__jfail(&p->l, BT_EFORMAT, "merge %zu is not of two pieces", i);
        left = (bt_str){text.s, (size_t)(space - text.s)};
        right = (bt_str){space + 1, text.n - left.n - 1};
        return store_merge(p, i, left, right);
    }
    if (!bt_json_enter(r, '[') || !bt_json_next_item(r) ||
        !bt_json_read_string(r, &left.s, &left.n) || !bt_json_next_item(r) ||
        !bt_json_read_string(r, &right.s, &right.n))
        return bt_json_fail(r, "a merge is not of two pieces");
    if (!store_merge(p, i, left, right)) return false;
    return bt_json_next_item(r) ? bt_json_fail(r, "a merge is not of two pieces") : true;
}

static bool read_merges(parts *p, bt_json_reader *r)
{
    p->has_merges = true;
    if (!bt_json_enter(r, '[')) return false;
    for (size_t i = 0; bt_json_next_item(r); i++)
        if (!read_merge(p, r, i)) return false;
    return true;
}

static bool read_kept_merges(parts *p)
{
    bt_json_reader r;
    if (p->has_merges || !p->merges.s) return true;
    bt__jreader(&p->l, &r, p->merges);
    bool ok = read_merges(p, &r);
    if (bt_json_reader_why(&r, NULL)) ok = bt__jfail_reader(&p->l, &r);
    bt_json_reader_release(&r);
    return ok;
}

/* ---- The model. */

/* The large members are read where they stand. Merges only where what they need was met: as the
 * library writes files, they come last. */
static bool take_member(void *ud, const bt__fields *f, bt_str name, bt_json_reader *r, bool *taken)
{
    parts *p = ud;
    bt_json_kind kind = bt_json_peek(r);
    bt_str type = {0};
    if (kind != BT_JSON_OBJECT && kind != BT_JSON_ARRAY) return true;
    if (bt_str_is(name, "vocab")) {
        *taken = p->has_vocab = true;
        bool ok = kind == BT_JSON_ARRAY ? read_scored(p, r) : read_vocabulary(p, r);
        if (!ok || bt_json_reader_why(r, NULL)) return false;
        if (p->l.s->n_pieces == 0) return bt__jfail(&p->l, BT_EFORMAT, "the vocabulary is empty");
        return bt_spec_index(p->l.s) ? true : bt__jmemory(&p->l);
    }
    if (!bt_str_is(name, "merges") || !p->has_vocab || !bt__field_given(f, affix)) return true;
    if (!bt__field_text(f, "type", &type) || !bt__field_text(f, affix, &p->l.s->subword_prefix))
        return false;
    *taken = bt_str_is(type, "BPE");
    return *taken ? read_merges(p, r) : true;
}

/* What kind of model it is; old files do not say. */
static bool read_kind(parts *p, const bt__fields *f)
{
    bt_str type = {0};
    bt_spec *s = p->l.s;
    if (!bt__field_text(f, "type", &type)) return false;
    if (!type.s)
        s->kind = p->has_scores ? BT_VOCAB_UNIGRAM
                  : p->merges.s ? BT_VOCAB_BPE
                  : bt__field_find(f, affix) || bt__field_find(f, "max_input_chars_per_word")
                      ? BT_VOCAB_WORDPIECE
                      : BT_VOCAB_WORDLEVEL;
    else if (bt_str_is(type, "BPE"))
        s->kind = BT_VOCAB_BPE;
    else if (bt_str_is(type, "Unigram"))
        s->kind = BT_VOCAB_UNIGRAM;
    else if (bt_str_is(type, "WordPiece"))
        s->kind = BT_VOCAB_WORDPIECE;
    else if (bt_str_is(type, "WordLevel"))
        s->kind = BT_VOCAB_WORDLEVEL;
    else
        return bt__jfail(&p->l, BT_EUNSUPPORTED, "model '%.40s' is not supported",
                         bt_str_shown(type).s);
    if ((s->kind == BT_VOCAB_UNIGRAM) != p->has_scores)
        return bt__jfail(&p->l, BT_EFORMAT, "the vocabulary is not one of this kind of model");
    return true;
}

static bool read_unk(parts *p, const bt__fields *f)
{
    bt_spec *s = p->l.s;
    bt_str name = {0};
    int64_t id = -1;
    if (s->kind == BT_VOCAB_UNIGRAM) {
        if (!bt__field_int(f, "unk_id", 0, (int64_t)s->n_pieces - 1, &id)) return false;
    } else {
        if (!bt__field_text(f, "unk_token", &name)) return false;
        if (name.s) id = bt_spec_find(s, name.s, name.n);
    }
    s->unk = (int32_t)id;
    return true;
}

static bool read_model(parts *p)
{
    const bt__fields *f = &p->model;
    bt_spec *s = p->l.s;
    int64_t max_chars = 100;
    if (f->n == 0)
        return bt__jfail(&p->l, BT_EFORMAT,
                         "there is no 'model', so this is no tokenizer.json (of a folder, give the "
                         "folder)");
    const bt_str *merges = bt__field_find(f, "merges");
    if (!p->has_vocab) return bt__jfail(&p->l, BT_EFORMAT, "the model has no 'vocab'");
    if (merges) p->merges = *merges;
    if (!read_kind(p, f) || !read_unk(p, f)) return false;
    bt_str default_prefix = {"##", 2};
    if (s->kind == BT_VOCAB_WORDPIECE) s->subword_prefix = default_prefix;
    if (!bt__field_text(f, affix, &s->subword_prefix) ||
        !bt__field_text(f, "end_of_word_suffix", &s->word_suffix) ||
        !bt__field_bool(f, "fuse_unk", &s->fuse_unk) ||
        !bt__field_bool(f, "byte_fallback", &s->byte_fallback) ||
        !bt__field_bool(f, "ignore_merges", &s->ignore_merges) ||
        !bt__field_int(f, "max_input_chars_per_word", 0, INT32_MAX, &max_chars))
        return false;
    s->max_chars = (size_t)max_chars;
    return s->kind != BT_VOCAB_BPE || read_kept_merges(p);
}

/* ---- Added tokens. */

static bool read_added(bt__jload *l, void *ud, size_t i, bt_str object)
{
    bt_spec *s = l->s;
    bt__fields f;
    bt_added t = {.id = -1};
    int64_t id = -1;
    (void)ud, (void)i;
    if (!bt__fields_read(&f, l, object) || !bt__field_text(&f, "content", &t.content) ||
        !bt__field_int(&f, "id", 0, BT_VOCAB_SIZE_MAX - 1, &id) ||
        !bt__field_bool(&f, "special", &t.special))
        return false;
    t.normalized = !t.special;
    if (!bt__field_bool(&f, "normalized", &t.normalized) ||
        !bt__field_bool(&f, "lstrip", &t.lstrip) || !bt__field_bool(&f, "rstrip", &t.rstrip) ||
        !bt__field_bool(&f, "single_word", &t.single_word))
        return false;
    if (!t.content.s || t.content.n > BT_VOCAB_PIECE_BYTES_MAX)
        return bt__jfail(l, BT_EFORMAT, "an added token has no content, or too much");
    if (t.content.n == 0) return true; // the library leaves these out too
    int32_t known = bt_spec_find(s, t.content.s, t.content.n);
    if (known >= 0) id = known;
    if (id < 0) id = (int64_t)s->n_pieces;
    bt_token_kind kind = t.special ? BT_TOKEN_CONTROL : BT_TOKEN_USER;
    if (known < 0 && (size_t)id < s->n_pieces && s->piece[id].kind)
        return bt__jfail(l, BT_EFORMAT, "added token '%.40s' has id %lld, which is another token's",
                         bt_str_shown(t.content).s, (long long)id);
    /* A piece of a byte-level model stays one: other pieces are made of it. */
    bool stays = !t.special && bt__byte_level_spells(t.content.s, t.content.n);
    if (known >= 0 && !stays)
        s->piece[id].kind = (uint8_t)kind;
    else if (known < 0 &&
             !bt_spec_set_piece(s, (int32_t)id, t.content.s, t.content.n, 0, kind, false))
        return bt__jmemory(l);
    t.id = (int32_t)id;
    return bt_spec_add_token(s, &t) ? true : bt__jmemory(l);
}

static bool read_all_added(parts *p)
{
    /* As a field, so that null and absence read alike. */
    bt__fields f = {.l = &p->l, .n = p->added.s ? 1 : 0};
    snprintf(f.field[0].name, sizeof f.field[0].name, "added_tokens");
    f.field[0].value = p->added;
    size_t n = p->l.s->n_pieces;
    if (!bt__field_each(&f, "added_tokens", read_added, p)) return false;
    return bt_spec_index_from(p->l.s, n) ? true : bt__jmemory(&p->l);
}

/* ---- The whole. */

static bool find_parts(parts *p)
{
    bt_json_reader r;
    const char *key;
    size_t n;
    bt__jreader(&p->l, &r, (bt_str){p->l.text, p->l.n});
    bool ok = bt_json_enter(&r, '{');
    while (ok && bt_json_next_key(&r, &key, &n)) {
        bt_str name = {key, n}, value;
        bt_str *to = bt_str_is(name, "added_tokens")     ? &p->added
                     : bt_str_is(name, "normalizer")     ? &p->normalizer
                     : bt_str_is(name, "pre_tokenizer")  ? &p->pre_tokenizer
                     : bt_str_is(name, "post_processor") ? &p->post_processor
                     : bt_str_is(name, "decoder")        ? &p->decoder
                                                         : NULL;
        if (bt_str_is(name, "model") && bt_json_peek(&r) == BT_JSON_OBJECT) {
            ok = bt__fields_from(&p->model, &p->l, &r, take_member, p);
            continue;
        }
        ok = bt_json_span(&r, &value.s, &value.n);
        if (ok && to) *to = bt_str_is(value, "null") ? (bt_str){0} : value;
    }
    ok = ok && bt_json_done(&r);
    if (bt_json_reader_why(&r, NULL)) ok = bt__jfail_reader(&p->l, &r);
    bt_json_reader_release(&r);
    return ok;
}

static void finish(bt_spec *s)
{
    bool bytes = false; // behind ByteLevel they stay as they are spelled
    for (size_t i = 0; i < s->n_chain && s->chain[0].kind != BT_CHAIN_BYTES; i++)
        bytes |= s->chain[i].kind == BT_CHAIN_BYTE_FALLBACK;
    for (size_t i = 0; bytes && i < s->n_pieces; i++)
        if (s->piece[i].kind == BT_TOKEN_NORMAL &&
            bt_spec_byte_of(bt_spec_text(s, (int32_t)i)) >= 0)
            s->piece[i].kind = BT_TOKEN_BYTE;
    /* Until the files beside this one say better. */
    if (s->n_prefix) s->bos = s->prefix[0];
    if (s->n_suffix) s->eos_token = s->suffix[s->n_suffix - 1];
    bt_spec_add_eos(s, s->eos_token);
}

bt_status bt_spec_read_json(bt_spec *s, const char *text, size_t n, bt_err *err)
{
    parts p = {.l = {.s = s, .err = err, .text = text, .n = n}};
    bool ok = find_parts(&p) && read_model(&p) && read_all_added(&p) &&
              bt__read_normalizer(&p.l, p.normalizer) &&
              bt__read_pre_tokenizer(&p.l, p.pre_tokenizer) &&
              bt__read_post_processor(&p.l, p.post_processor) && bt__read_decoder(&p.l, p.decoder);
    BT_ASSERT(ok == (p.l.status == BT_OK));
    if (ok) finish(s);
    return p.l.status;
}
