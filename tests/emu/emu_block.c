/* SPDX-License-Identifier: Apache-2.0 */
/* emu_block.c - runs a grid: blocks one after another, a block's threads as fibers.
 *
 * ORDER    A thread runs until it finishes or waits; then one that is ready goes on. Which one, the
 *          seed decides (policy), and also the order of blocks. A kernel that gives the same result
 *          under many seeds lacks no barrier that these orders could miss.
 * STACKS   Only a waiting thread keeps a stack: threads that never wait all run on one.
 * BARRIER  Complete when all threads that have not exited are there, from one place in the source.
 *          If nobody can run and somebody waits, that is reported thread by thread.
 * SHARED   Static arrays and the dynamic part lie in a window with guards and red zones, refilled
 *          with poison for every block. */
#define _GNU_SOURCE
#include "emu_race.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { THREADS_MAX = 1024, WARPS_MAX = 32, TEAMS_MAX = 16, SLOTS_MAX = 64, RED_ZONE = 32 };
enum { STATIC_BYTES = 128 * 1024, DYNAMIC_BYTES = 256 * 1024, PAGE = 4096 };
enum pick_policy { PICK_LOW, PICK_HIGH, PICK_RANDOM };

typedef struct shared_slot {
    const void *slot;
    const char *name;
    char *base;
    size_t bytes;
} shared_slot;

/* A barrier of some warps: the lanes that wait in it. */
typedef struct team_barrier {
    emu_site site;
    uint32_t want, came, lanes[WARPS_MAX];
} team_barrier;

static struct {
    const emu_launch_args *l;
    emu_thread threads[THREADS_MAX];
    emu_warp warps[WARPS_MAX];
    uint32_t n_threads, n_warps, live, arrived, ready_warps, epoch;
    int warp_now;
    emu_fiber host, *idle, *current;
    bool running, faulted;
    enum pick_policy lane_pick, warp_pick;
    bool roam; // leave a warp whenever one of its threads waits
    uint64_t rng, work;
    uint32_t yields;
    /* the barrier */
    emu_site barrier_site;
    int barrier_op, barrier_sum, barrier_result;
    team_barrier teams[TEAMS_MAX];
    /* shared memory */
    char *statics, *dynamic_end;
    size_t static_used;
    shared_slot slots[SLOTS_MAX];
    int n_slots;
} k;

const emu_thread_now *emu_now;
emu_launch_now emu_launch;

static uint64_t draw(void)
{
    k.rng ^= k.rng << 13;
    k.rng ^= k.rng >> 7;
    k.rng ^= k.rng << 17;
    return k.rng;
}

static int pick_bit(uint32_t mask, enum pick_policy how)
{
    if (how == PICK_LOW) return __builtin_ctz(mask);
    if (how == PICK_HIGH) return 31 - __builtin_clz(mask);
    int n = (int)(draw() % (uint64_t)__builtin_popcount(mask));
    while (n--) mask &= mask - 1;
    return __builtin_ctz(mask);
}

/* Takes a ready thread off the lists; NULL: there is none. */
static emu_thread *pick(void)
{
    if (!k.ready_warps) return NULL;
    if (k.roam || !(k.ready_warps >> k.warp_now & 1))
        k.warp_now = pick_bit(k.ready_warps, k.warp_pick);
    emu_warp *w = &k.warps[k.warp_now];
    int lane = pick_bit(w->ready, k.lane_pick);
    w->ready &= ~(1u << lane);
    if (!w->ready) k.ready_warps &= ~(1u << k.warp_now);
    return &w->lane[lane];
}

emu_warp *emu_warp_of(const emu_thread *t)
{
    return &k.warps[t->warp];
}

void emu_lanes_ready(emu_warp *w, uint32_t mask)
{
    if (!mask) return;
    w->ready |= mask;
    k.ready_warps |= 1u << (w - k.warps);
}

bool emu_in_kernel(void)
{
    return k.running;
}

