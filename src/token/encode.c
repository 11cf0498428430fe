/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - text to tokens.
 *
 * STAGES   1. Added tokens are cut out of the raw text, leftmost and longest first.
 *          2. What lies between is normalized, piece by piece, and added tokens that are looked for
 *             in normalized text are cut out of it.
 *          3. The rest is cut into words by the pre-tokenizer.
 *          4. Each word is encoded by the model; short ones are remembered with their ids.
 * PARTS    Models of characters often have no pre-tokenizer, and a word is the whole text. It is
 * cut where no piece of the vocabulary holds the two characters side by side, which changes nothing
 * and keeps words short (bt__pairs). Only an unknown token may span such a cut, and is put together
 * again.
 *
 * MEMORY  Scratch grows with the largest text seen and is given back above KEEP_BYTES_MAX. */
#include "token/encode.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/unicode/char_class.h"
#include "token/encode_parts.h"
#include <string.h>

enum { CACHE_SLOTS = 1 << 14, WORD_BYTES = 22, WORD_IDS = 10 };
enum { KEEP_BYTES_MAX = 96 << 20 };

/* A word and its tokens: one cache line. */
typedef struct word {
    uint8_t n, n_ids; // n == 0: free
    char s[WORD_BYTES];
    int32_t ids[WORD_IDS];
} word;

struct bt_encoder {
    const bt_tokenizer *t; // borrowed
    bt_normalize_state *normal;
    bt_pretok_state *split;
    bt__merger merger;
    bt_unigram_scratch unigram;
    word *cache;  // owned [CACHE_SLOTS]
    int32_t *ids; // owned
    size_t n_ids, cap_ids;
    size_t n_max;  // of the call at hand; 0 = no bound
    bt_stop *stop; // the same; NULL: nothing ends it early
};

bt_status bt_encoder_open(const bt_tokenizer *t, bt_encoder **out, bt_err *err)
{
    bt_encoder *e = bt_calloc(1, sizeof *e);
    if (!e) return bt__no_memory(err);
    e->t = t;
    e->cache = bt_calloc(CACHE_SLOTS, sizeof *e->cache);
    bt_status st = e->cache ? BT_OK : bt__no_memory(err);
    if (!st && t->normalize) st = bt_normalize_state_open(t->normalize, &e->normal, err);
    if (!st) st = bt_pretok_state_open(t->pretok, &e->split, err);
    if (st) {
        bt_encoder_close(e);
        return st;
    }
    *out = e;
    return BT_OK;
}

void bt_encoder_close(bt_encoder *e)
{
    if (!e) return;
    bt_normalize_state_close(e->normal);
    bt_pretok_state_close(e->split);
    bt__merger_release(&e->merger);
    bt_unigram_scratch_release(&e->unigram);
    bt_free(e->cache);
    bt_free(e->ids);
    bt_free(e);
}

/* Room for n more ids. */
static bool reserve_ids(bt_encoder *e, size_t n)
{
    size_t need = e->n_ids + n, want = 1024;
    if (need <= e->cap_ids) return true;
    while (want < need) want *= 2;
    int32_t *bigger = bt_realloc(e->ids, want * sizeof *bigger);
    if (!bigger) return false;
    e->ids = bigger;
    e->cap_ids = want;
    return true;
}

/* Counts the bytes that were just encoded: whether to go on. Ids that are there stay there, so what
 * is too long is known before its end. */
static bt_status go_on(bt_encoder *e, size_t n, bt_err *err)
{
    if (e->n_max && e->n_ids > e->n_max)
        return bt_err_set(err, BT_ECONTEXT, 0, "the text has more than %zu tokens", e->n_max);
    return bt_stop_after(e->stop, n) ? bt_stop_why(e->stop, err) : BT_OK;
}

static bt_status push_id(bt_encoder *e, int32_t id, bt_err *err)
{
    if (!reserve_ids(e, 1)) return bt__no_memory(err);
    e->ids[e->n_ids++] = id;
    return BT_OK;
}

/* ---- Words. */

/* The model's tokens for a word, at the end of the ids, which have room. */
static bt_status model_encode(bt_encoder *e, const char *s, size_t n, size_t *n_ids, bt_err *err)
{
    const bt_tokenizer *t = e->t;
    int32_t *ids = e->ids + e->n_ids;
    if (t->unigram) return bt_unigram_encode(t->unigram, &e->unigram, s, n, ids, n_ids, err);
    if (t->wordpiece) return bt_wordpiece_encode(t->wordpiece, s, n, ids, n_ids, err);
    if (!bt__merger_reserve(&e->merger, t, n)) return bt__no_memory(err);
    *n_ids = bt__merge(&e->merger, t, s, n, ids);
    return e->stop && e->stop->why ? bt_stop_why(e->stop, err) : BT_OK;
}

