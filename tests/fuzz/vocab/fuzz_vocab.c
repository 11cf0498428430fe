/* SPDX-License-Identifier: Apache-2.0 */
/* LINK token */
/* fuzz_vocab.c - any bytes as a GGUF file: refused, or a tokenizer that encodes and decodes. */
#include "base/assert.h"
#include "base/mem.h"
#include "vocab/decode.h"
#include "token/encode.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(bt_encoder *e, const bt_vocab *v)
{
    static const char text[] = " hello  world\n<s>x</s><|eot_id|> \xE2\x96\x81\xC3\xA9";
    bt_encode_options opt = {.add_special = true, .parse_special = true};
    const int32_t *ids = NULL;
    size_t n_ids = 0, n;
    char *back;
    bt_err err = {0};
    bt_status st = bt_encode(e, text, sizeof text - 1, &opt, 0, &ids, &n_ids, &err);
    if (st == BT_EINVAL && bt_vocab_unk(v) < 0 && err.msg[0]) return; // a word, and nothing for it
    BT_ASSERT(st == BT_OK);
    for (size_t i = 0; i < n_ids; i++) BT_ASSERT(ids[i] >= 0 && ids[i] < bt_vocab_size(v));
    BT_ASSERT(bt_decode(v, ids, n_ids, false, &back, &n, NULL) == BT_OK);
    bt_free(back);
    opt.parse_special = opt.add_special = false;
    st = bt_encode(e, text, sizeof text - 1, &opt, 0, &ids, &n_ids, &err);
    if (st == BT_EINVAL && bt_vocab_unk(v) < 0) return;
    BT_ASSERT(st == BT_OK);
    for (size_t i = 0; i < n_ids; i++)
        BT_ASSERT(bt_vocab_token_kind(v, ids[i]) != BT_TOKEN_CONTROL || ids[i] == bt_vocab_unk(v));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_gguf *g = NULL;
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_encoder *e = NULL;
    bt_err err = {0};
    if (bt_gguf_open_memory(data, size, "fuzz.gguf", &g, &err)) goto done;
    if (bt_vocab_open(g, &v, &err)) goto done;
    if (bt_tokenizer_open(g, v, &t, &err)) goto done;
    if (bt_encoder_open(t, &e, &err)) goto done;
    use(e, v);
done:
    bt_encoder_close(e);
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    bt_gguf_close(g);
    return 0;
}
