/* SPDX-License-Identifier: Apache-2.0 */
/* emu_race.c - every load and store of a kernel, seen: races, places and values nobody set.
 *
 * Built only into programs whose kernels are compiled with -fsanitize=thread (BATON_EMU_RACE): the
 * compiler then calls __tsan_read4(address) and its like before each access, and these are ours.
 *
 * ORDER    Two accesses of one byte, one of them a write, need an order: the same thread, another
 *          launch, a __syncthreads between them in one block, a __syncwarp between them in one
 *          warp, or a bt_barrier_of between them in one team (the warps that came to the same
 *          barrier last). Anything else is a race, whatever order the threads happened to run in.
 * Atomics do not race with atomics; two writes of the same value are let pass. Blocks are never
 *          ordered.
 * SHADOW   Each byte has a cell: who wrote it last, who read it last and whether others did too.
 *          Cells of device memory are made when a region is first touched.
 * ALSO     Misaligned and out-of-bounds accesses, host memory, other threads' local variables, and
 *          reads of shared memory that nobody wrote. */
#define _GNU_SOURCE
#include "emu_race.h"
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct access {
    uint32_t launch : 8, thread : 10, epoch : 14;
    uint32_t block : 20, warp_epoch : 12;
    uint32_t team_epoch : 28, flags : 4;
} access;
/* Of a read: others read too, in this one's epoch. */
enum { LANES = 1, TEAM = 2, WARPS = 4, BLOCKS = 8 };
enum { ATOMIC = 1 }; // of a write
typedef struct cell {
    access write, read;
    uint32_t write_at, read_at; // offsets in the program
} cell;
_Static_assert(sizeof(access) == 12 && sizeof(cell) == EMU_CELL_BYTES, "no padding");

bool emu_race_on;
static _Thread_local bool watching;
static uint32_t launch = 1;
static cell *shared_cells;
static uintptr_t image_low = UINTPTR_MAX, image_high;

/* A write that races with a write: wrong only if it changes something, seen at the next access. */
static struct {
    const char *p, *space;
    size_t bytes;
    unsigned char old[16];
    access before, now;
    uint32_t before_at;
    uintptr_t pc;
} suspect;

static int find_image(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size, (void)user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD) continue;
        uintptr_t low = info->dlpi_addr + p->p_vaddr, high = low + p->p_memsz;
        if (low < image_low) image_low = low;
        if (high > image_high) image_high = high;
    }
    return 1; // the program comes first
}

void emu_race_begin(void)
{
    if (!emu_race_on) return;
    size_t bytes = emu_shared_window() * sizeof(cell);
    if (!shared_cells) {
        dl_iterate_phdr(find_image, NULL);
        shared_cells = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (shared_cells == MAP_FAILED) abort();
    }
    launch = (launch + 1) & 0xff;
    if (launch == 0) { // numbers start again: nothing of before may be taken for now
        launch = 1;
        madvise(shared_cells, bytes, MADV_DONTNEED);
        emu_cells_forget();
    }
    watching = true;
}

void emu_race_end(void)
{
    suspect.p = NULL; // left over when the launch was given up
    watching = false;
}

static bool same_warp(access a, access b)
{
    return a.thread / 32 == b.thread / 32;
}
static bool same_team(access a, access b)
{
    uint32_t team = emu_race_team(a.thread);
    return team && team == emu_race_team(b.thread);
}

/* Whether `before` happened before `now` for certain. */
static bool ordered(access before, access now)
{
    if (before.launch != now.launch) return true;
    if (before.block != now.block) return false;
    if (before.thread == now.thread || before.epoch != now.epoch) return true;
    return same_warp(before, now)   ? before.warp_epoch != now.warp_epoch
           : same_team(before, now) ? before.team_epoch < now.team_epoch
                                    : false;
}

/* Whether all readers the cell knows of happened before `now`. */
static bool reads_ordered(access read, access now)
{
    if (!ordered(read, now)) return false;
    if (read.launch != now.launch) return true;
    if (read.flags & BLOCKS) return false;
    if (read.epoch != now.epoch) return true;
    if (read.flags & WARPS) return false;
    if (read.flags & TEAM) return same_team(read, now) && read.team_epoch < now.team_epoch;
    return !(read.flags & LANES) || !same_warp(read, now) || read.warp_epoch != now.warp_epoch;
}

