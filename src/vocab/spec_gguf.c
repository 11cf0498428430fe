/* SPDX-License-Identifier: Apache-2.0 */
/* spec_gguf.c - tokenizer.ggml.* of a GGUF file as a tokenizer's description.
 *
 * LENIENT  Files come from many converters. What can be left out without changing other text (an
 * id out of range, types, scores, a piece that is not UTF-8) is left out with a line in the log.
 * KINDS    llama: SentencePiece's BPE, merged by score. gpt2: byte-level BPE, cut by what
 * tokenizer.ggml.pre names. gemma4: BPE over characters. t5: Unigram. bert: WordPiece, whose pieces
 * the file spells with U+2581 before words and nothing before the others.
 * ADDED    Control, unknown and user-defined tokens are cut out of the raw text. The files do not
 * say which of them take the white space beside them; Phi-3's do. */
#include "base/assert.h"
#include "base/log.h"
#include "base/utf8.h"
#include "vocab/spec.h"
#include "vocab/spec_pre.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SPACE_MARK "\xE2\x96\x81"

typedef struct load {
    const bt_gguf *file;
    bt_spec *s;
    bt_err *err;
    bt_status status;
    bt_str model;
    bool quiet; // the file is read for decoding alone: the log has the lines from the other time
    bool add_bos, add_eos, add_space;
    size_t n_odd; // entries left out of the array that is being read
} load;

static const char key_tokens[] = "tokenizer.ggml.tokens";

static bt_str literal(const char *s)
{
    return (bt_str){s, strlen(s)};
}

static void note(const load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(const load *l, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    if (l->quiet) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bt_log(BT_LOG_WARN, "vocab.odd", "file=\"%.100s\" why=\"%s\"", bt_gguf_label(l->file), text);
}

static bt_status steps_full(load *l)
{
    return bt_spec_refuse(l->s, l->err, BT_EUNSUPPORTED, "the tokenizer has too many steps");
}

static bool add_replace(bt_spec *s, const char *from, const char *to)
{
    bt_normal_step *step = bt_spec_add_normal(s, BT_NORMAL_REPLACE);
    if (!step) return false;
    step->pattern = literal(from);
    step->content = literal(to);
    return true;
}

/* U+2581 is a space, byte tokens are bytes. */
static bool add_spm_chain(bt_spec *s, bool strip)
{
    bt_chain_step *step = bt_spec_add_chain(s, BT_CHAIN_REPLACE);
    if (!step) return false;
    step->pattern = literal(SPACE_MARK);
    step->content = literal(" ");
    if (!bt_spec_add_chain(s, BT_CHAIN_BYTE_FALLBACK) || !bt_spec_add_chain(s, BT_CHAIN_FUSE))
        return false;
    if (!strip) return true;
    step = bt_spec_add_chain(s, BT_CHAIN_STRIP);
    if (!step) return false;
    step->pattern = literal(" ");
    step->start = 1;
    return true;
}

/* ---- Pieces. */

static bool store_piece(void *ud, size_t i, bt_str text)
{
    load *l = ud;
    if (text.n > BT_VOCAB_PIECE_BYTES_MAX)
        l->status = bt_spec_refuse(l->s, l->err, BT_EFORMAT,
                                   "token %zu of %s has %zu bytes; at most %d are allowed", i,
                                   key_tokens, text.n, BT_VOCAB_PIECE_BYTES_MAX);
    bool utf8 = bt_utf8_valid_prefix(text.s, text.n) == text.n; // else no text is ever cut so
    l->n_odd += !utf8;
    if (!l->status &&
        !bt_spec_set_piece(l->s, (int32_t)i, text.s, text.n, 0, BT_TOKEN_NORMAL, utf8))
        l->status = bt_spec_no_memory(l->s, l->err);
    return l->status == BT_OK;
}

/* WordPiece's own spelling, from the one that GGUF files use. */
static bool store_wordpiece(void *ud, size_t i, bt_str text)
{
    char buf[BT_VOCAB_PIECE_BYTES_MAX + 2];
    if (text.n > BT_VOCAB_PIECE_BYTES_MAX - 2) return store_piece(ud, i, (bt_str){0});
    bool bracketed = text.n > 2 && text.s[0] == '[' && text.s[text.n - 1] == ']';
    if (bracketed || text.n == 0) return store_piece(ud, i, text);
    size_t mark = strlen(SPACE_MARK);
    if (text.n >= mark && memcmp(text.s, SPACE_MARK, mark) == 0)
        return store_piece(ud, i, (bt_str){text.s + mark, text.n - mark});
    memcpy(buf, "##", 2);
    memcpy(buf + 2, text.s, text.n);
    return store_piece(ud, i, (bt_str){buf, text.n + 2});
}

static bt_status load_tokens(load *l)
{
    size_t n = 0;
    int type = bt_gguf_array(l->file, key_tokens, &n);
    if (type != BT_GGUF_STRING)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s is %s", key_tokens,
                              type < 0 ? "missing" : "not an array of strings");
    if (n == 0 || n > BT_VOCAB_SIZE_MAX)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s has %zu entries; 1 to %d are allowed",
                              key_tokens, n, BT_VOCAB_SIZE_MAX);
    if (!bt_spec_reserve(l->s, n)) return bt_spec_no_memory(l->s, l->err);
    l->n_odd = 0;
    bt_gguf_each_string(l->file, key_tokens,
                        l->s->kind == BT_VOCAB_WORDPIECE ? store_wordpiece : store_piece, l);
    if (l->n_odd)
        note(l, "%zu tokens are not UTF-8: decoded as they are, never made of text", l->n_odd);
    return l->status;
}

