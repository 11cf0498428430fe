/* SPDX-License-Identifier: Apache-2.0 */
#include "token/open.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "vocab/spec.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4096 };
static const size_t file_bytes_max = (size_t)1 << 30;

typedef enum source { SOURCE_GGUF, SOURCE_JSON, SOURCE_SENTENCEPIECE, SOURCE_TIKTOKEN } source;

/* ---- Files. */

/* Maps a whole file. BT_ENOTFOUND if there is none; an empty one is an empty string. */
static bt_status map_file(const char *path, bt_str *out, bt_err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bt_err_set(err, errno == ENOENT || errno == ENOTDIR ? BT_ENOTFOUND : BT_EIO, errno,
                          "%.120s cannot be opened: %s", path, strerror(errno));
    bt_status st = BT_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        st = bt_err_set(err, BT_EFORMAT, 0, "%.120s is not a plain file", path);
    else if ((uint64_t)info.st_size > file_bytes_max)
        st = bt_err_set(err, BT_ETOOBIG, 0, "%.120s is larger than 1 GiB", path);
    else if (info.st_size == 0)
        *out = (bt_str){"", 0};
    if (!st && info.st_size > 0) {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = bt_err_set(err, BT_EIO, errno, "%.120s cannot be mapped: %s", path,
                            strerror(errno));
        else
            *out = (bt_str){p, (size_t)info.st_size};
    }
    close(fd);
    return st;
}

static void unmap_file(bt_str file)
{
    if (file.n) munmap((void *)(uintptr_t)file.s, file.n);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), len = strlen(end);
    return n >= len && strcmp(s + n - len, end) == 0;
}

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* folder/name; false if that is too long. */
static bool join_path(char dst[static PATH_BYTES_MAX], const char *folder, const char *name)
{
    int n = snprintf(dst, PATH_BYTES_MAX, "%s%s%s", folder, *folder ? "/" : "", name);
    return n > 0 && n < PATH_BYTES_MAX;
}

/* The first file of the folder, by name, that ends so. */
static bool find_ending(const char *folder, const char *end, char dst[static PATH_BYTES_MAX])
{
    char best[PATH_BYTES_MAX] = "";
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (ends_with(e->d_name, end) && strlen(e->d_name) < sizeof best &&
            (!best[0] || strcmp(e->d_name, best) < 0))
            snprintf(best, sizeof best, "%s", e->d_name);
    if (d) closedir(d);
    return best[0] && join_path(dst, folder, best) && is_file(dst);
}

/* ---- Which file, and what it is. */

static bt_status look_inside(const char *path, source *out, bt_err *err)
{
    bt_str file = {0};
    bt_status st = map_file(path, &file, err);
    if (st) return st;
    size_t n = BT_MIN(file.n, (size_t)256), first = bt_utf8_mark(file.s, n);
    bool ranks = false; // "base64 rank" lines
    for (size_t i = 0; i < n && (unsigned char)file.s[i] >= ' ' && (unsigned char)file.s[i] < 127;
         i++)
        ranks = ranks || file.s[i] == ' ';
    while (first < n && strchr(" \t\r\n", file.s[first]) && file.s[first]) first++;
    if (n >= 4 && memcmp(file.s, "GGUF", 4) == 0)
        *out = SOURCE_GGUF;
    else if (first < n && file.s[first] == '{')
        *out = SOURCE_JSON;
    else
        *out = ranks && memcmp(file.s, "version ", BT_MIN(n, (size_t)8)) != 0
                   ? SOURCE_TIKTOKEN
                   : SOURCE_SENTENCEPIECE;
    unmap_file(file);
    return BT_OK;
}

static bool find_in_folder(const char *folder, char dst[static PATH_BYTES_MAX])
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "spiece.model",
                                        "sentencepiece.bpe.model", "tiktoken.model"};
    if (join_path(dst, folder, names[0]) && is_file(dst)) return true;
    if (find_ending(folder, ".gguf", dst)) return true;
    for (size_t i = 1; i < BT_COUNT(names); i++)
        if (join_path(dst, folder, names[i]) && is_file(dst)) return true;
    return find_ending(folder, ".tiktoken", dst);
}

