/* SPDX-License-Identifier: Apache-2.0 */
/* emu.h - the emulated device's own controls, for tests. See README.md beside this file.
 *
 * Thread: any. Environment, read at the first CUDA call and by bt_emu_reset():
 *   BT_EMU_SM=75|80|86|89|90   the architecture whose limits hold (default 80)
 *   BT_EMU_MEM_MB=n            device memory (default 512)
 *   BT_EMU_SEED=n              orders of threads, blocks, streams (default 0: the cheapest one)
 *   BT_EMU_FAIL_AT=n           the n-th runtime call fails
 *   BT_EMU_FAULT_AT=n          the n-th kernel meets an illegal address
 *   BT_EMU_EAGER=1             streams run at once, not when somebody waits for them
 *   BT_EMU_DEVICES=0           no device is found
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As a new process would find the device: everything freed, errors forgotten, environment read
 * again. Device pointers, streams and all other handles of before are invalid. */
void bt_emu_reset(void);

void bt_emu_seed(uint64_t seed);    // 0: the cheapest order; others: random but legal orders
void bt_emu_sm(int sm);             // 75, 80, 86, 89 or 90
void bt_emu_memory(uint64_t bytes); // size of device memory
void bt_emu_eager(bool eager);

/* The n-th runtime or driver call from now on fails once, and does nothing (a release still
 * releases); 0: none. Queries of errors and names do not count. */
void bt_emu_fail_at(long n);
bool bt_emu_failed(void); // whether that has happened
/* Asked at each runtime or driver call, by its name, whether it fails, and at each kernel to run,
 * by "kernel", whether it meets an illegal address; NULL: nobody is asked. It may fork, so that a
 * child goes on with the failure and this process without. */
void bt_emu_fail_if(bool (*decide)(const char *what));
const char *bt_emu_failed_call(void); // the name of the call that failed, or ""
/* Every call of this name (a runtime's, a driver's, or cublasLtMatmul) answers this error and does
 * nothing; NULL: none does. The name must stay. */
void bt_emu_answer(const char *call, int error);
/* The n-th kernel to run from now on meets an illegal address: a sticky fault; 0: none. */
void bt_emu_fault_at(long n);
/* From now on every call answers that the device is gone, until bt_emu_reset().
 */
void bt_emu_lose_device(void);
/* Whether a broken rule inside a kernel ends the process with a report (the default), or is a
 * sticky fault of the device, as on a real one. */
void bt_emu_abort_on_bug(bool yes);
/* The text of the last broken rule, or "". */
const char *bt_emu_last_bug(void);

/* How many allocations, streams, events, graphs and so on are alive; names them on stderr if
 * `tell`. At exit a process with any fails. */
int bt_emu_alive(bool tell);

/* Counts since the last reset. */
uint64_t bt_emu_calls(void);
uint64_t bt_emu_kernels(void);
uint64_t bt_emu_used_bytes(void); // device memory in use

/* A function of the emulated libraries by name (cuBLASLt's), or NULL. */
void *bt_emu_dlsym(const char *symbol);

#ifdef __cplusplus
}
#endif
