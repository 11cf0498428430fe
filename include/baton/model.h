/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - what the layer loop and the backends know of a model: the recipe and the weights.
 *
 * The recipe is the one struct that says how an architecture differs; src/model fills it from a
 * file and nobody changes it afterwards. Weights point into the mapped file (borrowed: the model
 * outlives every device that loaded it); a backend repacks them to its own layout in load(). */
#pragma once
#include "baton/format.h"
#include "baton/status.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bt_rope_style {
    BT_ROPE_NONE = 0,
    BT_ROPE_INTERLEAVED, // pairs (2i, 2i+1): GGUF arch "llama"
    BT_ROPE_HALF,        // pairs (i, i + rope_dim/2): GGUF arch "qwen2"
} bt_rope_style;

typedef enum bt_rope_scaling {
    BT_ROPE_SCALING_NONE = 0,
    BT_ROPE_SCALING_LINEAR, // every frequency divided by factor
    BT_ROPE_SCALING_LLAMA3, // by wavelength: keep, divide by factor, or blend between
} bt_rope_scaling;

typedef struct bt_recipe {
    char arch[32]; // "llama", "qwen2"
    char name[96]; // general.name, "" if absent
    int32_t n_layers;
    int32_t hidden;     // width of the residual stream
    int32_t n_heads;    // query heads
    int32_t n_kv_heads; // n_heads % n_kv_heads == 0
    int32_t head_dim;
    int32_t ffn;   // width of the gate/up projections
    int32_t vocab; // rows of the embedding and of the head
    int32_t ctx_train;
    float norm_eps;
    float attn_scale; // multiplies q.k, usually 1/sqrt(head_dim)
    bt_rope_style rope_style;
    int32_t rope_dim; // <= head_dim, even; dimensions past it are not rotated
    float rope_theta;
    bt_rope_scaling rope_scaling;
    float rope_factor, rope_low, rope_high; // LINEAR: factor; LLAMA3: all, and rope_orig_ctx
    int32_t rope_orig_ctx;
    bool qkv_bias; // the first layer has biases of q, k or v
    bool tied_head;
} bt_recipe;

/* A matrix of a model: rows outputs of cols inputs, row-major as in the file. */
typedef struct bt_weight {
    int32_t format; // bt_format
    int32_t rows, cols;
    const void *data; // borrowed: in the mapped file; NULL = absent. Not necessarily aligned.
} bt_weight;

typedef struct bt_layer_weights {
    const float *attn_norm;    // [hidden] F32, aligned copies owned by the model
    const float *ffn_norm;     // [hidden]
    bt_weight wq, wk, wv;      // [heads * head_dim, hidden]
    bt_weight wo;              // [hidden, n_heads * head_dim]
    bt_weight w_gate, w_up;    // [ffn, hidden]
    bt_weight w_down;          // [hidden, ffn]
    /* As long as their matrix has rows, or NULL: q, k and v all or none, gate and up likewise. */
    const float *bq, *bk, *bv, *bo, *b_gate, *b_up, *b_down;
} bt_layer_weights;

typedef struct bt_weights {
    bt_weight embed;           // [vocab, hidden]
    const float *out_norm;     // [hidden]
    bt_weight head;            // [vocab, hidden]; equals embed if tied
    const float *rope_divisor; // [rope_dim / 2] divides each frequency, or NULL (all ones)
    bt_layer_weights *layers;  // [n_layers]
} bt_weights;

#ifdef __cplusplus
}
#endif
