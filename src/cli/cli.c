/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include "base/log.h"
#include "base/utf8.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int bt_cli_fail(const bt_err *err)
{
    bt_say("baton: %s", err->msg);
    return err->code == BT_EINVAL ? 2 : err->code == BT_ENODEVICE ? 3 : 1;
}

bt_status bt_cli_read_stdin(bt_buf *out, size_t max, bt_err *err)
{
    char chunk[65536];
    ssize_t n;
    out->max_bytes = max;
    while ((n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0) bt_buf_add(out, chunk, (size_t)n);
    if (n < 0)
        return bt_err_set(err, BT_EIO, errno, "cannot read standard input: %s", strerror(errno));
    if (out->failed) return bt_err_set(err, BT_ETOOBIG, 0, "the input is over %zu bytes", max);
    bt_buf_add(out, "", 0);
    return BT_OK;
}

bt_status bt_cli_read_file(const char *path, bt_buf *out, size_t max, bt_err *err)
{
    char chunk[16384];
    size_t n;
    if (strcmp(path, "-") == 0) return bt_cli_read_stdin(out, max, err);
    FILE *f = fopen(path, "rbe");
    if (!f)
        return bt_err_set(err, BT_EIO, errno, "%.160s cannot be read: %s", path, strerror(errno));
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0 && out->len <= max) bt_buf_add(out, chunk, n);
    bool bad = ferror(f) || out->failed || out->len > max;
    fclose(f);
    return bad ? bt_err_set(err, BT_EIO, 0, "%.160s cannot be read whole", path) : BT_OK;
}

bt_status bt_cli_chat_template(const bt_options *o, bt_buf *buf, const char **own, bt_err *err)
{
    enum { TEMPLATE_BYTES_MAX = 1 << 20 };
    *own = o->chat_template;
    if (!o->chat_template_file) return BT_OK;
    if (o->chat_template)
        return bt_err_set(err, BT_EINVAL, 0,
                          "give either --chat-template or --chat-template-file, not both");
    bt_status st = bt_cli_read_file(o->chat_template_file, buf, TEMPLATE_BYTES_MAX, err);
    if (st) return st;
    bt_buf_addc(buf, 0);
    if (buf->failed) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    if (strlen(buf->data) + 1 != buf->len)
        return bt_err_set(err, BT_EINVAL, 0, "%.160s holds a NUL: it is no template",
                          o->chat_template_file);
    *own = buf->data + bt_utf8_mark(buf->data, buf->len);
    return BT_OK;
}

bt_status bt_cli_read_line(const char *path, char *out, size_t cap, bt_err *err)
{
    out[0] = 0;
    FILE *f = fopen(path, "re");
    if (!f && errno == ENOENT) return BT_OK;
    if (!f) return bt_err_set(err, BT_EIO, errno, "cannot read %s: %s", path, strerror(errno));
    if (!fgets(out, (int)cap, f)) out[0] = 0;
    fclose(f);
    out[strcspn(out, "\r\n")] = 0;
    return BT_OK;
}

/* A token file's text, however it ends; "" if there is no file. */
static bt_status token_read(const char *path, char *out, size_t cap, bt_err *err)
{
    FILE *f = fopen(path, "re");
    out[0] = 0;
    if (!f && (errno == ENOENT || errno == ENOTDIR)) return BT_OK;
    size_t n = f ? fread(out, 1, cap - 1, f) : 0;
    int why = !f || ferror(f) ? errno : 0;
    if (f) fclose(f);
    out[n] = 0;
    if (strlen(out) < n) snprintf(out, cap, "NUL bytes are no token");
    return why ? bt_err_set(err, BT_EIO, why, "cannot read the owner token file %s: %s", path,
                            strerror(why))
               : BT_OK;
}

bt_status bt_cli_owner_token(const bt_options *o, const char *data, char *path, size_t path_cap,
                             char out[static BT_CLI_TOKEN_BYTES], bt_err *err)
{
    enum { TOKEN_MAX = BT_CLI_TOKEN_BYTES - 2 };
    const char *secret = getenv("BATON_OWNER_TOKEN");
    char text[1024]; // a longer file's token is too long, or it is no token
    path[0] = out[0] = 0;
    if (!o->owner_token_file && secret && *secret) {
        snprintf(text, sizeof text, "%s", secret);
    } else {
        if (o->owner_token_file)
            snprintf(path, path_cap, "%s", o->owner_token_file);
        else
            snprintf(path, path_cap, "%s/owner-token", data);
        bt_status st = token_read(path, text, sizeof text, err);
        if (st) return st;
    }
    const char *where = *path ? path : "BATON_OWNER_TOKEN", *s = text + strspn(text, " \t\r\n");
    size_t n = strlen(s);
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return bt_err_set(err, BT_EINVAL, 0,
                              "the owner token in %.160s is not one word: it is one line of "
                              "printable ASCII characters without blanks, and nothing else",
                              where);
    if (n > TOKEN_MAX)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the owner token in %.160s is longer than %d characters", where,
                          TOKEN_MAX);
    snprintf(out, BT_CLI_TOKEN_BYTES, "%.*s", (int)n, s);
    explicit_bzero(text, sizeof text);
    return BT_OK;
}

bt_status bt_cli_owner_secret(const bt_options *o, const char *data, char *path, size_t path_cap,
                              char out[static BT_CLI_TOKEN_BYTES], bt_err *err)
{
    enum { TOKEN_MIN = 16 };
    struct stat file;
    bt_status st = bt_cli_owner_token(o, data, path, path_cap, out, err);
    if (st) return st;
    if (!out[0] && o->owner_token_file)
        return bt_err_set(err, BT_EINVAL, 0, "the owner token file %s is missing or empty", path);
    if (!out[0]) return BT_OK;
    if (strlen(out) < TOKEN_MIN)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the owner token in %.120s has %zu characters and needs %d, random ones: "
                          "openssl rand -hex 16 makes some",
                          *path ? path : "BATON_OWNER_TOKEN", strlen(out), TOKEN_MIN);
    if (!*path || stat(path, &file) != 0 || !(file.st_mode & 077)) return BT_OK;
    unsigned mode = file.st_mode & 07777;
    if (file.st_uid == geteuid())
        return bt_err_set(err, BT_EINVAL, 0,
                          "others than its owner may open the owner token file %.120s (mode %04o): "
                          "chmod 600 it",
                          path, mode);
    /* As containers mount secrets: not ours to change. */
    bt_log(BT_LOG_WARN, "owner_token.readable",
           "file=%s mode=%04o: other users may open it; give it mode 0400", path, mode);
    return BT_OK;
}
