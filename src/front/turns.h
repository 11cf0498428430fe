/* SPDX-License-Identifier: Apache-2.0 */
/* turns.h - whose job is next: parties take turns by the time that their jobs took. Pure: no clock,
 * no lock, no thread.
 *
 * Start-time fair queueing (Goyal et al. 1996). A party's next job starts at the virtual time
 * max(now, end of its last one) and lasts time / weight; the lowest start is next, the oldest job
 * of equal ones, and `now` is the start of what was taken last. So who comes after a pause is next,
 * and who took long waits for long. An account is a party; all anonymous visitors together are one
 * too, and take turns among themselves by the same rule. A party has one job under way at a time.
 *
 * A party without jobs is remembered while it is ahead of the others, up to a bound. */
#pragma once
#include "base/hash.h"
#include "baton/status.h"
#include <stdbool.h>

typedef struct bt_turns_party bt_turns_party;

/* Part of a job. */
typedef struct bt_turn {
    /* set before put */
    uint64_t account;
    double weight;
    bool anonymous;
    size_t bytes; // what it keeps in memory

    /* the queue's own */
    bt_turns_party *party; // NULL: not in the queue
    struct bt_turn *prev, *next;
    uint64_t order;
    bool under_way;
} bt_turn;

/* What may wait; of an account, of anonymous visitors together, of all. */
typedef struct bt_turns_bound {
    int32_t jobs;
    size_t bytes;
} bt_turns_bound;

typedef enum bt_turns_who { BT_TURNS_ACCOUNT, BT_TURNS_ANONYMOUS, BT_TURNS_ALL } bt_turns_who;
enum { BT_TURNS_BOUNDS = 3, BT_TURNS_REMEMBERED_MAX = 1024 };

typedef struct bt_turns_level { // parties that take turns with each other
    double now;
    bt_turns_party **party; // owned [n]
    size_t n, cap;
} bt_turns_level;

typedef struct bt_turns {
    bt_turns_bound bound[BT_TURNS_BOUNDS];
    bt_turns_level keyed, anonymous;
    bt_turns_party *together; // owned: the anonymous, among the keyed
    bt_map parties;           // account -> bt_turns_party *
    int32_t jobs;             // that wait
    size_t bytes;
    uint64_t order;
} bt_turns;

bt_status bt_turns_init(bt_turns *t, const bt_turns_bound bound[BT_TURNS_BOUNDS], bt_err *err);
void bt_turns_release(bt_turns *t); // of what is inside nothing is called or freed
/* BT_EBUSY: *full says whose places are taken. BT_ENOMEM. */
bt_status bt_turns_put(bt_turns *t, bt_turn *job, bt_turns_who *full);
/* The next job, now under way; NULL: nobody's turn. It is in the queue until its end. */
bt_turn *bt_turns_take(bt_turns *t);
/* A job that was taken is done, for now or for good, and took so long. */
void bt_turns_end(bt_turns *t, bt_turn *job, int64_t took_us);
/* Takes a job out that has not begun. */
void bt_turns_drop(bt_turns *t, bt_turn *job);
