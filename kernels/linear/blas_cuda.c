/* SPDX-License-Identifier: Apache-2.0 */
/* blas_cuda.c - opening cuBLASLt, and a small table of prepared shapes. */
#include "kernels/linear/blas_cuda.h"
#include "base/assert.h"
#include "base/mem.h"
#include <assert.h>
#include <dlfcn.h>
#include <string.h>

/* What is used of the library's interface. Handles are pointers to its own structures. */
typedef struct lt_context *lt_handle;
typedef struct lt_matmul_desc *lt_desc;
typedef struct lt_matrix_layout *lt_layout;
typedef struct lt_preference *lt_pref;
typedef struct lt_algo {
    uint64_t data[8];
} lt_algo;
typedef struct lt_result {
    lt_algo algo;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} lt_result;
static_assert(sizeof(lt_result) == 96, "cublasLtMatmulHeuristicResult_t is 96 bytes");

enum {
    LT_SUCCESS = 0,
    LT_ALLOC_FAILED = 3,
    LT_INVALID_VALUE = 7,
    LT_ARCH_MISMATCH = 8,
    LT_INTERNAL_ERROR = 14, // among others: no memory to load its kernel
    LT_NOT_SUPPORTED = 15,
    LT_R_32F = 0,
    LT_R_16F = 2,
    LT_COMPUTE_32F = 68,
    LT_OP_T = 1,
    LT_DESC_TRANSA = 3,
    LT_PREF_WORKSPACE_BYTES = 1,
    SHAPES = 64,
};

/* name, parameters; each returns a status */
#define LT_FUNCTIONS(X)                                                                            \
    X(Create, (lt_handle *))                                                                       \
    X(Destroy, (lt_handle))                                                                        \
    X(MatmulDescCreate, (lt_desc *, int compute, int scale))                                       \
    X(MatmulDescDestroy, (lt_desc))                                                                \
    X(MatmulDescSetAttribute, (lt_desc, int, const void *, size_t))                                \
    X(MatrixLayoutCreate, (lt_layout *, int type, uint64_t rows, uint64_t columns, int64_t ld))    \
    X(MatrixLayoutDestroy, (lt_layout))                                                            \
    X(MatmulPreferenceCreate, (lt_pref *))                                                         \
    X(MatmulPreferenceDestroy, (lt_pref))                                                          \
    X(MatmulPreferenceSetAttribute, (lt_pref, int, const void *, size_t))                          \
    X(MatmulAlgoGetHeuristic, (lt_handle, lt_desc, lt_layout, lt_layout, lt_layout, lt_layout,     \
                               lt_pref, int most, lt_result *, int *count))                        \
    X(Matmul, (lt_handle, lt_desc, const void *alpha, const void *a, lt_layout, const void *b,     \
               lt_layout, const void *beta, const void *c, lt_layout, void *d, lt_layout,          \
               const lt_algo *, void *workspace, size_t bytes, cudaStream_t))

typedef struct blas_shape {
    int32_t n, rows, k;
    int64_t ldw, ldx, ldy;
    size_t workspace_bytes; // that the choice was made for
    bool prepared, usable;
    lt_layout w, x, y;
    lt_algo algo;
} blas_shape;

struct bt_cuda_blas {
    void *library; // NULL when emulated
#define X(name, parameters) int(*name) parameters;
    LT_FUNCTIONS(X)
#undef X
    lt_handle handle;
    lt_desc desc; // all products are w transposed times x, halves in, f32 sums
    lt_pref pref;
    blas_shape shape[SHAPES];
    int32_t next; // the slot that the next new shape takes: the oldest
};

#ifdef BT_EMULATED
void *bt_emu_dlsym(const char *name);
static void *library_open(void)
{
    return NULL;
}
static void *library_symbol(void *library, const char *name)
{
    (void)library;
    return bt_emu_dlsym(name);
}
#else
static void *library_open(void)
{
    static const char *const names[] = {
#if CUDART_VERSION >= 13000
        "libcublasLt.so.13",
        "libcublasLt.so.12",
#else
        "libcublasLt.so.12",
        "libcublasLt.so.13",
#endif
    };
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}
static void *library_symbol(void *library, const char *name)
{
    return library ? dlsym(library, name) : NULL;
}
#endif

