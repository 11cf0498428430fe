/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* test_wire.c - every command and event there and back, and every way a frame can be broken. */
#include "engine/wire.h"
#include "base/assert.h"
#include "base/rng.h"
#include "test.h"
#include <sys/socket.h>
#include <unistd.h>

/* The payload of the one frame in b. */
static bt_rd payload(const bt_buf *b, uint16_t *type)
{
    REQUIRE(!b->failed && b->len >= BT_FRAME_HEADER);
    memcpy(type, b->data + 4, 2);
    return (bt_rd){(const uint8_t *)b->data + BT_FRAME_HEADER, (const uint8_t *)b->data + b->len,
                   true};
}

/* What is only checked is refused or taken as what is decoded. */
static bt_status event_any(uint16_t type, bt_rd *r, bt_engine_event *event)
{
    static bt_wire_storage storage;
    static bt_wire_tokens tokens;
    bt_engine_event checked;
    bt_rd again = *r;
    bt_status st = bt_wire_get_event(type, r, &storage, &tokens, event, NULL);
    CHECK_INT(bt_wire_get_event(type, &again, &storage, NULL, &checked, NULL), st);
    CHECK(again.at == r->at);
    return st;
}

/* Decodes whatever it is; the type says. */
static bt_status decode_any(uint16_t type, bt_rd *r)
{
    bt_arena arena;
    bt_engine_options opt;
    bt_engine_request req;
    bt_wire_command command;
    bt_engine_event event;
    bt_status status;
    bt_arena_init(&arena, 16 << 20);
    if (type == BT_WIRE_OPTIONS)
        status = bt_wire_get_options(r, &arena, &opt, NULL);
    else if (type == BT_WIRE_SUBMIT)
        status = bt_wire_get_submit(r, &arena, &req, NULL);
    else if (type < BT_WIRE_EVENT)
        status = bt_wire_get_command(type, r, &command, NULL);
    else
        status = event_any(type, r, &event);
    bt_arena_release(&arena);
    return status;
}

/* Each shorter payload, in a buffer of exactly its size, is refused; so is one byte more. */
static void check_truncation(const bt_buf *b)
{
    uint16_t type;
    bt_rd whole = payload(b, &type);
    size_t n = (size_t)(whole.end - whole.at);
    for (size_t len = 0; len <= n + 1; len++) {
        uint8_t *copy = malloc(len ? len : 1);
        REQUIRE(copy);
        memset(copy, 0, len ? len : 1);
        memcpy(copy, whole.at, BT_MIN(len, n));
        bt_rd r = {copy, copy + len, true};
        bt_status status = decode_any(type, &r);
        CHECK(len == n ? status == BT_OK : status != BT_OK);
        free(copy);
    }
}

/* Any single changed byte is decoded to something sound or refused; ASan and UBSan watch. */
static void check_corruption(const bt_buf *b)
{
    uint16_t type;
    bt_rd whole = payload(b, &type);
    size_t n = (size_t)(whole.end - whole.at);
    uint8_t *copy = malloc(n ? n : 1);
    REQUIRE(copy);
    for (size_t at = 0; at < n; at++) {
        for (int32_t k = 0; k < 4; k++) {
            memcpy(copy, whole.at, n);
            copy[at] = (uint8_t)(k == 0 ? 0xFF : k == 1 ? 0x80 : k == 2 ? copy[at] + 1 : 0x7F);
            bt_rd r = {copy, copy + n, true};
            decode_any(type, &r);
        }
    }
    free(copy);
    test_checked++;
}