/* Why a folder without any of these cannot be read, by what else models' folders hold. */
static bt_status no_tokenizer(const char *folder, bt_err *err)
{
    static const struct {
        const char *name, *why;
    } others[] = {
        {"tekken.json", "tekken.json is Mistral's own format and is not read"},
        {"vocab.json", "vocab.json and merges.txt do not say how text is split"},
        {"encoder.json", "encoder.json does not say how text is split"},
        {"vocab.txt", "vocab.txt does not say how text is normalized"},
    };
    char path[PATH_BYTES_MAX];
    for (size_t i = 0; i < BT_COUNT(others); i++)
        if (join_path(path, folder, others[i].name) && is_file(path))
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%.100s: %s; put the model's tokenizer.json beside it, which "
                              "transformers' save_pretrained writes",
                              folder, others[i].why);
    return bt_err_set(err, BT_ENOTFOUND, 0,
                      "%.120s holds no tokenizer (tokenizer.json, *.gguf, tokenizer.model or "
                      "*.tiktoken)",
                      folder);
}

/* The folder that a file lies in. */
static void folder_of(const char *path, char dst[static PATH_BYTES_MAX])
{
    snprintf(dst, PATH_BYTES_MAX, "%s", path);
    char *slash = strrchr(dst, '/');
    if (!slash)
        snprintf(dst, PATH_BYTES_MAX, ".");
    else
        slash[slash == dst] = 0;
}

static bt_status find_source(const char *path, char file[static PATH_BYTES_MAX], source *kind,
                             bt_err *err)
{
    char folder[PATH_BYTES_MAX] = "";
    if (strlen(path) >= PATH_BYTES_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "the model's path is too long");
    snprintf(file, PATH_BYTES_MAX, "%s", path);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    bool weights = ends_with(name, ".safetensors") || ends_with(name, ".index.json") ||
                   strcmp(name, "config.json") == 0;
    if (is_folder(path))
        snprintf(folder, sizeof folder, "%s", path);
    else if (weights)
        folder_of(path, folder);
    if (folder[0] && !find_in_folder(folder, file)) return no_tokenizer(folder, err);
    return look_inside(file, kind, err);
}

/* ---- Building. */

static bt_status build(const bt_spec *spec, bt_vocab **vocab, bt_tokenizer **tokenizer, bt_err *err)
{
    bt_vocab *v = NULL;
    bt_status st = bt_vocab_build(spec, &v, err);
    if (!st && tokenizer) st = bt_tokenizer_build(spec, v, tokenizer, err);
    if (st) {
        bt_vocab_close(v);
        return st;
    }
    *vocab = v;
    return BT_OK;
}

bt_status bt_text_open_gguf(const bt_gguf *file, bt_vocab **vocab, bt_tokenizer **tokenizer,
                            bt_err *err)
{
    bt_spec spec;
    bt_spec_init(&spec, bt_gguf_path(file));
    bt_status st = bt_spec_read_gguf(&spec, file, !tokenizer, err);
    if (!st) st = build(&spec, vocab, tokenizer, err);
    bt_spec_release(&spec);
    return st;
}

bt_status bt_text_open_json(const char *text, size_t n, const bt_spec_files *beside,
                            const char *name, bt_vocab **vocab, bt_tokenizer **tokenizer,
                            bt_err *err)
{
    static const bt_spec_files none;
    bt_spec spec;
    bt_spec_init(&spec, name);
    bt_status st = bt_spec_read_json(&spec, text, n, err);
    if (!st) st = bt_spec_read_beside(&spec, beside ? beside : &none, err);
    if (!st) st = build(&spec, vocab, tokenizer, err);
    bt_spec_release(&spec);
    return st;
}

