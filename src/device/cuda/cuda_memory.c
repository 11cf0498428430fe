/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda/cuda_memory.h"
#include "base/assert.h"
#include "device/cuda/cuda_error.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <string.h>

/* The driver's functions, found at run time: the program must start where there is no driver. */
typedef struct vmm_calls {
    CUresult (*granularity)(size_t *, const CUmemAllocationProp *,
                            CUmemAllocationGranularity_flags);
    CUresult (*reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
    CUresult (*address_free)(CUdeviceptr, size_t);
    CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *,
                       unsigned long long);
    CUresult (*release)(CUmemGenericAllocationHandle);
    CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
    CUresult (*unmap)(CUdeviceptr, size_t);
    CUresult (*access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
} vmm_calls;

static void *driver_entry(const char *name)
{
    void *fn = NULL;
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t code =
        cudaGetDriverEntryPointByVersion(name, &fn, 12000, cudaEnableDefault, &found);
#else
    cudaError_t code = cudaGetDriverEntryPoint(name, &fn, cudaEnableDefault, &found);
#endif
    if (code != cudaSuccess) cudaGetLastError();
    return code == cudaSuccess && found == cudaDriverEntryPointSuccess ? fn : NULL;
}

/* Copies a function's address without a cast that ISO C forbids. */
static bool bind(void *slot, const char *name)
{
    void *fn = driver_entry(name);
    memcpy(slot, &fn, sizeof fn);
    return fn != NULL;
}

static bool find_calls(vmm_calls *v)
{
    return bind(&v->granularity, "cuMemGetAllocationGranularity") &&
           bind(&v->reserve, "cuMemAddressReserve") && bind(&v->address_free, "cuMemAddressFree") &&
           bind(&v->create, "cuMemCreate") && bind(&v->release, "cuMemRelease") &&
           bind(&v->map, "cuMemMap") && bind(&v->unmap, "cuMemUnmap") &&
           bind(&v->access, "cuMemSetAccess");
}

/* One lookup a process; a device that is lost cannot change the answer. */
static const vmm_calls *calls(void)
{
    static vmm_calls found;
    static int state; // 0 not asked, 1 there, -1 not
    if (state == 0) state = find_calls(&found) ? 1 : -1;
    return state > 0 ? &found : NULL;
}

static CUmemAllocationProp memory_kind(int32_t ordinal)
{
    CUmemAllocationProp p;
    memset(&p, 0, sizeof p);
    p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    p.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    p.location.id = ordinal;
    return p;
}

static bt_status driver_status(CUresult code, const char *what, bt_err *err)
{
    if (code == CUDA_SUCCESS) return BT_OK;
    if (code == CUDA_ERROR_OUT_OF_MEMORY)
        return bt__cuda_status(cudaErrorMemoryAllocation, what, err);
    return bt_err_set(err, BT_EDEVICE, (int32_t)code,
                      "the driver refused memory for %s (CUDA driver error %d)", what, (int)code);
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Creates, maps and opens a segment's memory; on failure nothing of it stays. */
static bt_status map_segment(bt_cuda_memory *m, bt_cuda_segment *s, const char *what, bt_err *err)
{
    const vmm_calls *v = calls();
    CUmemAllocationProp kind = memory_kind(m->ordinal);
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr at = (CUdeviceptr)(uintptr_t)s->base;
    bt_status st = driver_status(v->create(&handle, s->bytes, &kind, 0), what, err);
    if (st) return st;
    st = driver_status(v->map(at, s->bytes, 0, handle, 0), what, err);
    if (st) {
        v->release(handle);
        return st;
    }
    CUmemAccessDesc access = {.location = kind.location,
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    st = driver_status(v->access(at, s->bytes, &access, 1), what, err);
    if (st) {
        v->unmap(at, s->bytes);
        v->release(handle);
        return st;
    }
    s->handle = handle;
    return BT_OK;
}

/* Some virtual GPUs and sandboxes refuse, at one call or another, and only trying tells. */
static bool can_map(int32_t ordinal, size_t *granularity)
{
    const vmm_calls *v = calls();
    bt_cuda_memory m = {.ordinal = ordinal};
    CUmemAllocationProp kind = memory_kind(ordinal);
    CUdeviceptr at = 0;
    if (!v || v->granularity(granularity, &kind, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) ||
        *granularity == 0 || v->reserve(&at, *granularity, 0, 0, 0))
        return false;
    bt_cuda_segment s = {.base = (char *)(uintptr_t)at, .bytes = *granularity};
    bt_status st = map_segment(&m, &s, "a trial", NULL);
    if (!st) {
        v->unmap(at, s.bytes);
        v->release(s.handle);
    }
    v->address_free(at, s.bytes);
    return st == BT_OK || st == BT_ENOMEM;
}

bt_status bt__cuda_memory_open(bt_cuda_memory *m, int32_t ordinal, const size_t *bytes, int32_t n,
                               bt_err *err)
{
    BT_ASSERT(n <= BT_CUDA_SEGMENTS_MAX);
    memset(m, 0, sizeof *m);
    m->ordinal = ordinal;
    m->movable = !can_map(ordinal, &m->granularity);
    if (m->movable) m->granularity = 256;
    for (int32_t i = 0; i < n; i++) {
        m->segment[i].bytes = round_up(bytes[i], m->granularity);
        m->range_bytes += m->segment[i].bytes;
    }
    m->n = n;
    if (m->movable || m->range_bytes == 0) return BT_OK;
    CUdeviceptr at = 0;
    bt_status st =
        driver_status(calls()->reserve(&at, m->range_bytes, 0, 0, 0), "its addresses", err);
    if (st) return st;
    m->range = at;
    for (int32_t i = 0; i < n; at += m->segment[i++].bytes)
        m->segment[i].base = (char *)(uintptr_t)at;
    return BT_OK;
}

bt_status bt__cuda_memory_take(bt_cuda_memory *m, int32_t i, const char *what, bt_err *err)
{
    bt_cuda_segment *s = &m->segment[i];
    BT_ASSERT(i < m->n && !s->resident);
    bt_status st = BT_OK;
    if (s->bytes > 0 && m->movable) {
        void *p = NULL;
        st = bt__cuda_status(cudaMalloc(&p, s->bytes), what, err);
        s->base = p;
    } else if (s->bytes > 0) {
        st = map_segment(m, s, what, err);
    }
    s->resident = st == BT_OK;
    return st;
}

bt_status bt__cuda_memory_give(bt_cuda_memory *m, int32_t i, bt_err *err)
{
    bt_cuda_segment *s = &m->segment[i];
    if (!s->resident) return BT_OK;
    s->resident = false;
    if (s->bytes == 0) return BT_OK;
    if (m->movable) {
        void *p = s->base;
        s->base = NULL;
        return bt__cuda_status(cudaFree(p), "giving memory back", err);
    }
    const vmm_calls *v = calls();
    CUresult unmapped = v->unmap((CUdeviceptr)(uintptr_t)s->base, s->bytes);
    CUresult released = v->release(s->handle);
    return driver_status(unmapped ? unmapped : released, "giving it back", err);
}

void bt__cuda_memory_close(bt_cuda_memory *m)
{
    for (int32_t i = 0; i < m->n; i++) bt__cuda_memory_give(m, i, NULL);
    if (m->range) calls()->address_free((CUdeviceptr)m->range, m->range_bytes);
    memset(m, 0, sizeof *m);
}