/* What a token is where the file does not say: bytes, and SentencePiece's own, by their spelling.
 */
static bt_token_kind kind_by_name(const bt_spec *s, bt_str text)
{
    if (s->kind != BT_VOCAB_SPM && s->kind != BT_VOCAB_UNIGRAM) return BT_TOKEN_NORMAL;
    if (bt_spec_byte_of(text) >= 0) return BT_TOKEN_BYTE;
    if (bt_str_is(text, "<unk>")) return BT_TOKEN_UNKNOWN;
    return bt_str_is(text, "<s>") || bt_str_is(text, "</s>") || bt_str_is(text, "<pad>")
               ? BT_TOKEN_CONTROL
               : BT_TOKEN_NORMAL;
}

static bt_status load_kinds(load *l)
{
    static const char key[] = "tokenizer.ggml.token_type";
    bt_spec *s = l->s;
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type >= BT_GGUF_STRING && type != BT_GGUF_U64 && type != BT_GGUF_I64)
        return bt_spec_refuse(s, l->err, BT_EFORMAT, "%s is not an array of integers", key);
    if (type >= 0 && n < s->n_pieces)
        return bt_spec_refuse(s, l->err, BT_EFORMAT, "%s has %zu entries, but there are %zu tokens",
                              key, n, s->n_pieces);
    bool typed = type >= 0;
    if (!typed) note(l, "%s is missing: what a token is goes by its spelling", key);
    const char *raw = bt_gguf_array_raw(l->file, key, BT_GGUF_I32, &n);
    for (size_t i = 0; i < s->n_pieces; i++) {
        int64_t kind = BT_TOKEN_NORMAL;
        bt_str text = bt_spec_text(s, (int32_t)i);
        if (raw) {
            int32_t word;
            memcpy(&word, raw + 4 * i, 4);
            kind = word;
        } else {
            kind = typed ? bt_gguf_array_int(l->file, key, i) : kind_by_name(s, text);
        }
        bool no_byte =
            kind == BT_TOKEN_BYTE && s->kind != BT_VOCAB_BPE && bt_spec_byte_of(text) < 0;
        if (kind < BT_TOKEN_NORMAL || kind > BT_TOKEN_BYTE || no_byte) kind = BT_TOKEN_NORMAL;
        s->piece[i].kind = (uint8_t)kind;
    }
    return BT_OK;
}