void emu_describe_thread(char *out, size_t bytes)
{
    if (!k.running) {
        snprintf(out, bytes, "no kernel runs");
        return;
    }
    uint3 b = emu_launch.block, t = emu_now->idx;
    snprintf(out, bytes,
             "kernel %s, block (%u,%u,%u) of (%u,%u,%u), thread (%u,%u,%u) of (%u,%u,%u)",
             emu_kernel_name(k.l->kernel), b.x, b.y, b.z, emu_launch.grid_dim.x,
             emu_launch.grid_dim.y, emu_launch.grid_dim.z, t.x, t.y, t.z, emu_launch.block_dim.x,
             emu_launch.block_dim.y, emu_launch.block_dim.z);
}

static const char *const op_names[EMU_OPS] = {
    "__syncwarp",       "__shfl_sync",       "__shfl_up_sync",      "__shfl_down_sync",
    "__shfl_xor_sync",  "__ballot_sync",     "__any_sync",          "__all_sync",
    "__match_any_sync", "__reduce_add_sync", "__reduce_min",        "__reduce_max",
    "__reduce_min",     "__reduce_max",      "__reduce_and_sync",   "__reduce_or_sync",
    "__reduce_xor",     "bt_mma_f16",        "bt_mma_bf16",         "bt_mma_s8",
    "bt_ldmatrix_x2",   "bt_ldmatrix_x4",    "bt_ldmatrix_x4_trans"};

static bool waits(const emu_thread *t)
{
    return t->state == EMU_AT_BARRIER || t->state == EMU_AT_TEAM || t->state == EMU_AT_WARP;
}

static void deadlock(void)
{
    emu_note("threads that can never go on (%u of the block's %u have exited):\n",
             k.n_threads - k.live, k.n_threads);
    int shown = 0;
    for (uint32_t i = 0; i < k.n_threads; i++) {
        const emu_thread *t = &k.threads[i];
        const emu_thread *before = i ? t - 1 : NULL;
        if (!waits(t)) continue;
        if (before && before->state == t->state && before->site.line == t->site.line) continue;
        if (shown++ == 16) break;
        emu_note("  thread %u.. waits in %s at %s:%d\n", i,
                 t->state == EMU_AT_BARRIER ? "__syncthreads"
                 : t->state == EMU_AT_TEAM  ? "bt_barrier_of"
                                            : op_names[t->op],
                 t->site.file, t->site.line);
    }
    emu_site site = {"", 0};
    for (uint32_t i = 0; i < k.n_threads && !site.line; i++)
        if (waits(&k.threads[i])) site = k.threads[i].site;
    emu_bug(cudaErrorLaunchTimeout, site, "deadlock: not all live threads reach this collective");
}

static void fiber_main(void);

/* Goes on with thread t; the running fiber stops here until somebody switches back to it. */
static void resume(emu_thread *t)
{
    emu_fiber *from = k.current;
    if (t->state == EMU_NEW) {
        t->fiber = k.idle;
        if (t->fiber)
            k.idle = t->fiber->next;
        else
            t->fiber = emu_fiber_new(fiber_main);
    }
    t->state = EMU_RUNNING;
    emu_now = &t->now;
    k.current = t->fiber;
    emu_fiber_switch(from, t->fiber);
}

void emu_thread_block(int state)
{
    emu_thread *t = emu_thread_running();
    t->state = (uint8_t)state;
    emu_thread *next = pick();
    if (!next) deadlock();
    resume(next);
}

void emu_yield(void)
{
    if (!k.roam && ++k.yields % 64) return;
    emu_thread *t = emu_thread_running(), *next = pick();
    if (!next) return;
    t->state = EMU_READY;
    emu_lanes_ready(&k.warps[t->warp], 1u << t->lane);
    resume(next);
}

static void barrier_release(void)
{
    k.arrived = 0;
    k.barrier_result = k.barrier_op == EMU_BARRIER_AND  ? k.barrier_sum == (int)k.live
                       : k.barrier_op == EMU_BARRIER_OR ? k.barrier_sum > 0
                                                        : k.barrier_sum;
    k.barrier_sum = 0;
    k.epoch++;
    for (uint32_t w = 0; w < k.n_warps; w++) emu_lanes_ready(&k.warps[w], k.warps[w].live);
}

