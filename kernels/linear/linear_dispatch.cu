/* SPDX-License-Identifier: Apache-2.0 */
/* linear_dispatch.cu - which kernels compute a linear layer: GEMV for a few rows, the tensor-core
 * GEMM for more, and for many, on devices where f16 is the faster way, one slice of the matrix
 * after another dequantized to halves and multiplied by cuBLASLt.
 *
 * A deterministic call takes the GEMM for every number of rows, whose sums have one order. All
 * others depend on the shape, the rows and the device, never on timing.
 *
 * SLICES  The library reads a slice of outputs (in_place: F16 matrices as they lie, else unpacked
 *         to scratch) and writes f32 sums to scratch; gemm_finish multiplies by f16_scale and adds
 *         bias or GLU. A slice's sums should stay in L2 between the two, so it is as wide as half of
 *         L2 allows. Extra traffic of a dequantized weight: read packed, write and read 2 bytes.
 *         BF16 weights become halves as in gemm_half.cuh, with the same bound. */
#include "kernels/linear/blas_cuda.h"
#include "kernels/linear/gemm.cuh"

/* Rows up to gemv_* go to the GEMV, from blas_* to cuBLASLt. Q8: formats with Q8 activations;
 * group: INT8G INT4G; half: F16 BF16. These are guesses from the bounds in gemv.cuh, gemm_int8.cuh and
 * gemm_half.cuh, taking half of the bound for our GEMM and three quarters for the library; no GPU
 * has timed them. Where int8 tensor cores beat f16 by that rule, Q8 formats never leave them. */
enum { NEVER = 1 << 30 };
struct linear_class {
    int sm; // and later, up to the next
    int gemv_q8, gemv_group, blas_q8, blas_group, blas_half;
};
static const linear_class LINEAR_CLASSES[] = {
    {75, 8, 6, 1024, 512, 512},  // T4
    {80, 8, 4, 256, 512, 256},   // A100: float work bounds our int8 GEMM
    {86, 8, 8, NEVER, 512, 512}, // A10G, L4, L40S
    {90, 6, 4, 256, 256, 256},   // H200: f16 is wgmma's there
};
enum {
    LINEAR_GEMV_MAX = 8,    // greatest gemv_* of the table, and what bt_cuda_gemv reads once
    LINEAR_GROUP_BOTH = 5,  // from here to GEMV_MAX, group formats go either way
    LINEAR_BLAS_MIN = 256,  // least blas_* of the table
    SLICE_ALIGN = 128,      // outputs
    SLICE_BYTES = 32 << 20, // of halves
    SUMS_BYTES_MIN = 8 << 20,
    WORKSPACE_BYTES = 8 << 20,
    WORKSPACE_BYTES_90 = 32 << 20, // what the library's own documentation advises from sm_90 on
};

static const linear_class *linear_class_of(const bt_cuda_props *props)
{
    const linear_class *found = &LINEAR_CLASSES[0];
    for (const linear_class &c : LINEAR_CLASSES)
        if (props->sm >= c.sm) found = &c;
    return found;
}

static bool linear_is_group(int format)
{
    return format == BT_FORMAT_INT8G || format == BT_FORMAT_INT4G;
}
static int linear_gemv_rows(const linear_class *c, int format)
{
    return gemm_kind_of(format) == GEMM_INT8 ? c->gemv_q8
           : linear_is_group(format)         ? c->gemv_group
                                             : LINEAR_GEMV_MAX;
}
static int linear_blas_rows(const linear_class *c, int format, int k)
{
    if (k % 8) return NEVER;
    return gemm_kind_of(format) == GEMM_INT8 ? c->blas_q8
           : linear_is_group(format)         ? c->blas_group
           : format == BT_FORMAT_F32         ? (int)NEVER
                                             : c->blas_half;
}

static unsigned linear_gemm_act(int format)
{
    gemm_kind kind = gemm_kind_of(format);
    return kind == GEMM_INT8   ? BT_CUDA_ACT_Q8
           : kind == GEMM_HALF ? BT_CUDA_ACT_F16
                               : BT_CUDA_ACT_F32;
}

unsigned bt_cuda_linear_act(int32_t format, int32_t rows, bool deterministic)
{
    unsigned gemm = linear_gemm_act(format), gemv = bt_cuda_gemv_act(format);
    if (deterministic) return gemm;
    if (rows > LINEAR_GEMV_MAX)
        return gemm_kind_of(format) == GEMM_INT8 && rows >= LINEAR_BLAS_MIN ? gemm | BT_CUDA_ACT_F16
                                                                            : gemm;
    return linear_is_group(format) && rows >= LINEAR_GROUP_BOTH ? gemm | gemv : gemv;
}

/* ---------------------------------------------------------------------- cuBLASLt */

/* How a product is cut: `width` outputs at a time (with GLU, of each half), and where in scratch
 * their halves, their sums and the library's workspace lie. */
struct linear_slices {
    int width, parts;
    size_t weights, sums, workspace, bytes;
};

