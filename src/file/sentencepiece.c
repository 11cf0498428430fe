/* SPDX-License-Identifier: Apache-2.0 */
/* sentencepiece.c - ModelProto by hand: protobuf's wire format, then the rules of the library.
 *
 * WIRE   A message is a row of fields: a varint (number << 3 | type), then a varint, 8 bytes, a
 *        length and its bytes, or 4 bytes. Groups are not written by anyone today and are refused.
 * RULES  As SentencePiece's own loader: pieces unique and not empty, one unknown piece, byte pieces
 *        all there when byte fallback is on; begin, end and padding are what control pieces are
 *        called, not what the trainer's ids say. */
#include "file/sentencepiece.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "file/whole.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct model { // what bt_spm_close gets back
    bt_spm view;
    char *data;          // owned: the file
    bt_spm_piece *piece; // owned
    size_t cap;
    const char *name;
    bt_err *err;
    bt_str bos_piece, eos_piece, pad_piece;
} model;

typedef struct field {
    uint32_t number;
    int wire;
    uint64_t value; // of WIRE_VARINT; WIRE_32 and WIRE_64 little endian
    bt_str bytes;   // of WIRE_BYTES
} field;

static bt_status refuse(const model *m, const char *what)
{
    return bt_err_set(m->err, BT_EFORMAT, 0, "%.80s: %s", m->name, what);
}

static bt_status refuse_piece(const model *m, size_t id, const char *what)
{
    return bt_err_set(m->err, BT_EFORMAT, 0, "%.80s: piece %zu %s", m->name, id, what);
}

static bool read_varint(bt_str *s, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned k = 0; k < 10 && k < s->n; k++) {
        uint64_t byte = (unsigned char)s->s[k];
        if (k == 9 && byte > 1) return false;
        value |= (byte & 0x7F) << (7 * k);
        if (byte & 0x80) continue;
        s->s += k + 1;
        s->n -= k + 1;
        *out = value;
        return true;
    }
    return false;
}

/* The next field of a message that is not at its end; false: damaged. */
static bool next_field(bt_str *s, field *f)
{
    uint64_t key, len = 0;
    if (!read_varint(s, &key) || key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) return false;
    *f = (field){.number = (uint32_t)(key >> 3), .wire = (int)(key & 7)};
    switch (f->wire) {
    case WIRE_VARINT: return read_varint(s, &f->value);
    case WIRE_BYTES:
        if (!read_varint(s, &len) || len > s->n) return false;
        f->bytes = (bt_str){s->s, (size_t)len};
        break;
    case WIRE_32: len = 4; break;
    case WIRE_64: len = 8; break;
    default: return false;
    }
    if (len > s->n) return false;
    if (f->wire != WIRE_BYTES)
        for (size_t k = 0; k < len; k++) f->value |= (uint64_t)(unsigned char)s->s[k] << (8 * k);
    s->s += len;
    s->n -= (size_t)len;
    return true;
}

/* A known field of another type than the format's is damage. */
static bool is_a(const field *f, int wire)
{
    return f->wire == wire;
}

static float float_of(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return value;
}

static bt_status read_piece(model *m, bt_str s)
{
    size_t id = m->view.n_pieces;
    bt_spm_piece p = {.type = BT_SPM_NORMAL};
    while (s.n > 0) {
        field f;
        bool good = next_field(&s, &f);
        if (good && f.number == 1) good = is_a(&f, WIRE_BYTES);
        if (good && f.number == 2) good = is_a(&f, WIRE_32);
        if (good && f.number == 3) good = is_a(&f, WIRE_VARINT);
        if (!good) return refuse_piece(m, id, "is damaged");
        if (f.number == 1) p.piece = f.bytes;
        if (f.number == 2) p.score = float_of(f.value);
        if (f.number != 3) continue;
        if (f.value < BT_SPM_NORMAL || f.value > BT_SPM_BYTE)
            return refuse_piece(m, id, "is of an unknown type");
        p.type = (bt_spm_type)f.value;
    }
    if (p.piece.n == 0) return refuse_piece(m, id, "is empty");
    if (p.piece.n > BT_SPM_PIECE_BYTES_MAX)
        return refuse_piece(m, id, "is longer than 16384 bytes");
    if (bt_utf8_valid_prefix(p.piece.s, p.piece.n) != p.piece.n)
        return refuse_piece(m, id, "is not valid UTF-8");
    if (!isfinite(p.score)) return refuse_piece(m, id, "has a score that is not finite");
    if (id == BT_SPM_PIECES_MAX) return refuse_piece(m, id, "is one too many");
    if (id == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 1024;
        bt_spm_piece *more = bt_realloc(m->piece, cap * sizeof *more);
        if (!more)
            return bt_err_set(m->err, BT_ENOMEM, 0, "%.80s: out of memory for %zu pieces", m->name,
                              cap);
        m->piece = more;
        m->cap = cap;
    }
    m->piece[m->view.n_pieces++] = p;
    return BT_OK;
}

