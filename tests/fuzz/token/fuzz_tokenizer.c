/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c - any bytes as a tokenizer.json: refused with a sentence, or a tokenizer whose
 * ids are in range, whose stream equals its one-shot text, and whose vocabulary survives being
 * mapped elsewhere.
 *
 * Input: the file's text; behind a NUL, if there is one, what is encoded. */
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode.h"
#include "token/open.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 4096 };

static void check_stream(const bt_vocab *v, const int32_t *ids, size_t n_ids, bool skip)
{
    bt_decoder *d = NULL;
    bt_buf all = BT_BUF_INIT;
    const char *piece;
    char *whole;
    size_t n, n_whole;
    BT_ASSERT(bt_decode(v, ids, n_ids, skip, &whole, &n_whole, NULL) == BT_OK);
    BT_ASSERT(bt_utf8_valid_prefix(whole, n_whole) == n_whole);
    BT_ASSERT(bt_decoder_open(v, NULL, 0, skip, true, &d, NULL) == BT_OK);
    for (size_t i = 0; i < n_ids; i++) {
        bt_decoder_put(d, ids[i], &piece, &n);
        BT_ASSERT(bt_utf8_valid_prefix(piece, n) == n);
        bt_buf_add(&all, piece, n);
    }
    bt_decoder_finish(d, &piece, &n);
    bt_buf_add(&all, piece, n);
    BT_ASSERT(all.len == n_whole && (n_whole == 0 || memcmp(all.data, whole, n_whole) == 0));
    bt_decoder_close(d);
    bt_buf_release(&all);
    bt_free(whole);
}

static void use(bt_encoder *e, const bt_vocab *v, const char *text, size_t n)
{
    for (int i = 0; i < 4; i++) {
        bt_encode_options opt = {.add_special = i & 1, .parse_special = i & 2};
        const int32_t *ids = NULL;
        size_t n_ids = 0;
        bt_err err = {0};
        if (bt_encode(e, text, n, &opt, 0, &ids, &n_ids, &err)) {
            BT_ASSERT(err.msg[0]);
            continue;
        }
        for (size_t k = 0; k < n_ids; k++) BT_ASSERT(ids[k] >= 0 && ids[k] < bt_vocab_size(v));
        check_stream(v, ids, n_ids, i & 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char usual[] = " hello  world\n<s>x</s>[X] \xE2\x96\x81\xC3\xA9 12 ab ABC";
    const char *text = usual;
    size_t n = sizeof usual - 1, n_json = size;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    if (nul) {
        n_json = (size_t)(nul - data);
        text = (const char *)nul + 1;
        n = bt_utf8_valid_prefix(text, BT_MIN(size - n_json - 1, TEXT_MAX));
    }
    char *exact = malloc(n_json ? n_json : 1);
    if (!exact) return 0;
    if (n_json) memcpy(exact, data, n_json);
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_encoder *e = NULL;
    bt_err err = {0};
    if (bt_text_open_json(exact, n_json, NULL, "fuzz.json", &v, &t, &err)) {
        BT_ASSERT(!v && !t && err.msg[0]);
    } else {
        BT_ASSERT(bt_encoder_open(t, &e, &err) == BT_OK);
        use(e, v, text, n);
    }
    free(exact);
    bt_encoder_close(e);
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    return 0;
}