static bt_status encode_part(bt_encoder *e, const char *s, size_t n, bt_err *err)
{
    word *w = NULL;
    size_t n_ids = 0;
    if (!reserve_ids(e, bt__merge_room(e->t, n))) return bt__no_memory(err);
    int32_t *ids = e->ids + e->n_ids;
    if (n <= WORD_BYTES) {
        w = &e->cache[bt_hash(s, n, 0) & (CACHE_SLOTS - 1)];
        if (w->n == n && memcmp(w->s, s, n) == 0) {
            memcpy(ids, w->ids, w->n_ids * sizeof *ids);
            e->n_ids += w->n_ids;
            return BT_OK;
        }
    }
    bt_status st = model_encode(e, s, n, &n_ids, err);
    if (st) return st;
    e->n_ids += n_ids;
    if (!w || n_ids > WORD_IDS) return BT_OK;
    w->n = (uint8_t)n;
    w->n_ids = (uint8_t)n_ids;
    memcpy(w->s, s, n);
    memcpy(w->ids, ids, n_ids * sizeof *ids);
    return BT_OK;
}

static bt_status on_word(void *ud, const char *s, size_t n, bt_err *err)
{
    bt_encoder *e = ud;
    const bt_tokenizer *t = e->t;
    int32_t whole = t->ignore_merges ? bt__pieces_find(&t->pieces, s, n) : -1;
    if (whole >= 0) {
        bt_status st = push_id(e, whole, err);
        return st ? st : go_on(e, n, err);
    }
    size_t begin = e->n_ids;
    bt_status st = BT_OK;
    for (size_t at = 0, end; !st && at < n; at = end) {
        size_t before = e->n_ids;
        end = bt__pairs_end(&t->pairs, s, n, at);
        st = encode_part(e, s + at, end - at, err);
        bool meets = before > begin && e->n_ids > before && e->ids[before] == t->unk;
        if (!st && t->fuse_unk && meets && e->ids[before - 1] == t->unk) {
            e->n_ids--;
            memmove(e->ids + before, e->ids + before + 1, (e->n_ids - before) * sizeof *e->ids);
        }
        if (!st) st = go_on(e, end - at, err);
    }
    return st;
}

/* ---- The text around them. */

static bool word_before(const char *s, size_t at)
{
    size_t from = at;
    uint32_t cp;
    if (at == 0) return false;
    do from--;
    while (from > 0 && bt_utf8_is_tail(s[from]));
    bt_utf8_decode(s + from, at - from, &cp);
    return bt__char_is_word(cp);
}

static bool word_after(const char *s, size_t n, size_t at)
{
    uint32_t cp;
    return at < n && bt_utf8_decode(s + at, n - at, &cp) && bt__char_is_word(cp);
}

/* Back from `at` over white space, at most to `least`. */
static size_t space_before(const char *s, size_t at, size_t least)
{
    while (at > least) {
        size_t from = at;
        uint32_t cp;
        do from--;
        while (from > least && bt_utf8_is_tail(s[from]));
        if (!bt_utf8_decode(s + from, at - from, &cp) || !bt__char_is_space(cp)) break;
        at = from;
    }
    return at;
}

static size_t space_after(const char *s, size_t n, size_t at)
{
    uint32_t cp;
    while (at < n) {
        size_t step = bt_utf8_decode(s + at, n - at, &cp);
        if (!bt__char_is_space(cp)) break;
        at += step;
    }
    return at;
}

typedef bt_status (*piece_fn)(bt_encoder *e, const char *s, size_t n, bool first, bool parse,
                              bt_err *err);

