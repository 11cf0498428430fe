/* SPDX-License-Identifier: Apache-2.0 */
/* crypto.h - what secrets need. Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void bt_random(void *dst, size_t len); // from the kernel; aborts if it has none to give
uint64_t bt_random_id(void);           // never 0, below 2^63
void bt_sha256(const void *data, size_t len, uint8_t dst[static 32]);
bool bt_secret_equal(const void *a, const void *b, size_t len); // constant time
