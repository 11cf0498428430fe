/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - `baton serve`: front and HTTP server until a signal; as PID 1 it also reaps. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "http/server.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DRAIN_MS = 2000 }; // for last bytes: the requests have ended before

static bt_status data_make(const char *data, bt_err *err)
{
    struct stat st;
    if (mkdir(data, 0700) == 0) return BT_OK;
    int why = errno == EEXIST && stat(data, &st) == 0 && !S_ISDIR(st.st_mode) ? ENOTDIR : errno;
    if (why == EEXIST) return BT_OK;
    return bt_err_set(err, BT_EIO, why,
                      "cannot make the data directory %s: %s; give another with --data", data,
                      strerror(why));
}

/* The owner's secret; where none is given it is made (0600), so that `baton quota` on this machine
 * just works. */
static bt_status owner_token(const bt_options *o, const char *data,
                             char out[static BT_CLI_TOKEN_BYTES], bt_err *err)
{
    char path[512];
    uint8_t secret[16];
    bt_status st = bt_cli_owner_secret(o, data, path, sizeof path, out, err);
    if (st || out[0]) return st;
    bt_random(secret, sizeof secret);
    for (size_t i = 0; i < sizeof secret; i++) snprintf(out + 2 * i, 3, "%02x", secret[i]);
    /* Not O_EXCL: an empty file is left where a start before this one found no room. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    out[32] = '\n';
    bool ok = fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, out, 33) == 33;
    int why = errno;
    out[32] = 0;
    if (fd >= 0) close(fd);
    if (ok) return BT_OK;
    if (fd >= 0) unlink(path);
    return bt_err_set(err, BT_EIO, why, "cannot write %s: %s", path, strerror(why));
}

/* DATA/server: the URL, for client commands on this machine. */
static void leave_url(const char *data, const char *host, int port)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    struct in6_addr a6;
    char path[512], url[320];
    if (!strcmp(host, "0.0.0.0"))
        host = "127.0.0.1";
    else if (inet_pton(AF_INET6, host, &a6) == 1 && !memcmp(&a6, &any6, sizeof a6))
        host = "::1";
    bt_client_url_write(host, port, url, sizeof url);
    snprintf(path, sizeof path, "%s/server", data);
    FILE *f = fopen(path, "we");
    if (!f) return; // only a convenience
    fprintf(f, "%s\n", url);
    fclose(f);
}

/* As process 1: collects orphans. The engine is left to front, which wants its exit code. */
static void reap_orphans(bt_front *f)
{
    for (;;) {
        siginfo_t ended = {0};
        /* After the look: by then a new engine's id is known. */
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || !ended.si_pid) return;
        for (bt_unit *u = NULL; (u = bt_front_unit_next(f, u)) != NULL;) {
            bt_unit_state state;
            bt_unit_state_get(u, &state);
            if (ended.si_pid == state.engine_pid) return;
        }
        waitpid(ended.si_pid, NULL, WNOHANG);
    }
}

/* Blocks until a signal says stop or the model turns out not to load. */
static int serve_wait(bt_front *f, const sigset_t *set)
{
    for (;;) {
        struct timespec t = {0, 100000000};
        int sig = sigtimedwait(set, NULL, &t);
        if (sig == SIGTERM || sig == SIGINT) {
            bt_log(BT_LOG_INFO, "server.stop", "signal=%d", sig);
            return 0;
        }
        if (sig == SIGHUP)
            bt_log(BT_LOG_INFO, "server.hup", "a hang-up ends nothing and nothing is read again");
        if (getpid() == 1) reap_orphans(f);
        for (bt_unit *u = NULL; (u = bt_front_unit_next(f, u)) != NULL;) {
            bt_unit_state state;
            bt_unit_state_get(u, &state);
            if (!state.failed) continue;
            bt_err err = {.code = state.code};
            snprintf(err.msg, sizeof err.msg, "%s", state.message);
            return bt_cli_fail(&err);
        }
    }
}

