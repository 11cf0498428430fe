/* SPDX-License-Identifier: Apache-2.0 */
/* gemv.cuh - the mechanism of bt_cuda_gemv: 1 to 8 rows of activations, weights read once.
 *
 * WORK  A step is one 16-byte load of each of 32 lanes from a row's quants: COLS columns a lane, 32
 * COLS a warp. Lane l has the columns of unit (32 s + l) for s = part, part + parts, ...; `parts`
 * warps (1, 2 or 4) share an output, each with every parts-th step. A warp carries 2
 * weight rows at once (with GLU a gate and its up), so an activation read from shared memory serves
 * twice, and asks for the next step's quants and scales before it computes on this one's, and for
 * the next group's first ones before it finishes this group.
 *
 * ORDER  Each lane sums its units in ascending order, in one chain for each output; then a
 * butterfly over lanes 16, 8, 4, 2, 1; then the parts in ascending order. Neither ROWS nor the
 * number of warps or blocks changes it: `parts` is chosen from the format, n, k and the device.
 *
 * SHARED  Activations of a chunk of steps: for each step and row J planes of 32 16-byte units, unit
 * j of lane l at slot l ^ (j * 8 / J): a warp's 16-byte reads of plane j are 512 consecutive bytes,
 * without bank conflicts, and the writes of staging spread over the banks likewise. Behind them,
 * `side` values of each lane and row (scale, and what the format needs of the block's sum), also
 * consecutive. All of k is staged once a block if it fits, and the block then walks over many
 * groups of outputs; else chunk after chunk for each group. The sums of a warp go through shared
 * memory to the threads that finish outputs (parts, GLU, bias, residual).
 *
 * REGISTERS  At most 128 (launch bounds 256 x 2), no spills on sm_75 80 86 89 90 (checked with
 * ptxas 13.0).
 *
 * BOUND  see kernels/linear/linear_cuda.h. */
#pragma once
#include "kernels/cuda_ptx.h"
#include "kernels/linear/gemv_formats.cuh"
#include "kernels/linear/linear_layout.cuh"

constexpr int GEMV_THREADS_MAX = 256;
constexpr int GEMV_UNIT = 16; // bytes
constexpr int GEMV_WIDE = 2;  // weight rows a warp carries: more cost registers, thus warps

/* One launch: up to 8 rows, already checked; made by kernels/linear/gemv.cu. */
typedef struct gemv_args {
    bt_matrix_view m;
    const float *x;  // [rows, k]   float formats
    const int8_t *q; // [rows, k]   int formats
    const float *d;  // [rows, k / 32]
    const float *s;  // [rows, k / 32]
    const float *bias;
    float *y;
    int64_t ldy;
    int32_t rows;         // 1..ROWS
    int32_t n_out;        // outputs: n, or n / 2 with glu
    int32_t groups;       // of outputs, one a warp (or `parts` warps)
    int32_t steps, chunk; // of k in all; staged at once, a multiple of parts
    int32_t parts;
    bool glu, accumulate;
} gemv_args;

/* Bytes of one step's activations in shared memory. */
template <class F> constexpr int gemv_step_bytes(int rows)
{
    return rows * 32 * (F::UNITS * GEMV_UNIT + F::SIDE);
}

/* Staging -------------------------------------------------------------------------------------- */

template <int UNITS> static __device__ __forceinline__ int gemv_slot(int lane, int j)
{
    return lane ^ (j * (8 / UNITS) & 7);
}

/* Four floats of a row, zeros past k; rows are 16-byte aligned only if k is a multiple of 4. */
static __device__ __forceinline__ uint4 gemv_four(const float *row, int col, int k)
{
    if ((k & 3) == 0) return col < k ? bt_load16(row + col) : make_uint4(0, 0, 0, 0);
    uint32_t v[4];
    for (int i = 0; i < 4; i++) v[i] = col + i < k ? __float_as_uint(row[col + i]) : 0;
    return make_uint4(v[0], v[1], v[2], v[3]);
}