static bt_status read_trainer(model *m, bt_str s)
{
    while (s.n > 0) {
        field f;
        bt_str *text = NULL;
        if (!next_field(&s, &f)) return refuse(m, "trainer_spec is damaged");
        int wire = f.wire;
        switch (f.number) {
        case 3: wire = WIRE_VARINT; break;
        case 24: wire = WIRE_VARINT; break;
        case 35: wire = WIRE_VARINT; break;
        case 46: text = &m->bos_piece; break;
        case 47: text = &m->eos_piece; break;
        case 48: text = &m->pad_piece; break;
        default: continue;
        }
        if (text) wire = WIRE_BYTES;
        if (!is_a(&f, wire)) return refuse(m, "a field of trainer_spec has the wrong type");
        if (text) *text = f.bytes;
        if (f.number == 24) m->view.treat_whitespace_as_suffix = f.value != 0;
        if (f.number == 35) m->view.byte_fallback = f.value != 0;
        if (f.number != 3) continue;
        if (f.value < BT_SPM_MODEL_UNIGRAM || f.value > BT_SPM_MODEL_CHAR)
            return refuse(m, "trainer_spec.model_type is none of unigram, bpe, word and char");
        m->view.model = (bt_spm_model)f.value;
    }
    return BT_OK;
}

/* normalizer_spec, or denormalizer_spec with all else thrown away. */
static bt_status read_normalizer(model *m, bt_str s, bool forward)
{
    while (s.n > 0) {
        field f;
        if (!next_field(&s, &f)) return refuse(m, "normalizer_spec is damaged");
        if (f.number < 1 || f.number > 5) continue;
        if (!is_a(&f, f.number <= 2 ? WIRE_BYTES : WIRE_VARINT))
            return refuse(m, "a field of normalizer_spec has the wrong type");
        if (!forward) {
            if (f.number == 2) m->view.denormalizer_charsmap = f.bytes;
            continue;
        }
        switch (f.number) {
        case 1: m->view.normalizer_name = f.bytes; break;
        case 2: m->view.charsmap = f.bytes; break;
        case 3: m->view.add_dummy_prefix = f.value != 0; break;
        case 4: m->view.remove_extra_whitespaces = f.value != 0; break;
        default: m->view.escape_whitespaces = f.value != 0; break;
        }
    }
    return BT_OK;
}

static bt_status read_model(model *m, bt_str s)
{
    bt_status st = BT_OK;
    while (s.n > 0 && !st) {
        field f;
        if (!next_field(&s, &f))
            return refuse(m, "not a SentencePiece model, or cut short or damaged");
        bool known = f.number <= 3 || f.number == 5;
        if (known && !is_a(&f, WIRE_BYTES)) return refuse(m, "not a SentencePiece model");
        if (f.number == 1) st = read_piece(m, f.bytes);
        if (f.number == 2) st = read_trainer(m, f.bytes);
        if (f.number == 3) st = read_normalizer(m, f.bytes, true);
        if (f.number == 5) st = read_normalizer(m, f.bytes, false);
    }
    return st;
}

