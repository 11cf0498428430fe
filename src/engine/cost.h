/* SPDX-License-Identifier: Apache-2.0 */
/* cost.h - what a step costs, learnt from the steps so far, and how its time is divided.
 *
 *     us = prefill_row * prefill rows + decode_row * decode rows + kv_read * KV reads + fixed
 *
 * where KV reads is the sum over rows of the positions each row attends to. The model sizes prefill
 * chunks, weighs attribution and gives the scheduler its first estimates. Every step corrects it:
 * the ratio of measured to predicted, clipped so that one hiccup cannot spoil it, is credited to
 * each term by its part of the prediction. All terms stay positive. Thread: engine. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_cost {
    double prefill_row, decode_row, kv_read, fixed; // microseconds
    int64_t n_seen;
} bt_cost;

/* What one sequence, or a whole step, asks of the device. */
typedef struct bt_cost_work {
    int64_t prefill_rows, decode_rows, kv_reads;
    int32_t n_seqs;
} bt_cost_work;

/* First guess from how long one decode row takes on an empty context. */
void bt_cost_init(bt_cost *c, double decode_us);
/* Better: from measured steps of one decode row and of two prompts of few and more rows. */
void bt_cost_fit(bt_cost *c, double decode_us, int32_t few, double few_us, int32_t more,
                 double more_us);
double bt_cost_predict(const bt_cost *c, const bt_cost_work *w);
void bt_cost_learn(bt_cost *c, const bt_cost_work *w, uint64_t busy_us);
/* Most prompt rows, at most max_rows, whose cost from position pos on stays within us; may be 0. */
int32_t bt_cost_chunk(const bt_cost *c, int32_t pos, int32_t max_rows, double us);
/* Reads of n rows from position pos on: row i attends to pos + i + 1 positions. */
int64_t bt_cost_reads(int32_t pos, int32_t n);

/* cost_file.c: the terms as they were kept for this key (device, model, settings). False: there are
 * none, or none that can be believed, or they cannot be written. */
bool bt_cost_load(const char *path, uint64_t key, bt_cost *c);
bool bt_cost_save(const char *path, uint64_t key, const bt_cost *c);

/* Divides total among n parts by weight so that the sum is exact (largest remainder; ties go to the
 * lower index). Weights are finite and >= 0; all zero divides evenly. n is 1 to the maximum. */
enum { BT_COST_PARTS_MAX = 256 };
void bt_cost_split(uint64_t total, const double *weight, int32_t n, uint64_t *part);