static void options(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_arena arena;
    bt_engine_options o = {.model_path = "/models/x.gguf",
                           .usage_path = "/data/usage/1",
                           .cost_dir = "/data",
                           .threads = 3,
                           .slots = 5,
                           .ctx = 777,
                           .kv_tokens = 9000,
                           .step_tokens = 64,
                           .step_ms = 100,
                           .kv_format = BT_KV_F32,
                           .deterministic = true,
                           .quant = "int4",
                           .share_prefix = true};
    bt_engine_options got;
    uint16_t type;
    bt_arena_init(&arena, 1 << 20);
    bt_wire_put_options(&b, &o);
    bt_rd r = payload(&b, &type);
    CHECK_INT(type, BT_WIRE_OPTIONS);
    REQUIRE(!bt_wire_get_options(&r, &arena, &got, NULL));
    CHECK_STR(got.model_path, o.model_path);
    CHECK_STR(got.usage_path, o.usage_path);
    CHECK_STR(got.cost_dir, o.cost_dir);
    CHECK(got.device == NULL);
    CHECK_INT(got.threads, 3);
    CHECK_INT(got.slots, 5);
    CHECK_INT(got.ctx, 777);
    CHECK_INT(got.kv_tokens, 9000);
    CHECK_INT(got.step_tokens, 64);
    CHECK_INT(got.step_ms, 100);
    CHECK_INT(got.kv_format, BT_KV_F32);
    CHECK(got.deterministic);
    CHECK_STR(got.quant, "int4");
    CHECK(got.share_prefix);
    check_truncation(&b);
    check_corruption(&b);
    bt_arena_release(&arena);
    bt_buf_release(&b);
}

static const bt_logit_bias bias[2] = {{5, -100}, {9, 3.5f}};
static const char *const stops[2] = {"\n\n", "User:"};
static const int32_t prompt[5] = {1, 403, 407, 261, 378};

static bt_engine_request some_request(void)
{
    bt_engine_request q = {
        .id = 0x1122334455667788, .salt = 42, .tokens = prompt, .n_tokens = 5, .n_seq = 3};
    q.params = (bt_gen_params){.temperature = 0.7f,
                               .top_p = 0.9f,
                               .min_p = 0.05f,
                               .top_k = 40,
                               .repeat_penalty = 1.1f,
                               .freq_penalty = 0.5f,
                               .presence_penalty = -0.5f,
                               .repeat_last_n = -1,
                               .seed = 0xFFFFFFFFFFFFFFFF,
                               .max_tokens = 100,
                               .min_tokens = 2,
                               .ignore_eos = true,
                               .prompt_logprobs = true,
                               .n_logprobs = 20,
                               .n_bias = 2,
                               .bias = bias,
                               .n_stop = 2,
                               .stop = stops};
    q.lease = (bt_lease){4, 99, 123456789012345, 60000000, true};
    return q;
}

static void submit(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_arena arena;
    bt_engine_request q = some_request(), got;
    uint16_t type;
    bt_arena_init(&arena, 1 << 20);
    bt_wire_put_submit(&b, &q);
    bt_rd r = payload(&b, &type);
    REQUIRE(!bt_wire_get_submit(&r, &arena, &got, NULL));
    CHECK(got.id == q.id && got.salt == q.salt && got.n_seq == 3);
    CHECK_INT(got.n_tokens, 5);
    CHECK(memcmp(got.tokens, prompt, sizeof prompt) == 0);
    CHECK(got.lease.slot == 4 && got.lease.generation == 99 && got.lease.budget_final);
    CHECK(got.lease.deadline_ns == q.lease.deadline_ns && got.lease.budget_us == 60000000);
    CHECK(got.params.temperature == 0.7f && got.params.top_p == 0.9f && got.params.min_p == 0.05f);
    CHECK(got.params.top_k == 40 && got.params.repeat_penalty == 1.1f);
    CHECK(got.params.freq_penalty == 0.5f && got.params.presence_penalty == -0.5f);
    CHECK(got.params.repeat_last_n == -1 && got.params.seed == UINT64_MAX);
    CHECK(got.params.max_tokens == 100 && got.params.min_tokens == 2 &&
          got.params.n_logprobs == 20);
    CHECK(got.params.ignore_eos && !got.params.cache_prompt && got.params.prompt_logprobs);
    CHECK_INT(got.params.n_bias, 2);
    CHECK(memcmp(got.params.bias, bias, sizeof bias) == 0);
    CHECK_INT(got.params.n_stop, 2);
    CHECK_STR(got.params.stop[0], stops[0]);
    CHECK_STR(got.params.stop[1], stops[1]);
    check_truncation(&b);
    check_corruption(&b);
    bt_arena_release(&arena);
    bt_buf_release(&b);
}

