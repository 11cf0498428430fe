/* SPDX-License-Identifier: Apache-2.0 */
/* LAYER token - how quickly do tokenizers load, encode, decode; what do hostile texts cost?
 *
 *     bench-text TOKENIZER TEXT [SECONDS]   one JSON line: load, peak memory, bytes/s and tokens/s
 *     bench-text --hostile TOKENIZER        a line a text: seconds for 1/2 MiB and 1 MiB of it
 *
 * TEXT is cut into documents of about 4 KiB at line ends; each is encoded, then decoded, by itself.
 */
#include "base/mem.h"
#include "vocab/decode.h"
#include "token/open.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DOCUMENT_BYTES = 4096, HOSTILE_BYTES = 1 << 20 };

typedef struct setup {
    bt_vocab *vocab;
    bt_tokenizer *tokenizer;
    bt_encoder *encoder;
} setup;

static bt_status setup_open(setup *s, const char *path, bt_err *err)
{
    bt_status st = bt_text_open(path, NULL, &s->vocab, &s->tokenizer, err);
    return st ? st : bt_encoder_open(s->tokenizer, &s->encoder, err);
}

/* The process's own peak; getrusage would count what came before exec too. */
static double peak_mib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (f) fclose(f);
    return (double)kib / 1024;
}

/* Processor time: one thread, and a busy machine does not count. */
static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *s = bt_must(bt_malloc(*n + 1));
    if (fread(s, 1, *n, f) != *n) *n = 0;
    s[*n] = 0;
    fclose(f);
    return s;
}

static size_t document_end(const char *s, size_t n, size_t at)
{
    if (n - at <= DOCUMENT_BYTES) return n;
    const char *line = memchr(s + at + DOCUMENT_BYTES, '\n', n - at - DOCUMENT_BYTES);
    return line ? (size_t)(line - s) + 1 : n;
}

/* One pass over the documents: seconds spent encoding and decoding. */
static bt_status one_pass(setup *x, const char *s, size_t n, double seconds[2], size_t *n_tokens,
                          bt_err *err)
{
    bt_encode_options opt = {.add_special = true, .parse_special = true};
    *n_tokens = 0;
    for (size_t at = 0, end; at < n; at = end) {
        const int32_t *ids;
        size_t n_ids, n_back;
        char *back;
        end = document_end(s, n, at);
        double t0 = seconds_now();
        bt_status st = bt_encode(x->encoder, s + at, end - at, &opt, 0, &ids, &n_ids, err);
        double t1 = seconds_now();
        if (!st) st = bt_decode(x->vocab, ids, n_ids, true, &back, &n_back, err);
        if (st) return st;
        seconds[0] += t1 - t0;
        seconds[1] += seconds_now() - t1;
        *n_tokens += n_ids;
        bt_free(back);
    }
    return BT_OK;
}

static int measure(const char *path, const char *text_path, double limit_s)
{
    setup x = {0};
    bt_err err = {0};
    size_t n = 0, n_tokens = 0;
    int passes = 0;
    double best[2] = {1e9, 1e9};
    double t0 = seconds_now();
    bt_status st = setup_open(&x, path, &err);
    double load_s = seconds_now() - t0, peak = peak_mib();
    char *text = st ? NULL : read_file(text_path, &n);
    if (!st && !text) st = bt_err_set(&err, BT_EIO, 0, "%.100s cannot be read", text_path);
    for (t0 = seconds_now(); !st && (passes < 2 || seconds_now() - t0 < limit_s); passes++) {
        double seconds[2] = {0, 0};
        st = one_pass(&x, text, n, seconds, &n_tokens, &err);
        for (int i = 0; i < 2; i++)
            if (seconds[i] < best[i]) best[i] = seconds[i];
    }
    if (st)
        fprintf(stderr, "%s\n", err.msg);
    else
        printf("{\"load_s\":%.4f,\"peak_mib\":%.1f,\"bytes\":%zu,\"tokens\":%zu,\"encode_s\":%.5f,"
               "\"decode_s\":%.5f}\n",
               load_s, peak, n, n_tokens, best[0], best[1]);
    bt_free(text);
    bt_encoder_close(x.encoder);
    bt_tokenizer_close(x.tokenizer);
    bt_vocab_close(x.vocab);
    return st ? 1 : 0;
}

static double once(setup *x, const char *s, size_t n, double best)
{
    bt_encode_options opt = {0};
    const int32_t *ids;
    size_t n_ids;
    bt_err err = {0};
    double t0 = seconds_now();
    if (bt_encode(x->encoder, s, n, &opt, 0, &ids, &n_ids, &err)) fprintf(stderr, "%s\n", err.msg);
    double seconds = seconds_now() - t0;
    return seconds < best ? seconds : best;
}

static int hostile(const char *path)
{
    static const struct {
        const char *name, *unit;
    } texts[] = {{"one letter", "a"},
                 {"spaces", " "},
                 {"newlines", "\n"},
                 {"one word of letters", "abcdefghijklmnopqrstuvwxyz"},
                 {"Han", "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xB8\x96\xE7\x95\x8C"},
                 {"scripts in turn", "a\xD1\x8F\xCE\xB1\xE4\xBD\xA0"},
                 {"digits", "1234567890"},
                 {"marks out of order", "\xCC\x95\xCC\x96"},
                 {"emoji", "\xF0\x9F\xA6\x99"},
                 {"apostrophes", "'s"},
                 {"beginnings of special tokens", "<|"},
                 {"punctuation", "!?.,;:"}};
    setup x = {0};
    bt_err err = {0};
    if (setup_open(&x, path, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    char *s = bt_must(bt_malloc(HOSTILE_BYTES));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t len = strlen(texts[i].unit), n = HOSTILE_BYTES / (2 * len) * (2 * len);
        for (size_t k = 0; k < n; k++) s[k] = texts[i].unit[k % len];
        double whole = 1e9, half = 1e9; // the best of a few, in turn
        for (int k = 0; k < 9; k++) {
            whole = once(&x, s, n, whole);
            half = once(&x, s, n / 2, half);
        }
        printf("{\"text\":\"%s\",\"half_s\":%.5f,\"whole_s\":%.5f,\"ratio\":%.2f}\n", texts[i].name,
               half, whole, whole / half);
    }
    bt_free(s);
    bt_encoder_close(x.encoder);
    bt_tokenizer_close(x.tokenizer);
    bt_vocab_close(x.vocab);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--hostile") == 0) return hostile(argv[2]);
    if (argc == 3 || argc == 4) return measure(argv[1], argv[2], argc == 4 ? atof(argv[3]) : 1);
    fprintf(stderr,
            "usage: bench-text TOKENIZER TEXT [SECONDS] | bench-text --hostile TOKENIZER\n");
    return 2;
}
