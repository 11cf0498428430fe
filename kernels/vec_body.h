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

static void silu_mul(float *gate, const float *up, int32_t n)
{
    const v16 one = v16_set1(1.0f);
    for (int32_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? n - i : 16;
        v16 x = v16_load_n(gate + i, m);
        v16 silu = v16_div(x, v16_add(one, v16_exp(v16_sub(v16_zero(), x))));
        v16_store_n(gate + i, v16_mul(silu, v16_load_n(up + i, m)), m);
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
