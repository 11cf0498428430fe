/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - how often each token occurs in the last tokens of a sequence, and how often it was
 * generated, kept as they come.
 *
 * The sampler's penalties want the distinct tokens with their counts. Changing one is O(1): a dense
 * array that the sampler reads as it is, and an open-addressing table from token to place in it. No
 * allocation after init. Thread: engine. */
#pragma once
#include "baton/backend.h"

typedef struct bt_window {
    bt_token_count *count; // owned, [cap]; the first n are in use
    int32_t *slot;         // owned, [mask + 1]: index into count + 1; 0 = empty
    int32_t n, cap;
    uint32_t mask;
} bt_window;

/* Room for cap distinct tokens. */
bt_status bt_window_init(bt_window *w, int32_t cap, bt_err *err);
void bt_window_release(bt_window *w);
void bt_window_clear(bt_window *w);
/* Adds to a token's counts, which stay at 0 or above; a token with none is not kept. */
void bt_window_add(bt_window *w, int32_t token, int32_t in_window, int32_t drawn);
