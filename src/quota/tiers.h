/* SPDX-License-Identifier: Apache-2.0 */
/* tiers.h - the table of tiers: built-in presets, and the owner's JSON file over them.
 *
 *   {"free": {"gpu_seconds": 210, "class": "medium", "weight": 1, "lease_max_s": 60,
 *             "slots": 2, "queue": 8}, ...}
 *
 * The file changes or adds tiers; those it does not name stay as in the preset "guide". gpu_seconds
 * may be "unlimited". A key that a known tier leaves out stays as it was; a new tier must say
 * gpu_seconds, and the rest has the defaults below. Thread: any, read-only after parse. */
#pragma once
#include "quota/account.h"
#include <stddef.h>

enum { BT_TIERS_MAX = 32, BT_TIERS_FILE_MAX = 1 << 20 };
#define BT_QUOTA_UNLIMITED (INT64_MAX / 4)

typedef struct bt_tiers {
    bt_tier tier[BT_TIERS_MAX];
    int n;
} bt_tiers;

/* name: "guide" or "2026". False if it is no preset. */
bool bt_tiers_preset(const char *name, bt_tiers *out);
/* Overlays *t with the JSON text. On failure *t is unchanged. `file` is for sentences. */
bt_status bt_tiers_parse(const char *text, size_t len, const char *file, bt_tiers *t, bt_err *err);
/* A preset's name, or a file. */
bt_status bt_tiers_load(const char *preset_or_file, bt_tiers *out, bt_err *err);
const bt_tier *bt_tiers_find(const bt_tiers *t, const char *name, size_t n);