static size_t linear_align(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static linear_slices linear_slices_of(int format, int n, int k, int rows, bool glu,
                                      const bt_cuda_props *props)
{
    linear_slices out = {};
    out.parts = glu ? 2 : 1;
    int outputs = n / out.parts;
    size_t sums = (size_t)props->l2_bytes / 2;
    if (sums < SUMS_BYTES_MIN) sums = SUMS_BYTES_MIN;
    size_t by_sums = sums / ((size_t)rows * 4 * (size_t)out.parts);
    size_t by_weights = SLICE_BYTES / ((size_t)k * 2 * (size_t)out.parts);
    if (format == BT_FORMAT_F16) by_weights = by_sums; // in place
    size_t width = (by_sums < by_weights ? by_sums : by_weights) / SLICE_ALIGN * SLICE_ALIGN;
    if (width < SLICE_ALIGN) width = SLICE_ALIGN;
    out.width = width < (size_t)outputs ? (int)width : outputs;
    size_t of_width = (size_t)out.width * (size_t)out.parts;
    out.weights = format == BT_FORMAT_F16 ? 0 : linear_align(of_width * (size_t)k * 2);
    out.sums = linear_align(of_width * (size_t)rows * 4);
    out.workspace = props->sm >= 90 ? WORKSPACE_BYTES_90 : WORKSPACE_BYTES;
    out.bytes = out.weights + out.sums + out.workspace;
    return out;
}

/* Outputs [j0, j0 + width) of a call, and with GLU their partners. */
static cudaError_t linear_slice(const bt_cuda_linear_args *a, const linear_slices *cut, int j0,
                                int width, cudaStream_t s)
{
    const bt_cuda_matrix *w = a->w;
    uint8_t *weights = (uint8_t *)a->scratch, *workspace = weights + cut->weights + cut->sums;
    float *sums = (float *)(weights + cut->weights);
    bt_cuda_planes planes = bt_cuda_planes_of(w->format, w->n, w->k);
    int n = width * cut->parts;
    for (int p = 0; p < cut->parts; p++) {
        int from = j0 + p * (w->n / 2);
        const uint8_t *at = weights;
        if (w->format == BT_FORMAT_F16) {
            at = (const uint8_t *)w->data + (size_t)from * planes.stride[0];
        } else {
            cudaError_t e = bt_cuda_matrix_unpack_f16(w, from, width, weights, s);
            if (e != cudaSuccess) return e;
        }
        cudaError_t e =
            bt_cuda_blas_gemm_f16(a->blas, width, a->rows, w->k, at, w->k, a->act->f16, w->k,
                                  sums + p * width, n, workspace, cut->workspace, s);
        if (e != cudaSuccess) return e;
    }
    gemm_finish_args f = {sums,   a->act->f16_scale, a->bias ? a->bias + j0 : nullptr,
                          1,      a->rows,           n,
                          a->glu, a->accumulate,     a->y + j0,
                          a->ldy};
    return bt__gemm_finish(&f, s);
}

/* cudaErrorNotSupported: the library does not take the first slice and nothing was written. */
static cudaError_t linear_blas(const bt_cuda_linear_args *a, const linear_slices *cut,
                               cudaStream_t s)
{
    int outputs = a->w->n / cut->parts;
    for (int j = 0; j < outputs; j += cut->width) {
        int width = outputs - j < cut->width ? outputs - j : cut->width;
        cudaError_t e = linear_slice(a, cut, j, width, s);
        if (e == cudaErrorNotSupported && j > 0) e = cudaErrorUnknown; // y is half new
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}

/* ---------------------------------------------------------------------- dispatch */

/* The scratch of a call of exactly `rows` rows by our own GEMM. */
static size_t linear_gemm_scratch(int format, int n, int k, int rows, const bt_cuda_props *props)
{
    gemm_plan plan = bt__gemm_plan(format, n, k, rows, false, props);
    return plan.splits > 1 ? (size_t)plan.splits * (size_t)rows * (size_t)n * sizeof(float) : 0;
}

size_t bt_cuda_linear_scratch(int32_t format, int32_t n, int32_t k, int32_t rows_max,
                              const bt_cuda_props *props)
{
    size_t most = 0;
    if (!props || rows_max <= 0 || bt_cuda_planes_of(format, n, k).count == 0) return 0;
    /* A split's bytes grow with the rows between multiples of the narrowest tile, where the plan
     * can change; once the tiles fill the device there is none. */
    for (int rows = 1; rows <= rows_max; rows++) {
        if (rows % 16 && rows != rows_max) continue;
        size_t bytes = linear_gemm_scratch(format, n, k, rows, props);
        most = bytes > most ? bytes : most;
        if (rows > 64 && bytes == 0) break;
    }
    int least = linear_blas_rows(linear_class_of(props), format, k);
    if (rows_max >= least)
        for (int i = 0; i < 4; i++) {
            int rows = i % 2 ? rows_max : least;
            if (i >= 2 && n % 2) continue;
            size_t bytes = linear_slices_of(format, n, k, rows, i >= 2, props).bytes;
            most = bytes > most ? bytes : most;
        }
    return linear_align(most);
}

cudaError_t bt_cuda_linear(const bt_cuda_linear_args *a, cudaStream_t s)
{
    if (!a->w || !a->act || !a->props || a->rows <= 0) return cudaErrorInvalidValue;
    const linear_class *c = linear_class_of(a->props);
    int format = a->w->format;
    if (a->deterministic) return bt_cuda_gemm(a, s);
    if (a->rows <= linear_gemv_rows(c, format)) return bt_cuda_gemv(a, s);
    if (a->blas && a->rows >= linear_blas_rows(c, format, a->w->k) && a->act->f16 &&
        a->act->f16_scale && a->y && (!a->glu || a->w->n % 2 == 0)) {
        linear_slices cut = linear_slices_of(format, a->w->n, a->w->k, a->rows, a->glu, a->props);
        if (a->scratch && a->scratch_bytes >= cut.bytes) {
            cudaError_t e = linear_blas(a, &cut, s);
            if (e != cudaErrorNotSupported) return e;
        }
    }
    return bt_cuda_gemm(a, s);
}
