/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_values.c - what the keys of an open file say, converted and checked. */
#include "base/assert.h"
#include "file/gguf_impl.h"
#include <string.h>

const uint8_t bt__value_bytes[BT__VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const type_name[] = {
    "an unsigned 8-bit integer",
    "an 8-bit integer",
    "an unsigned 16-bit integer",
    "a 16-bit integer",
    "an unsigned 32-bit integer",
    "a 32-bit integer",
    "a 32-bit float",
    "a truth value",
    "a string",
    "an array",
    "an unsigned 64-bit integer",
    "a 64-bit integer",
    "a 64-bit float",
};

static const gguf_kv *find(const bt_gguf *g, const char *key)
{
    size_t i = bt__names_find(&g->kv_names, key);
    return i == SIZE_MAX ? NULL : &g->kv[i];
}

static bt_status wrong_type(const bt_gguf *g, const gguf_kv *kv, const char *want, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %s; expected %s", g->label,
                      bt_str_shown(kv->key).s, type_name[kv->type], want);
}

/* An integer of any width; *big: it is past INT64_MAX. False: no integer type. */
static bool integer_at(int32_t type, const uint8_t *p, int64_t *out, bool *big)
{
    uint64_t u = 0;
    memcpy(&u, p, bt__value_bytes[type]);
    int unused_bits = 64 - 8 * bt__value_bytes[type];
    *big = false;
    switch (type) {
    case BT_GGUF_U8:
    case BT_GGUF_U16:
    case BT_GGUF_U32:
    case BT_GGUF_U64:
        *big = u > INT64_MAX;
        *out = *big ? INT64_MAX : (int64_t)u;
        return true;
    case BT_GGUF_I8:
    case BT_GGUF_I16:
    case BT_GGUF_I32:
    case BT_GGUF_I64: *out = (int64_t)(u << unused_bits) >> unused_bits; return true;
    default: return false;
    }
}

static bool float_at(int32_t type, const uint8_t *p, double *out)
{
    float f;
    if (type == BT_GGUF_F32) {
        memcpy(&f, p, sizeof f);
        *out = (double)f;
    } else if (type == BT_GGUF_F64) {
        memcpy(out, p, sizeof *out);
    } else {
        return false;
    }
    return true;
}

static bt_str string_at(const uint8_t *p)
{
    uint64_t n;
    memcpy(&n, p, sizeof n);
    return (bt_str){(const char *)p + sizeof n, (size_t)n};
}

bt_status bt_gguf_int(const bt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                      bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    int64_t v;
    bool big;
    if (!kv) return BT_OK;
    if (!integer_at(kv->type, kv->data, &v, &big)) return wrong_type(g, kv, "an integer", err);
    if (big || v < min || v > max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %s%lld; expected %lld to %lld",
                          g->label, key, big ? "over " : "", (long long)v, (long long)min,
                          (long long)max);
    *out = v;
    return BT_OK;
}

bt_status bt_gguf_float(const bt_gguf *g, const char *key, double *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (!float_at(kv->type, kv->data, out)) return wrong_type(g, kv, "a float", err);
    return BT_OK;
}

bt_status bt_gguf_bool(const bt_gguf *g, const char *key, bool *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (kv->type != BT_GGUF_BOOL) return wrong_type(g, kv, "a truth value", err);
    *out = *kv->data;
    return BT_OK;
}

bt_status bt_gguf_string(const bt_gguf *g, const char *key, bt_str *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (kv->type != BT_GGUF_STRING) return wrong_type(g, kv, "a string", err);
    *out = string_at(kv->data);
    return BT_OK;
}

bool bt_gguf_has(const bt_gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

static const gguf_kv *find_array(const bt_gguf *g, const char *key)
{
    const gguf_kv *kv = find(g, key);
    return kv && kv->type == BT_GGUF_ARRAY ? kv : NULL;
}

int bt_gguf_array(const bt_gguf *g, const char *key, size_t *n)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv) return -1;
    if (n) *n = (size_t)kv->n;
    return kv->elem;
}

bool bt_gguf_each_string(const bt_gguf *g, const char *key, bt_gguf_string_fn fn, void *ud)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv || kv->elem != BT_GGUF_STRING) return false;
    const uint8_t *p = kv->data;
    for (size_t i = 0; i < kv->n; i++) {
        bt_str s = string_at(p);
        if (!fn(ud, i, s)) return false;
        p = (const uint8_t *)s.s + s.n;
    }
    return true;
}

int64_t bt_gguf_array_int(const bt_gguf *g, const char *key, size_t i)
{
    const gguf_kv *kv = find_array(g, key);
    BT_ASSERT(kv && i < kv->n && bt__value_bytes[kv->elem]);
    const uint8_t *p = kv->data + i * bt__value_bytes[kv->elem];
    int64_t v;
    bool big;
    double d;
    if (integer_at(kv->elem, p, &v, &big)) return v;
    if (!float_at(kv->elem, p, &d)) return *p; // a truth value
    if (!(d > -0x1p63 && d < 0x1p63)) return d > 0 ? INT64_MAX : d < 0 ? INT64_MIN : 0;
    return (int64_t)d;
}

double bt_gguf_array_float(const bt_gguf *g, const char *key, size_t i)
{
    const gguf_kv *kv = find_array(g, key);
    BT_ASSERT(kv && i < kv->n && bt__value_bytes[kv->elem]);
    double d;
    if (float_at(kv->elem, kv->data + i * bt__value_bytes[kv->elem], &d)) return d;
    return (double)bt_gguf_array_int(g, key, i);
}

const void *bt_gguf_array_raw(const bt_gguf *g, const char *key, int type, size_t *n)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv || kv->elem != type || !bt__value_bytes[type]) return NULL;
    if (n) *n = (size_t)kv->n;
    return kv->data;
}
