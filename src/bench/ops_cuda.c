/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_measure.c - the run over a CUDA device's kernels: memory, timing, ceilings. */
#include "bench/ops_cuda.h"
#include "base/assert.h"
#include "base/mem.h"
#include "device/cuda/cuda_error.h"
#include "device/cuda/cuda_probe.h"
#include "bench/random.h"
#include "kernels/ceiling/ceiling_cuda.h"
#include "kernels/step_cuda.h"
#include <stdio.h>
#include <string.h>

/* What one timing should take, and how many there are. */
static const double TARGET_US = 20000, TARGET_QUICK_US = 4000;
enum { TIMINGS = 7, TIMINGS_QUICK = 3, CALLS_MAX = 200, COPIES_MAX = 24 };

bt_status bt__gpu_check(cudaError_t code, const char *doing, bt_err *err)
{
    return bt__cuda_status(code, doing, err);
}

/* ---- memory */

void *bt__gpu_take(bt__gpu *g, size_t bytes, bt_err *err)
{
    void *p = NULL;
    BT_ASSERT(g->n_blocks < GPU_BLOCKS_MAX);
    cudaError_t code = cudaMalloc(&p, BT_MAX(bytes, (size_t)256));
    if (code != cudaSuccess) {
        cudaGetLastError();
        bt_err_set(err, BT_ENOMEM, (int32_t)code, "the device has no %zu MiB for this case",
                   bytes >> 20);
        return NULL;
    }
    return g->block[g->n_blocks++] = p;
}

void *bt__gpu_put(bt__gpu *g, const void *from, size_t bytes, bt_err *err)
{
    void *p = bt__gpu_take(g, bytes, err);
    if (p && bt__gpu_check(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice),
                           "copying a case to the device", err))
        return NULL;
    return p;
}

bt_status bt__gpu_get(bt__gpu *g, void *to, const void *from, size_t bytes, bt_err *err)
{
    cudaError_t code = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, g->stream);
    if (code == cudaSuccess) code = cudaStreamSynchronize(g->stream);
    return bt__gpu_check(code, "reading a result", err);
}

void bt__gpu_clear(bt__gpu *g)
{
    cudaStreamSynchronize(g->stream);
    while (g->n_blocks > 0) cudaFree(g->block[--g->n_blocks]);
}

size_t bt__gpu_room(void)
{
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) return 0;
    return free_bytes / 8 * 7;
}

int32_t bt__gpu_copies(const bt__gpu *g, size_t bytes)
{
    size_t enough = 3 * (size_t)g->props.l2_bytes, n = GPU_EMULATED ? 2 : enough / bytes + 1;
    n = BT_MIN(n, bt__gpu_room() / (2 * bytes));
    return (int32_t)BT_MAX((size_t)1, BT_MIN(n, (size_t)COPIES_MAX));
}

/* ---- timing */

typedef struct timing {
    bt__gpu_call call;
    void *ud;
    int32_t n;
    cudaGraphExec_t graph; // NULL: the calls cannot be captured
} timing;

static cudaError_t enqueue(const timing *t, cudaStream_t s)
{
    cudaError_t code = cudaSuccess;
    for (int32_t i = 0; i < t->n && code == cudaSuccess; i++) code = t->call(t->ud, i, s);
    return code;
}

/* A graph of n calls, so that the host's own time does not show. Not every call can be captured: a
 * library may allocate. */
