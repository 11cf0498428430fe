/* SPDX-License-Identifier: Apache-2.0 */
/* tiktoken.h - tiktoken vocabularies (*.tiktoken, Llama 3's tokenizer.model): a token in base64 and
 * its rank, one a line.
 *
 * Ranks are the ids and the order of merging. They are unique; the file may list them in any order
 * and with holes. Strings are owned by the model. Thread: any, read-only. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include <stddef.h>
#include <stdint.h>

typedef struct bt_tiktoken {
    const bt_str *token; // [n_ranks] by rank; n == 0: no token has that rank
    size_t n_ranks;      // highest rank + 1
    size_t n_tokens;
    int32_t byte_rank[256]; // of the single bytes, all present
} bt_tiktoken;

enum {
    BT_TIKTOKEN_BYTES_MAX = 256 << 20, // bytes a file
    BT_TIKTOKEN_RANKS_MAX = 1 << 22,
    BT_TIKTOKEN_TOKEN_BYTES_MAX = 1 << 14,
};

/* BT_ENOTFOUND: no such file; BT_EFORMAT names the line: not base64, no rank, a rank or token that
 * came before, a single byte that has no token. */
bt_status bt_tiktoken_open(const char *path, bt_tiktoken **out, bt_err *err);
/* The same over memory, which is copied; name is for sentences. */
bt_status bt_tiktoken_open_memory(const void *data, size_t bytes, const char *name,
                                  bt_tiktoken **out, bt_err *err);
void bt_tiktoken_close(bt_tiktoken *t); // NULL is fine
