/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda/cuda_probe.h"
#include "device/cuda/cuda_error.h"
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST_SM = 75 };

void bt_cuda_versions(int32_t *runtime, int32_t *driver)
{
    int r = 0, d = 0;
    if (cudaRuntimeGetVersion(&r) != cudaSuccess) r = 0;
    if (cudaDriverGetVersion(&d) != cudaSuccess) d = 0;
    cudaGetLastError();
    *runtime = r;
    *driver = d;
}

static bt_status no_cuda(cudaError_t code, bt_err *err)
{
    int32_t runtime, driver;
    bt_cuda_versions(&runtime, &driver);
    cudaGetLastError();
    if (driver == 0)
        return bt_err_set(err, BT_ENODEVICE, (int32_t)code,
                          "CUDA cannot be used: no NVIDIA driver is installed, or the container "
                          "was started without it (docker run --gpus all)");
    if (code == cudaErrorInsufficientDriver)
        return bt_err_set(err, BT_ENODEVICE, (int32_t)code,
                          "the NVIDIA driver knows CUDA %d.%d, this build needs %d.%d; update the "
                          "driver, or build with an older toolkit (12.4 or later)",
                          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    return bt_err_set(err, BT_ENODEVICE, (int32_t)code,
                      "the driver shows no CUDA device: %s (%s)%s", cudaGetErrorString(code),
                      cudaGetErrorName(code), bt__cuda_advice(code));
}

static int32_t attribute(enum cudaDeviceAttr which, int32_t ordinal)
{
    int value = 0;
    if (cudaDeviceGetAttribute(&value, which, ordinal) == cudaSuccess) return value;
    cudaGetLastError();
    return 0;
}

/* A MIG slice is known by its name: "NVIDIA A100-SXM4-40GB MIG 3g.20gb". */
static void print_uuid(const struct cudaDeviceProp *p, char dst[static 48])
{
    const unsigned char *b = (const unsigned char *)p->uuid.bytes;
    int n = snprintf(dst, 48, strstr(p->name, " MIG ") ? "MIG-" : "GPU-");
    for (int i = 0; i < 16; i++)
        n += snprintf(dst + n, 48 - (size_t)n,
                      i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
}

static void judge(bt_cuda_found *f)
{
    int32_t sm = f->props.sm;
    int32_t mode = attribute(cudaDevAttrComputeMode, f->ordinal);
    if (sm < OLDEST_SM)
        snprintf(f->why_not, sizeof f->why_not,
                 "its compute capability is %d.%d; the oldest that works is 7.5 (T4)", sm / 10,
                 sm % 10);
    else if (mode == cudaComputeModeProhibited)
        snprintf(f->why_not, sizeof f->why_not,
                 "its compute mode is \"prohibited\"; set it with nvidia-smi -c DEFAULT");
    f->usable = f->why_not[0] == 0;
}

static bt_status describe(int32_t ordinal, bt_cuda_found *f, bt_err *err)
{
    struct cudaDeviceProp p;
    memset(f, 0, sizeof *f);
    bt_status st =
        bt__cuda_status(cudaGetDeviceProperties(&p, ordinal), "asking for a device", err);
    if (st) return st;
    f->ordinal = ordinal;
    snprintf(f->props.name, sizeof f->props.name, "%.63s", p.name);
    f->props.sm = p.major * 10 + p.minor;
    f->props.n_sm = p.multiProcessorCount;
    f->props.shared_optin_bytes = (int32_t)p.sharedMemPerBlockOptin;
    f->props.l2_bytes = p.l2CacheSize;
    f->props.warps_max = p.maxThreadsPerMultiProcessor / 32;
    f->props.total_bytes = p.totalGlobalMem;
    f->props.bus_bits = p.memoryBusWidth;
    f->props.clock_khz = attribute(cudaDevAttrClockRate, ordinal);
    f->props.mem_clock_khz = attribute(cudaDevAttrMemoryClockRate, ordinal);
    if (cudaDeviceGetPCIBusId(f->pci, sizeof f->pci, ordinal) != cudaSuccess) f->pci[0] = 0;
    cudaGetLastError();
    print_uuid(&p, f->uuid);
    judge(f);
    return BT_OK;
}

bt_status bt_cuda_probe(bt_cuda_found found[BT_CUDA_DEVICES_MAX], int32_t *n, bt_err *err)
{
    int count = 0;
    *n = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0)
        return no_cuda(code == cudaSuccess ? cudaErrorNoDevice : code, err);
    for (int i = 0; i < count && i < BT_CUDA_DEVICES_MAX; i++) {
        bt_status st = describe(i, &found[i], err);
        if (st) return st;
        *n = i + 1;
    }
    return BT_OK;
}

/* "GPU-..." of a want matches by the whole name or a unique beginning; a MIG slice is visible to
 * CUDA alone where CUDA_VISIBLE_DEVICES names it, and then it is the first and only device. */
static bool matches(const bt_cuda_found *f, const char *id)
{
    char *end;
    long n = strtol(id, &end, 10);
    if (*id && *end == 0) return n == f->ordinal;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (strncmp(id, "MIG-", 4) == 0 && visible && strcmp(visible, id) == 0) return true;
    return strlen(id) >= 8 && strncmp(f->uuid, id, strlen(id)) == 0;
}

static void list_devices(const bt_cuda_found *found, int32_t n, char *dst, size_t cap)
{
    size_t len = 0;
    dst[0] = 0;
    for (int32_t i = 0; i < n && len < cap; i++)
        len += (size_t)snprintf(dst + len, cap - len, "%scuda:%d %.24s", i ? ", " : "",
                                found[i].ordinal, found[i].props.name);
}

bt_status bt_cuda_choose(const char *want, bt_cuda_found *out, bt_err *err)
{
    bt_cuda_found found[BT_CUDA_DEVICES_MAX];
    int32_t n = 0;
    const char *id = NULL;
    if (strncmp(want, "cuda:", 5) == 0)
        id = want + 5;
    else if (strcmp(want, "auto") != 0 && strcmp(want, "cuda") != 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "'%.64s' is not a CUDA device; use cuda:N or cuda:UUID", want);
    /* CUDA shows a MIG slice only to a process that asks for it before its first call. */
    if (id && strncmp(id, "MIG-", 4) == 0) setenv("CUDA_VISIBLE_DEVICES", id, 1);
    bt_status st = bt_cuda_probe(found, &n, err);
    if (st) return st;
    const bt_cuda_found *unusable = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (id && !matches(&found[i], id)) continue;
        if (found[i].usable) {
            *out = found[i];
            return BT_OK;
        }
        unusable = &found[i];
    }
    if (unusable)
        return bt_err_set(err, BT_ENODEVICE, 0, "cuda:%d %s cannot be used: %.150s",
                          unusable->ordinal, unusable->props.name, unusable->why_not);
    char list[128];
    list_devices(found, n, list, sizeof list);
    return bt_err_set(err, BT_ENODEVICE, 0, "there is no CUDA device '%.48s'; there are: %s",
                      id ? id : want, list);
}

bt_status bt_cuda_free_bytes(int32_t ordinal, uint64_t *free_bytes, uint64_t *total_bytes,
                             bt_err *err)
{
    size_t f = 0, t = 0;
    cudaError_t code = cudaSetDevice(ordinal);
    if (code == cudaSuccess) code = cudaMemGetInfo(&f, &t);
    if (code == cudaErrorDevicesUnavailable || code == cudaErrorDeviceAlreadyInUse) {
        cudaGetLastError();
        return bt_err_set(
            err, BT_EBUSY, (int32_t)code,
            "cuda:%d is in use by another process in exclusive mode; end that process "
            "or choose another device",
            ordinal);
    }
    if (code != cudaSuccess) return bt__cuda_status(code, "opening the CUDA device", err);
    *free_bytes = f;
    *total_bytes = t;
    return BT_OK;
}
