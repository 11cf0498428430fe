/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - how fast each kernel of a device is, beside what the device can do at most.
 *
 * First the ceilings are measured: memory bandwidth, multiply-add rates. Then each case: its result
 * is compared with the reference (a result out of bounds is told as wrong, and not timed), its time
 * taken (median of repeated timings over rotating copies of the weights, so that caches help no
 * more than in life), and the least time worked out that this device would need by its own
 * ceilings:
 *
 *     bound = max(least bytes / memory bandwidth, operations / rate of the unit that does them)
 *
 * so that a table shows every gap at once. Kernels: embed, norm, rope (with the KV append), gemv by
 * rows and formats, attention (decode), gemm, prefill (attention), sample. On a GPU a case runs as
 * a graph of some launches, timed by the device's events; on the CPU on all threads, by the clock.
 * Shapes are those of a recipe. Thread: the caller's. */
#pragma once
#include "base/buf.h"
#include "baton/model.h"

/* The unit an operation is counted against. A multiply-add is two operations. */
typedef enum bt_ops_unit {
    BT_UNIT_NONE,
    BT_UNIT_FMA,     // f32 multiply-add
    BT_UNIT_DOT,     // int8 dot products outside of tensor cores
    BT_UNIT_MMA_F16, // tensor cores, f16 inputs
    BT_UNIT_MMA_S8,  // tensor cores, int8 inputs
    BT_UNITS
} bt_ops_unit;
const char *bt_ops_unit_name(bt_ops_unit unit); // "-", "fma", "dot", "mma f16", "mma s8"

typedef struct bt_ops_limits {
    char device[96];       // "NVIDIA L4", "CPU avx512 2 threads", "Emulated device (sm_80)"
    double memory;         // bytes a second: a copy's, reads and writes; the CPU's: reads
    double rate[BT_UNITS]; // operations a second; 0: no such unit
} bt_ops_limits;

typedef struct bt_ops_row {
    char kernel[24], shape[48], format[24]; // without commas
    int32_t rows;
    bt_ops_unit unit;
    double bytes, ops;    // the least that a call must move, and what it computes
    double us;            // a call; 0 if the result was wrong
    double bound_us;      // from the limits; 0 for the ceilings themselves
    double error, within; // of the result, relative, and what is allowed; within 0: not compared
    bool ceiling;         // one of the limits, not a kernel of the engine
} bt_ops_row;

typedef struct bt_ops_ask {
    const bt_recipe *recipe;
    const int32_t *format; // [n_formats] of matrices; NULL: all that the device has kernels for
    int32_t n_formats;
    const char *only; // kernels whose name begins so; NULL: all
    bool quick;       // fewer cases, fewer timings
    double seconds;   // no case is begun after so long; 0: no limit
    int32_t threads;  // CPU
    int32_t ordinal;  // CUDA
} bt_ops_ask;

/* limits: as far as they are known by now. */
typedef void (*bt_ops_sink)(void *ud, const bt_ops_row *row, const bt_ops_limits *limits);

/* BT_EDEVICE: some results were wrong; the sentence says how many. *skipped: cases that the time
 * did not allow. */
bt_status bt_ops_run_cpu(const bt_ops_ask *ask, bt_ops_sink sink, void *ud, int32_t *skipped,
                         bt_err *err);
/* Only in builds with CUDA. */
bt_status bt_ops_run_cuda(const bt_ops_ask *ask, bt_ops_sink sink, void *ud, int32_t *skipped,
                          bt_err *err);

/* Appends the row as a line of a table for people or of CSV; head: the table's head before it. */
void bt_ops_print(const bt_ops_row *row, const bt_ops_limits *limits, bool csv, bool head,
                  bt_buf *out);
