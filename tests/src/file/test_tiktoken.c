/* SPDX-License-Identifier: Apache-2.0 */
/* test_tiktoken.c - a real vocabulary's beginning, every cut of it, and damaged lines. */
#include "base/assert.h"
#include "base/mem.h"
#include "file/base64.h"
#include "file/tiktoken.h"
#include "test.h"
#include <stdbool.h>

static const char path[] = "tests/data/leaves/small.tiktoken";

static char *slurp(const char *name, size_t *n)
{
    FILE *f = fopen(name, "rb");
    REQUIRE(f != NULL);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *s = malloc(*n);
    REQUIRE(s && fread(s, 1, *n, f) == *n);
    fclose(f);
    return s;
}

static void real_file(void)
{
    bt_tiktoken *t;
    bt_err err = {0};
    REQUIRE(bt_tiktoken_open(path, &t, &err) == BT_OK);
    CHECK_INT(t->n_ranks, 700);
    CHECK_INT(t->n_tokens, 700);
    CHECK_INT(t->byte_rank['!'], 0);
    CHECK_INT(t->byte_rank['a'], 64);
    CHECK_INT(t->byte_rank[' '], 220);
    CHECK(t->token[300].n == 2 && memcmp(t->token[300].s, "as", 2) == 0);
    size_t bytes = 0;
    for (size_t i = 0; i < t->n_ranks; i++) bytes += t->token[i].n;
    CHECK(bytes > 1000);
    bt_tiktoken_close(t);
    bt_tiktoken_close(NULL);
}

/* Each beginning of the file: whole lines that hold all bytes are a vocabulary, others are refused;
 * nothing outside is read. */
static void every_cut(void)
{
    size_t n, good = 0;
    char *s = slurp(path, &n);
    bt_err err = {0};
    for (size_t k = 0; k <= n; k += k < 200 || k > n - 200 ? 1 : 13) {
        bt_tiktoken *t = NULL;
        char *copy = malloc(k ? k : 1);
        REQUIRE(copy != NULL);
        memcpy(copy, s, k);
        bt_status st = bt_tiktoken_open_memory(copy, k, "cut", &t, &err);
        CHECK(st == BT_OK || st == BT_EFORMAT);
        CHECK(st == BT_OK || t == NULL);
        if (st == BT_OK) {
            good++;
            CHECK(t->n_tokens >= 256);
            bt_tiktoken_close(t);
        }
        free(copy);
    }
    CHECK(good > 20);
    free(s);
}

static void check_refused(const char *text, const char *sentence)
{
    bt_tiktoken *t = NULL;
    bt_err err = {0};
    CHECK_INT(bt_tiktoken_open_memory(text, strlen(text), "x", &t, &err), BT_EFORMAT);
    if (!strstr(err.msg, sentence)) fprintf(stderr, "said: %s\n", err.msg);
    CHECK(strstr(err.msg, sentence) != NULL);
    CHECK(t == NULL);
}

static void damaged_lines(void)
{
    check_refused("", "holds no token");
    check_refused("IQ== 0\n", "0x00");
    check_refused("IQ==0\n", "line 1");
    check_refused("IQ== 0\nIg== 0\n", "line 2: the rank came before");
    check_refused("IQ 0\n", "base64");
    check_refused("I?== 0\n", "base64");
    check_refused(" 0\n", "base64");
    check_refused("IQ== -1\n", "rank");
    check_refused("IQ== 4194304\n", "rank");
    check_refused("IQ== 99999999999\n", "rank");
    check_refused("IQ== 1 2\n", "rank");
    check_refused("version https://git-lfs.github.com/spec/v1\n", "LFS");
    check_refused("{\"a\": 1}", "JSON");
    bt_tiktoken *t = NULL;
    bt_err err = {0};
    CHECK_INT(bt_tiktoken_open("tests/data/leaves/absent", &t, &err), BT_ENOTFOUND);
    CHECK_INT(bt_tiktoken_open("tests/data/leaves", &t, &err), BT_EFORMAT);
}

static void equal_tokens_and_holes(void)
{
    size_t n;
    char *s = slurp(path, &n);
    char *more = malloc(n + 64);
    bt_tiktoken *t = NULL;
    bt_err err = {0};
    REQUIRE(more != NULL);
    memcpy(more, s, n);
    memcpy(more + n, "IQ== 900\r\n", 10);
    CHECK_INT(bt_tiktoken_open_memory(more, n + 10, "x", &t, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "two ranks") != NULL);
    memcpy(more + n, "ICAgICAgICAgICE= 900\r\n\n", 23);
    REQUIRE(bt_tiktoken_open_memory(more, n + 23, "x", &t, &err) == BT_OK);
    CHECK_INT(t->n_ranks, 901);
    CHECK_INT(t->n_tokens, 701);
    CHECK_INT(t->token[800].n, 0);
    CHECK_INT(t->token[900].n, 11);
    bt_tiktoken_close(t);
    for (long k = 1;; k++) {
        t = NULL;
        bt_mem_fail_at(k);
        bt_status st = bt_tiktoken_open_memory(more, n, "x", &t, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) break;
        CHECK_INT(st, BT_ENOMEM);
    }
    bt_tiktoken_close(t);
    free(more);
    free(s);
}

static void base64(void)
{
    static const struct row {
        const char *in;
        bool padded, good;
        const char *out;
    } row[] = {
        {"", true, true, ""},
        {"Zg==", true, true, "f"},
        {"Zm8=", true, true, "fo"},
        {"Zm9v", true, true, "foo"},
        {"Zm9vYg==", true, true, "foob"},
        {"Zg", false, true, "f"},
        {"Zm8", false, true, "fo"},
        {"Zg", true, false, ""},
        {"Z", false, false, ""},
        {"Zh==", true, false, ""}, // unused bits
        {"Zm9=", true, false, ""},
        {"Zg=a", true, false, ""},
        {"====", true, false, ""},
        {"Zm 9", true, false, ""},
        {"+/+/", true, true, "\xFB\xFF\xBF"},
    };
    for (size_t i = 0; i < BT_COUNT(row); i++) {
        char out[16] = "";
        size_t n = 0;
        CHECK_INT(bt_base64_decode(row[i].in, strlen(row[i].in), row[i].padded, out, &n),
                  row[i].good);
        if (!row[i].good) continue;
        out[n] = 0;
        CHECK_STR(out, row[i].out);
    }
}

int main(void)
{
    RUN(real_file);
    RUN(every_cut);
    RUN(damaged_lines);
    RUN(equal_tokens_and_holes);
    RUN(base64);
    return TEST_END();
}
