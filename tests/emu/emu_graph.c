/* SPDX-License-Identifier: Apache-2.0 */
/* emu_graph.c - capture, graphs and their execution.
 *
 * A capturing stream turns its work into nodes that depend on its tips (the last nodes it, or an
 * event it waited for, reached). Events carry tips to other streams, which so join the capture. An
 * executable graph holds a body that never changes: launches keep the body they were given, an
 * update replaces it for later ones. A body runs in any order its edges allow (seed 0: theirs). */
#include "emu_stream.h"
#include <stdlib.h>
#include <string.h>

typedef struct node {
    emu_work work;
    int *deps, n_deps;
} node;
struct emu_body {
    int refs, n;
    node *nodes;
};
struct CUgraph_st {
    struct CUgraph_st *next;
    emu_body *body;
    int nodes_max;
    bool capturing;
};
struct CUgraphExec_st {
    struct CUgraphExec_st *next;
    emu_body *body;
};

static struct CUgraph_st *graphs;
static struct CUgraphExec_st *execs;

static emu_work work_share(const emu_work *work)
{
    if (work->launch) work->launch->refs++;
    if (work->event) work->event->refs++;
    if (work->body) work->body->refs++;
    return *work;
}

static emu_body *body_new(void)
{
    emu_body *b = emu_must(calloc(1, sizeof *b));
    b->refs = 1;
    return b;
}

void emu_body_unref(emu_body *b)
{
    if (!b || --b->refs) return;
    for (int i = 0; i < b->n; i++) {
        emu_work_release(&b->nodes[i].work);
        free(b->nodes[i].deps);
    }
    free(b->nodes);
    free(b);
}

static int *ints_copy(const int *from, int n)
{
    int *p = emu_must(calloc((size_t)n + 1, sizeof *p));
    if (n) memcpy(p, from, (size_t)n * sizeof *p);
    return p;
}

static emu_body *body_copy(const emu_body *from)
{
    emu_body *b = body_new();
    b->n = from->n;
    b->nodes = emu_must(calloc((size_t)from->n + 1, sizeof *b->nodes));
    for (int i = 0; i < b->n; i++) {
        const node *o = &from->nodes[i];
        b->nodes[i] = (node){work_share(&o->work), ints_copy(o->deps, o->n_deps), o->n_deps};
    }
    return b;
}

/* Nodes were added after what they depend on, so their order is a legal one; with a seed, another
 * legal one is drawn. */
bool emu_body_run(emu_body *b)
{
    bool *done = emu_must(calloc((size_t)b->n + 1, sizeof *done)), ok = true;
    for (int ran = 0; ran < b->n && ok; ran++) {
        int chosen = -1, ready = 0;
        for (int i = 0; i < b->n; i++) {
            bool can = !done[i];
            for (int d = 0; d < b->nodes[i].n_deps && can; d++) can = done[b->nodes[i].deps[d]];
            if (!can) continue;
            ready++;
            if (chosen < 0 || (emu_set.seed && emu_random() % (uint64_t)ready == 0)) chosen = i;
            if (!emu_set.seed) break;
        }
        done[chosen] = true;
        ok = emu_work_run(&b->nodes[chosen].work);
    }
    free(done);
    return ok;
}

struct CUgraph_st *emu_graph_new(void)
{
    struct CUgraph_st *g = emu_must(calloc(1, sizeof *g));
    g->body = body_new();
    g->next = graphs;
    graphs = g;
    return g;
}

int emu_graph_add(struct CUgraph_st *g, const emu_work *work, const int *deps, int n_deps)
{
    emu_body *b = g->body;
    if (b->n == g->nodes_max) {
        g->nodes_max = g->nodes_max ? 2 * g->nodes_max : 64;
        b->nodes = emu_must(realloc(b->nodes, (size_t)g->nodes_max * sizeof *b->nodes));
    }
    b->nodes[b->n] = (node){*work, ints_copy(deps, n_deps), n_deps};
    return b->n++;
}

static struct CUgraph_st *graph_check(cudaGraph_t g)
{
    for (struct CUgraph_st *i = graphs; i; i = i->next)
        if (i == g) return i;
    return NULL;
}

static struct CUgraphExec_st *exec_check(cudaGraphExec_t e)
{
    for (struct CUgraphExec_st *i = execs; i; i = i->next)
        if (i == e) return i;
    return NULL;
}

static void graph_delete(struct CUgraph_st *g)
{
    for (struct CUgraph_st **i = &graphs; *i; i = &(*i)->next) {
        if (*i != g) continue;
        *i = g->next;
        break;
    }
    emu_body_unref(g->body);
    free(g);
}

static void exec_delete(struct CUgraphExec_st *e)
{
    for (struct CUgraphExec_st **i = &execs; *i; i = &(*i)->next) {
        if (*i != e) continue;
        *i = e->next;
        break;
    }
    emu_body_unref(e->body);
    free(e);
}

