/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_encode.c - any bytes as text: the first picks vocabulary and options, the rest must survive
 * the round trip. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode.h"
#include "token/encode.h"
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bt_vocab *vocab[2];
static bt_encoder *encoder[2];

static void load(void)
{
    static const char *const path[2] = {BATON_SOURCE_DIR "/tests/data/vocab/llama-spm.gguf",
                                        BATON_SOURCE_DIR "/tests/data/vocab/gpt-2.gguf"};
    for (int i = 0; i < 2; i++) {
        bt_gguf *g;
        bt_tokenizer *t;
        bt_err err = {0};
        if (bt_gguf_open(path[i], &g, &err) || bt_vocab_open(g, &vocab[i], &err) ||
            bt_tokenizer_open(g, vocab[i], &t, &err) || bt_encoder_open(t, &encoder[i], &err)) {
            fprintf(stderr, "%s\n", err.msg);
            abort();
        }
        bt_gguf_close(g);
    }
}

static bool has_lower_block(const char *s, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++)
        if (memcmp(s + i, "\xE2\x96\x81", 3) == 0) return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!vocab[0]) load();
    if (size == 0) return 0;
    int which = data[0] & 1;
    bt_encode_options opt = {.add_special = data[0] & 2, .parse_special = data[0] & 4};
    const char *text = (const char *)data + 1;
    size_t n = size - 1, n_ids = 0, n_back;
    const int32_t *ids = NULL;
    char *back;
    bt_status st = bt_encode(encoder[which], text, n, &opt, 0, &ids, &n_ids, NULL);
    bool valid = bt_utf8_valid_prefix(text, n) == n;
    BT_ASSERT(st == (valid ? BT_OK : BT_EINVAL));
    if (!valid) return 0;
    BT_ASSERT(bt_decode(vocab[which], ids, n_ids, true, &back, &n_back, NULL) == BT_OK);
    /* SPM spells a space and U+2581 alike, and control tokens that were parsed add no text. */
    if (!opt.parse_special && !(which == 0 && has_lower_block(text, n)))
        BT_ASSERT(n_back == n && (n == 0 || memcmp(back, text, n) == 0));
    bt_free(back);
    return 0;
}
