/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - from a config.json of transformers to a recipe.
 *
 * One row a model_type: what its class takes where the file says nothing, and which architecture of
 * arch.h it is. Of a multimodal model the text part is read. What a recipe cannot express is refused
 * by the name of its field, so that no model ever runs almost right. Thread: any. */
#pragma once
#include "baton/model.h"
#include "file/tensor.h"

enum { BT_CONFIG_PAIRS_MAX = 512 }; // of a head's numbers that turn

typedef struct bt_config {
    const char *label; // borrowed: the file as sentences name it
    bool tied;         // the file, or its class, says that the head is the embedding
    bool multimodal;   // there is more than the text part
    int32_t n_pairs;   // longrope: numbers in each of the two lists; 0: there are none
    float divisor[BT_CONFIG_PAIRS_MAX], divisor_long[BT_CONFIG_PAIRS_MAX];
    bt_str quantization; // the text of quantization_config, in the file's; s NULL: none
} bt_config;

/* label is for sentences. r->tied_head is as out->tied; the weights decide in the end. vocab and all
 * else are what the file says. BT_EFORMAT: a field is missing, of a wrong type or impossible;
 * BT_EUNSUPPORTED: a model_type or a feature that this build lacks. */
bt_status bt_config_read(bt_str text, const char *label, bt_config *out, bt_recipe *r, bt_err *err);
