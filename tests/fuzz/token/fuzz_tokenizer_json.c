/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_json.c - any bytes as a tokenizer.json (and, after a byte 0xFF, as the
 * tokenizer_config.json beside it): refused with a sentence, or a tokenizer that encodes and
 * decodes. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode.h"
#include "token/open.h"
#include "vocab/spec.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const bt_vocab *v, const bt_tokenizer *t)
{
    static const char text[] =
        " Hello  world 12\n<s>x</s> \xE2\x96\x81\xC3\xA9\xE4\xBD\xA0 e\xCC\x81";
    const bt_encode_range user[] = {{3, 9}, {20, 24}};
    bt_encoder *e = NULL;
    if (bt_encoder_open(t, &e, NULL)) return;
    for (int pass = 0; pass < 3; pass++) {
        bt_encode_options opt = {.add_special = pass > 0, .parse_special = pass > 0};
        const int32_t *ids = NULL;
        size_t n_ids = 0, n;
        char *back;
        if (pass == 2) {
            opt.user = user;
            opt.n_user = 2;
        }
        if (bt_encode(e, text, sizeof text - 1, &opt, 0, &ids, &n_ids, NULL)) continue;
        for (size_t i = 0; i < n_ids; i++) {
            BT_ASSERT(ids[i] >= 0 && ids[i] < bt_vocab_size(v));
            bool control = bt_vocab_token_kind(v, ids[i]) == BT_TOKEN_CONTROL;
            BT_ASSERT(pass > 0 || !control || ids[i] == bt_vocab_unk(v));
        }
        if (bt_decode(v, ids, n_ids, pass == 0, &back, &n, NULL)) continue;
        BT_ASSERT(bt_utf8_valid_prefix(back, n) == n);
        bt_free(back);
    }
    bt_encoder_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_err err = {0};
    bt_spec_files files = {0};
    const uint8_t *mark = size ? memchr(data, 0xFF, size) : NULL;
    size_t n = mark ? (size_t)(mark - data) : size;
    if (mark)
        files.text[BT_BESIDE_TOKENIZER_CONFIG] = (bt_str){(const char *)mark + 1, size - n - 1};
    if (bt_text_open_json((const char *)data, n, &files, "fuzz.json", &v, &t, &err)) {
        BT_ASSERT(err.msg[0] && !v && !t);
        return 0;
    }
    use(v, t);
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    return 0;
}