/* Copies steps [first, first + count) of all ROWS rows; rows past a.rows are zeros. */
template <class F, int ROWS>
static __device__ __forceinline__ void gemv_stage(const gemv_args &a, int first, int count,
                                                  uint8_t *units, uint8_t *sides)
{
    constexpr int J = F::UNITS, PER_STEP = ROWS * J * 32;
    const int k = a.m.k, threads = static_cast<int>(blockDim.x);
    for (int i = static_cast<int>(threadIdx.x); i < count * PER_STEP; i += threads) {
        int f = i % (J * 32), r = i / (J * 32) % ROWS, s = i / PER_STEP, lane = f / J, j = f % J;
        int col = ((first + s) * 32 * J + f) * (F::INT ? 16 : 4);
        uint4 v = make_uint4(0, 0, 0, 0);
        if (r < a.rows && col < k) {
            if constexpr (F::INT)
                v = bt_load16(a.q + static_cast<size_t>(r) * k + col);
            else
                v = gemv_four(a.x + static_cast<size_t>(r) * k, col, k);
        }
        int at = ((s * ROWS + r) * J + j) * 32 + gemv_slot<J>(lane, j);
        bt_store16(units + at * GEMV_UNIT, v);
    }
    if constexpr (F::SIDE > 0) {
        for (int i = static_cast<int>(threadIdx.x); i < count * ROWS * 32; i += threads) {
            int lane = i % 32, r = i / 32 % ROWS, s = i / (32 * ROWS);
            int col = ((first + s) * 32 + lane) * F::COLS;
            size_t row = static_cast<size_t>(r) * k;
            F::side(a.x + row, a.q + row, a.d + row / 32, a.s + row / 32, col,
                    r < a.rows && col < k, sides + i * F::SIDE);
        }
    }
}

/* One step ------------------------------------------------------------------------------------- */

/* Row i of the GEMV_WIDE weight rows of a group; past the end, the last one again. */
static __device__ __forceinline__ int gemv_row(const gemv_args &a, int group, int i)
{
    int out = a.glu ? group * (GEMV_WIDE / 2) + i / 2 : group * GEMV_WIDE + i;
    out = out < a.n_out ? out : a.n_out - 1;
    return a.glu ? out + (i & 1) * a.n_out : out;
}

/* Integer formats: all COLS columns of a lane at once. */
template <class F, int ROWS>
static __device__ __forceinline__ void gemv_step_int(const typename F::raw (&raw)[GEMV_WIDE],
                                                     const uint8_t *units, const uint8_t *sides,
                                                     int lane, float (&acc)[ROWS * GEMV_WIDE])
{
    typename F::wide w[GEMV_WIDE];
#pragma unroll
    for (int i = 0; i < GEMV_WIDE; i++) F::unpack(raw[i], w[i]);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (ROWS == 8 && r % 2 == 0)
            __syncwarp(); // keeps later rows' loads, and their registers, back
        uint32_t x[F::UNITS * 4];
#pragma unroll
        for (int j = 0; j < F::UNITS; j++) {
            int at = (r * F::UNITS + j) * 32 + gemv_slot<F::UNITS>(lane, j);
            uint4 v = bt_load16(units + at * GEMV_UNIT);
            x[4 * j] = v.x, x[4 * j + 1] = v.y, x[4 * j + 2] = v.z, x[4 * j + 3] = v.w;
        }
        const uint8_t *side = sides + (r * 32 + lane) * F::SIDE;
#pragma unroll
        for (int i = 0; i < GEMV_WIDE; i++) {
            float &to = acc[r * GEMV_WIDE + i];
            to = F::dot(w[i], x, side, to);
        }
    }
}

/* Float formats: four columns at a time, so that few widened weights live at once. */
template <class F, int ROWS>
static __device__ __forceinline__ void gemv_step_float(const typename F::raw (&raw)[GEMV_WIDE],
                                                       const uint8_t *units, const uint8_t *sides,
                                                       int lane, float (&acc)[ROWS * GEMV_WIDE])
{
    float sum[ROWS * GEMV_WIDE];
#pragma unroll
    for (int v = 0; v < ROWS * GEMV_WIDE; v++) sum[v] = F::SCALED ? 0.0f : acc[v];
#pragma unroll
    for (int j = 0; j < F::UNITS; j++) {
        if (ROWS == 8 && j % 2 == 0) __syncwarp(); // as above
        float4 w[GEMV_WIDE];
#pragma unroll
        for (int i = 0; i < GEMV_WIDE; i++) w[i] = F::four(raw[i], j);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int at = (r * F::UNITS + j) * 32 + gemv_slot<F::UNITS>(lane, j);
            uint4 v = bt_load16(units + at * GEMV_UNIT);
#pragma unroll
            for (int i = 0; i < GEMV_WIDE; i++) {
                float t = sum[r * GEMV_WIDE + i];
                t = fmaf(w[i].x, __uint_as_float(v.x), t);
                t = fmaf(w[i].y, __uint_as_float(v.y), t);
                t = fmaf(w[i].z, __uint_as_float(v.z), t);
                sum[r * GEMV_WIDE + i] = fmaf(w[i].w, __uint_as_float(v.w), t);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int i = 0; i < GEMV_WIDE; i++) {
            int v = r * GEMV_WIDE + i;
            if constexpr (F::SCALED)
                acc[v] = F::scale(raw[i], sum[v], sides + (r * 32 + lane) * F::SIDE, acc[v]);
            else
                acc[v] = sum[v];
        }
}

/* Sums ----------------------------------------------------------------------------------------- */

/* Sums COUNT values over the lanes: the butterfly 16, 8, 4, 2, 1, where each exchange halves the
 * values a lane still carries, while there is more than one. Lane l ends with value
 * l / (32 / COUNT). Adding is commutative, so a value's bits do not depend on COUNT. */
template <int COUNT>
static __device__ __forceinline__ float gemv_butterfly(float (&v)[COUNT], int lane)
{
    static_assert(COUNT > 0 && COUNT <= 32 && (COUNT & (COUNT - 1)) == 0, "a power of two");
    int left = COUNT;
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) {
        if (left == 1) {
            v[0] += __shfl_xor_sync(0xFFFFFFFFu, v[0], mask);
            continue;
        }
        left /= 2;
        bool upper = (lane & mask) != 0;
#pragma unroll
        for (int i = 0; i < COUNT / 2; i++) {
            if (i >= left) break;
            float send = upper ? v[i] : v[i + left], keep = upper ? v[i + left] : v[i];
            v[i] = keep + __shfl_xor_sync(0xFFFFFFFFu, send, mask);
        }
    }
    return v[0];
}

