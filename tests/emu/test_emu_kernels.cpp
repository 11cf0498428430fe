/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* A wrong kernel of each kind is caught, a right one passes in every order; mma, ldmatrix and
 * cp.async do what the PTX ISA says. */
#include "emu_test.h"
#include "kernels/cuda_ptx.h"

static const dim3 one(1);

/* ---- Right kernels. */

static __global__ void sum_k(const float *x, int n, float *out)
{
    BT_SHARED(float, part, 32);
    float v = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        v += x[(size_t)blockIdx.x * (size_t)n + (size_t)i];
    v = bt_warp_sum(v);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = bt_warp_sum(threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0) out[blockIdx.x] = v;
    }
}

static void a_right_reduction_is_the_same_in_every_order(void)
{
    enum { N = 203, BLOCKS = 5 };
    float x[BLOCKS * N], first[BLOCKS], out[BLOCKS];
    for (int i = 0; i < BLOCKS * N; i++) x[i] = sinf((float)i);
    float *dx = (float *)cuda_put(x, sizeof x), *dout = (float *)cuda_new(sizeof out);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(bt_launch(sum_k, dim3(BLOCKS), dim3(96), 0, nullptr, dx, (int)N, dout));
        cuda_get(out, dout, sizeof out);
        if (i == 1) memcpy(first, out, sizeof out);
        CHECK(memcmp(first, out, sizeof out) == 0);
    }
    for (int b = 0; b < BLOCKS; b++) {
        double want = 0;
        for (int i = 0; i < N; i++) want += (double)x[b * N + i];
        CHECK_NEAR(out[b], want, 1e-4);
    }
    cuda_clear();
}

static __global__ void histogram_k(const int *x, int n, unsigned *count, int *last)
{
    BT_DYNAMIC_SHARED(unsigned, local);
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    __syncthreads();
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) atomicAdd(&local[x[i]], 1u);
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&count[threadIdx.x], local[threadIdx.x]);
    if (i < n) atomicMax(last, i);
}

static void atomics_count_right_in_every_order(void)
{
    enum { N = 500 };
    int x[N], last = 0;
    unsigned count[16] = {0}, want[16] = {0};
    for (int i = 0; i < N; i++) want[x[i] = i * i % 16]++;
    int *dx = (int *)cuda_put(x, sizeof x), *dlast = (int *)cuda_new(sizeof last);
    unsigned *dcount = (unsigned *)cuda_new(sizeof count);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(cudaMemset(dcount, 0, sizeof count));
        CHECK_CUDA(cudaMemset(dlast, 0, sizeof last));
        CHECK_CUDA(bt_launch(histogram_k, dim3(4), dim3(128), 16 * sizeof(unsigned), nullptr, dx,
                             (int)N, dcount, dlast));
        cuda_get(count, dcount, sizeof count);
        cuda_get(&last, dlast, sizeof last);
        CHECK(memcmp(count, want, sizeof count) == 0);
        CHECK_INT(last, N - 1);
    }
    cuda_clear();
}

static __global__ void warp_k(unsigned *out)
{
    unsigned lane = threadIdx.x % 32, all = 0xffffffffu;
    unsigned *o = out + threadIdx.x * 12;
    o[0] = __ballot_sync(all, lane % 3 == 0);
    o[1] = (unsigned)__any_sync(all, lane == 40) + 2u * (unsigned)__any_sync(all, lane == 31);
    o[2] = (unsigned)__all_sync(all, lane < 32) + 2u * (unsigned)__all_sync(all, lane < 31);
    o[3] = __match_any_sync(all, lane / 8);
    o[4] = __shfl_sync(all, lane * 10, 5);
    o[5] = __shfl_sync(all, lane * 10, 3, 8);
    o[6] = __shfl_up_sync(all, lane, 3, 16);
    o[7] = __shfl_down_sync(all, lane, 3, 16);
    o[8] = __shfl_xor_sync(all, lane, 5);
    o[9] = __reduce_add_sync(all, lane);
    unsigned side = lane < 16 ? 0xffffu : 0xffff0000u; // each half on its own
    o[10] = __reduce_max_sync(side, lane);
    double big = __shfl_sync(all, 1e300 * lane, 7);
    o[11] = big == 7e300;
    __syncwarp();
}

