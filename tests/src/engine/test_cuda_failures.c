/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL fault TIMEOUT 600 */
/* test_cuda_failures.c - each runtime call of an engine's life fails once, each kernel meets a
 * fault once: no hang, no leak, no wrong charge, a sentence that says what happened.
 *
 * One life is lived, and at each call a child process goes on with the failure while the parent
 * waits for its end. The life is small but whole: load, first measurements, prompts, decode steps
 * captured and replayed, two steps in flight, every list of the sampler, park, wake, close. */
#include "harness.h"
#ifndef BT_EMULATED
int main(void)
{
    SKIP("calls are made to fail on the emulated device only");
}
#else
#include "base/log.h"
#include "emu.h"
#include "src/device/tiny_model.h"
#include <sys/wait.h>
#include <unistd.h>

enum { N_REQUESTS = 3, N_DRAWN = 3, HANG_S = 60 };
enum { CHILD_UNHARMED, CHILD_TOLD = 3, CHILD_WRONG };

static tiny_model *model;
static bt_gguf *gguf;
static bt_vocab *vocab;
static int32_t drawn[N_REQUESTS][N_DRAWN]; // of the life in which nothing fails

static bt_engine_request request(int32_t i)
{
    static const int32_t prompt[] = {1, 40, 7, 26, 37, 3, 50, 11, 9};
    static const bt_logit_bias bias = {5, 0.5f};
    bt_engine_request q = ask((uint64_t)i + 1, prompt + i, 5 + i, N_DRAWN);
    q.params.n_logprobs = i;
    if (i < 2) return q;
    q.params.bias = &bias;
    q.params.n_bias = 1;
    q.params.repeat_penalty = 1.1f;
    q.params.min_tokens = 2;
    q.params.ignore_eos = false;
    return q;
}

static bt_status run_life(bt_engine *e, event_log *log, bt_err *err)
{
    bt_status status = BT_OK;
    for (int32_t i = 0; i < N_REQUESTS && !status; i++) {
        bt_engine_request q = request(i);
        CHECK_INT(submit(e, log, &q), BT_OK);
        if (i == 1) continue; // shares its steps with the third
        while (!status && bt_engine_has_work(e)) status = bt_engine_step(e, err);
        if (!status && i == 0) status = bt_engine_park(e, err);
    }
    return status;
}

/* Whoever got to the end has what it would have had; whoever waited for a device that could not
 * wake was told, and owes nothing. */
static bt_status check_ends(bt_engine *e, const event_log *log, bool golden)
{
    bt_status status = BT_OK;
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        const request_log *r = log->request[i];
        const seq_log *s = &r->seq[0];
        CHECK(r->ended);
        if (i > 0 && s->finish == BT_FINISH_DEVICE_FAULT) {
            CHECK(e->parked && s->n_tokens == 0 && r->used_us == 0);
            status = BT_ENOMEM;
            continue;
        }
        CHECK_INT(s->n_tokens, N_DRAWN);
        CHECK_INT(s->finish, BT_FINISH_LENGTH);
        if (golden)
            memcpy(drawn[i], s->token, sizeof drawn[i]);
        else
            CHECK(memcmp(drawn[i], s->token, sizeof drawn[i]) == 0);
    }
    return status;
}

static bt_status whole_life(bool golden, bt_err *err)
{
    static event_log log;
    bt_engine *e = NULL;
    bt_engine_options opt = {.device = "emulated", .threads = 1, .slots = 2, .ctx = 32};
    opt.step_tokens = 8;
    bt_status status = bt_engine_open_weights(&model->recipe, &model->weights, vocab, &opt,
                                              log_sink, &log, &e, err);
    if (e) {
        status = run_life(e, &log, err);
        CHECK_INT(log.used_sum + e->meter.bank.house_us, e->meter.bank.busy_us);
        if (!status) {
            bt_kv_check(&e->kv);
            CHECK_INT(bt_kv_available(&e->kv), e->plan.n_pages);
            status = check_ends(e, &log, golden);
        }
    }
    bt_engine_close(e);
    log_release(&log);
    return status;
}

/* ---- one life, and at each call or kernel of it a child that goes on with a failure */

static struct {
    bool kernels, child; // what fails; whether this process is the one that goes on with it
    bool leaks;          // it looks for lost host memory, too
    const char *what;    // failed
    long runs, told;
} story;

#if TEST_SANITIZED
int __lsan_do_recoverable_leak_check(void);
#else
static int __lsan_do_recoverable_leak_check(void)
{
    return 0;
}
#endif

/* Ends at once: exit() would ask the emulated device, whose lock its caller holds. */
static void give_up_unless(bool ok, const char *why)
{
    if (ok) return;
    fprintf(stderr, "giving up: %s\n", why);
    _exit(1);
}

