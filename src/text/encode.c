/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - text to tokens.
 *
 * STAGES   1. User-defined tokens (and control tokens, if the caller wants them) are cut out of the
 * raw text, leftmost and longest first.
 *          2. What lies between is normalized: SPM puts a space in front, Qwen2 wants NFC.
 *          3. It is cut into words: by the model's regular expression, or (SPM) where a run of
 * spaces begins.
 *          4. Each word is merged (encode_merge.c); short ones are remembered with their ids.
 * SPACES   SPM's U+2581 and the space are one byte here: the vocabulary's bytes already hold
 * spaces, and U+2581 in the text becomes one, which is what escaping all spaces would have made of
 * both. WORDS    Cutting SPM text into words is exact only where no piece holds a space after
 * another character; that is looked up in the vocabulary, and otherwise the whole text is one word.
 * MEMORY   Scratch grows with the largest text seen and is given back above KEEP_BYTES_MAX. */
#include "text/encode.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/encode_nfc.h"
#include "text/encode_parts.h"
#include <math.h>
#include <string.h>

enum { MERGES_MAX = 1 << 23, CACHE_SLOTS = 1 << 14, WORD_BYTES = 22, WORD_IDS = 10 };
enum { KEEP_BYTES_MAX = 96 << 20 };

/* A word and its tokens: one cache line. */
typedef struct word {
    uint8_t n, n_ids; // n == 0: free
    char s[WORD_BYTES];
    int32_t ids[WORD_IDS];
} word;

struct bt_encoder {
    const bt_tokenizer *t; // borrowed
    bt_pretok_match *match;
    bt__merger merger;
    word *cache;  // owned [CACHE_SLOTS]
    int32_t *ids; // owned
    size_t n_ids, cap_ids;
    char *norm; // owned: the normalized piece of text
    size_t cap_norm;
    int32_t *points; // owned: code points while normalizing, in two halves
    size_t cap_points;
};

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the tokenizer");
}

/* ---- Opening: everything the file says about merging is checked here, once, so that encoding
 * cannot fail on it. */

typedef struct merges {
    bt_tokenizer *t;
    bt_err *err;
    bt_status status;
    char raw[2 * BT_VOCAB_PIECE_BYTES_MAX];
} merges;

/* "left right", both in byte-level spelling. */
static bool add_merge(void *ud, size_t i, bt_str s)
{
    merges *m = ud;
    const char *space = s.n > 2 ? memchr(s.s + 1, ' ', s.n - 2) : NULL;
    size_t n_left, n_right, left_len = space ? (size_t)(space - s.s) : 0;
    bool ok = space && s.n <= sizeof m->raw;
    ok = ok && bt__byte_level_decode(s.s, left_len, m->raw, &n_left);
    ok = ok && bt__byte_level_decode(space + 1, s.n - left_len - 1, m->raw + n_left, &n_right);
    if (!ok) {
        m->status =
            bt_err_set(m->err, BT_EFORMAT, 0,
                       "entry %zu of tokenizer.ggml.merges is not two byte-level pieces", i);
        return false;
    }
    const bt__pieces *p = &m->t->pieces;
    int32_t left = bt__pieces_find(p, m->raw, n_left);
    int32_t right = bt__pieces_find(p, m->raw + n_left, n_right);
    int32_t both = bt__pieces_find(p, m->raw, n_left + n_right);
    if (left < 0 || right < 0 || both < 0) {
        m->status = bt_err_set(m->err, BT_EFORMAT, 0,
                               "entry %zu of tokenizer.ggml.merges names a piece that is not in "
                               "tokenizer.ggml.tokens",
                               i);
        return false;
    }
    uint64_t key = ((uint64_t)left + 1) << 32 | (uint32_t)right;
    if (!bt_map_put(&m->t->merges, key, (uint64_t)i << 32 | (uint32_t)both)) {
        m->status = no_memory(m->err);
        return false;
    }
    return true;
}

