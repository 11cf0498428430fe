/* SPDX-License-Identifier: Apache-2.0 */
/* emu_cublaslt.c - the few cuBLASLt calls in use, found by name through bt_emu_dlsym.
 *
 * Covers D = alpha op(A) B + beta C for column-major f16, bf16 and f32 with f32 sums, as the
 * library's documented interface has it. A product is a kernel of the emulated device, so that it
 * is queued, captured, failed and checked like any other. Sums are made in double: the library's
 * own order of sums is not known. */
#include "emu_internal.h"
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_INITIALIZED = 1, INVALID = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { TYPE_F32 = 0, TYPE_F16 = 2, TYPE_BF16 = 14, COMPUTE_32F = 68 };
enum { DESC_TRANSA = 3, DESC_TRANSB = 4 };

typedef struct lt_object { // handle, description, layout or preference
    struct lt_object *next;
    const char *what;
    int trans_a, trans_b;
    int type;
    uint64_t rows, columns;
    int64_t ld;
} lt_object;
typedef struct lt_result {
    uint64_t algo[8];
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} lt_result;

typedef struct product {
    const void *a, *b, *c;
    void *d;
    lt_object la, lb, lc, ld;
    bool trans_a, trans_b;
    float alpha, beta;
    uint64_t m, n, k;
} product;

static lt_object *objects;

static int object_new(const char *call, const char *what, lt_object **out)
{
    cudaError_t e = emu_enter(call);
    if (!e && !out) e = cudaErrorInvalidValue;
    if (!e) {
        lt_object *o = emu_must(calloc(1, sizeof *o));
        o->what = what;
        o->next = objects;
        objects = o;
        *out = o;
    }
    return emu_leave(e) ? NOT_INITIALIZED : OK;
}

static int object_delete(const char *call, lt_object *o)
{
    cudaError_t e = emu_enter_release(call, cudaErrorUnknown);
    lt_object **i = &objects;
    while (*i && *i != o) i = &(*i)->next;
    if (!*i) return emu_leave(e), INVALID;
    *i = o->next;
    free(o);
    return emu_leave(e) ? EXECUTION_FAILED : OK;
}

static int lt_create(lt_object **out)
{
    return object_new("cublasLtCreate", "handle", out);
}
static int lt_destroy(lt_object *o)
{
    return object_delete("cublasLtDestroy", o);
}
static int lt_desc_create(lt_object **out, int compute, int scale)
{
    if (compute != COMPUTE_32F || scale != TYPE_F32) return NOT_SUPPORTED;
    return object_new("cublasLtMatmulDescCreate", "description", out);
}
static int lt_desc_destroy(lt_object *o)
{
    return object_delete("cublasLtMatmulDescDestroy", o);
}
static int lt_desc_set(lt_object *o, int attribute, const void *value, size_t bytes)
{
    int32_t v;
    if (!o || bytes != sizeof v) return INVALID;
    memcpy(&v, value, sizeof v);
    if (v < 0 || v > 1) return NOT_SUPPORTED;
    if (attribute == DESC_TRANSA) o->trans_a = v;
    if (attribute == DESC_TRANSB) o->trans_b = v;
    return attribute == DESC_TRANSA || attribute == DESC_TRANSB ? OK : NOT_SUPPORTED;
}
static int lt_layout_create(lt_object **out, int type, uint64_t rows, uint64_t columns, int64_t ld)
{
    if (ld < (int64_t)rows || (type != TYPE_F32 && type != TYPE_F16 && type != TYPE_BF16))
        return INVALID;
    int status = object_new("cublasLtMatrixLayoutCreate", "layout", out);
    if (status) return status;
    (*out)->type = type;
    (*out)->rows = rows;
    (*out)->columns = columns;
    (*out)->ld = ld;
    return OK;
}
static int lt_layout_destroy(lt_object *o)
{
    return object_delete("cublasLtMatrixLayoutDestroy", o);
}
static int lt_pref_create(lt_object **out)
{
    return object_new("cublasLtMatmulPreferenceCreate", "preference", out);
}
static int lt_pref_destroy(lt_object *o)
{
    return object_delete("cublasLtMatmulPreferenceDestroy", o);
}
static int lt_pref_set(lt_object *o, int attribute, const void *value, size_t bytes)
{
    (void)attribute, (void)bytes;
    return o && value ? OK : INVALID;
}

/* Fills in m, n and k; false: the shapes do not fit together. */
static bool shape(product *p)
{
    p->m = p->trans_a ? p->la.columns : p->la.rows;
    p->k = p->trans_a ? p->la.rows : p->la.columns;
    p->n = p->trans_b ? p->lb.rows : p->lb.columns;
    uint64_t kb = p->trans_b ? p->lb.columns : p->lb.rows;
    return p->k == kb && p->ld.rows == p->m && p->ld.columns == p->n && p->lc.rows == p->m &&
           p->lc.columns == p->n;
}

