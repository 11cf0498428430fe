/* SPDX-License-Identifier: Apache-2.0 */
/* tiktoken.c - one pass over the lines, tokens decoded in place behind each other.
 *
 * A token takes less room than its line, so the bytes that were read serve as the arena. */
#include "file/tiktoken.h"
#include "base/assert.h"
#include "base/mem.h"
#include "file/base64.h"
#include "file/whole.h"
#include <stdlib.h>
#include <string.h>

typedef struct model { // what bt_tiktoken_close gets back
    bt_tiktoken view;
    char *data;    // owned: the file, its tokens decoded to the front
    bt_str *token; // owned
    size_t n_data, used;
    size_t cap;
    const char *name;
} model;

static bt_status refuse(const model *m, bt_err *err, size_t line, const char *what)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%.80s: line %zu: %s", m->name, line, what);
}

static bt_status put(model *m, uint32_t rank, bt_str token, size_t line, bt_err *err)
{
    if (rank >= m->cap) {
        size_t cap = BT_MIN(BT_MAX((size_t)rank + 1, m->cap * 2), (size_t)BT_TIKTOKEN_RANKS_MAX);
        cap = BT_MAX(cap, BT_MIN((size_t)1024, (size_t)BT_TIKTOKEN_RANKS_MAX));
        bt_str *more = bt_realloc(m->token, cap * sizeof *more);
        if (!more)
            return bt_err_set(err, BT_ENOMEM, 0, "%.80s: out of memory for %zu tokens", m->name,
                              cap);
        memset(more + m->cap, 0, (cap - m->cap) * sizeof *more);
        m->token = more;
        m->cap = cap;
    }
    if (m->token[rank].n > 0) return refuse(m, err, line, "the rank came before");
    m->token[rank] = token;
    m->view.n_tokens++;
    m->view.n_ranks = BT_MAX(m->view.n_ranks, (size_t)rank + 1);
    return BT_OK;
}

/* A decimal rank that ends the line. */
static bool read_rank(const char *s, size_t n, uint32_t *rank)
{
    uint32_t value = 0;
    if (n == 0 || n > 7) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        value = value * 10 + (uint32_t)(s[i] - '0');
    }
    *rank = value;
    return value < BT_TIKTOKEN_RANKS_MAX;
}

static bt_status read_line(model *m, const char *s, size_t n, size_t line, bt_err *err)
{
    uint32_t rank;
    if (n > 0 && s[n - 1] == '\r') n--;
    if (n == 0) return BT_OK;
    const char *space = memchr(s, ' ', n);
    if (!space) return refuse(m, err, line, "not a token in base64, a space, and a rank");
    size_t n_code = (size_t)(space - s), n_token;
    if (!read_rank(space + 1, n - n_code - 1, &rank))
        return refuse(m, err, line, "the rank is not a number from 0 to 4194303");
    if (n_code > BT_TIKTOKEN_TOKEN_BYTES_MAX / 3 * 4)
        return refuse(m, err, line, "the token is longer than 16384 bytes");
    char *dst = m->data + m->used;
    if (!bt_base64_decode(s, n_code, true, dst, &n_token) || n_token == 0)
        return refuse(m, err, line, "the token is not in base64");
    m->used += n_token;
    if (n_token == 1) m->view.byte_rank[(unsigned char)dst[0]] = (int32_t)rank;
    return put(m, rank, (bt_str){dst, n_token}, line, err);
}

static int compare_tokens(const void *a, const void *b)
{
    const bt_str *x = a, *y = b;
    int c = memcmp(x->s, y->s, BT_MIN(x->n, y->n));
    return c ? c : x->n < y->n ? -1 : x->n > y->n;
}

/* No token has two ranks, and every byte is a token. */
static bt_status check(model *m, bt_err *err)
{
    if (m->view.n_tokens == 0)
        return bt_err_set(err, BT_EFORMAT, 0, "%.80s: the file holds no token", m->name);
    for (int k = 0; k < 256; k++)
        if (m->view.byte_rank[k] < 0)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%.80s: no token is the single byte 0x%02X, so not every text could "
                              "be encoded",
                              m->name, (unsigned)k);
    bt_str *sorted = bt_malloc(m->view.n_tokens * sizeof *sorted);
    if (!sorted)
        return bt_err_set(err, BT_ENOMEM, 0, "%.80s: out of memory for %zu tokens", m->name,
                          m->view.n_tokens);
    size_t n = 0;
    for (size_t i = 0; i < m->view.n_ranks; i++)
        if (m->token[i].n > 0) sorted[n++] = m->token[i];
    qsort(sorted, n, sizeof *sorted, compare_tokens);
    bt_status st = BT_OK;
    for (size_t i = 1; i < n && !st; i++)
        if (compare_tokens(&sorted[i - 1], &sorted[i]) == 0)
            st = bt_err_set(err, BT_EFORMAT, 0, "%.80s: a token of %zu bytes has two ranks",
                            m->name, sorted[i].n);
    bt_free(sorted);
    return st;
}

/* Takes data. */
static bt_status parse(char *data, size_t n, const char *name, bt_tiktoken **out, bt_err *err)
{
    bt_status st = BT_OK;
    model *m = bt_calloc(1, sizeof *m);
    if (!m) {
        bt_free(data);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary");
    }
    m->data = data;
    m->n_data = n;
    m->name = name;
    for (int k = 0; k < 256; k++) m->view.byte_rank[k] = -1;
    const char *known = bt_file_known(data, n);
    if (known) st = bt_err_set(err, BT_EFORMAT, 0, "%.80s is %s", name, known);
    size_t line = 1;
    for (size_t at = 0; at < n && !st; line++) {
        const char *end = memchr(data + at, '\n', n - at);
        size_t len = end ? (size_t)(end - data) - at : n - at;
        st = read_line(m, data + at, len, line, err);
        at += len + 1;
    }
    if (!st) st = check(m, err);
    if (st) {
        bt_tiktoken_close(&m->view);
        return st;
    }
    m->view.token = m->token;
    m->name = NULL;
    *out = &m->view;
    return BT_OK;
}

bt_status bt_tiktoken_open_memory(const void *data, size_t bytes, const char *name,
                                  bt_tiktoken **out, bt_err *err)
{
    if (bytes > BT_TIKTOKEN_BYTES_MAX)
        return bt_err_set(err, BT_ETOOBIG, 0, "%.80s has %zu bytes; at most %d are read", name,
                          bytes, BT_TIKTOKEN_BYTES_MAX);
    char *copy = bt_malloc(bytes + 1);
    if (!copy)
        return bt_err_set(err, BT_ENOMEM, 0, "%.80s: out of memory for %zu bytes", name, bytes);
    if (bytes) memcpy(copy, data, bytes);
    return parse(copy, bytes, name, out, err);
}

bt_status bt_tiktoken_open(const char *path, bt_tiktoken **out, bt_err *err)
{
    char *data;
    size_t n;
    const char *slash = strrchr(path, '/');
    bt_status st = bt_file_read(path, BT_TIKTOKEN_BYTES_MAX, &data, &n, err);
    return st ? st : parse(data, n, slash ? slash + 1 : path, out, err);
}

void bt_tiktoken_close(bt_tiktoken *t)
{
    if (!t) return;
    model *m = (model *)t; // its first member
    bt_free(m->data);
    bt_free(m->token);
    bt_free(m);
}