static void warp_operations_follow_the_manual(void)
{
    unsigned out[64][12];
    unsigned *d = (unsigned *)cuda_new(sizeof out);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(bt_launch(warp_k, one, dim3(64), 0, nullptr, d));
        cuda_get(out, d, sizeof out);
        for (unsigned t = 0; t < 64; t++) {
            unsigned l = t % 32, *o = out[t];
            CHECK_INT(o[0], 0x49249249u);
            CHECK_INT(o[1], 2);
            CHECK_INT(o[2], 1);
            CHECK_INT(o[3], 0xffu << l / 8 * 8);
            CHECK_INT(o[4], 50);
            CHECK_INT(o[5], (l / 8 * 8 + 3) * 10);
            CHECK_INT(o[6], l % 16 < 3 ? l : l - 3);
            CHECK_INT(o[7], l % 16 > 12 ? l : l + 3);
            CHECK_INT(o[8], l ^ 5);
            CHECK_INT(o[9], 31 * 16);
            CHECK_INT(o[10], l < 16 ? 15 : 31);
            CHECK_INT(o[11], 1);
        }
    }
    cuda_clear();
}

static __global__ void votes_k(int *out)
{
    int odd = (int)threadIdx.x % 2;
    int o = __syncthreads_or(threadIdx.x == 5), a = __syncthreads_and(threadIdx.x < 96);
    int c = __syncthreads_count(odd), none = __syncthreads_or(0), not_all = __syncthreads_and(odd);
    if (threadIdx.x >= 64) return; // the others go on without these
    __syncthreads();
    out[threadIdx.x] = o + 2 * a + 4 * none + 8 * not_all + 100 * c;
}

static void barriers_vote_and_let_threads_leave(void)
{
    int out[64], *d = (int *)cuda_new(sizeof out);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(bt_launch(votes_k, one, dim3(96), 0, nullptr, d));
        cuda_get(out, d, sizeof out);
        for (int t = 0; t < 64; t++) CHECK_INT(out[t], 3 + 4800);
    }
    cuda_clear();
}

/* ---- mma. Each warp: D += A B from fragments made by ldmatrix or by hand. */

enum mma_kind { KIND_F16, KIND_BF16, KIND_S8 };

static __device__ uint32_t four_bytes(const uint8_t *p)
{
    return bt_load4(p);
}

/* A row-major [16][k], B column-major [8][k], elements of 2 or 1 bytes: 32 bytes a row. */
static __global__ void mma_k(int kind, const uint8_t *a, const uint8_t *b, uint32_t *d)
{
    int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    uint32_t ra[4], rb[2];
    for (int i = 0; i < 4; i++) ra[i] = four_bytes(a + (g + i % 2 * 8) * 32 + t * 4 + i / 2 * 16);
    for (int i = 0; i < 2; i++) rb[i] = four_bytes(b + g * 32 + t * 4 + i * 16);
    float f[4];
    int32_t n[4];
    for (int i = 0; i < 4; i++) {
        uint32_t *at = &d[(g + i / 2 * 8) * 8 + t * 2 + i % 2];
        f[i] = __uint_as_float(*at);
        n[i] = (int32_t)*at;
    }
    if (kind == KIND_F16) bt_mma_f16(f, ra, rb);
    if (kind == KIND_BF16) bt_mma_bf16(f, ra, rb);
    if (kind == KIND_S8) bt_mma_s8(n, ra, rb);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] =
            kind == KIND_S8 ? (uint32_t)n[i] : __float_as_uint(f[i]);
}

/* The same with the fragments of A by ldmatrix, and of B by ldmatrix_trans from a [k][8] tile. */
static __global__ void mma_tiles_k(const uint8_t *a, const uint8_t *b, uint32_t *d)
{
    BT_SHARED(uint4, tile_a, 32); // [16][16] halves, two uint4 a row
    BT_SHARED(uint4, tile_b, 16); // [16][8] halves
    int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    tile_a[lane] = bt_load16(a + lane * 16);
    if (lane < 16) tile_b[lane] = bt_load16(b + lane * 16);
    __syncwarp();
    uint32_t ra[4], rb[4], plain[2];
    bt_ldmatrix_x4(ra, &tile_a[(lane % 16) * 2 + lane / 16]);
    bt_ldmatrix_x4_trans(rb, &tile_b[lane % 16]); // twice the same two
    bt_ldmatrix_x2(plain, &tile_b[lane % 16]);
    float f[4] = {0, 0, 0, 0};
    bt_mma_f16(f, ra, rb);
    for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = __float_as_uint(f[i]);
    d[128 + lane * 2] = plain[0];
    d[129 + lane * 2] = plain[1];
}