static int lt_heuristic(lt_object *h, const lt_object *desc, const lt_object *a, const lt_object *b,
                        const lt_object *c, const lt_object *d, const lt_object *pref, int most,
                        lt_result *out, int *count)
{
    if (!h || !desc || !a || !b || !c || !d || !pref || !out || !count || most < 1) return INVALID;
    product p = {
        .la = *a, .lb = *b, .lc = *c, .ld = *d, .trans_a = desc->trans_a, .trans_b = desc->trans_b};
    *count = shape(&p) ? 1 : 0;
    memset(out, 0, sizeof *out);
    return *count ? OK : NOT_SUPPORTED;
}

static float element(const void *base, int type, uint64_t at)
{
    if (type == TYPE_F32) return ((const float *)base)[at];
    uint16_t h = ((const uint16_t *)base)[at];
    return type == TYPE_F16 ? emu_from_f16(h) : emu_from_bf16(h);
}

/* One element of D a thread. */
static void product_k(const void *kernel, void **args)
{
    (void)kernel;
    const product *p = args[0];
    uint64_t at = (uint64_t)emu_launch.block.x * emu_launch.block_dim.x + emu_now->idx.x;
    if (at >= p->m * p->n) return;
    uint64_t i = at % p->m, j = at / p->m;
    uint64_t la = (uint64_t)p->la.ld, lb = (uint64_t)p->lb.ld, ld = (uint64_t)p->ld.ld;
    double sum = 0;
    for (uint64_t x = 0; x < p->k; x++)
        sum += (double)element(p->a, p->la.type, p->trans_a ? i * la + x : x * la + i) *
               (double)element(p->b, p->lb.type, p->trans_b ? x * lb + j : j * lb + x);
    float old = p->beta != 0 ? element(p->c, p->lc.type, j * (uint64_t)p->lc.ld + i) : 0;
    ((float *)p->d)[j * ld + i] = p->alpha * (float)sum + p->beta * old;
}

static int lt_matmul(lt_object *h, const lt_object *desc, const float *alpha, const void *a,
                     const lt_object *la, const void *b, const lt_object *lb, const float *beta,
                     const void *c, const lt_object *lc, void *d, const lt_object *ld,
                     const uint64_t *algo, void *workspace, size_t bytes, cudaStream_t s)
{
    (void)algo, (void)workspace, (void)bytes;
    static const uint32_t sizes[] = {sizeof(product)};
    static const emu_kernel_type type = {product_k, 1, sizes};
    static const char name = 0; // stands for the kernel's address
    if (!h || !desc || !alpha || !beta || !a || !b || !d || !la || !lb || !lc || !ld)
        return INVALID;
    product p = {a,      b,     c, d, *la, *lb, *lc, *ld, desc->trans_a, desc->trans_b,
                 *alpha, *beta, 0, 0, 0};
    if (!shape(&p) || ld->type != TYPE_F32) return NOT_SUPPORTED;
    int said = emu_answered("cublasLtMatmul");
    if (said) return said;
    uint64_t blocks = (p.m * p.n + 255) / 256;
    if (!blocks || blocks > INT32_MAX) return INVALID;
    emu_kernel_known(&name, &type);
    cudaLaunchConfig_t config = {
        .gridDim = {(unsigned)blocks, 1, 1}, .blockDim = {256, 1, 1}, .stream = s};
    void *args[] = {&p};
    return cudaLaunchKernelExC(&config, &name, args) ? EXECUTION_FAILED : OK;
}

int emu_cublaslt_alive(bool tell)
{
    int n = 0;
    for (const lt_object *o = objects; o; o = o->next, n++)
        if (tell) emu_note("  cuBLASLt %s\n", o->what);
    return n;
}

void emu_cublaslt_reset(void)
{
    while (objects) {
        lt_object *o = objects;
        objects = o->next;
        free(o);
    }
}

typedef void (*any_fn)(void);
#define SYMBOL(name, fn)                                                                           \
    {                                                                                              \
        "cublasLt" name, (any_fn)fn                                                                \
    }
static const struct {
    const char *name;
    any_fn fn;
} symbols[] = {
    SYMBOL("Create", lt_create),
    SYMBOL("Destroy", lt_destroy),
    SYMBOL("MatmulDescCreate", lt_desc_create),
    SYMBOL("MatmulDescDestroy", lt_desc_destroy),
    SYMBOL("MatmulDescSetAttribute", lt_desc_set),
    SYMBOL("MatrixLayoutCreate", lt_layout_create),
    SYMBOL("MatrixLayoutDestroy", lt_layout_destroy),
    SYMBOL("MatmulPreferenceCreate", lt_pref_create),
    SYMBOL("MatmulPreferenceDestroy", lt_pref_destroy),
    SYMBOL("MatmulPreferenceSetAttribute", lt_pref_set),
    SYMBOL("MatmulAlgoGetHeuristic", lt_heuristic),
    SYMBOL("Matmul", lt_matmul),
};

void *bt_emu_dlsym(const char *symbol)
{
    void *p = NULL;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if (strcmp(symbols[i].name, symbol) == 0) memcpy(&p, &symbols[i].fn, sizeof p);
    return p ? p : emu_driver_symbol(symbol);
}
