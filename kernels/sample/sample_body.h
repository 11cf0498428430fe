/* SPDX-License-Identifier: Apache-2.0 */
/* sample_body.h - the passes over a whole vocabulary; included once an instruction set. */
#include "kernels/simd.h"
#include "kernels/vec.h"

static bool scan_max(const float *x, int32_t n, float *max)
{
    v16 top = v16_set1(-INFINITY), sick = v16_zero(); // x - x: zero, or NaN for what is not finite
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 e = v16_load(x + i);
        top = v16_max(e, top);
        sick = v16_add(sick, v16_sub(e, e));
    }
    if (i < n) {
        v16 e = v16_load_n(x + i, n - i);
        sick = v16_add(sick, v16_sub(e, e));
        top = v16_max(v16_keep(e, n - i, v16_set1(-INFINITY)), top);
    }
    *max = v16_hmax(top);
    return v16_eq(sick, sick) == 0xFFFFu;
}

static int32_t find_first(const float *x, int32_t n, float value)
{
    v16 v = v16_set1(value);
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint32_t m = v16_eq(v16_load(x + i), v);
        if (m) return i + __builtin_ctz(m);
    }
    for (; i < n; i++)
        if (x[i] == value) return i;
    return -1;
}

static void weights(const float *x, int32_t n, float max, float inv_t, float least, float *w,
                    double *block)
{
    v16 m = v16_set1(max), scale = v16_set1(inv_t), floor = v16_set1(least);
    for (int32_t b = 0; b < n; b += BT__WEIGHT_BLOCK, block++) {
        int32_t end = n - b < BT__WEIGHT_BLOCK ? n : b + BT__WEIGHT_BLOCK;
        d16 sum = d16_zero();
        bool any = false;
        for (int32_t i = b; i < end; i += 16) {
            int len = end - i < 16 ? end - i : 16;
            v16 e = v16_load_n(x + i, len), y = v16_zero();
            if (v16_ge(e, floor)) {
                y = v16_exp(v16_mul(v16_sub(e, m), scale));
                y = v16_keep(v16_where_ge(e, floor, y), len, v16_zero());
                sum = d16_add_v16(sum, y);
                any = true;
            }
            v16_store_n(w + i, y, len);
        }
        *block = any ? d16_sum(sum) : 0.0;
    }
}

static double mass_from(const float *x, const float *w, int32_t n, float least, int32_t *count)
{
    v16 floor = v16_set1(least);
    d16 sum = d16_zero();
    int32_t found = 0;
    for (int32_t i = 0; i < n; i += 16) {
        int len = n - i < 16 ? n - i : 16;
        v16 e = v16_load_n(x + i, len);
        uint32_t m = v16_ge(e, floor) & ((1u << len) - 1);
        if (!m) continue;
        found += __builtin_popcount(m);
        sum = d16_add_v16(sum, v16_where_ge(e, floor, v16_load_n(w + i, len)));
    }
    *count = found;
    return d16_sum(sum);
}

static int32_t gather(const float *x, int32_t n, float lo, float hi, int32_t *ids, int32_t cap,
                      int32_t *at)
{
    v16 low = v16_set1(lo), high = v16_set1(hi);
    int32_t found = 0, i = *at;
    for (; i < n && found + 16 <= cap; i += 16) {
        int len = n - i < 16 ? n - i : 16;
        v16 e = v16_load_n(x + i, len);
        uint32_t m = v16_ge(e, low) & ~v16_ge(e, high) & ((1u << len) - 1);
        for (; m; m &= m - 1) ids[found++] = i + __builtin_ctz(m);
    }
    *at = i;
    return found;
}
