/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 600 */
/* test_parity.c - for each tokenizer of tests/data/text-parity/parity.txt, ids and texts of 5,000
 * random strings and texts of 500 random id sequences are those of the `tokenizers` library; and
 * texts that come token by token are those that come at once.
 *
 *     test-token-test_parity                   all of it; prints the table of docs/text.md
 *     test-token-test_parity --in FOLDER       the same of another folder with a parity.txt
 *     test-token-test_parity --dump NAME       what Baton makes of the strings, as JSON lines
 */
#include "base/crypto.h"
#include "base/json.h"
#include "parity_strings.h"
#include <unistd.h>

#define HERE BATON_SOURCE_DIR "/tests/data/text-parity/"
enum { STRINGS = 5000, GROUP = 50, RANDOM = 500, N_SUMS = 4 };

/* Sanitizers are slow: they see the first strings only. */
enum { STRINGS_HERE = TEST_SANITIZED ? 300 : STRINGS };

/* ---- Golden data. */

typedef struct golden {
    char name[64], source[512];
    string_list added;
    long size; // ids are below
    bool skipped[STRINGS + RANDOM];
    const char *sums, *random, *rows; // the lines
    long n_rows;
} golden;

static const char *next_line(const char *p)
{
    const char *end = strchr(p, '\n');
    REQUIRE(end);
    return end + 1;
}

/* One tokenizer's part at *at; false at the end. */
static bool golden_read(golden *g, const char **at)
{
    const char *p = *at, *tab, *end;
    bt_json_reader r;
    char *after;
    if (*p != '#') return false;
    memset(g, 0, sizeof *g);
    tab = strchr(p, '\t');
    end = strchr(p, '\n');
    REQUIRE(tab && end && tab < end);
    snprintf(g->name, sizeof g->name, "%.*s", (int)(tab - p - 2), p + 2);
    snprintf(g->source, sizeof g->source, "%.*s", (int)(end - tab - 1), tab + 1);
    p = end + 1;
    end = strchr(p, '\n');
    REQUIRE(end);
    bt_json_reader_init(&r, p, (size_t)(end - p), 0);
    list_read(&g->added, &r);
    REQUIRE(bt_json_done(&r));
    bt_json_reader_release(&r);
    g->size = strtol(end + 1, &after, 10);
    p = next_line(after) + 1; // "-"
    for (end = next_line(p); p < end - 1; p = after) {
        long i = strtol(p, &after, 10);
        if (after == p || after >= end) break;
        REQUIRE(i >= 0 && i < STRINGS + RANDOM);
        g->skipped[i] = true;
    }
    g->n_rows = strtol(end, &after, 10);
    p = g->sums = next_line(end);
    for (int i = 0; i < STRINGS / GROUP; i++) p = next_line(p);
    g->random = p;
    for (int i = 0; i < RANDOM / GROUP; i++) p = next_line(p);
    g->rows = p;
    for (long i = 0; i < g->n_rows; i++) p = next_line(p);
    *at = p;
    return true;
}

/* A tokenizer by where it is: FILE, or FILE#NAME of a file of many. */
static fixture source_open(const char *folder, const char *source)
{
    char path[1200], head[80];
    const char *name = strchr(source, '#');
    size_t n;
    snprintf(path, sizeof path, "%s%.*s", source[0] == '/' ? "" : folder,
             (int)(name ? (size_t)(name - source) : strlen(source)), source);
    if (!name) return fixture_text(path);
    char *all = slurp(path, &n);
    snprintf(head, sizeof head, "# %s\n", name + 1);
    const char *at = all;
    while (strncmp(at, head, strlen(head)) != 0) at = next_line(next_line(at) - 1);
    at = next_line(at);
    fixture f = fixture_json(at, (size_t)(next_line(at) - 1 - at));
    free(all);
    return f;
}

/* ---- Sums. */

typedef struct sum {
    bt_buf data;
} sum;

static void sum_ids(sum *s, const int32_t *ids, size_t n)
{
    uint32_t count = (uint32_t)n;
    bt_buf_add(&s->data, &count, 4);
    if (n) bt_buf_add(&s->data, ids, 4 * n);
}

static void sum_text(sum *s, const char *text, size_t n)
{
    uint32_t count = (uint32_t)n;
    bt_buf_add(&s->data, &count, 4);
    if (n) bt_buf_add(&s->data, text, n);
}