static float decode(int kind, const uint8_t *row, int k)
{
    if (kind == KIND_S8) return (float)(int8_t)row[k];
    uint16_t h;
    memcpy(&h, row + 2 * k, 2);
    return kind == KIND_F16 ? __half2float(__ushort_as_half(h))
                            : __bfloat162float(__ushort_as_bfloat16(h));
}

static void encode(int kind, uint8_t *row, int k, int v)
{
    if (kind == KIND_S8) row[k] = (uint8_t)(int8_t)(v * 9 % 128);
    uint16_t h = kind == KIND_F16 ? __half_as_ushort(__float2half_rn((float)v / 16))
                                  : __bfloat16_as_ushort(__float2bfloat16_rn((float)v / 16));
    if (kind <= KIND_BF16) memcpy(row + 2 * k, &h, 2);
}

static void mma_multiplies_tiles(void)
{
    for (int kind = KIND_F16; kind <= KIND_S8; kind++) {
        uint8_t a[16 * 32], b[8 * 32];
        uint32_t d[128];
        int k = kind <= KIND_BF16 ? 16 : 32;
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < k; j++) encode(kind, a + i * 32, j, (i * 7 + j * 5) % 31 - 15);
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < k; j++) encode(kind, b + i * 32, j, (i * 3 + j * 11) % 23 - 9);
        for (uint32_t i = 0; i < 128; i++)
            d[i] = kind == KIND_S8 ? i * 3 : __float_as_uint((float)i / 4);
        bt_emu_sm(89);
        uint8_t *da = (uint8_t *)cuda_put(a, sizeof a), *db = (uint8_t *)cuda_put(b, sizeof b);
        uint32_t *dd = (uint32_t *)cuda_put(d, sizeof d);
        CHECK_CUDA(bt_launch(mma_k, one, dim3(32), 0, nullptr, kind, da, db, dd));
        cuda_get(d, dd, sizeof d);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                double want = kind == KIND_S8 ? (i * 8 + j) * 3.0 : (i * 8 + j) / 4.0;
                for (int x = 0; x < k; x++)
                    want += (double)decode(kind, a + i * 32, x) * decode(kind, b + j * 32, x);
                uint32_t got = d[i * 8 + j];
                CHECK_NEAR(kind == KIND_S8 ? (float)(int32_t)got : __uint_as_float(got), want,
                           1e-5 * (fabs(want) + 1));
            }
        cuda_clear();
    }
    bt_emu_sm(80);
}

static void ldmatrix_feeds_mma(void)
{
    uint16_t a[16][16], b[16][8];
    uint32_t d[192];
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            a[i][j] = __half_as_ushort(__float2half_rn((float)((i * 5 + j * 3) % 17 - 8)));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            b[i][j] = __half_as_ushort(__float2half_rn((float)((i + j * 7) % 13 - 6)));
    uint8_t *da = (uint8_t *)cuda_put(a, sizeof a), *db = (uint8_t *)cuda_put(b, sizeof b);
    uint32_t *dd = (uint32_t *)cuda_new(sizeof d);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(bt_launch(mma_tiles_k, one, dim3(32), 0, nullptr, da, db, dd));
        cuda_get(d, dd, sizeof d);
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++) {
                float want = 0;
                for (int x = 0; x < 16; x++)
                    want += __half2float(__ushort_as_half(a[r][x])) *
                            __half2float(__ushort_as_half(b[x][c]));
                CHECK_NEAR(__uint_as_float(d[r * 8 + c]), want, 0);
            }
        for (int l = 0; l < 32; l++)
            for (int m = 0; m < 2; m++) {
                int row = m * 8 + l / 4, col = l % 4 * 2;
                CHECK_INT(d[128 + l * 2 + m], b[row][col] | (uint32_t)b[row][col + 1] << 16);
            }
    }
    cuda_clear();
}

