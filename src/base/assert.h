/* SPDX-License-Identifier: Apache-2.0 */
/* assert.h - BT_ASSERT: bugs end the process, in release builds too. */
#pragma once
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* Says so on stderr, and aborts (base/log.c). */
__attribute__((noreturn, cold)) void bt_bug(const char *file, int line, const char *what);

#define BT_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) bt_bug(__FILE__, __LINE__, #cond);                       \
    } while (0)

#define BT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define BT_MAX(a, b) ((a) > (b) ? (a) : (b))
#define BT_COUNT(array) (sizeof(array) / sizeof *(array))
/* The struct whose member this pointer points at. */
#define BT_OF(type, member, ptr) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
