/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.h - from a file's keys to the one struct that says how an architecture differs.
 *
 * What a recipe cannot express (mixture of experts, ALiBi, ...) is refused by the name of its key, so
 * that no model ever runs almost right. Thread: any. */
#pragma once
#include "baton/model.h"
#include "file/gguf.h"

/* Reads and checks the keys. Rope scaling: a file of Llama 3.1 and later carries its divisors as
 * the tensor rope_freqs.weight; then scaling stays NONE here and bt_weights.rope_divisor has
 * them. BT_EUNSUPPORTED: an architecture or feature this build lacks; BT_EFORMAT: a key is
 * missing, of a wrong type or impossible. */
bt_status bt_recipe_read(const bt_gguf *g, bt_recipe *out, bt_err *err);