static bt_status map_beside(const char *path, bt_spec_files *files, bt_err *err)
{
    static const char *const names[BT_BESIDE_COUNT] = {
        [BT_BESIDE_TOKENIZER_CONFIG] = "tokenizer_config.json",
        [BT_BESIDE_SPECIAL_TOKENS_MAP] = "special_tokens_map.json",
        [BT_BESIDE_GENERATION_CONFIG] = "generation_config.json",
        [BT_BESIDE_CONFIG] = "config.json",
        [BT_BESIDE_TEMPLATE_JINJA] = "chat_template.jinja",
        [BT_BESIDE_TEMPLATE_JSON] = "chat_template.json"};
    char folder[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    folder_of(path, folder);
    for (int i = 0; i < BT_BESIDE_COUNT; i++) {
        if (!join_path(file, folder, names[i])) continue;
        bt_status st = map_file(file, &files->text[i], err);
        if (st && st != BT_ENOTFOUND) return st;
    }
    return BT_OK;
}

/* additional_chat_templates/NAME.jinja */
static bt_status map_extra(const char *path, bt_spec_files *files, bt_err *err)
{
    static const char end[] = ".jinja";
    char folder[PATH_BYTES_MAX], sub[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    bt_status st = BT_OK;
    folder_of(path, folder);
    DIR *d = join_path(sub, folder, "additional_chat_templates") ? opendir(sub) : NULL;
    for (struct dirent *e; !st && d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (!ends_with(e->d_name, end) || n == sizeof end - 1 ||
            n - (sizeof end - 1) >= sizeof files->extra[0].name ||
            files->n_extra == BT_SPEC_TEMPLATES_MAX || !join_path(file, sub, e->d_name))
            continue;
        st = map_file(file, &files->extra[files->n_extra].text, err);
        if (st) break;
        snprintf(files->extra[files->n_extra++].name, sizeof files->extra[0].name, "%.*s",
                 (int)(n - (sizeof end - 1)), e->d_name);
    }
    if (d) closedir(d);
    return st;
}

static bt_status read_source(bt_spec *spec, const char *path, source kind,
                             const bt_text_options *opt, bt_err *err)
{
    bt_str json = {0};
    bt_spec_files beside = {0};
    bt_status st = BT_OK;
    if (kind == SOURCE_JSON) {
        st = map_file(path, &json, err);
        if (!st) st = bt_spec_read_json(spec, json.s, json.n, err);
        unmap_file(json);
    } else if (kind == SOURCE_SENTENCEPIECE) {
        st = bt_spec_read_sentencepiece(spec, path, err);
    } else {
        st = bt_spec_read_tiktoken(spec, path, opt ? opt->tiktoken_pattern : NULL, err);
    }
    if (!st) st = map_beside(path, &beside, err);
    if (!st) st = map_extra(path, &beside, err);
    if (!st) st = bt_spec_read_beside(spec, &beside, err);
    for (int i = 0; i < BT_BESIDE_COUNT; i++) unmap_file(beside.text[i]);
    for (size_t i = 0; i < beside.n_extra; i++) unmap_file(beside.extra[i].text);
    return st;
}

bt_status bt_text_open(const char *path, const bt_text_options *opt, bt_vocab **vocab,
                       bt_tokenizer **tokenizer, bt_err *err)
{
    char file[PATH_BYTES_MAX];
    source kind = SOURCE_GGUF;
    bt_status st = find_source(path, file, &kind, err);
    if (st) return st;
    if (kind == SOURCE_GGUF) {
        bt_gguf *g = NULL;
        st = bt_gguf_open(file, &g, err);
        if (!st) st = bt_text_open_gguf(g, vocab, tokenizer, err);
        bt_gguf_close(g);
        return st;
    }
    bt_spec spec;
    bt_spec_init(&spec, file);
    st = read_source(&spec, file, kind, opt, err);
    if (!st) st = build(&spec, vocab, tokenizer, err);
    bt_spec_release(&spec);
    return st;
}
