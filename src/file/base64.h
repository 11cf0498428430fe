/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - RFC 4648 base64 to bytes. Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Strict: no white space, '=' padding to a multiple of four (or, if !padded, none needed), unused
 * bits zero. dst has room for 3 * (n / 4) + 3 and may be src. False: not base64. */
bool bt_base64_decode(const char *src, size_t n, bool padded, void *dst, size_t *n_out);