/* Compares with the next eight digits of *line, and begins anew. */
static bool sum_equal(sum *s, const char **line)
{
    uint8_t hash[32];
    char got[9];
    REQUIRE(!s->data.failed);
    bt_sha256(s->data.data, s->data.len, hash);
    snprintf(got, sizeof got, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
    bool same = memcmp(got, *line, 8) == 0;
    *line += 9;
    bt_buf_clear(&s->data);
    return same;
}

/* ---- One tokenizer. */

typedef struct counts {
    int strings;      // compared
    int sums[N_SUMS]; // groups that are equal: ids, plain ids, text, whole text
    int groups;       //
    int random[2], n_random;
    int streams, n_streams; // streamed texts equal to those at once
} counts;

static bool stream_equal(bt_decoder *d, const int32_t *ids, size_t n_ids, const char *want,
                         size_t n_want)
{
    const char *piece;
    size_t n, at = 0;
    bool same = true;
    for (size_t i = 0; i <= n_ids; i++) {
        if (i < n_ids)
            bt_decoder_put(d, ids[i], &piece, &n);
        else
            bt_decoder_finish(d, &piece, &n);
        same = same && bt_utf8_valid_prefix(piece, n) == n && at + n <= n_want &&
               (n == 0 || memcmp(want + at, piece, n) == 0);
        at += n;
    }
    return same && at == n_want;
}

/* Decodes both ways, sums the texts, and streams them. */
static void check_texts(fixture *f, const int32_t *ids, size_t n, sum *two, counts *c)
{
    for (int keep = 0; keep < 2; keep++) {
        char *text;
        size_t n_text;
        bt_decoder *d;
        REQUIRE(bt_decode(f->vocab, ids, n, !keep, &text, &n_text, NULL) == BT_OK);
        sum_text(&two[keep], text, n_text);
        REQUIRE(bt_decoder_open(f->vocab, NULL, 0, !keep, true, &d, NULL) == BT_OK);
        c->n_streams++;
        c->streams += stream_equal(d, ids, n, text, n_text);
        bt_decoder_close(d);
        bt_free(text);
    }
}

static void check_sample(const golden *g, const char **row, size_t i, const int32_t *ids, size_t n)
{
    char *after;
    long want = strtol(*row, &after, 10);
    if (g->n_rows == 0 || *row >= g->rows + strlen(g->rows) || want != (long)i) return;
    const char *line = after, *p = after;
    bool same = true;
    size_t k = 0;
    for (; *p != '\n'; p = after, k++) {
        long id = strtol(p, &after, 10);
        REQUIRE(after > p);
        same = same && k < n && ids[k] == id;
    }
    *row = next_line(*row);
    CHECK(same && k == n);
    if (same && k == n) return;
    fprintf(stderr, "%s string %zu:\n  got ", g->name, i);
    for (k = 0; k < n; k++) fprintf(stderr, " %d", ids[k]);
    fprintf(stderr, "\n  want%.*s\n", (int)(strchr(line, '\n') - line), line);
}

static void check_strings(const golden *g, const alphabet *a, fixture *f, counts *c)
{
    bt_buf text = BT_BUF_INIT;
    sum sums[N_SUMS] = {0};
    const char *line = g->sums, *row = g->rows;
    for (size_t i = 0; i < STRINGS_HERE; i++) {
        if (!g->skipped[i]) {
            const int32_t *ids;
            make_string(a, i, &g->added, &text);
            size_t n = fixture_encode(f, text.data, text.len, false, true, &ids);
            sum_ids(&sums[1], ids, n);
            n = fixture_encode(f, text.data, text.len, true, true, &ids);
            sum_ids(&sums[0], ids, n);
            check_texts(f, ids, n, &sums[2], c);
            check_sample(g, &row, i, ids, n);
            c->strings++;
        }
        if ((i + 1) % GROUP) continue;
        c->groups++;
        for (int k = 0; k < N_SUMS; k++) c->sums[k] += sum_equal(&sums[k], &line);
    }
    for (int k = 0; k < N_SUMS; k++) bt_buf_release(&sums[k].data);
    bt_buf_release(&text);
}

static void check_random(const golden *g, fixture *f, counts *c)
{
    sum sums[2] = {0};
    const char *line = g->random;
    for (size_t i = 0; i < RANDOM; i++) {
        int32_t ids[RANDOM_IDS_MAX];
        size_t n = make_ids(i, (int32_t)g->size, ids);
        if (!g->skipped[STRINGS + i]) check_texts(f, ids, n, sums, c);
        if ((i + 1) % GROUP) continue;
        c->n_random++;
        for (int k = 0; k < 2; k++) c->random[k] += sum_equal(&sums[k], &line);
    }
    for (int k = 0; k < 2; k++) bt_buf_release(&sums[k].data);
}

static void print_row(const golden *g, const counts *c)
{
    printf("| %s | %d |", g->name, c->strings);
    for (int k = 0; k < N_SUMS; k++) printf(" %d/%d |", c->sums[k], c->groups);
    for (int k = 0; k < 2; k++) printf(" %d/%d |", c->random[k], c->n_random);
    printf(" %d/%d |\n", c->streams, c->n_streams);
}

static void check_tokenizer(const golden *g, const alphabet *a, const char *folder)
{
    counts c = {0};
    fixture f = source_open(folder, g->source);
    CHECK(bt_vocab_size(f.vocab) >= g->size);
    check_strings(g, a, &f, &c);
    check_random(g, &f, &c);
    print_row(g, &c);
    bool equal = c.streams == c.n_streams;
    for (int k = 0; k < N_SUMS; k++) equal = equal && c.sums[k] == c.groups;
    for (int k = 0; k < 2; k++) equal = equal && c.random[k] == c.n_random;
    CHECK(equal);
    if (!equal) fprintf(stderr, "%s: differs from the library\n", g->name);
    fixture_close(&f);
}

static const char *folder = HERE, *dump;

/* A line: number, ids, plain ids, text, whole text. */
static void dump_strings(const golden *g, const alphabet *a, fixture *f)
{
    bt_buf text = BT_BUF_INIT, out = BT_BUF_INIT;
    for (size_t i = 0; i < STRINGS; i++) {
        bt_buf_clear(&out);
        bt_jw w = bt_jw_on(&out);
        bt_jw_open(&w, '[');
        bt_jw_int(&w, (int64_t)i);
        make_string(a, i, &g->added, &text);
        const int32_t *ids = NULL;
        size_t n = 0;
        for (int add = 1; add >= 0; add--) {
            n = fixture_encode(f, text.data, text.len, add, true, &ids);
            bt_jw_open(&w, '[');
            for (size_t k = 0; k < n; k++) bt_jw_int(&w, ids[k]);
            bt_jw_close(&w, ']');
        }
        n = fixture_encode(f, text.data, text.len, true, true, &ids);
        for (int keep = 0; keep < 2; keep++) {
            char *back;
            size_t n_back;
            REQUIRE(bt_decode(f->vocab, ids, n, !keep, &back, &n_back, NULL) == BT_OK);
            bt_jw_strn(&w, back, n_back);
            bt_free(back);
        }
        bt_jw_close(&w, ']');
        printf("%s\n", out.data);
    }
    bt_buf_release(&text);
    bt_buf_release(&out);
}

static void all_tokenizers(void)
{
    static golden g;
    alphabet *a = malloc(sizeof *a);
    char path[1200];
    size_t n;
    int tokenizers = 0;
    REQUIRE(a);
    alphabet_open(a, HERE "strings.json");
    snprintf(path, sizeof path, "%sparity.txt", folder);
    char *all = slurp(path, &n);
    const char *at = all;
    if (!dump)
        printf(
            "| tokenizer | strings | ids | without special tokens | text | with special tokens | "
            "random ids | with special tokens | streamed |\n"
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    while (golden_read(&g, &at)) {
        if (dump && strcmp(dump, g.name) == 0) {
            fixture f = source_open(folder, g.source);
            dump_strings(&g, a, &f);
            fixture_close(&f);
        } else if (!dump) {
            check_tokenizer(&g, a, folder);
        }
        list_release(&g.added);
        tokenizers++;
    }
    CHECK(tokenizers > 0 && *at == 0);
    free(all);
    alphabet_close(a);
    free(a);
}

int main(int argc, char **argv)
{
    static char in[1024];
    if (argc == 3 && strcmp(argv[1], "--dump") == 0) dump = argv[2];
    if (argc == 3 && strcmp(argv[1], "--in") == 0) {
        snprintf(in, sizeof in, "%s/", argv[2]);
        folder = in;
    }
    RUN(all_tokenizers);
    return TEST_END();
}
