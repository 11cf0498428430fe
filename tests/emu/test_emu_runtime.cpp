/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* The emulated runtime: streams run late and in any legal order, graphs, the driver's addresses and
 * chunks, errors that stay, calls that fail, leaks. */
#include "emu_test.h"
#include "kernels/cuda_kernel.h"
#include <cuda.h>

enum { N = 64 };
static const dim3 one(1);

static __global__ void add_k(int *x, int v)
{
    x[threadIdx.x] += v;
}
static __global__ void scale_k(const int *x, int *y, int v)
{
    y[threadIdx.x] = x[threadIdx.x] * v;
}

struct streams {
    cudaStream_t a, b;
    cudaEvent_t e;
    int *x, *y;
};

static streams open_streams(void)
{
    streams s;
    CHECK_CUDA(cudaStreamCreateWithFlags(&s.a, cudaStreamNonBlocking));
    CHECK_CUDA(cudaStreamCreateWithFlags(&s.b, cudaStreamNonBlocking));
    CHECK_CUDA(cudaEventCreateWithFlags(&s.e, cudaEventDisableTiming));
    s.x = (int *)cuda_new(N * sizeof(int));
    s.y = (int *)cuda_new(N * sizeof(int));
    CHECK_CUDA(cudaMemset(s.x, 0, N * sizeof(int)));
    CHECK_CUDA(cudaMemset(s.y, 0, N * sizeof(int)));
    CHECK_CUDA(cudaDeviceSynchronize());
    return s;
}

static void close_streams(const streams *s)
{
    CHECK_CUDA(cudaStreamDestroy(s->a));
    CHECK_CUDA(cudaStreamDestroy(s->b));
    CHECK_CUDA(cudaEventDestroy(s->e));
    cuda_clear();
}

/* x += 5 in stream a, y = x * 2 in stream b, with or without the event between them. */
static int through_two_streams(bool with_event)
{
    streams s = open_streams();
    int y[N];
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s.a, s.x, 5));
    CHECK_CUDA(cudaEventRecord(s.e, s.a));
    if (with_event) CHECK_CUDA(cudaStreamWaitEvent(s.b, s.e, 0));
    CHECK_CUDA(bt_launch(scale_k, one, dim3(N), 0, s.b, (const int *)s.x, s.y, 2));
    CHECK_CUDA(cudaStreamSynchronize(s.b));
    cuda_get(y, s.y, sizeof y);
    close_streams(&s);
    return y[N - 1];
}

static void a_missing_event_shows(void)
{
    int wrong = 0;
    for (int i = 0; cuda_order_next(&i);) {
        CHECK_INT(through_two_streams(true), 10);
        wrong += through_two_streams(false) != 10;
    }
    CHECK(wrong > 0 && wrong < 20); // both orders are legal, both come
}

static void an_early_overwrite_shows(void)
{
    int wrong = 0;
    for (int i = 0; cuda_order_next(&i);) {
        streams s = open_streams();
        int y[N];
        CHECK_CUDA(bt_launch(scale_k, one, dim3(N), 0, s.a, (const int *)s.x, s.y, 2));
        CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s.b, s.x,
                             5)); // should wait for the reader
        CHECK_CUDA(cudaStreamSynchronize(s.a));
        cuda_get(y, s.y, sizeof y);
        wrong += y[0] != 0;
        close_streams(&s);
    }
    CHECK(wrong > 0 && wrong < 20);
}

static void the_legacy_stream_orders_blocking_ones(void)
{
    for (int i = 0; cuda_order_next(&i);) {
        cudaStream_t a, b;
        int y[N], *x = (int *)cuda_new(sizeof y), *dy = (int *)cuda_new(sizeof y);
        CHECK_CUDA(cudaStreamCreate(&a));
        CHECK_CUDA(cudaStreamCreate(&b));
        CHECK_CUDA(cudaMemsetAsync(x, 0, sizeof y, a));
        CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, x, 3)); // after a
        CHECK_CUDA(bt_launch(scale_k, one, dim3(N), 0, b, (const int *)x, dy,
                             7));  // after legacy
        cuda_get(y, dy, sizeof y); // after all
        CHECK_INT(y[5], 21);
        CHECK_CUDA(cudaStreamDestroy(a));
        CHECK_CUDA(cudaStreamDestroy(b));
        cuda_clear();
    }
}