static bt_status open_bpe(bt_tokenizer *t, const bt_gguf *file, bt_err *err)
{
    static const char key[] = "tokenizer.ggml.merges";
    size_t n = 0;
    int type = bt_gguf_array(file, key, &n);
    if (type != BT_GGUF_STRING || n > MERGES_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "%s %s", key,
                          type < 0                 ? "is missing"
                          : type != BT_GGUF_STRING ? "is not an array of strings"
                                                   : "has more than 8388608 entries");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        t->byte_id[byte] = bt__pieces_find(&t->pieces, &c, 1);
        bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
        if (in_utf8 && t->byte_id[byte] < 0 && t->unk < 0)
            return bt_err_set(
                err, BT_EFORMAT, 0,
                "tokenizer.ggml.tokens has no token for byte 0x%02X and no unknown token",
                (unsigned)byte);
    }
    merges *m = bt_malloc(sizeof *m);
    if (!m || !bt_map_reserve(&t->merges, n)) {
        bt_free(m);
        return no_memory(err);
    }
    m->t = t;
    m->err = err;
    m->status = BT_OK;
    bt_gguf_each_string(file, key, add_merge, m);
    bt_status st = m->status;
    bt_free(m);
    if (st) return st;
    bt_vocab_pretok pretok = bt_vocab_pretok_of(t->vocab);
    t->nfc = pretok == BT_VOCAB_PRETOK_QWEN2;
    t->ignore_merges = pretok == BT_VOCAB_PRETOK_LLAMA3;
    return bt_pretok_open(pretok, &t->pretok, err);
}

/* Scores order the merges, the highest first: their bits as integers, turned around. */
static uint32_t score_order(float score)
{
    uint32_t bits;
    score += 0.0f; // -0 becomes 0
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~bits;
}

/* True if no piece that text can become goes on with a space after another character. */
static bool words_are_apart(const bt_vocab *v)
{
    for (int32_t id = 0; id < bt_vocab_size(v); id++) {
        size_t n;
        const char *s = bt_vocab_bytes(v, id, &n);
        bt_token_kind kind = bt_vocab_token_kind(v, id);
        if (kind != BT_TOKEN_NORMAL && kind != BT_TOKEN_USER) continue;
        for (size_t i = 1; i < n; i++)
            if (s[i] == ' ' && s[i - 1] != ' ') return false;
    }
    return true;
}

static bt_status open_spm(bt_tokenizer *t, const bt_gguf *file, bt_err *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    size_t n = 0, n_vocab = (size_t)bt_vocab_size(t->vocab);
    const char *raw = bt_gguf_array_raw(file, key, BT_GGUF_F32, &n);
    if (!raw || n != n_vocab)
        return bt_err_set(err, BT_EFORMAT, 0, "%s %s", key,
                          !bt_gguf_has(file, key) ? "is missing"
                          : !raw                  ? "is not an array of 32-bit floats"
                                                  : "has not one entry a token");
    t->order = bt_malloc(n_vocab * sizeof *t->order);
    if (!t->order) return no_memory(err);
    for (size_t i = 0; i < n_vocab; i++) {
        float score;
        memcpy(&score, raw + 4 * i, 4);
        if (isnan(score))
            return bt_err_set(err, BT_EFORMAT, 0, "%s holds a NaN for token %zu", key, i);
        t->order[i] = score_order(score);
    }
    for (int byte = 0; byte < 256; byte++) t->byte_id[byte] = -1;
    int n_bytes = 0;
    for (int32_t id = (int32_t)n_vocab - 1; id >= 0; id--) {
        size_t len;
        const char *s = bt_vocab_bytes(t->vocab, id, &len);
        if (bt_vocab_token_kind(t->vocab, id) != BT_TOKEN_BYTE) continue;
        n_bytes += t->byte_id[(unsigned char)s[0]] < 0;
        t->byte_id[(unsigned char)s[0]] = id;
    }
    if (n_bytes < 256 && t->unk < 0)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "tokenizer.ggml.tokens has neither all byte tokens nor an unknown token");
    t->split_words = words_are_apart(t->vocab);
    return BT_OK;
}

bt_status bt_tokenizer_open(const bt_gguf *file, const bt_vocab *vocab, bt_tokenizer **out,
                            bt_err *err)
{
    bt_tokenizer *t = bt_calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->vocab = vocab;
    t->kind = bt_vocab_kind_of(vocab);
    t->unk = bt_vocab_unk(vocab);
    t->add_space = bt_vocab_strip_space(vocab);
    bt_status st = bt__pieces_init(&t->pieces, vocab, err);
    if (!st) st = bt__added_init(&t->added, vocab, err);
    if (!st) st = t->kind == BT_VOCAB_SPM ? open_spm(t, file, err) : open_bpe(t, file, err);
    if (st) {
        bt_tokenizer_close(t);
        return st;
    }
    *out = t;
    return BT_OK;
}