/* Output `o` of what a group's warps left at sums: its parts in order, and all that follows. */
template <int ROWS>
static __device__ __forceinline__ void gemv_finish(const gemv_args &a, const float *sums, int group,
                                                   int o)
{
    int per = a.glu ? GEMV_WIDE / 2 : GEMV_WIDE, r = o / per, i = o % per, out = group * per + i;
    if (r >= a.rows || out >= a.n_out) return;
    int at = r * GEMV_WIDE + (a.glu ? 2 * i : i);
    float v = sums[at], up = a.glu ? sums[at + 1] : 0.0f;
    for (int p = 1; p < a.parts; p++) {
        v += sums[p * ROWS * GEMV_WIDE + at];
        if (a.glu) up += sums[p * ROWS * GEMV_WIDE + at + 1];
    }
    float *y = a.y + r * a.ldy + out;
    if (a.glu) {
        *y = v / (1.0f + expf(-v)) * up;
        return;
    }
    if (a.bias) v += a.bias[out];
    *y = a.accumulate ? *y + v : v;
}

/* kernel --------------------------------------------------------------------------------------- */

template <class F>
static __device__ __forceinline__ void gemv_load(const gemv_args &a, const int (&row)[GEMV_WIDE],
                                                 int step, int lane,
                                                 typename F::raw (&raw)[GEMV_WIDE])
{
    int unit = step * 32 + lane;
    bool inside = unit * F::COLS < a.m.k;
#pragma unroll
    for (int i = 0; i < GEMV_WIDE; i++) {
        raw[i] = typename F::raw{};
        if (inside) F::load(a.m, row[i], unit, raw[i]);
    }
}

/* The weight rows of a warp's group, and their first step. */
template <class F>
static __device__ __forceinline__ void gemv_begin(const gemv_args &a, int group, int part, int lane,
                                                  int (&row)[GEMV_WIDE],
                                                  typename F::raw (&raw)[GEMV_WIDE])
{
#pragma unroll
    for (int i = 0; i < GEMV_WIDE; i++) row[i] = gemv_row(a, group, i);
    gemv_load<F>(a, row, part, lane, raw);
}

template <class F, int ROWS>
static __global__ void __launch_bounds__(GEMV_THREADS_MAX, 2) gemv_k(const gemv_args a)
{
    constexpr int VALUES = ROWS * GEMV_WIDE, UNITS_STEP = ROWS * F::UNITS * 32 * GEMV_UNIT,
                  SIDES_STEP = ROWS * 32 * F::SIDE;
    BT_DYNAMIC_SHARED(uint8_t, units);
    uint8_t *sides = units + a.chunk * UNITS_STEP;
    float *sums = reinterpret_cast<float *>(sides + a.chunk * SIDES_STEP);
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int warps = static_cast<int>(blockDim.x) / 32, per_block = warps / a.parts;
    const int part = warp % a.parts;
    const int stride = static_cast<int>(gridDim.x) * per_block;
    bool staged = false;
    int row[GEMV_WIDE];
    typename F::raw raw[GEMV_WIDE], next[GEMV_WIDE];
    for (int base = static_cast<int>(blockIdx.x) * per_block; base < a.groups; base += stride) {
        int step = part;
        float acc[VALUES];
#pragma unroll
        for (int v = 0; v < VALUES; v++) acc[v] = 0.0f;
        if (!staged) gemv_begin<F>(a, base + warp / a.parts, part, lane, row, raw);
        for (int first = 0; first < a.steps; first += a.chunk) {
            int end = first + a.chunk < a.steps ? first + a.chunk : a.steps;
            if (!staged) {
                __syncthreads(); // the chunk before has been read
                gemv_stage<F, ROWS>(a, first, end - first, units, sides);
                __syncthreads();
                staged = a.chunk >= a.steps;
            }
            for (; step < end; step += a.parts) {
                gemv_load<F>(a, row, step + a.parts, lane, next);
                const uint8_t *u = units + (step - first) * UNITS_STEP;
                const uint8_t *side = sides + (step - first) * SIDES_STEP;
                if constexpr (F::INT)
                    gemv_step_int<F, ROWS>(raw, u, side, lane, acc);
                else
                    gemv_step_float<F, ROWS>(raw, u, side, lane, acc);
#pragma unroll
                for (int i = 0; i < GEMV_WIDE; i++) raw[i] = next[i];
            }
        }
        /* under way while this group is finished */
        if (staged && base + stride < a.groups)
            gemv_begin<F>(a, base + stride + warp / a.parts, part, lane, row, raw);
        float sum = gemv_butterfly<VALUES>(acc, lane);
        __syncthreads(); // the group before has been finished
        if (lane % (32 / VALUES) == 0) sums[warp * VALUES + lane / (32 / VALUES)] = sum;
        __syncthreads();
        int outs = VALUES / (a.glu ? 2 : 1);
        for (int i = static_cast<int>(threadIdx.x); i < per_block * outs;
             i += static_cast<int>(blockDim.x))
            if (base + i / outs < a.groups)
                gemv_finish<ROWS>(a, sums + i / outs * a.parts * VALUES, base + i / outs, i % outs);
    }
}