void bt_cli_front_options(const bt_options *o, const char *data, const char *token,
                          bt_front_options *out)
{
    out->n_units = 1;
    out->unit[0].alias = o->alias;
    out->unit[0].park_after_s = (int32_t)o->park_after;
    out->unit[0].engine_timeout_s = (int32_t)o->engine_timeout;
    out->data_dir = data;
    out->queue = (int32_t)o->queue;
    out->queue_wait_s = (int32_t)o->queue_wait;
    out->anonymous_percent = (int32_t)o->anonymous_share;
    out->price = o->price;
    out->accounts = (bt_accounts_options){
        .api_keys = o->api_keys,
        .api_key = o->api_key,
        .tiers = o->tiers,
        .trusted_proxy = o->trusted_proxy,
        .owner_token = token,
        .default_tier = o->default_tier,
        .require_key = o->require_key || o->api_key,
        .behind_space = getenv("SPACE_ID") != NULL,
    };
}

int bt_cmd_serve(const bt_options *o, int argc, char **argv)
{
    (void)argv;
    bt_front_options fo = {0};
    bt_front *front = NULL;
    bt_server *server = NULL;
    bt_err err = {0};
    bt_buf chat_template = BT_BUF_INIT;
    char token[BT_CLI_TOKEN_BYTES], host[256], url[320];
    int code = 1, level = bt_log_parse_level(o->log_level);
    const char *data = bt_options_data_dir(o);
    /* An address may be given as URLs spell it, [::1]. */
    bool brackets = o->host[0] == '[' && o->host[strlen(o->host) - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)strlen(o->host) - 2 * brackets, o->host + brackets);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // every thread inherits it; main takes them
    bt_generation sampling = bt_options_generation(o);
    fo.unit[0].sampling = &sampling;
    bt_status st = bt_options_engine(o, &fo.unit[0].engine, &err);
    if (st == BT_OK && argc > 0)
        st = bt_err_set(&err, BT_EINVAL, 0, "unexpected argument '%s'", argv[0]);
    if (st == BT_OK && level < 0)
        st = bt_err_set(&err, BT_EINVAL, 0, "--log-level must be error, warn, info or debug");
    if (st) return bt_cli_fail(&err);
    bt_log_set_level((bt_log_level)level);
    bt_log_background();
    st = bt_cli_chat_template(o, &chat_template, &fo.unit[0].chat_template, &err);
    if (st == BT_OK) st = data_make(data, &err);
    if (st == BT_OK) st = owner_token(o, data, token, &err);
    bt_cli_front_options(o, data, token, &fo);
    if (st == BT_OK) st = bt_front_open(&fo, &front, &err);
    bt_buf_release(&chat_template); // front has copied it
    const char *doubt = front ? bt_accounts_doubt(bt_front_accounts(front)) : NULL;
    if (doubt) bt_log(BT_LOG_WARN, "accounts.doubt", "%s", doubt);
    bt_server_options so = {.host = host,
                            .port = (uint16_t)o->port,
                            .model_path = o->model,
                            .cors_origins = o->cors_origins,
                            .body_bytes_max = (size_t)o->max_body,
                            .bodies_bytes_max = (size_t)o->max_bodies,
                            .connections_max = (int32_t)o->connections,
                            .address_connections_max = (int32_t)o->address_connections};
    if (st == BT_OK) st = bt_server_open(front, &so, &server, &err);
    if (st == BT_OK) {
        bt_client_url_write(host, bt_server_port(server), url, sizeof url);
        leave_url(data, host, bt_server_port(server));
        bt_say("listening on %s", url);
        if (getenv("SPACE_ID") && strcmp(data, "/data") != 0)
            bt_say("note: no persistent storage at /data: a restart of this Space forgets quotas");
        code = serve_wait(front, &set);
        bt_front_drain_wait(front); // listening meanwhile: who asks hears why
    } else {
        code = bt_cli_fail(&err);
    }
    bt_server_close(server, DRAIN_MS);
    bt_front_close(front);
    return code;
}