/* What a put writes without question, a get must not swallow. */
static void submit_refusals(void)
{
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        bt_buf b = BT_BUF_INIT;                                                                    \
        bt_engine_request q = some_request();                                                      \
        uint16_t type;                                                                             \
        change;                                                                                    \
        bt_wire_put_submit(&b, &q);                                                                \
        bt_rd r = payload(&b, &type);                                                              \
        CHECK_INT(decode_any(type, &r), BT_EIO);                                                   \
        bt_buf_release(&b);                                                                        \
    } while (0)
    bt_logit_bias nan_bias = {1, NAN};
    REFUSED(q.id = 0);
    REFUSED(q.n_tokens = 0);
    REFUSED(q.n_seq = 0);
    REFUSED(q.n_seq = 17);
    REFUSED(q.params.temperature = NAN);
    REFUSED(q.params.top_p = INFINITY);
    REFUSED(q.params.repeat_penalty = -INFINITY);
    REFUSED(q.params.n_logprobs = 21);
    REFUSED(q.params.repeat_last_n = -2);
    REFUSED(q.params.max_tokens = -1);
    REFUSED((q.params.n_bias = 1, q.params.bias = &nan_bias));
#undef REFUSED
}

static void commands(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_wire_command c;
    uint16_t type;
    bt_wire_put_cancel(&b, 7, 3, BT_FINISH_LEASE_EXPIRED);
    bt_rd r = payload(&b, &type);
    REQUIRE(!bt_wire_get_command(type, &r, &c, NULL));
    CHECK(c.request == 7 && c.generation == 3 && c.why == BT_FINISH_LEASE_EXPIRED);
    check_truncation(&b);
    bt_buf_clear(&b);
    bt_wire_put_cancel(&b, 7, 3, BT_FINISH_NONE); // an end that is none
    r = payload(&b, &type);
    CHECK_INT(bt_wire_get_command(type, &r, &c, NULL), BT_EIO);
    bt_buf_clear(&b);
    bt_wire_put_budget(&b, 8, 4, INT64_MAX, true);
    r = payload(&b, &type);
    REQUIRE(!bt_wire_get_command(type, &r, &c, NULL));
    CHECK(c.request == 8 && c.generation == 4 && c.budget_us == INT64_MAX && c.budget_final);
    check_truncation(&b);
    bt_buf_clear(&b);
    bt_wire_put_release(&b, 9);
    r = payload(&b, &type);
    REQUIRE(!bt_wire_get_command(type, &r, &c, NULL));
    CHECK(c.request == 9);
    check_truncation(&b);
    bt_buf_clear(&b);
    bt_wire_put_plain(&b, BT_WIRE_STOP);
    r = payload(&b, &type);
    CHECK_INT(bt_wire_get_command(type, &r, &c, NULL), BT_OK);
    CHECK_INT(type, BT_WIRE_STOP);
    check_truncation(&b);
    for (int wake = 0; wake < 2; wake++) {
        bt_buf_clear(&b);
        bt_wire_put_plain(&b, wake ? BT_WIRE_WAKE : BT_WIRE_PARK);
        r = payload(&b, &type);
        CHECK_INT(bt_wire_get_command(type, &r, &c, NULL), BT_OK);
        CHECK_INT(type, wake ? BT_WIRE_WAKE : BT_WIRE_PARK);
        check_truncation(&b);
    }
    r.ok = true;
    CHECK_INT(bt_wire_get_command(33, &r, &c, NULL), BT_EIO);
    bt_buf_release(&b);
}

