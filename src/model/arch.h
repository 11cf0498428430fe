/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h - the table of architectures: what each of them fixes without a file saying so.
 *
 * A reader (GGUF keys, config.json) fills in the numbers of a recipe, then bt_arch_apply() says the
 * rest of each layer. Thread: any. */
#pragma once
#include "baton/model.h"

enum {
    BT_ARCH_NORM_AFTER = 1 << 0,     // what comes out of attention and feed-forward is normed
    BT_ARCH_NO_NORM_BEFORE = 1 << 1, // and what goes in is not
    BT_ARCH_PARALLEL = 1 << 2,       // attention and feed-forward read the same x
    BT_ARCH_PLAIN = 1 << 3,          // no gate in the feed-forward
    BT_ARCH_POSITIONS = 1 << 4,      // learned positions
    BT_ARCH_EMBED_SQRT = 1 << 5,     // embeddings are multiplied by sqrt(hidden)
    BT_ARCH_LOGIT_DIVIDE = 1 << 6,   // logits are divided by the file's logit scale
    BT_ARCH_LOGIT_TIMES = 1 << 7,    // or multiplied by it
    BT_ARCH_LOCAL_ROPE = 1 << 8,     // layers with a window have a rope of their own, unscaled
    BT_ARCH_NO_ROPE = 1 << 9,        // the layers of `every` turn nothing
    BT_ARCH_WINDOW_ROPE = 1 << 10,   // likewise, if the others have a window
    BT_ARCH_EMBED_NORM = 1 << 11,    // embeddings are normed
    BT_ARCH_BARE_NORMS = 1 << 12,    // norms have no weights
    BT_ARCH_ALIBI = 1 << 13,         // ALiBi, of exponent 8 or as the file says
};

typedef struct bt_arch {
    const char *name; // as GGUF calls it
    bt_rope_style style;
    bt_norm_kind norm;
    bt_activation activation;
    bt_qk_norm qk_norm;
    /* Layers every - 1, 2 every - 1, ... are the ones that stand out: no window, or no rope. 0: all
     * are alike. */
    int32_t every;
    uint32_t flags;
    float local_theta; // of a LOCAL_ROPE where the file does not say; 0: that of the others
} bt_arch;

const bt_arch *bt_arch_find(const char *name, size_t n); // NULL: not known
/* Fills what the architecture says of a recipe whose numbers are there: n_layers, hidden, scales,
 * rope[0] but its style, and each layer's heads, ffn and, where the file decides it, parallel.
 * window: of the layers that have one, 0: none has; every: in place of the row's, 0: as there;
 * local_theta: of a LOCAL_ROPE, 0: as the row has it. */
void bt_arch_apply(const bt_arch *a, int32_t window, int32_t every, float local_theta,
                   bt_recipe *r);
