/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int bt_cli_fail(const bt_err *err)
{
    fprintf(stderr, "baton: %s\n", err->msg);
    return err->code == BT_EINVAL ? 2 : 1;
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