/* False: the library lacks a function. */
static bool functions_load(bt_cuda_blas *b)
{
#define X(name, parameters)                                                                        \
    {                                                                                              \
        void *f = library_symbol(b->library, "cublasLt" #name);                                    \
        if (!f) return false;                                                                      \
        memcpy(&b->name, &f, sizeof f);                                                            \
    }
    LT_FUNCTIONS(X)
#undef X
    return true;
}

bt_cuda_blas *bt_cuda_blas_open(void)
{
    bt_cuda_blas *b = bt_calloc(1, sizeof *b);
    int32_t transposed = LT_OP_T;
    if (!b) return NULL;
    b->library = library_open();
    if (!functions_load(b)) goto fail;
    if (b->Create(&b->handle) != LT_SUCCESS) {
        b->handle = NULL;
        goto fail;
    }
    if (b->MatmulDescCreate(&b->desc, LT_COMPUTE_32F, LT_R_32F) != LT_SUCCESS) {
        b->desc = NULL;
        goto fail;
    }
    if (b->MatmulDescSetAttribute(b->desc, LT_DESC_TRANSA, &transposed, sizeof transposed) !=
        LT_SUCCESS)
        goto fail;
    if (b->MatmulPreferenceCreate(&b->pref) != LT_SUCCESS) {
        b->pref = NULL;
        goto fail;
    }
    return b;
fail:
    bt_cuda_blas_close(b);
    return NULL;
}

static void shape_clear(bt_cuda_blas *b, blas_shape *p)
{
    if (p->w) b->MatrixLayoutDestroy(p->w);
    if (p->x) b->MatrixLayoutDestroy(p->x);
    if (p->y) b->MatrixLayoutDestroy(p->y);
    *p = (blas_shape){0};
}

void bt_cuda_blas_close(bt_cuda_blas *b)
{
    if (!b) return;
    for (int i = 0; i < SHAPES; i++) shape_clear(b, &b->shape[i]);
    if (b->pref) b->MatmulPreferenceDestroy(b->pref);
    if (b->desc) b->MatmulDescDestroy(b->desc);
    if (b->handle) b->Destroy(b->handle);
    if (b->library) dlclose(b->library);
    bt_free(b);
}

/* Makes the layouts and asks for an algorithm; p->usable says whether there is one. The library's
 * matrices are column-major: a row-major [rows, columns] is its columns x rows. */
static void shape_prepare(bt_cuda_blas *b, blas_shape *p)
{
    uint64_t n = (uint64_t)p->n, rows = (uint64_t)p->rows, k = (uint64_t)p->k;
    uint64_t bytes = p->workspace_bytes;
    lt_result result = {0};
    int count = 0;
    p->prepared = true;
    if (b->MatrixLayoutCreate(&p->w, LT_R_16F, k, n, p->ldw) != LT_SUCCESS) {
        p->w = NULL;
        return;
    }
    if (b->MatrixLayoutCreate(&p->x, LT_R_16F, k, rows, p->ldx) != LT_SUCCESS) {
        p->x = NULL;
        return;
    }
    if (b->MatrixLayoutCreate(&p->y, LT_R_32F, n, rows, p->ldy) != LT_SUCCESS) {
        p->y = NULL;
        return;
    }
    if (b->MatmulPreferenceSetAttribute(b->pref, LT_PREF_WORKSPACE_BYTES, &bytes, sizeof bytes) !=
        LT_SUCCESS)
        return;
    if (b->MatmulAlgoGetHeuristic(b->handle, b->desc, p->w, p->x, p->y, p->y, b->pref, 1, &result,
                                  &count) != LT_SUCCESS)
        return;
    p->usable =
        count == 1 && result.state == LT_SUCCESS && result.workspace_bytes <= p->workspace_bytes;
    p->algo = result.algo;
}

static blas_shape *shape_find(bt_cuda_blas *b, const blas_shape *want)
{
    for (int i = 0; i < SHAPES; i++) {
        blas_shape *p = &b->shape[i];
        if (p->prepared && p->n == want->n && p->rows == want->rows && p->k == want->k &&
            p->ldw == want->ldw && p->ldx == want->ldx && p->ldy == want->ldy &&
            p->workspace_bytes == want->workspace_bytes)
            return p;
    }
    blas_shape *p = &b->shape[b->next];
    b->next = (b->next + 1) % SHAPES;
    shape_clear(b, p);
    *p = *want;
    shape_prepare(b, p);
    if (!p->usable) (void)cudaGetLastError(); // the caller's next launch must not find it
    return p;
}

/* The library said no before it launched anything. A device that is lost says so again at the next
 * launch. */
static bool refused(int status)
{
    return status == LT_ALLOC_FAILED || status == LT_INVALID_VALUE || status == LT_ARCH_MISMATCH ||
           status == LT_INTERNAL_ERROR || status == LT_NOT_SUPPORTED;
}

cudaError_t bt_cuda_blas_gemm_f16(bt_cuda_blas *b, int32_t n, int32_t rows, int32_t k,
                                  const void *w, int64_t ldw, const void *x, int64_t ldx, float *y,
                                  int64_t ldy, void *workspace, size_t workspace_bytes,
                                  cudaStream_t s)
{
    /* Algorithms are chosen for pointers that are aligned so; others are not for this library. */
    if (((uintptr_t)w | (uintptr_t)x | (uintptr_t)y | (uintptr_t)workspace) % 256 != 0 && b)
        return cudaErrorNotSupported;
    if (!b || n <= 0 || rows <= 0 || k <= 0 || !w || !x || !y || ldw < k || ldx < k || ldy < n ||
        (workspace_bytes && !workspace))
        return cudaErrorInvalidValue;
    if (ldw % 8 || ldx % 8 || (uintptr_t)w % 16 || (uintptr_t)x % 16) return cudaErrorNotSupported;
    const blas_shape want = {.n = n,
                             .rows = rows,
                             .k = k,
                             .ldw = ldw,
                             .ldx = ldx,
                             .ldy = ldy,
                             .workspace_bytes = workspace_bytes};
    blas_shape *p = shape_find(b, &want);
    const float one = 1, zero = 0;
    if (!p->usable) return cudaErrorNotSupported;
    int status = b->Matmul(b->handle, b->desc, &one, w, p->w, x, p->x, &zero, y, p->y, y, p->y,
                           &p->algo, workspace, workspace_bytes, s);
    if (status == LT_SUCCESS) return cudaSuccess;
    if (refused(status)) {
        p->usable = false;
        (void)cudaGetLastError();
        return cudaErrorNotSupported;
    }
    cudaError_t e = cudaGetLastError();
    return e != cudaSuccess ? e : cudaErrorUnknown;
}
