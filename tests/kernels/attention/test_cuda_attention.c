/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 300 */
/* Attention on the device against a softmax in double over the same stored KV. Whatever a sequence
 * may not see holds NaN, and page entries nobody may read hold -1. */
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/kv_element.h"
#include "kernels/quant/quant.h"
#include "kernels/cuda_test.h"
#include "kernels/random.h"

enum { SEQS_MAX = 8, TINY = 1, SMALL = 4, LARGE = 132 }; // multiprocessors: decide the splits

typedef struct shape {
    bt_kv_format format;
    int32_t n_heads, kv_heads, head_dim, page_tokens, window;
    float soft_cap;
    bool sinks, deterministic;
} shape;

/* What every call reads, on the host and on the device. */
typedef struct scene {
    shape s;
    int32_t n_seqs, rows, pages_ld, ctx_max;
    int32_t kv_len[SEQS_MAX], first_row[SEQS_MAX], n_rows[SEQS_MAX];
    int32_t *pages;
    unsigned char *pool; // pages as stored
    size_t page_bytes, pool_bytes;
    float *q, sinks[64], scale;
    int64_t ldq, ldo;
    bt_cuda_props props;
} scene;

static const float OUT_UNTOUCHED = -77.0f;

static int device_sm(void)
{
    struct cudaDeviceProp p;
    REQUIRE_CUDA(cudaGetDeviceProperties(&p, 0));
    return p.major * 10 + p.minor;
}

static bt_cuda_kv scene_kv(const scene *w)
{
    return (bt_cuda_kv){w->s.format,      w->s.kv_heads, w->s.head_dim,
                        w->s.page_tokens, NULL,          w->page_bytes};
}

static unsigned char *row_at(const scene *w, int32_t seq, int32_t pos, int32_t head, bool v)
{
    bt_cuda_kv kv = scene_kv(w);
    int32_t page = w->pages[seq * w->pages_ld + pos / w->s.page_tokens];
    int32_t slot = pos % w->s.page_tokens;
    return w->pool + (size_t)page * w->page_bytes +
           (v ? bt_cuda_kv_v_offset(&kv, head, slot) : bt_cuda_kv_k_offset(&kv, head, slot));
}
static unsigned char *scale_at(const scene *w, int32_t seq, int32_t pos, int32_t head, bool v)
{
    bt_cuda_kv kv = scene_kv(w);
    int32_t page = w->pages[seq * w->pages_ld + pos / w->s.page_tokens];
    int32_t slot = pos % w->s.page_tokens;
    return w->pool + (size_t)page * w->page_bytes +
           (v ? bt_cuda_kv_v_scale_offset(&kv, head, slot)
              : bt_cuda_kv_k_scale_offset(&kv, head, slot));
}

static void element_put(const scene *w, unsigned char *row, int32_t d, float x)
{
    uint16_t h = w->s.format == BT_KV_BF16 ? bt_bf16_from_f32(x) : bt_f16_from_f32(x);
    switch (w->s.format) {
    case BT_KV_F32: memcpy(row + 4 * d, &x, 4); break;
    case BT_KV_INT8: row[d] = (unsigned char)(int8_t)lrintf(x * 40); break;
    case BT_KV_FP8: row[d] = bt_e4m3_from_f32(x * 40); break;
    default: memcpy(row + 2 * d, &h, 2); break;
    }
}
static double element_get(const scene *w, int32_t seq, int32_t pos, int32_t head, bool v, int32_t d)
{
    const unsigned char *row = row_at(w, seq, pos, head, v);
    uint16_t h;
    float x;
    switch (w->s.format) {
    case BT_KV_F32: return memcpy(&x, row + 4 * d, 4), (double)x;
    case BT_KV_F16: return memcpy(&h, row + 2 * d, 2), (double)bt_f32_from_f16(h);
    case BT_KV_BF16: return memcpy(&h, row + 2 * d, 2), (double)bt_f32_from_bf16(h);
    default: break;
    }
    memcpy(&h, scale_at(w, seq, pos, head, v), 2);
    x = w->s.format == BT_KV_INT8 ? (float)(int8_t)row[d] : bt_f32_from_e4m3(row[d]);
    return (double)x * (double)bt_f32_from_f16(h);
}

