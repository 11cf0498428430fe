/* SPDX-License-Identifier: Apache-2.0 */
/* emu_driver.c - the driver calls that hand out addresses and physical memory apart, found as the
 * real ones are: by name through cudaGetDriverEntryPoint(ByVersion).
 *
 * Stricter than a driver: a chunk is mapped whole and in one place at a time, unmapping loses its
 * contents, and work that still runs (or waits in a stream) on unmapped memory faults. */
#include "emu_memory.h"
#include <stdlib.h>
#include <string.h>

enum { GRANULARITY = 2 << 20 };

typedef struct reservation {
    char *va;
    size_t bytes;
    struct reservation *next;
} reservation;
typedef struct chunk {
    size_t bytes;
    char *va; // where it is mapped, or NULL
    bool released;
    struct chunk *next;
} chunk;

static reservation *reservations;
static chunk *chunks;

static CUresult leave(CUresult r)
{
    return (CUresult)emu_leave((cudaError_t)r); // the two enumerations share their numbers
}

static CUresult enter(const char *call)
{
    return (CUresult)emu_enter(call);
}

static char *pointer(CUdeviceptr p)
{
    return (char *)(uintptr_t)p;
}

static reservation *reservation_of(const char *va, size_t bytes)
{
    for (reservation *r = reservations; r; r = r->next)
        if (va >= r->va && va < r->va + r->bytes && bytes <= (size_t)(r->va + r->bytes - va))
            return r;
    return NULL;
}

static chunk *mapped_at(const char *va)
{
    for (chunk *c = chunks; c; c = c->next)
        if (c->va && va >= c->va && va < c->va + c->bytes) return c;
    return NULL;
}

static void chunk_delete(chunk *c)
{
    for (chunk **i = &chunks; *i; i = &(*i)->next) {
        if (*i != c) continue;
        *i = c->next;
        break;
    }
    emu_chunk_give(c->bytes);
    free(c);
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option)
{
    CUresult r = enter(__func__);
    (void)option;
    if (!r && (!bytes || !prop)) r = CUDA_ERROR_INVALID_VALUE;
    if (!r) *bytes = GRANULARITY;
    return leave(r);
}

CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t align, CUdeviceptr wanted,
                             unsigned long long flags)
{
    CUresult r = enter(__func__);
    (void)wanted;
    if (!r && (!out || !bytes || bytes % GRANULARITY || flags || (align & (align - 1))))
        r = CUDA_ERROR_INVALID_VALUE;
    if (!r) {
        reservation *v = emu_must(calloc(1, sizeof *v));
        v->va = emu_va_take(bytes, align > GRANULARITY ? align : GRANULARITY);
        v->bytes = bytes;
        v->next = reservations;
        reservations = v;
        *out = (CUdeviceptr)(uintptr_t)v->va;
    }
    return leave(r);
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t bytes)
{
    CUresult failed = (CUresult)emu_enter_release(__func__, cudaErrorUnknown);
    for (reservation **i = &reservations; *i; i = &(*i)->next) {
        reservation *v = *i;
        if (v->va != pointer(p) || v->bytes != bytes) continue;
        for (chunk *c = chunks; c; c = c->next)
            if (c->va && c->va >= v->va && c->va < v->va + v->bytes)
                return leave(CUDA_ERROR_INVALID_VALUE); // something is still mapped there
        *i = v->next;
        free(v);
        return leave(failed);
    }
    return leave(CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes,
                     const CUmemAllocationProp *prop, unsigned long long flags)
{
    CUresult r = enter(__func__);
    if (!r && (!out || !prop || !bytes || bytes % GRANULARITY || flags ||
               prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
               prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE || prop->location.id != 0))
        r = CUDA_ERROR_INVALID_VALUE;
    if (!r && !emu_chunk_take(bytes)) r = CUDA_ERROR_OUT_OF_MEMORY;
    if (!r) {
        chunk *c = emu_must(calloc(1, sizeof *c));
        c->bytes = bytes;
        c->next = chunks;
        chunks = c;
        *out = (CUmemGenericAllocationHandle)(uintptr_t)c;
    }
    return leave(r);
}

static chunk *chunk_check(CUmemGenericAllocationHandle h)
{
    for (chunk *c = chunks; c; c = c->next)
        if ((CUmemGenericAllocationHandle)(uintptr_t)c == h && !c->released) return c;
    return NULL;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle h)
{
    CUresult failed = (CUresult)emu_enter_release(__func__, cudaErrorUnknown);
    chunk *c = chunk_check(h);
    if (!c) return leave(CUDA_ERROR_INVALID_VALUE);
    c->released = true;
    if (!c->va) chunk_delete(c); // else when it is unmapped
    return leave(failed);
}

CUresult cuMemMap(CUdeviceptr p, size_t bytes, size_t offset, CUmemGenericAllocationHandle h,
                  unsigned long long flags)
{
    CUresult r = enter(__func__);
    chunk *c = chunk_check(h);
    char *va = pointer(p);
    if (!r && (!c || offset || flags || bytes != c->bytes || (uintptr_t)va % GRANULARITY ||
               !reservation_of(va, bytes)))
        r = CUDA_ERROR_INVALID_VALUE;
    if (!r && c->va) r = CUDA_ERROR_NOT_SUPPORTED;
    for (size_t at = 0; !r && at < bytes; at += GRANULARITY)
        if (mapped_at(va + at)) r = CUDA_ERROR_INVALID_VALUE;
    if (!r) {
        c->va = va;
        emu_chunk_map(va, bytes);
    }
    return leave(r);
}

CUresult cuMemUnmap(CUdeviceptr p, size_t bytes)
{
    CUresult failed = (CUresult)emu_enter_release(__func__, cudaErrorUnknown);
    char *va = pointer(p), *end = va + bytes;
    if (!bytes || !reservation_of(va, bytes)) return leave(CUDA_ERROR_INVALID_VALUE);
    for (char *at = va; at < end;) { // whole chunks, without gaps
        const chunk *c = mapped_at(at);
        if (!c || c->va != at || c->bytes > (size_t)(end - at))
            return leave(CUDA_ERROR_INVALID_VALUE);
        at += c->bytes;
    }
    for (char *at = va; at < end;) {
        chunk *c = mapped_at(at);
        at += c->bytes;
        emu_chunk_unmap(c->va);
        c->va = NULL;
        if (c->released) chunk_delete(c);
    }
    return leave(failed);
}

CUresult cuMemSetAccess(CUdeviceptr p, size_t bytes, const CUmemAccessDesc *desc, size_t count)
{
    CUresult r = enter(__func__);
    char *va = pointer(p), *end = va + bytes;
    if (!r && (!desc || count != 1 || desc->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
               !reservation_of(va, bytes)))
        r = CUDA_ERROR_INVALID_VALUE;
    for (char *at = va; !r && at < end;) {
        const chunk *c = mapped_at(at);
        if (!c || c->va != at || c->bytes > (size_t)(end - at))
            r = CUDA_ERROR_INVALID_VALUE;
        else
            at += c->bytes;
    }
    for (char *at = va; !r && at < end;) {
        const chunk *c = mapped_at(at);
        emu_chunk_access(at, desc->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        at += c->bytes;
    }
    return leave(r);
}

CUresult cuInit(unsigned flags)
{
    (void)flags;
    return leave(enter(__func__));
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    CUresult r = enter(__func__);
    if (!r && (!device || ordinal < 0 || ordinal >= emu_set.devices)) r = CUDA_ERROR_INVALID_DEVICE;
    if (!r) *device = ordinal;
    return leave(r);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    if (attribute == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) {
        CUresult r = enter(__func__);
        if (!r) *value = 1;
        return leave(r);
    }
    return (CUresult)cudaDeviceGetAttribute(value, (enum cudaDeviceAttr)attribute, device);
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
    *name = cudaGetErrorName((cudaError_t)error);
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = cudaGetErrorString((cudaError_t)error);
    return CUDA_SUCCESS;
}

typedef void (*any_fn)(void);
#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, (any_fn)name                                                                        \
    }
static const struct {
    const char *name;
    any_fn fn;
} symbols[] = {
    SYMBOL(cuMemGetAllocationGranularity),
    SYMBOL(cuMemAddressReserve),
    SYMBOL(cuMemAddressFree),
    SYMBOL(cuMemCreate),
    SYMBOL(cuMemRelease),
    SYMBOL(cuMemMap),
    SYMBOL(cuMemUnmap),
    SYMBOL(cuMemSetAccess),
    SYMBOL(cuInit),
    SYMBOL(cuDeviceGet),
    SYMBOL(cuDeviceGetAttribute),
    SYMBOL(cuGetErrorName),
    SYMBOL(cuGetErrorString),
};

void *emu_driver_symbol(const char *name)
{
    void *p = NULL;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if (strcmp(symbols[i].name, name) == 0) memcpy(&p, &symbols[i].fn, sizeof p);
    return p;
}

static cudaError_t entry_point(const char *call, const char *symbol, void **fn,
                               enum cudaDriverEntryPointQueryResult *result)
{
    cudaError_t e = emu_enter(call);
    if (!e && (!symbol || !fn)) e = cudaErrorInvalidValue;
    if (!e) {
        *fn = emu_driver_symbol(symbol);
        if (result)
            *result = *fn ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    }
    return emu_leave(e);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **fn, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result)
{
    (void)version, (void)flags;
    return entry_point(__func__, symbol, fn, result);
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **fn, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result)
{
    (void)flags;
    return entry_point(__func__, symbol, fn, result);
}

int emu_driver_alive(bool tell)
{
    int n = 0;
    for (const reservation *r = reservations; r; r = r->next, n++)
        if (tell) emu_note("  reserved addresses: %zu bytes at %p\n", r->bytes, (void *)r->va);
    for (const chunk *c = chunks; c; c = c->next, n++)
        if (tell)
            emu_note("  physical memory: %zu bytes, mapped at %p%s\n", c->bytes, (void *)c->va,
                     c->released ? ", released" : "");
    return n;
}

void emu_driver_reset(void)
{
    while (chunks) {
        if (chunks->va) emu_chunk_unmap(chunks->va);
        chunk_delete(chunks);
    }
    while (reservations) {
        reservation *v = reservations;
        reservations = v->next;
        free(v);
    }
}
