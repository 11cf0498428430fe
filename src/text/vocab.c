/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - the vocabulary of a GGUF file as flat tables.
 *
 * Two byte arenas (what a token adds to the text, and how the file spells it) with n + 1 offsets
 * each, one byte of kind a token, and the special ids. Everything is checked here once, so that
 * readers index without looking. */
#include "text/vocab.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { EOS_MAX = 16 };

struct bt_vocab {
    bt_vocab_kind kind;
    bt_vocab_pretok pretok;
    int32_t n;
    char *piece, *bytes;             // owned arenas
    uint32_t *piece_off, *bytes_off; // owned, n + 1 each
    uint8_t *token_kind;             // owned
    size_t piece_max;
    int32_t bos, unk, eos_token;
    int32_t eos[EOS_MAX];
    int32_t n_eos;
    bool add_bos, add_eos, add_space;
    char *chat_template; // owned
};

/* The pre-tokenizers, under every name that converters write for them. */
static const struct pre_name {
    const char *name;
    bt_vocab_pretok pretok;
} pre_names[] = {
    {"gpt-2", BT_VOCAB_PRETOK_GPT2},    {"llama-bpe", BT_VOCAB_PRETOK_LLAMA3},
    {"llama3", BT_VOCAB_PRETOK_LLAMA3}, {"llama-v3", BT_VOCAB_PRETOK_LLAMA3},
    {"qwen2", BT_VOCAB_PRETOK_QWEN2},   {"deepseek-r1-qwen", BT_VOCAB_PRETOK_QWEN2},
};
static const char pre_known[] = "gpt-2, llama-bpe, llama3, llama-v3, qwen2, deepseek-r1-qwen";

/* Pieces that end a turn where they are control tokens, whatever the file calls its end of
 * sequence. */
static const char *const turn_end[] = {"<|eot_id|>",    "<|im_end|>", "<|endoftext|>",
                                       "<end_of_turn>", "<|end|>",    "<|eom_id|>"};

typedef struct load {
    const bt_gguf *file;
    bt_vocab *v;
    bt_err *err;
    size_t total; // bytes of all pieces
    bt_status status;
} load;

static bt_status refuse(const load *l, bt_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bt_status refuse(const load *l, bt_status code, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *path = bt_gguf_path(l->file), *slash = strrchr(path, '/');
    return bt_err_set(l->err, code, 0, "%.48s: %s", slash ? slash + 1 : path, text);
}

static bt_status no_memory(bt_err *err, size_t tokens)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary of %zu tokens", tokens);
}

/* A string of the file, cut and made printable for a message. */
static const char *shown(bt_str s, char dst[static 49])
{
    size_t n = BT_MIN(s.n, (size_t)48);
    for (size_t i = 0; i < n; i++) dst[i] = s.s[i] >= ' ' && s.s[i] < 127 ? s.s[i] : '?';
    dst[n] = 0;
    return dst;
}

static bool str_is(bt_str s, const char *literal)
{
    return s.n == strlen(literal) && memcmp(s.s, literal, s.n) == 0;
}

static bt_status load_model(load *l)
{
    char text[49];
    bt_str model = {0}, pre = {0};
    bt_status st = bt_gguf_string(l->file, "tokenizer.ggml.model", &model, l->err);
    if (!st) st = bt_gguf_string(l->file, "tokenizer.ggml.pre", &pre, l->err);
    if (st) return st;
    if (!model.s)
        return refuse(l, BT_EFORMAT, "the file holds no tokenizer (no tokenizer.ggml.model)");
    if (str_is(model, "llama")) {
        l->v->kind = BT_VOCAB_SPM;
        l->v->pretok = BT_VOCAB_PRETOK_NONE;
        return BT_OK;
    }
    if (!str_is(model, "gpt2"))
        return refuse(l, BT_EUNSUPPORTED,
                      "tokenizer model '%s' is not supported; known are llama and gpt2",
                      shown(model, text));
    l->v->kind = BT_VOCAB_BPE;
    if (!pre.s)
        return refuse(l, BT_EUNSUPPORTED,
                      "tokenizer.ggml.pre is missing, so nobody knows how text is split; convert "
                      "the model again with a current converter");
    for (size_t i = 0; i < BT_COUNT(pre_names); i++) {
        if (!str_is(pre, pre_names[i].name)) continue;
        l->v->pretok = pre_names[i].pretok;
        return BT_OK;
    }
    return refuse(l, BT_EUNSUPPORTED, "pre-tokenizer '%s' is not supported; known are %s",
                  shown(pre, text), pre_known);
}

