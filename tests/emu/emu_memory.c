/* SPDX-License-Identifier: Apache-2.0 */
/* emu_memory.c - the device's address space.
 *
 * ARENA    One large reserved range, never readable by accident: an allocation gets pages of its
 *          own that end where it ends (rounded up to 256), then a guard page; freed addresses are
 *          not used again. Everything is closed (PROT_NONE) unless device work executes, so host
 *          code that follows a device pointer faults.
 * POISON   Fresh memory is a private mapping of a small file full of EMU_POISON: no cost until
 *          written. The slack around an allocation must still hold it when it is freed (and is
 *          poisoned for ASan).
 * COUNTING cudaMemGetInfo sees sizes rounded up to 256 bytes, and the driver's chunks. */
#define _GNU_SOURCE
#include "emu_memory.h"
#include "emu_race.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define ARENA_BYTES ((size_t)1 << 44)
enum { PAGE = 4096, POISON_BYTES = 2 << 20, FREED_MAX = 256 };

typedef struct region {
    char *va; // pages [va, va + span)
    size_t span;
    char *user; // what was asked for: [user, user + bytes)
    size_t bytes;
    bool chunk;      // the driver's: mapped into a reservation
    bool accessible; // chunk: cuMemSetAccess was called
    char *cells;     // emu_race.c's, or NULL
} region;

typedef struct pinned {
    char *p;
    size_t bytes;
    bool registered;
    struct pinned *next;
} pinned;

static char *arena, *arena_next;
static int poison_fd = -1;
static region *regions; // by address
static size_t n_regions, regions_max;
static region freed[FREED_MAX];
static unsigned n_freed;
static uint64_t used, total;
static bool opened;
static pinned *pins;

/* The pattern follows the address, so that a piece of poison is poison. */
__attribute__((no_sanitize("address"))) void emu_poison(void *p, size_t bytes)
{
    static const unsigned char pattern[2] = {EMU_POISON & 0xff, EMU_POISON >> 8};
    const uint64_t eight = EMU_POISON * 0x0001000100010001u;
    unsigned char *c = p, *end = c + bytes;
    while (c < end && (uintptr_t)c % 8) *c = pattern[(uintptr_t)c % 2], c++;
    for (; end - c >= 8; c += 8) __builtin_memcpy(c, &eight, 8);
    while (c < end) *c = pattern[(uintptr_t)c % 2], c++;
}

static void die(const char *what)
{
    fprintf(stderr, "emulated device: %s\n", what);
    abort();
}

static void init_once(void)
{
    if (arena) return;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *hint = (void *)(uintptr_t)0x200000000000;
    char *base = mmap(hint, ARENA_BYTES, PROT_NONE, flags, -1, 0);
    if (base == MAP_FAILED) die("no address space for the arena");
    arena = arena_next = (char *)(((uintptr_t)base + POISON_BYTES - 1) & -(uintptr_t)POISON_BYTES);
    poison_fd = memfd_create("emu_poison", MFD_CLOEXEC);
    if (poison_fd < 0 || ftruncate(poison_fd, POISON_BYTES)) die("no memory for the poison file");
    void *p = mmap(NULL, POISON_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, poison_fd, 0);
    if (p == MAP_FAILED) die("no memory for the poison file");
    emu_poison(p, POISON_BYTES);
    munmap(p, POISON_BYTES);
}

void emu_memory_init(uint64_t bytes)
{
    init_once();
    total = bytes;
}

bool emu_in_arena(const void *p)
{
    return arena && (const char *)p >= arena && (const char *)p < arena + ARENA_BYTES;
}

uint64_t emu_memory_used(void)
{
    return used;
}

uint64_t emu_memory_total(void)
{
    return total;
}

/* Index of the last region that starts at or before p, or -1. */
static long find(const void *p)
{
    size_t lo = 0, hi = n_regions;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (regions[mid].va <= (const char *)p)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (long)lo - 1;
}

static region *insert(region r)
{
    if (n_regions == regions_max) {
        regions_max = regions_max ? 2 * regions_max : 64;
        regions = emu_must(realloc(regions, regions_max * sizeof *regions));
    }
    size_t at = (size_t)(find(r.va) + 1);
    memmove(regions + at + 1, regions + at, (n_regions - at) * sizeof r);
    n_regions++;
    regions[at] = r;
    return &regions[at];
}

static void erase(size_t at)
{
    freed[n_freed++ % FREED_MAX] = regions[at];
    n_regions--;
    memmove(regions + at, regions + at + 1, (n_regions - at) * sizeof *regions);
}

char *emu_va_take(size_t bytes, size_t align)
{
    char *at = (char *)(((uintptr_t)arena_next + align - 1) & -(uintptr_t)align);
    bytes = (bytes + PAGE - 1) / PAGE * PAGE;
    if (at + bytes + PAGE > arena + ARENA_BYTES - POISON_BYTES)
        die("device addresses are used up (they are never used twice)");
    arena_next = at + bytes + PAGE; // with a guard
    return at;
}

