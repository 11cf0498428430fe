/* SPDX-License-Identifier: Apache-2.0 */
/* matrices.h - a layer's matrices by number, for whoever goes through all of them. Thread: any. */
#pragma once
#include "baton/model.h"
#include <stddef.h>
#include <stdio.h>

/* In their order; those that read the same input stand together. */
enum {
    BT_MATRIX_Q,
    BT_MATRIX_K,
    BT_MATRIX_V,
    BT_MATRIX_O,
    BT_MATRIX_GATE,
    BT_MATRIX_UP,
    BT_MATRIX_DOWN,
    BT_MATRICES_PER_LAYER
};

/* As writable as the layer is to the caller. */
static inline bt_weight *bt_layer_matrix(const bt_layer_weights *l, int32_t i)
{
    static const size_t at[BT_MATRICES_PER_LAYER] = {
        offsetof(bt_layer_weights, wq),     offsetof(bt_layer_weights, wk),
        offsetof(bt_layer_weights, wv),     offsetof(bt_layer_weights, wo),
        offsetof(bt_layer_weights, w_gate), offsetof(bt_layer_weights, w_up),
        offsetof(bt_layer_weights, w_down)};
    return (bt_weight *)((uintptr_t)l + at[i]);
}

/* The bias that goes with it; NULL: none. */
static inline const float *bt_layer_bias(const bt_layer_weights *l, int32_t i)
{
    const float *const bias[BT_MATRICES_PER_LAYER] = {l->bq,     l->bk,   l->bv,    l->bo,
                                                      l->b_gate, l->b_up, l->b_down};
    return bias[i];
}

/* As a GGUF file calls it. Returns dst. */
static inline const char *bt_layer_matrix_name(int32_t layer, int32_t i, char dst[static 64])
{
    static const char *const name[BT_MATRICES_PER_LAYER] = {
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    snprintf(dst, 64, "blk.%d.%s.weight", layer, name[i]);
    return dst;
}

static inline const char *bt_head_name(const bt_recipe *r)
{
    return r->tied_head ? "token_embd.weight" : "output.weight";
}
