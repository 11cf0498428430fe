/* SPDX-License-Identifier: Apache-2.0 */
/* measure_impl.h - what the measuring of both devices shares: the run's state, and references.
 * Private to src/device. */
#pragma once
#include "bench/ops.h"

typedef struct bt__ops {
    const bt_ops_ask *ask;
    bt_ops_sink sink;
    void *ud;
    bt_ops_limits limits;
    int64_t end_ns; // INT64_MAX: no limit
    int32_t wrong, skipped;
} bt__ops;

void bt__ops_begin(bt__ops *o, const bt_ops_ask *ask, bt_ops_sink sink, void *ud);
bt_status bt__ops_end(const bt__ops *o, int32_t *skipped, bt_err *err);
bool bt__ops_named(const bt__ops *o, const char *kernel); // by --only
/* Whether a case of this kernel is wanted and there is time for it (else it counts as skipped). */
bool bt__ops_wants(bt__ops *o, const char *kernel);
/* Whether the row's result is good; a bad one is told at once. */
bool bt__ops_right(bt__ops *o, bt_ops_row *row);
/* Works out the bound and tells the row. */
void bt__ops_tell(bt__ops *o, bt_ops_row *row);

/* The matrices of a layer as the engine runs them, and the head. */
typedef struct bt__ops_matrix {
    const char *name;
    int32_t n, k;
    bool glu;  // gate and up in one: half of the outputs come out
    bool head; // of the whole model
} bt__ops_matrix;
enum { BT__OPS_MATRICES = 5 };
void bt__ops_matrices(const bt_recipe *r, bt__ops_matrix out[BT__OPS_MATRICES]);
/* Bytes of file rows are at src. Relative error (root mean square) of y[rows, ld] against x w^T in
 * double, over some of the outputs and up to three of the rows; with glu of the gated unit. */
double bt__ops_linear_error(const bt__ops_matrix *m, int32_t format, const void *src,
                            const float *x, int32_t rows, const float *y, int64_t ld);
/* Median of n values; sorts them. */
double bt__ops_median(double *v, int32_t n);
/* Root mean square of got - want over that of want. */
double bt__ops_error(const float *got, const double *want, int32_t n);
/* softmax(q k) v in double for one head of one query: element(ud, v?, position, column) reads KV.
 * out: [dim]. */
typedef double (*bt__ops_kv_fn)(const void *ud, bool value, int32_t position, int32_t column);
void bt__ops_attention(const float *q, double scale, int32_t positions, int32_t dim,
                       bt__ops_kv_fn element, const void *ud, double *out);
