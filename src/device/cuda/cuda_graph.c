/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_graph.c - decode steps as graphs.
 *
 * A step in which every sequence computes one row, and every row's logits are wanted, runs as the
 * graph of its bucket: the least bucket of rows that holds it, and the least power of two that
 * holds the longest sequence (the attention's grid grows with it). A graph is captured when its
 * bucket is first needed, and holds the forward pass from the embedding to the logits; sampling
 * follows it outside, because what a row asks of it changes. Graphs take device memory that no plan
 * knows: where it is short the other buckets' go, and where that is not enough steps run without.
 */
#include "base/assert.h"
#include "base/log.h"
#include "device/cuda/cuda_device.h"

enum { CTX_FIRST = 256 };

static bool only_decodes(const bt_batch *b)
{
    if (b->n_rows != b->n_seqs || b->n_out != b->n_rows) return false;
    for (int32_t i = 0; i < b->n_out; i++)
        if (b->out_row[i] != i) return false;
    return true;
}

static int32_t bucket_of(const bt_device *d, int32_t rows)
{
    int32_t i = 0;
    while (bt__cuda_bucket_rows(i) < rows && bt__cuda_bucket_rows(i) < d->at.bucket_max &&
           bt__cuda_bucket_rows(i + 1) > 0)
        i++;
    return i;
}

static int32_t longest(const bt_batch *b)
{
    int32_t most = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) most = BT_MAX(most, b->seqs[i].kv_len);
    return most;
}

void bt__cuda_graph_choose(bt_device *d)
{
    const bt_batch *b = d->batch;
    int32_t len = longest(b), ctx = 0;
    while (ctx + 1 < CUDA_CTX_BUCKETS && (CTX_FIRST << ctx) < BT_MIN(len, d->plan.ctx)) ctx++;
    d->ctx_rows = BT_MIN(CTX_FIRST << ctx, d->plan.ctx);
    if (d->ctx_rows < len) d->ctx_rows = d->plan.ctx; // past the last bucket
    d->mode = MODE_DIRECT;
    d->rows = b->n_rows;
    d->seqs = b->n_seqs;
    d->outs = b->n_out;
    if (d->graphless) return;
    int32_t bucket = bucket_of(d, b->n_rows);
    int32_t rows = BT_MIN(bt__cuda_bucket_rows(bucket), d->at.bucket_max);
    if (!only_decodes(b) || b->n_rows > rows) return;
    d->rows = d->seqs = d->outs = rows;
    d->graph_bucket = bucket;
    d->graph_ctx = ctx;
    d->mode = d->graph[bucket][ctx] ? MODE_REPLAY : MODE_CAPTURE;
}

bt_status bt__cuda_graph_begin(bt_device *d, bt_err *err)
{
    if (d->mode != MODE_CAPTURE) return BT_OK;
    return bt__cuda_check(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeRelaxed),
                          "capturing a graph", err);
}

/* Uploaded here, and not by its first launch, it takes its memory where the lack of it can be
 * helped, and nobody pays for the time. */
static cudaError_t make_exec(bt_device *d, cudaGraph_t graph)
{
    cudaGraphExec_t exec = NULL;
    cudaError_t code = cudaGraphInstantiate(&exec, graph, 0);
    if (code != cudaSuccess) return code;
    code = cudaGraphUpload(exec, d->stream);
    if (code == cudaSuccess)
        d->graph[d->graph_bucket][d->graph_ctx] = exec;
    else
        cudaGraphExecDestroy(exec);
    return code;
}

static cudaError_t instantiate(bt_device *d)
{
    cudaGraph_t graph = NULL;
    cudaError_t code = cudaStreamEndCapture(d->stream, &graph);
    if (code == cudaSuccess) code = make_exec(d, graph);
    if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        code = cudaStreamSynchronize(d->stream); // the step before may run as one of them
        bt__cuda_graphs_drop(d);
        if (code == cudaSuccess) code = make_exec(d, graph);
    }
    if (graph) cudaGraphDestroy(graph);
    return code;
}

/* Makes the captured step's graph. Without memory for it the step is asked for again, directly. */
static cudaError_t capture_end(bt_device *d)
{
    cudaError_t code = instantiate(d);
    if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        bt_log(BT_LOG_WARN, "cuda.no_graphs", "reason=\"no device memory is left for them\"");
        d->graphless = true;
        d->mode = MODE_DIRECT;
        code = cudaSuccess;
    }
    /* Nobody pays for the host's work on a graph: the step begins now. */
    cuda_flight *f = &d->flight[(d->first + d->n_flight - 1) % CUDA_STEPS];
    return code == cudaSuccess ? cudaEventRecord(f->begin, d->stream) : code;
}

bt_status bt__cuda_graph_end(bt_device *d, bt_err *err)
{
    if (d->mode == MODE_DIRECT) return BT_OK;
    cudaError_t code = d->mode == MODE_CAPTURE ? capture_end(d) : cudaSuccess;
    if (code == cudaSuccess && d->mode != MODE_DIRECT)
        code = cudaGraphLaunch(d->graph[d->graph_bucket][d->graph_ctx], d->stream);
    return bt__cuda_check(d, code, "running a graph", err);
}

void bt__cuda_graph_abandon(bt_device *d)
{
    cudaGraph_t graph = NULL;
    if (d->mode != MODE_CAPTURE) return;
    cudaStreamEndCapture(d->stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
}

void bt__cuda_graphs_drop(bt_device *d)
{
    for (int32_t b = 0; b < CUDA_BUCKETS_MAX; b++)
        for (int32_t c = 0; c < CUDA_CTX_BUCKETS; c++) {
            if (d->graph[b][c]) cudaGraphExecDestroy(d->graph[b][c]);
            d->graph[b][c] = NULL;
        }
}
