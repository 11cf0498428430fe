/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - fits a model, its KV pages and its scratch into the memory that is free.
 *
 * Bytes grow with each of pages, context and slots, so what fits is found by bisection over the
 * backend's own counts; nothing here knows a layout. */
#include "model/plan.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/tensors.h"
#include "model/requant.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS_DEFAULT = 8,
    CTX_DEFAULT = 4096,
    STEP_DEFAULT = 512,
    PAGE_DEFAULT = 16,
    CTX_LEAST = 256,         // below this no smaller context is proposed
    STEP_LEAST = 32,         // nor fewer tokens a step
    LOGITS_BYTES = 16 << 20, // rows of logits a step are bounded by this
    TEXT_MAX = 4096,         // bytes read of a file of /proc or /sys
};
#define BITS_LEAST 2.3 // a weight: no format that is worth loading has fewer
#define RESERVE_MAX ((uint64_t)256 << 20)

/* Memory --------------------------------------------------------------------------------------- */

/* The file's start as a string; false if it cannot be read. */
static bool read_text(const char *root, const char *path, char dst[static TEXT_MAX])
{
    char full[TEXT_MAX];
    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full) return false;
    FILE *f = fopen(full, "re");
    if (!f) return false;
    size_t n = fread(dst, 1, TEXT_MAX - 1, f);
    fclose(f);
    dst[n] = 0;
    return n > 0;
}

/* The number after `key` at a line's start; false if there is none. */
static bool number_of(const char *text, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, n) != 0) continue;
        char *end;
        errno = 0;
        unsigned long long v = strtoull(at + n, &end, 10);
        if (end == at + n || errno) return false; // "max", or not a number
        *out = v;
        return true;
    }
    return false;
}

/* One group's limit, and what it uses that cannot be reclaimed. */
static void apply_limit(const char *root, const char *dir, bool v2, bt_memory *mem)
{
    char path[TEXT_MAX], text[TEXT_MAX];
    uint64_t limit, used = 0, cache = 0;
    int n = snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.max" : "memory.limit_in_bytes");
    if (n >= (int)sizeof path || !read_text(root, path, text) || !number_of(text, "", &limit))
        return;
    snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.current" : "memory.usage_in_bytes");
    if (read_text(root, path, text)) number_of(text, "", &used);
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    if (read_text(root, path, text))
        number_of(text, v2 ? "inactive_file " : "total_inactive_file ", &cache);
    used -= BT_MIN(cache, used);
    uint64_t free_bytes = limit - BT_MIN(used, limit);
    if (limit < mem->total_bytes) {
        mem->total_bytes = limit;
        mem->limited = true;
    }
    if (free_bytes < mem->free_bytes) {
        mem->free_bytes = free_bytes;
        mem->limited = true;
    }
}

/* The group of this process and each one above it: any of them may hold the limit. */
static void apply_groups(const char *root, const char *mount, const char *group, bool v2,
                         bt_memory *mem)
{
    char dir[TEXT_MAX];
    size_t top = strlen(mount);
    if (snprintf(dir, sizeof dir, "%s%s", mount, group) >= (int)sizeof dir - 32) return;
    for (size_t n = strlen(dir); n > top; n = strlen(dir)) {
        apply_limit(root, dir, v2, mem);
        char *slash = strrchr(dir + top, '/');
        dir[slash ? (size_t)(slash - dir) : top] = 0;
    }
    apply_limit(root, mount, v2, mem);
}

bt_status bt_memory_read(const char *root, bt_memory *out, bt_err *err)
{
    char text[TEXT_MAX];
    uint64_t total_kb, free_kb;
    if (!read_text(root, "/proc/meminfo", text) || !number_of(text, "MemTotal:", &total_kb) ||
        !number_of(text, "MemAvailable:", &free_kb))
        return bt_err_set(err, BT_EIO, 0, "cannot read the free memory from %s/proc/meminfo", root);
    bt_memory mem = {total_kb << 10, free_kb << 10, false};
    if (read_text(root, "/proc/self/cgroup", text)) {
        for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save)) {
            char *memory = strstr(line, ":memory:");
            if (strncmp(line, "0::/", 4) == 0)
                apply_groups(root, "/sys/fs/cgroup", line + 3, true, &mem);
            else if (memory)
                apply_groups(root, "/sys/fs/cgroup/memory", memory + 8, false, &mem);
        }
    }
    *out = mem;
    return BT_OK;
}

/* Planning ------------------------------------------------------------------------------------- */

char *bt_bytes_text(uint64_t bytes, char dst[static 16])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t u = 0;
    double v = (double)bytes;
    for (; v >= 1023.95 && u + 1 < BT_COUNT(unit); u++) v /= 1024;
    snprintf(dst, 16, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return dst;
}