/* Cuts the added tokens out of s and gives what lies between to fn. */
static bt_status cut_added(bt_encoder *e, const bt__added *a, bt__added_rule *rule, const char *s,
                           size_t n, bool first, piece_fn fn, bt_err *err)
{
    size_t done = 0, from = 0, start, end;
    bool parse = rule->parse && rule->n_user == 0;
    for (int32_t i; (i = bt__added_next(a, rule, s, n, from, &start, &end)) >= 0;) {
        const bt__added_token *token = &a->token[i];
        from = end;
        if (token->single_word && (word_before(s, start) || word_after(s, n, end))) continue;
        if (token->lstrip) start = BT_MAX(space_before(s, start, BT_MIN(done, start)), done);
        if (token->rstrip) end = space_after(s, n, end);
        bt_status st = BT_OK;
        if (done < start) st = fn(e, s + done, start - done, first && done == 0, parse, err);
        /* White space that the token before took whole leaves nothing of this one. */
        if (!st && start < end) st = push_id(e, token->id, err);
        if (!st) st = go_on(e, 8, err); // some bytes of a token
        if (st) return st;
        done = end;
    }
    return done < n ? fn(e, s + done, n - done, first && done == 0, parse, err) : BT_OK;
}

static bt_status split_piece(bt_encoder *e, const char *s, size_t n, bool first, bool parse,
                             bt_err *err)
{
    (void)parse;
    return bt_pretok_run(e->t->pretok, e->split, s, n, first, on_word, e, err);
}

static bt_status normalize_piece(bt_encoder *e, const char *s, size_t n, bool first, bool parse,
                                 bt_err *err)
{
    const bt_tokenizer *t = e->t;
    bt_status st =
        t->normalize ? bt_normalize_run(t->normalize, e->normal, &s, &n, e->stop, err) : BT_OK;
    if (!st) st = go_on(e, n, err);
    if (st || n == 0) return st;
    first = first && !(t->normalize && bt_normalize_moved(e->normal));
    if (t->added_normal.n_tokens == 0) return split_piece(e, s, n, first, parse, err);
    bt__added_rule rule = {.parse = parse};
    return cut_added(e, &t->added_normal, &rule, s, n, first, split_piece, err);
}

static bt_status push_ids(bt_encoder *e, const int32_t *ids, size_t n, bt_err *err)
{
    if (!reserve_ids(e, n)) return bt__no_memory(err);
    if (n) memcpy(e->ids + e->n_ids, ids, n * sizeof *ids);
    e->n_ids += n;
    return BT_OK;
}

bt_status bt_encode(bt_encoder *e, const char *text, size_t n, const bt_encode_options *opt,
                    size_t n_max, const int32_t **ids, size_t *n_ids, bt_err *err)
{
    const bt_vocab *v = e->t->vocab;
    if (n > BT_ENCODE_BYTES_MAX)
        return bt_err_set(err, BT_ETOOBIG, 0, "the text has %zu bytes; at most %d can be encoded",
                          n, BT_ENCODE_BYTES_MAX);
    size_t valid = bt_utf8_valid_prefix(text, n), n_prefix, n_suffix;
    if (valid != n)
        return bt_err_set(err, BT_EINVAL, 0, "the text is not valid UTF-8 at byte %zu", valid);
    if (n_max && e->t->token_bytes && n / e->t->token_bytes > n_max)
        return bt_err_set(err, BT_ECONTEXT, 0, "the text has more than %zu tokens", n_max);
    if (e->cap_ids * sizeof *e->ids > KEEP_BYTES_MAX) {
        bt_free(e->ids);
        e->ids = NULL;
        e->cap_ids = 0;
    }
    e->n_ids = 0;
    e->n_max = n_max;
    e->stop = e->merger.stop = e->unigram.stop = opt->stop;
    const int32_t *prefix = bt_vocab_prefix(v, &n_prefix), *suffix = bt_vocab_suffix(v, &n_suffix);
    bt__added_rule rule = {.parse = opt->parse_special, .user = opt->user, .n_user = opt->n_user};
    bt_status st = opt->add_special ? push_ids(e, prefix, n_prefix, err) : BT_OK;
    if (!st) st = cut_added(e, &e->t->added, &rule, text, n, true, normalize_piece, err);
    if (!st && opt->add_special) st = push_ids(e, suffix, n_suffix, err);
    /* What an unusually large text took goes back. The ids stay until the next call. */
    if (e->normal) bt_normalize_state_trim(e->normal, KEEP_BYTES_MAX);
    bt_pretok_state_trim(e->split, KEEP_BYTES_MAX);
    if (bt__queue_bytes(&e->merger.queue) > KEEP_BYTES_MAX) bt__merger_release(&e->merger);
    if (e->unigram.cap > KEEP_BYTES_MAX / 16) bt_unigram_scratch_release(&e->unigram);
    if (!st) st = go_on(e, 0, err);
    if (st) return st;
    *ids = e->ids;
    *n_ids = e->n_ids;
    return BT_OK;
}
