/* SPDX-License-Identifier: Apache-2.0 */
/* quota.c - `baton quota`: shows and edits accounts by asking the running server; never writes
 * beside it. */
#include "base/assert.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct target {
    char url[256], token[BT_CLI_TOKEN_BYTES];
} target;

static bt_status target_find(const bt_options *o, target *t, bt_err *err)
{
    char path[512];
    bt_status st = bt_cli_owner_token(o, bt_options_data_dir(o), path, sizeof path, t->token, err);
    if (st) return st;
    if (!t->token[0])
        return bt_err_set(err, BT_EINVAL, 0,
                          "no owner token in %s: give --data DIR of the server, or "
                          "--owner-token-file",
                          path);
    return bt_client_url(o, t->url, sizeof t->url, err);
}

/* Calls the server; an error answer becomes the error, in the server's own words. */
static bt_status call(const target *t, const char *method, const char *path, const char *body,
                      bt_arena *arena, const bt_json **out, bt_err *err)
{
    bt_buf answer = BT_BUF_INIT;
    int code = 0;
    bt_status st = bt_client_call(t->url, method, path, t->token, body, &code, &answer, err);
    bt_arena_init(arena, bt_json_room(answer.len));
    if (st == BT_OK)
        st = bt_json_parse(answer.data ? answer.data : "", answer.len, arena, out, err);
    if (st == BT_OK && code >= 400) {
        const bt_json *m = bt_json_item(bt_json_item(*out, "error"), "message");
        st = bt_err_set(err, BT_EIO, code, "the server says (%d): %.180s", code,
                        bt_json_is(m, BT_JSON_STRING) ? m->text : "error");
    }
    bt_buf_release(&answer);
    return st;
}

static double seconds(const bt_json *row, const char *key)
{
    const bt_json *v = bt_json_item(row, key);
    return bt_json_is(v, BT_JSON_NUMBER) ? bt_json_number(v) / 1e6 : 0;
}

static const char *text(const bt_json *row, const char *key)
{
    const bt_json *v = bt_json_item(row, key);
    return bt_json_is(v, BT_JSON_STRING) ? v->text : "-";
}

static void show(const bt_options *o, const bt_json *answer)
{
    const bt_json *list = bt_json_item(answer, "accounts");
    if (!bt_json_is(list, BT_JSON_ARRAY)) return;
    if (strncmp(o->output, "json", 4) == 0) {
        bt_buf b = BT_BUF_INIT;
        bt_jw w = bt_jw_on(&b);
        bt_jw_value(&w, list);
        if (!b.failed) puts(b.data);
        bt_buf_release(&b);
        return;
    }
    bool csv = strcmp(o->output, "csv") == 0;
    printf(csv ? "%s,%s,%s,%s,%s,%s\n" : "| %-32s | %10s | %10s | %8s | %10s | %-20s |\n",
           "account", "limit_s", "used_s", "held_s", "left_s", "resets_at");
    if (!csv)
        printf(
            "|%.34s|%.12s|%.12s|%.10s|%.12s|%.22s|\n", "----------------------------------",
            "-----------:", "-----------:", "---------:", "-----------:", "----------------------");
    for (const bt_json *row = list->child; row; row = row->next)
        printf(csv ? "%s,%.3f,%.3f,%.3f,%.3f,%s\n"
                   : "| %-32s | %10.3f | %10.3f | %8.3f | %10.3f | %-20s |\n",
               text(row, "account"), seconds(row, "limit_us"), seconds(row, "used_us"),
               seconds(row, "held_us"), seconds(row, "remaining_us"), text(row, "resets_at"));
}

static void path_of(const char *account, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "/v1/accounts/");
    for (; *account && n + 4 < cap; account++) {
        unsigned char c = (unsigned char)*account;
        if (isalnum(c) || strchr("._-", c))
            out[n++] = (char)c;
        else
            n += (size_t)snprintf(out + n, cap - n, "%%%02X", c);
    }
    out[n] = 0;
}

static bt_status edit(const target *t, int argc, char **argv, bt_err *err)
{
    char path[512], body[96];
    bt_arena arena;
    const bt_json *answer;
    bool set = strcmp(argv[0], "set") == 0;
    path_of(argv[1], path, sizeof path);
    snprintf(body, sizeof body, "{\"reset\": true}");
    if (set) {
        char *end;
        double s = strtod(argv[2], &end);
        bool back = strcmp(argv[2], "tier") == 0;
        if (!back && (end == argv[2] || *end || !(s >= 0 && s <= 1e9)))
            return bt_err_set(err, BT_EINVAL, 0,
                              "SECONDS must be a number from 0 to 1e9, or 'tier'");
        if (back)
            snprintf(body, sizeof body, "{\"limit_us\": null}");
        else
            snprintf(body, sizeof body, "{\"limit_us\": %.0f}", s * 1e6);
    }
    (void)argc;
    bt_status st = call(t, "POST", path, body, &arena, &answer, err);
    if (st == BT_OK) printf("%s: %s\n", argv[1], set ? "limit set" : "window reset");
    bt_arena_release(&arena);
    return st;
}

int bt_cmd_quota(const bt_options *o, int argc, char **argv)
{
    target t = {0};
    bt_err err = {0};
    bt_arena arena = {0};
    const bt_json *answer;
    const char *verb = argc ? argv[0] : "show";
    bool is_show = strcmp(verb, "show") == 0 && argc <= 1;
    bool is_edit =
        (strcmp(verb, "set") == 0 && argc == 3) || (strcmp(verb, "reset") == 0 && argc == 2);
    bt_status st = BT_OK;
    if (!is_show && !is_edit)
        st = bt_err_set(&err, BT_EINVAL, 0,
                        "usage: baton quota [show | set ACCOUNT SECONDS|tier | reset ACCOUNT]");
    if (st == BT_OK) st = target_find(o, &t, &err);
    if (st == BT_OK && is_edit) st = edit(&t, argc, argv, &err);
    if (st == BT_OK && is_show) st = call(&t, "GET", "/v1/accounts", NULL, &arena, &answer, &err);
    if (st == BT_OK && is_show) show(o, answer);
    bt_arena_release(&arena);
    return st ? bt_cli_fail(&err) : 0;
}