static bool measure_piece(void *ud, size_t i, bt_str s)
{
    load *l = ud;
    if (s.n > BT_VOCAB_PIECE_BYTES_MAX) {
        l->status = refuse(l, BT_EFORMAT,
                           "token %zu of tokenizer.ggml.tokens has %zu bytes; at "
                           "most %d are allowed",
                           i, s.n, BT_VOCAB_PIECE_BYTES_MAX);
        return false;
    }
    if (bt_utf8_valid_prefix(s.s, s.n) != s.n) {
        l->status = refuse(l, BT_EFORMAT, "token %zu of tokenizer.ggml.tokens is not UTF-8", i);
        return false;
    }
    l->v->piece_max = BT_MAX(l->v->piece_max, s.n);
    l->total += s.n;
    return true;
}

static bt_status load_kinds(load *l)
{
    static const char key[] = "tokenizer.ggml.token_type";
    bt_vocab *v = l->v;
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type < 0 && v->kind == BT_VOCAB_SPM) return refuse(l, BT_EFORMAT, "%s is missing", key);
    if (type < 0) {
        memset(v->token_kind, BT_TOKEN_NORMAL, (size_t)v->n);
        return BT_OK;
    }
    if (type >= BT_GGUF_STRING && type != BT_GGUF_U64 && type != BT_GGUF_I64)
        return refuse(l, BT_EFORMAT, "%s is not an array of integers", key);
    if (n != (size_t)v->n)
        return refuse(l, BT_EFORMAT, "%s has %zu entries, but there are %d tokens", key, n, v->n);
    const char *raw = bt_gguf_array_raw(l->file, key, BT_GGUF_I32, &n);
    for (size_t i = 0; i < (size_t)v->n; i++) {
        int64_t kind;
        if (raw) {
            int32_t word;
            memcpy(&word, raw + 4 * i, 4);
            kind = word;
        } else {
            kind = bt_gguf_array_int(l->file, key, i);
        }
        if (kind < BT_TOKEN_NORMAL || kind > BT_TOKEN_BYTE)
            return refuse(l, BT_EFORMAT, "token %zu has type %lld; types are 1 to 6", i,
                          (long long)kind);
        v->token_kind[i] = (uint8_t)kind;
    }
    return BT_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0xHH>" names; -1 if s is not of that form. */