static void pinned_results_come_at_the_wait(void)
{
    streams s = open_streams();
    int *host;
    CHECK_CUDA(cudaMallocHost((void **)&host, N * sizeof(int)));
    for (int i = 0; i < N; i++) host[i] = i;
    CHECK_CUDA(cudaMemcpyAsync(s.x, host, N * sizeof(int), cudaMemcpyHostToDevice, s.a));
    CHECK_CUDA(cudaStreamSynchronize(s.a));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s.a, s.x, 5));
    CHECK_CUDA(cudaMemcpyAsync(host, s.x, N * sizeof(int), cudaMemcpyDeviceToHost, s.a));
    CHECK_CUDA(cudaEventRecord(s.e, s.a));
    CHECK_INT(host[3], 0x7fff7fff); // too early
    CHECK_INT(cudaEventQuery(s.e), cudaErrorNotReady);
    CHECK_CUDA(cudaEventQuery(s.e));
    CHECK_INT(host[3], 8);
    for (int i = 0; i < N; i++) host[i] = -1; // an upload reads its source late, too
    CHECK_CUDA(cudaMemcpyAsync(s.y, host, N * sizeof(int), cudaMemcpyHostToDevice, s.a));
    host[3] = 77;
    CHECK_CUDA(cudaStreamSynchronize(s.a));
    int y[N];
    cuda_get(y, s.y, sizeof y);
    CHECK_INT(y[3], 77);
    CHECK_CUDA(cudaFreeHost(host));
    close_streams(&s);
}

static void on_host(void *user)
{
    int *n = (int *)user, count;
    CHECK_INT(cudaGetDeviceCount(&count), cudaErrorNotPermitted);
    *n = *n * 10 + 1;
}

static void host_functions_run_in_order(void)
{
    streams s = open_streams();
    int n = 2;
    CHECK_CUDA(cudaLaunchHostFunc(s.a, on_host, &n));
    CHECK_CUDA(cudaLaunchHostFunc(s.a, on_host, &n));
    CHECK_INT(n, 2);
    CHECK_CUDA(cudaStreamSynchronize(s.a));
    CHECK_INT(n, 211);
    (void)cudaGetLastError();
    close_streams(&s);
}

static void events_tell_the_device_time(void)
{
    cudaEvent_t a, b, c;
    float small = 0, large = 0;
    int *x = (int *)cuda_new(1024 * sizeof(int));
    CHECK_CUDA(cudaMemset(x, 0, 1024 * sizeof(int)));
    CHECK_CUDA(cudaEventCreate(&a));
    CHECK_CUDA(cudaEventCreate(&b));
    CHECK_CUDA(cudaEventCreate(&c));
    CHECK_INT(cudaEventElapsedTime(&small, a, b), cudaErrorInvalidResourceHandle);
    CHECK_CUDA(cudaEventRecord(a, nullptr));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, x, 1));
    CHECK_CUDA(cudaEventRecord(b, nullptr));
    for (int i = 0; i < 30; i++) CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, x, 1));
    CHECK_CUDA(cudaEventRecord(c, nullptr));
    CHECK_INT(cudaEventElapsedTime(&large, a, c), cudaErrorNotReady);
    CHECK_CUDA(cudaEventSynchronize(c));
    CHECK_CUDA(cudaEventElapsedTime(&small, a, b));
    CHECK_CUDA(cudaEventElapsedTime(&large, b, c));
    CHECK(small > 0);
    CHECK_NEAR(large / small, 30, 0.01);
    CHECK_CUDA(cudaEventDestroy(a));
    CHECK_CUDA(cudaEventDestroy(b));
    CHECK_CUDA(cudaEventDestroy(c));
    cuda_clear();
}

