/* SPDX-License-Identifier: Apache-2.0 */
/* the log over a pipe that nobody reads */
#include "base/clock.h"
#include "base/log.h"
#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINES = 5000, THREADS = 2 };

static int pipe_fd[2], own_stderr;

/* stderr becomes a full pipe. */
static void block_stderr(void)
{
    static char junk[4096];
    memset(junk, '.', sizeof junk);
    junk[sizeof junk - 1] = '\n';
    REQUIRE(pipe(pipe_fd) == 0);
    fcntl(pipe_fd[1], F_SETFL, O_NONBLOCK);
    while (write(pipe_fd[1], junk, sizeof junk) > 0) continue;
    fcntl(pipe_fd[1], F_SETFL, 0);
    own_stderr = dup(2);
    dup2(pipe_fd[1], 2);
}

static void *talk(void *ud)
{
    for (int i = 0; i < LINES; i++)
        bt_log(BT_LOG_INFO, "test.line", "i=%d by=%d padding=%060d", i, *(int *)ud, 0);
    return NULL;
}

/* Reads lines until none has come for ms. */
static void read_lines(int ms, int *lines, long long *told, int *torn)
{
    static char text[4 << 20];
    size_t n = 0;
    struct pollfd p = {pipe_fd[0], POLLIN, 0};
    while (n < sizeof text - 1 && poll(&p, 1, ms) > 0) {
        ssize_t got = read(pipe_fd[0], text + n, sizeof text - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    text[n] = 0;
    char *save;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *dropped = strstr(line, " log.dropped lines=");
        if (dropped)
            *told += atoll(dropped + 19);
        else if (strstr(line, " test.line i="))
            (*lines)++, *torn += strlen(line) < 100;
        else
            *torn += line[0] != '.';
    }
}

static void nobody_waits_for_stderr(void)
{
    pthread_t thread[THREADS];
    int who[THREADS], lines = 0, torn = 0;
    long long told = 0;
    bt_log_background();
    block_stderr();
    int64_t from = bt_now_ns();
    for (int i = 0; i < THREADS; i++) {
        who[i] = i;
        pthread_create(&thread[i], NULL, talk, &who[i]);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    bt_log_flush(50); // gives up
    double took_ms = (double)(bt_now_ns() - from) / 1e6;
    long long dropped = bt_log_dropped();
    read_lines(300, &lines, &told, &torn);
    dup2(own_stderr, 2);
    fprintf(stderr, "%d lines in %.0f ms, %lld dropped\n", LINES * THREADS, took_ms, dropped);
    CHECK(took_ms < 5000);
    CHECK(dropped > 0 && lines > 0);
    CHECK_INT(torn, 0);
    CHECK_INT(told, dropped);
    CHECK_INT(lines + dropped, LINES * THREADS);
}

static void exit_waits_for_the_last_line(void)
{
    int fd[2], status;
    char text[4096];
    REQUIRE(pipe(fd) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 2);
        execl("/proc/self/exe", "test-log", "last-line", NULL);
        _exit(1);
    }
    close(fd[1]);
    ssize_t n, all = 0;
    while ((n = read(fd[0], text + all, sizeof text - 1 - (size_t)all)) > 0) all += n;
    text[all] = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    CHECK(strstr(text, "the last line\n") != NULL);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "last-line") == 0) {
        bt_log_background();
        bt_say("the last line");
        exit(3);
    }
    RUN(exit_waits_for_the_last_line);
    RUN(nobody_waits_for_stderr);
    return TEST_END();
}
