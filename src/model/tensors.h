/* SPDX-License-Identifier: Apache-2.0 */
/* tensors.h - the one table of what a model's file holds: the names of each tensor, its shape as an
 * expression over the recipe, when it must be there, and where it goes.
 *
 * Readers, the planner, both backends' loaders, --quant and every sentence about a tensor walk it.
 * A row is a module: `base`.weight, and `base`.bias where it may have one. Thread: any. */
#pragma once
#include "baton/model.h"
#include <stddef.h>

/* The rows in their order. Matrices first; those that read the same input stand together. */
enum {
    BT_MATRIX_Q,
    BT_MATRIX_K,
    BT_MATRIX_V,
    BT_MATRIX_O,
    BT_MATRIX_GATE,
    BT_MATRIX_UP,
    BT_MATRIX_DOWN,
    BT_MATRICES_PER_LAYER,
    BT_TENSOR_ATTN_NORM = BT_MATRICES_PER_LAYER,
    BT_TENSOR_ATTN_AFTER,
    BT_TENSOR_FFN_NORM,
    BT_TENSOR_FFN_AFTER,
    BT_TENSOR_Q_NORM,
    BT_TENSOR_K_NORM,
    BT_TENSORS_PER_LAYER,
    BT_TENSOR_EMBED = BT_TENSORS_PER_LAYER,
    BT_TENSOR_POSITIONS,
    BT_TENSOR_EMBED_NORM,
    BT_TENSOR_OUT_NORM,
    BT_TENSOR_HEAD,
    BT_TENSOR_ROPE,
    BT_TENSOR_ROPE_LONG,
    BT_TENSORS
};

/* A size that a shape is made of. */
typedef enum bt_tensor_size {
    BT_SIZE_ONE, // rows of a vector
    BT_SIZE_HIDDEN,
    BT_SIZE_VOCAB,
    BT_SIZE_CTX,
    BT_SIZE_FFN,
    BT_SIZE_Q,      // n_heads * head_dim
    BT_SIZE_KV,     // n_kv_heads * head_dim
    BT_SIZE_Q_NORM, // head_dim, or Q where the whole row is normed
    BT_SIZE_K_NORM,
    BT_SIZE_ROPE, // pairs of the first rope
} bt_tensor_size;

typedef enum bt_tensor_need {
    BT_NEED_NOT, // the recipe has no such tensor: a file that holds one is refused
    BT_NEED_MAY,
    BT_NEED_MUST,
} bt_tensor_need;

/* How a file may hold it other than as rows of outputs. */
typedef enum bt_tensor_form {
    BT_FORM_ROWS,
    BT_FORM_COLUMNS,  // transposed, [inputs][outputs]: gpt2's Conv1D
    BT_FORM_GROUPS,   // for each key head its queries' rows, its key's and its value's: gpt_neox
    BT_FORM_PLUS_ONE, // a norm's weight is 1 + what is stored: gemma
} bt_tensor_form;

/* Which of the two namings a file has. */
typedef enum bt_naming { BT_NAMING_GGUF, BT_NAMING_HF } bt_naming;

typedef struct bt_tensor {
    const char *base[2];  // by bt_naming; %d: the layer
    const char *fused[2]; // the module that may hold it after its neighbours, or NULL
    bt_tensor_size rows, cols;
    size_t at;      // of the bt_weight or const float *, in bt_layer_weights or bt_weights
    size_t bias_at; // of the bias, const float *; 0: it has none
} bt_tensor;

extern const bt_tensor bt_tensors[BT_TENSORS];

enum { BT_TENSOR_NAME_MAX = 96, BT_TENSOR_PLACES_MAX = 3 };

/* A place where a file may hold it: rows [first, first + its own) of a tensor of `rows` in all. */
typedef struct bt_tensor_place {
    char name[BT_TENSOR_NAME_MAX];
    bt_tensor_form form;
    int32_t first, rows;
} bt_tensor_place;

static inline bool bt_tensor_per_layer(int32_t id)
{
    return id < BT_TENSORS_PER_LAYER;
}
/* A vector becomes a const float *, a matrix a bt_weight. */
static inline bool bt_tensor_is_vector(int32_t id)
{
    return bt_tensors[id].rows == BT_SIZE_ONE;
}
int32_t bt_tensor_size_of(const bt_recipe *r, int32_t layer, bt_tensor_size size);
/* layer is ignored where the row is not one a layer. */
bt_tensor_need bt_tensor_needed(const bt_recipe *r, int32_t layer, int32_t id, bool bias);
/* Where a file of that naming may hold it, likeliest first; returns how many places. A reader takes
 * the first that is there and has the right shape: [rows] of [cols], or the reverse for COLUMNS. */
int32_t bt_tensor_places(const bt_recipe *r, int32_t layer, int32_t id, bool bias, bt_naming naming,
                         bt_tensor_place out[static BT_TENSOR_PLACES_MAX]);
/* As a file calls it ("blk.3.attn_q.weight"), for sentences. Returns dst. */
const char *bt_tensor_name(const bt_recipe *r, int32_t layer, int32_t id, bt_naming naming,
                           char dst[static BT_TENSOR_NAME_MAX]);

/* The matrix or vector where it lies in a layer's or the model's weights. */
static inline void *bt_tensor_in(const void *weights, int32_t id)
{
    return (void *)((uintptr_t)weights + bt_tensors[id].at);
}
/* A layer's matrix, as writable as the layer is to the caller; data NULL: the recipe has none. */
static inline bt_weight *bt_layer_matrix(const bt_layer_weights *l, int32_t id)
{
    return (bt_weight *)bt_tensor_in(l, id);
}
/* The bias that goes with a layer's matrix or norm; NULL: none. */
static inline const float *bt_layer_bias(const bt_layer_weights *l, int32_t id)
{
    return *(const float *const *)((uintptr_t)l + bt_tensors[id].bias_at);
}