/* ---- Graphs. */

static cudaGraph_t captured(const streams *s, int add)
{
    cudaGraph_t g = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(s->a, cudaStreamCaptureModeThreadLocal));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s->a, s->x, add));
    CHECK_CUDA(cudaEventRecord(s->e, s->a));
    CHECK_CUDA(cudaStreamWaitEvent(s->b, s->e, 0)); // b joins
    CHECK_CUDA(bt_launch(scale_k, one, dim3(N), 0, s->b, (const int *)s->x, s->y, 2));
    CHECK_CUDA(cudaEventRecord(s->e, s->b));
    CHECK_CUDA(cudaStreamWaitEvent(s->a, s->e, 0));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s->a, s->y, 1));
    CHECK_CUDA(cudaStreamEndCapture(s->a, &g));
    return g;
}

static void graphs_replay_and_update(void)
{
    for (int i = 0; cuda_order_next(&i);) {
        streams s = open_streams();
        int y[N];
        cudaGraph_t g = captured(&s, 5), h = captured(&s, 100);
        cudaGraphExec_t exec;
        cudaGraphExecUpdateResultInfo info;
        CHECK_CUDA(cudaGraphInstantiate(&exec, g, 0));
        cuda_get(y, s.y, sizeof y);
        CHECK_INT(y[0], 0); // capturing ran nothing
        CHECK_CUDA(cudaGraphLaunch(exec, s.a));
        CHECK_CUDA(cudaGraphLaunch(exec, s.a));
        CHECK_CUDA(cudaGraphExecUpdate(exec, h, &info)); // the launches before keep their numbers
        CHECK_CUDA(cudaStreamSynchronize(s.a));
        cuda_get(y, s.y, sizeof y);
        CHECK_INT(y[9], 21);
        CHECK_CUDA(cudaGraphLaunch(exec, s.a));
        CHECK_CUDA(cudaGraphDestroy(g));
        CHECK_CUDA(cudaGraphDestroy(h));
        CHECK_CUDA(cudaStreamSynchronize(s.a));
        cuda_get(y, s.y, sizeof y);
        CHECK_INT(y[9], 221);
        CHECK_CUDA(cudaGraphExecDestroy(exec));
        close_streams(&s);
    }
}

static void captures_end_when_they_must(void)
{
    streams s = open_streams();
    cudaGraph_t g = nullptr;
    void *p;
    CHECK_CUDA(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeGlobal));
    CHECK_INT(cudaStreamSynchronize(s.a), cudaErrorStreamCaptureUnsupported);
    CHECK_INT(cudaStreamEndCapture(s.a, &g), cudaErrorStreamCaptureInvalidated);
    CHECK_CUDA(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeGlobal));
    CHECK_INT(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported);
    CHECK_INT(cudaStreamEndCapture(s.a, &g), cudaErrorStreamCaptureInvalidated);
    CHECK_CUDA(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeRelaxed));
    CHECK_CUDA(cudaEventRecord(s.e, s.a));
    CHECK_CUDA(cudaStreamWaitEvent(s.b, s.e, 0));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s.b, s.x, 1)); // b never comes back
    CHECK_INT(cudaStreamEndCapture(s.a, &g), cudaErrorStreamCaptureUnjoined);
    CHECK(g == nullptr);
    CHECK_INT(cudaStreamEndCapture(s.a, &g), cudaErrorIllegalState);
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, s.b, s.x,
                         1)); // b is an ordinary stream again
    CHECK_CUDA(cudaStreamSynchronize(s.b));
    (void)cudaGetLastError();
    close_streams(&s);
}

/* ---- The driver's memory. */

