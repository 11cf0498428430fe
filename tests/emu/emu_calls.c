/* SPDX-License-Identifier: Apache-2.0 */
/* emu_calls.c - the runtime's calls on memory, streams, events and kernels. */
#include "emu_stream.h"
#include <stdlib.h>
#include <string.h>

/* ---- Memory. */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    cudaError_t e = emu_enter(__func__);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e && !p) e = cudaErrorInvalidValue;
    if (!e) {
        void *got = bytes ? emu_memory_alloc(bytes) : NULL;
        if (bytes && !got)
            e = cudaErrorMemoryAllocation;
        else
            *p = got;
    }
    return emu_leave(e);
}

cudaError_t cudaFree(void *p)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    cudaError_t unsafe = emu_unsafe_while_capturing();
    if (!p || unsafe) return emu_leave(e ? e : unsafe);
    emu_drain_all(); // a free waits for the device
    if (!emu_memory_free(p) && !e) e = cudaErrorInvalidValue;
    return emu_leave(e);
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (!p || !emu_stream_check(stream))) e = cudaErrorInvalidValue;
    if (!e) {
        void *got = bytes ? emu_memory_alloc(bytes) : NULL;
        if (bytes && !got)
            e = cudaErrorMemoryAllocation;
        else
            *p = got;
    }
    return emu_leave(e);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!p || !s) return emu_leave(e ? e : p ? cudaErrorInvalidValue : cudaSuccess);
    emu_drain_stream(s);
    if (!emu_memory_free(p) && !e) e = cudaErrorInvalidValue;
    return emu_leave(e);
}

static cudaError_t host_alloc(const char *call, void **p, size_t bytes)
{
    cudaError_t e = emu_enter(call);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e && !p) e = cudaErrorInvalidValue;
    if (!e) {
        void *got = emu_pinned_alloc(bytes);
        if (got)
            *p = got;
        else
            e = cudaErrorMemoryAllocation;
    }
    return emu_leave(e);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return host_alloc(__func__, p, bytes);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    return host_alloc(__func__, p, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    if (!p) return emu_leave(e);
    emu_drain_all();
    if (!emu_pinned_free(p) && !e) e = cudaErrorInvalidValue;
    return emu_leave(e);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    (void)flags;
    cudaError_t e = emu_enter(__func__);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e) e = emu_pinned_register(p, bytes);
    return emu_leave(e);
}

cudaError_t cudaHostUnregister(void *p)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    emu_drain_all();
    cudaError_t u = emu_pinned_unregister(p);
    return emu_leave(e ? e : u);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    (void)flags;
    cudaError_t e = emu_enter(__func__);
    if (!e && (!device || !emu_pinned_has(host, 1))) e = cudaErrorInvalidValue;
    if (!e) *device = host;
    return emu_leave(e);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && !a) e = cudaErrorInvalidValue;
    if (!e) {
        enum emu_space space = emu_space_of(p);
        memset(a, 0, sizeof *a);
        a->type = space == EMU_DEVICE   ? cudaMemoryTypeDevice
                  : space == EMU_PINNED ? cudaMemoryTypeHost
                                        : cudaMemoryTypeUnregistered;
        a->devicePointer = space == EMU_HOST ? NULL : (void *)(uintptr_t)p;
        a->hostPointer = space == EMU_PINNED ? (void *)(uintptr_t)p : NULL;
    }
    return emu_leave(e);
}

/* ---- Copies. */

