/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_f32.cu - the GEMM of F32 weights: f32 activations, plain fma.
 *
 * acc = fma(w[k], x[k], acc) for k = 0, 1, ...: the order and the bits of the CPU's linear.h, for
 * every shape and number of rows. Against f64 sums: |error| <= 2^-24 (k + 1) sum |w x|.
 *
 * A CTA of 128 threads computes 64 outputs x 32 rows, a thread 4 x 4: outputs m, m+16, m+32, m+48
 * and rows 4 q .. 4 q + 3, m = thread % 16, q = thread / 16. k goes by 16 columns at a time; the
 * next 16 wait in registers. Both tiles lie transposed, [column][row], rows padded by 4 floats:
 * stores of a lane's four columns and loads are at most two-way conflicts. With GLU the tile's
 * first 32 rows are gate, the last 32 the up rows, so that a thread holds both.
 *
 * BOUND  2 n k rows operations at the f32 rate (T4 8, A10G 31, L4 30, L40S 92, A100 19.5, H200 67
 * TFLOP/s), 4 n k bytes; shared loads, 5 for 16 fma, limit it to about half of the rate. A
 * format for tests and small matrices; nothing was timed. */
#include "kernels/linear/gemm.cuh"

enum { F32_BM = 64, F32_BN = 32, F32_BK = 16, F32_THREADS = 128, F32_WLD = F32_BM + 4 };
enum { F32_XLD = F32_BN + 4, F32_HALF = F32_BM / 2 };

/* The matrix's row at row i of the tile; -1: none. */
static __device__ __forceinline__ int f32_row(const gemm_call &c, int n0, int i)
{
    if (!c.glu) return n0 + i < c.n ? n0 + i : -1;
    int j = n0 / 2 + i % F32_HALF;
    return j >= c.n / 2 ? -1 : i < F32_HALF ? j : j + c.n / 2;
}

static __device__ __forceinline__ uint4 f32_fetch(const uint8_t *row, int byte, int row_bytes)
{
    return row && byte < row_bytes ? bt_load16(row + byte) : make_uint4(0, 0, 0, 0);
}
/* Four columns of a row of activations; ragged: its address is a multiple of 4 only. */
static __device__ __forceinline__ uint4 f32_fetch_x(const uint8_t *row, int byte, int row_bytes,
                                                    bool ragged)
{
    if (!ragged || !row) return f32_fetch(row, byte, row_bytes);
    uint4 v;
    v.x = byte < row_bytes ? bt_load4(row + byte) : 0;
    v.y = byte + 4 < row_bytes ? bt_load4(row + byte + 4) : 0;
    v.z = byte + 8 < row_bytes ? bt_load4(row + byte + 8) : 0;
    v.w = byte + 12 < row_bytes ? bt_load4(row + byte + 12) : 0;
    return v;
}
static __device__ __forceinline__ void f32_spread(float *to, int ld, uint4 v)
{
    to[0] = __uint_as_float(v.x);
    to[ld] = __uint_as_float(v.y);
    to[2 * ld] = __uint_as_float(v.z);
    to[3 * ld] = __uint_as_float(v.w);
}

static __device__ __forceinline__ void f32_put(const gemm_call &c, float *y, int m, float v)
{
    if (c.bias) v += c.bias[m];
    y[m] = c.accumulate ? y[m] + v : v;
}

static __global__ void __launch_bounds__(F32_THREADS) gemm_f32_k(gemm_call c)
{
    BT_SHARED(float, ws, F32_BK *F32_WLD);
    BT_SHARED(float, xs, F32_BK *F32_XLD);
    const int tid = (int)threadIdx.x, m = tid % 16, q = tid / 16, row_bytes = c.k * 4;
    const int r0 = (int)blockIdx.x * F32_BN, n0 = (int)blockIdx.y * F32_BM;
    /* Copies: a thread brings four columns of two rows of weights and of one of activations. */
    const int row = tid / 4, part = tid % 4;
    const int w0 = f32_row(c, n0, row), w1 = f32_row(c, n0, row + 32);
    const uint8_t *from0 = w0 < 0 ? nullptr : c.plane[0] + (size_t)w0 * c.stride[0];
    const uint8_t *from1 = w1 < 0 ? nullptr : c.plane[0] + (size_t)w1 * c.stride[0];
    const uint8_t *fromx =
        r0 + row < c.rows ? c.x + (size_t)(r0 + row) * (size_t)row_bytes : nullptr;
    uint4 a = f32_fetch(from0, part * 16, (int)c.stride[0]),
          b = f32_fetch(from1, part * 16, (int)c.stride[0]);
    uint4 x = f32_fetch_x(fromx, part * 16, row_bytes, c.ragged);
    float acc[4][4] = {};
    for (int k = 0; k < c.k; k += F32_BK) {
        f32_spread(ws + part * 4 * F32_WLD + row, F32_WLD, a);
        f32_spread(ws + part * 4 * F32_WLD + row + 32, F32_WLD, b);
        f32_spread(xs + part * 4 * F32_XLD + row, F32_XLD, x);
        __syncthreads();
        int next = (k + F32_BK + part * 4) * 4;
        a = f32_fetch(from0, next, (int)c.stride[0]);
        b = f32_fetch(from1, next, (int)c.stride[0]);
        x = f32_fetch_x(fromx, next, row_bytes, c.ragged);
        int columns = c.k - k < F32_BK ? c.k - k : F32_BK;
        for (int i = 0; i < columns; i++) {
            uint4 v = bt_load16(xs + i * F32_XLD + q * 4);
            const float xv[4] = {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                                 __uint_as_float(v.w)};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float wv = ws[i * F32_WLD + m + 16 * j];
#pragma unroll
                for (int e = 0; e < 4; e++) acc[j][e] = fmaf(wv, xv[e], acc[j][e]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        int r = r0 + q * 4 + e;
        if (r >= c.rows) continue;
        float *y = c.y + r * c.ldy;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int o = f32_row(c, n0, m + 16 * j);
            if (o < 0) continue;
            if (!c.glu)
                f32_put(c, y, o, acc[j][e]);
            else if (j < 2)
                y[o] = gemm_silu(acc[j][e]) * acc[j + 2][e];
        }
    }
}

extern "C" cudaError_t bt__gemm_f32(const gemm_call *c, int format, gemm_plan plan, cudaStream_t s)
{
    (void)format, (void)plan;
    dim3 grid((unsigned)((c->rows + F32_BN - 1) / F32_BN),
              (unsigned)((c->n + F32_BM - 1) / F32_BM));
    return bt_launch(gemm_f32_k, grid, dim3(F32_THREADS), 0, s, *c);
}
