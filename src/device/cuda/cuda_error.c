/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_error.c - which faults stick, and what to do about each. */
#include "device/cuda/cuda_error.h"
#include <string.h>

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
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorECCUncorrectable: return true;
    default: return false;
    }
}

const char *bt__cuda_advice(cudaError_t code)
{
    if (bt__cuda_sticky(code)) return "; the engine process must be started again";
    switch (code) {
    case cudaErrorNoDevice:
        return "; give the container its GPU (docker run --gpus all) and look at "
               "CUDA_VISIBLE_DEVICES";
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceAlreadyInUse:
        return "; another process holds it in exclusive mode, or it was lost: see nvidia-smi";
    case cudaErrorSystemNotReady: return "; start nvidia-fabricmanager, or wait until it is up";
    case cudaErrorSystemDriverMismatch:
        return "; the driver was updated while in use: reboot, or reload its kernel modules";
    case cudaErrorCompatNotSupportedOnDevice:
        return "; take the cuda-compat libraries off LD_LIBRARY_PATH, this GPU cannot use them";
    case cudaErrorInitializationError:
    case cudaErrorOperatingSystem:
    case cudaErrorUnknown:
        return "; is nvidia-uvm loaded (nvidia-modprobe -u)? dmesg may name an Xid";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
        return "; this build has no code for this GPU: build with -DBATON_CUDA_ARCHS=native on it, "
               "or =all";
    default: return "";
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
                      cudaGetErrorString(code), cudaGetErrorName(code), bt__cuda_advice(code));
}

bt_status bt__cuda_pinned(size_t bytes, const char *what, void *slot, bt_err *err)
{
    void *p = NULL;
    cudaError_t code = cudaHostAlloc(&p, bytes, cudaHostAllocDefault);
    if (code != cudaSuccess) p = NULL;
    memcpy(slot, &p, sizeof p); // whatever it points to: a cast would break C's aliasing rule
    if (code == cudaSuccess) return BT_OK;
    if (code != cudaErrorMemoryAllocation) return bt__cuda_status(code, what, err);
    cudaGetLastError();
    return bt_err_set(err, BT_ENOMEM, (int32_t)code,
                      "the host has no %zu MiB of memory to pin for %s; free some, or raise the "
                      "container's limit",
                      (bytes >> 20) + 1, what);
}
