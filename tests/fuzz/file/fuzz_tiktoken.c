/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tiktoken.c - any bytes as a vocabulary, alone and behind lines for all single bytes. */
#include "base/assert.h"
#include "base/buf.h"
#include "file/tiktoken.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool check(const void *data, size_t size)
{
    bt_tiktoken *t = NULL;
    bt_err err = {0};
    if (bt_tiktoken_open_memory(data, size, "fuzz", &t, &err) != BT_OK) {
        BT_ASSERT(t == NULL && err.msg[0]);
        return false;
    }
    size_t n = 0;
    for (size_t i = 0; i < t->n_ranks; i++) n += t->token[i].n > 0;
    BT_ASSERT(n == t->n_tokens && t->token[t->n_ranks - 1].n > 0);
    for (int k = 0; k < 256; k++) {
        const bt_str *token = &t->token[t->byte_rank[k]];
        BT_ASSERT(token->n == 1 && (unsigned char)token->s[0] == k);
    }
    bt_tiktoken_close(t);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bt_buf whole = BT_BUF_INIT;
    check(data, size);
    for (unsigned k = 0; k < 256; k++)
        bt_buf_addf(&whole, "%c%c== %u\n", digit[k >> 2], digit[(k & 3) << 4], k);
    BT_ASSERT(!whole.failed && check(whole.data, whole.len));
    bt_buf_add(&whole, data, size);
    check(whole.data, whole.len);
    bt_buf_release(&whole);
    return 0;
}
