/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE // memmem
#include "file/not_gguf.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "file/gguf.h"
#include "file/whole.h"
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONVERT "and Baton reads GGUF and safetensors: get the model as one of these"

/* ---- paths */

/* "org/name", or "org/name:Q4_K_M": what other servers download. */
static bool is_repository(const char *path)
{
    const char *slash = strchr(path, '/');
    char folder[256];
    struct stat st;
    if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/') || path[0] == '.' ||
        path[0] == '~' || bt_file_ends_with(path, ".gguf"))
        return false;
    for (const char *c = path; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-:/", *c)) return false;
    snprintf(folder, sizeof folder, "%.*s", (int)BT_MIN(slash - path, 255), path);
    return stat(folder, &st) != 0; // else a slip in a file's name
}

bt_status bt_not_gguf_path(const char *path, const char *label, int why, bt_err *err)
{
    bt_status st = why == ENOENT || why == ENOTDIR ? BT_ENOTFOUND : BT_EIO;
    if (strstr(path, "://"))
        return bt_err_set(err, st, why,
                          "%s is an address, and Baton downloads nothing: fetch the GGUF file "
                          "yourself (curl -LO ADDRESS) and give its path",
                          label);
    if (st == BT_ENOTFOUND && is_repository(path)) {
        int n = (int)strcspn(path, ":");
        return bt_err_set(err, st, why,
                          "there is no file %.60s, and Baton downloads nothing: fetch one (hf "
                          "download %.*s --include \"*.gguf\" --local-dir models) and give its "
                          "path: --model models/NAME.gguf",
                          path, BT_MIN(n, 60), path);
    }
    if (why == EACCES)
        return bt_err_set(err, st, why,
                          "cannot open %s: %s; the user with id %d has to be able to read it "
                          "(chmod a+r, and a+x for its folders)",
                          label, strerror(why), (int)getuid());
    return bt_err_set(err, st, why, "cannot open %s: %s", label, strerror(why));
}

/* ---- files */

static const struct {
    const char *magic;
    size_t n;
    bt_status code;
    const char *what;
} known[] = {
#define M(text) text, sizeof text - 1
    {M("version https://git-lfs"), BT_EFORMAT,
     "a Git LFS pointer, not the model itself; run \"git lfs pull\" or download the file again"},
    {M("PK\003\004"), BT_EFORMAT,
     "a zip archive: unpack it if there is a GGUF file inside; a PyTorch checkpoint can run code "
     "when opened and is refused: get the model as GGUF, or convert it"},
    {M("\x80\002"), BT_EFORMAT,
     "a pickle (an old PyTorch checkpoint); such files can run code when opened and are refused: "
     "get the model as GGUF, or convert it"},
    {M("lmgg"), BT_EFORMAT, "a GGML file of 2023, from before GGUF; convert the model again"},
    {M("tjgg"), BT_EFORMAT, "a GGJT file of 2023, from before GGUF; convert the model again"},
    {M("fmgg"), BT_EFORMAT, "a GGMF file of 2023, from before GGUF; convert the model again"},
    {M("algg"), BT_EFORMAT, "a LoRA adapter of 2023 and no model; give the model itself"},
    {M("FUGG"), BT_EUNSUPPORTED, "a big-endian GGUF file; get the little-endian one"},
    {M("\x1f\x8b"), BT_EFORMAT, "compressed (gzip); unpack it and give the GGUF file"},
    {M("\x28\xb5\x2f\xfd"), BT_EFORMAT, "compressed (zstd); unpack it and give the GGUF file"},
    {M("\xfd"
       "7zXZ"),
     BT_EFORMAT, "compressed (xz); unpack it and give the GGUF file"},
    {M("BZh"), BT_EFORMAT, "compressed (bzip2); unpack it and give the GGUF file"},
    {M("7z\xbc\xaf"), BT_EFORMAT, "a 7z archive; unpack it and give the GGUF file"},
    {M("Rar!"), BT_EFORMAT, "a rar archive; unpack it and give the GGUF file"},
    {M("\x89HDF"), BT_EUNSUPPORTED, "an HDF5 file (Keras), " CONVERT},
    {M("\x93NUMPY"), BT_EUNSUPPORTED, "a NumPy file, and Baton reads GGUF; convert the model"},
#undef M
};

static bool begins(const char *text, size_t n, const char *word)
{
    size_t len = strlen(word);
    return n >= len && strncasecmp(text, word, len) == 0;
}

/* What a text says: a web page or a service's refusal, saved under the model's name; or a setting.
 * False: it is no text. */
static bool refuse_text(const char *label, const char *text, size_t n, bt_err *err)
{
    static const char space[] = " \t\r\n";
    size_t mark = bt_utf8_mark(text, n);
    text += mark;
    n -= mark;
    for (; n && strchr(space, *text); n--) text++;
    size_t line = 0;
    while (line < BT_MIN(n, (size_t)40) && (unsigned char)text[line] >= ' ' && text[line] != 0x7f)
        line++;
    if (begins(text, n, "<!doctype") || begins(text, n, "<html") || begins(text, n, "<?xml"))
        bt_err_set(err, BT_EFORMAT, 0,
                   "%s is a web page, not a model; check the address it was downloaded from",
                   label);
    else if (line < BT_MIN(n, (size_t)8) || n == 0)
        return false;
    else if (text[0] == '{' && !memmem(text, BT_MIN(n, (size_t)64), "rror", 4))
        bt_err_set(err, BT_EFORMAT, 0, "%s is a JSON file and holds no weights, " CONVERT, label);
    else
        bt_err_set(err, BT_EFORMAT, 0,
                   "%s is a text (\"%s\"), not a GGUF file; if it was downloaded, that failed: try "
                   "it again",
                   label, bt_str_shown((bt_str){text, line}).s);
    return true;
}

bt_status bt_not_gguf_file(const char *label, const void *bytes, size_t n, bt_err *err)
{
    const char *text = bytes;
    uint64_t header = 0;
    bt_err why = {0};
    for (size_t i = 0; i < BT_COUNT(known); i++)
        if (n >= known[i].n && memcmp(text, known[i].magic, known[i].n) == 0)
            return bt_err_set(err, known[i].code, 0, "%s is %s", label, known[i].what);
    if (n > 9) memcpy(&header, text, sizeof header);
    if (header && header <= n - 8 && text[8] == '{')
        return bt_err_set(err, BT_EUNSUPPORTED, 0, 
                          "%s is a safetensors file: give it the ending .safetensors, in a folder "
                          "with the model's config.json",
                          label);
    if (n > 262 && memcmp(text + 257, "ustar", 5) == 0)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s is a tar archive; unpack it and give the GGUF file", label);
    if (n > 8 && memcmp(text + 4, "TFL3", 4) == 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0, "%s is a TFLite model, " CONVERT, label);
    if (bt_file_ends_with(label, ".onnx"))
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is an ONNX model, and Baton reads GGUF: get the model as GGUF",
                          label);
    if (bt_file_ends_with(label, ".dat") || bt_file_ends_with(label, ".imatrix"))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s is no GGUF file; an importance matrix is for making one, not for "
                          "running it: give the model",
                          label);
    if (refuse_text(label, text, n, &why)) return bt_err_set(err, why.code, 0, "%s", why.msg);
    return bt_err_set(err, BT_EFORMAT, 0,
                      "%s is not a GGUF file: it does not start with \"GGUF\"; the download may be "
                      "damaged, or it is another format",
                      label);
}