/* ---- cp.async. */

static __global__ void copy_k(const uint4 *in, uint4 *out, int wait, int valid)
{
    BT_SHARED(uint4, tile, 64);
    bt_cp_async16(&tile[threadIdx.x], in + threadIdx.x, (int)threadIdx.x < valid);
    bt_cp_async_commit();
    bt_cp_async16(&tile[32 + threadIdx.x], in + threadIdx.x, (int)threadIdx.x < valid);
    bt_cp_async_commit();
    if (wait == 1) bt_cp_async_wait<1>();
    if (wait == 2) bt_cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[31 - threadIdx.x];
    out[32 + threadIdx.x] = tile[63 - threadIdx.x];
}

static void async_copies_come_at_the_wait(void)
{
    uint4 in[32], out[64];
    for (unsigned i = 0; i < 32; i++) in[i] = make_uint4(i, i + 100, i + 200, i + 300);
    uint4 *din = (uint4 *)cuda_put(in, sizeof in), *dout = (uint4 *)cuda_new(sizeof out);
    for (int sm = 75; sm <= 80; sm += 5)
        for (int wait = 0; wait <= 2; wait++) {
            bt_emu_sm(sm);
            CHECK_CUDA(bt_launch(copy_k, one, dim3(32), 0, nullptr, din, dout, wait, 30));
            cuda_get(out, dout, sizeof out);
            bool first = sm == 75 || wait >= 1, second = sm == 75 || wait == 2;
            CHECK_INT(out[31].y, first ? 100 : 0x7fff7fff);
            CHECK_INT(out[0].y, first ? 0 : 0x7fff7fff); // not valid: zeros
            CHECK_INT(out[63].y, second ? 100 : 0x7fff7fff);
            CHECK_INT(out[32].y, second ? 0 : 0x7fff7fff);
        }
    bt_emu_sm(80);
    cuda_clear();
}

static __global__ void copy4_k(const int *in, int *out, int wait)
{
    BT_SHARED(int, tile, 32);
    bt_cp_async4(&tile[threadIdx.x], in + threadIdx.x, threadIdx.x < 30);
    bt_cp_async_commit();
    if (wait) bt_cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = tile[31 - threadIdx.x];
}

static void short_async_copies_come_at_the_wait_too(void)
{
    int in[32], out[32];
    for (int i = 0; i < 32; i++) in[i] = i + 100;
    int *din = (int *)cuda_put(in, sizeof in), *dout = (int *)cuda_new(sizeof out);
    for (int wait = 0; wait < 2; wait++) {
        CHECK_CUDA(bt_launch(copy4_k, one, dim3(32), 0, nullptr, din, dout, wait));
        cuda_get(out, dout, sizeof out);
        CHECK_INT(out[31], wait ? 100 : 0x7fff7fff);
        CHECK_INT(out[0], wait ? 0 : 0x7fff7fff);
    }
    cuda_clear();
}

/* ---- Barriers of some warps. */

/* Pairs of warps hand a value to and fro, each pair as often as its number says. */
static __global__ void pairs_k(int *out)
{
    typedef int two_warps[64];
    BT_SHARED(two_warps, tile, 3);
    int pair = (int)threadIdx.x / 64, i = (int)threadIdx.x % 64, v = (int)threadIdx.x;
    for (int round = 0; round <= pair; round++) {
        tile[pair][i] = v;
        bt_barrier_of(1 + pair, 64);
        v = tile[pair][(i + 32) % 64] + 1;
        bt_barrier_of(1 + pair, 64);
    }
    out[threadIdx.x] = v;
}

static void pairs_of_warps_meet_in_every_order(void)
{
    int out[192], *d = (int *)cuda_new(sizeof out);
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_CUDA(bt_launch(pairs_k, one, dim3(192), 0, nullptr, d));
        cuda_get(out, d, sizeof out);
        for (int t = 0; t < 192; t++) {
            int rounds = t / 64 + 1, from = rounds % 2 ? t / 64 * 64 + (t + 32) % 64 : t;
            CHECK_INT(out[t], from + rounds);
        }
    }
    cuda_clear();
}

