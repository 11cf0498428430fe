/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h - an engine on the fake backend, with the vocabulary of the bundled model. */
#pragma once
#include "fake_backend.h"
#include "harness.h"

typedef struct fake_engine {
    bt_gguf *gguf;
    bt_vocab *vocab;
    bt_recipe recipe;
    bt_weights weights;
    bt_device_plan plan;
    bt_engine_options opt;
    bt_engine *e;
    event_log log;
} fake_engine;

/* page_tokens 4 and 64 pages of a 96-token context: borders are everywhere. Change f->plan and
 * f->opt before fake_start() to taste. */
static inline fake_engine *fake_new(void)
{
    fake_engine *f = calloc(1, sizeof *f);
    bt_err err = {0};
    REQUIRE(f);
    fake_reset();
    REQUIRE(!bt_gguf_open("models/stories260K.gguf", &f->gguf, &err));
    REQUIRE(!bt_vocab_open(f->gguf, &f->vocab, &err));
    f->recipe.n_layers = FAKE_LAYERS;
    f->recipe.vocab = FAKE_VOCAB;
    f->plan = (bt_device_plan){.threads = 1,
                               .page_tokens = 4,
                               .n_pages = 64,
                               .ctx = 96,
                               .rows_max = 64,
                               .seqs_max = 6,
                               .out_max = 16};
    return f;
}

static inline bt_status fake_try_start(fake_engine *f, bt_err *err)
{
    bt_engine_parts parts = {
        &fake_backends[fake_ahead], &f->recipe, &f->weights, f->vocab, f->plan, "fake"};
    return bt_engine_open_parts(&parts, &f->opt, log_sink, &f->log, &f->e, err);
}

static inline fake_engine *fake_start(fake_engine *f)
{
    bt_err err = {0};
    bt_status status = fake_try_start(f, &err);
    if (status) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(!status);
    REQUIRE(f->log.ready);
    return f;
}

/* No slot, page or reference may be left behind by requests that have ended. */
static inline void fake_check_idle(fake_engine *f)
{
    for (int32_t i = 0; i < f->e->slots; i++) {
        CHECK_INT(f->e->slot[i].state, BT_SLOT_FREE);
        CHECK(f->e->request[i].id == 0);
    }
    bt_kv_check(&f->e->kv);
    CHECK_INT(bt_kv_available(&f->e->kv), f->plan.n_pages);
    CHECK_INT(fake.wrong, 0);
    bt_usage_bank *b = &f->e->meter.bank;
    uint64_t open_us = 0;
    for (uint64_t i = 0; i < b->n; i++) open_us += b->entry[i].used_us;
    CHECK_INT(b->busy_us, b->house_us + b->closed_us + open_us);
    CHECK_INT(b->busy_us, fake.busy_us);
}

static inline void fake_end(fake_engine *f)
{
    if (f->e) fake_check_idle(f);
    bt_engine_close(f->e);
    CHECK_INT(fake.open_devices, 0);
    log_release(&f->log);
    bt_vocab_close(f->vocab);
    bt_gguf_close(f->gguf);
    free(f);
}

/* A prompt that differs from others by its seed. */
static inline const int32_t *prompt_of(uint64_t seed, int32_t n, int32_t *dst)
{
    for (int32_t i = 0; i < n; i++)
        dst[i] = 3 + (int32_t)(bt_hash_u64(seed * 1000 + (uint64_t)i) % (FAKE_VOCAB - 3));
    return dst;
}
