/* SPDX-License-Identifier: Apache-2.0 */
/* emu_bug.c - reports: what rule a kernel or a caller broke, where, and with which threads. Illegal
 * addresses arrive as SIGSEGV: device memory is mapped exactly, with guards between. */
#define _GNU_SOURCE
#include "emu_internal.h"
#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

static bool aborts = true;
static char last_bug[512];
static struct sigaction previous;

void bt_emu_abort_on_bug(bool yes)
{
    aborts = yes;
}

bool emu_bug_aborts(void)
{
    return aborts;
}

const char *bt_emu_last_bug(void)
{
    return last_bug;
}

void *emu_must(void *p)
{
    if (!p) {
        fprintf(stderr, "emulated device: out of host memory\n");
        abort();
    }
    return p;
}

void emu_note(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
}

static void print_stack(void)
{
#if EMU_ASAN
    __sanitizer_print_stack_trace();
#else
    void *frames[24];
    backtrace_symbols_fd(frames, backtrace(frames, 24), 2);
#endif
}

void emu_bug(cudaError_t error, emu_site site, const char *format, ...)
{
    char where[320];
    va_list ap;
    va_start(ap, format);
    vsnprintf(last_bug, sizeof last_bug, format, ap);
    va_end(ap);
    emu_describe_thread(where, sizeof where);
    if (aborts || !emu_in_kernel()) {
        emu_note("emulated device: bug: %s\n  %s\n", last_bug, where);
        if (site.line)
            emu_note("  at %s:%d\n", site.file, site.line);
        else if (site.file && *site.file)
            emu_note("  near %s\n", site.file);
        print_stack();
        abort();
    }
    emu_sticky_set(error);
    emu_kernel_leave();
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)context;
    char what[256];
    emu_memory_describe(info->si_addr, what, sizeof what);
    if (emu_in_kernel())
        emu_bug(cudaErrorIllegalAddress, (emu_site){NULL, 0}, "illegal address %p: %s",
                info->si_addr, what);
    if (emu_in_arena(info->si_addr)) {
        emu_note("emulated device: bug: host code touches device memory at %p: %s\n", info->si_addr,
                 what);
        print_stack();
        abort();
    }
    sigaction(sig, &previous,
              NULL); // not ours: happens again under the handler of before
}

void emu_fault_handler_install(void)
{
    static bool installed;
    static _Thread_local char alternate[65536];
    stack_t now;
    if (!sigaltstack(NULL, &now) && (now.ss_flags & SS_DISABLE)) {
        stack_t mine = {.ss_sp = alternate, .ss_size = sizeof alternate};
        sigaltstack(&mine, NULL);
    }
    if (installed) return;
    installed = true;
    void *warm[1];
    (void)backtrace(warm, 1); // loads its library now, not inside the handler
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on_segv;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &a, &previous);
}

void emu_misaligned(const void *p, size_t bytes, const char *file, int line)
{
    emu_bug(cudaErrorMisalignedAddress, (emu_site){file, line}, "%p is not aligned to %zu bytes", p,
            bytes);
}

void emu_trap(const char *file, int line)
{
    emu_bug(cudaErrorLaunchFailure, (emu_site){file, line}, "__trap()");
}