static void map_poison(char *va, size_t bytes, int protection)
{
    for (size_t at = 0; at < bytes; at += POISON_BYTES) {
        size_t n = bytes - at < POISON_BYTES ? bytes - at : POISON_BYTES;
        if (mmap(va + at, n, protection, MAP_PRIVATE | MAP_FIXED, poison_fd, 0) == MAP_FAILED)
            die("no host memory for device memory");
    }
}

static void unmap(char *va, size_t bytes)
{
    if (mmap(va, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        die("cannot unmap device memory");
}

static int protection_of(const region *r)
{
    return opened && (!r->chunk || r->accessible) ? PROT_READ | PROT_WRITE : PROT_NONE;
}

static void slack_poisoned(const region *r, bool yes)
{
#if EMU_ASAN
    if (yes) {
        __asan_poison_memory_region(r->va, (size_t)(r->user - r->va));
        size_t tail = (size_t)(r->va + r->span - r->user) - r->bytes;
        __asan_poison_memory_region(r->user + r->bytes, tail);
    } else {
        __asan_unpoison_memory_region(r->va, r->span);
    }
#else
    (void)r, (void)yes;
#endif
}

void *emu_memory_alloc(size_t bytes)
{
    if (bytes > total) return NULL;
    size_t size = ((bytes ? bytes : 1) + 255) / 256 * 256;
    if (used + size > total) return NULL;
    region r = {.span = (size + PAGE - 1) / PAGE * PAGE, .bytes = bytes};
    r.va = emu_va_take(r.span, PAGE);
    r.user = r.va + r.span - size;
    map_poison(r.va, r.span, protection_of(&r));
    slack_poisoned(&r, true);
    insert(r);
    used += size;
    return r.user;
}

__attribute__((no_sanitize("address"))) static bool is_poison(const char *from, const char *to)
{
    if ((uintptr_t)from & 1 && from < to && *from++ != (char)(EMU_POISON >> 8)) return false;
    for (; from + 2 <= to; from += 2) {
        uint16_t v;
        __builtin_memcpy(&v, from, 2);
        if (v != EMU_POISON) return false;
    }
    return true;
}

/* The slack of an allocation still holds poison, or somebody wrote past it. */
static void verify(const region *r)
{
    if (r->chunk) return;
    mprotect(r->va, r->span, PROT_READ);
    bool before = is_poison(r->va, r->user);
    bool after = is_poison(r->user + r->bytes, r->va + r->span);
    mprotect(r->va, r->span, protection_of(r));
    if (!before || !after)
        emu_bug(cudaErrorIllegalAddress, (emu_site){NULL, 0},
                "somebody wrote %s the allocation of %zu bytes at %p", before ? "past" : "before",
                r->bytes, (void *)r->user);
}

void emu_memory_verify(void)
{
    for (size_t i = 0; i < n_regions; i++) verify(&regions[i]);
}

static void drop(size_t at)
{
    region r = regions[at];
    slack_poisoned(&r, false);
    if (r.cells) munmap(r.cells, r.span * EMU_CELL_BYTES);
    regions[at].cells = NULL;
    unmap(r.va, r.span);
    erase(at);
}

bool emu_memory_free(void *p)
{
    long at = find(p);
    if (at < 0 || regions[at].user != p || regions[at].chunk) return false;
    verify(&regions[at]);
    used -= (size_t)(regions[at].va + regions[at].span - regions[at].user);
    drop((size_t)at);
    return true;
}

/* The driver's chunks. */

bool emu_chunk_take(size_t bytes)
{
    if (used + bytes > total) return false;
    used += bytes;
    return true;
}

void emu_chunk_give(size_t bytes)
{
    used -= bytes;
}

void emu_chunk_map(char *va, size_t bytes)
{
    region r = {.va = va, .span = bytes, .user = va, .bytes = bytes, .chunk = true};
    map_poison(va, bytes, PROT_NONE);
    insert(r);
}

void emu_chunk_unmap(char *va)
{
    long at = find(va);
    if (at >= 0 && regions[at].va == va && regions[at].chunk) drop((size_t)at);
}

void emu_chunk_access(char *va, bool yes)
{
    long at = find(va);
    if (at < 0 || regions[at].va != va || !regions[at].chunk) return;
    regions[at].accessible = yes;
    mprotect(va, regions[at].span, protection_of(&regions[at]));
}

/* Neighbouring regions change in one call: a big range of chunks is one system call. */
void emu_memory_open(bool open)
{
    opened = open;
    for (size_t i = 0, next; i < n_regions; i = next) {
        const region *r = &regions[i];
        size_t span = r->span;
        for (next = i + 1; next < n_regions && regions[next].va == r->va + span &&
                           regions[next].accessible == r->accessible;
             next++)
            span += regions[next].span;
        mprotect(r->va, span, protection_of(r));
    }
}

const char *emu_memory_check(const void *p, size_t bytes)
{
    const char *c = p;
    if (emu_pinned_has(p, bytes)) return NULL;
    if (!emu_in_arena(p)) return "not device memory, nor pinned host memory";
    do {
        long at = find(c);
        if (at < 0 || c < regions[at].user || c >= regions[at].user + regions[at].bytes)
            return "outside any live allocation";
        if (regions[at].chunk && !regions[at].accessible) return "mapped, but without access";
        size_t left = (size_t)(regions[at].user + regions[at].bytes - c);
        if (left >= bytes) return NULL;
        bytes -= left;
        c += left;
    } while (bytes);
    return NULL;
}

void emu_memory_describe(const void *p, char *out, size_t bytes)
{
    const char *c = p;
    long at = find(p);
    const region *near = at < 0 ? NULL : &regions[at];
    bool within = near && c < near->va + near->span;
    if (!emu_in_arena(p)) {
        snprintf(out, bytes, "not device memory");
        return;
    }
    if (within && near->chunk) {
        snprintf(out, bytes, near->accessible ? "mapped" : "mapped, but without access");
        return;
    }
    if (within && c >= near->user && c < near->user + near->bytes) {
        snprintf(out, bytes, "%td bytes into an allocation of %zu", c - near->user, near->bytes);
        return;
    }
    for (unsigned i = 0; !within && i < n_freed && i < FREED_MAX; i++) {
        const region *r = &freed[(n_freed - 1 - i) % FREED_MAX];
        if (c < r->va || c >= r->va + r->span) continue;
        snprintf(out, bytes, "inside memory that was %s (%zu bytes at %p)",
                 r->chunk ? "unmapped" : "freed", r->bytes, (void *)r->user);
        return;
    }
    if (near && c >= near->user)
        snprintf(out, bytes, "%td bytes past the end of an allocation of %zu bytes at %p",
                 c - near->user - (ptrdiff_t)near->bytes, near->bytes, (void *)near->user);
    else
        snprintf(out, bytes, "before any allocation");
}

void *emu_cells_of(const void *p)
{
    region *r = &regions[find(p)];
    if (!r->cells) {
        r->cells = mmap(NULL, r->span * EMU_CELL_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r->cells == MAP_FAILED) die("no memory to watch device memory");
    }
    return r->cells + (size_t)((const char *)p - r->va) * EMU_CELL_BYTES;
}

void emu_cells_forget(void)
{
    for (size_t i = 0; i < n_regions; i++)
        if (regions[i].cells)
            madvise(regions[i].cells, regions[i].span * EMU_CELL_BYTES, MADV_DONTNEED);
}

/* Pinned host memory. */

void *emu_pinned_alloc(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, PAGE, bytes ? bytes : 1)) return NULL;
    emu_poison(p, bytes);
    pinned *n = emu_must(malloc(sizeof *n));
    *n = (pinned){p, bytes, false, pins};
    pins = n;
    return p;
}

