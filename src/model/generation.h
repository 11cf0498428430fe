/* SPDX-License-Identifier: Apache-2.0 */
/* generation.h - what generation_config.json says of sampling: the defaults of a model's requests.
 *
 * Its do_sample is not asked, as other servers do not: a request that wants greedy text says so. The
 * ids that end a text are read with the tokenizer (src/token). Thread: any. */
#pragma once
#include "baton/engine.h"
#include "file/tensor.h"

typedef struct bt_generation {
    double temperature, top_p, min_p, repetition_penalty; // -1: the file does not say
    int64_t top_k;                                        // likewise; 0: off
} bt_generation;

static inline bt_generation bt_generation_none(void)
{
    return (bt_generation){-1, -1, -1, -1, -1};
}

/* label is for sentences. BT_EFORMAT: a field is of a wrong type or impossible. */
bt_status bt_generation_read(bt_str text, const char *label, bt_generation *out, bt_err *err);
/* What it says into p; the rest of p stays. */
void bt_generation_apply(const bt_generation *g, bt_gen_params *p);
