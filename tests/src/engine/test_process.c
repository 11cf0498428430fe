/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL fault TIMEOUT 120 */
/* test_process.c - the engine as a process: a conversation over its socket, and each way it ends.
 */
#include "engine/process.h"
#include "engine/wire.h"
#include "fake_engine.h"
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct peer {
    pid_t pid;
    int fd;
    bt_frame_reader in;
    bt_buf out;
    bt_wire_storage storage;
    bt_wire_tokens tokens;
    event_log log;
    bool fatal, closed;
    bt_status fatal_code;
    char fatal_message[256];
} peer;

static peer p;

static fake_engine *fake_child;

static bt_status open_fake(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                           bt_engine **out, bt_err *err)
{
    bt_engine_parts parts = {&fake_backends[fake_ahead], &fake_child->recipe, &fake_child->weights,
                             fake_child->vocab,          fake_child->plan,    "fake"};
    return bt_engine_open_parts(&parts, opt, sink, ud, out, err);
}

static void start(bt_engine_opener opener)
{
    int fd[2];
    memset(&p, 0, sizeof p);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    p.pid = fork();
    REQUIRE(p.pid >= 0);
    if (p.pid == 0) {
        close(fd[0]);
        _exit(bt_engine_main(fd[1], NULL, opener));
    }
    close(fd[1]);
    p.fd = fd[0];
}

static void send_all(void)
{
    bt_err err = {0};
    bt_status status = bt_frame_flush(&p.out, p.fd, bt_now_ns() + 5000000000, &err);
    if (status) fprintf(stderr, "send: %s\n", err.msg);
    CHECK(!status);
}

static void send_options(const char *model)
{
    bt_engine_options opt = {.model_path = model, .threads = 1};
    bt_wire_put_options(&p.out, &opt);
    send_all();
}

static void send_submit(const bt_engine_request *q)
{
    log_add(&p.log, q->id, q->n_seq);
    bt_wire_put_submit(&p.out, q);
    send_all();
}

/* Takes events for at most this long; true as soon as *flag is. */
static bool take_until(const bool *flag, int64_t ms)
{
    int64_t deadline = bt_now_ns() + ms * 1000000;
    while (!*flag && bt_now_ns() < deadline && !p.closed) {
        struct pollfd poll_fd = {.fd = p.fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 10) <= 0) continue;
        bt_err err = {0};
        bt_frame frame;
        bt_engine_event ev;
        if (bt_frame_reader_fill(&p.in, p.fd, &err)) p.closed = true;
        int got;
        while ((got = bt_frame_reader_next(&p.in, &frame, &err)) > 0) {
            bt_status status =
                bt_wire_get_event(frame.type, &frame.rd, &p.storage, &p.tokens, &ev, &err);
            if (status) fprintf(stderr, "event: %s\n", err.msg);
            REQUIRE(!status);
            if (ev.type == BT_EE_FATAL) {
                p.fatal = true;
                p.fatal_code = ev.u.fatal.code;
                snprintf(p.fatal_message, sizeof p.fatal_message, "%s", ev.u.fatal.message);
            } else if (ev.type == BT_EE_END && ev.u.end.status) {
                request_log *r = log_find(&p.log, ev.request); // refused: it has no other event
                REQUIRE(r);
                r->ended = true;
                r->end = ev;
            } else {
                log_sink(&p.log, &ev);
            }
        }
        REQUIRE(got == 0);
    }
    return *flag;
}

