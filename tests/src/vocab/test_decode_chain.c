/* SPDX-License-Identifier: Apache-2.0 */
/* test_decode_chain.c - every decoder of the tokenizers library, streamed token by token: the sum
 * of what comes out is what the library gives for all tokens at once. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "golden.h"
#include "vocab/decode_chain.h"

#define FFFD "\xEF\xBF\xBD"
#define MARK "\xE2\x96\x81"
enum { TOKEN_MAX = 64, TEXT_MAX = 1 << 16 };
#define S(literal)                                                                                 \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

typedef struct named {
    const char *name;
    size_t n;
    bt_chain_step step[4];
} named;

static const named chains[] = {
    {"byte-level", 1, {{.kind = BT_CHAIN_BYTE_LEVEL}}},
    {"wordpiece", 1, {{.kind = BT_CHAIN_WORDPIECE, .pattern = S("##"), .flag = true}}},
    {"wordpiece-raw", 1, {{.kind = BT_CHAIN_WORDPIECE, .pattern = S("##")}}},
    {"metaspace", 1, {{.kind = BT_CHAIN_METASPACE, .pattern = S(MARK), .flag = true}}},
    {"metaspace-never", 1, {{.kind = BT_CHAIN_METASPACE, .pattern = S(MARK)}}},
    {"bpe", 1, {{.kind = BT_CHAIN_BPE, .pattern = S("</w>")}}},
    {"ctc", 1, {{.kind = BT_CHAIN_CTC, .pattern = S("<pad>"), .content = S("|"), .flag = true}}},
    {"ctc-raw", 1, {{.kind = BT_CHAIN_CTC, .pattern = S("<pad>"), .content = S("|")}}},
    {"fallback", 1, {{.kind = BT_CHAIN_BYTE_FALLBACK}}},
    {"llama",
     4,
     {{.kind = BT_CHAIN_REPLACE, .pattern = S(MARK), .content = S(" ")},
      {.kind = BT_CHAIN_BYTE_FALLBACK},
      {.kind = BT_CHAIN_FUSE},
      {.kind = BT_CHAIN_STRIP, .pattern = S(" "), .start = 1}}},
    {"gemma",
     3,
     {{.kind = BT_CHAIN_REPLACE, .pattern = S(MARK), .content = S(" ")},
      {.kind = BT_CHAIN_BYTE_FALLBACK},
      {.kind = BT_CHAIN_FUSE}}},
    {"strip",
     2,
     {{.kind = BT_CHAIN_FUSE}, {.kind = BT_CHAIN_STRIP, .pattern = S("a"), .start = 2, .stop = 3}}},
    {"strip-tokens", 1, {{.kind = BT_CHAIN_STRIP, .pattern = S("a"), .start = 1, .stop = 1}}},
    {"replace-fused",
     3,
     {{.kind = BT_CHAIN_FUSE},
      {.kind = BT_CHAIN_REPLACE, .pattern = S("aba"), .content = S("\xC3\xA9x")},
      {.kind = BT_CHAIN_REPLACE, .pattern = S("\xC3\xA9")}}},
    {"fused-wordpiece",
     2,
     {{.kind = BT_CHAIN_FUSE}, {.kind = BT_CHAIN_WORDPIECE, .pattern = S("##"), .flag = true}}},
    {"byte-level-then",
     3,
     {{.kind = BT_CHAIN_BYTE_LEVEL},
      {.kind = BT_CHAIN_REPLACE, .pattern = S(FFFD), .content = S("?")},
      {.kind = BT_CHAIN_STRIP, .pattern = S("a"), .start = 1}}},
    {"fallback-wordpiece",
     2,
     {{.kind = BT_CHAIN_BYTE_FALLBACK}, {.kind = BT_CHAIN_WORDPIECE, .pattern = S("##")}}},
    {"ctc-bpe",
     2,
     {{.kind = BT_CHAIN_CTC, .pattern = S("<pad>"), .content = S("|")},
      {.kind = BT_CHAIN_BPE, .pattern = S("</w>")}}},
    {"bytes", 1, {{.kind = BT_CHAIN_BYTES}}},
    {"join", 1, {{.kind = BT_CHAIN_JOIN}}},
    {"nothing", 0, {{0}}},
};

static bt_decode_chain *open_chain(const char *name)
{
    bt_decode_chain *c;
    bt_err err = {0};
    for (size_t i = 0; i < BT_COUNT(chains); i++)
        if (strcmp(chains[i].name, name) == 0) {
            REQUIRE(bt_decode_chain_open(chains[i].step, chains[i].n, TOKEN_MAX, &c, &err) ==
                    BT_OK);
            return c;
        }
    fprintf(stderr, "no chain %s\n", name);
    exit(1);
}

/* What one put gave is whole characters, within the room. */
static void take(char *text, size_t *n, const char *dst, size_t got, const bt_decode_chain *c)
{
    CHECK(got <= bt_decode_chain_room(c));
    CHECK_INT(bt_utf8_valid_prefix(dst, got), got);
    REQUIRE(*n + got < TEXT_MAX);
    memcpy(text + *n, dst, got);
    *n += got;
    text[*n] = 0;
}