static int32_t pages_of(int32_t tokens, int32_t page_tokens)
{
    return tokens / page_tokens + (tokens % page_tokens != 0);
}

static bt_status check_ask(const bt_plan_ask *a, bt_err *err)
{
    static const struct {
        const char *name;
        size_t offset;
        int32_t max;
    } row[] = {
        {"threads", offsetof(bt_plan_ask, threads), 1024},
        {"slots", offsetof(bt_plan_ask, slots), 4096},
        {"ctx", offsetof(bt_plan_ask, ctx), 1 << 24},
        {"KV tokens", offsetof(bt_plan_ask, kv_tokens), 1 << 28},
        {"tokens a step", offsetof(bt_plan_ask, step_tokens), 1 << 16},
        {"tokens a page", offsetof(bt_plan_ask, page_tokens), 1024},
    };
    for (size_t i = 0; i < BT_COUNT(row); i++) {
        int32_t v;
        memcpy(&v, (const char *)a + row[i].offset, sizeof v);
        if (v < 0 || v > row[i].max)
            return bt_err_set(err, BT_EINVAL, 0,
                              "%s cannot be %d; expected 1 to %d, or 0 for the default",
                              row[i].name, v, row[i].max);
    }
    return BT_OK;
}

/* The device plan of an ask without its pages. */
static bt_device_plan shape_of(const bt_plan_ask *a)
{
    bt_device_plan d = {0};
    d.threads = a->threads ? a->threads : bt_cpu_count();
    d.page_tokens = a->page_tokens ? a->page_tokens : PAGE_DEFAULT;
    d.ctx = a->ctx ? a->ctx : CTX_DEFAULT;
    d.ctx = BT_MIN(d.ctx, a->recipe->ctx_train);
    if (!a->ctx && a->kv_tokens) d.ctx = BT_MIN(d.ctx, a->kv_tokens);
    d.seqs_max = a->slots ? a->slots : SLOTS_DEFAULT;
    d.rows_max = a->step_tokens ? a->step_tokens : STEP_DEFAULT;
    d.rows_max = BT_MAX(d.rows_max, d.seqs_max);
    int32_t rows = (int32_t)(LOGITS_BYTES / ((int64_t)a->recipe->vocab * 4));
    d.out_max = BT_MIN(BT_MAX(rows, d.seqs_max), d.rows_max);
    d.kv_format = a->kv_format;
    d.ordinal = a->ordinal;
    d.deterministic = a->deterministic;
    d.keep_host = a->keep_host;
    return d;
}

static uint64_t count(const bt_plan_ask *a, const bt_device_plan *d, bt_plan *out)
{
    bt_plan p = {*d, 0, 0, 0, 0, 0, a->free_bytes};
    p.reserve_bytes = BT_MIN(a->free_bytes / 16, RESERVE_MAX);
    a->bytes(a->recipe, a->weights, d, &p.weights_bytes, &p.kv_bytes, &p.scratch_bytes);
    p.total_bytes = p.weights_bytes + p.kv_bytes + p.scratch_bytes;
    *out = p;
    return p.total_bytes;
}

static bool fits(const bt_plan_ask *a, const bt_device_plan *d)
{
    bt_plan p;
    return count(a, d, &p) <= p.free_bytes - p.reserve_bytes;
}

/* The most pages in [low, high] that fit; low is known to. */
static int32_t most_pages(const bt_plan_ask *a, bt_device_plan d, int32_t low, int32_t high)
{
    while (low < high) {
        d.n_pages = low + (high - low + 1) / 2;
        if (fits(a, &d))
            low = d.n_pages;
        else
            high = d.n_pages - 1;
    }
    return low;
}

/* The longest context in whole pages that fits with one sequence's pages, or 0. */
static int32_t most_ctx(const bt_plan_ask *a, bt_device_plan d)
{
    int32_t low = 0, high = d.ctx / d.page_tokens;
    while (low < high) {
        d.n_pages = low + (high - low + 1) / 2;
        d.ctx = d.n_pages * d.page_tokens;
        if (fits(a, &d))
            low = d.n_pages;
        else
            high = d.n_pages - 1;
    }
    return low * d.page_tokens;
}

/* Which of --quant's formats leaves room for the most context, the first of equals; returns that
 * context, or 0 if none does. */