static access with_reader(access old, access now)
{
    if (old.launch != now.launch) return now;
    unsigned flags = old.flags;
    if (old.block != now.block)
        flags = BLOCKS;
    else if (old.epoch != now.epoch)
        flags &= BLOCKS;
    else if (old.team_epoch < now.team_epoch && same_team(old, now))
        flags &= BLOCKS | WARPS;
    else if (!same_warp(old, now))
        flags |= same_team(old, now) ? TEAM : WARPS;
    else if (old.warp_epoch != now.warp_epoch)
        flags &= BLOCKS | WARPS | TEAM;
    else if (old.thread != now.thread)
        flags |= LANES;
    now.flags = flags & 15;
    return now;
}

static void report(const char *space, const void *p, access before, uint32_t before_at, bool wrote,
                   bool writes, uintptr_t pc)
{
    emu_bug(cudaErrorLaunchFailure, (emu_site){NULL, 0},
            "race in %s memory at %p: %s here (program offset 0x%zx), and block %u, thread %u %s "
            "it (offset 0x%x) with nothing between that orders them",
            space, p, writes ? "written" : "read", (size_t)(pc - image_low), (unsigned)before.block,
            (unsigned)before.thread, wrote ? "wrote" : "read", before_at);
}

void emu_race_settle(void)
{
    if (!suspect.p) return;
    const char *p = suspect.p;
    suspect.p = NULL;
    if (memcmp(p, suspect.old, suspect.bytes) == 0) return;
    emu_bug(
        cudaErrorLaunchFailure, (emu_site){NULL, 0},
        "race in %s memory at %p: block %u, thread %u wrote it (program offset 0x%zx), and block "
        "%u, thread %u wrote something else (offset 0x%x) with nothing between that orders them",
        suspect.space, (const void *)p, (unsigned)suspect.now.block, (unsigned)suspect.now.thread,
        (size_t)(suspect.pc - image_low), (unsigned)suspect.before.block,
        (unsigned)suspect.before.thread, suspect.before_at);
}

static void suspect_write(const cell *c, const char *p, size_t bytes, const char *space, access now,
                          uintptr_t pc)
{
    suspect.p = p;
    suspect.space = space;
    suspect.bytes = bytes < sizeof suspect.old ? bytes : sizeof suspect.old;
    memcpy(suspect.old, p, suspect.bytes);
    suspect.before = c->write;
    suspect.before_at = c->write_at;
    suspect.now = now;
    suspect.pc = pc;
}

static void visit(cell *c, const char *p, const char *space, access now, bool write, bool atomic,
                  uintptr_t pc)
{
    bool both_atomic = atomic && (c->write.flags & ATOMIC);
    if (!both_atomic && !ordered(c->write, now) && (!write || atomic))
        report(space, p, c->write, c->write_at, true, write, pc);
    if (write) {
        if (!reads_ordered(c->read, now)) report(space, p, c->read, c->read_at, false, true, pc);
        c->write = now;
        c->write.flags = atomic ? ATOMIC : 0;
        c->write_at = (uint32_t)(pc - image_low);
    } else {
        c->read = with_reader(c->read, now);
        c->read_at = (uint32_t)(pc - image_low);
    }
}

/* Memory that is neither the device's nor shared: the thread's own stack, constants, pinned. */
static void foreign(const void *p, size_t bytes, bool write, uintptr_t pc)
{
    uintptr_t at = (uintptr_t)p;
    if (emu_on_own_stack(p) || emu_in_arguments(p) ||
        (!write && at >= image_low && at < image_high) || emu_pinned_has(p, bytes))
        return;
    emu_bug(cudaErrorIllegalAddress, (emu_site){NULL, 0},
            "%s %zu bytes at %p, which is %s (program offset 0x%zx)", write ? "writes" : "reads",
            bytes, p,
            emu_on_a_stack(p)                    ? "a local variable of another thread"
            : at >= image_low && at < image_high ? "a variable of the host program"
                                                 : "host memory",
            (size_t)(pc - image_low));
}

