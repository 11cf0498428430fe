/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - what the layer loop and the backends know of a model: the recipe and the weights.
 *
 * The recipe says how an architecture differs: what is true of the whole model, and an array of
 * layer recipes for the rest. src/model fills it from a file and nobody changes it afterwards.
 * Weights point into the mapped file (borrowed: the model outlives every device that loaded it); a
 * backend repacks them to its own layout in load(). What of a recipe a backend cannot do, its can()
 * refuses by name.
 *
 * One layer, x being the residual stream:
 *     h = norm(x) or x itself         norm_before
 *     q k v = W h + b                 then qk_norm, then the rope of the layer
 *     a = softmax(cap(scale q k)) v   over the window
 *     y = W_o a + b_o                 normed again with norm_after
 *     x += residual_scale * y
 *     h = norm(x) or x; parallel: of the x that came in, by the layer's first norm where it has no
 *                                 second
 *     y = W_down (act(W_gate h) * (W_up h)), or W_down act(W_up h) where the unit is plain
 *     x += residual_scale * y         y normed again with norm_after */
#pragma once
#include "baton/format.h"
#include "baton/status.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_LAYERS_MAX = 512, BT_ROPES_MAX = 2 };

typedef enum bt_rope_style {
    BT_ROPE_NONE = 0,    // positions turn nothing
    BT_ROPE_INTERLEAVED, // pairs (2i, 2i+1): GGUF arch "llama"
    BT_ROPE_HALF,        // pairs (i, i + dim/2): GGUF arch "qwen2"
} bt_rope_style;

typedef enum bt_rope_scaling {
    BT_ROPE_SCALING_NONE = 0,
    BT_ROPE_SCALING_LINEAR, // every frequency divided by factor
    BT_ROPE_SCALING_LLAMA3, // by wavelength: keep, divide by factor, or blend between
    BT_ROPE_SCALING_YARN,   // by turns within orig_ctx: keep, divide by factor, or blend between
} bt_rope_scaling;

typedef struct bt_rope {
    bt_rope_style style;
    int32_t dim; // of a head's numbers so many turn, even; those past it stay
    float theta;
    bt_rope_scaling scaling;
    float factor, low, high; // LINEAR: factor; LLAMA3: all; YARN: all, low and high being turns
    int32_t orig_ctx;        // LLAMA3, YARN; and past it the long divisors hold (longrope)
    float amplitude;         // multiplies cos and sin; 1 but for yarn and longrope
} bt_rope;

typedef enum bt_norm_kind {
    BT_NORM_RMS = 0,
    BT_NORM_LAYER, // mean taken out, perhaps with a bias
} bt_norm_kind;

typedef enum bt_qk_norm {
    BT_QK_NORM_NONE = 0,
    BT_QK_NORM_HEAD, // of each head alone, all by one weight of head_dim
    BT_QK_NORM_LATE, // the same behind the rope
    BT_QK_NORM_ROW,  // of all heads together
} bt_qk_norm;

typedef enum bt_activation {
    BT_ACTIVATION_SILU = 0,  // x / (1 + e^-x)
    BT_ACTIVATION_GELU,      // x Phi(x)
    BT_ACTIVATION_GELU_TANH, // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    BT_ACTIVATION_RELU2,     // max(x, 0)^2
    BT_ACTIVATION_XIELU,     // of bt_xielu, no gate
} bt_activation;

/* p x^2 + beta x above 0, else n (e^min(x, eps) - 1 - x) + beta x (Huang and Schlag 2024). */
typedef struct bt_xielu {
    float p, n, beta, eps;
} bt_xielu;

