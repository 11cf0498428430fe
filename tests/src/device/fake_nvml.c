/* SPDX-License-Identifier: Apache-2.0 */
/* fake_nvml.c - the calls of libnvidia-ml that src/device/nvml.c binds, for machines without a
 * driver: one device, whose id and memory are the line "ID TOTAL FREE USED" of the file that
 * FAKE_NVML names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_FOUND = 6, UNKNOWN = 999 };
typedef struct memory {
    unsigned long long total, free, used;
} memory;

static int read_line(char id[static 64], memory *m)
{
    FILE *f = fopen(getenv("FAKE_NVML"), "r");
    int n = f ? fscanf(f, "%63s %llu %llu %llu", id, &m->total, &m->free, &m->used) : 0;
    if (f) fclose(f);
    return n == 4 ? OK : UNKNOWN;
}

static int by_id(const char *id, void **device)
{
    static char known[64];
    memory m;
    if (read_line(known, &m)) return UNKNOWN;
    *device = known;
    return strcmp(id, known) == 0 ? OK : NOT_FOUND;
}

int nvmlInit_v2(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device);
int nvmlDeviceGetHandleByUUID(const char *id, void **device);
int nvmlDeviceGetMemoryInfo(void *device, memory *out);
int nvmlSystemGetDriverVersion(char *dst, unsigned n);
const char *nvmlErrorString(int code);

int nvmlInit_v2(void)
{
    return getenv("FAKE_NVML") ? OK : UNKNOWN;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device)
{
    return by_id(id, device);
}
int nvmlDeviceGetHandleByUUID(const char *id, void **device)
{
    return by_id(id, device);
}
int nvmlDeviceGetMemoryInfo(void *device, memory *out)
{
    return read_line(device, out);
}
int nvmlSystemGetDriverVersion(char *dst, unsigned n)
{
    snprintf(dst, n, "550.54.15");
    return OK;
}
const char *nvmlErrorString(int code)
{
    return code == NOT_FOUND ? "Not Found" : "Unknown Error";
}
