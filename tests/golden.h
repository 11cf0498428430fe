/* SPDX-License-Identifier: Apache-2.0 */
/* golden.h - golden files of text lines: words between spaces, strings as hex digits ("-": empty).
 */
#pragma once
#include "test.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct golden {
    char *text, *next; // owned; the next line
    char *word[256];   // of the line that golden_line made current
    size_t n_words;
    char bytes[8][4096]; // results of golden_hex, used in turn
    size_t turn;
} golden;

static inline void golden_open(golden *g, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s cannot be opened\n", path);
        exit(1);
    }
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    memset(g, 0, sizeof *g);
    g->text = malloc((size_t)n + 1);
    REQUIRE(g->text && fread(g->text, 1, (size_t)n, f) == (size_t)n);
    fclose(f);
    g->text[n] = 0;
    g->next = g->text;
}

static inline void golden_close(golden *g)
{
    free(g->text);
}

static inline bool golden_line(golden *g)
{
    if (!*g->next) return false;
    char *s = g->next, *end = strchr(s, '\n');
    if (end) *end = 0;
    g->next = end ? end + 1 : s + strlen(s);
    g->n_words = 0;
    for (char *w = strtok(s, " "); w; w = strtok(NULL, " ")) {
        REQUIRE(g->n_words < 256);
        g->word[g->n_words++] = w;
    }
    return true;
}

/* Word i as bytes, NUL-terminated; good for eight calls. */
static inline const char *golden_hex(golden *g, size_t i, size_t *n)
{
    char *dst = g->bytes[g->turn++ % 8];
    const char *w = g->word[i];
    *n = 0;
    REQUIRE(i < g->n_words);
    for (; w[0] != '-' && w[0] && w[1]; w += 2) {
        char pair[3] = {w[0], w[1], 0};
        REQUIRE(*n + 1 < sizeof g->bytes[0]);
        dst[(*n)++] = (char)strtoul(pair, NULL, 16);
    }
    dst[*n] = 0;
    return dst;
}

static inline long golden_int(const golden *g, size_t i)
{
    REQUIRE(i < g->n_words);
    return strtol(g->word[i], NULL, 10);
}

/* As the scripts compute it: FNV-1a over each string and one byte 0xFF behind it. */
static inline uint64_t golden_sum(uint64_t h, const char *s, size_t n)
{
    for (size_t i = 0; i <= n; i++) {
        h ^= i < n ? (unsigned char)s[i] : 0xFF;
        h *= 0x100000001B3u;
    }
    return h;
}
#define GOLDEN_SUM_START 0xCBF29CE484222325u
