/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_decode.c - any token ids and stop strings: the stream equals the one-shot text up to the
 * first stop string.
 *
 * Input: options, then up to three stop strings (length, bytes), then ids of 16 bits. */
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode.h"
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STOPS = 3, STOP_BYTES = 16, IDS = 512 };
static bt_vocab *vocab[2];

static void load(void)
{
    static const char *const path[2] = {BATON_SOURCE_DIR "/tests/data/vocab/llama-spm.gguf",
                                        BATON_SOURCE_DIR "/tests/data/vocab/gpt-2.gguf"};
    for (int i = 0; i < 2; i++) {
        bt_gguf *g;
        bt_err err = {0};
        if (bt_gguf_open(path[i], &g, &err) || bt_vocab_open(g, &vocab[i], &err)) {
            fprintf(stderr, "%s\n", err.msg);
            abort();
        }
        bt_gguf_close(g);
    }
}

/* Where a stop string ends first, the longest of those; SIZE_MAX if none occurs. *start: where it
 * begins. */
static size_t first_stop(const char *s, size_t n, char stop[STOPS][STOP_BYTES], int n_stop,
                         size_t *start)
{
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < n_stop; i++) {
            size_t len = strlen(stop[i]);
            if (len <= end && len > longest && memcmp(s + end - len, stop[i], len) == 0)
                longest = len;
        }
        if (longest == 0) continue;
        *start = end - longest;
        return end;
    }
    return SIZE_MAX;
}

/* The whole stream's text. */
static void stream(bt_decoder *d, const int32_t *ids, size_t n_ids, bt_buf *out)
{
    const char *text;
    size_t n;
    bool stopped = false;
    for (size_t i = 0; i < n_ids && !stopped; i++) {
        bt_mem_guard_begin();
        stopped = bt_decoder_put(d, ids[i], &text, &n);
        bt_mem_guard_end();
        BT_ASSERT(bt_utf8_valid_prefix(text, n) == n);
        bt_buf_add(out, text, n);
    }
    bt_decoder_finish(d, &text, &n);
    bt_buf_add(out, text, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char stop[STOPS][STOP_BYTES];
    const char *stops[STOPS];
    int32_t ids[IDS];
    size_t n_ids = 0, at = 1, n_whole, start = 0;
    if (!vocab[0]) load();
    if (size == 0) return 0;
    const bt_vocab *v = vocab[data[0] & 1];
    bool skip_special = data[0] & 2;
    int n_stop = data[0] >> 2 & 3;
    bool usable = true;
    for (int i = 0; i < n_stop; i++) {
        size_t len = at < size ? data[at++] % STOP_BYTES : 0;
        len = BT_MIN(len, size - at);
        memset(stop[i], 0, STOP_BYTES);
        memcpy(stop[i], data + at, len);
        stops[i] = stop[i];
        at += len;
        len = strlen(stop[i]);
        usable = usable && len > 0 && bt_utf8_valid_prefix(stop[i], len) == len;
    }
    for (; at + 2 <= size && n_ids < IDS; at += 2)
        ids[n_ids++] = (data[at] | data[at + 1] << 8) % bt_vocab_size(v);
    bt_decoder *d = NULL;
    bt_status st = bt_decoder_open(v, stops, n_stop, skip_special, true, &d, NULL);
    BT_ASSERT(st == (usable ? BT_OK : BT_EINVAL));
    if (!usable) return 0;
    bt_buf out = BT_BUF_INIT;
    char *whole;
    stream(d, ids, n_ids, &out);
    BT_ASSERT(bt_decode(v, ids, n_ids, skip_special, &whole, &n_whole, NULL) == BT_OK);
    size_t want = first_stop(whole, n_whole, stop, n_stop, &start) == SIZE_MAX ? n_whole : start;
    BT_ASSERT(out.len == want && (want == 0 || memcmp(out.data, whole, want) == 0));
    bt_buf_release(&out);
    bt_free(whole);
    bt_decoder_close(d);
    return 0;
}
