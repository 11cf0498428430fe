/* SPDX-License-Identifier: Apache-2.0 */
/* kv_bound.h - how exact each format of the KV cache is, for tests. */
#pragma once
#include "baton/backend.h"
#include <math.h>

/* What a row of a KV cache is allowed to lose: a bound on |stored - x| for x of a row whose
 * greatest is amax. */
static inline double kv_stored_within(bt_kv_format format, double x, double amax)
{
    switch (format) {
    case BT_KV_F32: return 0;
    case BT_KV_F16: return fabs(x) / 2048 + 1e-7;
    case BT_KV_BF16: return fabs(x) / 256;
    case BT_KV_INT8: return 0.57 * amax / 127;
    case BT_KV_FP8: break;
    }
    return fmax(fabs(x) / 16, amax / 448 / 1024 * 1.01);
}
