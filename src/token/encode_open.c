/* SPDX-License-Identifier: Apache-2.0 */
/* encode_open.c - a tokenizer's description compiled: everything it says is checked here, once, so
 * that encoding cannot fail on it.
 *
 * RAW      Where ByteLevel is the last thing that happens to the text, words stay raw bytes and the
 * vocabulary is looked up by them: nothing is spelled per request. Everywhere else words are
 * spelled as the file spells its pieces. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/encode_parts.h"
#include <stdio.h>
#include <string.h>

static bool stays_raw(const bt_spec *s)
{
    if (s->kind != BT_VOCAB_BPE || s->byte_fallback || s->subword_prefix.n || s->word_suffix.n)
        return false;
    if (!s->n_chain || s->chain[0].kind != BT_CHAIN_BYTES) return false;
    for (size_t i = 0; i < s->n_normal; i++)
        if (s->normal[i].kind == BT_NORMAL_BYTE_LEVEL) return false;
    for (size_t i = 0; i < s->n_split; i++)
        if ((s->split[i].kind == BT_SPLIT_BYTE_LEVEL) != (i + 1 == s->n_split)) return false;
    return s->n_split > 0;
}

/* ---- Added tokens. */

static bt_status add_normalized(bt_tokenizer *t, bt_normalize_state *state, const bt_added *token,
                                const bt__added_token *entry, bt_err *err)
{
    const char *s = token->content.s;
    size_t n = token->content.n;
    bt_status st = t->normalize ? bt_normalize_run(t->normalize, state, &s, &n, NULL, err) : BT_OK;
    return st ? st : bt__added_insert(&t->added_normal, s, n, entry, err);
}

static bt_status open_added(bt_tokenizer *t, const bt_spec *spec, bt_err *err)
{
    bt_normalize_state *state = NULL;
    bt_status st = bt__added_init(&t->added, spec->n_added, err);
    if (!st) st = bt__added_init(&t->added_normal, spec->n_added, err);
    if (!st && t->normalize) st = bt_normalize_state_open(t->normalize, &state, err);
    /* Of equal texts the special one counts, and makes the others special. */
    for (int special = 1; special >= 0; special--)
        for (size_t i = 0; !st && i < spec->n_added; i++) {
            const bt_added *token = &spec->added[i];
            if (token->special != (special == 1)) continue;
            bool is_special = token->special || spec->piece[token->id].kind == BT_TOKEN_CONTROL;
            bt__added_token entry = {token->id,     is_special,         token->lstrip,
                                     token->rstrip, token->single_word, false};
            if (token->normalized) st = add_normalized(t, state, token, &entry, err);
            /* What a user wrote cannot be told from the rest once the text is normalized: with
             * marked parts, special tokens are all looked for before. */
            entry.guarded = token->normalized;
            if (!st && (!token->normalized || is_special))
                st = bt__added_insert(&t->added, token->content.s, token->content.n, &entry, err);
        }
    bt_normalize_state_close(state);
    return st;
}

/* ---- Models. */

enum { AHEAD = 8 }; // merges, of the one that is put

static uint64_t merge_key(const bt_spec_merge *m)
{
    return ((uint64_t)m->left + 1) << 32 | (uint32_t)m->right;
}

static bt_status open_affix(char **out, size_t *n_out, bt_str affix, bt_err *err)
{
    if (affix.n == 0) return BT_OK;
    if (affix.n > BT__AFFIX_BYTES_MAX)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "the tokenizer's subword prefix or suffix has %zu bytes; at most %d are "
                          "supported",
                          affix.n, BT__AFFIX_BYTES_MAX);
    *out = bt_strndup(affix.s, affix.n);
    *n_out = affix.n;
    return *out ? BT_OK : bt__no_memory(err);
}

/* A byte token or the unknown token: they stand for other characters than their spelling has. */
static bool is_stand_in(const bt_tokenizer *t, const bt_spec *s, int32_t id)
{
    int byte = t->byte_fallback ? bt_spec_byte_of(bt_spec_text(s, id)) : -1;
    return id == t->unk || (byte >= 0 && t->byte_id[byte] == id);
}

/* Whether words may be merged in parts, see bt__pairs. Not where characters are left out, which
 * brings together what was apart; nor where merges join or make stand-ins; nor where some bytes are
 * tokens and others unknown: the library lets bytes overtake an unknown character before them. */
static bool parts_apart(const bt_tokenizer *t, const bt_spec *s)
{
    int n_bytes = 0;
    if (t->raw || t->prefix || t->suffix) return false;
    for (int byte = 0; t->byte_fallback && byte < 256; byte++) n_bytes += t->byte_id[byte] >= 0;
    if (n_bytes < 256 && (n_bytes > 0 || t->unk < 0)) return false;
    bt_str unk = t->unk >= 0 ? bt_spec_text(s, t->unk) : (bt_str){0};
    uint32_t cp;
    if (unk.n && bt_utf8_decode(unk.s, unk.n, &cp) == unk.n) return false; // a plain character too
    for (size_t i = 0; i < s->n_merges; i++) {
        const bt_spec_merge *m = &s->merge[i];
        if (m->both == t->unk || is_stand_in(t, s, m->left) || is_stand_in(t, s, m->right))
            return false;
    }
    return true;
}

