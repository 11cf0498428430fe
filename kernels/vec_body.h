/* SPDX-License-Identifier: Apache-2.0 */
/* vec_body.h - norm, activation and rotation on simd.h; included once an instruction set. */
#include "kernels/simd.h"
#include "kernels/vec.h"

static void norm_rms(const float *x, const float *w, int32_t n, float eps, float *y)
{
    v16 sum[4] = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
    int32_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (int j = 0; j < 4; j++) {
            v16 e = v16_load(x + i + 16 * j);
            sum[j] = v16_fma(e, e, sum[j]);
        }
    }
    for (int j = 0; i < n; i += 16, j++) {
        v16 e = v16_load_n(x + i, n - i < 16 ? n - i : 16);
        sum[j] = v16_fma(e, e, sum[j]);
    }
    float total = v16_sum(v16_add(v16_add(sum[0], sum[1]), v16_add(sum[2], sum[3])));
    v16 scale = v16_set1(1.0f / sqrtf(total / (float)n + eps));
    for (i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 e = v16_mul(v16_load_n(x + i, m), scale);
        v16_store_n(y + i, v16_mul(e, v16_load_n(w + i, m)), m);
    }
}

/* Two passes: the mean, then the squares of what is left of each number. */
static void norm_layer(const float *x, const float *w, const float *bias, int32_t n, float eps,
                       float *y)
{
    v16 sum[4] = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
    for (int32_t i = 0, j = 0; i < n; i += 16, j = (j + 1) % 4)
        sum[j] = v16_add(sum[j], v16_load_n(x + i, n - i < 16 ? n - i : 16));
    float total = v16_sum(v16_add(v16_add(sum[0], sum[1]), v16_add(sum[2], sum[3])));
    v16 mean = v16_set1(total / (float)n);
    for (int j = 0; j < 4; j++) sum[j] = v16_zero();
    for (int32_t i = 0, j = 0; i < n; i += 16, j = (j + 1) % 4) {
        int m = n - i < 16 ? n - i : 16;
        v16 e = v16_keep(v16_sub(v16_load_n(x + i, m), mean), m, v16_zero());
        sum[j] = v16_fma(e, e, sum[j]);
    }
    total = v16_sum(v16_add(v16_add(sum[0], sum[1]), v16_add(sum[2], sum[3])));
    v16 scale = v16_set1(1.0f / sqrtf(total / (float)n + eps));
    for (int32_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 e = v16_mul(v16_sub(v16_load_n(x + i, m), mean), scale);
        v16 b = bias ? v16_load_n(bias + i, m) : v16_zero();
        v16_store_n(y + i, w ? v16_fma(e, v16_load_n(w + i, m), b) : e, m);
    }
}

V_INLINE v16 v16_silu(v16 x)
{
    return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(v16_sub(v16_zero(), x))));
}

/* max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, which keeps its digits on both sides. */
V_INLINE v16 v16_gelu(v16 x)
{
    v16 size = v16_max(x, v16_sub(v16_zero(), x)), z = v16_mul(size, v16_set1(0.70710678f));
    v16 t = v16_div(v16_set1(1.0f), v16_fma(z, v16_set1(0.3275911f), v16_set1(1.0f)));
    v16 p = v16_fma(t, v16_set1(1.061405429f), v16_set1(-1.453152027f));
    p = v16_fma(p, t, v16_set1(1.421413741f));
    p = v16_fma(p, t, v16_set1(-0.284496736f));
    p = v16_fma(p, t, v16_set1(0.254829592f));
    v16 e = v16_exp(v16_sub(v16_zero(), v16_mul(z, z)));
    v16 half = v16_mul(v16_mul(v16_mul(p, t), e), v16_mul(size, v16_set1(0.5f)));
    return v16_sub(v16_max(v16_zero(), x), half);
}

