/* SPDX-License-Identifier: Apache-2.0 */
/* shape.h - models of known shapes with random weights, made in memory, so that a benchmark needs
 * no file.
 *
 * The shapes are those of published configurations. Weights are random valid blocks of the format
 * (bench/random.h); matrices of one shape and format share one block of host memory in all layers,
 * which a device copies anew for each, so its memory and traffic are the real model's. The
 * vocabulary has the model's size: 256 bytes, then made-up words, so text is gibberish.
 *
 * quant says the formats as published files mix them:
 *   f32 f16 bf16         every matrix
 *   q8_0 int8            every matrix of the layers; embedding and head q8_0
 *   q4_0 int4            every matrix of the layers; embedding and head q6_k
 *   q4_k q5_k q6_k       likewise
 *   q4_k_m q5_k_m        as q4_k, q5_k, and V and down projections of half of the layers (the first
 *                        and last eighth, and every third between) q6_k, as llama.cpp's own
 * mixtures A matrix whose columns no k-quant divides takes q8_0 instead. */
#pragma once
#include "base/buf.h"
#include "baton/model.h"
#include "vocab/vocab.h"

typedef struct bt_shape {
    const char *name, *arch;
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab, ctx;
    float theta;
    bt_rope_style style;
    bool bias, tied;
} bt_shape;

const bt_shape *bt_shape_find(const char *name); // NULL: unknown
void bt_shape_names(bt_buf *out);                // appends "tiny, qwen2.5-0.5b, ..."
void bt_quant_names(bt_buf *out);                // what quant may be
/* The formats of such a model's matrices, the layers' first. BT_EINVAL names what is known. */
bt_status bt_quant_formats(const char *quant, int32_t out[static 3], int32_t *n, bt_err *err);
void bt_shape_recipe(const bt_shape *s, bt_recipe *out);

typedef struct bt_shape_model {
    bt_recipe recipe;
    bt_weights weights;
    bt_vocab *vocab;               // owned
    char name[64];                 // "llama-3-8b q4_k_m"
    bool bias;                     // of q, k and v
    uint64_t n_params, file_bytes; // as a file of it would have
    struct bt_shape_block {
        int32_t format, rows, cols;
        void *data;
    } block[32]; // owned: one a shape and format
    int32_t n_blocks;
    float *floats; // owned: norms and biases
} bt_shape_model;

/* layers > 0: only so many of them. BT_EINVAL names what is known. */
bt_status bt_shape_model_new(const char *shape, const char *quant, int32_t layers,
                             bt_shape_model **out, bt_err *err);
void bt_shape_model_free(bt_shape_model *m); // NULL is fine
