/* SPDX-License-Identifier: Apache-2.0 */
/* emu_runtime.c - the emulated runtime's frame: settings, entering and leaving a call, errors that
 * stay, calls that are made to fail, and what the device says of itself. */
#include "emu_stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

emu_settings emu_set;

static bool ready, exit_hooked;
static uint64_t random_state, calls, kernels;
static long fail_in, fault_in;
static bool failed;
static bool (*decide)(const char *what); // or NULL
static const char *failed_call = "";
static const char *answered_call; // or NULL
static cudaError_t answer, sticky;
static _Thread_local cudaError_t last_error;

static const emu_arch archs[] = {
    {75, 40, 64 << 10, 64 << 10, 4 << 20, 1590000, 5001000, 256, 1024, 16},
    {80, 108, 164 << 10, 163 << 10, 40 << 20, 1410000, 1512000, 5120, 2048, 32},
    {86, 80, 100 << 10, 99 << 10, 6 << 20, 1695000, 6251000, 384, 1536, 16},
    {89, 58, 100 << 10, 99 << 10, 48 << 20, 2040000, 6251000, 192, 1536, 24},
    {90, 132, 228 << 10, 227 << 10, 50 << 20, 1980000, 3201000, 6144, 2048, 32},
};

const emu_arch *emu_arch_now(void)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (archs[i].sm == emu_set.sm) return &archs[i];
    return &archs[1];
}

static long env_number(const char *name, long otherwise)
{
    const char *v = getenv(name);
    return v && *v ? strtol(v, NULL, 10) : otherwise;
}

static void at_exit(void)
{
    pthread_mutex_lock(&emu_lock);
    bool fine = sticky != cudaSuccess; // a process whose device failed just ends
    int alive = fine ? 0 : bt_emu_alive(false);
    if (alive) {
        emu_note("emulated device: %d things are alive at exit:\n", alive);
        bt_emu_alive(true);
        fflush(NULL);
        _exit(86);
    }
    if (!fine) emu_memory_verify();
    pthread_mutex_unlock(&emu_lock);
}

static void settings_read(void)
{
    emu_set.sm = (int)env_number("BT_EMU_SM", 80);
    if (emu_arch_now()->sm != emu_set.sm) {
        emu_note("emulated device: BT_EMU_SM=%d is none of 75, 80, 86, 89, 90\n", emu_set.sm);
        abort();
    }
    emu_set.devices = (int)env_number("BT_EMU_DEVICES", 1);
    emu_set.memory = (uint64_t)env_number("BT_EMU_MEM_MB", 512) << 20;
    emu_set.eager = env_number("BT_EMU_EAGER", 0) != 0;
    bt_emu_seed((uint64_t)env_number("BT_EMU_SEED", 0));
    fail_in = env_number("BT_EMU_FAIL_AT", 0);
    fault_in = env_number("BT_EMU_FAULT_AT", 0);
    emu_memory_init(emu_set.memory);
}

static void init(void)
{
    if (ready) return;
    ready = true;
    settings_read();
    emu_fault_handler_install();
    if (!exit_hooked) atexit(at_exit);
    exit_hooked = true;
}

void bt_emu_reset(void)
{
    pthread_mutex_lock(&emu_lock);
    init();
    emu_streams_reset();
    emu_graphs_reset();
    emu_driver_reset();
    emu_cublaslt_reset();
    emu_memory_reset();
    calls = kernels = 0;
    failed = false;
    failed_call = "";
    answered_call = NULL;
    decide = NULL;
    sticky = last_error = cudaSuccess;
    bt_emu_abort_on_bug(true);
    settings_read();
    pthread_mutex_unlock(&emu_lock);
}

void bt_emu_seed(uint64_t seed)
{
    init();
    emu_set.seed = seed;
    random_state = seed * 0x9e3779b97f4a7c15u;
}

uint64_t emu_random(void)
{
    if (!emu_set.seed) return 0;
    uint64_t z = random_state += 0x9e3779b97f4a7c15u; // splitmix64
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) | 1ull << 63;
}

void bt_emu_sm(int sm)
{
    init();
    emu_set.sm = sm;
}

void bt_emu_memory(uint64_t bytes)
{
    init();
    emu_set.memory = bytes;
    emu_memory_init(bytes);
}

void bt_emu_eager(bool eager)
{
    init();
    emu_set.eager = eager;
}

void bt_emu_fail_at(long n)
{
    init();
    fail_in = n;
    failed = false;
    failed_call = "";
}

void bt_emu_fail_if(bool (*ask)(const char *what))
{
    init();
    decide = ask;
}

bool bt_emu_failed(void)
{
    return failed;
}

const char *bt_emu_failed_call(void)
{
    return failed_call;
}

void bt_emu_answer(const char *call, int error)
{
    init();
    answered_call = call;
    answer = (cudaError_t)error;
}

void bt_emu_fault_at(long n)
{
    init();
    fault_in = n;
}

void bt_emu_lose_device(void)
{
    init();
    emu_sticky_set(cudaErrorDevicesUnavailable);
}

