/* SPDX-License-Identifier: Apache-2.0 */
/* emu_internal.h - what the files of the emulated device share. Nobody else includes it.
 *
 * One lock (emu_lock) guards everything. One host thread at a time executes device work, between
 * emu_execute_begin and _end; only then is device memory open. The device allocates with plain
 * malloc: it stands for a vendor's library, whose allocations are not the program's. */
#pragma once
#include "emu.h"
#include "emu_device.h"
#include <cuda.h>
#include <pthread.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifndef EMU_ASAN
#define EMU_ASAN 0
#endif

#define EMU_POISON 0x7fff // NaN as f16, bf16 and (doubled) f32; as an index, far out of range

/* ---- emu_bug.c: broken rules */
typedef struct emu_site {
    const char *file;
    int line;
} emu_site;
/* Reports a broken rule. Ends the process, or, if bt_emu_abort_on_bug(false) and a kernel runs,
 * makes `error` sticky and leaves the kernel (does not return). */
void emu_bug(cudaError_t error, emu_site site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void emu_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool emu_bug_aborts(void);
void emu_fault_handler_install(void); // illegal addresses inside kernels come to emu_bug
void *emu_must(void *p);              // ends the process when out of host memory

/* ---- emu_fiber.c: stacks and switches */
typedef struct emu_fiber emu_fiber;
struct emu_fiber {
    void *sp;          // saved while not running
    char *stack;       // lowest usable address
    size_t stack_size; // 0: a host thread's own stack
    void *fake;        // ASan's fake stack while not running
    emu_fiber *next;   // in a list of idle ones
};
/* A fiber that calls entry() (which never returns) when first switched to. */
emu_fiber *emu_fiber_new(void (*entry)(void));
void emu_fiber_reset(emu_fiber *f,
                     void (*entry)(void)); // forgets what it was doing
void emu_fiber_switch(emu_fiber *from, emu_fiber *to);
void emu_fiber_started(void); // first thing in entry()

/* ---- emu_block.c: a kernel's threads */
enum emu_thread_state {
    EMU_NEW,
    EMU_READY,
    EMU_RUNNING,
    EMU_AT_BARRIER,
    EMU_AT_TEAM, // bt_barrier_of
    EMU_AT_WARP,
    EMU_DONE
};
typedef struct emu_copy {
    void *to;
    const void *from; // NULL: zeros
    size_t bytes;
    uint32_t group;
    uintptr_t pc;
} emu_copy;
typedef struct emu_thread {
    emu_thread_now now; // first: emu_now points at it
    uint32_t id;
    uint8_t warp, lane, state;
    emu_fiber *fiber;
    emu_site site; // of the collective it waits in
    int op, arg;
    uint32_t mask;
    uint64_t value; // in: deposited; out: result
    void *d;        // mma: accumulators; ldmatrix: results
    const uint32_t *a, *b;
    emu_copy *copies; // cp.async under way
    uint32_t n_copies, copies_max, group;
} emu_thread;
typedef struct emu_warp {
    emu_thread *lane; // 32
    uint32_t live, ready, waiting;
    uint32_t epoch;            // __syncwarps since the last barrier
    uint32_t team, team_epoch; // bt_barrier_of: the last id, how many it has passed
} emu_warp;
static inline emu_thread *emu_thread_running(void)
{
    return (emu_thread *)(uintptr_t)emu_now;
}
emu_warp *emu_warp_of(const emu_thread *t);
void emu_thread_block(int state); // the running thread waits; returns when it is ready again
void emu_lanes_ready(emu_warp *w, uint32_t mask);
bool emu_in_shared(const void *p, size_t bytes); // of the running block
bool emu_in_kernel(void);
void emu_kernel_leave(void) __attribute__((noreturn)); // gives up the whole launch
void emu_describe_thread(char *out, size_t bytes);

typedef struct emu_launch_args {
    const void *kernel;
    const emu_kernel_type *type;
    dim3 grid, block;
    size_t dynamic_bytes, shared_max;
    void **args;  // pointers into `blob`
    size_t bytes; // of blob
    int refs;
    char blob[] __attribute__((aligned(16)));
} emu_launch_args;
/* Runs a grid to its end; false: it was given up because of a fault. Returns the device time. */
bool emu_run_grid(const emu_launch_args *l, uint64_t *cost_ns);
const emu_kernel_type *emu_kernel_find(const void *kernel);
const char *emu_kernel_name(const void *kernel);
size_t emu_kernel_shared_max(const void *kernel); // the attribute, 48 KB unless raised
void emu_kernel_set_shared_max(const void *kernel, size_t bytes);

/* ---- emu_warp.c */
void emu_lane_exits(emu_warp *w, emu_thread *t);
float emu_from_f16(uint32_t h);
float emu_from_bf16(uint32_t h);

/* ---- emu_memory.c: the arena */
enum emu_space { EMU_HOST, EMU_DEVICE, EMU_PINNED };
void emu_memory_init(uint64_t total);
void emu_memory_reset(void);
void emu_memory_open(bool open); // to the host's loads and stores (kernels run on the host)
void *emu_memory_alloc(size_t bytes);
bool emu_memory_free(void *p);
uint64_t emu_memory_used(void);
uint64_t emu_memory_total(void);
bool emu_in_arena(const void *p);
/* NULL if [p, p + bytes) is live, accessible device memory, else what is wrong with it. */
const char *emu_memory_check(const void *p, size_t bytes);
/* What is near an address, for reports. */
void emu_memory_describe(const void *p, char *out, size_t bytes);
void *emu_pinned_alloc(size_t bytes);
bool emu_pinned_free(void *p);
cudaError_t emu_pinned_register(void *p, size_t bytes);
cudaError_t emu_pinned_unregister(void *p);
enum emu_space emu_space_of(const void *p);
bool emu_pinned_has(const void *p, size_t bytes);
int emu_memory_alive(bool tell);
void emu_poison(void *p, size_t bytes);
void emu_memory_verify(void); // the red zones still hold their poison

/* ---- emu_stream.c: queues of work */
extern pthread_mutex_t emu_lock;
typedef enum emu_op_kind {
    EMU_OP_KERNEL,
    EMU_OP_COPY,
    EMU_OP_SET,
    EMU_OP_HOST,
    EMU_OP_RECORD,
    EMU_OP_WAIT,
    EMU_OP_GRAPH,
    EMU_OP_EMPTY
} emu_op_kind;
typedef struct emu_body emu_body; // a graph's work (emu_graph.c)
typedef struct emu_work {
    emu_op_kind kind;
    emu_launch_args *launch;  // kernel
    void *to;                 // copy, set
    const void *from;         // copy
    size_t bytes;             // copy, set
    int value;                // set
    cudaHostFn_t fn;          // host
    void *user;               // host
    struct CUevent_st *event; // record, wait
    uint64_t version;         // record, wait: which record of the event
    emu_body *body;           // graph
} emu_work;
typedef struct emu_queued {
    emu_work work;
    uint64_t seq;
    struct emu_queued *next;
} emu_queued;
struct CUstream_st {
    struct CUstream_st *next;
    emu_queued *head, *tail;
    bool non_blocking, legacy;
    int priority;
    uint64_t id, done_seq;
    /* capture */
    struct CUgraph_st *capture; // NULL: none
    bool capture_origin, capture_broken;
    enum cudaStreamCaptureMode capture_mode;
    pthread_t capture_thread;
    int *tips; // nodes the next one depends on
    int n_tips;
};
struct CUevent_st {
    struct CUevent_st *next;
    unsigned flags;
    uint64_t asked, done; // versions: records enqueued and records executed
    uint64_t time_ns;     // of the last executed record
    int refs;
    bool destroyed;
    uint64_t id;
    /* recorded while capturing */
    struct CUgraph_st *capture;
    int *tips;
    int n_tips;
};
/* All with the lock held. */
cudaError_t emu_enqueue(struct CUstream_st *s,
                        const emu_work *work); // takes over what it refers to
void emu_work_release(emu_work *work);
bool emu_work_run(const emu_work *work); // false: a fault
void emu_drain_stream(struct CUstream_st *s);
void emu_drain_event(struct CUevent_st *e, uint64_t version);
void emu_drain_all(void);
void emu_drain_some(struct CUstream_st *s, int steps);
void emu_drain_before_legacy(void); // what a synchronous call on the legacy stream waits for
struct CUstream_st *emu_stream_check(cudaStream_t s); // NULL: not a stream
bool emu_capturing_anything(void);
void emu_streams_reset(void);
int emu_streams_alive(bool tell);
void emu_execute_begin(void);
void emu_execute_end(void);
extern uint64_t emu_clock_ns; // the device's own clock

/* ---- emu_graph.c */
int emu_graph_add(struct CUgraph_st *g, const emu_work *work, const int *deps, int n_deps);
struct CUgraph_st *emu_graph_new(void);
bool emu_graph_reaches(struct CUgraph_st *g, const int *from, int n_from, int node);
void emu_body_ref(emu_body *b);
void emu_body_unref(emu_body *b);
bool emu_body_run(emu_body *b);
int emu_graphs_alive(bool tell);
void emu_graphs_reset(void);

/* ---- emu_runtime.c: errors and settings */
typedef struct emu_settings {
    int sm, devices;
    uint64_t seed, memory;
    bool eager;
} emu_settings;
extern emu_settings emu_set;
uint64_t emu_random(void); // 0 while the seed is 0
/* Every runtime and driver call starts with it: takes the lock; an error means: do nothing else,
 * call emu_leave with it. Not for calls that release something: emu_enter_release, which returns
 * the error to give back after the work. */
cudaError_t emu_enter(const char *call);
cudaError_t emu_enter_release(const char *call, cudaError_t fallback);
cudaError_t emu_leave(cudaError_t e);
int emu_answered(const char *call); // what bt_emu_answer() has it say, or 0
void emu_sticky_set(cudaError_t e);
cudaError_t emu_sticky(void);
bool emu_kernel_should_fault(void); // counts a kernel
const struct emu_arch *emu_arch_now(void);
typedef struct emu_arch {
    int sm, n_sm, shared_per_sm, shared_optin, l2_bytes, clock_khz, mem_clock_khz, bus_bits,
        threads_per_sm, blocks_per_sm;
} emu_arch;

/* ---- emu_driver.c */
void *emu_driver_symbol(const char *name);
void emu_driver_reset(void);
int emu_driver_alive(bool tell);

/* ---- emu_cublaslt.c */
int emu_cublaslt_alive(bool tell);
void emu_cublaslt_reset(void);
