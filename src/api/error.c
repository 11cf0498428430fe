/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - an error in the shape that OpenAI's clients read. */
#include "api/api.h"
#include "base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* OpenAI's names for the kinds of errors, by status code. */
static const char *error_type(bt_status status)
{
    if (status == BT_EQUOTA) return "insufficient_quota";
    switch (bt_status_get(status)->http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return bt_status_get(status)->http < 500 ? "invalid_request_error" : "server_error";
    }
}

void bt_api_error_write(bt_buf *out, bt_status status, const char *message, const char *param,
                        const char *code, const bt_ledger_balance *balance)
{
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "error");
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "message", message && *message ? message : bt_status_get(status)->text);
    bt_jw_kstr(&w, "type", error_type(status));
    bt_jw_kstr(&w, "param", param && *param ? param : NULL);
    bt_jw_kstr(&w, "code", code ? code : bt_status_get(status)->label);
    if (balance && status == BT_EQUOTA && balance->limit_us >= 0) {
        char when[24];
        bt_jw_kint(&w, "limit_us", balance->limit_us);
        bt_jw_kint(&w, "remaining_us", balance->remaining_us);
        bt_jw_kstr(&w, "resets_at",
                   balance->resets_us ? bt_rfc3339(balance->resets_us, when) : NULL);
    }
    bt_jw_close(&w, '}');
    bt_jw_close(&w, '}');
}

bool bt_api_quota_unlimited(int64_t limit_us)
{
    return limit_us >= INT64_MAX / 8;
}

void bt_api_quota_write(bt_jw *w, const char *key, int64_t us, int64_t limit_us)
{
    if (bt_api_quota_unlimited(limit_us))
        bt_jw_knull(w, key);
    else
        bt_jw_kint(w, key, us);
}

char *bt_api_id(uint64_t id, char dst[static 24])
{
    snprintf(dst, 24, "%016" PRIx64, id);
    return dst;
}

/* The last part of a path, and its length without ".gguf". */
static const char *stem(const char *name, size_t *len)
{
    const char *slash = strrchr(name, '/');
    const char *s = slash ? slash + 1 : name;
    *len = strlen(s);
    if (*len > 5 && strcmp(s + *len - 5, ".gguf") == 0) *len -= 5;
    return s;
}

bool bt_api_model_matches(const char *wanted, const char *alias, const char *path)
{
    size_t n_wanted, n_known;
    const char *name = stem(wanted, &n_wanted);
    const char *known[] = {alias, path};
    for (int i = 0; i < 2; i++) {
        if (!known[i]) continue;
        if (strcmp(wanted, known[i]) == 0) return true;
        const char *k = stem(known[i], &n_known);
        if (n_known == n_wanted && memcmp(k, name, n_known) == 0) return true;
    }
    return false;
}