/* ---- Wrong kernels. */

static __global__ void no_barrier_k(float *x)
{
    BT_SHARED(float, tile, 128);
    tile[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = tile[127 - threadIdx.x];
}

static void a_missing_barrier_shows(void)
{
    float x[128], out[128];
    int wrong = 0;
    for (int i = 0; i < 128; i++) x[i] = (float)i;
    for (int i = 0; cuda_order_next(&i);) {
        float *d = (float *)cuda_put(x, sizeof x);
        CHECK_CUDA(bt_launch(no_barrier_k, one, dim3(128), 0, nullptr, d));
        cuda_get(out, d, sizeof out);
        for (int j = 0; j < 128; j++) wrong += !(out[j] == x[127 - j]);
        cuda_clear();
    }
    CHECK(wrong > 20 * 30);
}

static __global__ void no_second_barrier_k(float *x, int n)
{
    BT_SHARED(float, tile, 64);
    for (int i = 0; i < n; i++) {
        tile[threadIdx.x] = x[threadIdx.x] + (float)i;
        __syncthreads();
        x[threadIdx.x] = tile[63 - threadIdx.x]; // the next round overwrites what others still read
    }
}

static void a_missing_second_barrier_shows(void)
{
    float x[64], out[64];
    int orders_wrong = 0;
    for (int i = 0; i < 64; i++) x[i] = (float)(i * 100);
    for (int i = 0; cuda_order_next(&i);) {
        float *d = (float *)cuda_put(x, sizeof x);
        CHECK_CUDA(bt_launch(no_second_barrier_k, one, dim3(64), 0, nullptr, d, 2));
        cuda_get(out, d, sizeof out);
        bool wrong = false;
        for (int j = 0; j < 64; j++) wrong = wrong || out[j] != x[j] + 1;
        orders_wrong += wrong;
        cuda_clear();
    }
    CHECK(orders_wrong > 0);
}

static __global__ void shared_unset_k(float *out)
{
    BT_SHARED(float, tile, 32);
    BT_DYNAMIC_SHARED(__half, more);
    if (threadIdx.x > 3) tile[threadIdx.x] = 1, more[threadIdx.x] = __float2half_rn(1);
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x] + __half2float(more[threadIdx.x]);
}

static void unset_shared_memory_is_nan(void)
{
    float out[32], *d = (float *)cuda_new(sizeof out);
    for (int i = 0; i < 2; i++) { // also right after a block that had set it
        CHECK_CUDA(bt_launch(shared_unset_k, dim3(2), dim3(32), 64, nullptr, d));
        cuda_get(out, d, sizeof out);
        for (int t = 0; t < 32; t++) CHECK(isnan(out[t]) == (t <= 3));
    }
    cuda_clear();
}

static __global__ void write_at_k(int *p, int at, int odd)
{
    if (threadIdx.x == 3) p[at] = 1;
    if (odd && threadIdx.x == 0) *(p + at) = bt_load16(p + odd).x != 0;
}

static int *small;
static void past_the_end(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 64 * 4));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, 64, 0));
}
static void far_away(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 64 * 4));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, 0x7fff7fff, 0));
}
static void wild(void)
{
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, (int *)4096, 0, 0));
}
static void after_free(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 64 * 4));
    CHECK_CUDA(cudaFree(small));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, 0, 0));
}
static void misaligned(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 64 * 4));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, 0, 1));
}

static void illegal_addresses_fault(void)
{
    check_faults(past_the_end, cudaErrorIllegalAddress, "past the end of an allocation of 256");
    check_faults(far_away, cudaErrorIllegalAddress, "illegal address");
    check_faults(wild, cudaErrorIllegalAddress, "illegal address");
    check_faults(after_free, cudaErrorIllegalAddress, "freed (256 bytes");
    check_faults(misaligned, cudaErrorMisalignedAddress, "not aligned to 16");
}

static void slack_write(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 20));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, 6, 0));
    CHECK_CUDA(cudaFree(small));
}
static void slack_read_and_write_before(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&small, 64 * 4));
    CHECK_CUDA(bt_launch(write_at_k, one, dim3(32), 0, nullptr, small, -1, 0));
    CHECK_CUDA(cudaFree(small));
}
static void host_reads_device(void)
{
    int *p = (int *)cuda_new(256);
    printf("%d\n", *p);
}