static bt_wire_storage storage;
static bt_wire_tokens tokens;

static bt_engine_event round_trip(const bt_engine_event *ev, bt_buf *b)
{
    uint16_t type;
    bt_err err = {0};
    bt_engine_event got = {0};
    bt_buf_clear(b);
    bt_wire_put_event(b, ev);
    check_truncation(b);
    check_corruption(b);
    bt_rd r = payload(b, &type);
    REQUIRE(!bt_wire_get_event(type, &r, &storage, &tokens, &got, &err));
    CHECK_INT(got.type, ev->type);
    CHECK(got.request == ev->request && got.seq == ev->seq);
    return got;
}

static void token_events(void)
{
    bt_buf b = BT_BUF_INIT;
    const int32_t top[3] = {7, 8, 9};
    const float p[3] = {-0.5f, -1.5f, -INFINITY};
    bt_token_out token[2] = {{7, -0.5f, 3, top, p, "\xC3", 1}, {8, NAN, 0, NULL, NULL, "", 0}};
    const bt_engine_event_type types[] = {BT_EE_TOKENS, BT_EE_SEQ_END, BT_EE_PROMPT_LOGPROBS};
    for (size_t i = 0; i < BT_COUNT(types); i++) {
        bt_engine_event ev = {.type = types[i], .request = 77, .seq = 15};
        ev.u.tokens.token = token;
        ev.u.tokens.n_tokens = 2;
        ev.u.tokens.text = "h\xC3\xA9llo";
        ev.u.tokens.n_text = 6;
        ev.u.tokens.finish = BT_FINISH_STOP;
        bt_engine_event got = round_trip(&ev, &b);
        CHECK_INT(got.u.tokens.n_tokens, 2);
        CHECK_INT(got.u.tokens.finish, BT_FINISH_STOP);
        CHECK(got.u.tokens.n_text == 6 && memcmp(got.u.tokens.text, "h\xC3\xA9llo", 6) == 0);
        const bt_token_out *t = got.u.tokens.token;
        CHECK(t[0].token == 7 && t[0].logprob == -0.5f && t[0].n_top == 3);
        CHECK(memcmp(t[0].top_token, top, sizeof top) == 0);
        CHECK(memcmp(t[0].top_logprob, p, sizeof p) == 0);
        CHECK(t[0].n_bytes == 1 && t[0].bytes[0] == '\xC3');
        CHECK(t[1].token == 8 && isnan(t[1].logprob) && t[1].n_top == 0 && t[1].n_bytes == 0);
    }
    /* Where no logprobs were asked for they are a number. */
    bt_engine_event ev = {.type = BT_EE_TOKENS, .request = 77, .seq = 15};
    ev.u.tokens.token = token + 1;
    ev.u.tokens.n_tokens = 1;
    ev.u.tokens.text = "l";
    ev.u.tokens.n_text = 1;
    bt_engine_event got = round_trip(&ev, &b);
    CHECK_INT(got.u.tokens.n_tokens, 1);
    CHECK(got.u.tokens.token == NULL);
    CHECK(got.u.tokens.n_text == 1 && *got.u.tokens.text == 'l');
    bt_buf_release(&b);
}

