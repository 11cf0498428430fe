/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - the host allocator: malloc with a fault hook and a guard, and the request arena.
 *
 * Everything outside foreign libraries allocates here, so that tests can fail the n-th allocation
 * and can forbid allocation on the token path. Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As malloc and friends: NULL when out of memory (or when the fault hook says so). */
void *bt_malloc(size_t bytes) __attribute__((malloc, warn_unused_result));
void *bt_calloc(size_t count, size_t bytes) __attribute__((malloc, warn_unused_result));
void *bt_realloc(void *p, size_t bytes) __attribute__((warn_unused_result));
void *bt_aligned_alloc(size_t align, size_t bytes) __attribute__((malloc, warn_unused_result));
char *bt_strdup(const char *s) __attribute__((malloc, warn_unused_result));
char *bt_strndup(const char *s, size_t n) __attribute__((malloc, warn_unused_result));
void bt_free(void *p);

/* For small allocations at start-up only: aborts with a message when out of memory. */
void *bt_must(void *p);

/* Test hooks. fail_at(n): the n-th allocation from now on fails, once (0 = off).
 * guard_begin: any allocation of this thread until guard_end aborts. */
void bt_mem_fail_at(long n);
bool bt_mem_failed(void); // whether the planned failure has happened
void bt_mem_guard_begin(void);
void bt_mem_guard_end(void);

/* An arena: allocation by bump, freed all at once. Bounded: NULL past max_bytes. */
typedef struct bt_arena {
    struct bt_arena_block *head;
    size_t used, max_bytes;
} bt_arena;
void bt_arena_init(bt_arena *a, size_t max_bytes);
void bt_arena_release(bt_arena *a);
void *bt_arena_alloc(bt_arena *a, size_t bytes)
    __attribute__((warn_unused_result)); // 16-aligned, zeroed
char *bt_arena_strndup(bt_arena *a, const char *s, size_t n);
