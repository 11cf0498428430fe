/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_config.c - any bytes as a config.json, a quantization_config and a generation_config.json:
 * refused with a sentence, or a recipe that keeps its word. */
#include "base/assert.h"
#include "model/arch.h"
#include "model/config.h"
#include "model/generation.h"
#include "model/quantized.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_recipe(const bt_recipe *r)
{
    BT_ASSERT(r->n_layers >= 1 && r->n_layers <= BT_LAYERS_MAX && r->n_ropes >= 1);
    BT_ASSERT(r->hidden > 0 && r->vocab > 0 && r->ctx_train > 0 && r->norm_eps > 0);
    BT_ASSERT(bt_arch_find(r->arch, strlen(r->arch)));
    for (int32_t i = 0; i < r->n_layers; i++) {
        const bt_layer_recipe *l = &r->layer[i];
        BT_ASSERT(l->n_kv_heads >= 1 && l->n_heads % l->n_kv_heads == 0 && l->ffn > 0);
        BT_ASSERT(l->head_dim > 0 && l->head_dim % 2 == 0 && r->rope[0].dim <= l->head_dim);
        BT_ASSERT(l->rope >= 0 && l->rope < r->n_ropes && l->window >= 0);
        BT_ASSERT(l->attn_scale > 0 && l->attn_scale - l->attn_scale == 0);
    }
    for (int32_t i = 0; i < r->n_ropes; i++)
        BT_ASSERT(r->rope[i].dim % 2 == 0 && r->rope[i].amplitude > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bt_recipe recipe;
    static bt_config config;
    bt_str text = {(const char *)data, size};
    bt__quantization quantization;
    bt_generation generation;
    bt_err err = {0};
    if (bt_config_read(text, "fuzz", &config, &recipe, &err) == BT_OK) {
        check_recipe(&recipe);
        BT_ASSERT(config.n_pairs == 0 || config.n_pairs == recipe.rope[0].dim / 2);
        for (int32_t i = 0; i < config.n_pairs; i++)
            BT_ASSERT(config.divisor[i] > 0 && config.divisor_long[i] > 0);
        if (config.quantization.s) text = config.quantization;
    } else {
        BT_ASSERT(err.code && err.msg[0]);
    }
    if (bt__quantization_read(text, "fuzz", &quantization, &err) == BT_OK)
        BT_ASSERT(quantization.bits >= 0 && quantization.group >= 0 && quantization.block >= 0);
    if (bt_generation_read((bt_str){(const char *)data, size}, "fuzz", &generation, &err) == BT_OK)
        BT_ASSERT(generation.temperature >= -1 && generation.top_k >= -1);
    return 0;
}
