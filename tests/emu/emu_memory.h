/* SPDX-License-Identifier: Apache-2.0 */
/* emu_memory.h - what only the driver's side (emu_driver.c) needs of the arena.
 */
#pragma once
#include "emu_internal.h"

char *emu_va_take(size_t bytes, size_t align); // addresses, never given twice
bool emu_chunk_take(size_t bytes);             // physical memory; false: there is not that much
void emu_chunk_give(size_t bytes);
void emu_chunk_map(char *va, size_t bytes); // fresh poison, no access
void emu_chunk_unmap(char *va);             // its contents are lost
void emu_chunk_access(char *va, bool yes);