/* First position that a row of the sequence sees. */
static int32_t lowest(const scene *w, int32_t seq)
{
    int32_t first = w->kv_len[seq] - w->n_rows[seq] + 1;
    return w->s.window > 0 && first > w->s.window ? first - w->s.window : 0;
}

static void scene_fill(scene *w)
{
    for (int32_t s = 0; s < w->n_seqs; s++)
        for (int32_t pos = lowest(w, s); pos < w->kv_len[s]; pos++)
            for (int32_t h = 0; h < w->s.kv_heads; h++)
                for (int v = 0; v < 2; v++) {
                    uint16_t scale = bt_f16_from_f32((float)(0.5 + random_unit()) / 40);
                    if (bt_cuda_kv_scaled(w->s.format))
                        memcpy(scale_at(w, s, pos, h, v), &scale, 2);
                    for (int32_t d = 0; d < w->s.head_dim; d++)
                        element_put(w, row_at(w, s, pos, h, v), d, random_normal());
                }
}

static scene scene_new(shape s, int32_t n_seqs, const int32_t *kv_len, const int32_t *n_rows)
{
    scene w = {.s = s, .n_seqs = n_seqs, .ctx_max = 1, .scale = 1 / sqrtf((float)s.head_dim)};
    for (int32_t i = 0; i < n_seqs; i++) {
        w.kv_len[i] = kv_len[i], w.n_rows[i] = n_rows[i], w.first_row[i] = w.rows;
        w.rows += n_rows[i] > 0 ? n_rows[i] : 1; // a padding sequence has a row of its own
        if (kv_len[i] > w.ctx_max) w.ctx_max = kv_len[i];
    }
    w.pages_ld = (w.ctx_max + s.page_tokens - 1) / s.page_tokens + 1;
    int32_t n_pages = n_seqs * w.pages_ld;
    w.page_bytes = bt_cuda_kv_page_bytes(s.format, s.kv_heads, s.head_dim, s.page_tokens) + 256;
    w.pool_bytes = (size_t)n_pages * w.page_bytes;
    w.pool = bt_must(bt_malloc(w.pool_bytes));
    memset(w.pool, 0xff, w.pool_bytes); // NaN in every format
    w.pages = bt_must(bt_malloc((size_t)n_pages * sizeof *w.pages));
    for (int32_t i = 0; i < n_pages; i++) w.pages[i] = i;
    for (int32_t i = n_pages - 1; i > 0; i--) {
        int32_t j = random_below(i + 1), t = w.pages[i];
        w.pages[i] = w.pages[j], w.pages[j] = t;
    }
    scene_fill(&w);
    for (int32_t i = 0; i < n_pages; i++) {
        int32_t seq = i / w.pages_ld, pos = i % w.pages_ld * s.page_tokens;
        if (pos >= kv_len[seq] || pos + s.page_tokens <= lowest(&w, seq)) w.pages[i] = -1;
    }
    w.ldq = s.n_heads * s.head_dim + 8, w.ldo = s.n_heads * s.head_dim + 4;
    w.q = random_floats((size_t)(w.rows * w.ldq), 1);
    for (int32_t h = 0; h < s.n_heads && h < 64; h++) w.sinks[h] = random_normal();
    w.props = (bt_cuda_props){.sm = device_sm(), .n_sm = SMALL, .shared_optin_bytes = 64 << 10};
    return w;
}
static void scene_free(scene *w)
{
    bt_free(w->pool);
    bt_free(w->pages);
    bt_free(w->q);
}

enum { DECODE = 1, PREFILL = 2 };

