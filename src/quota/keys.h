/* SPDX-License-Identifier: Apache-2.0 */
/* keys.h - the API-key file: one "KEY ACCOUNT TIER" a line, # comments.
 *
 * Only the SHA-256 of a key is kept, and no sentence ever quotes a key. Read-only after parse.
 * Thread: any. */
#pragma once
#include "quota/tiers.h"
#include <stddef.h>

enum { BT_KEY_BYTES_MAX = 512, BT_KEY_ACCOUNT_MAX = 48, BT_KEYS_FILE_MAX = 16 << 20 };

typedef struct bt_key {
    uint8_t hash[32];
    char account[BT_KEY_ACCOUNT_MAX + 1];
    const bt_tier *tier; // borrowed from the bt_tiers given to parse
    int32_t line;
} bt_key;

typedef struct bt_keys {
    bt_key *key; // owned; sorted by hash
    size_t n;
} bt_keys;

/* Refused with FILE:LINE: lines that are not three words, keys of odd or too many characters,
 * account names outside [A-Za-z0-9._@:/-]{1,48}, unknown tiers, the tier "owner" (it has a token of
 * its own), a key that comes twice, an account with two tiers. A line of the file may end with CR
 * LF. */
bt_status bt_keys_parse(const char *text, size_t len, const char *file, const bt_tiers *tiers,
                        bt_keys *out, bt_err *err);
/* As parse, of a file (may be NULL) and one more key (may be NULL: account "default", tier pro);
 * warns once if other users of the machine can read the file. */
bt_status bt_keys_load(const char *path, const char *one_key, const bt_tiers *tiers, bt_keys *out,
                       bt_err *err);
void bt_keys_release(bt_keys *k);
/* NULL if it is not known. */
const bt_key *bt_keys_find(const bt_keys *k, const uint8_t hash[static 32]);