void bt_tokenizer_close(bt_tokenizer *t)
{
    if (!t) return;
    bt__pieces_release(&t->pieces);
    bt__added_release(&t->added);
    bt_free(t->order);
    bt_map_release(&t->merges);
    bt_pretok_close(t->pretok);
    bt_free(t);
}

bt_status bt_encoder_open(const bt_tokenizer *t, bt_encoder **out, bt_err *err)
{
    bt_encoder *e = bt_calloc(1, sizeof *e);
    if (!e) return no_memory(err);
    e->t = t;
    e->cache = bt_calloc(CACHE_SLOTS, sizeof *e->cache);
    bt_status st = e->cache ? BT_OK : no_memory(err);
    if (!st && t->pretok) st = bt_pretok_match_open(t->pretok, &e->match, err);
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
    bt_pretok_match_close(e->match);
    bt__merger_release(&e->merger);
    bt_free(e->cache);
    bt_free(e->ids);
    bt_free(e->norm);
    bt_free(e->points);
    bt_free(e);
}

/* ---- Encoding: each stage reserves what it may need for its whole input, so that the loops below
 * cannot fail. */

/* Room for n elements; the content is kept. */
static bool reserve(void *array, size_t *cap, size_t n, size_t element_bytes)
{
    void **p = array;
    if (n <= *cap) return true;
    size_t want = 1024;
    while (want < n) want *= 2;
    void *bigger = bt_realloc(*p, want * element_bytes);
    if (!bigger) return false;
    *p = bigger;
    *cap = want;
    return true;
}

static void trim(void *array, size_t *cap, size_t element_bytes)
{
    void **p = array;
    if (*cap * element_bytes <= KEEP_BYTES_MAX) return;
    bt_free(*p);
    *p = NULL;
    *cap = 0;
}

/* Gives back what an unusually large text took. The ids stay until the next call. */
static void trim_scratch(bt_encoder *e)
{
    trim(&e->norm, &e->cap_norm, 1);
    trim(&e->points, &e->cap_points, sizeof *e->points);
    if (e->merger.cap * (sizeof *e->merger.symbol + 2 * sizeof *e->merger.heap) > KEEP_BYTES_MAX)
        bt__merger_release(&e->merger);
}

static bt_status encode_word(bt_encoder *e, const char *s, size_t n, bt_err *err)
{
    const bt_tokenizer *t = e->t;
    int32_t *ids = e->ids + e->n_ids;
    word *w = NULL;
    if (n <= WORD_BYTES) {
        w = &e->cache[bt_hash(s, n, 0) & (CACHE_SLOTS - 1)];
        if (w->n == n && memcmp(w->s, s, n) == 0) {
            memcpy(ids, w->ids, w->n_ids * sizeof *ids);
            e->n_ids += w->n_ids;
            return BT_OK;
        }
    }
    int32_t whole = t->ignore_merges ? bt__pieces_find(&t->pieces, s, n) : -1;
    size_t n_ids = 1;
    if (whole >= 0) {
        ids[0] = whole;
    } else {
        if (!bt__merger_reserve(&e->merger, n)) return no_memory(err);
        n_ids = bt__merge(&e->merger, t, s, n, ids);
    }
    e->n_ids += n_ids;
    if (!w || n_ids > WORD_IDS) return BT_OK;
    w->n = (uint8_t)n;
    w->n_ids = (uint8_t)n_ids;
    memcpy(w->s, s, n);
    memcpy(w->ids, ids, n_ids * sizeof *ids);
    return BT_OK;
}

/* Where the word that begins at `at` ends: before the next run of spaces. */
static size_t spm_word_end(const char *s, size_t n, size_t at)
{
    while (at < n && s[at] == ' ') at++;
    const char *space = at < n ? memchr(s + at, ' ', n - at) : NULL;
    return space ? (size_t)(space - s) : n;
}