/* The outputs, [rows, ldo]; freed by bt_free(). min_rows: which sequences prefill takes. */
static float *scene_run(const scene *w, unsigned what, int32_t min_rows)
{
    size_t out_bytes = (size_t)(w->rows * w->ldo) * 4, ids = (size_t)w->n_seqs * 4;
    float *out = bt_must(bt_malloc(out_bytes));
    for (int64_t i = 0; i < w->rows * w->ldo; i++) out[i] = OUT_UNTOUCHED;
    bt_cuda_attention_args a = {.kv = scene_kv(w),
                                .n_heads = w->s.n_heads,
                                .scale = w->scale,
                                .soft_cap = w->s.soft_cap,
                                .window = w->s.window,
                                .ldq = w->ldq,
                                .ldo = w->ldo,
                                .pages_ld = w->pages_ld,
                                .n_seqs = w->n_seqs,
                                .rows = w->rows,
                                .ctx_max = w->ctx_max,
                                .deterministic = w->s.deterministic,
                                .props = &w->props};
    a.kv.base = cuda_put(w->pool, w->pool_bytes);
    a.q = cuda_put(w->q, (size_t)(w->rows * w->ldq) * 4);
    a.out = cuda_put(out, out_bytes);
    a.pages = cuda_put(w->pages, ids * (size_t)w->pages_ld);
    a.kv_len = cuda_put(w->kv_len, ids);
    a.first_row = cuda_put(w->first_row, ids);
    a.n_rows = cuda_put(w->n_rows, ids);
    if (w->s.sinks) a.sinks = cuda_put(w->sinks, (size_t)w->s.n_heads * 4);
    a.scratch_bytes = bt_cuda_attention_scratch(&a.kv, &w->props, w->s.n_heads, w->n_seqs,
                                                w->ctx_max, w->s.deterministic);
    a.scratch = cuda_new(a.scratch_bytes);
    int32_t work[2 * 512], n = bt_cuda_attention_plan(&a.kv, &w->props, w->s.n_heads, w->n_seqs,
                                                      w->n_rows, min_rows, work, 500);
    REQUIRE(n <= 500);
    for (int32_t i = 0; i < 3; i++, n++) work[2 * n] = work[2 * n + 1] = -1; // a bucket's padding
    a.work = cuda_put(work, (size_t)n * 8);
    a.n_work = n;
    if (what & DECODE) CHECK_CUDA(bt_cuda_attention_decode(&a, NULL));
    if (what & PREFILL) CHECK_CUDA(bt_cuda_attention_prefill(&a, NULL));
    cuda_get(out, a.out, out_bytes);
    cuda_clear();
    return out;
}

/* One query in double. Also the size of its values and scores, for the bound. */
static void reference(const scene *w, int32_t seq, int32_t row, int32_t head, double *out,
                      double *v_size, double *s_size)
{
    int32_t dim = w->s.head_dim, kv_head = head / (w->s.n_heads / w->s.kv_heads);
    int32_t last = w->kv_len[seq] - w->n_rows[seq] + row;
    int32_t first = w->s.window > 0 && last >= w->s.window ? last - w->s.window + 1 : 0;
    const float *q = w->q + (w->first_row[seq] + row) * w->ldq + head * dim;
    double *p = bt_must(bt_malloc((size_t)(last + 1) * sizeof *p)), max = -INFINITY, sum = 0;
    *v_size = *s_size = 0;
    for (int32_t t = first; t <= last; t++) {
        p[t] = 0;
        for (int32_t d = 0; d < dim; d++)
            p[t] += (double)q[d] * element_get(w, seq, t, kv_head, false, d);
        p[t] *= (double)w->scale;
        *s_size = fmax(*s_size, fabs(p[t]));
        if (w->s.soft_cap > 0) p[t] = (double)w->s.soft_cap * tanh(p[t] / (double)w->s.soft_cap);
        max = fmax(max, p[t]);
    }
    if (w->s.sinks) max = fmax(max, (double)w->sinks[head]), sum = exp(w->sinks[head] - max);
    for (int32_t t = first; t <= last; t++) sum += p[t] = exp(p[t] - max);
    for (int32_t d = 0; d < dim; d++) {
        out[d] = 0;
        for (int32_t t = first; t <= last; t++) {
            double v = element_get(w, seq, t, kv_head, true, d);
            out[d] += p[t] / sum * v;
            *v_size = fmax(*v_size, fabs(v));
        }
    }
    bt_free(p);
}

