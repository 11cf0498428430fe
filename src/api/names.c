/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - ids, quotas and models as bodies and headers spell them. */
#include "api/api.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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
