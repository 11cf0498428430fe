/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/tiers.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/json.h"
#include "quota/text_file.h"
#include <math.h>
#include <string.h>

#define MINUTES(m) ((int64_t)((m)*60e6))

/* The quotas and classes are ZeroGPU's: "guide" as first published, "2026" as raised since.
 * Weights, leases, slots and queues are ours: a paying account goes ahead of a free one, but by a
 * factor that a full queue can still feel. */
static const bt_tier preset_guide[] = {
    {"anonymous", MINUTES(2), BT_CLASS_LOW, 1, 60, 1, 2},
    {"free", MINUTES(3.5), BT_CLASS_MEDIUM, 1, 60, 2, 4},
    {"pro", MINUTES(25), BT_CLASS_HIGHEST, 4, 120, 4, 16},
    {"team", MINUTES(25), BT_CLASS_HIGHEST, 4, 180, 6, 24},
    {"enterprise", MINUTES(45), BT_CLASS_HIGHEST, 8, 300, 6, 32},
    {"owner", BT_QUOTA_UNLIMITED, BT_CLASS_HIGHEST, 8, 3600, 64, 256},
};
static const double preset_2026_minutes[] = {2, 5, 40, 40, 60};

bool bt_tiers_preset(const char *name, bt_tiers *out)
{
    bool newer = strcmp(name, "2026") == 0;
    if (!newer && strcmp(name, "guide") != 0) return false;
    memcpy(out->tier, preset_guide, sizeof preset_guide);
    out->n = BT_COUNT(preset_guide);
    for (size_t i = 0; newer && i < BT_COUNT(preset_2026_minutes); i++)
        out->tier[i].quota_us = MINUTES(preset_2026_minutes[i]);
    return true;
}

const bt_tier *bt_tiers_find(const bt_tiers *t, const char *name, size_t n)
{
    for (int i = 0; i < t->n; i++)
        if (strlen(t->tier[i].name) == n && memcmp(t->tier[i].name, name, n) == 0)
            return &t->tier[i];
    return NULL;
}

static const char *const class_name[] = {"low", "medium", "highest"};

static bt_status tier_parse_int(const bt_json *obj, const char *key, int64_t min, int64_t max,
                                int32_t *out, bt_err *err)
{
    int64_t v = *out;
    bt_status st = bt_json_get_int(obj, key, min, max, &v, err);
    if (st == BT_OK) *out = (int32_t)v;
    return st;
}

/* Unknown and repeated keys are refused by name: a typing error must not pass for a setting. */
static bt_status tier_parse_keys(const bt_json *obj, bt_err *err)
{
    static const char *const known[] = {"gpu_seconds", "class", "weight",
                                        "lease_max_s", "slots", "queue"};
    unsigned seen = 0;
    for (const bt_json *k = obj->child; k; k = k->next) {
        unsigned bit = 0;
        for (size_t i = 0; i < BT_COUNT(known); i++)
            if (strcmp(k->key, known[i]) == 0) bit = 1u << i;
        if (!bit)
            return bt_err_set(err, BT_EINVAL, 0,
                              "key '%.40s' is not known; there are gpu_seconds, class, weight, "
                              "lease_max_s, slots and queue",
                              k->key);
        if (seen & bit) return bt_err_set(err, BT_EINVAL, 0, "key '%s' comes twice", k->key);
        seen |= bit;
    }
    return BT_OK;
}