static int byte_token(bt_str s)
{
    if (s.n != 6 || memcmp(s.s, "<0x", 3) != 0 || s.s[5] != '>') return -1;
    int hi = hex_digit(s.s[3]), lo = hex_digit(s.s[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* s with U+2581 as spaces. dst has room for n bytes. */
static size_t unescape_spaces(bt_str s, char *dst)
{
    size_t len = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.n - i >= 3 && memcmp(s.s + i, "\xE2\x96\x81", 3) == 0) {
            dst[len++] = ' ';
            i += 3;
        } else {
            dst[len++] = s.s[i++];
        }
    }
    return len;
}

/* What token i adds to the text, into dst (room for s.n). False: refused. */
static bool token_bytes(load *l, size_t i, bt_str s, char *dst, size_t *n)
{
    bt_vocab *v = l->v;
    int kind = v->token_kind[i];
    *n = 0;
    if (kind == BT_TOKEN_CONTROL || kind == BT_TOKEN_UNKNOWN) return true;
    if (kind == BT_TOKEN_BYTE) {
        int byte = byte_token(s);
        if (byte >= 0) {
            dst[0] = (char)byte;
            *n = 1;
            return true;
        }
        if (v->kind == BT_VOCAB_SPM) {
            char text[49];
            l->status = refuse(l, BT_EFORMAT,
                               "token %zu ('%s') is marked as a byte but is not "
                               "spelled <0xHH>",
                               i, shown(s, text));
            return false;
        }
    }
    if (v->kind == BT_VOCAB_SPM) {
        *n = unescape_spaces(s, dst);
        return true;
    }
    bool literal = kind == BT_TOKEN_USER || kind == BT_TOKEN_UNUSED;
    if (literal || !bt__byte_level_decode(s.s, s.n, dst, n)) {
        memcpy(dst, s.s, s.n);
        *n = s.n;
    }
    return true;
}

static bool store_piece(void *ud, size_t i, bt_str s)
{
    load *l = ud;
    bt_vocab *v = l->v;
    uint32_t at = v->piece_off[i], bytes_at = v->bytes_off[i];
    size_t n;
    if (s.n) memcpy(v->piece + at, s.s, s.n);
    if (!token_bytes(l, i, s, v->bytes + bytes_at, &n)) return false;
    v->piece_off[i + 1] = at + (uint32_t)s.n;
    v->bytes_off[i + 1] = bytes_at + (uint32_t)n;
    return true;
}

static bt_status load_pieces(load *l)
{
    static const char key[] = "tokenizer.ggml.tokens";
    bt_vocab *v = l->v;
    size_t n = 0;
    int type = bt_gguf_array(l->file, key, &n);
    if (type != BT_GGUF_STRING)
        return refuse(l, BT_EFORMAT, "%s is %s", key,
                      type < 0 ? "missing" : "not an array of strings");
    if (n == 0 || n > BT_VOCAB_SIZE_MAX)
        return refuse(l, BT_EFORMAT, "%s has %zu entries; 1 to %d are allowed", key, n,
                      BT_VOCAB_SIZE_MAX);
    v->n = (int32_t)n;
    l->status = BT_OK;
    bt_gguf_each_string(l->file, key, measure_piece, l);
    if (l->status) return l->status;
    if (l->total > UINT32_MAX)
        return refuse(l, BT_EFORMAT, "%s holds more than 4 GiB of text", key);
    v->piece = bt_malloc(l->total);
    v->bytes = bt_malloc(l->total);
    v->piece_off = bt_malloc((n + 1) * sizeof *v->piece_off);
    v->bytes_off = bt_malloc((n + 1) * sizeof *v->bytes_off);
    v->token_kind = bt_malloc(n);
    if (!v->piece || !v->bytes || !v->piece_off || !v->bytes_off || !v->token_kind)
        return no_memory(l->err, n);
    bt_status st = load_kinds(l);
    if (st) return st;
    v->piece_off[0] = v->bytes_off[0] = 0;
    bt_gguf_each_string(l->file, key, store_piece, l);
    return l->status;
}

/* An id of the file; -1 if the key is absent. */
static bt_status load_id(load *l, const char *key, int32_t *out)
{
    int64_t id = -1;
    bt_status st = bt_gguf_int(l->file, key, 0, l->v->n - 1, &id, l->err);
    if (!st) *out = (int32_t)id;
    return st;
}

/* Inserts into the ascending set. Without token types, whatever ends or begins a text is a control
 * token. */
static void add_eos(bt_vocab *v, int32_t id)
{
    int32_t at = 0;
    while (at < v->n_eos && v->eos[at] < id) at++;
    if (id < 0 || (at < v->n_eos && v->eos[at] == id) || v->n_eos == EOS_MAX) return;
    memmove(v->eos + at + 1, v->eos + at, (size_t)(v->n_eos - at) * sizeof *v->eos);
    v->eos[at] = id;
    v->n_eos++;
}

/* Files without types say nothing of control tokens: those named as special ids are. */
static void mark_control(bt_vocab *v, int32_t id)
{
    if (id < 0) return;
    v->token_kind[id] = BT_TOKEN_CONTROL;
    uint32_t at = v->bytes_off[id], n = v->bytes_off[id + 1] - at;
    memmove(v->bytes + at, v->bytes + at + n, v->bytes_off[v->n] - at - n);
    for (int32_t i = id + 1; i <= v->n; i++) v->bytes_off[i] -= n;
}

static bt_status load_special(load *l)
{
    static const char *const eos_key[] = {"tokenizer.ggml.eos_token_id",
                                          "tokenizer.ggml.eot_token_id",
                                          "tokenizer.ggml.eom_token_id"};
    bt_vocab *v = l->v;
    bool typed = bt_gguf_has(l->file, "tokenizer.ggml.token_type");
    bt_status st = load_id(l, "tokenizer.ggml.bos_token_id", &v->bos);
    if (!st) st = load_id(l, "tokenizer.ggml.unknown_token_id", &v->unk);
    if (!st && !typed) mark_control(v, v->bos);
    for (size_t i = 0; !st && i < BT_COUNT(eos_key); i++) {
        int32_t id = -1;
        st = load_id(l, eos_key[i], &id);
        add_eos(v, id);
        if (i == 0) v->eos_token = id;
        if (!typed) mark_control(v, id);
    }
    if (st) return st;
    for (size_t i = 0; i < BT_COUNT(turn_end); i++)
        add_eos(v, bt_vocab_find(v, turn_end[i], BT_TOKEN_CONTROL));
    if (v->kind == BT_VOCAB_SPM) { // what SentencePiece calls them when the file does not say
        if (v->bos < 0) v->bos = bt_vocab_find(v, "<s>", BT_TOKEN_CONTROL);
        if (v->eos_token < 0) v->eos_token = bt_vocab_find(v, "</s>", BT_TOKEN_CONTROL);
        add_eos(v, v->eos_token);
        for (int32_t i = 0; v->unk < 0 && i < v->n; i++)
            if (v->token_kind[i] == BT_TOKEN_UNKNOWN) v->unk = i;
    }
    v->add_bos = v->kind == BT_VOCAB_SPM || v->pretok == BT_VOCAB_PRETOK_LLAMA3;
    v->add_space = v->kind == BT_VOCAB_SPM;
    st = bt_gguf_bool(l->file, "tokenizer.ggml.add_bos_token", &v->add_bos, l->err);
    if (!st) st = bt_gguf_bool(l->file, "tokenizer.ggml.add_eos_token", &v->add_eos, l->err);
    if (!st && v->kind == BT_VOCAB_SPM)
        st = bt_gguf_bool(l->file, "tokenizer.ggml.add_space_prefix", &v->add_space, l->err);
    if (v->bos < 0) v->add_bos = false;
    if (v->eos_token < 0) v->add_eos = false;
    return st;
}

static bt_status load_template(load *l)
{
    bt_str s = {0};
    bt_status st = bt_gguf_string(l->file, "tokenizer.chat_template", &s, l->err);
    if (st || !s.s) return st;
    if (memchr(s.s, 0, s.n) || bt_utf8_valid_prefix(s.s, s.n) != s.n)
        return refuse(l, BT_EFORMAT, "tokenizer.chat_template is not UTF-8 text");
    l->v->chat_template = bt_strndup(s.s, s.n);
    return l->v->chat_template ? BT_OK : no_memory(l->err, (size_t)l->v->n);
}

bt_status bt_vocab_open(const bt_gguf *file, bt_vocab **out, bt_err *err)
{
    bt_vocab *v = bt_calloc(1, sizeof *v);
    if (!v) return no_memory(err, 0);
    load l = {.file = file, .v = v, .err = err};
    v->bos = v->unk = v->eos_token = -1;
    bt_status st = load_model(&l);
    if (!st) st = load_pieces(&l);
    if (!st) st = load_special(&l);
    if (!st) st = load_template(&l);
    if (st) {
        bt_vocab_close(v);
        return st;
    }
    *out = v;
    return BT_OK;
}

void bt_vocab_close(bt_vocab *v)
{
    if (!v) return;
    bt_free(v->piece);
    bt_free(v->bytes);
    bt_free(v->piece_off);
    bt_free(v->bytes_off);
    bt_free(v->token_kind);
    bt_free(v->chat_template);
    bt_free(v);
}

static bool known_id(const bt_vocab *v, int32_t id)
{
    return id >= 0 && id < v->n;
}

const char *bt_vocab_bytes(const bt_vocab *v, int32_t id, size_t *n)
{
    if (!known_id(v, id)) {
        *n = 0;
        return NULL;
    }
    *n = v->bytes_off[id + 1] - v->bytes_off[id];
    return v->bytes + v->bytes_off[id];
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
    for (int32_t i = 0; i < v->n; i++) {
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

bool bt_vocab_is_eos(const bt_vocab *v, int32_t id)
{
    for (int32_t i = 0; i < v->n_eos; i++)
        if (v->eos[i] == id) return true;
    return false;
}

const int32_t *bt_vocab_eos(const bt_vocab *v, int32_t *n)
{
    *n = v->n_eos;
    return v->eos;
}

bt_vocab_kind bt_vocab_kind_of(const bt_vocab *v)
{
    return v->kind;
}
int32_t bt_vocab_size(const bt_vocab *v)
{
    return v->n;
}
size_t bt_vocab_piece_max(const bt_vocab *v)
{
    return v->piece_max;
}
int32_t bt_vocab_bos(const bt_vocab *v)
{
    return v->bos;
}
int32_t bt_vocab_unk(const bt_vocab *v)
{
    return v->unk;
}
int32_t bt_vocab_eos_token(const bt_vocab *v)
{
    return v->eos_token;
}
bool bt_vocab_add_bos(const bt_vocab *v)
{
    return v->add_bos;
}
bool bt_vocab_add_eos(const bt_vocab *v)
{
    return v->add_eos;
}
bt_vocab_pretok bt_vocab_pretok_of(const bt_vocab *v)
{
    return v->pretok;
}
bool bt_vocab_strip_space(const bt_vocab *v)
{
    return v->add_space;
}
const char *bt_vocab_chat_template(const bt_vocab *v)
{
    return v->chat_template;
}
