/* SPDX-License-Identifier: Apache-2.0 */
/* LINK chat */
/* test_stop.c - encoding and rendering end early: at a flag, at a limit on their time, and as soon
 * as there are more tokens than fit. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/stop.h"
#include "chat/template_chat.h"
#include "json.h"
#include "text_fixture.h"

/* What is late: a pass of a normalizer over the text, which is done whole (some 30 ns a byte). */
enum { LONG_BYTES = TEST_SANITIZED ? 1 << 18 : 1 << 20, MS = 1000000 };
enum { LATE_MS = TEST_SANITIZED ? 1000 : 100 };

static const char *const names[] = {"llama-spm", "llama-bpe",      "qwen2",     "gpt-2",   "phi-3",
                                    "gemma-4",   "deepseek-coder", "starcoder", "bert-bge"};
static const char *const unit[] = {"a",
                                   " ",
                                   "a b  c   ",
                                   "Once upon a time, 1234. ",
                                   "\xE4\xBD\xA0\xE5\xA5\xBD",
                                   "\xCC\x95\xCC\x96",
                                   "<|im_end|>"};

static char *repeat(const char *s, size_t n, size_t *len)
{
    char *all = malloc(n + 1);
    size_t unit_len = strlen(s);
    REQUIRE(all);
    *len = n / unit_len * unit_len;
    for (size_t i = 0; i < *len; i++) all[i] = s[i % unit_len];
    return all;
}

static bt_status encode(fixture *f, const char *s, size_t n, size_t n_max, bt_stop *stop)
{
    const int32_t *ids;
    size_t n_ids;
    bt_encode_options opt = {.parse_special = true, .stop = stop};
    return bt_encode(f->encoder, s, n, &opt, n_max, &ids, &n_ids, NULL);
}

static int64_t late_ms(int64_t end_ns)
{
    return (bt_thread_ns() - end_ns) / MS;
}

/* Of any text, within milliseconds of the limit. A text that is done before is none of its. */
static void encoding_stops_at_its_limit(void)
{
    for (size_t v = 0; v < BT_COUNT(names); v++) {
        fixture f = fixture_vocab(names[v]);
        for (size_t i = 0; i < BT_COUNT(unit); i++) {
            size_t n;
            char *s = repeat(unit[i], LONG_BYTES, &n);
            bt_stop stop = {.end_ns = bt_thread_ns() + 2 * MS};
            bt_status st = encode(&f, s, n, 0, &stop);
            CHECK(st == BT_ETOOBIG || (st == BT_OK && stop.why == BT_OK));
            if (late_ms(stop.end_ns) > LATE_MS)
                fprintf(stderr, "%s '%s': %lld ms late\n", names[v], unit[i],
                        (long long)late_ms(stop.end_ns));
            CHECK(late_ms(stop.end_ns) <= LATE_MS);
            free(s);
        }
        fixture_close(&f);
    }
}

static void a_flag_stops_at_the_first_look(void)
{
    atomic_bool flag = true;
    fixture f = fixture_vocab("qwen2");
    size_t n;
    char *s = repeat("Once upon a time. ", 1 << 16, &n);
    bt_stop stop = {.flag = &flag};
    CHECK_INT(encode(&f, s, n, 0, &stop), BT_ECANCELLED);
    CHECK_INT(encode(&f, s, n, 0, &stop), BT_ECANCELLED); // once stopped, always
    flag = false;
    stop = (bt_stop){.flag = &flag};
    CHECK_INT(encode(&f, s, n, 0, &stop), BT_OK);
    free(s);
    fixture_close(&f);
}

/* Exact at the edge, for every reference text of every vocabulary; and no text has fewer tokens
 * than its bytes tell. */
static void too_many_tokens_is_exact(void)
{
    size_t n_all;
    char *all = slurp(VOCAB_DIR "texts.inp", &n_all);
    for (size_t v = 0; v < BT_COUNT(names); v++) {
        fixture f = fixture_vocab(names[v]);
        size_t bytes = bt_tokenizer_token_bytes(f.tokenizer);
        for (char *s = all, *end; s < all + n_all; s = end + 1) {
            const int32_t *ids;
            end = memchr(s, '\n', (size_t)(all + n_all - s));
            if (!end) break;
            size_t len = (size_t)(end - s), n = fixture_encode(&f, s, len, false, true, &ids);
            CHECK(!bytes || len <= n * bytes);
            if (n < 2) continue;
            CHECK_INT(encode(&f, s, len, n, NULL), BT_OK);
            CHECK_INT(encode(&f, s, len, n - 1, NULL), BT_ECONTEXT);
        }
        fixture_close(&f);
    }
    free(all);
}

static void what_is_too_long_costs_little(void)
{
    for (size_t v = 0; v < BT_COUNT(names); v++) {
        fixture f = fixture_vocab(names[v]);
        size_t n;
        char *s = repeat("Once upon a time, ", LONG_BYTES, &n);
        int64_t t0 = bt_thread_ns();
        CHECK_INT(encode(&f, s, n, 1000, NULL), BT_ECONTEXT);
        CHECK(late_ms(t0) <= LATE_MS);
        free(s);
        fixture_close(&f);
    }
}

/* A bound where nothing of a text can get lost, and none where it can. */
static void token_bytes_only_where_nothing_is_dropped(void)
{
    static const char *const bounded[] = {"llama-bpe", "qwen2", "gpt-2"};
    for (size_t i = 0; i < BT_COUNT(bounded); i++) {
        fixture f = fixture_vocab(bounded[i]);
        CHECK(bt_tokenizer_token_bytes(f.tokenizer) > 0);
        fixture_close(&f);
    }
    fixture f = fixture_vocab("bert-bge"); // drops white space and marks
    CHECK_INT(bt_tokenizer_token_bytes(f.tokenizer), 0);
    fixture_close(&f);
}

static void rendering_stops(void)
{
    atomic_bool flag = true;
    fixture f = fixture_vocab("qwen2");
    static const char slow[] = "{% for a in range(10000) %}{% for b in range(100) %}"
                               "{% set c = a * b %}{% endfor %}{% endfor %}x";
    bt_chat *chat;
    bt_err err = {0};
    REQUIRE(bt_chat_open(f.vocab, slow, &chat, &err) == BT_OK);
    bt_template_chat ask = {.messages = json("[]")};
    bt_jinja_output out = {0};
    bt_stop stop = {.flag = &flag};
    ask.stop = &stop;
    CHECK_INT(bt_chat_render(chat, &ask, &out, &err), BT_ECANCELLED);
    stop = (bt_stop){.end_ns = bt_thread_ns() + 2 * MS};
    CHECK_INT(bt_chat_render(chat, &ask, &out, &err), BT_ETOOBIG);
    CHECK(late_ms(stop.end_ns) <= LATE_MS);
    CHECK(strstr(err.msg, "too long") != NULL);
    bt_jinja_output_release(&out);
    bt_chat_close(chat);
    fixture_close(&f);
}

int main(void)
{
    RUN(encoding_stops_at_its_limit);
    RUN(a_flag_stops_at_the_first_look);
    RUN(too_many_tokens_is_exact);
    RUN(what_is_too_long_costs_little);
    RUN(token_bytes_only_where_nothing_is_dropped);
    RUN(rendering_stops);
    return TEST_END();
}