V_INLINE v16 v16_activate(bt_activation kind, v16 x)
{
    switch (kind) {
    case BT_ACTIVATION_GELU: return v16_gelu(x);
    case BT_ACTIVATION_GELU_TANH: { // (1 + tanh u) / 2 = 1 / (1 + e^-2u)
        v16 u = v16_fma(v16_mul(x, x), v16_set1(0.07135481627f), v16_set1(1.5957691216f));
        u = v16_sub(v16_zero(), v16_mul(u, x));
        return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(u)));
    }
    case BT_ACTIVATION_RELU2: return v16_mul(x, v16_max(v16_zero(), x));
    default: return v16_silu(x);
    }
}

V_INLINE void activate_as(bt_activation kind, float *x, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 y = v16_activate(kind, v16_load_n(x + i, m));
        if (up) y = v16_mul(y, v16_load_n(up + i, m));
        v16_store_n(x + i, y, m);
    }
}

static void activate(bt_activation kind, float *x, const float *up, int32_t n)
{
    switch (kind) {
    case BT_ACTIVATION_SILU: activate_as(BT_ACTIVATION_SILU, x, up, n); break;
    case BT_ACTIVATION_GELU: activate_as(BT_ACTIVATION_GELU, x, up, n); break;
    case BT_ACTIVATION_GELU_TANH: activate_as(BT_ACTIVATION_GELU_TANH, x, up, n); break;
    case BT_ACTIVATION_RELU2: activate_as(BT_ACTIVATION_RELU2, x, up, n); break;
    case BT_ACTIVATION_XIELU: break; // has numbers of its own
    }
}

static void xielu(const bt_xielu *a, float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 e = v16_load_n(x + i, m), up = v16_max(v16_zero(), e);
        v16 down = v16_sub(v16_exp(v16_min(v16_set1(a->eps), e)), v16_set1(1.0f));
        down = v16_where_ge(v16_zero(), e, v16_mul(v16_sub(down, e), v16_set1(a->n)));
        v16 y = v16_fma(v16_mul(up, up), v16_set1(a->p), down);
        v16_store_n(x + i, v16_fma(e, v16_set1(a->beta), y), m);
    }
}

static void cap(float *x, int32_t n, float scale, float most)
{
    for (int32_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 y = v16_mul(v16_load_n(x + i, m), v16_set1(scale));
        v16_store_n(x + i, most == 0.0f ? y : v16_cap(y, most), m);
    }
}

/* Plain loops: the compiler vectorises them, and the same multiplications and additions give the
 * same bits. */
static void rope_interleaved(const float *cos, const float *sin, int32_t half, int32_t heads,
                             int32_t head_dim, float *x)
{
    for (int32_t h = 0; h < heads; h++, x += head_dim) {
        for (int32_t i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cos[i] - b * sin[i];
            x[2 * i + 1] = a * sin[i] + b * cos[i];
        }
    }
}

static void rope_half(const float *cos, const float *sin, int32_t half, int32_t heads,
                      int32_t head_dim, float *x)
{
    for (int32_t h = 0; h < heads; h++, x += head_dim) {
        for (int32_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cos[i] - b * sin[i];
            x[i + half] = a * sin[i] + b * cos[i];
        }
    }
}

static void half_store(const float *x, int32_t n, uint16_t *dst)
{
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) v16_store_half(dst + i, v16_load(x + i));
    if (i < n) {
        uint16_t tail[16];
        v16_store_half(tail, v16_load_n(x + i, n - i));
        memcpy(dst + i, tail, (size_t)(n - i) * sizeof *dst);
    }
}

/* The table of one instruction set; what is not above is in attention_body.h and sample_body.h. */
#define BT__VEC                                                                                    \
    {                                                                                              \
        norm_rms, norm_layer, activate, xielu, cap, rope_interleaved, rope_half, half_store,       \
            attention_span, attention_merge, attention_finish, scan_max, find_first, weights,      \
            mass_from, gather                                                                      \
    }