/* In the parent: the child must end well, and in time. */
static void look_at(pid_t pid, const char *what)
{
    int status = 0;
    give_up_unless(waitpid(pid, &status, 0) == pid, "a child was lost");
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code != CHILD_UNHARMED && code != CHILD_TOLD)
        fprintf(stderr, "     with %s number %ld failed: status %x\n", what, story.runs + 1,
                (unsigned)status);
    CHECK(code == CHILD_UNHARMED || code == CHILD_TOLD);
    give_up_unless(test_failed < 5, "enough is wrong");
    story.runs++;
    story.told += code == CHILD_TOLD;
}

static bool decide(const char *what)
{
    if (story.child || story.kernels != (strcmp(what, "kernel") == 0)) return false;
    fflush(stderr);
    pid_t pid = fork();
    give_up_unless(pid >= 0, "no process can be made");
    if (pid > 0) {
        look_at(pid, what);
        return false;
    }
    alarm(HANG_S);
    story.child = true;
    story.what = what;
    return true;
}

/* What the child's life came to. A device that failed keeps its memory until its process ends. */
static void child_ends(bt_status status, const bt_err *err)
{
    if (status && status != BT_ENOMEM) CHECK(err->msg[0] != 0);
    if (story.kernels) {
        CHECK_INT(status, BT_EDEVICE);
        CHECK(strstr(err->msg, "cudaError") && strstr(err->msg, "started again"));
    } else {
        CHECK_INT(bt_emu_alive(true), 0);
    }
    if (story.leaks) CHECK_INT(__lsan_do_recoverable_leak_check(), 0);
    if (test_failed) fprintf(stderr, "     after %s: %s\n", story.what, err->msg);
    _exit(test_failed ? CHILD_WRONG : status ? CHILD_TOLD : CHILD_UNHARMED);
}

static void each_fails(const char *name, bool kernels, bool leaks)
{
    bt_err err = {0};
    memset(&story, 0, sizeof story);
    story.kernels = kernels;
    story.leaks = leaks;
    bt_emu_fail_if(decide);
    bt_status status = whole_life(false, &err);
    if (story.child) child_ends(status, &err);
    bt_emu_fail_if(NULL);
    CHECK_INT(status, BT_OK);
    fprintf(stderr, "     %s: %ld failed in turn, %ld told\n", name, story.runs, story.told);
    CHECK(story.runs > 100 && story.told > story.runs / 2);
}

static void every_call(void)
{
    each_fails("calls", false, true);
}

/* The same where the device has no calls to map memory: plain allocations, graphs made anew. */
static void every_call_without_mapping(void)
{
    bt_emu_answer("cuMemMap", 801);
    each_fails("calls without mapping", false, false);
    bt_emu_answer(NULL, 0);
}

/* A fault that sticks: the step says so, the books are right, nothing hangs. */
static void every_kernel(void)
{
    each_fails("kernels", true, false);
}

/* No memory for any graph: steps run without, and draw the same. */
static void without_graphs(void)
{
    static const char *const call[] = {"cudaGraphInstantiate", "cudaGraphUpload"};
    for (int i = 0; i < 2; i++) {
        bt_err err = {0};
        bt_emu_answer(call[i], 2);
        CHECK_INT(whole_life(false, &err), BT_OK);
        bt_emu_answer(NULL, 0);
    }
}

/* What is drawn where nothing fails, from a process of its own: this one must not have asked the
 * device anything before its calls fail. */
static void golden_from_a_child(void)
{
    int ends[2], status = 0;
    REQUIRE(pipe(ends) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        bt_err err = {0};
        CHECK_INT(whole_life(true, &err), BT_OK);
        ssize_t n = write(ends[1], drawn, sizeof drawn);
        _exit(test_failed || n != (ssize_t)sizeof drawn);
    }
    REQUIRE(read(ends[0], drawn, sizeof drawn) == (ssize_t)sizeof drawn);
    REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const tiny_spec spec = {.layers = 1,
                            .hidden = 32,
                            .heads = 2,
                            .kv_heads = 1,
                            .head_dim = 16,
                            .ffn = 32,
                            .vocab = 64,
                            .style = BT_ROPE_INTERLEAVED,
                            .rope_dim = 16,
                            .format = {BT_FORMAT_Q8_0, BT_FORMAT_Q8_0, BT_FORMAT_F16}};
    bt_err err = {0};
    bt_log_set_level(BT_LOG_ERR);
    REQUIRE(!bt_gguf_open("models/stories260K.gguf", &gguf, &err));
    REQUIRE(!bt_vocab_open(gguf, &vocab, &err));
    model = tiny_new(&spec, 5);
    RUN(golden_from_a_child);
    RUN(every_call); // the first life of this process: what is asked only once fails too
    RUN(every_call_without_mapping);
    RUN(without_graphs);
    RUN(every_kernel);
    tiny_free(model);
    bt_vocab_close(vocab);
    bt_gguf_close(gguf);
    return TEST_END();
}
#endif
