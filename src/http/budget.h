/* SPDX-License-Identifier: Apache-2.0 */
/* budget.h - what one client may hold of what all share: connections, and memory for bodies.
 *
 * A share is an address (IPv6 by /64) or an account. Bodies of up to BT_BODY_SMALL bytes come out
 * of a pool of their own, so that large ones never take their place. Of either pool the lowest
 * class may fill half and the middle one three quarters, and one share of them an eighth and a
 * quarter; a share of the highest class has half. Memory is counted as it is held. Thread: loop. */
#pragma once
#include "base/hash.h"
#include "quota/account.h"
#include <stddef.h>

enum { BT_BODY_SMALL = 64 << 10, BT_CONNECTIONS_MIN = 8 };

typedef struct bt_share {
    uint64_t key;
    int32_t refs;
    int32_t connections; // an address's
    int32_t idle;        // of them
    int32_t requests;    // an account's, that trusted proxies have sent
    size_t small, large; // bytes of bodies
} bt_share;

typedef struct bt_budget {
    size_t body_max;             // of one body
    size_t small_max, large_max; // the pools
    size_t small, large;         // held of them
    bt_map shares;               // key -> bt_share *
} bt_budget;

void bt__budget_open(bt_budget *b, size_t body_max, size_t bodies_max);
void bt__budget_release(bt_budget *b); // shares that are still held go with it
/* A reference to the share of that key, made if need be; NULL: out of memory. */
bt_share *bt__budget_share(bt_budget *b, uint64_t key);
/* Gives a reference back. NULL is nothing. */
void bt__budget_drop(bt_budget *b, bt_share *s);
/* A body of the share's grows from `was` bytes (0: a new one) to `now`. BT_EBUSY says whose limit
 * it would pass, and leaves all as it was. */
bt_status bt__budget_grow(bt_budget *b, bt_share *s, bt_class cls, size_t was, size_t now,
                          bt_err *err);
void bt__budget_give_back(bt_budget *b, bt_share *s, size_t bytes); // of one body
/* How many connections one address may have of all; of_address: what the owner says, 0 = nothing;
 * near: a private address, which may be a proxy of many. */
int32_t bt__budget_connections(int32_t all, int32_t of_address, bool near);