static bt_status encode_spm(bt_encoder *e, const char *s, size_t n, bt_err *err)
{
    size_t len = 0;
    if (!reserve(&e->norm, &e->cap_norm, n + 1, 1) ||
        !reserve(&e->ids, &e->cap_ids, e->n_ids + n + 1, sizeof *e->ids))
        return no_memory(err);
    if (e->t->add_space) e->norm[len++] = ' ';
    for (size_t i = 0; i < n;) {
        if (s[i] == '\xE2' && n - i >= 3 && memcmp(s + i, "\xE2\x96\x81", 3) == 0) {
            e->norm[len++] = ' ';
            i += 3;
        } else {
            e->norm[len++] = s[i++];
        }
    }
    bt_status st = BT_OK;
    for (size_t at = 0, end; !st && at < len; at = end) {
        end = e->t->split_words ? spm_word_end(e->norm, len, at) : len;
        st = encode_word(e, e->norm + at, end - at, err);
    }
    return st;
}

static bt_status encode_bpe(bt_encoder *e, const char *s, size_t n, bt_err *err)
{
    if (e->t->nfc && !bt__nfc_quick(s, n)) {
        size_t half = n * BT__NFC_CODE_POINTS + BT__NFC_SLACK;
        if (!reserve(&e->norm, &e->cap_norm, n * BT__NFC_BYTES, 1) ||
            !reserve(&e->points, &e->cap_points, 2 * half, sizeof *e->points))
            return no_memory(err);
        n = bt__nfc(s, n, e->points, e->points + half, e->norm);
        s = e->norm;
    }
    if (!reserve(&e->ids, &e->cap_ids, e->n_ids + n, sizeof *e->ids)) return no_memory(err);
    bt_status st = BT_OK;
    for (size_t at = 0, end = 0; !st && at < n; at = end) {
        st = bt_pretok_next(e->t->pretok, e->match, s, n, at, &end, err);
        if (!st) st = encode_word(e, s + at, end - at, err);
    }
    return st;
}

static bt_status push_id(bt_encoder *e, int32_t id, bt_err *err)
{
    if (!reserve(&e->ids, &e->cap_ids, e->n_ids + 1, sizeof *e->ids)) return no_memory(err);
    e->ids[e->n_ids++] = id;
    return BT_OK;
}

static bt_status encode_text(bt_encoder *e, const char *text, size_t n, bool special, bt_err *err)
{
    bt_status st = BT_OK;
    for (size_t at = 0; !st && at < n;) {
        size_t start = n, end = n;
        int32_t id = -1;
        bt__added_next(&e->t->added, text, n, at, special, &start, &end, &id);
        if (start > at)
            st = e->t->kind == BT_VOCAB_SPM ? encode_spm(e, text + at, start - at, err)
                                            : encode_bpe(e, text + at, start - at, err);
        if (!st && id >= 0) st = push_id(e, id, err);
        at = end;
    }
    return st;
}

bt_status bt_encode(bt_encoder *e, const char *text, size_t n, const bt_encode_options *opt,
                    size_t n_max, const int32_t **ids, size_t *n_ids, bt_err *err)
{
    const bt_vocab *v = e->t->vocab;
    if (n > BT_ENCODE_BYTES_MAX)
        return bt_err_set(err, BT_ETOOBIG, 0, "the text has %zu bytes; at most %d can be encoded",
                          n, BT_ENCODE_BYTES_MAX);
    size_t valid = bt_utf8_valid_prefix(text, n);
    if (valid != n)
        return bt_err_set(err, BT_EINVAL, 0, "the text is not valid UTF-8 at byte %zu", valid);
    trim(&e->ids, &e->cap_ids, sizeof *e->ids);
    e->n_ids = 0;
    bt_status st = BT_OK;
    if (opt->add_special && bt_vocab_add_bos(v)) st = push_id(e, bt_vocab_bos(v), err);
    if (!st) st = encode_text(e, text, n, opt->parse_special, err);
    if (!st && opt->add_special && bt_vocab_add_eos(v)) st = push_id(e, bt_vocab_eos_token(v), err);
    trim_scratch(e);
    if (st) return st;
    if (n_max && e->n_ids > n_max)
        return bt_err_set(err, BT_ECONTEXT, 0, "the text has %zu tokens; at most %zu fit", e->n_ids,
                          n_max);
    *ids = e->ids;
    *n_ids = e->n_ids;
    return BT_OK;
}
