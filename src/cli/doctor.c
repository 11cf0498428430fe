/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.c - `baton doctor`: what this machine offers, what is usable, and what to do about the
 * rest. */
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "file/gguf.h"
#include "kernels/cpu_isa.h"
#include "model/model.h"
#include "model/plan.h"
#include "quota/ledger.h"
#include "text/encode.h"
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
    say("note", "gpu: this build has the CPU backend only");
}

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
        st = bt_vocab_open(model->gguf, &vocab, &err);
    }
    if (st == BT_OK) st = bt_tokenizer_open(model->gguf, vocab, &tok, &err);
    if (st == BT_OK)
        say("ok", "tokenizer: %d tokens", bt_vocab_size(vocab));
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
    check_data(o);
    check_model(o);
    printf("%s\n", problems ? "problems were found" : "all well");
    return problems ? 1 : 0;
}
