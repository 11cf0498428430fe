/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - how fast an engine is, in the words of llama-bench and llama-batched-bench, so that
 * rows of both programs can stand side by side.
 *
 * model: "pp N" is N prompt tokens in one request, "tg N" is N single-token steps after a one-token
 * prompt; each row is `repeat` runs after a short warm-up. batch: B sequences of PP prompt and TG
 * generated tokens each, T_PP until the last has its first token; the best of `repeat` runs.
 * residency: park, then wake, best of `repeat`. Prompts are random tokens and no prefix is reused.
 * Times are wall times of the engine in this process, HTTP is not in them.
 *
 * The rows print themselves as a table for people and as CSV. Thread: the caller's. */
#pragma once
#include "base/buf.h"
#include "baton/engine.h"
#include "bench/shape.h"

enum { BT_MEASURE_RUNS_MAX = 1000 };

typedef struct bt_measure bt_measure;

typedef struct bt_measure_info {
    const char *backend;      // "CPU", "CUDA", "emulated"
    char device[96];          // "cpu0", "cuda0 NVIDIA L4"
    char model[96], type[16]; // type: of the KV cache
    int32_t vocab, ctx, slots, threads, step_tokens;
    uint64_t weights_bytes, kv_bytes, scratch_bytes, n_params;
    bool can_park;
} bt_measure_info;

/* Opens a model by its path (opt->model_path) or, with shape, of random weights (borrowed until
 * close). */
bt_status bt_measure_open(const bt_engine_options *opt, const bt_shape_model *shape,
                          bt_measure **out, bt_err *err);
void bt_measure_close(bt_measure *m); // NULL is fine
const bt_measure_info *bt_measure_about(const bt_measure *m);

/* ---- rows */

typedef struct bt_measure_model_row {
    int32_t n_prompt, n_gen; // one of them is 0
    int32_t n;               // runs
    int64_t sample_ns[BT_MEASURE_RUNS_MAX];
    double avg_ns, stddev_ns, avg_ts, stddev_ts; // ts: tokens a second
    uint64_t busy_us; // of the last run, by the device's own clock: of a slower wall clock, the
                      // rest is the host's
} bt_measure_model_row;

bt_status bt_measure_model(bt_measure *m, int32_t n_prompt, int32_t n_gen, int32_t repeat,
                           bt_measure_model_row *out, bt_err *err);
double bt_measure_speed(const bt_measure_model_row *r, int32_t i); // tokens a second of run i

typedef struct bt_measure_batch_row {
    int32_t pp, tg, pl;
    double prompt_s, gen_s;
} bt_measure_batch_row;

bt_status bt_measure_batch(bt_measure *m, int32_t pp, int32_t tg, int32_t pl, int32_t repeat,
                           bt_measure_batch_row *out, bt_err *err);

typedef struct bt_measure_residency {
    uint64_t bytes;                      // given back and taken again
    double first_park_s, park_s, wake_s; // the first parking also makes the image in host memory
    bool from_host;                      // wake: from that image, not from the file
} bt_measure_residency;

/* BT_EUNSUPPORTED: this device has one level of residency only. */
bt_status bt_measure_residency_run(bt_measure *m, int32_t repeat, bt_measure_residency *out,
                                   bt_err *err);

/* ---- printing: appends to out; head: the table's head comes before */

typedef enum bt_measure_style { BT_MEASURE_MD, BT_MEASURE_CSV } bt_measure_style;

void bt_measure_model_print(const bt_measure *m, const bt_measure_model_row *r,
                            bt_measure_style style, bool head, bt_buf *out);
void bt_measure_batch_print(const bt_measure *m, const bt_measure_batch_row *r,
                            bt_measure_style style, bool head, bt_buf *out);
void bt_measure_residency_print(const bt_measure *m, const bt_measure_residency *r,
                                bt_measure_style style, bool head, bt_buf *out);
