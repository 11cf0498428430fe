/* SPDX-License-Identifier: Apache-2.0 */
/* gemm.cu - the GEMM's launcher, its choice of tile and split, and the sum of the splits. */
#include "kernels/linear/gemm.cuh"

/* ---------------------------------------------------------------------- kernels */

enum { FINISH_THREADS = 256 };

static __device__ __forceinline__ float finish_sum(const gemm_finish_args &f, int r, int m)
{
    const float *p = f.partial + (size_t)r * (size_t)f.n + (size_t)m;
    float v = p[0];
    for (int z = 1; z < f.splits; z++) v += p[(size_t)z * (size_t)f.rows * (size_t)f.n];
    return f.row_scale ? v * f.row_scale[r] : v;
}

/* One output a thread; moves 4 (splits + 1) bytes an output, mostly from and to L2. */
static __global__ void __launch_bounds__(FINISH_THREADS) gemm_finish_k(gemm_finish_args f)
{
    const int outputs = f.glu ? f.n / 2 : f.n, r = (int)blockIdx.y;
    const int j = (int)blockIdx.x * FINISH_THREADS + (int)threadIdx.x;
    if (j >= outputs) return;
    float v = finish_sum(f, r, j), *y = f.y + r * f.ldy + j;
    if (f.glu) {
        *y = gemm_silu(v) * finish_sum(f, r, j + outputs);
        return;
    }
    if (f.bias) v += f.bias[j];
    *y = f.accumulate ? *y + v : v;
}

/* ---------------------------------------------------------------------- launchers */

enum {
    FINISH_ROWS_MAX = 65535, // of a grid
    SPLIT_CHUNKS_MIN = 4,    // a shorter stretch of k does not fill the pipeline
    SPLITS_MAX = 8,
    CTAS_AN_SM = 2, // splits are made until so many are there
};

gemm_plan bt__gemm_plan(int format, int n, int k, int rows, bool deterministic,
                        const bt_cuda_props *props)
{
    gemm_plan plan = {GEMM_TILE_16, 1};
    if (gemm_kind_of(format) == GEMM_F32) return plan;
    plan.tile = rows <= 16   ? GEMM_TILE_16
                : rows <= 32 ? GEMM_TILE_32
                : rows <= 64 ? GEMM_TILE_64
                             : GEMM_TILE_128;
    auto ctas = [&](int tile) {
        gemm_shape shape = gemm_shape_of(tile);
        return (int64_t)((rows + shape.bn - 1) / shape.bn) * ((n + shape.bm - 1) / shape.bm);
    };
    if (plan.tile == GEMM_TILE_128 &&
        (gemm_shared_bytes(format, plan.tile, props->sm >= 80) > props->shared_optin_bytes ||
         ctas(plan.tile) < props->n_sm))
        plan.tile = GEMM_TILE_64;
    int64_t have = ctas(plan.tile), want = (int64_t)CTAS_AN_SM * props->n_sm;
    if (deterministic || plan.tile == GEMM_TILE_128 || have * 2 > want) return plan;
    int chunks = (k + gemm_columns(format) - 1) / gemm_columns(format);
    int64_t splits = want / have, most = chunks / SPLIT_CHUNKS_MIN;
    splits = splits < most ? splits : most;
    splits = splits < SPLITS_MAX ? splits : (int)SPLITS_MAX;
    if (splits < 2) return plan;
    int each = (int)((chunks + splits - 1) / splits);
    plan.splits = (chunks + each - 1) / each; // none is empty
    return plan;
}

cudaError_t bt__gemm_finish(const gemm_finish_args *f, cudaStream_t s)
{
    int outputs = f->glu ? f->n / 2 : f->n;
    for (int r = 0; r < f->rows; r += FINISH_ROWS_MAX) {
        gemm_finish_args part = *f;
        int rows = f->rows - r < FINISH_ROWS_MAX ? f->rows - r : FINISH_ROWS_MAX;
        part.partial += (size_t)r * (size_t)f->n;
        part.row_scale += f->row_scale ? r : 0;
        part.y += r * f->ldy;
        dim3 grid((unsigned)((outputs + FINISH_THREADS - 1) / FINISH_THREADS), (unsigned)rows);
        cudaError_t e = bt_launch(gemm_finish_k, grid, dim3(FINISH_THREADS), 0, s, part);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}

/* False: the arguments are not a matrix product. */
static bool gemm_fill(gemm_call *c, const bt_cuda_linear_args *a)
{
    const bt_cuda_matrix *w = a->w;
    const bt_cuda_act *act = a->act;
    if (!w || !w->data || !act || !a->y || !a->props || a->rows <= 0 || act->k != w->k)
        return false;
    bt_cuda_planes planes = bt_cuda_planes_of(w->format, w->n, w->k);
    if (planes.count == 0 || (a->glu && (w->n % 2 || a->bias || a->accumulate))) return false;
    for (int p = 0; p < planes.count; p++) {
        c->plane[p] = (const uint8_t *)w->data + planes.offset[p];
        c->stride[p] = planes.stride[p];
    }
    gemm_kind kind = gemm_kind_of(w->format);
    int size = kind == GEMM_INT8 ? 1 : kind == GEMM_HALF ? 2 : 4;
    c->x = kind == GEMM_INT8   ? (const uint8_t *)act->q
           : kind == GEMM_HALF ? (const uint8_t *)act->f16
                               : (const uint8_t *)act->f32;
    c->d = act->d;
    c->s = act->s;
    c->row_scale = kind == GEMM_HALF ? act->f16_scale : nullptr;
    c->n = w->n;
    c->k = w->k;
    c->rows = a->rows;
    c->bias = a->bias;
    c->y = a->y;
    c->ldy = a->ldy;
    c->accumulate = a->accumulate;
    c->glu = a->glu;
    c->async = a->props->sm >= 80;
    c->ragged = (int64_t)w->k * size % 16 != 0;
    return c->x && (kind != GEMM_INT8 || (c->d && c->s)) && (kind != GEMM_HALF || c->row_scale);
}

static gemm_entry *entry_of(int format)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return bt__gemm_##file;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    default: return nullptr;
    }
}

cudaError_t bt_cuda_gemm(const bt_cuda_linear_args *a, cudaStream_t s)
{
    gemm_call c = {};
    if (!gemm_fill(&c, a)) return cudaErrorInvalidValue;
    int format = a->w->format;
    gemm_plan plan = bt__gemm_plan(format, c.n, c.k, c.rows, a->deterministic, a->props);
    size_t bytes = (size_t)plan.splits * (size_t)c.rows * (size_t)c.n * sizeof(float);
    if (plan.splits > 1 && (!a->scratch || a->scratch_bytes < bytes)) return cudaErrorInvalidValue;
    int chunks = (c.k + gemm_columns(format) - 1) / gemm_columns(format);
    c.chunks_each = (chunks + plan.splits - 1) / plan.splits;
    c.partial = plan.splits > 1 ? (float *)a->scratch : nullptr;
    cudaError_t e = entry_of(format)(&c, format, plan, s);
    if (e != cudaSuccess || plan.splits == 1) return e;
    gemm_finish_args f = {c.partial, c.row_scale, c.bias,       plan.splits, c.rows,
                          c.n,       c.glu,       c.accumulate, c.y,         c.ldy};
    return bt__gemm_finish(&f, s);
}