static void capture(bt__gpu *g, timing *t)
{
    cudaGraph_t graph = NULL;
    t->graph = NULL;
    if (cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return;
    cudaError_t code = enqueue(t, g->stream), end = cudaStreamEndCapture(g->stream, &graph);
    if (code == cudaSuccess && end == cudaSuccess) code = cudaGraphInstantiate(&t->graph, graph, 0);
    if (code != cudaSuccess || end != cudaSuccess) t->graph = NULL;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
}

static cudaError_t time_once(bt__gpu *g, const timing *t, double *us)
{
    float ms = 0;
    cudaError_t code = cudaEventRecord(g->begin, g->stream);
    if (code == cudaSuccess)
        code = t->graph ? cudaGraphLaunch(t->graph, g->stream) : enqueue(t, g->stream);
    if (code == cudaSuccess) code = cudaEventRecord(g->end, g->stream);
    if (code == cudaSuccess) code = cudaStreamSynchronize(g->stream);
    if (code == cudaSuccess) code = cudaEventElapsedTime(&ms, g->begin, g->end);
    *us = (double)ms * 1000 / t->n;
    return code;
}

bt_status bt__gpu_time(bt__gpu *g, bt__gpu_call call, void *ud, bool best, double *us, bt_err *err)
{
    double v[TIMINGS], target = g->ops.ask->quick ? TARGET_QUICK_US : TARGET_US, first = 0;
    int32_t timings = GPU_EMULATED ? 1 : g->ops.ask->quick ? TIMINGS_QUICK : TIMINGS;
    timing t = {call, ud, 1, NULL};
    cudaError_t code = time_once(g, &t, &first); // warms up, too
    if (code == cudaSuccess) code = time_once(g, &t, &first);
    if (code != cudaSuccess) return bt__gpu_check(code, "running a kernel", err);
    t.n = (int32_t)BT_MAX(1.0, BT_MIN(target / BT_MAX(first, 1.0), (double)CALLS_MAX));
    if (GPU_EMULATED) t.n = 2;
    capture(g, &t);
    code = time_once(g, &t, &first);
    for (int32_t i = 0; i < timings && code == cudaSuccess; i++) code = time_once(g, &t, &v[i]);
    if (t.graph) cudaGraphExecDestroy(t.graph);
    if (code != cudaSuccess) return bt__gpu_check(code, "timing a kernel", err);
    double median = bt__ops_median(v, timings); // sorts
    *us = BT_MAX(best ? v[0] : median, 1e-3);
    return BT_OK;
}

bt_status bt__gpu_once(bt__gpu *g, bt__gpu_call call, void *ud, bt_err *err)
{
    cudaError_t code = call(ud, 0, g->stream);
    if (code == cudaSuccess) code = cudaStreamSynchronize(g->stream);
    return bt__gpu_check(code, "running a kernel", err);
}

bt_status bt__gpu_measure(bt__gpu *g, bt__gpu_call call, void *ud, bt_ops_row *row, bt_err *err)
{
    if (!bt__ops_right(&g->ops, row)) return BT_OK;
    bt_status status = bt__gpu_time(g, call, ud, false, &row->us, err);
    if (!status) bt__ops_tell(&g->ops, row);
    return status;
}

/* ---- ceilings */

typedef struct moving {
    const bt_cuda_props *props;
    void *from, *to;
    uint32_t *out;
    size_t bytes;
    enum cudaMemcpyKind kind;
} moving;

static cudaError_t call_read(void *ud, int32_t copy, cudaStream_t s)
{
    const moving *m = ud;
    (void)copy;
    return bt_cuda_ceiling_read(m->from, m->bytes, m->out, m->props, s);
}
static cudaError_t call_copy(void *ud, int32_t copy, cudaStream_t s)
{
    const moving *m = ud;
    (void)copy;
    return bt_cuda_ceiling_copy(m->to, m->from, m->bytes, m->props, s);
}
static cudaError_t call_memcpy(void *ud, int32_t copy, cudaStream_t s)
{
    const moving *m = ud;
    (void)copy;
    return cudaMemcpyAsync(m->to, m->from, m->bytes, m->kind, s);
}

/* times: how often a byte is counted. */
static bt_status move_row(bt__gpu *g, const char *what, bt__gpu_call call, moving *m, int times,
                          bool limit, bt_err *err)
{
    bt_ops_row row = {.ceiling = true, .bytes = (double)m->bytes * times};
    snprintf(row.kernel, sizeof row.kernel, "%s", what);
    snprintf(row.shape, sizeof row.shape, "%zu MiB", m->bytes >> 20);
    bt_status status = bt__gpu_time(g, call, m, true, &row.us, err);
    if (status) return status;
    if (limit) g->ops.limits.memory = BT_MAX(g->ops.limits.memory, row.bytes / row.us * 1e6);
    bt__ops_tell(&g->ops, &row);
    return BT_OK;
}

static bt_status ceilings_memory(bt__gpu *g, bt_err *err)
{
    size_t most = GPU_EMULATED ? 1 << 20 : g->ops.ask->quick ? 256 << 20 : 1 << 30;
    moving m = {.props = &g->props, .kind = cudaMemcpyDeviceToDevice};
    m.bytes = BT_MIN(most, bt__gpu_room() / 4 / 4096 * 4096);
    m.from = bt__gpu_take(g, m.bytes, err);
    m.to = m.from ? bt__gpu_take(g, m.bytes, err) : NULL;
    m.out = m.to ? bt__gpu_take(g, (size_t)bt_cuda_ceiling_blocks(&g->props) * 4, err) : NULL;
    if (!m.out) return BT_ENOMEM;
    bt_status status = bt__gpu_check(cudaMemset(m.from, 1, m.bytes), "filling device memory", err);
    if (!status) status = move_row(g, "copy", call_copy, &m, 2, true, err);
    if (!status) status = move_row(g, "memcpy", call_memcpy, &m, 2, true, err);
    if (!status) status = move_row(g, "read", call_read, &m, 1, false, err);
    void *host = NULL;
    m.bytes = BT_MIN(m.bytes, (size_t)256 << 20);
    if (!status)
        status = bt__gpu_check(cudaHostAlloc(&host, m.bytes, cudaHostAllocDefault),
                               "taking pinned memory", err);
    if (status) return status;
    moving up = {.from = host, .to = m.to, .bytes = m.bytes, .kind = cudaMemcpyHostToDevice};
    moving down = {.from = m.to, .to = host, .bytes = m.bytes, .kind = cudaMemcpyDeviceToHost};
    memset(host, 1, m.bytes);
    status = move_row(g, "host to dev", call_memcpy, &up, 1, false, err);
    if (!status) status = move_row(g, "dev to host", call_memcpy, &down, 1, false, err);
    cudaFreeHost(host);
    return status;
}

typedef struct rating {
    const bt_cuda_props *props;
    uint32_t *out;
    bt_cuda_ceiling kind;
    int32_t loops;
} rating;

static cudaError_t call_rate(void *ud, int32_t copy, cudaStream_t s)
{
    const rating *r = ud;
    (void)copy;
    return bt_cuda_ceiling_rate(r->kind, r->loops, r->out, r->props, s);
}

static bt_status ceilings_rate(bt__gpu *g, bt_err *err)
{
    static const struct {
        bt_cuda_ceiling kind;
        bt_ops_unit unit;
        const char *name;
    } list[] = {{BT_CUDA_CEILING_FMA, BT_UNIT_FMA, "fma f32"},
                {BT_CUDA_CEILING_DP4A, BT_UNIT_DOT, "dp4a"},
                {BT_CUDA_CEILING_MMA_F16, BT_UNIT_MMA_F16, "mma f16"},
                {BT_CUDA_CEILING_MMA_S8, BT_UNIT_MMA_S8, "mma s8"}};
    rating r = {.props = &g->props, .loops = GPU_EMULATED ? 4 : 8192};
    r.out = bt__gpu_take(g, (size_t)bt_cuda_ceiling_blocks(&g->props) * 4, err);
    if (!r.out) return BT_ENOMEM;
    for (size_t i = 0; i < BT_COUNT(list); i++) {
        uint32_t got = 0;
        bt_ops_row row = {.ceiling = true, .unit = list[i].unit, .within = 1e-9};
        r.kind = list[i].kind;
        snprintf(row.kernel, sizeof row.kernel, "%s", list[i].name);
        row.ops = bt_cuda_ceiling_ops(r.kind, r.loops, &g->props);
        bt_status status = bt__gpu_once(g, call_rate, &r, err);
        if (!status) status = bt__gpu_get(g, &got, r.out, sizeof got, err);
        row.error = got == bt_cuda_ceiling_result(r.kind, r.loops) ? 0 : 1;
        if (!status && bt__ops_right(&g->ops, &row)) {
            status = bt__gpu_time(g, call_rate, &r, true, &row.us, err);
            if (!status) g->ops.limits.rate[row.unit] = row.ops / row.us * 1e6;
            if (!status) bt__ops_tell(&g->ops, &row);
        }
        if (status) return status;
    }
    return BT_OK;
}

typedef struct library {
    bt_cuda_blas *blas;
    void *w, *x, *workspace;
    float *y;
    int32_t n;
} library;

enum { WORKSPACE = 32 << 20 };

static cudaError_t call_library(void *ud, int32_t copy, cudaStream_t s)
{
    const library *l = ud;
    (void)copy;
    return bt_cuda_blas_gemm_f16(l->blas, l->n, l->n, l->n, l->w, l->n, l->x, l->n, l->y, l->n,
                                 l->workspace, WORKSPACE, s);
}

/* What NVIDIA's library makes of the same tensor cores; not a limit of our kernels, which it may
 * pass by instructions that they do not use. */
static bt_status ceiling_library(bt__gpu *g, bt_err *err)
{
    library l = {.blas = g->blas, .n = GPU_EMULATED ? 32 : 4096};
    size_t cells = (size_t)l.n * (size_t)l.n;
    if (!l.blas) return BT_OK;
    l.w = bt__gpu_take(g, cells * 2, err);
    l.x = l.w ? bt__gpu_take(g, cells * 2, err) : NULL;
    l.y = l.x ? bt__gpu_take(g, cells * 4, err) : NULL;
    l.workspace = l.y ? bt__gpu_take(g, WORKSPACE, err) : NULL;
    if (!l.workspace) return BT_ENOMEM;
    bt_status status = bt__gpu_check(cudaMemset(l.w, 0x11, cells * 2), "filling memory", err);
    if (!status) status = bt__gpu_check(cudaMemset(l.x, 0x11, cells * 2), "filling memory", err);
    bt_ops_row row = {.kernel = "cublaslt", .format = "F16", .rows = l.n, .ceiling = true};
    snprintf(row.shape, sizeof row.shape, "%d x %d", l.n, l.n);
    row.unit = BT_UNIT_MMA_F16;
    row.ops = 2 * (double)cells * l.n;
    if (!status && call_library(&l, 0, g->stream) == cudaErrorNotSupported) return BT_OK;
    if (!status) status = bt__gpu_time(g, call_library, &l, true, &row.us, err);
    if (!status) bt__ops_tell(&g->ops, &row);
    return status;
}

typedef struct launching {
    int32_t *token, *drawn;
} launching;

static cudaError_t call_launch(void *ud, int32_t copy, cudaStream_t s)
{
    const launching *l = ud;
    (void)copy;
    return bt_cuda_step_tokens(l->token, l->drawn, 1, s);
}

/* What a kernel costs that does nothing, inside a graph: a decode step has some hundred. */
static bt_status ceiling_launch(bt__gpu *g, bt_err *err)
{
    int32_t zero = 0;
    launching l = {0};
    bt_ops_row row = {.kernel = "launch", .shape = "of a graph", .ceiling = true};
    l.token = bt__gpu_put(g, &zero, sizeof zero, err);
    l.drawn = l.token ? bt__gpu_put(g, &zero, sizeof zero, err) : NULL;
    if (!l.drawn) return BT_ENOMEM;
    bt_status status = bt__gpu_time(g, call_launch, &l, true, &row.us, err);
    if (!status) bt__ops_tell(&g->ops, &row);
    return status;
}

static bt_status ceilings(bt__gpu *g, bt_err *err)
{
    bt_status status = ceilings_memory(g, err);
    bt__gpu_clear(g);
    if (!status) status = ceilings_rate(g, err);
    if (!status) status = ceiling_launch(g, err);
    if (!status) status = ceiling_library(g, err);
    bt__gpu_clear(g);
    return status;
}

/* ---- all of it */

static bt_status open_gpu(bt__gpu *g, int32_t ordinal, bt_err *err)
{
    bt_cuda_found found[BT_CUDA_DEVICES_MAX];
    int32_t n = 0;
    bt_status status = bt_cuda_probe(found, &n, err);
    if (status) return status;
    if (ordinal < 0 || ordinal >= n || !found[ordinal].usable)
        return bt_err_set(err, BT_ENOTFOUND, 0, "there is no usable device cuda:%d", ordinal);
    g->props = found[ordinal].props;
    snprintf(g->ops.limits.device, sizeof g->ops.limits.device, "%s", g->props.name);
    status = bt__gpu_check(cudaSetDevice(ordinal), "opening the device", err);
    /* Ordered with the plain copies that fill cases: they may outlast their call. */
    if (!status) status = bt__gpu_check(cudaStreamCreate(&g->stream), "making a stream", err);
    if (!status) status = bt__gpu_check(cudaEventCreate(&g->begin), "making an event", err);
    if (!status) status = bt__gpu_check(cudaEventCreate(&g->end), "making an event", err);
    return status;
}

static void close_gpu(bt__gpu *g)
{
    if (g->stream) bt__gpu_clear(g);
    if (g->begin) cudaEventDestroy(g->begin);
    if (g->end) cudaEventDestroy(g->end);
    bt_cuda_blas_close(g->blas);
    if (g->stream) cudaStreamDestroy(g->stream);
}

bt_status bt_ops_run_cuda(const bt_ops_ask *ask, bt_ops_sink sink, void *ud, int32_t *skipped,
                          bt_err *err)
{
    bt__gpu g = {0};
    bt__ops_begin(&g.ops, ask, sink, ud);
    bt_status status = open_gpu(&g, ask->ordinal, err);
    if (!status) g.blas = bt_cuda_blas_open();
    if (!status) status = ceilings(&g, err);
    if (!status) status = bt__gpu_step(&g, err);
    if (!status) status = bt__gpu_linear(&g, false, err);
    if (!status) status = bt__gpu_decode(&g, err);
    if (!status) status = bt__gpu_sample(&g, err);
    if (!status) status = bt__gpu_linear(&g, true, err);
    if (!status) status = bt__gpu_prefill(&g, err);
    close_gpu(&g);
    return status ? status : bt__ops_end(&g.ops, skipped, err);
}
