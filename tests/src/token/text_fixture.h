/* SPDX-License-Identifier: Apache-2.0 */
/* text_fixture.h - vocabularies, golden rows and small made-up GGUF files for the tests of
 * src/vocab, src/token and src/chat. */
#pragma once
#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "test.h"
#include "vocab/decode.h"
#include "token/open.h"
#include "vocab/spec.h"
#include <pthread.h>
#include <stdbool.h>

#define VOCAB_DIR BATON_SOURCE_DIR "/tests/data/vocab/"
#define MARKER "\n__ggml_vocab_test__\n"

typedef struct fixture {
    bt_gguf *file;
    bt_vocab *vocab;
    bt_tokenizer *tokenizer;
    bt_encoder *encoder;
} fixture;

static inline bool adds_bos(const bt_vocab *v)
{
    size_t n;
    const int32_t *id = bt_vocab_prefix(v, &n);
    return n && bt_vocab_bos(v) >= 0 && id[0] == bt_vocab_bos(v);
}

static inline bool adds_eos(const bt_vocab *v)
{
    size_t n;
    const int32_t *id = bt_vocab_suffix(v, &n);
    return n && bt_vocab_eos_token(v) >= 0 && id[n - 1] == bt_vocab_eos_token(v);
}

static inline const char *default_template(const bt_vocab *v)
{
    const char *name, *text = bt_vocab_template_at(v, 0, &name);
    return text && strcmp(name, "default") == 0 ? text : NULL;
}

static inline fixture fixture_open(const char *path)
{
    fixture f = {0};
    bt_err err = {0};
    if (bt_gguf_open(path, &f.file, &err) || bt_vocab_open(f.file, &f.vocab, &err) ||
        bt_tokenizer_open(f.file, f.vocab, &f.tokenizer, &err) ||
        bt_encoder_open(f.tokenizer, &f.encoder, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.msg);
        exit(1);
    }
    return f;
}

/* Anything that bt_text_open takes. */
static inline fixture fixture_text(const char *path)
{
    fixture f = {0};
    bt_err err = {0};
    if (bt_text_open(path, NULL, &f.vocab, &f.tokenizer, &err) ||
        bt_encoder_open(f.tokenizer, &f.encoder, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.msg);
        exit(1);
    }
    return f;
}

static inline fixture fixture_json(const char *text, size_t n)
{
    fixture f = {0};
    bt_err err = {0};
    if (bt_text_open_json(text, n, NULL, "made.json", &f.vocab, &f.tokenizer, &err) ||
        bt_encoder_open(f.tokenizer, &f.encoder, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    return f;
}

static inline fixture fixture_vocab(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, VOCAB_DIR "%s.gguf", name);
    return fixture_open(path);
}

static inline void fixture_close(fixture *f)
{
    bt_encoder_close(f->encoder);
    bt_tokenizer_close(f->tokenizer);
    bt_vocab_close(f->vocab);
    bt_gguf_close(f->file);
}

static inline size_t fixture_encode(fixture *f, const char *text, size_t n, bool add, bool parse,
                                    const int32_t **ids)
{
    bt_err err = {0};
    bt_encode_options opt = {.add_special = add, .parse_special = parse};
    size_t n_ids = 0;
    if (bt_encode(f->encoder, text, n, &opt, 0, ids, &n_ids, &err)) {
        fprintf(stderr, "encode: %s\n", err.msg);
        exit(1);
    }
    return n_ids;
}

/* A whole file, NUL-terminated; the caller frees it. */
static inline char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *s = malloc(*n + 1);
    REQUIRE(s && fread(s, 1, *n, f) == *n);
    fclose(f);
    s[*n] = 0;
    return s;
}

/* Expected ids of one line into dst[max]; *line moves on. Returns how many. */
static inline size_t read_ids(const char **line, int32_t *dst, size_t max)
{
    size_t n = 0;
    const char *end = strchr(*line, '\n');
    REQUIRE(end);
    for (const char *p = *line; p < end;) {
        char *after;
        while (*p == ' ') p++;
        if (p >= end) break;
        long id = strtol(p, &after, 10);
        REQUIRE(after > p && n < max);
        dst[n++] = (int32_t)id;
        p = after;
    }
    *line = end + 1;
    return n;
}