template <class F> static F *driver(const char *name)
{
    void *p = nullptr;
    enum cudaDriverEntryPointQueryResult found;
    REQUIRE_CUDA(cudaGetDriverEntryPointByVersion(name, &p, 12000, cudaEnableDefault, &found));
    REQUIRE(p && found == cudaDriverEntryPointSuccess);
    return reinterpret_cast<F *>(p);
}

static CUdeviceptr reserved;
static CUmemGenericAllocationHandle chunk;
static size_t granularity;
static CUmemAllocationProp prop;
static CUmemAccessDesc both_ways;

static void reserve_and_map(size_t chunks)
{
    memset(&prop, 0, sizeof prop);
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    both_ways.location = prop.location;
    both_ways.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    CHECK_INT(driver<decltype(cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity")(
                  &granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
              0);
    CHECK_INT(driver<decltype(cuMemAddressReserve)>("cuMemAddressReserve")(
                  &reserved, 8 * granularity, 0, 0, 0),
              0);
    CHECK_INT(driver<decltype(cuMemCreate)>("cuMemCreate")(&chunk, chunks * granularity, &prop, 0),
              0);
    CHECK_INT(driver<decltype(cuMemMap)>("cuMemMap")(reserved, chunks * granularity, 0, chunk, 0),
              0);
}

static void unmap_and_release(size_t chunks)
{
    CHECK_INT(driver<decltype(cuMemUnmap)>("cuMemUnmap")(reserved, chunks * granularity), 0);
    CHECK_INT(driver<decltype(cuMemRelease)>("cuMemRelease")(chunk), 0);
}

static void physical_memory_comes_and_goes(void)
{
    size_t free_before, free_now, total;
    CHECK_CUDA(cudaMemGetInfo(&free_before, &total));
    reserve_and_map(3);
    int *p = (int *)(uintptr_t)reserved, back[N];
    CHECK_CUDA(cudaMemGetInfo(&free_now, &total));
    CHECK_INT(free_before - free_now, 3 * granularity);
    CHECK_INT(cudaMemset(p, 0, 64),
              cudaErrorInvalidValue); // mapped, but without access yet
    CHECK_INT(driver<decltype(cuMemSetAccess)>("cuMemSetAccess")(reserved, 3 * granularity,
                                                                 &both_ways, 1),
              0);
    CHECK_CUDA(cudaMemset(p, 0, 3 * granularity));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, p, 9));
    cuda_get(back, p, sizeof back);
    CHECK_INT(back[N - 1], 9);
    unmap_and_release(3);
    CHECK_CUDA(cudaMemGetInfo(&free_now, &total));
    CHECK_INT(free_now, free_before);
    CHECK_INT(driver<decltype(cuMemCreate)>("cuMemCreate")(&chunk, granularity, &prop, 0), 0);
    CHECK_INT(driver<decltype(cuMemMap)>("cuMemMap")(reserved, granularity, 0, chunk, 0), 0);
    CHECK_INT(
        driver<decltype(cuMemMap)>("cuMemMap")(reserved + granularity, granularity, 0, chunk, 0),
        CUDA_ERROR_NOT_SUPPORTED);
    CHECK_INT(
        driver<decltype(cuMemSetAccess)>("cuMemSetAccess")(reserved, granularity, &both_ways, 1),
        0);
    cuda_get(back, p, sizeof back);
    CHECK_INT(back[0], 0x7fff7fff); // new memory at the old address
    CHECK_INT(driver<decltype(cuMemAddressFree)>("cuMemAddressFree")(reserved, 8 * granularity),
              CUDA_ERROR_INVALID_VALUE);
    unmap_and_release(1);
    CHECK_INT(driver<decltype(cuMemAddressFree)>("cuMemAddressFree")(reserved, 8 * granularity), 0);
    CHECK_INT(driver<decltype(cuMemCreate)>("cuMemCreate")(
                  &chunk, total / granularity * granularity + granularity, &prop, 0),
              CUDA_ERROR_OUT_OF_MEMORY);
    (void)cudaGetLastError();
    CHECK_INT(bt_emu_alive(true), 0);
}

