/* SPDX-License-Identifier: Apache-2.0 */
/* gemv.cu - bt_cuda_gemv: checks, the split of the work, and the instance of each format. */
#include "kernels/linear/gemm.cuh"
#include "kernels/linear/gemv.cuh"

/* Warps that share an output, from what is the same for every number of rows: enough warps for 16
 * on each multiprocessor, while each keeps two steps of k, and 8 rows of its steps fit in shared
 * memory. */
static int parts_of(int32_t format, int32_t n, int32_t steps, const bt_cuda_props *props)
{
    int step = gemv_step_bytes<gemv_q4_0>(8), most = 4;
    if (format == BT_FORMAT_INT8G) step = gemv_step_bytes<gemv_int8g>(8);
    if (format == BT_FORMAT_INT4G) step = gemv_step_bytes<gemv_int4g>(8);
    while (most > 1 && most * step > props->shared_optin_bytes - 8192) most /= 2;
    int parts = 1;
    while (parts < most && steps >= 4 * parts &&
           static_cast<int64_t>(n) * parts < 64 * static_cast<int64_t>(props->n_sm))
        parts *= 2;
    return parts;
}

/* Warps of a block: 8, fewer where that leaves multiprocessors without two blocks. */
static int warps_of(const gemv_args *a, const bt_cuda_props *props)
{
    int per = GEMV_WIDE / (a->glu ? 2 : 1), warps = GEMV_THREADS_MAX / 32;
    int64_t all = (static_cast<int64_t>(a->n_out) + per - 1) / per * a->parts;
    while (warps > a->parts && warps > 2 && all < 2 * static_cast<int64_t>(props->n_sm) * warps)
        warps /= 2;
    return warps;
}

static gemv_entry *entry_of(int32_t format)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return bt__gemv_##lower;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    default: return nullptr;
    }
}

unsigned bt_cuda_gemv_act(int32_t format)
{
    return gemm_kind_of(format) == GEMM_INT8 ? BT_CUDA_ACT_Q8 : BT_CUDA_ACT_F32;
}

static bool gemv_can(const bt_cuda_linear_args *a)
{
    const bt_cuda_matrix *w = a->w;
    const bt_cuda_act *x = a->act;
    if (!w || !x || !a->props || !a->y || !w->data || w->n <= 0 || a->rows < 0) return false;
    if (!bt_cuda_linear_supported(w->format, w->k) || x->k != w->k) return false;
    if (a->glu && (w->n % 2 || a->bias || a->accumulate)) return false;
    if (a->rows > 1 && a->ldy < (a->glu ? w->n / 2 : w->n)) return false;
    return bt_cuda_gemv_act(w->format) == BT_CUDA_ACT_Q8 ? x->q && x->d && x->s : x->f32 != nullptr;
}

cudaError_t bt_cuda_gemv(const bt_cuda_linear_args *a, cudaStream_t s)
{
    if (!gemv_can(a)) return cudaErrorInvalidValue;
    const bt_cuda_matrix *w = a->w;
    gemv_args g = {};
    g.m = bt_matrix_view_of(w);
    g.bias = a->bias;
    g.ldy = a->ldy;
    g.glu = a->glu;
    g.accumulate = a->accumulate;
    g.n_out = a->glu ? w->n / 2 : w->n;
    int32_t step = 32 * 16 * 256 / gemm_plane_bytes(w->format, 0); // 16 bytes of quants a lane
    g.steps = (w->k + step - 1) / step;
    g.parts = parts_of(w->format, w->n, g.steps, a->props);
    cudaError_t e = cudaSuccess;
    for (int32_t r = 0; r < a->rows && e == cudaSuccess; r += 8) {
        size_t at = static_cast<size_t>(r) * static_cast<size_t>(w->k);
        g.rows = a->rows - r < 8 ? a->rows - r : 8;
        g.x = a->act->f32 ? a->act->f32 + at : nullptr;
        g.q = a->act->q ? a->act->q + at : nullptr;
        g.d = a->act->d ? a->act->d + at / 32 : nullptr;
        g.s = a->act->s ? a->act->s + at / 32 : nullptr;
        g.y = a->y + r * a->ldy;
        e = entry_of(w->format)(g, a->props, warps_of(&g, a->props), s);
    }
    return e;
}