/* The exit code, or -1 if it was killed or did not end. */
static int wait_exit(int64_t ms)
{
    int64_t deadline = bt_now_ns() + ms * 1000000;
    int status = 0;
    pid_t got = 0;
    while ((got = waitpid(p.pid, &status, WNOHANG)) == 0 && bt_now_ns() < deadline)
        bt_sleep_ns(1000000);
    if (got == 0) {
        kill(p.pid, SIGKILL);
        waitpid(p.pid, &status, 0);
    }
    close(p.fd);
    bt_frame_reader_release(&p.in);
    bt_buf_release(&p.out);
    log_release(&p.log);
    return got > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const int32_t once[] = {1, 403, 407, 261, 378};

static void conversation(void)
{
    start(bt_engine_open);
    send_options("models/stories260K.gguf");
    REQUIRE(take_until(&p.log.ready, 10000));
    CHECK(p.log.n_load >= 1);
    CHECK_INT(p.log.ready_event.u.ready.vocab, 512);
    bt_engine_request q = ask(1, once, 5, 30);
    q.params.n_logprobs = 2;
    send_submit(&q);
    q.id = 2;
    q.n_seq = 2;
    send_submit(&q);
    REQUIRE(take_until(&p.log.request[0]->ended, 10000));
    REQUIRE(take_until(&p.log.request[1]->ended, 10000));
    const char *start_of_text = ", there was a little girl named Lily.";
    CHECK(strncmp(p.log.request[0]->seq[0].text, start_of_text, strlen(start_of_text)) == 0);
    CHECK(strncmp(p.log.request[1]->seq[1].text, start_of_text, strlen(start_of_text)) == 0);
    CHECK_INT(p.log.request[0]->seq[0].n_top, 2);
    /* A long one is cancelled on its way. */
    q = ask(3, once, 5, 480);
    send_submit(&q);
    while (p.log.request[2]->seq[0].n_tokens == 0) take_until(&p.log.request[2]->ended, 5);
    bt_wire_put_cancel(&p.out, 3, 1, BT_FINISH_CANCELLED);
    send_all();
    REQUIRE(take_until(&p.log.request[2]->ended, 10000));
    CHECK_INT(p.log.request[2]->end.u.end.finish, BT_FINISH_CANCELLED);
    /* What it cannot take comes back, it does not vanish. */
    q = ask(4, once, 5, 10);
    q.params.temperature = -1;
    send_submit(&q);
    REQUIRE(take_until(&p.log.request[3]->ended, 10000));
    CHECK_INT(p.log.request[3]->end.u.end.status, BT_EINVAL);
    CHECK_INT(p.log.request[3]->end.u.end.finish, BT_FINISH_REFUSED);
    bt_wire_put_release(&p.out, 1);
    bt_wire_put_plain(&p.out, BT_WIRE_STOP);
    send_all();
    CHECK_INT(wait_exit(5000), BT_ENGINE_EXIT_OK);
}

/* A paused request sleeps until its budget or its deadline comes, and an idle engine uses no CPU.
 */
static void budget_deadline_and_idleness(void)
{
    start(bt_engine_open);
    send_options("models/stories260K.gguf");
    REQUIRE(take_until(&p.log.ready, 10000));
    bt_engine_request q = ask(1, once, 5, 40);
    q.lease.budget_us = 1;
    send_submit(&q);
    CHECK(!take_until(&p.log.request[0]->ended, 100));
    clockid_t clock;
    struct timespec before, after;
    REQUIRE(clock_getcpuclockid(p.pid, &clock) == 0);
    clock_gettime(clock, &before);
    CHECK(!take_until(&p.log.request[0]->ended, 500));
    clock_gettime(clock, &after);
    int64_t cpu_ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    CHECK(cpu_ns < 10000000);
    bt_wire_put_budget(&p.out, 1, 1, INT64_MAX, true);
    send_all();
    CHECK(take_until(&p.log.request[0]->ended, 10000));
    CHECK_INT(p.log.request[0]->end.u.end.finish, BT_FINISH_LENGTH);
    q.id = 2;
    q.lease.deadline_ns = bt_now_ns() + 200000000;
    send_submit(&q);
    CHECK(take_until(&p.log.request[1]->ended, 2000)); // long before the idle sleep is over
    CHECK_INT(p.log.request[1]->end.u.end.finish, BT_FINISH_LEASE_EXPIRED);
    CHECK(bt_now_ns() >= q.lease.deadline_ns);
    shutdown(p.fd, SHUT_RDWR); // front is gone
    CHECK_INT(wait_exit(2000), BT_ENGINE_EXIT_OK);
}

static void load_failure(void)
{
    start(bt_engine_open);
    send_options("models/absent.gguf");
    REQUIRE(take_until(&p.fatal, 10000));
    CHECK(strstr(p.fatal_message, "absent.gguf") != NULL);
    CHECK_INT(wait_exit(2000), BT_ENGINE_EXIT_LOAD);
}

static void broken_protocol(void)
{
    for (int32_t i = 0; i < 3; i++) {
        start(bt_engine_open);
        if (i > 0) {
            send_options("models/stories260K.gguf");
            REQUIRE(take_until(&p.log.ready, 10000));
        }
        if (i == 0) bt_wire_put_plain(&p.out, BT_WIRE_STOP); // options must come first
        if (i == 1) bt_buf_adds(&p.out, "GET / HTTP/1.1\r\n\r\n");
        if (i == 2) bt_frame_end(&p.out, bt_frame_begin(&p.out, BT_WIRE_SUBMIT));
        send_all();
        CHECK(take_until(&p.fatal, 5000));
        CHECK_INT(wait_exit(2000), BT_ENGINE_EXIT_LOAD);
    }
}

static void device_fault(void)
{
    fake_child = fake_new();
    fake.fail_at = 400; // past the warm-up
    start(open_fake);
    send_options("any");
    REQUIRE(take_until(&p.log.ready, 10000));
    bt_engine_request q = ask(1, once, 5, 80);
    send_submit(&q);
    REQUIRE(take_until(&p.fatal, 10000));
    CHECK_INT(p.fatal_code, BT_EDEVICE);
    CHECK(strstr(p.fatal_message, "scripted") != NULL);
    CHECK(!p.log.request[0]->ended);
    CHECK_INT(wait_exit(2000), BT_ENGINE_EXIT_FAULT);
    fake_end(fake_child);
}

/* A device lost between two requests is a device's fault too: front starts another engine. */
static void device_fault_while_parking(void)
{
    fake_child = fake_new();
    fake.park_fails = true;
    start(open_fake);
    send_options("any");
    REQUIRE(take_until(&p.log.ready, 10000));
    bt_wire_put_plain(&p.out, BT_WIRE_PARK);
    send_all();
    REQUIRE(take_until(&p.fatal, 10000));
    CHECK_INT(p.fatal_code, BT_EDEVICE);
    CHECK_INT(wait_exit(2000), BT_ENGINE_EXIT_FAULT);
    fake_end(fake_child);
}

static bool process_runs(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = fscanf(f, "%*d (%*[^)]) %c", &state) == 1;
    fclose(f);
    return ok && state != 'Z';
}

/* kill -9 of front ends the engine though its socket stays open elsewhere. */
static void dies_with_its_parent(void)
{
    int fd[2], pids[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && pipe(pids) == 0);
    pid_t front = fork();
    REQUIRE(front >= 0);
    if (front == 0) {
        pid_t engine = fork();
        if (engine == 0) _exit(bt_engine_main(fd[1], NULL, bt_engine_open));
        if (write(pids[1], &engine, sizeof engine) != (ssize_t)sizeof engine) _exit(1);
        for (;;) pause();
    }
    pid_t engine = 0;
    REQUIRE(read(pids[0], &engine, sizeof engine) == (ssize_t)sizeof engine);
    bt_sleep_ns(200000000);
    CHECK(process_runs(engine));
    kill(front, SIGKILL);
    waitpid(front, NULL, 0);
    int64_t deadline = bt_now_ns() + 2000000000;
    while (process_runs(engine) && bt_now_ns() < deadline) bt_sleep_ns(1000000);
    CHECK(!process_runs(engine));
    for (int32_t i = 0; i < 2; i++) {
        close(fd[i]);
        close(pids[i]);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    RUN(conversation);
    RUN(budget_deadline_and_idleness);
    RUN(load_failure);
    RUN(broken_protocol);
    RUN(device_fault);
    RUN(device_fault_while_parking);
    RUN(dies_with_its_parent);
    return TEST_END();
}