static int32_t quant_that_fits(const bt_plan_ask *a, const bt_device_plan *d, const char **name)
{
    static const char *const names[] = {"int8", "int4"};
    bt_plan_ask less = *a;
    bt_weights w;
    bt_layer_weights *layers =
        a->weights ? bt_malloc((size_t)a->recipe->n_layers * sizeof *layers) : NULL;
    int32_t most = 0;
    less.weights = &w;
    for (size_t i = 0; layers && i < BT_COUNT(names); i++) {
        int32_t format = -1;
        bt_requant_parse(names[i], &format, NULL);
        bt_requant_preview(a->recipe, a->weights, format, layers, &w);
        int32_t ctx = most_ctx(&less, *d);
        if (ctx > most) *name = names[i];
        most = BT_MAX(most, ctx);
    }
    bt_free(layers);
    return most < CTX_LEAST ? 0 : most;
}

/* How many bits a weight a file of the same model may have to fit, or 0: none. */
static double bits_that_fit(const bt_plan_ask *a, const bt_device_plan *d)
{
    bt_plan p;
    bt_device_plan least = *d;
    double weights = 0;
    least.ctx = CTX_LEAST;
    least.n_pages = pages_of(CTX_LEAST, d->page_tokens);
    count(a, &least, &p);
    uint64_t usable = p.free_bytes - p.reserve_bytes, rest = p.kv_bytes + p.scratch_bytes;
    if (!a->weights || rest >= usable) return 0;
    for (int32_t l = 0; l < a->recipe->n_layers; l++)
        for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++) {
            const bt_weight *m = bt_layer_matrix(&a->weights->layers[l], i);
            weights += (double)m->rows * m->cols;
        }
    weights +=
        (double)a->weights->head.rows * a->weights->head.cols * (a->recipe->tied_head ? 1 : 2);
    double bits = weights > 0 ? 8 * (double)(usable - rest) / weights : 0;
    return bits < BITS_LEAST ? 0 : bits;
}

/* What would fit: less context, fewer slots, a conversion while loading, a smaller file. */
static void propose(const bt_plan_ask *a, const bt_device_plan *d, char *help, size_t n)
{
    const char *quant = "";
    int32_t ctx = most_ctx(a, *d);
    if (ctx >= CTX_LEAST) {
        snprintf(help, n, "a context of %d would fit", ctx);
        return;
    }
    bt_device_plan less = *d;
    less.seqs_max = less.out_max = 1;
    less.rows_max = BT_MIN(d->rows_max, STEP_LEAST);
    int32_t alone = most_ctx(a, less);
    ctx = quant_that_fits(a, d, &quant);
    double bits = bits_that_fit(a, d);
    if (alone >= CTX_LEAST)
        snprintf(help, n, "1 slot, %d tokens a step and a context of %d would fit", less.rows_max,
                 alone);
    else if (ctx > 0)
        snprintf(help, n, "--quant %s and a context of %d would fit", quant, ctx);
    else if (bits > 0)
        snprintf(help, n, "a file of at most %.1f bits a weight would fit", bits - 0.05);
    else
        snprintf(help, n, "use a smaller model or quantization");
}

static bt_status refuse(const bt_plan_ask *a, const bt_device_plan *d, bt_err *err)
{
    char text[5][16], help[96];
    bt_plan p;
    count(a, d, &p);
    propose(a, d, help, sizeof help);
    uint64_t usable = p.free_bytes - p.reserve_bytes;
    return bt_err_set(err, BT_ENOMEM, 0,
                      "weights take %s, KV %s and scratch %s; of the memory %s may be used, so %s "
                      "are missing: %s",
                      bt_bytes_text(p.weights_bytes, text[0]), bt_bytes_text(p.kv_bytes, text[1]),
                      bt_bytes_text(p.scratch_bytes, text[2]), bt_bytes_text(usable, text[3]),
                      bt_bytes_text(p.total_bytes - usable, text[4]), help);
}

bt_status bt_plan_make(const bt_plan_ask *ask, bt_plan *out, bt_err *err)
{
    bt_status st = check_ask(ask, err);
    if (st) return st;
    bt_device_plan d = shape_of(ask);
    int32_t least = pages_of(d.ctx, d.page_tokens);
    int64_t all = (int64_t)least * d.seqs_max;
    if (ask->kv_tokens && pages_of(ask->kv_tokens, d.page_tokens) < least)
        return bt_err_set(
            err, BT_EINVAL, 0,
            "%d KV tokens cannot hold one sequence of %d; ask for more of them or for "
            "a smaller context",
            ask->kv_tokens, d.ctx);
    d.n_pages = ask->kv_tokens ? pages_of(ask->kv_tokens, d.page_tokens) : least;
    if (!fits(ask, &d)) return refuse(ask, &d, err);
    if (!ask->kv_tokens) d.n_pages = most_pages(ask, d, least, (int32_t)BT_MIN(all, INT32_MAX));
    count(ask, &d, out);
    return BT_OK;
}