static void book_events(void)
{
    bt_buf b = BT_BUF_INIT;
    const bt_step_share share[2] = {{11, 1000}, {12, UINT64_MAX}};
    bt_engine_event ev = {.type = BT_EE_STEP};
    ev.u.step.busy_us = 1;
    ev.u.step.house_us = 2;
    ev.u.step.step_us = 3;
    ev.u.step.n_rows = 4;
    ev.u.step.n_seqs = 5;
    ev.u.step.pages_free = 6;
    ev.u.step.share = share;
    ev.u.step.n_share = 2;
    bt_engine_event got = round_trip(&ev, &b);
    CHECK(got.u.step.busy_us == 1 && got.u.step.house_us == 2 && got.u.step.step_us == 3);
    CHECK(got.u.step.n_rows == 4 && got.u.step.n_seqs == 5 && got.u.step.pages_free == 6);
    CHECK_INT(got.u.step.n_share, 2);
    CHECK(memcmp(got.u.step.share, share, sizeof share) == 0);
    ev = (bt_engine_event){.type = BT_EE_END, .request = 9};
    ev.u.end.finish = BT_FINISH_QUOTA_EXHAUSTED;
    ev.u.end.prompt_tokens = 10;
    ev.u.end.cached_tokens = 8;
    ev.u.end.completion_tokens = 3;
    ev.u.end.used_us = 12345;
    ev.u.end.prefill_ns = 1000;
    ev.u.end.decode_ns = 2000;
    ev.u.end.status = BT_EBUSY;
    got = round_trip(&ev, &b);
    CHECK(got.u.end.finish == BT_FINISH_QUOTA_EXHAUSTED && got.u.end.prompt_tokens == 10);
    CHECK(got.u.end.cached_tokens == 8 && got.u.end.completion_tokens == 3);
    CHECK(got.u.end.used_us == 12345 && got.u.end.prefill_ns == 1000 &&
          got.u.end.decode_ns == 2000);
    CHECK_INT(got.u.end.status, BT_EBUSY);
    ev = (bt_engine_event){.type = BT_EE_PREFILL, .request = 9};
    ev.u.prefill.done = 16;
    ev.u.prefill.total = 99;
    got = round_trip(&ev, &b);
    CHECK(got.u.prefill.done == 16 && got.u.prefill.total == 99);
    bt_buf_release(&b);
}

/* A status that is none, at the end of END's payload and at the start of FATAL's. */
static void statuses_that_are_none(void)
{
    static const struct {
        int32_t value;
        bool known;
    } row[] = {{BT_OK, true},          {BT_EMODEL, true},  {1, false},
               {BT_EMODEL - 1, false}, {INT32_MAX, false}, {INT32_MIN, false}};
    bt_buf b = BT_BUF_INIT;
    for (int fatal = 0; fatal < 2; fatal++)
        for (size_t i = 0; i < BT_COUNT(row); i++) {
            bt_engine_event ev = {.type = fatal ? BT_EE_FATAL : BT_EE_END, .request = 9}, got;
            uint16_t type;
            bt_err err = {0};
            if (fatal) ev.u.fatal.message = "";
            bt_buf_clear(&b);
            bt_wire_put_event(&b, &ev);
            bt_rd r = payload(&b, &type);
            uint8_t *at =
                (uint8_t *)b.data + b.len - (fatal ? 8 : 4); // a string of nothing follows
            memcpy(at, &row[i].value, sizeof row[i].value);
            CHECK_INT(bt_wire_get_event(type, &r, &storage, &tokens, &got, &err),
                      row[i].known ? BT_OK : BT_EIO);
            if (row[i].known)
                CHECK_INT(fatal ? got.u.fatal.code : got.u.end.status, row[i].value);
            else
                CHECK(strstr(err.msg, "damaged frame") != NULL);
        }
    bt_buf_release(&b);
}