static double worst[5]; // greatest error of a format, as part of its bound

static bool query_close(const scene *w, int32_t seq, int32_t row, int32_t head, const float *got)
{
    double want[256], v, s, bound = 0, error = 0;
    reference(w, seq, row, head, want, &v, &s);
    switch (w->s.format) {
    case BT_KV_F32: bound = 5e-6 * v; break;
    case BT_KV_BF16: bound = (8e-3 + 4e-3 * s) * v; break;
    default: bound = (1e-3 + 5e-4 * s) * v; break;
    }
    for (int32_t d = 0; d < w->s.head_dim; d++) {
        double e = fabs((double)got[d] - want[d]);
        error = e <= error ? error : e; // keeps NaN
    }
    if (!(worst[w->s.format] >= error / bound)) worst[w->s.format] = error / bound;
    if (error <= bound) return true;
    fprintf(stderr,
            "format %d heads %d/%d dim %d page %d window %d cap %g: sequence %d of %d positions, "
            "row %d head %d: error %g, bound %g\n",
            w->s.format, w->s.n_heads, w->s.kv_heads, w->s.head_dim, w->s.page_tokens, w->s.window,
            (double)w->s.soft_cap, seq, w->kv_len[seq], row, head, error, bound);
    return false;
}

/* Checks what `what` was to write and that nothing else changed. stride: every so many queries are
 * compared with the reference. */