/* Made-up GGUF files: keys in the order they are added, no tensors. */
typedef struct maker {
    bt_buf body;
    uint64_t n_keys;
} maker;

static inline void maker_raw(maker *m, const void *p, size_t n)
{
    bt_buf_add(&m->body, p, n);
}
static inline void maker_u32(maker *m, uint32_t v)
{
    maker_raw(m, &v, 4);
}
static inline void maker_u64(maker *m, uint64_t v)
{
    maker_raw(m, &v, 8);
}

static inline void maker_text(maker *m, const char *s)
{
    maker_u64(m, strlen(s));
    maker_raw(m, s, strlen(s));
}

static inline void maker_key(maker *m, const char *key, uint32_t type)
{
    maker_text(m, key);
    maker_u32(m, type);
    m->n_keys++;
}

static inline void maker_string(maker *m, const char *key, const char *value)
{
    maker_key(m, key, BT_GGUF_STRING);
    maker_text(m, value);
}

static inline void maker_int(maker *m, const char *key, uint32_t value)
{
    maker_key(m, key, BT_GGUF_U32);
    maker_u32(m, value);
}

static inline void maker_bool(maker *m, const char *key, bool value)
{
    maker_key(m, key, BT_GGUF_BOOL);
    maker_raw(m, &(uint8_t){value}, 1);
}

static inline void maker_array(maker *m, const char *key, uint32_t type, uint64_t n)
{
    maker_key(m, key, BT_GGUF_ARRAY);
    maker_u32(m, type);
    maker_u64(m, n);
}

static inline void maker_strings(maker *m, const char *key, const char *const *s, size_t n)
{
    maker_array(m, key, BT_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) maker_text(m, s[i]);
}

static inline void maker_i32s(maker *m, const char *key, const int32_t *v, size_t n)
{
    maker_array(m, key, BT_GGUF_I32, n);
    maker_raw(m, v, 4 * n);
}

static inline void maker_f32s(maker *m, const char *key, const float *v, size_t n)
{
    maker_array(m, key, BT_GGUF_F32, n);
    maker_raw(m, v, 4 * n);
}

/* The whole file in an allocation of exactly its size. */
static inline char *maker_finish(maker *m, size_t *n)
{
    uint64_t zero = 0;
    uint32_t version = 3;
    *n = 24 + m->body.len;
    char *file = malloc(*n);
    REQUIRE(file && !m->body.failed);
    memcpy(file, "GGUF", 4);
    memcpy(file + 4, &version, 4);
    memcpy(file + 8, &zero, 8);
    memcpy(file + 16, &m->n_keys, 8);
    memcpy(file + 24, m->body.data, m->body.len);
    bt_buf_release(&m->body);
    m->n_keys = 0;
    return file;
}

typedef struct fixture_thread {
    const bt_tokenizer *tokenizer;
    const char *text;
    size_t n, n_ids;
    bool parse_special, ok;
    uint64_t hash;
} fixture_thread;

static inline void *fixture_encode_some(void *ud)
{
    fixture_thread *c = ud;
    bt_encoder *e = NULL;
    bt_encode_options opt = {.add_special = true, .parse_special = c->parse_special};
    const int32_t *ids;
    c->ok = bt_encoder_open(c->tokenizer, &e, NULL) == BT_OK;
    for (int i = 0; c->ok && i < 3; i++) {
        c->ok = bt_encode(e, c->text, c->n, &opt, 0, &ids, &c->n_ids, NULL) == BT_OK;
        if (c->ok) c->hash = bt_hash(ids, c->n_ids * sizeof *ids, 0);
    }
    bt_encoder_close(e);
    return NULL;
}

/* Two threads, each with an encoder of its own, share the tokenizer and get the same ids. */
static inline void fixture_two_threads(const fixture *f, const char *text, size_t n,
                                       bool parse_special)
{
    fixture_thread c[2];
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) {
        c[i] = (fixture_thread){
            .tokenizer = f->tokenizer, .text = text, .n = n, .parse_special = parse_special};
        REQUIRE(pthread_create(&thread[i], NULL, fixture_encode_some, &c[i]) == 0);
    }
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    CHECK(c[0].ok && c[1].ok && c[0].n_ids > 0);
    CHECK(c[0].hash == c[1].hash);
}