static bt_status load_scores(load *l)
{
    static const char key[] = "tokenizer.ggml.scores";
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (!bt_gguf_has(l->file, key)) {
        note(l, "%s is missing: every token counts alike", key);
        return BT_OK;
    }
    if (type < 0 || type == BT_GGUF_STRING || n < l->s->n_pieces)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s %s", key,
                              type < 0 || type == BT_GGUF_STRING ? "is not an array of numbers"
                                                                 : "has not one entry a token");
    const char *raw = bt_gguf_array_raw(l->file, key, BT_GGUF_F32, &n);
    for (size_t i = 0; i < l->s->n_pieces; i++) {
        float score;
        if (raw)
            memcpy(&score, raw + 4 * i, 4);
        else
            score = (float)bt_gguf_array_float(l->file, key, i);
        if (isnan(score))
            return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s holds a NaN for token %zu", key, i);
        l->s->piece[i].score = (double)score;
    }
    return BT_OK;
}

/* "left right": the space is the first one after the left piece's first byte. What names no three
 * tokens can never be applied. */
static bool store_merge(void *ud, size_t i, bt_str text)
{
    load *l = ud;
    bt_spec *s = l->s;
    char both[2 * BT_VOCAB_PIECE_BYTES_MAX];
    const char *space = text.n > 2 ? memchr(text.s + 1, ' ', text.n - 2) : NULL;
    int32_t left = -1, right = -1, whole = -1;
    (void)i;
    if (space && text.n <= sizeof both) {
        size_t n_left = (size_t)(space - text.s), n_right = text.n - n_left - 1;
        memcpy(both, text.s, n_left);
        memcpy(both + n_left, space + 1, n_right);
        left = bt_spec_find(s, text.s, n_left);
        right = bt_spec_find(s, space + 1, n_right);
        whole = bt_spec_find(s, both, n_left + n_right);
    }
    if (left < 0 || right < 0 || whole < 0 || !s->piece[left].in_model ||
        !s->piece[right].in_model || !s->piece[whole].in_model)
        l->n_odd++;
    else if (!bt_spec_add_merge(s, left, right, whole))
        l->status = bt_spec_no_memory(s, l->err);
    return l->status == BT_OK;
}

static bt_status load_merges(load *l)
{
    static const char key[] = "tokenizer.ggml.merges";
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type != BT_GGUF_STRING || n > BT_SPEC_MERGES_MAX)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s %s", key,
                              type < 0                 ? "is missing"
                              : type != BT_GGUF_STRING ? "is not an array of strings"
                                                       : "has more than 8388608 entries");
    l->n_odd = 0;
    bt_gguf_each_string(l->file, key, store_merge, l);
    if (l->n_odd) note(l, "%zu of %zu merges name no tokens and are left out", l->n_odd, n);
    return l->status;
}

/* ---- Kinds of model. */

static bt_status load_model(load *l)
{
    static const struct {
        const char *name;
        bt_vocab_kind kind;
    } known[] = {{"llama", BT_VOCAB_SPM},
                 {"gpt2", BT_VOCAB_BPE},
                 {"gemma4", BT_VOCAB_BPE},
                 {"t5", BT_VOCAB_UNIGRAM},
                 {"bert", BT_VOCAB_WORDPIECE}};
    bt_status st = bt_gguf_string(l->file, "tokenizer.ggml.model", &l->model, l->err);
    if (st) return st;
    if (!l->model.s)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT,
                              "the file holds no tokenizer (no tokenizer.ggml.model)");
    for (size_t i = 0; i < BT_COUNT(known); i++) {
        if (!bt_str_is(l->model, known[i].name)) continue;
        l->s->kind = known[i].kind;
        return BT_OK;
    }
    return bt_spec_refuse(
        l->s, l->err, BT_EUNSUPPORTED,
        "tokenizer model '%.40s' is not supported; known are llama, gpt2, gemma4, "
        "t5, bert",
        bt_str_shown(l->model).s);
}