static void as_tokenizers(void)
{
    static golden g;
    static char text[TEXT_MAX];
    golden_open(&g, "tests/data/leaves/chains.out");
    int lines = 0;
    for (; golden_line(&g); lines++) {
        size_t n_want, n_token, n = 0;
        bt_decode_chain *c = open_chain(g.word[0]);
        bt_decode_stream *s;
        char *dst = malloc(bt_decode_chain_room(c));
        REQUIRE(dst && bt_decode_stream_open(c, true, &s, NULL) == BT_OK);
        for (size_t i = 2; i < g.n_words; i++) {
            const char *token = golden_hex(&g, i, &n_token);
            bt_mem_guard_begin();
            size_t got = bt_decode_stream_put(s, token, n_token, dst);
            bt_mem_guard_end();
            take(text, &n, dst, got, c);
        }
        take(text, &n, dst, bt_decode_stream_finish(s, dst), c);
        const char *want = golden_hex(&g, 1, &n_want);
        bool same = n == n_want && memcmp(text, want, n) == 0;
        if (!same) fprintf(stderr, "%s: \"%s\", expected \"%s\"\n", g.word[0], text, want);
        CHECK(same);
        free(dst);
        bt_decode_stream_close(s);
        bt_decode_chain_close(c);
    }
    CHECK(lines > 1500);
    golden_close(&g);
}

typedef struct row {
    const char *token, *text;
} row;

/* Puts the tokens; each must give exactly its text; token NULL: the end. */
static void steps(const char *name, bool at_start, const row *r, size_t n)
{
    bt_decode_chain *c = open_chain(name);
    bt_decode_stream *s;
    char *dst = malloc(bt_decode_chain_room(c) + 1);
    REQUIRE(dst && bt_decode_stream_open(c, !at_start, &s, NULL) == BT_OK);
    bt_decode_stream_put(s, "ignored", 7, dst);
    bt_decode_stream_reset(s, at_start);
    for (size_t i = 0; i < n; i++) {
        size_t got = r[i].token ? bt_decode_stream_put(s, r[i].token, strlen(r[i].token), dst)
                                : bt_decode_stream_finish(s, dst);
        dst[got] = 0;
        if (strcmp(dst, r[i].text) != 0) fprintf(stderr, "%s, token %zu\n", name, i);
        CHECK_STR(dst, r[i].text);
    }
    free(dst);
    bt_decode_stream_close(s);
    bt_decode_chain_close(c);
}

static void text_comes_as_soon_as_it_is_certain(void)
{
    static const row llama[] = {
        {MARK "Hi", "Hi"},     {MARK "you", " you"}, {"<0xE6>", ""},
        {"<0x97>", ""},        {"<0xA5>", ""},       {"x", "\xE6\x97\xA5x"},
        {"<0xC3>", ""},        {"y", FFFD "y"},      {"<0xE6>", ""},
        {"<0xFF>", FFFD FFFD}, {"<0x41>", FFFD},     {"z", "z"},
        {"<0x41>", ""},        {NULL, "A"},
    };
    steps("llama", true, llama, BT_COUNT(llama));
    static const row byte_level[] = {{"a", "a"},
                                     {"\xC3\xA2", ""}, // bytes E2 82 AC
                                     {"\xC4\xA4", ""},
                                     {"\xC2\xAC", "\xE2\x82\xAC"},
                                     {"\xC3\xA2", ""},
                                     {"b", FFFD "b"},
                                     {"\xC4\xA0"
                                      "x",
                                      " x"},
                                     {"\xC3\xA2", ""},
                                     {NULL, FFFD}};
    steps("byte-level", true, byte_level, BT_COUNT(byte_level));
    static const row bpe[] = {{"lo", "lo"}, {"w</w>", "w"}, {"x</w>", " x"}, {NULL, ""}};
    steps("bpe", true, bpe, BT_COUNT(bpe));
    static const row join[] = {{"a", "a"}, {"b", " b"}, {"", " "}, {NULL, ""}};
    steps("join", true, join, BT_COUNT(join));
    static const row nothing[] = {{"a", "a"}, {"\xE2\x82", ""}, {"\xAC", "\xE2\x82\xAC"}};
    steps("nothing", true, nothing, BT_COUNT(nothing));
    steps("bytes", true, nothing, BT_COUNT(nothing));
}