/* What may differ from layer to layer. */
typedef struct bt_layer_recipe {
    int32_t n_heads;    // query heads
    int32_t n_kv_heads; // n_heads % n_kv_heads == 0
    int32_t head_dim;
    int32_t rope;     // index of the recipe's ropes
    int32_t window;   // a position sees itself and window - 1 before it; 0: all
    float attn_scale; // multiplies q.k, usually 1/sqrt(head_dim)
    float attn_cap;   // scores become cap * tanh(score / cap); 0: they stay
    float qkv_clamp;  // q, k and v are cut to [-clamp, clamp]; 0: they stay
    float alibi;      // the greatest slope's exponent of ALiBi (8); 0: none
    /* q at position p is multiplied by 1 + growth ln(1 + floor(p / rope[0].orig_ctx)). */
    float q_growth;
    bt_qk_norm qk_norm;
    bool norm_before, norm_after; // of what goes into attention and feed-forward; what comes out
    bool parallel;                // both read the x that came in
    bool plain;                   // the feed-forward has no gate
    bt_activation activation;
    bt_xielu xielu;
    int32_t ffn; // width of the feed-forward
} bt_layer_recipe;

typedef struct bt_recipe {
    char arch[32]; // as GGUF calls it: "llama", "qwen2"
    char name[96]; // general.name, "" if absent
    int32_t n_layers;
    int32_t hidden; // width of the residual stream
    int32_t vocab;  // rows of the embedding and of the head
    int32_t ctx_train;
    bt_norm_kind norm; // every norm of the model but those of q and k, which are RMS
    float norm_eps;
    float embed_scale, residual_scale, logit_scale; // factors; 1: none
    float logit_cap;                                // cap * tanh(logit / cap); 0: they stay
    bool learned_positions;                         // a row a position is added to the embedding
    bool embed_norm;                                // embeddings are normed
    bool bare_norms;                                // norms have no weights
    bool tied_head;
    int32_t n_ropes;
    bt_rope rope[BT_ROPES_MAX];
    bt_layer_recipe layer[BT_LAYERS_MAX]; // [n_layers]
} bt_recipe;

/* A matrix of a model: rows outputs of cols inputs, row-major as in the file. */
typedef struct bt_weight {
    int32_t format; // bt_format
    int32_t rows, cols;
    const void *data; // borrowed: in the mapped file; NULL = absent. Not necessarily aligned.
} bt_weight;

/* Vectors are aligned F32 owned by the model; NULL where the recipe asks for none. */
typedef struct bt_layer_weights {
    const float *attn_norm, *attn_norm_b;   // [hidden]
    const float *attn_after, *attn_after_b; // [hidden], norm_after
    const float *ffn_norm, *ffn_norm_b;     // [hidden]; parallel: may be the first norm again
    const float *ffn_after, *ffn_after_b;   // [hidden], norm_after
    const float *q_norm, *k_norm;           // [head_dim], or as long as the rows of q and k
    bt_weight wq, wk, wv;                   // [heads * head_dim, hidden]
    bt_weight wo;                           // [hidden, n_heads * head_dim]
    bt_weight w_gate, w_up;                 // [ffn, hidden]; plain: no gate
    bt_weight w_down;                       // [hidden, ffn]
    /* As long as their matrix has rows, or NULL: q, k and v all or none, gate and up likewise. */
    const float *bq, *bk, *bv, *bo, *b_gate, *b_up, *b_down;
} bt_layer_weights;

typedef struct bt_weights {
    bt_weight embed;                        // [vocab, hidden]
    bt_weight positions;                    // [ctx_train, hidden], learned_positions
    const float *embed_norm, *embed_norm_b; // [hidden], embed_norm
    const float *out_norm, *out_norm_b;     // [hidden]
    bt_weight head;                         // [vocab, hidden]; equals embed if tied
    const float *head_b;                    // [vocab], or NULL
    /* [rope[0].dim / 2] divides each frequency of the first rope, or NULL (all ones). */
    const float *rope_divisor;
    const float *rope_divisor_long; // the same for contexts past orig_ctx, or NULL: no other
    bt_layer_weights *layers;       // [n_layers]
} bt_weights;

/* The divisors of a rope for a device of so long a context; NULL: all ones. */
static inline const float *bt_rope_divisor(const bt_recipe *r, const bt_weights *w, int32_t rope,
                                           int32_t ctx)
{
    if (rope != 0) return NULL;
    return w->rope_divisor_long && ctx > r->rope[0].orig_ctx ? w->rope_divisor_long
                                                             : w->rope_divisor;
}

#ifdef __cplusplus
}
#endif
