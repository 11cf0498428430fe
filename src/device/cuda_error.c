/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_error.h"

bool bt__cuda_sticky(cudaError_t code)
{
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable: return true;
    default: return false;
    }
}

bt_status bt__cuda_status(cudaError_t code, const char *doing, bt_err *err)
{
    if (code == cudaSuccess) return BT_OK;
    cudaGetLastError();
    if (code == cudaErrorMemoryAllocation)
        return bt_err_set(
            err, BT_ENOMEM, (int32_t)code,
            "the device has not enough free memory for %s; use a smaller --ctx, fewer "
            "--slots or a smaller quantization",
            doing);
    return bt_err_set(err, BT_EDEVICE, (int32_t)code, "%s failed: %s (%s)%s", doing,
                      cudaGetErrorString(code), cudaGetErrorName(code),
                      bt__cuda_sticky(code) ? "; the engine process must be started again" : "");
}
