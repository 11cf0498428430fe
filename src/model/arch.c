/* SPDX-License-Identifier: Apache-2.0 */
/* arch.c - one row an architecture. */
#include "model/arch.h"
#include "base/assert.h"
#include <math.h>
#include <string.h>

#define A(flag) BT_ARCH_##flag

/* Name, rope, norm, activation, norm of q and k, every, flags. Of formulas that llama.cpp and
 * transformers give differently (exact gelu or its tanh form), transformers' is taken. */
static const bt_arch archs[] = {
    {"llama", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"qwen2", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"qwen3", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_HEAD, 0, 0, 0},
    {"gemma", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 0, A(EMBED_SQRT),
     0},
    {"gemma2", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 2,
     A(EMBED_SQRT) | A(NORM_AFTER), 0},
    {"gemma3", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_HEAD, 6,
     A(EMBED_SQRT) | A(NORM_AFTER) | A(LOCAL_ROPE), 10000},
    {"phi3", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"smollm3", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 4,
     A(NO_ROPE), 0},
    {"granite", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0,
     A(LOGIT_DIVIDE), 0},
    {"olmo2", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_ROW, 4,
     A(NORM_AFTER) | A(NO_NORM_BEFORE) | A(LOCAL_ROPE), 0},
    {"glm4", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0,
     A(NORM_AFTER), 0},
    {"exaone4", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_HEAD, 4,
     A(NORM_AFTER) | A(NO_NORM_BEFORE) | A(WINDOW_ROPE), 0},
    {"command-r", BT_ROPE_INTERLEAVED, BT_NORM_LAYER, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0,
     A(PARALLEL) | A(LOGIT_TIMES), 0},
    {"cohere2", BT_ROPE_INTERLEAVED, BT_NORM_LAYER, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 4,
     A(PARALLEL) | A(LOGIT_TIMES) | A(WINDOW_ROPE), 0},
    {"starcoder2", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 0,
     A(PLAIN), 0},
    {"stablelm", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"gpt2", BT_ROPE_NONE, BT_NORM_LAYER, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 0,
     A(PLAIN) | A(POSITIONS), 0},
    {"gptneox", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_GELU, BT_QK_NORM_NONE, 0, A(PLAIN), 0},
    {"phi2", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 0,
     A(PLAIN) | A(PARALLEL), 0},
    {"falcon", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_GELU, BT_QK_NORM_NONE, 0,
     A(PLAIN) | A(PARALLEL), 0},
    {"nemotron", BT_ROPE_HALF, BT_NORM_LAYER, BT_ACTIVATION_RELU2, BT_QK_NORM_NONE, 0, A(PLAIN), 0},
    {"hunyuan-dense", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_LATE, 0, 0, 0},
    {"arcee", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_RELU2, BT_QK_NORM_NONE, 0, A(PLAIN),
     0},
    {"olmo", BT_ROPE_INTERLEAVED, BT_NORM_LAYER, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0,
     A(BARE_NORMS), 0},
    {"bloom", BT_ROPE_NONE, BT_NORM_LAYER, BT_ACTIVATION_GELU_TANH, BT_QK_NORM_NONE, 0,
     A(PLAIN) | A(EMBED_NORM) | A(ALIBI), 0},
    {"mpt", BT_ROPE_NONE, BT_NORM_LAYER, BT_ACTIVATION_GELU, BT_QK_NORM_NONE, 0,
     A(PLAIN) | A(ALIBI), 0},
    {"apertus", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_XIELU, BT_QK_NORM_HEAD, 0, A(PLAIN), 0},
    {"mistral3", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"seed_oss", BT_ROPE_HALF, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
    {"ernie4_5", BT_ROPE_INTERLEAVED, BT_NORM_RMS, BT_ACTIVATION_SILU, BT_QK_NORM_NONE, 0, 0, 0},
};
#undef A

const bt_arch *bt_arch_find(const char *name, size_t n)
{
    for (size_t i = 0; i < BT_COUNT(archs); i++)
        if (strlen(archs[i].name) == n && memcmp(archs[i].name, name, n) == 0) return &archs[i];
    return NULL;
}

void bt_arch_apply(const bt_arch *a, int32_t window, int32_t every, float local_theta, bt_recipe *r)
{
    memcpy(r->arch, a->name, strlen(a->name) + 1);
    r->norm = a->norm;
    r->learned_positions = a->flags & BT_ARCH_POSITIONS;
    r->embed_norm = a->flags & BT_ARCH_EMBED_NORM;
    r->bare_norms = a->flags & BT_ARCH_BARE_NORMS;
    if (a->flags & BT_ARCH_EMBED_SQRT) r->embed_scale = sqrtf((float)r->hidden);
    if (every == 0) every = a->every;
    r->rope[0].style = a->style;
    bool local = a->flags & BT_ARCH_LOCAL_ROPE && window > 0 && every > 0;
    bool none = a->flags & BT_ARCH_NO_ROPE || (a->flags & BT_ARCH_WINDOW_ROPE && window > 0);
    float theta = local_theta > 0      ? local_theta
                  : a->local_theta > 0 ? a->local_theta
                                       : r->rope[0].theta;
    r->n_ropes = local || none ? 2 : 1;
    r->rope[1] = (bt_rope){.style = local ? a->style : BT_ROPE_NONE,
                           .dim = local ? r->rope[0].dim : 0,
                           .theta = theta,
                           .factor = 1,
                           .amplitude = 1};
    for (int32_t i = 0; i < r->n_layers; i++) {
        bt_layer_recipe *l = &r->layer[i];
        bool stands_out = every > 0 && (i + 1) % every == 0;
        l->window = stands_out ? 0 : window;
        l->rope = (local && !stands_out) || (none && stands_out) ? 1 : 0;
        l->norm_before = !(a->flags & BT_ARCH_NO_NORM_BEFORE);
        l->norm_after = a->flags & BT_ARCH_NORM_AFTER;
        l->parallel = l->parallel || a->flags & BT_ARCH_PARALLEL;
        l->plain = a->flags & BT_ARCH_PLAIN;
        l->qk_norm = a->qk_norm;
        l->activation = a->activation;
    }
}