static bt_status open_bpe(bt_tokenizer *t, const bt_spec *s, bt_err *err)
{
    bt_status st = open_affix(&t->prefix, &t->n_prefix, s->subword_prefix, err);
    if (!st) st = open_affix(&t->suffix, &t->n_suffix, s->word_suffix, err);
    t->n_ranks = s->n_merges;
    if (!st && !bt_map_reserve(&t->merges, s->n_merges)) st = bt__no_memory(err);
    for (size_t i = 0; !st && i < s->n_merges; i++) {
        const bt_spec_merge *m = &s->merge[i];
        int kind = s->piece[m->both].kind;
        if (i + AHEAD < s->n_merges) bt_map_prefetch(&t->merges, merge_key(m + AHEAD));
        if (kind == BT_TOKEN_CONTROL || kind == BT_TOKEN_UNKNOWN) continue;
        if (!bt_map_put(&t->merges, merge_key(m), (uint64_t)i << 32 | (uint32_t)m->both))
            st = bt__no_memory(err);
    }
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte, name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        int32_t id = t->raw ? bt__pieces_find(&t->pieces, &c, 1) : bt_spec_find(s, name, 6);
        t->byte_id[byte] = !t->raw && id >= 0 && !s->piece[id].in_model ? -1 : id;
    }
    return !st && parts_apart(t, s) ? bt__pairs_init(&t->pairs, s, err) : st;
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

static bt_status open_spm(bt_tokenizer *t, const bt_spec *s, bt_err *err)
{
    int n_bytes = 0;
    t->order = bt_malloc(s->n_pieces * sizeof *t->order);
    if (!t->order) return bt__no_memory(err);
    for (int byte = 0; byte < 256; byte++) t->byte_id[byte] = -1;
    for (size_t i = s->n_pieces; i-- > 0;) {
        t->order[i] = score_order((float)s->piece[i].score);
        int byte = bt_spec_byte_of(bt_spec_text(s, (int32_t)i));
        if (s->piece[i].kind != BT_TOKEN_BYTE || byte < 0) continue;
        n_bytes += t->byte_id[byte] < 0;
        t->byte_id[byte] = (int32_t)i;
    }
    if (n_bytes < 256 && t->unk < 0)
        return bt_spec_refuse(s, err, BT_EFORMAT,
                              "the vocabulary has neither all byte tokens nor an unknown token");
    return bt__pairs_init(&t->pairs, s, err);
}

static bool special_piece(const bt_spec_piece *p)
{
    return p->kind == BT_TOKEN_CONTROL || p->kind == BT_TOKEN_UNKNOWN;
}

static bt_status open_unigram(bt_tokenizer *t, const bt_spec *s, bt_err *err)
{
    bt_unigram_piece *piece = bt_calloc(s->n_pieces, sizeof *piece);
    if (!piece) return bt__no_memory(err);
    for (size_t i = 0; i < s->n_pieces; i++) {
        const bt_spec_piece *p = &s->piece[i];
        bt_str text = p->in_model ? bt_spec_text(s, (int32_t)i) : (bt_str){0};
        bool plain = p->kind == BT_TOKEN_NORMAL || p->kind == BT_TOKEN_USER;
        piece[i] = (bt_unigram_piece){.s = text.s,
                                      .n = (uint32_t)text.n,
                                      .score = p->score,
                                      .absent = !p->in_model || special_piece(p) ||
                                                (s->sentencepiece && !plain),
                                      .user = p->kind == BT_TOKEN_USER};
    }
    bt_unigram_options opt = {
        .unk = s->unk, .byte_fallback = s->byte_fallback, .sentencepiece = s->sentencepiece};
    bt_status st = bt_unigram_open(piece, s->n_pieces, &opt, &t->unigram, err);
    bt_free(piece);
    return st;
}

static bt_status open_wordpiece(bt_tokenizer *t, const bt_spec *s, bt_err *err)
{
    size_t n = 0;
    bt_wordpiece_piece *piece = bt_calloc(s->n_pieces, sizeof *piece);
    if (!piece) return bt__no_memory(err);
    for (size_t i = 0; i < s->n_pieces; i++) {
        bt_str text = bt_spec_text(s, (int32_t)i);
        if (!s->piece[i].in_model || !s->piece[i].kind || special_piece(&s->piece[i])) continue;
        piece[n++] = (bt_wordpiece_piece){text.s, (uint32_t)text.n, (int32_t)i};
    }
    bt_wordpiece_options opt = {.prefix = s->subword_prefix.s,
                                .n_prefix = s->subword_prefix.n,
                                .max_chars = s->max_chars,
                                .unk = s->unk,
                                .whole = s->kind == BT_VOCAB_WORDLEVEL};
    bt_status st = bt_wordpiece_open(piece, n, &opt, &t->wordpiece, err);
    bt_free(piece);
    return st;
}

