/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_countdown;
static atomic_bool fail_happened;
static _Thread_local int guard_depth;

/* True if this allocation must fail. */
static bool mem_check(void)
{
    if (guard_depth > 0) {
        fprintf(stderr, "baton: bug: allocation inside an allocation-free section\n");
        abort();
    }
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return false;
    if (atomic_fetch_sub(&fail_countdown, 1) != 1) return false;
    atomic_store(&fail_happened, true);
    return true;
}

void *bt_malloc(size_t bytes)
{
    return mem_check() ? NULL : malloc(bytes ? bytes : 1);
}

void *bt_calloc(size_t count, size_t bytes)
{
    return mem_check() ? NULL : calloc(count ? count : 1, bytes ? bytes : 1);
}

void *bt_realloc(void *p, size_t bytes)
{
    return mem_check() ? NULL : realloc(p, bytes ? bytes : 1);
}

void *bt_aligned_alloc(size_t align, size_t bytes)
{
    void *p = NULL;
    if (mem_check()) return NULL;
    return posix_memalign(&p, align, bytes ? bytes : 1) == 0 ? p : NULL;
}

char *bt_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = bt_malloc(len + 1);
    if (!p) return NULL;
    memcpy(p, s, len);
    p[len] = 0;
    return p;
}

char *bt_strdup(const char *s)
{
    return bt_strndup(s, strlen(s));
}

void bt_free(void *p)
{
    free(p);
}

void *bt_must(void *p)
{
    if (!p) {
        fprintf(stderr, "baton: out of memory at start-up\n");
        abort();
    }
    return p;
}

void bt_mem_fail_at(long n)
{
    atomic_store(&fail_happened, false);
    atomic_store(&fail_countdown, n);
}

bool bt_mem_failed(void)
{
    return atomic_load(&fail_happened);
}
void bt_mem_guard_begin(void)
{
    guard_depth++;
}
void bt_mem_guard_end(void)
{
    guard_depth--;
}

typedef struct bt_arena_block {
    struct bt_arena_block *next;
    size_t used, bytes;
} bt_arena_block;

enum { ARENA_BLOCK_BYTES = 8192, ARENA_ALIGN = 16 };
#define ARENA_HEADER ((sizeof(bt_arena_block) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN)

void bt_arena_init(bt_arena *a, size_t max_bytes)
{
    a->head = NULL;
    a->used = 0;
    a->max_bytes = max_bytes;
}

void bt_arena_release(bt_arena *a)
{
    while (a->head) {
        bt_arena_block *next = a->head->next;
        bt_free(a->head);
        a->head = next;
    }
    a->used = 0;
}

void *bt_arena_alloc(bt_arena *a, size_t bytes)
{
    if (bytes > a->max_bytes || a->used > a->max_bytes - bytes) return NULL;
    size_t need = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    bt_arena_block *b = a->head;
    if (!b || b->bytes - b->used < need) {
        size_t size = need > ARENA_BLOCK_BYTES ? need : ARENA_BLOCK_BYTES;
        b = bt_malloc(ARENA_HEADER + size);
        if (!b) return NULL;
        b->next = a->head;
        b->used = 0;
        b->bytes = size;
        a->head = b;
    }
    void *p = (char *)b + ARENA_HEADER + b->used;
    b->used += need;
    a->used += bytes;
    memset(p, 0, need);
    return p;
}

char *bt_arena_strndup(bt_arena *a, const char *s, size_t n)
{
    char *p = bt_arena_alloc(a, n + 1);
    if (p) memcpy(p, s, n);
    return p;
}
