/* SPDX-License-Identifier: Apache-2.0 */
/* drive.h - a backend driven step by step, as the engine would: sequences with scattered pages, all
 * rows' logits read. */
#pragma once
#include "test.h"
#include "tiny_model.h"

enum { CTX = 1700, PAGES = 240, SEQS_MAX = 4, ROWS_MAX = 96 };

/* A sequence as a caller keeps it: its tokens, its pages, and how much is in KV. */
typedef struct sequence {
    int32_t token[CTX], page[(CTX + 15) / 16];
    int32_t len, done;
} sequence;

static sequence *sequence_new(const tiny_model *m, int32_t len, int32_t first_page, uint64_t seed)
{
    sequence *s = bt_must(bt_calloc(1, sizeof *s));
    s->len = len;
    for (int32_t i = 0; i < len; i++)
        s->token[i] = (int32_t)(bt_rng_unit(seed, (uint64_t)i) * m->recipe.vocab);
    /* Scattered over the pool: 7 has no factor in common with 240. */
    for (int32_t i = 0; i < (CTX + 15) / 16; i++) s->page[i] = (first_page + 7 * i) % PAGES;
    return s;
}

/* One step that takes rows[i] tokens of each sequence; logits of all rows to dst, [rows][vocab]. No
 * allocation. */
static inline void drive_step(const bt_backend *be, bt_device *d, const tiny_model *m,
                              sequence *const *seqs, const int32_t *rows, int n, float *dst)
{
    int32_t token[ROWS_MAX], pos[ROWS_MAX], row_seq[ROWS_MAX], out_row[ROWS_MAX];
    bt_batch_seq part[SEQS_MAX];
    bt_batch b = {.n_seqs = n, .token = token, .pos = pos, .row_seq = row_seq, .seqs = part};
    b.out_row = out_row;
    bt_err err = {0};
    for (int i = 0; i < n; i++) {
        part[i] = (bt_batch_seq){seqs[i]->page, b.n_rows, rows[i], seqs[i]->done + rows[i]};
        for (int32_t r = 0; r < rows[i]; r++, b.n_rows++) {
            token[b.n_rows] = seqs[i]->token[seqs[i]->done];
            pos[b.n_rows] = seqs[i]->done++;
            row_seq[b.n_rows] = i;
            out_row[b.n_rows] = b.n_rows;
        }
    }
    b.n_out = b.n_rows;
    uint64_t busy = 0;
    bt_mem_guard_begin();
    bt_status rc = be->step_begin(d, &b, &err);
    if (rc != BT_OK) fprintf(stderr, "step: %s\n", err.msg);
    REQUIRE(rc == BT_OK);
    REQUIRE(be->embed(d, &err) == BT_OK);
    for (int32_t l = 0; l < m->recipe.n_layers; l++) {
        REQUIRE(be->attn_in(d, l, &err) == BT_OK);
        REQUIRE(be->attention(d, l, &err) == BT_OK);
        REQUIRE(be->attn_out(d, l, &err) == BT_OK);
        REQUIRE(be->mlp(d, l, &err) == BT_OK);
    }
    REQUIRE(be->head(d, &err) == BT_OK);
    if (be->step_submit) REQUIRE(be->step_submit(d, &err) == BT_OK);
    REQUIRE(be->step_end(d, &busy, &err) == BT_OK);
    for (int32_t i = 0; i < b.n_rows; i++)
        REQUIRE(be->logits(d, i, dst + (int64_t)i * m->recipe.vocab, &err) == BT_OK);
    bt_mem_guard_end();
    CHECK(busy >= 1);
}

/* The next n rows of one sequence, where anything may fail; logits of the last row to dst. */
static inline bt_status drive_try(const bt_backend *be, bt_device *d, const tiny_model *m,
                                  sequence *s, int32_t n, float *dst, bt_err *err)
{
    int32_t pos[ROWS_MAX], row_seq[ROWS_MAX] = {0}, out_row[1] = {n - 1};
    bt_batch_seq part = {s->page, 0, n, s->done + n};
    bt_batch b = {n, 1, 1, s->token + s->done, pos, row_seq, &part, out_row};
    uint64_t busy = 0;
    for (int32_t i = 0; i < n; i++) pos[i] = s->done + i;
    bt_status rc = be->step_begin(d, &b, err);
    if (!rc) rc = be->embed(d, err);
    for (int32_t l = 0; !rc && l < m->recipe.n_layers; l++) {
        rc = be->attn_in(d, l, err);
        if (!rc) rc = be->attention(d, l, err);
        if (!rc) rc = be->attn_out(d, l, err);
        if (!rc) rc = be->mlp(d, l, err);
    }
    if (!rc) rc = be->head(d, err);
    if (!rc && be->step_submit) rc = be->step_submit(d, err);
    if (!rc) rc = be->step_end(d, &busy, err);
    if (!rc) rc = be->logits(d, 0, dst, err);
    if (!rc) s->done += n;
    return rc;
}

/* A whole sequence in chunks; logits of every position, [len][vocab]. */
static inline float *drive_alone(const bt_backend *be, bt_device *d, const tiny_model *m,
                                 sequence *s, int32_t chunk)
{
    float *logits = bt_must(bt_malloc((size_t)s->len * (size_t)m->recipe.vocab * sizeof *logits));
    for (s->done = 0; s->done < s->len;) {
        int32_t rows = s->len - s->done < chunk ? s->len - s->done : chunk;
        drive_step(be, d, m, &s, &rows, 1, logits + (int64_t)s->done * m->recipe.vocab);
    }
    return logits;
}

static inline double relative_error(const float *got, const double *want, int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(diff / norm);
}

/* The model cannot be opened so: the code, and a sentence with both words in it. */
static inline void drive_refused(const bt_backend *be, const tiny_model *m, const bt_device_plan *p,
                                 bt_status code, const char *a, const char *b)
{
    bt_device *d = NULL;
    bt_err err = {0};
    CHECK_INT(be->open(&m->recipe, &m->weights, p, NULL, NULL, &d, &err), code);
    CHECK(!d);
    if (!strstr(err.msg, a) || !strstr(err.msg, b)) CHECK_STR(err.msg, a);
}
