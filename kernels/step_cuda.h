/* SPDX-License-Identifier: Apache-2.0 */
/* step_cuda.h - what joins one step to the next on the device. */
#pragma once
#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* token[r] < 0 becomes drawn[-(token[r] + 1)], for r in [0, n): the step reads what the step before
 * drew without a visit to the host. Both on the device. No synchronization, no allocation. */
cudaError_t bt_cuda_step_tokens(int32_t *token, const int32_t *drawn, int32_t n,
                                cudaStream_t stream);

#ifdef __cplusplus
}
#endif
