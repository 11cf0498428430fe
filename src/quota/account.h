/* SPDX-License-Identifier: Apache-2.0 */
/* account.h - who pays: API keys, anonymous addresses, tiers; no clock, no ledger.
 *
 * Loaded at start and read-only after (shared by threads). Keys are kept as SHA-256 and compared in
 * constant time. */
#pragma once
#include "baton/status.h"
#include "quota/address.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum bt_class { BT_CLASS_LOW = 0, BT_CLASS_MEDIUM = 1, BT_CLASS_HIGHEST = 2 } bt_class;

typedef struct bt_tier {
    char name[32];
    int64_t quota_us; // device time a window; INT64_MAX/4 = unlimited
    bt_class cls;
    double weight;
    int32_t lease_max_s;
    int32_t slots; // sequences running at once
    int32_t queue; // requests waiting
} bt_tier;

typedef struct bt_identity {
    char account[64];    // "key:NAME" or "ip:ADDRESS" or "owner"
    uint64_t account_id; // hash of it, never 0: sched's and the prefix cache's name for it
    uint64_t network;    // anonymous: hash of its address's /48 (IPv4 /24); 0 = none
    const bt_tier *tier; // borrowed from bt_accounts
    bool owner;
    bool authenticated;
} bt_identity;

typedef struct bt_accounts bt_accounts;

typedef struct bt_accounts_options {
    const char *api_keys;      // file: KEY ACCOUNT TIER a line, # comments; NULL = none
    const char *api_key;       // one more key: account "default", tier pro; NULL = none
    const char *tiers;         // JSON file or preset "guide" | "2026"; NULL = "guide"
    const char *trusted_proxy; // "auto", "", or comma-separated CIDRs; NULL = "auto"
    const char *owner_token;   // secret text or NULL
    const char *default_tier;  // of anonymous addresses; NULL = "anonymous"
    bool require_key;          // anonymous requests are refused (BT_EAUTH)
    bool behind_space;         // SPACE_ID is set: what "auto" means
} bt_accounts_options;

bt_status bt_accounts_open(const bt_accounts_options *opt, bt_accounts **out, bt_err *err);
void bt_accounts_close(bt_accounts *a);

/* What the settings allow and is hardly meant, as a sentence; NULL: nothing. */
const char *bt_accounts_doubt(const bt_accounts *a);
/* Whether somebody could be booked under that name: "owner", "key:NAME" of the key file,
 * "ip:ADDRESS" as bt_address_account spells it. BT_ENOTFOUND says what was probably meant. */
bt_status bt_accounts_name_check(const bt_accounts *a, const char *name, bt_err *err);

/* Whether the peer is a proxy whose X-Forwarded-For is believed. */
bool bt_accounts_trusts(const bt_accounts *a, const bt_address *peer);

/* authorization: the header's value ("Bearer KEY") or NULL; api_key: X-Api-Key or NULL; peer: the
 * socket's address as text; forwarded: X-Forwarded-For or NULL. Either credential is enough. One
 * that is not known is BT_EAUTH, never anonymous; but a server without a key file and without
 * require_key has nothing to know it by, and many clients cannot be told to send none: there it is
 * ignored (the owner's token still counts). A whole IPv6 /64 is one account. With "auto": private
 * peers are trusted only when behind_space; the right-most untrusted hop counts (quota/address.h).
 */
bt_status bt_account_identify(const bt_accounts *a, const char *authorization, const char *api_key,
                              const char *peer, const char *forwarded, bt_identity *out,
                              bt_err *err);