int emu_graphs_alive(bool tell)
{
    int n = 0;
    for (struct CUgraph_st *g = graphs; g; g = g->next, n++)
        if (tell) emu_note("  graph of %d nodes\n", g->body->n);
    for (struct CUgraphExec_st *e = execs; e; e = e->next, n++)
        if (tell) emu_note("  executable graph of %d nodes\n", e->body->n);
    return n;
}

void emu_graphs_reset(void)
{
    while (graphs) graph_delete(graphs);
    while (execs) exec_delete(execs);
}

/* Whether any of `from` is `wanted` or comes after it. */
static bool reaches(const emu_body *b, const int *from, int n_from, int wanted)
{
    for (int i = 0; i < n_from; i++) {
        if (from[i] == wanted) return true;
        if (from[i] > wanted &&
            reaches(b, b->nodes[from[i]].deps, b->nodes[from[i]].n_deps, wanted))
            return true;
    }
    return false;
}

static void set_tips(struct CUstream_st *s, const int *tips, int n)
{
    int *copy = ints_copy(tips, n);
    free(s->tips);
    s->tips = copy;
    s->n_tips = n;
}

static void stop(struct CUstream_st *s)
{
    free(s->tips);
    s->tips = NULL;
    s->n_tips = 0;
    s->capture = NULL;
    s->capture_origin = s->capture_broken = false;
}

cudaError_t emu_submit(struct CUstream_st *s, emu_work *work)
{
    if (s->capture) {
        if (s->capture_broken) {
            emu_work_release(work);
            return cudaErrorStreamCaptureInvalidated;
        }
        int at = emu_graph_add(s->capture, work, s->tips, s->n_tips);
        set_tips(s, &at, 1);
        return cudaSuccess;
    }
    if (s->legacy) {
        for (struct CUstream_st *o = emu_stream_each(NULL); o; o = emu_stream_each(o)) {
            if (!o->capture || o->non_blocking) continue;
            o->capture_broken = true;
            emu_work_release(work);
            return cudaErrorStreamCaptureImplicit;
        }
    }
    return emu_enqueue(s, work);
}

cudaError_t emu_unsafe_while_capturing(void)
{
    for (struct CUstream_st *s = emu_stream_each(NULL); s; s = emu_stream_each(s)) {
        if (!s->capture || s->capture_mode == cudaStreamCaptureModeRelaxed) continue;
        if (s->capture_mode == cudaStreamCaptureModeThreadLocal &&
            !pthread_equal(s->capture_thread, pthread_self()))
            continue;
        s->capture_broken = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return cudaSuccess;
}

void emu_capture_record(struct CUstream_st *s, struct CUevent_st *e)
{
    free(e->tips);
    e->tips = ints_copy(s->tips, s->n_tips);
    e->n_tips = s->n_tips;
    e->capture = s->capture;
}

cudaError_t emu_capture_wait(struct CUstream_st *s, const struct CUevent_st *e)
{
    if (s->capture && s->capture != e->capture) return cudaErrorStreamCaptureMerge;
    if (!e->capture->capturing) return cudaErrorStreamCaptureIsolation;
    if (!s->capture) { // joins
        if (s->legacy) return cudaErrorStreamCaptureImplicit;
        s->capture = e->capture;
        s->capture_origin = s->capture_broken = false;
        s->capture_mode = cudaStreamCaptureModeRelaxed; // the origin's mode holds
    }
    int n = s->n_tips + e->n_tips, *both = emu_must(calloc((size_t)n + 1, sizeof *both));
    if (s->n_tips) memcpy(both, s->tips, (size_t)s->n_tips * sizeof *both);
    if (e->n_tips) memcpy(both + s->n_tips, e->tips, (size_t)e->n_tips * sizeof *both);
    free(s->tips);
    s->tips = both;
    s->n_tips = n;
    return cudaSuccess;
}

/* ---- The calls. */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && s->legacy) e = cudaErrorStreamCaptureUnsupported;
    if (!e && s->capture) e = cudaErrorIllegalState;
    if (!e) {
        s->capture = emu_graph_new();
        s->capture->capturing = true;
        s->capture_origin = true;
        s->capture_broken = false;
        s->capture_mode = mode;
        s->capture_thread = pthread_self();
        s->n_tips = 0;
    }
    return emu_leave(e);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cudaError_t failed = emu_enter_release(__func__, cudaErrorUnknown), e = cudaSuccess;
    struct CUstream_st *s = emu_stream_check(stream);
    if (graph) *graph = NULL;
    if (!s || !graph) return emu_leave(cudaErrorInvalidValue);
    if (!s->capture) return emu_leave(cudaErrorIllegalState);
    if (!s->capture_origin) return emu_leave(cudaErrorStreamCaptureUnmatched);
    if (s->capture_mode == cudaStreamCaptureModeThreadLocal &&
        !pthread_equal(s->capture_thread, pthread_self()))
        return emu_leave(cudaErrorStreamCaptureWrongThread);
    struct CUgraph_st *g = s->capture;
    bool broken = s->capture_broken;
    for (struct CUstream_st *o = emu_stream_each(NULL); o; o = emu_stream_each(o)) {
        if (o == s || o->capture != g) continue;
        broken = broken || o->capture_broken;
        for (int i = 0; i < o->n_tips; i++)
            if (!reaches(g->body, s->tips, s->n_tips, o->tips[i]))
                e = cudaErrorStreamCaptureUnjoined;
        stop(o);
    }
    stop(s);
    g->capturing = false;
    if (broken) e = cudaErrorStreamCaptureInvalidated;
    if (!e) e = failed;
    if (e)
        graph_delete(g);
    else
        *graph = g;
    return emu_leave(e);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e && (!s || !status)) e = cudaErrorInvalidValue;
    if (!e)
        *status = !s->capture         ? cudaStreamCaptureStatusNone
                  : s->capture_broken ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
    return emu_leave(e);
}

cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (!graph || flags)) e = cudaErrorInvalidValue;
    if (!e) *graph = emu_graph_new();
    return emu_leave(e);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    struct CUgraph_st *g = graph_check(graph);
    if (!g || g->capturing) return emu_leave(cudaErrorInvalidValue);
    graph_delete(g);
    return emu_leave(e);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    cudaError_t e = emu_enter(__func__);
    struct CUgraph_st *g = graph_check(graph);
    if (!e && (!g || !n)) e = cudaErrorInvalidValue;
    if (!e) {
        size_t have = (size_t)g->body->n;
        for (size_t i = 0; nodes && i < *n; i++)
            nodes[i] = i < have ? (cudaGraphNode_t)(void *)&g->body->nodes[i] : NULL;
        if (!nodes || *n > have) *n = have;
    }
    return emu_leave(e);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    cudaError_t e = emu_enter(__func__);
    struct CUgraph_st *g = graph_check(graph);
    (void)flags;
    if (!e && (!g || !out || g->capturing)) e = cudaErrorInvalidValue;
    if (!e) {
        struct CUgraphExec_st *x = emu_must(calloc(1, sizeof *x));
        x->body = body_copy(g->body);
        x->next = execs;
        execs = x;
        *out = x;
    }
    return emu_leave(e);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long flags)
{
    return cudaGraphInstantiate(out, graph, flags);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    struct CUgraphExec_st *x = exec_check(exec);
    if (!x) return emu_leave(cudaErrorInvalidValue);
    exec_delete(x);
    return emu_leave(e);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (!exec_check(exec) || !emu_stream_check(stream))) e = cudaErrorInvalidValue;
    return emu_leave(e);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    struct CUgraphExec_st *x = exec_check(exec);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e && (!x || !s)) e = cudaErrorInvalidValue;
    if (!e) {
        emu_work work = {.kind = EMU_OP_GRAPH, .body = x->body};
        x->body->refs++;
        e = emu_submit(s, &work);
    }
    return emu_leave(e);
}

/* The same nodes with the same edges and kernels; arguments and sizes may differ. */
static enum cudaGraphExecUpdateResult compare(const emu_body *a, const emu_body *b)
{
    if (a->n != b->n) return cudaGraphExecUpdateErrorTopologyChanged;
    for (int i = 0; i < a->n; i++) {
        const node *x = &a->nodes[i], *y = &b->nodes[i];
        if (x->work.kind != y->work.kind) return cudaGraphExecUpdateErrorNodeTypeChanged;
        if (x->n_deps != y->n_deps ||
            (x->n_deps && memcmp(x->deps, y->deps, (size_t)x->n_deps * sizeof *x->deps)))
            return cudaGraphExecUpdateErrorTopologyChanged;
        if (x->work.launch && x->work.launch->kernel != y->work.launch->kernel)
            return cudaGraphExecUpdateErrorFunctionChanged;
    }
    return cudaGraphExecUpdateSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info)
{
    cudaError_t e = emu_enter(__func__);
    struct CUgraphExec_st *x = exec_check(exec);
    struct CUgraph_st *g = graph_check(graph);
    if (!e && (!x || !g || !info || g->capturing)) e = cudaErrorInvalidValue;
    if (!e) {
        memset(info, 0, sizeof *info);
        info->result = compare(x->body, g->body);
        if (info->result == cudaGraphExecUpdateSuccess) {
            emu_body_unref(x->body);
            x->body = body_copy(g->body);
        } else {
            e = cudaErrorGraphExecUpdateFailure;
        }
    }
    return emu_leave(e);
}
