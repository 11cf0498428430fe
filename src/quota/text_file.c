/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/text_file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bt_status bt_text_file_read(const char *path, const char *what, size_t max_bytes, bt_buf *b,
                            unsigned *mode, bt_err *err)
{
    bt_status status = BT_OK;
    struct stat st;
    char chunk[8192];
    /* O_NONBLOCK: a fifo under that name must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bt_err_set(err, errno == ENOENT ? BT_ENOTFOUND : BT_EIO, errno,
                          "%s %s cannot be opened: %s", what, path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = bt_err_set(err, BT_EIO, errno, "%s %s is not a regular file", what, path);
        goto done;
    }
    if (mode) *mode = st.st_mode & 07777;
    b->failed = false;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            status = bt_err_set(err, BT_EIO, errno, "%s %s cannot be read: %s", what, path,
                                strerror(errno));
        if (n <= 0) break;
        if (b->len + (size_t)n > max_bytes) {
            status = bt_err_set(err, BT_ETOOBIG, 0, "%s %s is larger than %zu bytes", what, path,
                                max_bytes);
            break;
        }
        bt_buf_add(b, chunk, (size_t)n);
        if (b->failed) {
            status = bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading %s %s", what, path);
            break;
        }
    }
done:
    close(fd);
    return status;
}
