/* SPDX-License-Identifier: Apache-2.0 */
/* emu_race.h - between emu_race.c and what it watches. Without instrumented kernels nothing of it
 * does anything but cost a few instructions a launch. */
#pragma once
#include "emu_internal.h"

/* emu_race.c */
void emu_race_begin(void); // a grid starts
void emu_race_end(void);
void emu_race_access(const void *p, size_t bytes, size_t align, bool write, bool atomic,
                     uintptr_t pc);
void emu_race_settle(void); // the running thread ends
extern bool emu_race_on;    // kernels are instrumented

/* emu_block.c */
size_t emu_shared_window(void);        // bytes of address space that shared memory may take
long emu_shared_offset(const void *p); // in that window; negative: not in it
bool emu_on_own_stack(const void *p);  // of the running thread
bool emu_on_a_stack(const void *p);    // of any thread
bool emu_in_arguments(const void *p);  // of the running launch
/* Where the running thread is, and what it has passed: barriers, its warp's __syncwarps, and the
 * barriers of its team. */
typedef struct emu_position {
    uint32_t block, thread, epoch, warp_epoch, team_epoch;
} emu_position;
emu_position emu_race_position(void);
uint32_t emu_race_team(uint32_t thread); // the last such barrier of its warp; 0: none yet

/* emu_memory.c: the shadow of device memory */
enum { EMU_CELL_BYTES = 32 };      // for each byte
void *emu_cells_of(const void *p); // p is in a live region
void emu_cells_forget(void);
