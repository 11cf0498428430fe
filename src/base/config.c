/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"
#include "base/json.h"
#include "base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

/* Parses text into the knob's field; where names the source for the error sentence. */
static bt_status knob_set(const bt_knob *k, void *config, const char *text, const char *where,
                          bt_err *err)
{
    void *field = (char *)config + k->offset;
    char *end;
    switch (k->type) {
    case BT_KNOB_STR:
        bt_free(*(char **)field);
        *(char **)field = bt_must(bt_strdup(text));
        return BT_OK;
    case BT_KNOB_BOOL: {
        bool yes = !strcmp(text, "1") || !strcmp(text, "true") || !strcmp(text, "yes") ||
                   !strcmp(text, "on");
        bool no = !strcmp(text, "0") || !strcmp(text, "false") || !strcmp(text, "no") ||
                  !strcmp(text, "off");
        if (!yes && !no)
            return bt_err_set(err, BT_EINVAL, 0, "%s must be true or false, not '%s'", where, text);
        *(bool *)field = yes;
        return BT_OK;
    }
    case BT_KNOB_INT:
    case BT_KNOB_NUM: break;
    }
    errno = 0;
    double v = strtod(text, &end);
    bool whole = k->type == BT_KNOB_NUM || (v >= -9e15 && v <= 9e15 && v == (double)(int64_t)v);
    if (end == text || *end || errno || !whole)
        return bt_err_set(err, BT_EINVAL, 0, "%s must be %s, not '%s'", where,
                          k->type == BT_KNOB_INT ? "a whole number" : "a number", text);
    if (!(v >= k->min && v <= k->max))
        return bt_err_set(err, BT_EINVAL, 0, "%s must be between %.15g and %.15g, not %s", where,
                          k->min, k->max, text);
    if (k->type == BT_KNOB_INT)
        *(int64_t *)field = (int64_t)v;
    else
        *(double *)field = v;
    return BT_OK;
}

static bool word_in(const char *list, const char *word, size_t n)
{
    while (list && *list) {
        size_t len = strcspn(list, " ");
        if (len == n && memcmp(list, word, n) == 0) return true;
        list += len + (list[len] == ' ');
    }
    return false;
}

/* The knob that flag[0..n) names, among those of the command. */
static const bt_knob *knob_find(const bt_knob *knobs, size_t count, unsigned command,
                                const char *flag, size_t n)
{
    for (size_t i = 0; i < count; i++) {
        if (!(knobs[i].commands & command)) continue;
        if (n > 2 && strncmp(flag, "--", 2) == 0 && strlen(knobs[i].name) == n - 2 &&
            memcmp(knobs[i].name, flag + 2, n - 2) == 0)
            return &knobs[i];
        if (word_in(knobs[i].alias, flag, n)) return &knobs[i];
    }
    return NULL;
}

static void env_name(const char *name, char out[static 64])
{
    size_t n = (size_t)snprintf(out, 64, "BATON_%s", name);
    for (size_t i = 0; i < n && i < 63; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

static bt_status load_env(const bt_knob *knobs, size_t n, void *config, unsigned command,
                          bt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        char name[64];
        env_name(knobs[i].name, name);
        const char *value = knobs[i].commands & command ? getenv(name) : NULL;
        if (!value || !*value) continue;
        bt_status st = knob_set(&knobs[i], config, value, name, err);
        if (st) return st;
    }
    return BT_OK;
}

static bt_status file_read(const char *path, bt_buf *out, bt_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f) return bt_err_set(err, BT_EIO, errno, "cannot read %s: %s", path, strerror(errno));
    char chunk[4096];
    size_t got;
    out->max_bytes = FILE_BYTES_MAX;
    while ((got = fread(chunk, 1, sizeof chunk, f)) > 0) bt_buf_add(out, chunk, got);
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || out->failed)
        return bt_err_set(err, BT_EIO, errno, "cannot read %s: %s", path,
                          bad ? strerror(errno) : "it is over 1 MiB");
    return BT_OK;
}

static bt_status load_item(const bt_knob *knobs, size_t n, void *config, unsigned command,
                           const bt_json *item, const char *path, bt_err *err)
{
    char name[64], where[160], number[40];
    snprintf(name, sizeof name, "%s", item->key);
    for (char *c = name; *c; c++)
        if (*c == '_') *c = '-';
    snprintf(where, sizeof where, "'%s' in %s", item->key, path);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(knobs[i].name, name) != 0) continue;
        if (!(knobs[i].commands & command)) return BT_OK; // another command's
        const char *text = bt_json_is(item, BT_JSON_STRING) ? item->text : NULL;
        if (bt_json_is(item, BT_JSON_BOOL)) text = item->n ? "true" : "false";
        if (bt_json_is(item, BT_JSON_NUMBER)) {
            snprintf(number, sizeof number, "%.17g", bt_json_number(item));
            text = number;
        }
        if (!text)
            return bt_err_set(err, BT_EINVAL, 0, "%s must be text, a number or true/false", where);
        return knob_set(&knobs[i], config, text, where, err);
    }
    return bt_err_set(err, BT_EINVAL, 0, "%s is not a setting; see --help", where);
}

