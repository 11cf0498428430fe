/* SPDX-License-Identifier: Apache-2.0 */
/* emu_test.h - for the emulated device's own tests: running something that must be caught. */
#pragma once
#include "emu.h"
#include "kernels/cuda_test.h"
#include <sys/wait.h>
#include <unistd.h>

#define EMU_TEST_ASAN 0
#if defined(__SANITIZE_ADDRESS__)
#undef EMU_TEST_ASAN
#define EMU_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef EMU_TEST_ASAN
#define EMU_TEST_ASAN 1
#endif
#endif

/* Reports need no names of functions here, and looking them up takes a second each. */
extern "C" const char *__asan_default_options(void);
extern "C" const char *__asan_default_options(void)
{
    return "symbolize=0";
}

/* What a child process that ran fn() wrote to stderr; *status as waitpid gave it. */
static inline const char *said_by_child(void (*fn)(void), int *status)
{
    static char said[65536];
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    fflush(stderr);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        fn();
        exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t got;
    while (n + 1 < sizeof said && (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = 0;
    close(ends[0]);
    waitpid(pid, status, 0);
    return said;
}

/* fn() must end the process with this text in its report. */
static inline void check_dies(void (*fn)(void), const char *text)
{
    int status = 0;
    const char *said = said_by_child(fn, &status);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    if (!strstr(said, text)) fprintf(stderr, "expected \"%s\" in:\n%s\n", text, said);
    CHECK(strstr(said, text) != NULL);
}

/* fn() launches a kernel that must be stopped for this reason, as a fault of the device. */
static inline void check_faults(void (*fn)(void), cudaError_t error, const char *text)
{
    bt_emu_reset();
    bt_emu_abort_on_bug(false);
    fn();
    cudaError_t e = cudaDeviceSynchronize();
    CHECK_INT(e, error);
    if (!strstr(bt_emu_last_bug(), text))
        fprintf(stderr, "expected \"%s\", got \"%s\"\n", text, bt_emu_last_bug());
    CHECK(strstr(bt_emu_last_bug(), text) != NULL);
    CHECK_INT(cudaDeviceSynchronize(), error); // and it stays
    bt_emu_reset();
}