static pinned **pin_at(const void *p, bool registered)
{
    for (pinned **n = &pins; *n; n = &(*n)->next)
        if ((*n)->p == p && (*n)->registered == registered) return n;
    return NULL;
}

bool emu_pinned_free(void *p)
{
    pinned **at = pin_at(p, false), *n = at ? *at : NULL;
    if (!n) return false;
    *at = n->next;
    free(n->p);
    free(n);
    return true;
}

cudaError_t emu_pinned_register(void *p, size_t bytes)
{
    char *c = p;
    if (!p || !bytes) return cudaErrorInvalidValue;
    for (pinned *n = pins; n; n = n->next)
        if (c < n->p + n->bytes && n->p < c + bytes) return cudaErrorHostMemoryAlreadyRegistered;
    pinned *n = emu_must(malloc(sizeof *n));
    *n = (pinned){p, bytes, true, pins};
    pins = n;
    return cudaSuccess;
}

cudaError_t emu_pinned_unregister(void *p)
{
    pinned **at = pin_at(p, true), *n = at ? *at : NULL;
    if (!n) return cudaErrorHostMemoryNotRegistered;
    *at = n->next;
    free(n);
    return cudaSuccess;
}

bool emu_pinned_has(const void *p, size_t bytes)
{
    const char *c = p;
    for (pinned *n = pins; n; n = n->next)
        if (c >= n->p && c < n->p + n->bytes) return bytes <= (size_t)(n->p + n->bytes - c);
    return false;
}

enum emu_space emu_space_of(const void *p)
{
    if (emu_in_arena(p)) return EMU_DEVICE;
    return emu_pinned_has(p, 1) ? EMU_PINNED : EMU_HOST;
}

int emu_memory_alive(bool tell)
{
    int n = 0;
    for (size_t i = 0; i < n_regions; i++) {
        if (regions[i].chunk) continue; // the driver's side counts these
        n++;
        if (tell)
            emu_note("  device memory: %zu bytes at %p\n", regions[i].bytes,
                     (void *)regions[i].user);
    }
    for (pinned *p = pins; p; p = p->next, n++)
        if (tell)
            emu_note("  %s host memory: %zu bytes at %p\n", p->registered ? "registered" : "pinned",
                     p->bytes, (void *)p->p);
    return n;
}

void emu_memory_reset(void)
{
    while (n_regions) drop(n_regions - 1);
    while (pins) {
        pinned *n = pins;
        pins = n->next;
        if (!n->registered) free(n->p);
        free(n);
    }
    n_freed = 0;
    used = 0;
    opened = false;
}