int bt_emu_alive(bool tell)
{
    return emu_memory_alive(tell) + emu_streams_alive(tell) + emu_graphs_alive(tell) +
           emu_driver_alive(tell) + emu_cublaslt_alive(tell);
}

uint64_t bt_emu_calls(void)
{
    return calls;
}

uint64_t bt_emu_kernels(void)
{
    return kernels;
}

uint64_t bt_emu_used_bytes(void)
{
    return emu_memory_used();
}

/* ---- Entering and leaving. */

static bool counts_as_failed(const char *call)
{
    calls++;
    bool now = fail_in > 0 && --fail_in == 0;
    if (!now && !(decide && decide(call))) return false;
    failed = true;
    failed_call = call;
    return true;
}

/* What a call that is made to fail answers. */
static cudaError_t failure_of(const char *call)
{
    if (strstr(call, "Malloc") || strstr(call, "Alloc") || strstr(call, "Register") ||
        strstr(call, "Create") || strstr(call, "Reserve") || strstr(call, "Instantiate"))
        return cudaErrorMemoryAllocation;
    return strstr(call, "Launch") ? cudaErrorLaunchOutOfResources : cudaErrorUnknown;
}

int emu_answered(const char *call)
{
    return answered_call && strcmp(call, answered_call) == 0 ? (int)answer : 0;
}

cudaError_t emu_enter(const char *call)
{
    pthread_mutex_lock(&emu_lock);
    init();
    if (emu_in_host_fn()) return cudaErrorNotPermitted;
    if (counts_as_failed(call)) return failure_of(call);
    if (emu_answered(call)) return answer;
    if (emu_set.devices <= 0) return cudaErrorNoDevice;
    return sticky;
}

cudaError_t emu_enter_release(const char *call, cudaError_t fallback)
{
    pthread_mutex_lock(&emu_lock);
    init();
    if (counts_as_failed(call)) return fallback;
    return sticky;
}

cudaError_t emu_leave(cudaError_t e)
{
    if (sticky) e = sticky;
    if (e) last_error = e;
    pthread_mutex_unlock(&emu_lock);
    return e;
}

void emu_sticky_set(cudaError_t e)
{
    if (!sticky) sticky = e;
}

cudaError_t emu_sticky(void)
{
    return sticky;
}

bool emu_kernel_should_fault(void)
{
    kernels++;
    return (fault_in > 0 && --fault_in == 0) || (decide && decide("kernel"));
}

/* ---- Errors. */

#define ERRORS(X)                                                                                  \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInitializationError, "initialization error")                                        \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                        \
    X(cudaErrorSystemNotReady, "system not yet initialized")                                       \
    X(cudaErrorSystemDriverMismatch, "system has unsupported display driver / cuda driver "        \
                                     "combination")                                                \
    X(cudaErrorUnsupportedPtxVersion, "the provided PTX was compiled with an unsupported "         \
                                      "toolchain")                                                 \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable")            \
    X(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered")                            \
    X(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device") \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorMisalignedAddress, "misaligned address")                                            \
    X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                    \
    X(cudaErrorLaunchTimeout, "the launch timed out and was terminated")                           \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorHostMemoryAlreadyRegistered, "part or all of the memory is already registered")     \
    X(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory")      \
    X(cudaErrorNotPermitted, "operation not permitted")                                            \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated,                                                           \
      "operation failed due to a previous error during capture")                                   \
    X(cudaErrorStreamCaptureMerge, "operation would result in a merge of two captures")            \
    X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")     \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency crosses the capture's boundary")                \
    X(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream "                    \
                                      "depend on a capturing blocking stream")                     \
    X(cudaErrorStreamCaptureWrongThread, "attempt to end a capture from a different thread")       \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capture")    \
    X(cudaErrorGraphExecUpdateFailure, "the graph update was not performed")                       \
    X(cudaErrorUnknown, "unknown error")

const char *cudaGetErrorName(cudaError_t e)
{
#define NAME(id, text)                                                                             \
    case id: return #id;
    switch (e) {
        ERRORS(NAME)
    default: return "unrecognized error code";
    }
#undef NAME
}

const char *cudaGetErrorString(cudaError_t e)
{
#define TEXT(id, text)                                                                             \
    case id: return text;
    switch (e) {
        ERRORS(TEXT)
    default: return "unrecognized error code";
    }
#undef TEXT
}

cudaError_t cudaGetLastError(void)
{
    pthread_mutex_lock(&emu_lock);
    cudaError_t e = sticky ? sticky : last_error;
    last_error = cudaSuccess;
    pthread_mutex_unlock(&emu_lock);
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return sticky ? sticky : last_error;
}

/* ---- The device. */

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t e = emu_enter(__func__);
    if (count) *count = e ? 0 : emu_set.devices;
    return emu_leave(e);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (device < 0 || device >= emu_set.devices)) e = cudaErrorInvalidDevice;
    return emu_leave(e);
}

cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags)
{
    (void)device_flags, (void)flags;
    return cudaSetDevice(device);
}