static void after_text_nothing_is_done_for_the_beginning(void)
{
    static const row llama[] = {{MARK "Hi", " Hi"}, {MARK "x", " x"}, {NULL, ""}};
    steps("llama", false, llama, BT_COUNT(llama));
    static const row meta[] = {{MARK "Hi", " Hi"}, {NULL, ""}};
    steps("metaspace", false, meta, BT_COUNT(meta));
    static const row word[] = {{"hi", " hi"}, {"##s", "s"}, {NULL, ""}};
    steps("wordpiece", false, word, BT_COUNT(word));
    static const row tokens[] = {{"ab", "b"}, {"aab", "ab"}, {NULL, ""}}; // each token anew
    steps("strip-tokens", false, tokens, BT_COUNT(tokens));
}

/* A script that is spelled in bytes alone streams all the same. */
static void long_runs_stream(void)
{
    static const char *const part[3] = {"<0xE0>", "<0xB8>", "<0x81>"};
    bt_decode_chain *c = open_chain("llama");
    bt_decode_stream *s;
    char *dst = malloc(bt_decode_chain_room(c));
    size_t given = 0, waits = 0, longest = 0;
    REQUIRE(dst && bt_decode_stream_open(c, true, &s, NULL) == BT_OK);
    for (int i = 0; i < 300; i++) {
        size_t got = bt_decode_stream_put(s, part[i % 3], 6, dst);
        CHECK_INT(bt_utf8_valid_prefix(dst, got), got);
        given += got;
        waits = got ? 0 : waits + 1;
        longest = BT_MAX(longest, waits);
    }
    CHECK_INT(given, 300);
    CHECK_INT(longest, BT_CHAIN_RUN_BYTES - 1);
    CHECK_INT(bt_decode_stream_put(s, part[0], 6, dst), 0);
    size_t got = bt_decode_stream_put(s, "<0x41>", 6, dst);
    CHECK(got == 6 && memcmp(dst, FFFD FFFD, 6) == 0);
    CHECK_INT(bt_decode_stream_finish(s, dst), 0);
    bt_decode_stream_close(s);
    free(dst);
    bt_decode_chain_close(c);
}

static void refusals(void)
{
    bt_decode_chain *c = NULL;
    bt_err err = {0};
    char many[BT_CHAIN_PATTERN_MAX + 1];
    memset(many, 'a', sizeof many);
    const bt_chain_step bad[] = {
        {.kind = BT_CHAIN_REPLACE},
        {.kind = BT_CHAIN_BPE},
        {.kind = BT_CHAIN_STRIP, .pattern = S("ab")},
        {.kind = BT_CHAIN_METASPACE},
        {.kind = BT_CHAIN_REPLACE, .pattern = S("\xC3")},
        {.kind = BT_CHAIN_REPLACE, .pattern = {many, sizeof many}},
        {.kind = BT_CHAIN_CTC, .pattern = S("p"), .flag = true},
        {.kind = BT_CHAIN_STRIP, .pattern = S("a"), .stop = BT_CHAIN_STRIP_MAX + 1},
        {.kind = (bt_chain_kind)99},
    };
    for (size_t i = 0; i < BT_COUNT(bad); i++)
        CHECK_INT(bt_decode_chain_open(&bad[i], 1, TOKEN_MAX, &c, &err), BT_EINVAL);
    const bt_chain_step late[] = {{.kind = BT_CHAIN_FUSE}, {.kind = BT_CHAIN_BYTE_LEVEL}};
    CHECK_INT(bt_decode_chain_open(late, 2, TOKEN_MAX, &c, &err), BT_EUNSUPPORTED);
    bt_chain_step grow[4];
    for (size_t i = 0; i < 4; i++)
        grow[i] = (bt_chain_step){
            .kind = BT_CHAIN_REPLACE, .pattern = S("a"), .content = {many, BT_CHAIN_PATTERN_MAX}};
    CHECK_INT(bt_decode_chain_open(grow, 4, TOKEN_MAX, &c, &err), BT_EUNSUPPORTED);
    bt_chain_step steps17[BT_CHAIN_STEPS_MAX + 1] = {{0}};
    CHECK_INT(bt_decode_chain_open(steps17, BT_COUNT(steps17), TOKEN_MAX, &c, &err), BT_EINVAL);
    CHECK(c == NULL);
    bt_mem_fail_at(1);
    CHECK_INT(bt_decode_chain_open(late, 1, TOKEN_MAX, &c, &err), BT_ENOMEM);
    bt_mem_fail_at(0);
    REQUIRE(bt_decode_chain_open(late, 1, TOKEN_MAX, &c, &err) == BT_OK);
    bt_decode_stream *s = NULL;
    bt_mem_fail_at(1);
    CHECK_INT(bt_decode_stream_open(c, true, &s, &err), BT_ENOMEM);
    bt_mem_fail_at(0);
    CHECK(s == NULL);
    bt_decode_chain_close(c);
    bt_decode_chain_close(NULL);
    bt_decode_stream_close(NULL);
}

int main(void)
{
    RUN(as_tokenizers);
    RUN(text_comes_as_soon_as_it_is_certain);
    RUN(after_text_nothing_is_done_for_the_beginning);
    RUN(long_runs_stream);
    RUN(refusals);
    return TEST_END();
}