#if EMU_TEST_ASAN
static const char beside_alloc[] = "use-after-poison", beside_shared[] = "use-after-poison";
#else
static const char beside_alloc[] = "somebody wrote";
static const char beside_shared[] = "written beside a shared array";
#endif

static __global__ void beside_shared_k(int at)
{
    BT_SHARED(int, a, 8);
    BT_SHARED(int, b, 8);
    a[threadIdx.x % 8] = b[threadIdx.x % 8] = 0;
    __syncthreads();
    if (threadIdx.x == 0) a[at] = 1;
}
static void shared_overrun(void)
{
    CHECK_CUDA(bt_launch(beside_shared_k, one, dim3(32), 0, nullptr, 9));
    CHECK_CUDA(cudaDeviceSynchronize());
}
static __global__ void beyond_dynamic_k(int at)
{
    BT_DYNAMIC_SHARED(int, a);
    a[(int)threadIdx.x + at] = 1;
}
static void dynamic_overrun(void)
{
    CHECK_CUDA(bt_launch(beyond_dynamic_k, one, dim3(32), 128, nullptr, 1));
}

static void neighbours_are_guarded(void)
{
    check_dies(slack_write, beside_alloc);
    check_dies(slack_read_and_write_before, beside_alloc);
    check_dies(shared_overrun, beside_shared);
    check_dies(host_reads_device, "host code touches device memory");
    check_faults(dynamic_overrun, cudaErrorIllegalAddress, "illegal address");
}

static __global__ void two_barriers_k(int n)
{
    if ((int)threadIdx.x < n)
        __syncthreads();
    else
        __syncthreads();
}
static void divergent_barrier(void)
{
    CHECK_CUDA(bt_launch(two_barriers_k, one, dim3(64), 0, nullptr, 32));
}
static __global__ void barrier_and_shuffle_k(int *out)
{
    if (threadIdx.x < 8) __syncthreads();
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1);
}
static void stuck(void)
{
    int *p;
    REQUIRE_CUDA(cudaMalloc((void **)&p, 128));
    CHECK_CUDA(bt_launch(barrier_and_shuffle_k, one, dim3(32), 0, nullptr, p));
}
static __global__ void wrong_mask_k(int kind)
{
    if (kind == 0) __syncwarp(0xffffu);       // lanes 16.. are not in it
    if (kind == 1 && threadIdx.x < 4) return; // then the others expect them
    if (kind == 1) __syncwarp();
    if (kind == 2 && threadIdx.x < 16) (void)__shfl_sync(0xffffu, 1, 20); // source not in it
    if (kind == 3) {
        if (threadIdx.x < 16)
            (void)__shfl_sync(0xffffffffu, 1, 0);
        else
            (void)__shfl_sync(0xffffffffu, 2, 0);
    }
    if (kind == 4) (void)__shfl_sync(0xffffffffu, 1, 0, 12);
}
template <int KIND> static void wrong_mask(void)
{
    CHECK_CUDA(bt_launch(wrong_mask_k, one, dim3(32), 0, nullptr, KIND));
}

static __global__ void wrong_team_k(int kind)
{
    if (kind == 0 && threadIdx.x % 32 < 16) bt_barrier_of(1, 32); // 32 threads, but no whole warp
    if (kind == 1 && threadIdx.x < 32) bt_barrier_of(1, 64);
    if (kind == 2) bt_barrier_of(16, 64);
    if (kind == 3) bt_barrier_of(1, threadIdx.x < 32 ? 64 : 32);
}
template <int KIND> static void wrong_team(void)
{
    CHECK_CUDA(bt_launch(wrong_team_k, one, dim3(64), 0, nullptr, KIND));
}