/* launch --------------------------------------------------------------------------------------- */

/* How many blocks of an instance its registers let be resident on a multiprocessor: one row has
 * room for 24 to 32 warps, and bytes under way are what a fast memory lacks. Asked once a thread;
 * where the runtime does not know, 16 warps, which launch bounds promise. */
template <class F, int ROWS> static int gemv_resident(int warps)
{
    static thread_local int known[GEMV_THREADS_MAX / 32 + 1];
    int n = known[warps];
    if (n > 0) return n;
    if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &n, reinterpret_cast<const void *>(gemv_k<F, ROWS>), warps * 32, 0) != cudaSuccess ||
        n < 1) {
        (void)cudaGetLastError();
        return 16 / warps;
    }
    return known[warps] = n;
}

/* The instance for ROWS rows of format F; what a.parts and the rest must satisfy is gemv.cu's. */
template <class F, int ROWS>
static cudaError_t gemv_launch(gemv_args a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    constexpr int STEP = gemv_step_bytes<F>(ROWS);
    const int per = a.glu ? GEMV_WIDE / 2 : GEMV_WIDE, sums = warps * ROWS * GEMV_WIDE * 4;
    int fit = (props->shared_optin_bytes / 2 - 2048 - sums) / STEP / a.parts * a.parts;
    fit = fit > a.parts ? fit : a.parts;
    int steps = (a.steps + a.parts - 1) / a.parts * a.parts;
    a.chunk = fit < steps ? fit : steps;
    a.groups = (a.n_out + per - 1) / per;
    int bytes = a.chunk * STEP + sums, per_block = warps / a.parts;
    int blocks = (a.groups + per_block - 1) / per_block, most = blocks;
    if (a.chunk >= a.steps) { // staged once: no more blocks than can be resident, evenly loaded
        int resident = props->shared_optin_bytes / (bytes + 1024);
        int limit = gemv_resident<F, ROWS>(warps);
        resident = resident < 1 ? 1 : resident < limit ? resident : limit;
        most = props->n_sm * resident;
    }
    int turns = (blocks + most - 1) / most;
    int grid = (blocks + turns - 1) / turns;
    return bt_launch(gemv_k<F, ROWS>, dim3(static_cast<unsigned>(grid)),
                     dim3(static_cast<unsigned>(warps * 32)), static_cast<size_t>(bytes), s, a);
}

template <class F>
static cudaError_t gemv_rows(const gemv_args &a, const bt_cuda_props *props, int warps,
                             cudaStream_t s)
{
    if (a.rows == 1) return gemv_launch<F, 1>(a, props, warps, s);
    if (a.rows == 2) return gemv_launch<F, 2>(a, props, warps, s);
    if (a.rows <= 4) return gemv_launch<F, 4>(a, props, warps, s);
    return gemv_launch<F, 8>(a, props, warps, s);
}

/* One entry a format, in the file that holds its instances. */
typedef cudaError_t gemv_entry(const gemv_args &a, const bt_cuda_props *props, int warps,
                               cudaStream_t s);
gemv_entry bt__gemv_f32, bt__gemv_f16, bt__gemv_bf16, bt__gemv_q8_0, bt__gemv_q4_0, bt__gemv_q4_k,
    bt__gemv_q5_k, bt__gemv_q6_k, bt__gemv_int8g, bt__gemv_int4g;