static int compare_pieces(const void *a, const void *b)
{
    const bt_spm_piece *x = *(const bt_spm_piece *const *)a, *y = *(const bt_spm_piece *const *)b;
    int c = memcmp(x->piece.s, y->piece.s, BT_MIN(x->piece.n, y->piece.n));
    if (c) return c;
    if (x->piece.n != y->piece.n) return x->piece.n < y->piece.n ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bt_status check_unique(model *m)
{
    size_t n = m->view.n_pieces;
    const bt_spm_piece **sorted = bt_malloc(n * sizeof(const bt_spm_piece *));
    if (!sorted)
        return bt_err_set(m->err, BT_ENOMEM, 0, "%.80s: out of memory for %zu pieces", m->name, n);
    for (size_t i = 0; i < n; i++) sorted[i] = &m->piece[i];
    qsort(sorted, n, sizeof(const bt_spm_piece *), compare_pieces);
    bt_status st = BT_OK;
    for (size_t i = 1; i < n && !st; i++) {
        bt_str a = sorted[i - 1]->piece, b = sorted[i]->piece;
        if (a.n == b.n && memcmp(a.s, b.s, a.n) == 0)
            st = refuse_piece(m, (size_t)(sorted[i] - m->piece), "came before");
    }
    bt_free(sorted);
    return st;
}

static bt_status set_bytes(model *m)
{
    int found = 0;
    for (int k = 0; k < 256; k++) m->view.byte_id[k] = -1;
    for (size_t i = 0; i < m->view.n_pieces; i++) {
        const bt_spm_piece *p = &m->piece[i];
        if (p->type != BT_SPM_BYTE) continue;
        int k = 0;
        for (; k < 256; k++) {
            char spelled[8];
            snprintf(spelled, sizeof spelled, "<0x%02X>", (unsigned)k & 0xFF);
            if (p->piece.n == 6 && memcmp(spelled, p->piece.s, 6) == 0) break;
        }
        if (k == 256) return refuse_piece(m, i, "is a byte piece not spelled like <0x0A>");
        m->view.byte_id[k] = (int32_t)i;
        found++;
    }
    if (m->view.byte_fallback && found < 256)
        return bt_err_set(m->err, BT_EFORMAT, 0,
                          "%.80s: byte fallback is on and only %d of 256 byte pieces are there",
                          m->name, found);
    return BT_OK;
}

/* The control piece of that name; -1 if there is none. */
static int32_t control_piece(const model *m, bt_str name)
{
    for (size_t i = 0; i < m->view.n_pieces; i++) {
        const bt_spm_piece *p = &m->piece[i];
        if (p->type == BT_SPM_CONTROL && p->piece.n == name.n &&
            memcmp(p->piece.s, name.s, name.n) == 0)
            return (int32_t)i;
    }
    return -1;
}

static bt_status check(model *m)
{
    if (m->view.n_pieces == 0) return refuse(m, "no pieces: not a SentencePiece model");
    m->view.unk = -1;
    for (size_t i = 0; i < m->view.n_pieces; i++) {
        if (m->piece[i].type != BT_SPM_UNKNOWN) continue;
        if (m->view.unk >= 0) return refuse_piece(m, i, "is a second unknown piece");
        m->view.unk = (int32_t)i;
    }
    if (m->view.unk < 0) return refuse(m, "no piece is the unknown piece");
    bt_status st = check_unique(m);
    if (!st) st = set_bytes(m);
    if (st) return st;
    m->view.bos = control_piece(m, m->bos_piece);
    m->view.eos = control_piece(m, m->eos_piece);
    m->view.pad = control_piece(m, m->pad_piece);
    return BT_OK;
}

/* Takes data. */
static bt_status parse(char *data, size_t n, const char *name, bt_spm **out, bt_err *err)
{
    model *m = bt_calloc(1, sizeof *m);
    if (!m) {
        bt_free(data);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a SentencePiece model");
    }
    *m = (model){.view = {.model = BT_SPM_MODEL_UNIGRAM,
                          .add_dummy_prefix = true,
                          .remove_extra_whitespaces = true,
                          .escape_whitespaces = true},
                 .data = data,
                 .name = name,
                 .err = err,
                 .bos_piece = {"<s>", 3},
                 .eos_piece = {"</s>", 4},
                 .pad_piece = {"<pad>", 5}};
    const char *known = bt_file_known(data, n);
    bt_status st = known ? bt_err_set(err, BT_EFORMAT, 0, "%.80s is %s", name, known)
                         : read_model(m, (bt_str){data, n});
    if (!st) st = check(m);
    if (st) {
        bt_spm_close(&m->view);
        return st;
    }
    m->view.piece = m->piece;
    m->name = NULL;
    m->err = NULL;
    *out = &m->view;
    return BT_OK;
}

bt_status bt_spm_open_memory(const void *data, size_t bytes, const char *name, bt_spm **out,
                             bt_err *err)
{
    if (bytes > BT_SPM_BYTES_MAX)
        return bt_err_set(err, BT_ETOOBIG, 0, "%.80s has %zu bytes; at most %d are read", name,
                          bytes, BT_SPM_BYTES_MAX);
    char *copy = bt_malloc(bytes + 1);
    if (!copy)
        return bt_err_set(err, BT_ENOMEM, 0, "%.80s: out of memory for %zu bytes", name, bytes);
    if (bytes) memcpy(copy, data, bytes);
    return parse(copy, bytes, name, out, err);
}

bt_status bt_spm_open(const char *path, bt_spm **out, bt_err *err)
{
    char *data;
    size_t n;
    const char *slash = strrchr(path, '/');
    bt_status st = bt_file_read(path, BT_SPM_BYTES_MAX, &data, &n, err);
    return st ? st : parse(data, n, slash ? slash + 1 : path, out, err);
}

void bt_spm_close(bt_spm *s)
{
    if (!s) return;
    model *m = (model *)s; // its first member
    bt_free(m->data);
    bt_free(m->piece);
    bt_free(m);
}
