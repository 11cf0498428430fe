/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.c - `baton doctor`: what this machine offers, what is usable, and what to do about the
 * rest. */
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/client.h"
#ifdef BATON_CUDA
#include "device/cuda_probe.h"
#include "device/nvml.h"
#endif
#include "file/gguf.h"
#include "kernels/cpu_isa.h"
#include "model/model.h"
#include "model/plan.h"
#include "quota/ledger.h"
#include "text/open.h"
#include "text/template_chat.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int problems;

__attribute__((format(printf, 2, 3))) static void say(const char *mark, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%-5s ", mark);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
    if (strcmp(mark, "FAIL") == 0) problems++;
}

static void check_machine(void)
{
    bt_memory memory;
    bt_err err;
    say("ok", "cpu: %d cores usable, kernels %s", bt_cpu_count(), bt_isa_name(bt_isa_best()));
    if (bt_memory_read("", &memory, &err))
        say("FAIL", "memory: %s", err.msg);
    else
        say("ok", "memory: %.1f GiB free of %.1f GiB this process may use",
            (double)memory.free_bytes / (1 << 30), (double)memory.total_bytes / (1 << 30));
}

#ifdef BATON_CUDA
static void check_gpu(void)
{
    bt_cuda_found found[BT_CUDA_DEVICES_MAX];
    char driver[64] = "";
    int32_t n = 0, runtime, version;
    bt_err err = {0};
    bt_cuda_versions(&runtime, &version);
    if (bt_nvml_driver(driver, sizeof driver, NULL) == BT_OK)
        say("ok", "gpu: driver %s, CUDA %d.%d; built with CUDA %d.%d", driver, version / 1000,
            version % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (bt_cuda_probe(found, &n, &err)) {
        say("note", "gpu: none can be used: %s; models run on the CPU", err.msg);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        const bt_cuda_found *f = &found[i];
        bt_nvml_memory memory;
        if (!f->usable) {
            say("warn", "gpu: cuda:%d %s: %s", f->ordinal, f->props.name, f->why_not);
            continue;
        }
        say("ok", "gpu: cuda:%d %s, compute capability %d.%d, %d SMs, %.1f GiB, %s", f->ordinal,
            f->props.name, f->props.sm / 10, f->props.sm % 10, f->props.n_sm,
            (double)f->props.total_bytes / (1 << 30), f->uuid);
        if (bt_nvml_memory_read(f->pci, &memory, NULL) == BT_OK)
            say("ok", "gpu: cuda:%d has %.1f GiB free of %.1f GiB", f->ordinal,
                (double)memory.free_bytes / (1 << 30), (double)memory.total_bytes / (1 << 30));
    }
}
#else
static void check_gpu(void)
{
    say("note", "gpu: this build has the CPU backend only; build it where nvcc is for the others");
}
#endif

static void check_data(const bt_options *o)
{
    const char *dir = bt_options_data_dir(o);
    struct stat st;
    bool space = getenv("SPACE_ID") != NULL;
    if (stat(dir, &st) != 0)
        say("note", "data: %s is not there yet; `baton serve` makes it", dir);
    else if (access(dir, W_OK) != 0)
        say("FAIL", "data: %s is not writable by uid %d; give --data DIR", dir, (int)getuid());
    else
        say("ok", "data: %s is writable", dir);
    if (space && strcmp(dir, "/data") != 0)
        say("warn", "data: no persistent storage: a restart of this Space forgets quotas");
    if (space) say("ok", "space: addresses are taken from X-Forwarded-For (--trusted-proxy auto)");
}

static void check_chat(const bt_vocab *vocab)
{
    bt_chat *chat = NULL;
    bt_err err = {0};
    if (bt_chat_open(vocab, NULL, &chat, &err))
        say("warn", "chat template: %s; chats need --chat-template", err.msg);
    else if (bt_chat_is_plain(chat))
        say("note", "chat template: none; chats get the plain format");
    else
        say("ok", "chat template: the model's own%s",
            bt_chat_caps(chat)->tools ? ", with tools" : "");
    bt_chat_close(chat);
}

static void check_model(const bt_options *o)
{
    bt_model *model = NULL;
    bt_vocab *vocab = NULL;
    bt_tokenizer *tok = NULL;
    bt_err err;
    if (!o->model) {
        say("note", "model: none given (--model PATH checks one)");
        return;
    }
    bt_status st = bt_model_open(o->model, &model, &err);
    if (st == BT_OK) {
        const bt_recipe *r = &model->recipe;
        say("ok", "model: %s, %s, %d layers of %d, context %d", r->name[0] ? r->name : o->model,
            r->arch, r->n_layers, r->hidden, r->ctx_train);
        st = bt_text_open(o->model, NULL, &vocab, &tok, &err);
    }
    if (st == BT_OK)
        say("ok", "tokenizer: %d tokens", bt_vocab_size(vocab)), check_chat(vocab);
    else
        say("FAIL", "model: %s", err.msg);
    bt_tokenizer_close(tok);
    bt_vocab_close(vocab);
    bt_model_close(model);
}

/* For a container's health check: one line and an exit code. */
static int check_health(const bt_options *o)
{
    char url[256];
    bt_buf answer = BT_BUF_INIT;
    bt_err err = {0};
    int code = 0;
    bt_status st = bt_client_url(o, url, sizeof url, &err);
    if (st == BT_OK)
        st = bt_client_call(url, "GET", "/health/ready", NULL, NULL, &code, &answer, &err);
    if (st == BT_OK) printf("%s: %s\n", url, code == 200 ? "ready" : "not ready");
    bt_buf_release(&answer);
    return st ? bt_cli_fail(&err) : code != 200;
}

int bt_cmd_doctor(const bt_options *o, int argc, char **argv)
{
    (void)argc, (void)argv;
    if (o->health) return check_health(o);
    printf("Baton %s\n", BATON_VERSION);
    check_machine();
    check_gpu();
    check_data(o);
    check_model(o);
    printf("%s\n", problems ? "problems were found" : "all well");
    return problems ? 1 : 0;
}