static void divergence_is_reported(void)
{
    check_faults(wrong_team<0>, cudaErrorLaunchFailure, "only lanes 0000ffff");
    check_faults(wrong_team<1>, cudaErrorLaunchTimeout, "deadlock");
    check_faults(wrong_team<2>, cudaErrorLaunchFailure, "there are barriers 1 to 15");
    check_faults(wrong_team<3>, cudaErrorLaunchFailure, "divergent bt_barrier_of");
    check_faults(divergent_barrier, cudaErrorLaunchFailure, "divergent __syncthreads");
    check_faults(stuck, cudaErrorLaunchTimeout, "deadlock");
    check_faults(wrong_mask<0>, cudaErrorLaunchFailure, "whose mask 0000ffff lacks it");
    check_faults(wrong_mask<1>, cudaErrorLaunchFailure, "exited");
    check_faults(wrong_mask<2>, cudaErrorLaunchFailure, "which is not in the mask");
    check_faults(wrong_mask<3>, cudaErrorLaunchFailure, "divergent warp collective");
    check_faults(wrong_mask<4>, cudaErrorLaunchFailure, "not a power of two");
}

static __global__ void bf16_k(int kind)
{
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    float d[4] = {0, 0, 0, 0};
    if (kind == 0) bt_mma_bf16(d, a, b);
    if (kind == 1) (void)__reduce_add_sync(0xffffffffu, 1);
}
template <int SM, int KIND> static void on_old_device(void)
{
    bt_emu_sm(SM);
    CHECK_CUDA(bt_launch(bf16_k, one, dim3(32), 0, nullptr, KIND));
}
static void old_devices_lack_new_instructions(void)
{
    check_faults(on_old_device<75, 0>, cudaErrorNoKernelImageForDevice, "needs sm_80");
    check_faults(on_old_device<75, 1>, cudaErrorNoKernelImageForDevice, "needs sm_80");
}

static __global__ void empty_k() {}
static __global__ void big_static_k()
{
    BT_SHARED(float, a, 12 * 1024 + 1);
    a[threadIdx.x] = 0;
}
static void too_much_static(void)
{
    CHECK_CUDA(bt_launch(big_static_k, one, dim3(32), 0, nullptr));
}
static void launches_respect_the_limits(void)
{
    bt_emu_reset();
    CHECK_INT(bt_launch(empty_k, one, dim3(1056), 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_INT(bt_launch(empty_k, one, dim3(48), 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_INT(bt_launch(empty_k, dim3(1, 65536), dim3(32), 0, nullptr),
              cudaErrorInvalidConfiguration);
    CHECK_INT(bt_launch(empty_k, dim3(0), dim3(32), 0, nullptr), cudaErrorInvalidConfiguration);
    CHECK_CUDA(bt_launch(empty_k, dim3(70000), dim3(32), 0, nullptr));
    CHECK_CUDA(cudaGetLastError()); // a failed launch leaves nothing behind
    static const struct {
        int sm;
        size_t most;
    } shared[] = {{75, 64}, {80, 163}, {86, 99}, {89, 99}, {90, 227}};
    for (size_t i = 0; i < 5; i++) {
        bt_emu_sm(shared[i].sm);
        CHECK_CUDA(bt_launch(empty_k, one, dim3(32), shared[i].most << 10, nullptr));
        CHECK_INT(bt_launch(empty_k, one, dim3(32), (shared[i].most << 10) + 1, nullptr),
                  cudaErrorInvalidValue);
    }
    CHECK_CUDA(cudaDeviceSynchronize());
    check_faults(too_much_static, cudaErrorLaunchOutOfResources, "static shared memory");
}

int main(void)
{
    RUN(a_right_reduction_is_the_same_in_every_order);
    RUN(atomics_count_right_in_every_order);
    RUN(warp_operations_follow_the_manual);
    RUN(barriers_vote_and_let_threads_leave);
    RUN(mma_multiplies_tiles);
    RUN(ldmatrix_feeds_mma);
    RUN(async_copies_come_at_the_wait);
    RUN(short_async_copies_come_at_the_wait_too);
    RUN(pairs_of_warps_meet_in_every_order);
    RUN(a_missing_barrier_shows);
    RUN(a_missing_second_barrier_shows);
    RUN(unset_shared_memory_is_nan);
    RUN(illegal_addresses_fault);
    RUN(neighbours_are_guarded);
    RUN(divergence_is_reported);
    RUN(old_devices_lack_new_instructions);
    RUN(launches_respect_the_limits);
    return TEST_END();
}