static bt_status load_file(const bt_knob *knobs, size_t n, void *config, unsigned command,
                           const char *path, bt_err *err)
{
    bt_buf text = BT_BUF_INIT;
    bt_arena arena;
    const bt_json *root;
    bt_err inner = {0};
    bt_status st = file_read(path, &text, err);
    bt_arena_init(&arena, bt_json_room(text.len));
    if (st) goto done;
    st = bt_json_parse(text.data ? text.data : "", text.len, &arena, &root, &inner);
    if (st) {
        st = bt_err_set(err, BT_EINVAL, 0, "%s: %.180s", path, inner.msg);
        goto done;
    }
    if (!bt_json_is(root, BT_JSON_OBJECT)) {
        st = bt_err_set(err, BT_EINVAL, 0, "%s must hold a JSON object", path);
        goto done;
    }
    for (const bt_json *item = root->child; item && st == BT_OK; item = item->next)
        st = load_item(knobs, n, config, command, item, path, err);
done:
    bt_arena_release(&arena);
    bt_buf_release(&text);
    return st;
}

static bt_status load_flags(const bt_knob *knobs, size_t n, void *config, unsigned command,
                            int argc, char **argv, int *n_args, bt_err *err)
{
    int kept = 0;
    for (int i = 0; i < argc; i++) {
        char *arg = argv[i];
        if (strcmp(arg, "--") == 0) {
            for (i++; i < argc; i++) argv[kept++] = argv[i];
            break;
        }
        if (arg[0] != '-' || arg[1] == 0) {
            argv[kept++] = arg;
            continue;
        }
        const char *eq = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
        size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
        const bt_knob *k = knob_find(knobs, n, command, arg, len);
        bool no = !k && !eq && strncmp(arg, "--no-", 5) == 0;
        if (no) {
            char name[80];
            snprintf(name, sizeof name, "--%s", arg + 5);
            k = knob_find(knobs, n, command, name, strlen(name));
            if (k && k->type != BT_KNOB_BOOL) k = NULL;
        }
        if (!k) return bt_err_set(err, BT_EINVAL, 0, "unknown option '%s'; see --help", arg);
        const char *value = eq ? eq + 1 : no ? "false" : k->type == BT_KNOB_BOOL ? "true" : NULL;
        if (!value && i + 1 < argc) value = argv[++i];
        if (!value) return bt_err_set(err, BT_EINVAL, 0, "%s needs a value (%s)", arg, k->arg);
        bt_status st = knob_set(k, config, value, arg, err);
        if (st) return st;
    }
    *n_args = kept;
    return BT_OK;
}

bt_status bt_config_load(const bt_knob *knobs, size_t n, void *config, unsigned command,
                         const char *file, int argc, char **argv, int *n_args, bt_err *err)
{
    bt_status st = BT_OK;
    for (size_t i = 0; i < n && st == BT_OK; i++)
        if (knobs[i].initial)
            st = knob_set(&knobs[i], config, knobs[i].initial, knobs[i].name, err);
    if (st == BT_OK && file) st = load_file(knobs, n, config, command, file, err);
    if (st == BT_OK) st = load_env(knobs, n, config, command, err);
    if (st == BT_OK) st = load_flags(knobs, n, config, command, argc, argv, n_args, err);
    return st;
}

void bt_config_release(const bt_knob *knobs, size_t n, void *config)
{
    for (size_t i = 0; i < n; i++) {
        char **field = (char **)((char *)config + knobs[i].offset);
        if (knobs[i].type != BT_KNOB_STR) continue;
        bt_free(*field);
        *field = NULL;
    }
}

/* "  --model, -m PATH      help", wrapped by hand in the table's texts. */
static void help_row(const bt_knob *k, bt_buf *out)
{
    char left[96];
    int n = snprintf(left, sizeof left, "  --%s", k->name);
    for (const char *a = k->alias; a && *a && n < 60;) {
        size_t len = strcspn(a, " ");
        n += snprintf(left + n, sizeof left - (size_t)n, ", %.*s", (int)len, a);
        a += len + (a[len] == ' ');
    }
    if (k->arg) n += snprintf(left + n, sizeof left - (size_t)n, " %s", k->arg);
    bt_buf_addf(out, "%-36s%s%s", left, n > 34 ? "\n                                    " : "",
                k->help);
    if (k->initial && *k->initial) bt_buf_addf(out, " [%s]", k->initial);
    bt_buf_addc(out, '\n');
}

void bt_config_help(const bt_knob *knobs, size_t n, unsigned command, bt_buf *out)
{
    const char *group = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!(knobs[i].commands & command)) continue;
        if (!group || strcmp(group, knobs[i].group) != 0)
            bt_buf_addf(out, "\n%s\n", knobs[i].group);
        group = knobs[i].group;
        help_row(&knobs[i], out);
    }
    bt_buf_adds(
        out, "\nEvery option is also a BATON_* environment variable (--queue-wait is "
             "BATON_QUEUE_WAIT)\nand a key of the JSON file given by --config (\"queue_wait\").\n");
}