static bt_status tier_parse(const bt_json *obj, bt_tier *t, bt_err *err)
{
    bt_status st;
    double seconds = -1;
    const char *name = NULL;
    int cls = 0;
    if (!bt_json_is(obj, BT_JSON_OBJECT)) return bt_err_set(err, BT_EINVAL, 0, "is not an object");
    if ((st = tier_parse_keys(obj, err)) != BT_OK) return st;
    if (bt_json_is_text(bt_json_item(obj, "gpu_seconds"), "unlimited"))
        t->quota_us = BT_QUOTA_UNLIMITED;
    else if ((st = bt_json_get_num(obj, "gpu_seconds", 0, 1e9, &seconds, err)) != BT_OK)
        return st;
    if (seconds >= 0) t->quota_us = (int64_t)llround(seconds * 1e6);
    if (t->quota_us < 0) return bt_err_set(err, BT_EINVAL, 0, "gpu_seconds is missing");
    if ((st = bt_json_get_str(obj, "class", &name, err)) != BT_OK) return st;
    while (name && cls < 3 && strcmp(name, class_name[cls]) != 0) cls++;
    if (cls == 3) return bt_err_set(err, BT_EINVAL, 0, "class must be low, medium or highest");
    if (name) t->cls = (bt_class)cls;
    if ((st = bt_json_get_num(obj, "weight", 0.01, 1000, &t->weight, err)) ||
        (st = tier_parse_int(obj, "lease_max_s", 1, 86400, &t->lease_max_s, err)) ||
        (st = tier_parse_int(obj, "slots", 1, 4096, &t->slots, err)) ||
        (st = tier_parse_int(obj, "queue", 1, 100000, &t->queue, err)))
        return st;
    return BT_OK;
}

/* One "name": {...} of the file into t. */
static bt_status tiers_overlay(const bt_json *root, const bt_json *item, const char *file,
                               bt_tiers *t, bt_err *err)
{
    bt_err why = {0};
    size_t fits = strspn(item->key, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    if (fits != item->n_key || fits < 1 || fits >= sizeof t->tier[0].name)
        return bt_err_set(err, BT_EINVAL, 0,
                          "tier file %s: '%.40s' is no tier name: 1 to 31 of a-z 0-9 _ -", file,
                          item->key);
    for (const bt_json *prev = root->child; prev != item; prev = prev->next)
        if (strcmp(prev->key, item->key) == 0)
            return bt_err_set(err, BT_EINVAL, 0, "tier file %s: tier '%s' comes twice", file,
                              item->key);
    int at = 0;
    while (at < t->n && strcmp(t->tier[at].name, item->key) != 0) at++;
    if (at == BT_TIERS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "tier file %s: more than %d tiers", file,
                          BT_TIERS_MAX);
    if (at == t->n) {
        t->tier[t->n++] = (bt_tier){"", -1, BT_CLASS_MEDIUM, 1, 60, 2, 8};
        memcpy(t->tier[at].name, item->key, strlen(item->key) + 1);
    }
    bt_status st = tier_parse(item, &t->tier[at], &why);
    if (st == BT_OK) return BT_OK;
    return bt_err_set(err, st, 0, "tier file %s: tier '%s': %s", file, item->key, why.msg);
}

bt_status bt_tiers_parse(const char *text, size_t len, const char *file, bt_tiers *t, bt_err *err)
{
    bt_tiers work = *t;
    bt_arena arena;
    const bt_json *root;
    bt_err why = {0};
    bt_arena_init(&arena, bt_json_room(len));
    bt_status st = bt_json_parse(text, len, &arena, &root, &why);
    if (st != BT_OK)
        st = bt_err_set(err, st, 0, "tier file %s is not JSON: %s", file, why.msg);
    else if (!bt_json_is(root, BT_JSON_OBJECT))
        st =
            bt_err_set(err, BT_EINVAL, 0, "tier file %s must be a JSON object of tier names", file);
    for (const bt_json *item = st ? NULL : root->child; item && st == BT_OK; item = item->next)
        st = tiers_overlay(root, item, file, &work, err);
    if (st == BT_OK) *t = work;
    bt_arena_release(&arena);
    return st;
}

bt_status bt_tiers_load(const char *preset_or_file, bt_tiers *out, bt_err *err)
{
    bt_tiers t;
    if (bt_tiers_preset(preset_or_file, out)) return BT_OK;
    bt_tiers_preset("guide", &t);
    bt_buf text = BT_BUF_INIT;
    bt_status st =
        bt_text_file_read(preset_or_file, "tier file", BT_TIERS_FILE_MAX, &text, NULL, err);
    if (st == BT_OK)
        st = bt_tiers_parse(text.data ? text.data : "", text.len, preset_or_file, &t, err);
    if (st == BT_OK) *out = t;
    bt_buf_release(&text);
    return st;
}