static cudaError_t copy_check(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    bool to_device = emu_in_arena(to), from_device = emu_in_arena(from);
    if ((kind == cudaMemcpyHostToDevice && (!to_device || from_device)) ||
        (kind == cudaMemcpyDeviceToHost && (to_device || !from_device)) ||
        (kind == cudaMemcpyDeviceToDevice && !(to_device && from_device)) ||
        (kind == cudaMemcpyHostToHost && (to_device || from_device)) || kind > cudaMemcpyDefault)
        return cudaErrorInvalidValue;
    if ((to_device && emu_memory_check(to, bytes)) ||
        (from_device && emu_memory_check(from, bytes)))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

/* Runs work now, with all that the stream holds done before. */
static void run_now(struct CUstream_st *s, const emu_work *work)
{
    if (s->legacy)
        emu_drain_before_legacy();
    else
        emu_drain_stream(s);
    emu_execute_begin();
    if (!emu_sticky()) (void)emu_work_run(work);
    emu_execute_end();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    cudaError_t e = emu_enter(__func__);
    emu_work work = {.kind = EMU_OP_COPY, .to = to, .from = from, .bytes = bytes};
    if (!e) e = emu_unsafe_while_capturing();
    if (!e && bytes) e = copy_check(to, from, bytes, kind);
    if (!e && bytes && emu_in_arena(to) && emu_in_arena(from))
        e = emu_submit(emu_stream_check(NULL),
                       &work); // does not wait for the device
    else if (!e && bytes)
        run_now(emu_stream_check(NULL), &work);
    return emu_leave(e);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    emu_work work = {.kind = EMU_OP_COPY, .to = to, .from = from, .bytes = bytes};
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && bytes) e = copy_check(to, from, bytes, kind);
    if (e || !bytes) return emu_leave(e);
    bool pageable = emu_space_of(to) == EMU_HOST || emu_space_of(from) == EMU_HOST;
    if (pageable && !s->capture) { // staged: the call returns when that is done
        run_now(s, &work);
        return emu_leave(e);
    }
    if (!s->capture && emu_space_of(to) == EMU_PINNED)
        emu_poison(to, bytes); // nobody may look before the copy has run
    return emu_leave(emu_submit(s, &work));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    for (size_t row = 0; row < height; row++) {
        cudaError_t e = cudaMemcpyAsync((char *)to + row * to_pitch,
                                        (const char *)from + row * from_pitch, width, kind, stream);
        if (e) return e;
    }
    return cudaSuccess;
}

static cudaError_t set(const char *call, void *to, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t e = emu_enter(call);
    struct CUstream_st *s = emu_stream_check(stream);
    emu_work work = {.kind = EMU_OP_SET, .to = to, .bytes = bytes, .value = value};
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && bytes && (emu_space_of(to) == EMU_HOST || emu_memory_check(to, bytes)))
        e = cudaErrorInvalidValue;
    if (!e && bytes) e = emu_submit(s, &work);
    return emu_leave(e);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    return set(__func__, to, value, bytes, NULL);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    return set(__func__, to, value, bytes, stream);
}

/* ---- Streams. */

static cudaError_t stream_create(const char *call, cudaStream_t *out, unsigned flags, int priority)
{
    cudaError_t e = emu_enter(call);
    if (!e && (!out || flags > cudaStreamNonBlocking)) e = cudaErrorInvalidValue;
    if (!e) *out = emu_stream_new(flags == cudaStreamNonBlocking, priority);
    return emu_leave(e);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return stream_create(__func__, out, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    return stream_create(__func__, out, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    return stream_create(__func__, out, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!stream || !s || s->legacy || stream == cudaStreamPerThread)
        return emu_leave(cudaErrorInvalidResourceHandle);
    emu_drain_stream(s); // its work is still done
    emu_stream_delete(s);
    return emu_leave(e);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && s->capture) {
        s->capture_broken = true;
        e = cudaErrorStreamCaptureUnsupported;
    }
    if (!e && s->legacy)
        emu_drain_before_legacy();
    else if (!e)
        emu_drain_stream(s);
    return emu_leave(e);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && s->head) {
        emu_drain_some(s, 16);
        e = cudaErrorNotReady;
    }
    return emu_leave(e);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    struct CUevent_st *v = emu_event_check(event);
    if (!e && (!s || !v)) e = cudaErrorInvalidResourceHandle;
    if (e) return emu_leave(e);
    if (v->capture) return emu_leave(emu_capture_wait(s, v));
    if (s->capture) return emu_leave(cudaErrorStreamCaptureIsolation);
    if (v->asked > v->done) {
        v->refs++;
        emu_work work = {.kind = EMU_OP_WAIT, .event = v, .version = v->asked};
        e = emu_submit(s, &work);
    }
    return emu_leave(e);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    if (!e && (!s || !priority)) e = cudaErrorInvalidValue;
    if (!e) *priority = s->priority;
    return emu_leave(e);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *user)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    emu_work work = {.kind = EMU_OP_HOST, .fn = fn, .user = user};
    if (!e && (!s || !fn)) e = cudaErrorInvalidValue;
    if (!e) e = emu_submit(s, &work);
    return emu_leave(e);
}

