/* SPDX-License-Identifier: Apache-2.0 */
/* assert.h - BT_ASSERT: bugs end the process, in release builds too. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#define BT_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) {                                                        \
            fprintf(stderr, "baton: bug: %s:%d: %s does not hold\n", __FILE__, __LINE__, #cond);   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define BT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define BT_MAX(a, b) ((a) > (b) ? (a) : (b))
#define BT_COUNT(array) (sizeof(array) / sizeof *(array))