static void life_events(void)
{
    bt_buf b = BT_BUF_INIT;
    char name[300];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    bt_engine_event ev = {.type = BT_EE_READY};
    ev.u.ready.vocab = 32000;
    ev.u.ready.ctx = 4096;
    ev.u.ready.slots = 8;
    ev.u.ready.n_pages = 100;
    ev.u.ready.page_tokens = 16;
    ev.u.ready.rows_max = 512;
    ev.u.ready.weights_bytes = 1ull << 33;
    ev.u.ready.kv_bytes = 5;
    ev.u.ready.scratch_bytes = 6;
    ev.u.ready.boot = 777;
    ev.u.ready.device = "cpu0";
    ev.u.ready.device_id = "GPU-1";
    ev.u.ready.name = name; // longer than fits: cut, not refused
    ev.u.ready.eos = -1;
    ev.u.ready.prefill_us_per_token = 1.5f;
    ev.u.ready.decode_us_per_token = 2.5f;
    bt_engine_event got = round_trip(&ev, &b);
    CHECK(got.u.ready.vocab == 32000 && got.u.ready.ctx == 4096 && got.u.ready.slots == 8);
    CHECK(got.u.ready.n_pages == 100 && got.u.ready.page_tokens == 16 &&
          got.u.ready.rows_max == 512);
    CHECK(got.u.ready.weights_bytes == 1ull << 33 && got.u.ready.boot == 777);
    CHECK_STR(got.u.ready.device, "cpu0");
    CHECK_STR(got.u.ready.device_id, "GPU-1");
    CHECK_INT(strlen(got.u.ready.name), BT_WIRE_NAME_MAX);
    CHECK(got.u.ready.eos == -1 && got.u.ready.prefill_us_per_token == 1.5f);
    ev = (bt_engine_event){.type = BT_EE_LOAD};
    ev.u.load.done = 5;
    ev.u.load.total = 10;
    got = round_trip(&ev, &b);
    CHECK(got.u.load.done == 5 && got.u.load.total == 10);
    ev = (bt_engine_event){.type = BT_EE_FATAL};
    ev.u.fatal.message = "the device is gone";
    ev.u.fatal.code = BT_EDEVICE;
    got = round_trip(&ev, &b);
    CHECK_STR(got.u.fatal.message, "the device is gone");
    CHECK_INT(got.u.fatal.code, BT_EDEVICE);
    ev = (bt_engine_event){.type = BT_EE_RESIDENCY};
    ev.u.residency.level = 1;
    ev.u.residency.bytes = 1ull << 34;
    ev.u.residency.free_bytes = 3;
    ev.u.residency.took_ns = 12;
    ev.u.residency.from_host = true;
    got = round_trip(&ev, &b);
    CHECK(got.u.residency.level == 1 && got.u.residency.bytes == 1ull << 34);
    CHECK(got.u.residency.free_bytes == 3 && got.u.residency.took_ns == 12);
    CHECK(got.u.residency.from_host);
    bt_buf_release(&b);
}

/* Over a real socket, in pieces, frames come out whole and in order. */
static void over_a_socket(void)
{
    int fd[2];
    bt_buf b = BT_BUF_INIT;
    bt_frame_reader reader = {0};
    bt_frame frame;
    bt_engine_request q = some_request();
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    for (int32_t i = 0; i < 50; i++) {
        q.id = (uint64_t)i + 1;
        bt_wire_put_submit(&b, &q);
    }
    size_t at = 0;
    int32_t got = 0;
    uint64_t n = 0;
    while (got < 50) {
        size_t piece = 1 + bt_rng_u64(6, n++) % 400;
        if (piece > b.len - at) piece = b.len - at;
        if (piece) REQUIRE(write(fd[0], b.data + at, piece) == (ssize_t)piece);
        at += piece;
        REQUIRE(!bt_frame_reader_fill(&reader, fd[1], NULL));
        int have;
        while ((have = bt_frame_reader_next(&reader, &frame, NULL)) > 0) {
            bt_arena arena;
            bt_engine_request r;
            bt_arena_init(&arena, 1 << 16);
            REQUIRE(!bt_wire_get_submit(&frame.rd, &arena, &r, NULL));
            CHECK_INT(r.id, ++got);
            bt_arena_release(&arena);
        }
        REQUIRE(have == 0);
    }
    bt_frame_reader_release(&reader);
    bt_buf_release(&b);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    RUN(options);
    RUN(submit);
    RUN(submit_refusals);
    RUN(commands);
    RUN(token_events);
    RUN(book_events);
    RUN(statuses_that_are_none);
    RUN(life_events);
    RUN(over_a_socket);
    return TEST_END();
}
