/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.c - `baton doctor`: what this machine offers, what is usable, and what to do about the
 * rest. */
#include "base/assert.h"
#include "base/log.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/client.h"
#ifdef BATON_CUDA
#include "device/cuda/cuda_probe.h"
#include "device/nvml.h"
#endif
#include "front/model_text.h"
#include "kernels/cpu_isa.h"
#include "model/plan.h"
#include <errno.h>
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
    const char *dir = bt_options_data_dir(o), *slash = strrchr(dir, '/');
    char parent[512] = ".";
    struct stat st;
    bool space = getenv("SPACE_ID") != NULL;
    if (slash) snprintf(parent, sizeof parent, "%.*s", (int)BT_MAX(slash - dir, 1), dir);
    bool there = stat(dir, &st) == 0;
    int why = there && !S_ISDIR(st.st_mode)               ? ENOTDIR
              : there || access(parent, W_OK | X_OK) == 0 ? 0
                                                          : errno;
    if (why)
        say("FAIL", "data: cannot make the data directory %s: %s; give another with --data", dir,
            strerror(why));
    else if (!there)
        say("note", "data: %s is not there yet; `baton serve` makes it", dir);
    else if (access(dir, W_OK) != 0)
        say("FAIL", "data: %s is not writable by uid %d; give --data DIR", dir, (int)getuid());
    else
        say("ok", "data: %s is writable", dir);
    if (space && strcmp(dir, "/data") != 0)
        say("warn", "data: no persistent storage: a restart of this Space forgets quotas");
    if (space) say("ok", "space: addresses are taken from X-Forwarded-For (--trusted-proxy auto)");
}

static void check_accounts(const bt_options *o)
{
    bt_front_options fo = {0};
    bt_accounts *accounts = NULL;
    bt_err err = {0};
    char path[512], token[BT_CLI_TOKEN_BYTES];
    if (bt_cli_owner_secret(o, bt_options_data_dir(o), path, sizeof path, token, &err)) {
        say("FAIL", "owner: %s", err.msg);
        token[0] = 0;
    }
    bt_cli_front_options(o, NULL, token[0] ? token : NULL, &fo);
    if (bt_accounts_open(&fo.accounts, &accounts, &err))
        say("FAIL", "accounts: %s", err.msg);
    else if (bt_accounts_doubt(accounts))
        say("warn", "accounts: %s", bt_accounts_doubt(accounts));
    else if (o->api_keys || o->api_key)
        say("ok", "accounts: keys and tiers are read");
    else
        say("note", "accounts: no keys; visitors are told apart by their addresses");
    bt_accounts_close(accounts);
}

static void check_chat(const bt_model_text *t, bool own)
{
    const bt_err *why = &t->chat_why;
    if (why->code)
        say(!t->chat || why->code == BT_EFORMAT ? "FAIL" : "warn", "chat template: %s", why->msg);
    else if (bt_chat_is_plain(t->chat))
        say("note", "chat template: none; chats get the plain format");
    else
        say("ok", "chat template: %s%s", own ? "as given" : "the model's own",
            bt_chat_caps(t->chat)->tools ? ", with tools" : "");
}

static void check_fit(const bt_engine_options *eo)
{
    bt_engine_fit fit;
    bt_err err = {0};
    char text[4][16];
    if (bt_engine_check(eo, &fit, &err)) {
        say("FAIL", "device: %s", err.msg);
        return;
    }
    say("ok",
        "device: %s: weights %s, KV %s, scratch %s of %s free; %d slots of up to %d tokens, "
        "%d in the KV cache",
        fit.device, bt_bytes_text(fit.weights_bytes, text[0]), bt_bytes_text(fit.kv_bytes, text[1]),
        bt_bytes_text(fit.scratch_bytes, text[2]), bt_bytes_text(fit.free_bytes, text[3]),
        fit.slots, fit.ctx, fit.kv_tokens);
}

/* As `baton serve` opens it, short of loading the weights. */
static void check_model(const bt_options *o)
{
    bt_engine_options eo;
    bt_model_text t;
    bt_buf file = BT_BUF_INIT;
    const char *own = NULL;
    bt_err err = {0};
    if (!o->model) {
        say("note", "model: none given (--model PATH checks one)");
        return;
    }
    bt_status st = bt_options_engine(o, &eo, &err);
    if (st == BT_OK) st = bt_cli_chat_template(o, &file, &own, &err);
    if (st == BT_OK) st = bt_model_text_open(o->model, own, &t, &err);
    if (st) {
        say("FAIL", "model: %s", err.msg);
    } else {
        const bt_recipe *r = &t.model->recipe;
        say("ok", "model: %s, %s, %d layers of %d, context %d", r->name[0] ? r->name : o->model,
            r->arch, r->n_layers, r->hidden, r->ctx_train);
        char made[96], size[16];
        uint64_t bytes = bt_model_convert_bytes(t.model, made);
        if (t.model->note[0]) say("note", "model: %s", t.model->note);
        if (t.model->n_left)
            say("note", "model: %zu tensors of parts that see or hear are not used",
                t.model->n_left);
        if (bytes)
            say("note", "model: %s, which take %s of host memory", made,
                bt_bytes_text(bytes, size));
        say("ok", "tokenizer: %d tokens", bt_vocab_size(t.vocab));
        check_chat(&t, own != NULL);
        check_fit(&eo);
        bt_model_text_close(&t);
    }
    bt_buf_release(&file);
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
    bt_err err = {0};
    if (argc > 0) {
        bt_err_set(&err, BT_EINVAL, 0, "unexpected argument '%s'", argv[0]);
        return bt_cli_fail(&err);
    }
    if (o->health) return check_health(o);
    if (bt_log_parse_level(o->log_level) < 0)
        say("FAIL", "--log-level must be error, warn, info or debug");
    printf("Baton %s\n", BATON_VERSION);
    check_machine();
    check_gpu();
    check_data(o);
    check_accounts(o);
    check_model(o);
    printf("%s\n", problems ? "problems were found" : "all well");
    return problems ? 1 : 0;
}