static bool same_site(emu_site a, emu_site b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

int emu_barrier(int op, int value, const char *file, int line)
{
    emu_thread *t = emu_thread_running();
    t->site = (emu_site){file, line};
    if (k.arrived == 0) {
        k.barrier_site = t->site;
        k.barrier_op = op;
    } else if (!same_site(k.barrier_site, t->site) || k.barrier_op != op) {
        emu_bug(cudaErrorLaunchFailure, t->site,
                "divergent __syncthreads: other threads of the block wait in the one at %s:%d",
                k.barrier_site.file, k.barrier_site.line);
    }
    k.barrier_sum += value != 0;
    k.work++;
    if (++k.arrived < k.live) {
        emu_thread_block(EMU_AT_BARRIER);
    } else {
        barrier_release();
        emu_warp *w = &k.warps[t->warp];
        w->ready &= ~(1u << t->lane); // the last one goes on at once
        if (!w->ready) k.ready_warps &= ~(1u << t->warp);
        if (k.roam) emu_yield();
    }
    return k.barrier_result;
}

static void team_release(team_barrier *b, int id, const emu_thread *last)
{
    for (uint32_t w = 0; w < k.n_warps; w++) {
        if (!b->lanes[w]) continue;
        if (b->lanes[w] != UINT32_MAX)
            emu_bug(cudaErrorLaunchFailure, last->site,
                    "bt_barrier_of(%d): of warp %u only lanes %08x are here", id, w, b->lanes[w]);
        k.warps[w].team = (uint32_t)id;
        k.warps[w].team_epoch++;
        k.warps[w].epoch++; // it is a __syncwarp too
        emu_lanes_ready(&k.warps[w], b->lanes[w] & ~(w == last->warp ? 1u << last->lane : 0));
        b->lanes[w] = 0;
    }
    b->came = 0;
}

void emu_barrier_of(int id, int threads, const char *file, int line)
{
    emu_thread *t = emu_thread_running();
    t->site = (emu_site){file, line};
    if (id < 1 || id >= TEAMS_MAX || threads < 32 || threads % 32 ||
        (uint32_t)threads > k.n_threads) {
        emu_bug(cudaErrorLaunchFailure, t->site,
                "bt_barrier_of(%d, %d): there are barriers 1 to %d, for whole warps of the block",
                id, threads, TEAMS_MAX - 1);
        return;
    }
    team_barrier *b = &k.teams[id];
    if (b->came == 0) {
        b->site = t->site;
        b->want = (uint32_t)threads;
    } else if (!same_site(b->site, t->site) || b->want != (uint32_t)threads) {
        emu_bug(cudaErrorLaunchFailure, t->site,
                "divergent bt_barrier_of(%d): %u threads are awaited in the one at %s:%d", id,
                b->want, b->site.file, b->site.line);
    }
    b->lanes[t->warp] |= 1u << t->lane;
    k.work++;
    if (++b->came < b->want) {
        emu_thread_block(EMU_AT_TEAM);
    } else {
        team_release(b, id, t);
        if (k.roam) emu_yield();
    }
}

static void finish(emu_thread *t)
{
    emu_warp *w = &k.warps[t->warp];
    emu_race_settle();
    t->n_copies = 0; // copies nobody waited for are seen by nobody
    t->state = EMU_DONE;
    w->live &= ~(1u << t->lane);
    k.live--;
    emu_lane_exits(w, t);
    if (k.arrived && k.arrived == k.live) barrier_release();
}

/* A fiber's life: the thread it was started for, then others, then idle until wanted again. */
static void fiber_main(void)
{
    emu_fiber_started();
    for (;;) {
        emu_thread *t = emu_thread_running();
        k.l->type->call(k.l->kernel, k.l->args);
        emu_fiber *self = t->fiber;
        finish(t);
        emu_thread *next = pick();
        if (next && next->state == EMU_NEW) {
            next->fiber = self;
            next->state = EMU_RUNNING;
            emu_now = &next->now;
            continue;
        }
        if (!next && k.live) deadlock();
        self->next = k.idle;
        k.idle = self;
        if (next) {
            resume(next);
        } else {
            k.current = &k.host;
            emu_fiber_switch(self, &k.host);
        }
    }
}

void emu_kernel_leave(void)
{
    emu_fiber *self = k.current;
    k.faulted = true;
    k.current = &k.host;
    emu_fiber_switch(self, &k.host);
    abort(); // nobody comes back here: the fiber is reset
}

/* After a fault: the stacks of all unfinished threads are as new. */
static void fibers_recover(void)
{
    for (uint32_t i = 0; i < k.n_threads; i++) {
        emu_thread *t = &k.threads[i];
        if (t->state == EMU_NEW || t->state == EMU_DONE) continue;
        emu_fiber_reset(t->fiber, fiber_main);
        t->fiber->next = k.idle;
        k.idle = t->fiber;
        t->n_copies = 0;
    }
}

/* Shared memory. */

static void shared_poisoned(const char *p, size_t bytes, bool yes)
{
#if EMU_ASAN
    if (yes)
        __asan_poison_memory_region(p, bytes);
    else
        __asan_unpoison_memory_region(p, bytes);
#else
    (void)p, (void)bytes, (void)yes;
#endif
}

static void shared_init(void)
{
    size_t all = STATIC_BYTES + DYNAMIC_BYTES + 3 * PAGE;
    char *window = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (window == MAP_FAILED || mprotect(window, PAGE, PROT_NONE) ||
        mprotect(window + PAGE + STATIC_BYTES, PAGE, PROT_NONE) ||
        mprotect(window + all - PAGE, PAGE, PROT_NONE)) {
        fprintf(stderr, "emulated device: no memory for shared memory\n");
        abort();
    }
    k.statics = window + PAGE;
    k.dynamic_end = window + all - PAGE;
    emu_poison(k.statics, STATIC_BYTES);
    emu_poison(k.dynamic_end - DYNAMIC_BYTES, DYNAMIC_BYTES);
    shared_poisoned(k.statics, STATIC_BYTES, true);
    shared_poisoned(k.dynamic_end - DYNAMIC_BYTES, DYNAMIC_BYTES, true);
}

static size_t dynamic_span(void)
{
    return (k.l->dynamic_bytes + 15) / 16 * 16;
}

void *emu_dynamic_shared(void)
{
    return k.dynamic_end - dynamic_span();
}

void *emu_shared(const void *slot, size_t bytes, size_t align, const char *name)
{
    for (int i = 0; i < k.n_slots; i++)
        if (k.slots[i].slot == slot) return k.slots[i].base;
    if (align < 16) align = 16;
    size_t at = (k.static_used + RED_ZONE + align - 1) / align * align;
    size_t limit = (size_t)48 * 1024, used = bytes;
    for (int i = 0; i < k.n_slots; i++) used += k.slots[i].bytes;
    emu_site site = {name, 0};
    if (k.n_slots == SLOTS_MAX || used > limit || at + bytes + RED_ZONE > STATIC_BYTES)
        emu_bug(cudaErrorLaunchOutOfResources, site,
                "static shared memory: %zu bytes, at most %zu are possible", used, limit);
    if (used + k.l->dynamic_bytes > k.l->shared_max)
        emu_bug(cudaErrorLaunchOutOfResources, site,
                "%zu bytes of static and %zu of dynamic shared memory: the launch may have %zu",
                used, k.l->dynamic_bytes, k.l->shared_max);
    k.slots[k.n_slots++] = (shared_slot){slot, name, k.statics + at, bytes};
    k.static_used = at + bytes;
    shared_poisoned(k.statics + at, bytes, false);
    return k.statics + at;
}

bool emu_in_shared(const void *p, size_t bytes)
{
    const char *c = p;
    if (c >= k.dynamic_end - dynamic_span() && c <= k.dynamic_end)
        return bytes <= (size_t)(k.dynamic_end - c);
    for (int i = 0; i < k.n_slots; i++)
        if (c >= k.slots[i].base && c < k.slots[i].base + k.slots[i].bytes)
            return bytes <= (size_t)(k.slots[i].base + k.slots[i].bytes - c);
    return false;
}

/* For emu_race.c. */

size_t emu_shared_window(void)
{
    return STATIC_BYTES + DYNAMIC_BYTES + PAGE;
}

long emu_shared_offset(const void *p)
{
    uintptr_t at = (uintptr_t)p - (uintptr_t)k.statics;
    return at < emu_shared_window() ? (long)at : -1;
}

static bool on_stack(const emu_fiber *f, const void *p)
{
    return f && (const char *)p >= f->stack && (const char *)p < f->stack + f->stack_size;
}

bool emu_on_own_stack(const void *p)
{
    return on_stack(k.current, p);
}

bool emu_on_a_stack(const void *p)
{
    for (uint32_t i = 0; i < k.n_threads; i++)
        if (k.threads[i].state != EMU_NEW && on_stack(k.threads[i].fiber, p)) return true;
    return false;
}

bool emu_in_arguments(const void *p)
{
    return (const char *)p >= (const char *)k.l->args && (const char *)p < k.l->blob + k.l->bytes;
}

emu_position emu_race_position(void)
{
    const emu_thread *t = emu_thread_running();
    const emu_warp *w = &k.warps[t->warp];
    uint3 b = emu_launch.block;
    return (emu_position){(b.z * emu_launch.grid_dim.y + b.y) * emu_launch.grid_dim.x + b.x, t->id,
                          k.epoch, w->epoch, w->team_epoch};
}

uint32_t emu_race_team(uint32_t thread)
{
    return k.warps[thread / 32].team;
}

static bool still_poison(const char *from, const char *to)
{
    for (const char *p = from; p < to; p += 2) {
        uint16_t v;
        memcpy(&v, p, 2);
        if (v != EMU_POISON) return false;
    }
    return true;
}

/* Between blocks: red zones must be untouched, contents turn to poison. */
static void shared_refresh(void)
{
    if (dynamic_span()) emu_poison(k.dynamic_end - dynamic_span(), dynamic_span());
    if (!k.n_slots) return;
    char *at = k.statics;
    shared_poisoned(k.statics, k.static_used + RED_ZONE, false);
    for (int i = 0; i <= k.n_slots; i++) {
        char *end = i < k.n_slots ? k.slots[i].base : at + RED_ZONE / 2 * 2;
        char *from = at + ((uintptr_t)at & 1);
        if (!still_poison(from, end - 1) && !k.faulted)
            emu_bug(cudaErrorIllegalAddress,
                    (emu_site){k.slots[i < k.n_slots ? i : k.n_slots - 1].name, 0},
                    "written beside a shared array, near this one");
        if (i < k.n_slots) at = k.slots[i].base + k.slots[i].bytes;
    }
    emu_poison(k.statics, k.static_used + RED_ZONE);
    shared_poisoned(k.statics, k.static_used + RED_ZONE, true);
    k.static_used = 0;
    k.n_slots = 0;
}

/* Blocks. */

static bool run_block(uint3 at)
{
    emu_launch.block = at;
    for (uint32_t w = 0; w < k.n_warps; w++) {
        k.warps[w].live = k.warps[w].ready = UINT32_MAX;
        k.warps[w].waiting = k.warps[w].epoch = 0;
        k.warps[w].team = k.warps[w].team_epoch = 0;
    }
    memset(k.teams, 0, sizeof k.teams);
    k.ready_warps = (uint32_t)((1ull << k.n_warps) - 1);
    for (uint32_t i = 0; i < k.n_threads; i++) k.threads[i].state = EMU_NEW;
    k.live = k.n_threads;
    k.arrived = k.epoch = 0;
    k.barrier_sum = 0;
    k.warp_now = pick_bit(k.ready_warps, k.warp_pick);
    k.current = &k.host;
    resume(pick());
    if (k.faulted) fibers_recover();
    shared_refresh();
    return !k.faulted;
}

static void threads_init(const emu_launch_args *l)
{
    dim3 b = l->block;
    k.n_threads = b.x * b.y * b.z;
    k.n_warps = k.n_threads / 32;
    for (uint32_t i = 0; i < k.n_threads; i++) {
        emu_thread *t = &k.threads[i];
        t->now.idx = (uint3){i % b.x, i / b.x % b.y, i / (b.x * b.y)};
        t->id = i;
        t->warp = (uint8_t)(i / 32);
        t->lane = (uint8_t)(i % 32);
        t->n_copies = 0;
        t->group = 0;
    }
    for (uint32_t w = 0; w < k.n_warps; w++) k.warps[w].lane = &k.threads[w * 32];
}

static void policy_init(void)
{
    uint64_t r = emu_random();
    k.rng = r | 1;
    k.lane_pick = r ? (enum pick_policy)(r >> 8 & 3) % 3 : PICK_LOW;
    k.warp_pick = r ? (enum pick_policy)(r >> 16 & 3) % 3 : PICK_LOW;
    k.roam = r >> 24 & 1;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

bool emu_run_grid(const emu_launch_args *l, uint64_t *cost_ns)
{
    if (!k.statics) shared_init();
    k.l = l;
    k.faulted = false;
    k.running = true;
    k.work = 0;
    k.host.stack_size = 0;
    emu_launch.grid_dim = l->grid;
    emu_launch.block_dim = l->block;
    policy_init();
    threads_init(l);
    emu_race_begin();
    shared_poisoned(k.dynamic_end - DYNAMIC_BYTES, DYNAMIC_BYTES, true);
    shared_poisoned(k.dynamic_end - dynamic_span(), l->dynamic_bytes, false);
    uint64_t n = (uint64_t)l->grid.x * l->grid.y * l->grid.z, step = 1, first = 0;
    if (k.rng > 1 && n > 1) { // block order: any start, any stride that reaches all
        first = draw() % n;
        step = draw() % n;
        while (step == 0 || common_divisor(step, n) != 1) step = step + 1 == n ? 1 : step + 1;
    }
    for (uint64_t i = 0, b = first; i < n && !k.faulted; i++, b = (b + step) % n)
        run_block((uint3){(unsigned)(b % l->grid.x), (unsigned)(b / l->grid.x % l->grid.y),
                          (unsigned)(b / l->grid.x / l->grid.y)});
    emu_race_end();
    k.running = false;
    uint64_t parallel = (uint64_t)emu_arch_now()->n_sm;
    *cost_ns = 2000 + (n * k.n_threads * 64 + k.work * 16) / parallel;
    return !k.faulted;
}

/* Kernels known by address. */

enum { KERNELS_MAX = 8192 };
typedef struct known_kernel {
    const void *kernel;
    const emu_kernel_type *type;
    size_t shared_max;
} known_kernel;
static known_kernel known[KERNELS_MAX];

static known_kernel *known_at(const void *kernel)
{
    size_t i = (size_t)((uintptr_t)kernel >> 4) * 2654435761u % KERNELS_MAX;
    for (int tries = 0; tries < KERNELS_MAX; tries++, i = (i + 1) % KERNELS_MAX)
        if (known[i].kernel == kernel || !known[i].kernel) return &known[i];
    fprintf(stderr, "emulated device: more than %d kernels\n", KERNELS_MAX);
    abort();
}

void emu_kernel_known(const void *kernel, const emu_kernel_type *type)
{
    pthread_mutex_lock(&emu_lock);
    known_kernel *e = known_at(kernel);
    if (!e->kernel) *e = (known_kernel){kernel, type, 48 * 1024};
    pthread_mutex_unlock(&emu_lock);
}

const emu_kernel_type *emu_kernel_find(const void *kernel)
{
    return known_at(kernel)->type;
}

size_t emu_kernel_shared_max(const void *kernel)
{
    return known_at(kernel)->shared_max;
}

void emu_kernel_set_shared_max(const void *kernel, size_t bytes)
{
    known_at(kernel)->shared_max = bytes;
}