/* What tokenizer.ggml.pre names; gemma4 is a name too. */
static bt_status load_pre(load *l, bt__pre *found)
{
    bt_str pre = {0};
    bool full = true;
    bt_status st = bt_gguf_string(l->file, "tokenizer.ggml.pre", &pre, l->err);
    if (st) return st;
    if (bt_str_is(l->model, "gemma4")) pre = l->model;
    if (pre.n == 0) {
        note(l,
             "tokenizer.ggml.pre is missing, so how text was split is a guess and answers may be "
             "worse: convert the model again with a current converter");
        pre = literal("default");
    }
    if (!bt__pre_find(pre, l->s, found, &full))
        return bt_spec_refuse(
            l->s, l->err, BT_EUNSUPPORTED,
            "pre-tokenizer '%.40s' is not known. If its model splits text as a known one (gpt-2, "
            "llama-bpe, qwen2 ...), write that name into tokenizer.ggml.pre",
            bt_str_shown(pre).s);
    if (found->characters) {
        l->s->byte_fallback = l->s->fuse_unk = true;
        full = add_replace(l->s, " ", SPACE_MARK) && add_spm_chain(l->s, false);
    } else {
        full = full && bt_spec_add_chain(l->s, BT_CHAIN_BYTES);
    }
    l->s->ignore_merges = found->ignore_merges;
    l->add_bos = found->add_bos || found->sentence;
    l->add_eos = found->sentence;
    return full ? BT_OK : steps_full(l);
}

static bt_status load_charsmap(load *l)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type < 0 || n == 0) return BT_OK;
    const char *raw = bt_gguf_array_raw(l->file, key, type, &n);
    if (!raw || (type != BT_GGUF_I8 && type != BT_GGUF_U8))
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%s is not an array of bytes", key);
    bt_normal_step *step = bt_spec_add_normal(l->s, BT_NORMAL_CHARSMAP);
    if (!step) return steps_full(l);
    step->longest = true;
    return bt_spec_string(l->s, raw, n, &step->pattern) ? BT_OK : bt_spec_no_memory(l->s, l->err);
}

static bt_status load_unigram(load *l)
{
    bool extra = false;
    bt_status st = load_charsmap(l);
    if (!st) st = bt_gguf_bool(l->file, "tokenizer.ggml.remove_extra_whitespaces", &extra, l->err);
    if (!st) st = bt_gguf_bool(l->file, "tokenizer.ggml.add_space_prefix", &l->add_space, l->err);
    if (st) return st;
    l->s->sentencepiece = true;
    for (size_t i = 0; i < l->s->n_pieces && !l->s->byte_fallback; i++)
        l->s->byte_fallback = l->s->piece[i].kind == BT_TOKEN_BYTE;
    if (extra) {
        bt_normal_step *strip = bt_spec_add_normal(l->s, BT_NORMAL_REPLACE);
        if (!strip) return steps_full(l);
        strip->regex = true; // spaces at both ends go, others become one
        strip->pattern = literal("\\A +| +\\z| +(?= )");
        strip->content = literal("");
    }
    if (l->add_space) {
        bt_normal_step *step = bt_spec_add_normal(l->s, BT_NORMAL_PREPEND);
        if (!step) return steps_full(l);
        step->content = literal(SPACE_MARK);
    }
    return add_replace(l->s, " ", SPACE_MARK) && add_spm_chain(l->s, l->add_space) ? BT_OK
                                                                                   : steps_full(l);
}

/* The files do not say whether the model tells upper case; its vocabulary does. */
static bool has_upper(const bt_spec *s)
{
    for (size_t i = 0; i < s->n_pieces; i++) {
        bt_str t = bt_spec_text(s, (int32_t)i);
        if (s->piece[i].kind != BT_TOKEN_NORMAL || (t.n && t.s[0] == '[')) continue;
        for (size_t k = 0; k < t.n; k++)
            if (t.s[k] >= 'A' && t.s[k] <= 'Z') return true;
    }
    return false;
}

