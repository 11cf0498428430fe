/* SPDX-License-Identifier: Apache-2.0 */
/* storm.h - a front and an engine in one loop, as far as the books see them: holds, steps that
 * write the usage file, posts in group commits, releases. Never ends by itself; somebody kills it.
 *
 * What it knows to be committed it writes to memory shared with the parent, after the commit. */
#pragma once
#include "base/rng.h"
#include "ledger/usage.h"
#include "src/quota/scratch.h"
#include <fcntl.h>
#include <sys/mman.h>

enum { STORM_RUNNING = 24, STORM_NOTES = 20000 };

typedef struct storm_note {
    uint64_t request, used_us;
} storm_note;

/* Shared with the parent. n is stored after the note it counts. */
typedef struct storm_shared {
    uint64_t steps; // done by the engine
    uint64_t n_posted;
    storm_note posted[STORM_NOTES]; // committed before it was noted
} storm_shared;

typedef struct storm {
    bt_ledger *l;
    bt_usage_file *file;
    storm_shared *shared;
    uint64_t seed, draw, boot, next;
    int64_t now;
    bt_usage_bank bank; // the engine's books
    struct {
        uint64_t request, used_us;
        bool ended, posted;
    } run[STORM_RUNNING];
} storm;

static uint64_t storm_draw(storm *s, uint64_t below)
{
    return bt_rng_u64(s->seed, s->draw++) % below;
}

/* As the engine does it: the other bank whole, then the number. */
static void storm_write_usage(storm *s)
{
    uint64_t seq = s->file->head.seq;
    bt_usage_bank *b = &s->file->bank[(seq + 1) & 1];
    s->bank.n = 0;
    for (int i = 0; i < STORM_RUNNING; i++)
        if (s->run[i].request)
            s->bank.entry[s->bank.n++] = (bt_usage_entry){s->run[i].request, s->run[i].used_us};
    *b = s->bank;
    __atomic_store_n(&s->file->head.seq, seq + 1, __ATOMIC_RELEASE);
}

/* One batch of the front: holds for empty slots, posts of what has ended. */
static void storm_front(storm *s)
{
    uint64_t fresh[STORM_RUNNING] = {0};
    bool posting[STORM_RUNNING] = {false};
    bool batch = storm_draw(s, 4) != 0; // now and then each call by itself
    if (batch) REQUIRE(bt_ledger_begin(s->l, NULL) == BT_OK);
    for (int i = 0; i < STORM_RUNNING; i++) {
        int64_t held;
        bool final;
        bt_ledger_balance b;
        char name[32];
        if (!s->run[i].request && storm_draw(s, 3) == 0) {
            snprintf(name, sizeof name, "key:%d", (int)storm_draw(s, 5));
            bt_status st = bt_ledger_hold(s->l, s->boot, name, s->next, DAY,
                                          1 + storm_draw(s, 5000), s->now, &held, &final, &b, NULL);
            REQUIRE(st == BT_OK);
            fresh[i] = s->next++;
        } else if (s->run[i].request && !s->run[i].ended && storm_draw(s, 8) == 0) {
            REQUIRE(bt_ledger_top_up(s->l, s->run[i].request, 9000, s->now, &held, &final, NULL) ==
                    BT_OK);
        } else if (s->run[i].ended && !s->run[i].posted && storm_draw(s, 2) == 0) {
            int64_t used = (int64_t)s->run[i].used_us;
            REQUIRE(bt_ledger_post(s->l, s->run[i].request, used, used, s->now, NULL, NULL) ==
                    BT_OK);
            posting[i] = true;
        }
    }
    if (storm_draw(s, 8) == 0)
        REQUIRE(bt_ledger_engine(s->l, s->file->head.boot, (int64_t)s->bank.busy_us,
                                 (int64_t)s->bank.house_us, s->now, NULL) == BT_OK);
    if (batch) REQUIRE(bt_ledger_commit(s->l, NULL) == BT_OK);
    for (int i = 0; i < STORM_RUNNING; i++) {
        if (fresh[i]) {
            s->run[i].request = fresh[i];
            s->run[i].used_us = 0;
            s->run[i].ended = s->run[i].posted = false;
        }
        if (!posting[i]) continue;
        s->run[i].posted = true;
        uint64_t n = s->shared->n_posted;
        if (n < STORM_NOTES) {
            s->shared->posted[n] = (storm_note){s->run[i].request, s->run[i].used_us};
            __atomic_store_n(&s->shared->n_posted, n + 1, __ATOMIC_RELEASE);
        }
    }
}

/* A step of the engine: time for those who run, some of it the house's; ends; releases. */
static void storm_step(storm *s)
{
    for (int i = 0; i < STORM_RUNNING; i++) {
        if (!s->run[i].request) continue;
        if (!s->run[i].ended) {
            uint64_t us = storm_draw(s, 300);
            s->run[i].used_us += us;
            s->bank.busy_us += us;
            s->run[i].ended = storm_draw(s, 6) == 0;
        } else if (s->run[i].posted && storm_draw(s, 2) == 0) {
            s->bank.closed_us += s->run[i].used_us; // released
            s->run[i].request = 0;
        }
    }
    uint64_t house = storm_draw(s, 3) ? 0 : storm_draw(s, 100);
    s->bank.house_us += house;
    s->bank.busy_us += house;
    s->now += 20000;
    storm_write_usage(s);
    __atomic_store_n(&s->shared->steps, s->shared->steps + 1, __ATOMIC_RELEASE);
}

static bool storm_open(storm *s, const char *dir, uint64_t seed, storm_shared *shared)
{
    bt_usage *u = NULL;
    *s = (storm){.shared = shared, .seed = seed, .boot = seed * 2 + 1, .now = T0};
    s->next = seed << 32 | 1;
    if (bt_usage_create(dir, seed * 2 + 2, &u, NULL) != BT_OK) return false;
    int fd = open(bt_usage_path(u), O_RDWR);
    s->file = mmap(NULL, sizeof *s->file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    bt_usage_close(u);
    return s->file != MAP_FAILED && bt_ledger_open(dir, &s->l, NULL) == BT_OK;
}