static void work_on_unmapped_memory(void)
{
    reserve_and_map(1);
    CHECK_INT(
        driver<decltype(cuMemSetAccess)>("cuMemSetAccess")(reserved, granularity, &both_ways, 1),
        0);
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, (int *)(uintptr_t)reserved, 9));
    unmap_and_release(1); // the kernel has not run yet
}

/* ---- Errors. */

static void memory_is_counted(void)
{
    size_t before, after, total;
    void *p[3], *too_much;
    CHECK_CUDA(cudaMemGetInfo(&before, &total));
    for (int i = 0; i < 3; i++) CHECK_CUDA(cudaMalloc(&p[i], 1000));
    CHECK_CUDA(cudaMemGetInfo(&after, &total));
    CHECK_INT(before - after, 3 * 1024);
    CHECK_INT(bt_emu_used_bytes(), total - after);
    CHECK_INT(cudaMalloc(&too_much, total), cudaErrorMemoryAllocation);
    CHECK_INT(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    CHECK_INT(cudaGetLastError(), cudaErrorMemoryAllocation);
    CHECK_CUDA(cudaGetLastError());
    for (int i = 0; i < 3; i++) CHECK_CUDA(cudaFree(p[i]));
    CHECK_INT(cudaFree(p[0]), cudaErrorInvalidValue); // twice
    CHECK_CUDA(cudaFree(nullptr));
    CHECK_CUDA(cudaMemGetInfo(&after, &total));
    CHECK_INT(after, before);
    (void)cudaGetLastError();
}

static void copies_are_checked(void)
{
    char host[64], *d = (char *)cuda_new(64);
    CHECK_INT(cudaMemcpy(d, host, 65, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK_INT(cudaMemcpy(d + 60, host, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK_INT(cudaMemcpy(d, host, 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    CHECK_INT(cudaMemset(host, 0, 8), cudaErrorInvalidValue);
    CHECK_INT(cudaMemcpy(d, host, 64, (enum cudaMemcpyKind)7), cudaErrorInvalidValue);
    CHECK_CUDA(cudaMemcpy(d, host, 64, cudaMemcpyDefault));
    (void)cudaGetLastError();
    cuda_clear();
}

static void a_fault_stays(void)
{
    bt_emu_reset();
    int *x, *y, back[N], n;
    REQUIRE_CUDA(cudaMalloc((void **)&x, sizeof back));
    bt_emu_fault_at(2);
    CHECK_CUDA(cudaMemset(x, 0, sizeof back));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, x, 1));
    CHECK_CUDA(bt_launch(add_k, one, dim3(N), 0, nullptr, x,
                         1)); // launched, not yet run
    CHECK_INT(cudaMemcpy(back, x, sizeof back, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    CHECK_INT(cudaMalloc((void **)&y, 16), cudaErrorIllegalAddress);
    CHECK_INT(bt_launch(add_k, one, dim3(N), 0, nullptr, x, 1), cudaErrorIllegalAddress);
    CHECK_INT(cudaGetLastError(), cudaErrorIllegalAddress);
    CHECK_INT(cudaGetLastError(), cudaErrorIllegalAddress); // cannot be cleared
    CHECK_INT(cudaDeviceReset(), cudaErrorIllegalAddress);
    CHECK_INT(cudaGetDeviceCount(&n), cudaErrorIllegalAddress);
    CHECK_STR(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
    CHECK_STR(cudaGetErrorString(cudaErrorIllegalAddress),
              "an illegal memory access was encountered");
    bt_emu_reset();
    CHECK_CUDA(cudaGetDeviceCount(&n));
    bt_emu_lose_device();
    CHECK_INT(cudaDeviceSynchronize(), cudaErrorDevicesUnavailable);
    bt_emu_reset();
    check_faults(work_on_unmapped_memory, cudaErrorIllegalAddress, "unmapped");
}

/* A small program whose every call is checked and whose every resource is released. */
static cudaError_t small_program(int *result)
{
    int *x = nullptr, *host = nullptr;
    cudaStream_t s = nullptr;
    cudaError_t e = cudaMalloc((void **)&x, N * sizeof(int)), f;
    if (!e) e = cudaMallocHost((void **)&host, N * sizeof(int));
    if (!e) e = cudaStreamCreate(&s);
    if (!e) e = cudaMemsetAsync(x, 0, N * sizeof(int), s);
    if (!e) e = bt_launch(add_k, one, dim3(N), 0, s, x, 4);
    if (!e) e = cudaMemcpyAsync(host, x, N * sizeof(int), cudaMemcpyDeviceToHost, s);
    if (!e) e = cudaStreamSynchronize(s);
    if (!e) *result = host[7];
    f = s ? cudaStreamDestroy(s) : cudaSuccess;
    if (!e) e = f;
    f = cudaFreeHost(host);
    if (!e) e = f;
    f = cudaFree(x);
    return e ? e : f;
}

static void every_call_can_fail(void)
{
    bt_emu_reset();
    int n = 1, result = 0;
    for (;; n++) {
        bt_emu_fail_at(n);
        cudaError_t e = small_program(&result);
        if (!bt_emu_failed()) {
            CHECK_CUDA(e);
            break;
        }
        CHECK(e != cudaSuccess);
        CHECK(*bt_emu_failed_call());
        CHECK_INT(bt_emu_alive(true), 0);
        (void)cudaGetLastError();
    }
    CHECK_INT(n, 11); // ten calls
    CHECK_INT(result, 4);
    bt_emu_fail_at(0);
}

static void leaky(void)
{
    cudaStream_t s;
    REQUIRE_CUDA(cudaStreamCreate(&s));
    (void)cuda_new(1000);
}
static void tidy(void)
{
    (void)cuda_new(1000);
    cuda_clear();
}

static void leaks_fail_the_process(void)
{
    int status;
    check_dies(leaky, "device memory: 1000 bytes");
    check_dies(leaky, "stream");
    CHECK_STR(said_by_child(tidy, &status), "");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void no_device(void)
{
    int n = 5;
    setenv("BT_EMU_DEVICES", "0", 1);
    bt_emu_reset();
    CHECK_INT(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    CHECK_INT(n, 0);
    unsetenv("BT_EMU_DEVICES");
    bt_emu_reset();
    (void)cudaGetLastError();
}

static void the_architecture_can_be_chosen(void)
{
    static const int sms[] = {75, 80, 86, 89, 90};
    for (int sm : sms) {
        struct cudaDeviceProp p;
        int major = 0, optin = 0, blocks = 0;
        bt_emu_sm(sm);
        CHECK_CUDA(cudaGetDeviceProperties(&p, 0));
        CHECK_INT(p.major * 10 + p.minor, sm);
        CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
        CHECK_CUDA(cudaDeviceGetAttribute(&optin, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
        CHECK_INT(major, sm / 10);
        CHECK_INT(optin, p.sharedMemPerBlockOptin);
        CHECK_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &blocks, reinterpret_cast<const void *>(add_k), 256, 32 << 10));
        CHECK(blocks >= 1 && blocks * 256 <= p.maxThreadsPerMultiProcessor);
    }
    bt_emu_sm(80);
}

/* ---- cuBLASLt: y[r][j] = sum_k w[j][k] x[r][k], as a column-major product. */

typedef int lt_call(...);
static lt_call *lt(const char *name)
{
    void *p = bt_emu_dlsym(name);
    REQUIRE(p);
    return reinterpret_cast<lt_call *>(p);
}

static void cublaslt_multiplies(void)
{
    enum { M = 5, R = 3, K = 8 };
    uint16_t w[M * K], x[R * K];
    float y[R * M], alpha = 1, beta = 0;
    for (int i = 0; i < M * K; i++) w[i] = __half_as_ushort(__float2half_rn((float)(i % 7 - 3)));
    for (int i = 0; i < R * K; i++) x[i] = __half_as_ushort(__float2half_rn((float)(i % 5 - 2)));
    void *dw = cuda_put(w, sizeof w), *dx = cuda_put(x, sizeof x), *dy = cuda_new(sizeof y);
    void *handle, *desc, *lw, *lx, *ly;
    int32_t transposed = 1;
    CHECK_INT(reinterpret_cast<int (*)(void **)>(lt("cublasLtCreate"))(&handle), 0);
    CHECK_INT(
        reinterpret_cast<int (*)(void **, int, int)>(lt("cublasLtMatmulDescCreate"))(&desc, 68, 0),
        0);
    CHECK_INT(reinterpret_cast<int (*)(void *, int, const void *, size_t)>(
                  lt("cublasLtMatmulDescSetAttribute"))(desc, 3, &transposed, sizeof transposed),
              0);
    auto layout = reinterpret_cast<int (*)(void **, int, uint64_t, uint64_t, int64_t)>(
        lt("cublasLtMatrixLayoutCreate"));
    CHECK_INT(layout(&lw, 2, K, M, K), 0);
    CHECK_INT(layout(&lx, 2, K, R, K), 0);
    CHECK_INT(layout(&ly, 0, M, R, M), 0);
    auto matmul =
        reinterpret_cast<int (*)(void *, void *, const float *, const void *, void *, const void *,
                                 void *, const float *, const void *, void *, void *, void *,
                                 const void *, void *, size_t, cudaStream_t)>(lt("cublasLtMatmul"));
    CHECK_INT(matmul(handle, desc, &alpha, dw, lw, dx, lx, &beta, dy, ly, dy, ly, nullptr, nullptr,
                     0, nullptr),
              0);
    cuda_get(y, dy, sizeof y);
    for (int r = 0; r < R; r++)
        for (int j = 0; j < M; j++) {
            int want = 0;
            for (int k = 0; k < K; k++) want += ((j * K + k) % 7 - 3) * ((r * K + k) % 5 - 2);
            CHECK_NEAR(y[r * M + j], want, 0);
        }
    auto drop = reinterpret_cast<int (*)(void *)>(lt("cublasLtMatrixLayoutDestroy"));
    CHECK_INT(drop(lw), 0);
    CHECK_INT(drop(lx), 0);
    CHECK_INT(drop(ly), 0);
    CHECK_INT(reinterpret_cast<int (*)(void *)>(lt("cublasLtMatmulDescDestroy"))(desc), 0);
    CHECK_INT(reinterpret_cast<int (*)(void *)>(lt("cublasLtDestroy"))(handle), 0);
    CHECK(bt_emu_dlsym("cublasLtNoSuchThing") == nullptr);
    cuda_clear();
}

int main(void)
{
    RUN(a_missing_event_shows);
    RUN(an_early_overwrite_shows);
    RUN(the_legacy_stream_orders_blocking_ones);
    RUN(pinned_results_come_at_the_wait);
    RUN(host_functions_run_in_order);
    RUN(events_tell_the_device_time);
    RUN(graphs_replay_and_update);
    RUN(captures_end_when_they_must);
    RUN(physical_memory_comes_and_goes);
    RUN(memory_is_counted);
    RUN(copies_are_checked);
    RUN(a_fault_stays);
    RUN(every_call_can_fail);
    RUN(leaks_fail_the_process);
    RUN(no_device);
    RUN(the_architecture_can_be_chosen);
    RUN(cublaslt_multiplies);
    return TEST_END();
}