static bt_status load_wordpiece(load *l)
{
    bt_spec *s = l->s;
    bt_normal_step *step = bt_spec_add_normal(s, BT_NORMAL_BERT);
    bt_chain_step *chain = bt_spec_add_chain(s, BT_CHAIN_WORDPIECE);
    if (!step || !chain || !bt_spec_add_split(s, BT_SPLIT_BERT)) return steps_full(l);
    step->clean_text = step->chinese = true;
    step->lowercase = !has_upper(s);
    step->accents = BT_ACCENTS_AS_CASE;
    chain->pattern = s->subword_prefix = literal("##");
    chain->flag = true;
    s->max_chars = 100;
    l->add_bos = l->add_eos = true;
    return BT_OK;
}

static bt_status load_spm(load *l)
{
    bt_spec *s = l->s;
    bt_status st = bt_gguf_bool(l->file, "tokenizer.ggml.add_space_prefix", &l->add_space, l->err);
    if (st) return st;
    s->byte_fallback = s->fuse_unk = true;
    if (l->add_space) {
        bt_normal_step *step = bt_spec_add_normal(s, BT_NORMAL_PREPEND);
        if (!step) return steps_full(l);
        step->content = literal(SPACE_MARK);
    }
    return add_replace(s, " ", SPACE_MARK) && add_spm_chain(s, l->add_space) ? BT_OK
                                                                             : steps_full(l);
}

/* ---- Special tokens. */

/* *out is untouched where the file names no token of its own. */
static void load_id(const load *l, const char *key, int32_t *out)
{
    int64_t id = -1;
    bt_status st = bt_gguf_int(l->file, key, INT64_MIN, INT64_MAX, &id, NULL);
    if (!bt_gguf_has(l->file, key)) return;
    if (st || id < 0 || (size_t)id >= l->s->n_pieces)
        note(l, "%s names no token and is ignored", key);
    else
        *out = (int32_t)id;
}

/* A number, or a list of them. */
static void load_ends(const load *l, const char *key, int32_t *first)
{
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type < 0) {
        load_id(l, key, first);
        bt_spec_add_eos(l->s, *first);
        return;
    }
    for (size_t i = 0; type != BT_GGUF_STRING && i < n; i++) {
        int64_t id = bt_gguf_array_int(l->file, key, i);
        if (id < 0 || (size_t)id >= l->s->n_pieces) continue;
        if (*first < 0) *first = (int32_t)id;
        bt_spec_add_eos(l->s, (int32_t)id);
    }
}

static int32_t find_control(const bt_spec *s, const char *name)
{
    int32_t id = bt_spec_find(s, name, strlen(name));
    return id >= 0 && s->piece[id].kind == BT_TOKEN_CONTROL ? id : -1;
}