cudaError_t cudaGetDevice(int *device)
{
    cudaError_t e = emu_enter(__func__);
    if (!e) *device = 0;
    return emu_leave(e);
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
    (void)flags;
    return emu_leave(emu_enter(__func__));
}

cudaError_t cudaDeviceSetLimit(enum cudaLimit limit, size_t value)
{
    (void)limit, (void)value;
    return emu_leave(emu_enter(__func__));
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    if (version) *version = CUDART_VERSION;
    return version ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    if (version) *version = CUDART_VERSION;
    return version ? cudaSuccess : cudaErrorInvalidValue;
}

static const unsigned char uuid[16] = "baton-emulated-0";

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && !p) e = cudaErrorInvalidValue;
    if (!e && (device < 0 || device >= emu_set.devices)) e = cudaErrorInvalidDevice;
    if (e) return emu_leave(e);
    const emu_arch *a = emu_arch_now();
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Emulated device (sm_%d)", a->sm);
    memcpy(p->uuid.bytes, uuid, sizeof uuid);
    p->totalGlobalMem = emu_memory_total();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = (size_t)a->shared_optin;
    p->sharedMemPerMultiprocessor = (size_t)a->shared_per_sm;
    p->reservedSharedMemPerBlock = a->sm >= 80 ? 1024 : 0;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsPerMultiProcessor = a->threads_per_sm;
    p->maxBlocksPerMultiProcessor = a->blocks_per_sm;
    p->major = a->sm / 10;
    p->minor = a->sm % 10;
    p->multiProcessorCount = a->n_sm;
    p->l2CacheSize = a->l2_bytes;
    p->memoryBusWidth = a->bus_bits;
    p->totalConstMem = 64 << 10;
    p->unifiedAddressing = p->canMapHostMemory = p->concurrentKernels = 1;
    p->asyncEngineCount = 2;
    p->pciDomainID = 0;
    p->pciBusID = 0xe0;
    p->pciDeviceID = 0;
    return emu_leave(e);
}

static bool attribute(const emu_arch *a, enum cudaDeviceAttr attr, int *v)
{
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: *v = 1024; break;
    case cudaDevAttrMaxBlockDimZ: *v = 64; break;
    case cudaDevAttrMaxGridDimX: *v = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *v = 65535; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 48 << 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = a->shared_optin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = a->shared_per_sm; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *v = a->sm >= 80 ? 1024 : 0; break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: *v = 65536; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMultiProcessorCount: *v = a->n_sm; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = a->threads_per_sm; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *v = a->blocks_per_sm; break;
    case cudaDevAttrL2CacheSize: *v = a->l2_bytes; break;
    case cudaDevAttrClockRate: *v = a->clock_khz; break;
    case cudaDevAttrMemoryClockRate: *v = a->mem_clock_khz; break;
    case cudaDevAttrGlobalMemoryBusWidth: *v = a->bus_bits; break;
    case cudaDevAttrComputeCapabilityMajor: *v = a->sm / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *v = a->sm % 10; break;
    case cudaDevAttrAsyncEngineCount: *v = 2; break;
    case cudaDevAttrComputeMode: *v = cudaComputeModeDefault; break;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrMemoryPoolsSupported: *v = 1; break;
    case cudaDevAttrPciBusId: *v = 0xe0; break;
    default: *v = 0; break;
    }
    return true;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && !value) e = cudaErrorInvalidValue;
    if (!e && (device < 0 || device >= emu_set.devices)) e = cudaErrorInvalidDevice;
    if (!e && !attribute(emu_arch_now(), attr, value)) e = cudaErrorInvalidValue;
    return emu_leave(e);
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (!id || bytes < 13)) e = cudaErrorInvalidValue;
    if (!e && (device < 0 || device >= emu_set.devices)) e = cudaErrorInvalidDevice;
    if (!e) snprintf(id, (size_t)bytes, "0000:E%d:00.0", device % 10);
    return emu_leave(e);
}

cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *id)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && (!device || !id)) e = cudaErrorInvalidValue;
    if (!e && strcmp(id, "0000:E0:00.0") != 0) e = cudaErrorInvalidDevice;
    if (!e) *device = 0;
    return emu_leave(e);
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    (void)device, (void)peer;
    cudaError_t e = emu_enter(__func__);
    if (!e) *can = 0;
    return emu_leave(e);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && least) *least = 0;
    if (!e && greatest) *greatest = -5;
    return emu_leave(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t e = emu_enter(__func__);
    if (!e) e = emu_unsafe_while_capturing();
    if (!e) emu_drain_all();
    return emu_leave(e);
}

cudaError_t cudaDeviceReset(void)
{
    cudaError_t e = emu_enter_release(__func__, cudaErrorUnknown);
    emu_streams_reset();
    emu_graphs_reset();
    emu_driver_reset();
    emu_memory_reset();
    return emu_leave(e);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    cudaError_t e = emu_enter(__func__);
    if (!e && free_bytes) *free_bytes = emu_memory_total() - emu_memory_used();
    if (!e && total_bytes) *total_bytes = emu_memory_total();
    return emu_leave(e);
}
