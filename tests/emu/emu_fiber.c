/* SPDX-License-Identifier: Apache-2.0 */
/* emu_fiber.c - stacks and the switch between them.
 *
 * The switch saves the registers a called function must keep and exchanges the stack pointer: no
 * system call, a few nanoseconds. Elsewhere than on x86-64, ucontext does the same slowly. ASan is
 * told of every switch, or it would take the new stack for a wild one. */
#define _GNU_SOURCE
#include "emu_internal.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096 };

static emu_fiber *switched_from; // for the first instruction of a new fiber

#if defined(__x86_64__)
void emu_fiber_swap(void **save, void *to);
__asm__(".text\n"
        ".p2align 4\n"
        ".type emu_fiber_swap,@function\n"
        "emu_fiber_swap:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size emu_fiber_swap,.-emu_fiber_swap\n");

/* The first switch pops six registers and returns into entry() with the stack as after a call. */
static void prepare(emu_fiber *f, char *top, void (*entry)(void))
{
    uintptr_t *sp = (uintptr_t *)(void *)top;
    *--sp = 0; // entry's return address: it has none
    *--sp = (uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--sp = 0;
    f->sp = sp;
}
static void swap(emu_fiber *from, emu_fiber *to)
{
    emu_fiber_swap(&from->sp, to->sp);
}
#else
static ucontext_t *context_of(emu_fiber *f)
{
    if (!f->sp) f->sp = emu_must(calloc(1, sizeof(ucontext_t)));
    return f->sp;
}
static void prepare(emu_fiber *f, char *top, void (*entry)(void))
{
    ucontext_t *c = context_of(f);
    getcontext(c);
    c->uc_stack.ss_sp = f->stack;
    c->uc_stack.ss_size = (size_t)(top - f->stack);
    c->uc_link = NULL;
    makecontext(c, entry, 0);
}
static void swap(emu_fiber *from, emu_fiber *to)
{
    swapcontext(context_of(from), context_of(to));
}
#endif

emu_fiber *emu_fiber_new(void (*entry)(void))
{
    static unsigned made;
    emu_fiber *f = emu_must(calloc(1, sizeof *f));
    char *block = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED || mprotect(block, GUARD_BYTES, PROT_NONE)) {
        fprintf(stderr, "emulated device: no memory for a thread's stack\n");
        abort();
    }
    /* Tops at different distances from a page's end, or all stacks would share few cache sets. */
    f->stack = block + GUARD_BYTES;
    f->stack_size = STACK_BYTES - made++ * 320 % 4096;
    emu_fiber_reset(f, entry);
    return f;
}

void emu_fiber_reset(emu_fiber *f, void (*entry)(void))
{
#if EMU_ASAN
    __asan_unpoison_memory_region(f->stack, f->stack_size);
#endif
    f->fake = NULL;
    prepare(f, f->stack + f->stack_size, entry);
}

#if EMU_ASAN
static void arrived(emu_fiber *self)
{
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self ? self->fake : NULL, &bottom, &size);
    if (switched_from && !switched_from->stack_size) {
        switched_from->stack = (char *)(uintptr_t)bottom; // a host thread's: now known
        switched_from->stack_size = size;
    }
}

void emu_fiber_switch(emu_fiber *from, emu_fiber *to)
{
    switched_from = from;
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->stack_size);
    swap(from, to);
    arrived(from);
}
#else
static void arrived(emu_fiber *self)
{
    (void)self;
    (void)switched_from;
}

void emu_fiber_switch(emu_fiber *from, emu_fiber *to)
{
    swap(from, to);
}
#endif

void emu_fiber_started(void)
{
    arrived(NULL);
}
