/* SPDX-License-Identifier: Apache-2.0 */
#include "file/whole.h"
#include "base/assert.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads n bytes; fewer than that is an error: the file was cut while it was read. */
static bt_status read_all(int fd, const char *label, char *dst, size_t n, bt_err *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = read(fd, dst + at, n - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return bt_err_set(err, BT_EIO, errno, "%s: cannot be read: %s", label, strerror(errno));
        if (got == 0)
            return bt_err_set(err, BT_EIO, 0, "%s: became shorter while it was read", label);
        at += (size_t)got;
    }
    return BT_OK;
}

bt_status bt_file_read(const char *path, size_t max, char **out, size_t *n, bt_err *err)
{
    size_t long_by = strlen(path);
    const char *label = path + (long_by > 100 ? long_by - 100 : 0);
    char *data = NULL;
    struct stat sb;
    bt_status st = BT_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bt_err_set(err, errno == ENOENT ? BT_ENOTFOUND : BT_EIO, errno,
                          "%s: cannot be opened: %s", label, strerror(errno));
    if (fstat(fd, &sb) != 0) {
        st = bt_err_set(err, BT_EIO, errno, "%s: cannot be read: %s", label, strerror(errno));
    } else if (!S_ISREG(sb.st_mode)) {
        st = bt_err_set(err, BT_EFORMAT, 0, "%s is not a plain file", label);
    } else if (sb.st_size < 0 || (size_t)sb.st_size > max) {
        st = bt_err_set(err, BT_ETOOBIG, 0, "%s has %lld bytes; at most %zu are read", label,
                        (long long)sb.st_size, max);
    } else {
        *n = (size_t)sb.st_size;
        data = bt_malloc(*n + 1);
        st = data ? read_all(fd, label, data, *n, err)
                  : bt_err_set(err, BT_ENOMEM, 0, "%s: out of memory for %zu bytes", label, *n);
    }
    close(fd);
    if (st) {
        bt_free(data);
        return st;
    }
    data[*n] = 0;
    *out = data;
    return BT_OK;
}

bt_status bt_file_map(int fd, const char *label, const uint8_t **base, size_t *n, bt_err *err)
{
    bt_status st = BT_OK;
    struct stat sb;
    void *map = NULL;
    if (fstat(fd, &sb) != 0)
        st = bt_err_set(err, BT_EIO, errno, "%s: cannot be read: %s", label, strerror(errno));
    else if (!S_ISREG(sb.st_mode))
        st = bt_err_set(err, BT_EFORMAT, 0, "%s is not a regular file", label);
    else if (sb.st_size > 0)
        map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        st = bt_err_set(err, BT_EIO, errno, "cannot map %s (%lld bytes): %s", label,
                        (long long)sb.st_size, strerror(errno));
    close(fd);
    if (st || !map) return st;
    *base = map;
    *n = (size_t)sb.st_size;
    /* A header is read from front to back once, and so is each tensor when it is loaded. */
    madvise(map, *n, MADV_SEQUENTIAL);
    return BT_OK;
}

bool bt_file_ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), len = strlen(end);
    return n >= len && strcasecmp(name + n - len, end) == 0;
}

const char *bt_file_known(const char *data, size_t n)
{
    static const struct magic {
        const char *bytes, *what;
    } magic[] = {
        {"version https://git-lfs",
         "a Git LFS pointer, not the file itself; run \"git lfs pull\" in its repository"},
        {"GGUF", "a GGUF file"},
        {"{", "a JSON file"},
        {"PK\x03\x04", "a zip archive"},
        {"<", "a web page"},
    };
    for (size_t i = 0; i < BT_COUNT(magic); i++) {
        size_t len = strlen(magic[i].bytes);
        if (n >= len && memcmp(data, magic[i].bytes, len) == 0) return magic[i].what;
    }
    return NULL;
}