static bt_status open_model(bt_tokenizer *t, const bt_spec *s, bt_err *err)
{
    bt_status st = BT_OK;
    if (s->kind == BT_VOCAB_UNIGRAM) return open_unigram(t, s, err);
    if (s->kind == BT_VOCAB_WORDPIECE || s->kind == BT_VOCAB_WORDLEVEL)
        return open_wordpiece(t, s, err);
    st = bt__pieces_init(&t->pieces, s, t->vocab, t->raw, err);
    if (st) return st;
    return s->kind == BT_VOCAB_SPM ? open_spm(t, s, err) : open_bpe(t, s, err);
}

/* ---- The length of a token. */

/* What the text loses on its way to the model: the most bytes of it that become one, 1 where it
 * only grows; 0: there is no such number. */
static size_t shrinks(const bt_spec *s)
{
    enum { NFC_MAX = 4 }; // a syllable of three jamo, a letter with three marks: less than that
    size_t times = 1;
    for (size_t i = 0; i < s->n_normal; i++) {
        const bt_normal_step *x = &s->normal[i];
        bool grows = x->kind == BT_NORMAL_PREPEND || x->kind == BT_NORMAL_BYTE_LEVEL ||
                     (x->kind == BT_NORMAL_REPLACE && !x->regex && x->pattern.n <= x->content.n);
        if (x->kind == BT_NORMAL_NFC)
            times *= NFC_MAX;
        else if (!grows)
            return 0;
    }
    for (size_t i = 0; i < s->n_split; i++) {
        const bt_split_step *x = &s->split[i];
        bool cuts = x->kind == BT_SPLIT_PATTERN || x->kind == BT_SPLIT_PUNCTUATION ||
                    x->kind == BT_SPLIT_DIGITS;
        bool keeps = x->kind == BT_SPLIT_BYTE_LEVEL || x->kind == BT_SPLIT_METASPACE ||
                     x->kind == BT_SPLIT_LENGTH || (cuts && x->behavior != BT_SPLIT_REMOVED);
        if (!keeps) return 0;
    }
    for (size_t i = 0; i < s->n_added; i++)
        if (s->added[i].lstrip || s->added[i].rstrip) return 0;
    return times;
}

/* Every byte ends up in a token of its own or a longer one: only where each has a token. */
static size_t token_bytes(const bt_tokenizer *t, const bt_spec *s)
{
    bool pairs = t->kind == BT_VOCAB_SPM || t->kind == BT_VOCAB_BPE;
    size_t longest = t->pieces.longest;
    if (!pairs || !(t->raw || t->kind == BT_VOCAB_SPM || t->byte_fallback)) return 0;
    for (int byte = 0; byte < 256; byte++)
        if (t->byte_id[byte] < 0) return 0;
    for (size_t i = 0; i < s->n_added; i++) longest = BT_MAX(longest, s->added[i].content.n);
    return longest * shrinks(s);
}

size_t bt_tokenizer_token_bytes(const bt_tokenizer *t)
{
    return t->token_bytes;
}

bt_status bt_tokenizer_build(const bt_spec *spec, const bt_vocab *vocab, bt_tokenizer **out,
                             bt_err *err)
{
    bt_tokenizer *t = bt_calloc(1, sizeof *t);
    if (!t) return bt__no_memory(err);
    BT_ASSERT((size_t)bt_vocab_size(vocab) == spec->n_pieces);
    t->vocab = vocab;
    t->kind = spec->kind;
    t->unk = spec->unk;
    t->fuse_unk = spec->fuse_unk || spec->kind == BT_VOCAB_SPM;
    t->byte_fallback = spec->byte_fallback;
    t->ignore_merges = spec->ignore_merges;
    t->raw = stays_raw(spec);
    bt_status st = open_model(t, spec, err);
    if (!st && spec->n_normal)
        st = bt_normalize_open(spec->normal, spec->n_normal, &t->normalize, err);
    if (!st) st = bt_pretok_open(spec->split, spec->n_split, t->raw, &t->pretok, err);
    if (!st) st = open_added(t, spec, err);
    if (!st) t->token_bytes = token_bytes(t, spec);
    if (st) {
        bt_tokenizer_close(t);
        return st;
    }
    *out = t;
    return BT_OK;
}

bt_status bt_tokenizer_open(const bt_gguf *file, const bt_vocab *vocab, bt_tokenizer **out,
                            bt_err *err)
{
    bt_spec spec;
    bt_spec_init(&spec, bt_gguf_path(file));
    bt_status st = bt_spec_read_gguf(&spec, file, false, err);
    if (!st) st = bt_tokenizer_build(&spec, vocab, out, err);
    bt_spec_release(&spec);
    return st;
}

void bt_tokenizer_close(bt_tokenizer *t)
{
    if (!t) return;
    bt__pieces_release(&t->pieces);
    bt__pairs_release(&t->pairs);
    bt__added_release(&t->added);
    bt__added_release(&t->added_normal);
    bt_free(t->order);
    bt_map_release(&t->merges);
    bt_free(t->prefix);
    bt_free(t->suffix);
    bt_normalize_close(t->normalize);
    bt_pretok_close(t->pretok);
    bt_unigram_close(t->unigram);
    bt_wordpiece_close(t->wordpiece);
    bt_free(t);
}