static void load_special_ids(load *l, int32_t *cls, int32_t *sep)
{
    static const char *const end_key[] = {
        "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eos_token_ids",
        "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    bt_spec *s = l->s;
    load_id(l, "tokenizer.ggml.bos_token_id", &s->bos);
    load_id(l, "tokenizer.ggml.unknown_token_id", &s->unk);
    load_id(l, "tokenizer.ggml.cls_token_id", cls);
    load_id(l, "tokenizer.ggml.separator_token_id", sep);
    load_id(l, "tokenizer.ggml.seperator_token_id", sep); // as most files spell it
    for (size_t i = 0; i < BT_COUNT(end_key); i++) {
        int32_t other = -1;
        load_ends(l, end_key[i], i < 2 ? &s->eos_token : &other);
    }
    bt_spec_mark(s, s->bos);
    for (int32_t i = 0; i < s->n_eos; i++) bt_spec_mark(s, s->eos[i]);
}

static bt_status load_special(load *l, bool sentence)
{
    bt_spec *s = l->s;
    int32_t cls = -1, sep = -1;
    load_special_ids(l, &cls, &sep);
    bt_spec_mark_by_name(s);
    bool spm = s->kind == BT_VOCAB_SPM || s->kind == BT_VOCAB_UNIGRAM;
    if (spm) { // what SentencePiece calls them when the file does not say
        if (s->bos < 0) s->bos = find_control(s, "<s>");
        if (s->eos_token < 0) s->eos_token = find_control(s, "</s>");
        bt_spec_add_eos(s, s->eos_token);
    }
    for (size_t i = 0; spm && s->unk < 0 && i < s->n_pieces; i++)
        if (s->piece[i].kind == BT_TOKEN_UNKNOWN) s->unk = (int32_t)i;
    if (spm && s->unk < 0) s->unk = bt_spec_find(s, "<unk>", 5);
    if (s->kind == BT_VOCAB_WORDPIECE) {
        if (cls < 0) cls = s->bos >= 0 ? s->bos : find_control(s, "[CLS]");
        if (sep < 0) sep = s->eos_token >= 0 ? s->eos_token : find_control(s, "[SEP]");
        if (s->unk < 0) s->unk = find_control(s, "[UNK]");
        sentence = true;
    }
    if (s->bos < 0) s->bos = cls;
    if (s->eos_token < 0) s->eos_token = sep;
    bt_spec_add_eos(s, s->eos_token);
    bt_status st = bt_gguf_bool(l->file, "tokenizer.ggml.add_bos_token", &l->add_bos, l->err);
    if (!st) st = bt_gguf_bool(l->file, "tokenizer.ggml.add_eos_token", &l->add_eos, l->err);
    int32_t first = sentence && cls >= 0 ? cls : s->bos;
    int32_t last = sentence && sep >= 0 ? sep : s->eos_token;
    if (l->add_bos && first >= 0) s->prefix[s->n_prefix++] = first;
    if (l->add_eos && last >= 0) s->suffix[s->n_suffix++] = last;
    return st;
}

/* Phi-3's tokens take the white space behind them. */
static bool takes_space(const load *l, bt_str name)
{
    bt_str arch = {0};
    if (bt_gguf_string(l->file, "general.architecture", &arch, NULL) || !bt_str_is(arch, "phi3"))
        return false;
    return !bt_str_is(name, "<unk>") && !bt_str_is(name, "<s>") &&
           !bt_str_is(name, "<|endoftext|>");
}

static bt_status load_added(load *l)
{
    bt_spec *s = l->s;
    for (size_t i = 0; i < s->n_pieces; i++) {
        int kind = s->piece[i].kind;
        bt_str text = bt_spec_text(s, (int32_t)i);
        if (kind != BT_TOKEN_USER && kind != BT_TOKEN_CONTROL && kind != BT_TOKEN_UNKNOWN) continue;
        if (text.n == 0 || !s->piece[i].in_model) continue;
        bt_added token = {.id = (int32_t)i,
                          .content = text,
                          .special = kind != BT_TOKEN_USER,
                          .rstrip = takes_space(l, text)};
        if (!bt_spec_add_token(s, &token)) return bt_spec_no_memory(s, l->err);
    }
    return BT_OK;
}

static bt_status add_template(load *l, const char *key, bt_str name)
{
    bt_str text = {0};
    bt_status st = bt_gguf_string(l->file, key, &text, l->err);
    if (st || text.n == 0) return st; // an empty one is none
    if (text.n > BT_SPEC_TEMPLATE_BYTES_MAX || memchr(text.s, 0, text.n) ||
        bt_utf8_valid_prefix(text.s, text.n) != text.n)
        return bt_spec_refuse(l->s, l->err, BT_EFORMAT, "%.60s is too long, or not UTF-8 text",
                              key);
    if (l->s->n_templates == BT_SPEC_TEMPLATES_MAX)
        return bt_spec_refuse(l->s, l->err, BT_EUNSUPPORTED,
                              "there are more than %d chat templates", BT_SPEC_TEMPLATES_MAX);
    return bt_spec_add_template(l->s, name, text) ? BT_OK : bt_spec_no_memory(l->s, l->err);
}

/* tokenizer.chat_template, and others as tokenizer.chat_template.NAME. */
static bt_status load_templates(load *l)
{
    static const char main_key[] = "tokenizer.chat_template";
    enum { MAIN = sizeof main_key - 1 };
    char key[128];
    bt_status st = add_template(l, main_key, literal("default"));
    for (size_t i = 0; !st && i < bt_gguf_n_keys(l->file); i++) {
        bt_str k = bt_gguf_key_at(l->file, i);
        if (k.n <= MAIN + 1 || k.n >= sizeof key || k.s[MAIN] != '.' ||
            memcmp(k.s, main_key, MAIN) != 0)
            continue;
        memcpy(key, k.s, k.n);
        key[k.n] = 0;
        st = add_template(l, key, (bt_str){key + MAIN + 1, k.n - MAIN - 1});
    }
    return st;
}

/* Templates know these by name; an id that is no token's is nobody's. */
static bt_status load_named(load *l)
{
    static const struct {
        const char *name, *key;
    } row[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
               {"eos_token", "tokenizer.ggml.eos_token_id"},
               {"unk_token", "tokenizer.ggml.unknown_token_id"},
               {"sep_token", "tokenizer.ggml.seperator_token_id"},
               {"sep_token", "tokenizer.ggml.separator_token_id"},
               {"pad_token", "tokenizer.ggml.padding_token_id"},
               {"cls_token", "tokenizer.ggml.cls_token_id"},
               {"mask_token", "tokenizer.ggml.mask_token_id"}};
    const bt_spec *s = l->s;
    bool ok = true;
    for (size_t i = 0; ok && i < BT_COUNT(row); i++) {
        int64_t id = -1;
        if (bt_gguf_int(l->file, row[i].key, 0, (int64_t)s->n_pieces - 1, &id, NULL) == BT_OK)
            ok = bt_spec_name_id(l->s, row[i].name, (int32_t)id);
    }
    ok = ok && bt_spec_name_id(l->s, "bos_token", s->bos) &&
         bt_spec_name_id(l->s, "eos_token", s->eos_token) &&
         bt_spec_name_id(l->s, "unk_token", s->unk);
    return ok ? BT_OK : bt_spec_no_memory(l->s, l->err);
}

bt_status bt_spec_read_gguf(bt_spec *s, const bt_gguf *file, bool vocabulary_only, bt_err *err)
{
    load l = {.file = file, .s = s, .err = err, .add_space = true, .quiet = vocabulary_only};
    bt__pre pre = {0};
    bt_status st = load_model(&l);
    l.add_bos = !st && s->kind != BT_VOCAB_BPE && s->kind != BT_VOCAB_UNIGRAM;
    l.add_eos = !st && s->kind == BT_VOCAB_UNIGRAM;
    if (!st && s->kind == BT_VOCAB_BPE) st = load_pre(&l, &pre);
    if (!st) st = load_tokens(&l);
    if (!st) st = load_kinds(&l);
    if (!st && !bt_spec_index(s)) st = bt_spec_no_memory(s, err);
    if (!st && s->kind == BT_VOCAB_SPM) st = load_spm(&l);
    if (!st && s->kind == BT_VOCAB_UNIGRAM) st = load_unigram(&l);
    if (!st && s->kind == BT_VOCAB_WORDPIECE) st = load_wordpiece(&l);
    if (!st) st = load_special(&l, pre.sentence);
    if (!st) st = load_templates(&l);
    if (!st) st = load_named(&l);
    if (st || vocabulary_only) return st;
    if (s->kind == BT_VOCAB_SPM || s->kind == BT_VOCAB_UNIGRAM) st = load_scores(&l);
    if (!st && s->kind == BT_VOCAB_BPE) st = load_merges(&l);
    return st ? st : load_added(&l);
}