/* ---- Events. */

static cudaError_t event_create(const char *call, cudaEvent_t *out, unsigned flags)
{
    cudaError_t e = emu_enter(call);
    if (!e && !out) e = cudaErrorInvalidValue;
    if (!e) *out = emu_event_new(flags);
    return emu_leave(e);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return event_create(__func__, out, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    return event_create(__func__, out, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    struct CUevent_st *v = emu_event_check(event);
    if (!v) return emu_leave(cudaErrorInvalidResourceHandle);
    v->destroyed = true;
    emu_event_unref(v);
    return emu_leave(e);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = emu_stream_check(stream);
    struct CUevent_st *v = emu_event_check(event);
    if (!e && (!s || !v)) e = cudaErrorInvalidResourceHandle;
    if (e) return emu_leave(e);
    if (s->capture) {
        emu_capture_record(s, v);
        return emu_leave(e);
    }
    v->capture = NULL;
    v->refs++;
    emu_work work = {.kind = EMU_OP_RECORD, .event = v, .version = ++v->asked};
    return emu_leave(emu_submit(s, &work));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    (void)flags;
    return cudaEventRecord(event, stream);
}

static cudaError_t event_usable(struct CUevent_st *v)
{
    if (!v) return cudaErrorInvalidResourceHandle;
    if (v->capture) return cudaErrorCapturedEvent;
    return emu_unsafe_while_capturing();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t e = emu_enter(__func__);
    struct CUevent_st *v = emu_event_check(event);
    if (!e) e = event_usable(v);
    if (!e) emu_drain_event(v, v->asked);
    return emu_leave(e);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t e = emu_enter(__func__);
    struct CUevent_st *v = emu_event_check(event);
    if (!e) e = event_usable(v);
    if (!e && v->done < v->asked) { // asking brings it forward, but the first answer is no
        emu_drain_event(v, v->asked);
        e = cudaErrorNotReady;
    }
    return emu_leave(e);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    cudaError_t e = emu_enter(__func__);
    struct CUevent_st *a = emu_event_check(start), *b = emu_event_check(end);
    if (!e && !ms) e = cudaErrorInvalidValue;
    if (!e && (!a || !b || !a->asked || !b->asked || (a->flags & cudaEventDisableTiming) ||
               (b->flags & cudaEventDisableTiming)))
        e = cudaErrorInvalidResourceHandle;
    if (!e && (a->done < a->asked || b->done < b->asked)) e = cudaErrorNotReady;
    if (!e) *ms = (float)((double)(int64_t)(b->time_ns - a->time_ns) / 1e6);
    return emu_leave(e);
}

/* ---- Kernels. */

static bool grid_ok(dim3 g, dim3 b)
{
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    return g.x && g.y && g.z && b.x && b.y && b.z && g.x <= 2147483647u && g.y <= 65535 &&
           g.z <= 65535 && b.x <= 1024 && b.y <= 1024 && b.z <= 64 && threads <= 1024;
}

static emu_launch_args *launch_new(const cudaLaunchConfig_t *config, const void *kernel,
                                   const emu_kernel_type *type, void **args)
{
    size_t n = (size_t)type->n_params, bytes = n * sizeof(void *);
    for (size_t i = 0; i < n; i++) bytes += (type->sizes[i] + 15u) / 16 * 16 + 16;
    emu_launch_args *l = emu_must(calloc(1, sizeof *l + bytes));
    l->kernel = kernel;
    l->type = type;
    l->grid = config->gridDim;
    l->block = config->blockDim;
    l->dynamic_bytes = config->dynamicSmemBytes;
    size_t raised = emu_kernel_shared_max(kernel); // of the dynamic part alone
    l->shared_max = raised > 48 * 1024 ? (size_t)emu_arch_now()->shared_optin : raised;
    l->refs = 1;
    l->bytes = bytes;
    l->args = (void **)(void *)l->blob;
    char *at = l->blob + (n * sizeof(void *) + 15) / 16 * 16;
    for (size_t i = 0; i < n; i++) {
        l->args[i] = memcpy(at, args[i], type->sizes[i]);
        at += (type->sizes[i] + 15u) / 16 * 16;
    }
    return l;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **args)
{
    cudaError_t e = emu_enter(__func__);
    struct CUstream_st *s = e ? NULL : emu_stream_check(config->stream);
    const emu_kernel_type *type = emu_kernel_find(kernel);
    if (!e && !s) e = cudaErrorInvalidResourceHandle;
    if (!e && !type) e = cudaErrorInvalidDeviceFunction;
    if (!e && !grid_ok(config->gridDim, config->blockDim)) e = cudaErrorInvalidConfiguration;
    if (!e && config->blockDim.x % 32) {
        emu_note("emulated device: kernel %s: blockDim.x = %u is not a multiple of 32\n",
                 emu_kernel_name(kernel), config->blockDim.x);
        e = cudaErrorInvalidConfiguration;
    }
    if (!e && config->dynamicSmemBytes > emu_kernel_shared_max(kernel)) e = cudaErrorInvalidValue;
    if (!e) {
        emu_work work = {.kind = EMU_OP_KERNEL, .launch = launch_new(config, kernel, type, args)};
        e = emu_submit(s, &work);
    }
    return emu_leave(e);
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && !emu_kernel_find(kernel)) e = cudaErrorInvalidDeviceFunction;
    if (!e && attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value > emu_arch_now()->shared_optin)
            e = cudaErrorInvalidValue;
        else
            emu_kernel_set_shared_max(kernel,
                                      (size_t)value < 48 * 1024 ? 48 * 1024 : (size_t)value);
    }
    return emu_leave(e);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *kernel)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && !a) e = cudaErrorInvalidValue;
    if (!e) {
        memset(a, 0, sizeof *a);
        a->maxThreadsPerBlock = 1024;
        a->numRegs = 64; // not known here
        a->ptxVersion = a->binaryVersion = emu_arch_now()->sm;
        a->maxDynamicSharedSizeBytes = (int)emu_kernel_shared_max(kernel);
    }
    return emu_leave(e);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel,
                                                          int threads, size_t dynamic_bytes)
{
    (void)kernel;
    cudaError_t e = emu_enter(__func__);
    const emu_arch *a = emu_arch_now();
    if (!e && (!blocks || threads < 1 || threads > 1024)) e = cudaErrorInvalidValue;
    if (!e) {
        int n = a->threads_per_sm / ((threads + 31) / 32 * 32), own = a->sm >= 80 ? 1024 : 0;
        size_t each = dynamic_bytes + (size_t)own;
        if (n > a->blocks_per_sm) n = a->blocks_per_sm;
        if (each && (size_t)a->shared_per_sm / each < (size_t)n)
            n = (int)((size_t)a->shared_per_sm / each);
        *blocks = n;
    }
    return emu_leave(e);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel,
                                                                   int threads,
                                                                   size_t dynamic_bytes,
                                                                   unsigned flags)
{
    (void)flags;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, dynamic_bytes);
}
