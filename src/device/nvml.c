/* SPDX-License-Identifier: Apache-2.0 */
/* nvml.c - the few calls of libnvidia-ml that Baton uses, declared here so that no header and no
 * library is needed to build (NVML API reference, version 11 and later). */
#include "device/nvml.h"
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

static struct {
    int (*init)(void);
    int (*by_pci)(const char *, void **);
    int (*by_uuid)(const char *, void **);
    int (*memory)(void *, nvml_memory *);
    int (*driver)(char *, unsigned);
    const char *(*text)(int);
} nvml;

static bool bind(void *library, void *slot, const char *name)
{
    void *fn = dlsym(library, name);
    memcpy(slot, &fn, sizeof fn); // ISO C forbids the cast
    return fn != NULL;
}

static bt_status nvml_ready(bt_err *err)
{
    static int state; // 0 not tried, 1 ready, -1 not there
    if (state == 0) {
        void *lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        bool ok = lib && bind(lib, &nvml.init, "nvmlInit_v2") &&
                  bind(lib, &nvml.by_pci, "nvmlDeviceGetHandleByPciBusId_v2") &&
                  bind(lib, &nvml.by_uuid, "nvmlDeviceGetHandleByUUID") &&
                  bind(lib, &nvml.memory, "nvmlDeviceGetMemoryInfo") &&
                  bind(lib, &nvml.driver, "nvmlSystemGetDriverVersion") &&
                  bind(lib, &nvml.text, "nvmlErrorString") && nvml.init() == 0;
        state = ok ? 1 : -1;
    }
    return state > 0
               ? BT_OK
               : bt_err_set(err, BT_ENOTFOUND, 0, "the NVIDIA management library is not here");
}

bt_status bt_nvml_memory_read(const char *id, bt_nvml_memory *out, bt_err *err)
{
    void *device = NULL;
    nvml_memory m = {0};
    bt_status st = nvml_ready(err);
    if (st) return st;
    bool uuid = strncmp(id, "GPU-", 4) == 0 || strncmp(id, "MIG-", 4) == 0;
    int code = uuid ? nvml.by_uuid(id, &device) : nvml.by_pci(id, &device);
    if (code == 0) code = nvml.memory(device, &m);
    if (code != 0)
        return bt_err_set(err, BT_EDEVICE, code, "the driver does not tell the memory of %.48s: %s",
                          id, nvml.text(code));
    *out = (bt_nvml_memory){m.total, m.free, m.used};
    return BT_OK;
}

bt_status bt_nvml_driver(char *dst, uint32_t n, bt_err *err)
{
    bt_status st = nvml_ready(err);
    if (st) return st;
    int code = nvml.driver(dst, n);
    return code == 0 ? BT_OK
                     : bt_err_set(err, BT_EDEVICE, code, "the driver does not tell its version: %s",
                                  nvml.text(code));
}