static void scene_check(const scene *w, unsigned what, const float *out, int32_t stride)
{
    int32_t width = w->s.n_heads * w->s.head_dim, wrong = 0, strayed = 0, query = 0;
    for (int32_t s = 0; s < w->n_seqs && wrong == 0; s++) {
        bool padding = w->kv_len[s] == 0;
        bool written = what & (w->n_rows[s] > 1 ? PREFILL : DECODE);
        for (int32_t r = 0; r < (padding ? 1 : w->n_rows[s]); r++) {
            const float *row = out + (w->first_row[s] + r) * w->ldo;
            for (int32_t i = width; i < w->ldo; i++) strayed += row[i] != OUT_UNTOUCHED;
            if (padding || !written) {
                float want = padding && (what & DECODE) ? 0.0f : OUT_UNTOUCHED;
                for (int32_t i = 0; i < width; i++) strayed += row[i] != want;
                continue;
            }
            for (int32_t h = 0; h < w->s.n_heads; h++)
                if (query++ % stride == 0)
                    wrong += !query_close(w, s, r, h, row + h * w->s.head_dim);
        }
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(strayed, 0);
}

static bool supported(const shape *s)
{
    return s->format != BT_KV_BF16 || device_sm() >= 80;
}

/* One shape through one launcher. */
static void try_shape(shape s, unsigned what, int32_t n_seqs, const int32_t *kv_len,
                      const int32_t *n_rows, int32_t stride)
{
    if (!supported(&s)) return;
    scene w = scene_new(s, n_seqs, kv_len, n_rows);
    float *out = scene_run(&w, what, 2);
    scene_check(&w, what, out, stride);
    bt_free(out);
    scene_free(&w);
}

#define SHAPE(f, heads, kv, dim, page)                                                             \
    {                                                                                              \
        .format = BT_KV_##f, .n_heads = heads, .kv_heads = kv, .head_dim = dim,                    \
        .page_tokens = page                                                                        \
    }
static const shape shapes[] = {
    SHAPE(F16, 8, 2, 64, 16),   SHAPE(F16, 3, 3, 128, 32),  SHAPE(F16, 6, 1, 32, 16),
    SHAPE(F16, 17, 1, 16, 16),  SHAPE(F16, 2, 1, 80, 16),   SHAPE(F16, 2, 2, 192, 16),
    SHAPE(F16, 2, 1, 256, 32),  SHAPE(F16, 2, 2, 12, 16),   SHAPE(BF16, 8, 2, 128, 16),
    SHAPE(BF16, 4, 2, 96, 32),  SHAPE(BF16, 2, 2, 64, 16),  SHAPE(INT8, 8, 2, 128, 16),
    SHAPE(INT8, 4, 2, 64, 32),  SHAPE(INT8, 2, 1, 8, 16),   SHAPE(INT8, 2, 1, 256, 16),
    SHAPE(INT8, 2, 1, 192, 32), SHAPE(FP8, 16, 1, 128, 32), SHAPE(FP8, 2, 1, 96, 16),
    SHAPE(FP8, 2, 2, 32, 16),   SHAPE(F32, 4, 2, 64, 16),   SHAPE(F32, 3, 3, 128, 16),
    SHAPE(F32, 2, 1, 256, 32),  SHAPE(F32, 20, 1, 20, 16),
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void decode_matches(void)
{
    const int32_t kv_len[] = {1, 15, 0, 16, 17, 40, 100, 513}, one[] = {1, 1, 0, 1, 1, 3, 1, 1};
    for (int i = 0; i < SHAPES; i++) try_shape(shapes[i], DECODE, 8, kv_len, one, 1);
}

static void decode_of_a_long_sequence_is_split(void)
{
    const int32_t kv_len[] = {1000}, one[] = {1};
    for (int i = 0; i < SHAPES; i += 4) try_shape(shapes[i], DECODE, 1, kv_len, one, 1);
}

static void prefill_matches(void)
{
    const int32_t kv_len[] = {5, 17, 83, 130, 16, 1}, n_rows[] = {5, 17, 33, 2, 16, 1};
    for (int i = 0; i < SHAPES; i++) try_shape(shapes[i], PREFILL, 6, kv_len, n_rows, 5);
}

static void prefill_of_a_late_chunk(void)
{
    const int32_t kv_len[] = {1000, 513}, n_rows[] = {40, 129};
    try_shape(shapes[0], PREFILL, 2, kv_len, n_rows, 37);
    try_shape(shapes[11], PREFILL, 2, kv_len, n_rows, 37);
}

/* Window, soft cap and sinks, alone and together, through both launchers in one step. */
static void variants_match(void)
{
    const int32_t kv_len[] = {200, 7, 120, 65}, n_rows[] = {1, 7, 70, 1};
    const struct {
        int32_t window;
        float cap;
        bool sinks, deterministic;
    } variants[] = {{33, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 1, 0}, {64, 30, 1, 0}, {1, 0, 0, 1}};
    const int chosen[] = {0, 1, 9, 12, 19, 6};
    for (int v = 0; v < 5; v++)
        for (int i = 0; i < 6; i++) {
            shape s = shapes[chosen[i]];
            s.window = variants[v].window, s.soft_cap = variants[v].cap;
            s.sinks = variants[v].sinks, s.deterministic = variants[v].deterministic;
            try_shape(s, DECODE | PREFILL, 4, kv_len, n_rows, 3);
        }
}

/* Rows [r0, r0 + n) of a sequence's output must be the same bits in both. */
static void check_same(const scene *w, const float *a, int32_t a_row, const float *b, int32_t b_row,
                       int32_t n)
{
    int32_t differ = 0;
    for (int32_t r = 0; r < n; r++)
        differ += memcmp(a + (a_row + r) * w->ldo, b + (b_row + r) * w->ldo,
                         (size_t)(w->s.n_heads * w->s.head_dim) * 4) != 0;
    CHECK_INT(differ, 0);
}

/* The same sequence again, as its last n rows of `all`, alone, with other page numbers. */
static scene scene_part(const scene *all, int32_t kv_len, int32_t n, int32_t page_tokens)
{
    shape s = all->s;
    s.page_tokens = page_tokens;
    scene part = scene_new(s, 1, &kv_len, &n);
    int32_t dim = s.head_dim, start = kv_len - n, all_start = all->kv_len[0] - all->n_rows[0];
    size_t row_bytes = (size_t)dim * bt_cuda_kv_element_bytes(s.format);
    for (int32_t pos = lowest(&part, 0); pos < kv_len; pos++)
        for (int32_t h = 0; h < s.kv_heads; h++)
            for (int v = 0; v < 2; v++) {
                memcpy(row_at(&part, 0, pos, h, v), row_at(all, 0, pos, h, v), row_bytes);
                if (bt_cuda_kv_scaled(s.format))
                    memcpy(scale_at(&part, 0, pos, h, v), scale_at(all, 0, pos, h, v), 2);
            }
    for (int32_t r = 0; r < n; r++)
        memcpy(part.q + r * part.ldq, all->q + (start - all_start + r) * all->ldq,
               (size_t)(s.n_heads * dim) * 4);
    memcpy(part.sinks, all->sinks, sizeof part.sinks);
    part.ctx_max = all->ctx_max;
    return part;
}

/* deterministic: bits depend on the row alone, however it was computed. */
static void deterministic_rows_do_not_depend_on_company(void)
{
    const int chosen[] = {0, 9, 11, 20, 6};
    for (int i = 0; i < 5; i++) {
        shape s = shapes[chosen[i]];
        s.deterministic = true, s.sinks = i == 1, s.window = i == 2 ? 600 : 0;
        if (!supported(&s)) continue;
        const int32_t kv_len[] = {1100, 30, 9}, n_rows[] = {70, 1, 9};
        scene all = scene_new(s, 3, kv_len, n_rows);
        float *whole = scene_run(&all, DECODE | PREFILL, 2);
        scene_check(&all, DECODE | PREFILL, whole, 41);
        const struct {
            int32_t kv_len, n, page_tokens, n_sm, min_rows;
        } parts[] = {{1100, 1, 16, SMALL, 2}, // decode
                     {1100, 1, 32, LARGE, 2}, // decode, cut for another device
                     {1100, 1, 16, TINY, 2},  // decode, a CTA takes several spans
                     {1100, 1, 16, SMALL, 1}, // prefill of a single row
                     {1050, 20, 32, SMALL, 2}, {1081, 31, 16, LARGE, 2}};
        for (int k = 0; k < 6; k++) {
            scene part = scene_part(&all, parts[k].kv_len, parts[k].n, parts[k].page_tokens);
            part.props.n_sm = parts[k].n_sm;
            bool prefill = parts[k].n > 1 || parts[k].min_rows == 1;
            float *out = scene_run(&part, prefill ? PREFILL : DECODE, parts[k].min_rows);
            int32_t first = parts[k].kv_len - parts[k].n - (1100 - 70);
            check_same(&all, whole, first, out, 0, parts[k].n);
            bt_free(out);
            scene_free(&part);
        }
        bt_free(whole);
        scene_free(&all);
    }
}

/* Prefill never depends on the chunking, deterministic or not. */
static void prefill_does_not_depend_on_chunks(void)
{
    const int32_t kv_len = 150, n_rows = 90;
    scene all = scene_new(shapes[0], 1, &kv_len, &n_rows);
    float *whole = scene_run(&all, PREFILL, 2);
    for (int32_t end = 75; end <= 150; end += 25) {
        scene part = scene_part(&all, end, 15, 32);
        float *out = scene_run(&part, PREFILL, 2);
        check_same(&all, whole, end - 15 - 60, out, 0, 15);
        bt_free(out);
        scene_free(&part);
    }
    bt_free(whole);
    scene_free(&all);
}

static void order_of_threads_does_not_matter(void)
{
    const int32_t kv_len[] = {150, 70, 0, 33}, n_rows[] = {1, 20, 0, 1};
    for (int i = 0; i < SHAPES; i += 6) {
        if (!supported(&shapes[i])) continue;
        scene w = scene_new(shapes[i], 4, kv_len, n_rows);
        float *first = NULL;
        for (int order = 0; cuda_orders_next(&order, 3);) {
            float *out = scene_run(&w, DECODE | PREFILL, 2);
            if (first) check_same(&w, first, 0, out, 0, w.rows);
            if (first)
                bt_free(out);
            else
                first = out;
        }
        scene_check(&w, DECODE | PREFILL, first, 1);
        bt_free(first);
        scene_free(&w);
    }
}

static bool row_is_nan(const scene *w, const float *out, int32_t row, int32_t head)
{
    const float *x = out + row * w->ldo + head * w->s.head_dim;
    for (int32_t d = 0; d < w->s.head_dim; d++)
        if (!isnan(x[d])) return false;
    return true;
}
static bool row_is_finite(const scene *w, const float *out, int32_t row)
{
    for (int32_t d = 0; d < w->s.n_heads * w->s.head_dim; d++)
        if (!isfinite(out[row * w->ldo + d])) return false;
    return true;
}

/* A bad number reaches the rows that see it and no other sequence. */
static void nan_reaches_the_output(void)
{
    const int32_t kv_len[] = {150, 70, 40}, n_rows[] = {1, 20, 1};
    const uint16_t nan16 = 0x7e00, nan_bf16 = 0x7fc0;
    for (int i = 0; i < SHAPES; i += 3) {
        if (!supported(&shapes[i])) continue;
        for (int place = 0; place < 3; place++) { // q, k, v
            scene w = scene_new(shapes[i], 3, kv_len, n_rows);
            for (int32_t s = 0; s < 2; s++) {
                int32_t row = w.first_row[s];
                if (place == 0) w.q[row * w.ldq + 1] = NAN; // the first head alone
                float nan = NAN;
                for (int32_t h = 0; place > 0 && h < w.s.kv_heads; h++) {
                    unsigned char *x = row_at(&w, s, 20, h, place == 2);
                    for (int32_t d = 0; d < w.s.head_dim; d++) {
                        if (w.s.format == BT_KV_F32) memcpy(x + 4 * d, &nan, 4);
                        if (w.s.format == BT_KV_F16) memcpy(x + 2 * d, &nan16, 2);
                        if (w.s.format == BT_KV_BF16) memcpy(x + 2 * d, &nan_bf16, 2);
                    }
                    if (bt_cuda_kv_scaled(w.s.format))
                        memcpy(scale_at(&w, s, 20, h, place == 2), &nan16, 2);
                }
            }
            float *out = scene_run(&w, DECODE | PREFILL, 2);
            CHECK(row_is_nan(&w, out, w.first_row[0], 0));
            CHECK(row_is_nan(&w, out, w.first_row[1], 0));
            CHECK(row_is_finite(&w, out, w.first_row[2]));
            if (place == 0) CHECK(row_is_finite(&w, out, w.first_row[1] + 1));
            bt_free(out);
            scene_free(&w);
        }
    }
}

/* q too large for f16 is NaN, not a wrong answer; scores of hundreds are fine. */
static void large_scores(void)
{
    const int32_t kv_len[] = {60, 50}, n_rows[] = {1, 20};
    scene w = scene_new(shapes[0], 2, kv_len, n_rows);
    for (int64_t i = 0; i < w.rows * w.ldq; i++) w.q[i] *= 100;
    float *out = scene_run(&w, DECODE | PREFILL, 2);
    scene_check(&w, DECODE | PREFILL, out, 1);
    bt_free(out);
    w.q[0] = 1e7f;
    out = scene_run(&w, DECODE | PREFILL, 2);
    CHECK(row_is_nan(&w, out, 0, 0));
    bt_free(out);
    scene_free(&w);
}

static void plan_covers_each_query_once(void)
{
    bt_cuda_kv kv = {BT_KV_F16, 2, 64, 16, NULL, 0};
    bt_cuda_props props = {.sm = 86, .n_sm = 80};
    const int32_t n_rows[] = {1, 40, 0, 16, 17, 2};
    int32_t tile = bt_cuda_attention_tile(&kv, &props), work[2 * 64], seen[6] = {0};
    int32_t n = bt_cuda_attention_plan(&kv, &props, 8, 6, n_rows, 2, work, 64);
    CHECK(n <= 76 * 4 / tile + 6);
    for (int32_t i = 0; i < n; i++) {
        CHECK_INT(work[2 * i + 1] % tile, 0);
        CHECK(work[2 * i + 1] < n_rows[work[2 * i]] * 4);
        seen[work[2 * i]]++;
    }
    for (int s = 0; s < 6; s++)
        CHECK_INT(seen[s], n_rows[s] < 2 ? 0 : (n_rows[s] * 4 + tile - 1) / tile);
    CHECK_INT(bt_cuda_attention_plan(&kv, &props, 8, 6, n_rows, 1, work, 64), n + 1);
    work[2] = -5;
    CHECK_INT(bt_cuda_attention_plan(&kv, &props, 8, 6, n_rows, 2, work, 1), n);
    CHECK_INT(work[2], -5); // nothing past the capacity
}

static void what_is_not_supported_is_refused(void)
{
    bt_cuda_props t4 = {.sm = 75, .n_sm = 40}, a100 = {.sm = 80, .n_sm = 108};
    bt_cuda_kv kv = {BT_KV_BF16, 2, 64, 16, NULL, 0};
    CHECK(!bt_cuda_attention_supported(&kv, 8, &t4));
    CHECK(bt_cuda_attention_supported(&kv, 8, &a100));
    CHECK(!bt_cuda_attention_supported(&kv, 7, &a100));
    kv.head_dim = 260;
    CHECK(!bt_cuda_attention_supported(&kv, 8, &a100));
    kv.head_dim = 64, kv.page_tokens = 24;
    CHECK(!bt_cuda_attention_supported(&kv, 8, &a100));
    kv.page_tokens = 16;
    bt_cuda_attention_args a = {.kv = kv, .n_heads = 8, .props = &a100, .n_seqs = 1, .ctx_max = 1};
    CHECK_INT(bt_cuda_attention_decode(&a, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_attention_prefill(&a, NULL), cudaErrorInvalidValue);
    for (int det = 0; det < 2; det++) { // scratch grows with each argument
        size_t last = 0;
        for (int32_t n = 1; n <= 70; n++) {
            size_t bytes = bt_cuda_attention_scratch(&kv, &a100, 8, n, 5000, det);
            CHECK(bytes >= last && bytes > 0);
            CHECK(bt_cuda_attention_scratch(&kv, &a100, 8, n, 9000, det) >= bytes);
            last = bytes;
        }
    }
}

int main(void)
{
    cuda_need_device();
    RUN(plan_covers_each_query_once);
    RUN(what_is_not_supported_is_refused);
    RUN(decode_matches);
    RUN(decode_of_a_long_sequence_is_split);
    RUN(prefill_matches);
    RUN(prefill_of_a_late_chunk);
    RUN(variants_match);
    RUN(deterministic_rows_do_not_depend_on_company);
    RUN(prefill_does_not_depend_on_chunks);
    RUN(order_of_threads_does_not_matter);
    RUN(nan_reaches_the_output);
    RUN(large_scores);
    fprintf(stderr, "greatest error / bound: f16 %.2f f32 %.2f bf16 %.2f int8 %.2f fp8 %.2f\n",
            worst[BT_KV_F16], worst[BT_KV_F32], worst[BT_KV_BF16], worst[BT_KV_INT8],
            worst[BT_KV_FP8]);
    return TEST_END();
}