void emu_race_access(const void *p, size_t bytes, size_t align, bool write, bool atomic,
                     uintptr_t pc)
{
    if (!watching || !bytes) return;
    emu_race_settle();
    const char *c = p;
    cell *cells;
    const char *space = "device";
    long at = emu_shared_offset(p);
    if (at >= 0) {
        cells = shared_cells + at;
        space = "shared";
        if (!emu_in_shared(p, bytes))
            emu_bug(cudaErrorIllegalAddress, (emu_site){NULL, 0},
                    "%s %zu bytes of shared memory outside of any array (program offset 0x%zx)",
                    write ? "writes" : "reads", bytes, (size_t)(pc - image_low));
    } else if (emu_in_arena(p)) {
        const char *wrong = emu_memory_check(p, bytes);
        if (wrong)
            emu_bug(cudaErrorIllegalAddress, (emu_site){NULL, 0},
                    "%s %zu bytes at %p: %s (program offset 0x%zx)", write ? "writes" : "reads",
                    bytes, p, wrong, (size_t)(pc - image_low));
        cells = emu_cells_of(p);
    } else {
        foreign(p, bytes, write, pc);
        return;
    }
    if (align && (uintptr_t)p % align)
        emu_bug(cudaErrorMisalignedAddress, (emu_site){NULL, 0},
                "%p is not aligned to %zu bytes (program offset 0x%zx)", p, align,
                (size_t)(pc - image_low));
    emu_position here = emu_race_position();
    access now = {.launch = launch & 0xff,
                  .block = here.block & 0xfffff,
                  .thread = here.thread & 0x3ff,
                  .epoch = here.epoch & 0x3fff,
                  .warp_epoch = here.warp_epoch & 0xfff,
                  .team_epoch = here.team_epoch & 0xfffffff};
    for (size_t i = 0; i < bytes; i++) {
        cell *e = &cells[i];
        if (at >= 0 && (e->write.launch != now.launch || e->write.block != now.block))
            *e = (cell){.write = {.launch = 0}}; // another block's shared memory is another
        if (at >= 0 && !write && e->write.launch == 0)
            emu_bug(cudaErrorLaunchFailure, (emu_site){NULL, 0},
                    "reads shared memory at %p that no thread of the block wrote (program offset "
                    "0x%zx)",
                    (const void *)(c + i), (size_t)(pc - image_low));
        if (write && !atomic && !suspect.p && !ordered(e->write, now))
            suspect_write(e, c + i, bytes - i, space, now, pc);
        visit(e, c + i, space, now, write, atomic, pc);
    }
}

/* What the compiler calls. */
#define PC ((uintptr_t)__builtin_return_address(0))
#define ACCESS(bytes)                                                                              \
    void __tsan_read##bytes(void *p);                                                              \
    void __tsan_read##bytes(void *p)                                                               \
    {                                                                                              \
        emu_race_access(p, bytes, bytes, false, false, PC);                                        \
    }                                                                                              \
    void __tsan_write##bytes(void *p);                                                             \
    void __tsan_write##bytes(void *p)                                                              \
    {                                                                                              \
        emu_race_access(p, bytes, bytes, true, false, PC);                                         \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(void *p);                                                    \
    void __tsan_unaligned_read##bytes(void *p)                                                     \
    {                                                                                              \
        emu_race_access(p, bytes, 0, false, false, PC);                                            \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *p);                                                   \
    void __tsan_unaligned_write##bytes(void *p)                                                    \
    {                                                                                              \
        emu_race_access(p, bytes, 0, true, false, PC);                                             \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, size_t bytes);
void __tsan_read_range(void *p, size_t bytes)
{
    emu_race_access(p, bytes, 0, false, false, PC);
}
void __tsan_write_range(void *p, size_t bytes);
void __tsan_write_range(void *p, size_t bytes)
{
    emu_race_access(p, bytes, 0, true, false, PC);
}
/* The compiler's guards of static variables in host code. */
unsigned char __tsan_atomic8_load(const volatile unsigned char *p, int order);
unsigned char __tsan_atomic8_load(const volatile unsigned char *p, int order)
{
    (void)order;
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
void __tsan_init(void);
void __tsan_init(void) // run at start-up by every instrumented file
{
    emu_race_on = true;
}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc)
{
    (void)pc;
}
void __tsan_func_exit(void *pc);
void __tsan_func_exit(void *pc)
{
    (void)pc;
}

void emu_atomic(const void *p, size_t bytes)
{
    emu_race_access(p, bytes, bytes, true, true, PC);
    emu_yield();
}
