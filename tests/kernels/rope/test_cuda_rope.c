/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/attention/kv.h"
#include "kernels/attention/kv_element.h"
#include "kernels/rope/rope.h"
#include "kernels/rope/rope_cuda.h"
#include "kernels/cuda_ops.h"
#include "kernels/attention/kv_bound.h"

enum { ROWS = 6, CTX = 64, SEQS = 3, PAGES_LD = 4, PAGES = SEQS * PAGES_LD };

/* Row r is at pos[r] of sequence seq[r]; -1 is padding. */
static const int32_t row_pos[ROWS] = {0, 37, 38, 0, 15, 16};
static const int32_t row_seq[ROWS] = {1, 0, 0, -1, 2, 2};
/* Sequence s's positions i * page_tokens onwards are in page_of[s * PAGES_LD + i]. */
static const int32_t page_of[PAGES] = {5, 0, 11, 3, 2, 1, 4, 6, 10, 9, 8, 7};

typedef struct shape {
    bt_kv_format format;
    int32_t n_heads, kv_heads, head_dim, page_tokens;
    bt_rope_style style;
    int32_t rope_dim;
    bool normed;
} shape;

typedef struct step {
    bt_cuda_rope_args a;
    bt_rope rope;
    int32_t head_dim;
    float *q, *k, *v; // host, as given
    float *q_norm, *k_norm;
    size_t page_bytes;
} step;

static step step_new(const shape *s)
{
    step t = {.rope = {.style = s->style, .dim = s->rope_dim, .theta = 10000, .amplitude = 1},
              .head_dim = s->head_dim};
    int64_t nq = (int64_t)s->n_heads * s->head_dim, nk = (int64_t)s->kv_heads * s->head_dim;
    t.q = random_floats((size_t)(ROWS * (nq + 4)), 2);
    t.k = random_floats((size_t)(ROWS * (nk + 8)), 3);
    t.v = random_floats((size_t)(ROWS * nk), 1);
    t.q_norm = random_floats((size_t)s->head_dim, 1);
    t.k_norm = random_floats((size_t)s->head_dim, 1);
    t.page_bytes = bt_cuda_kv_page_bytes(s->format, s->kv_heads, s->head_dim, s->page_tokens);
    size_t table = (size_t)CTX * (size_t)(s->rope_dim / 2);
    float *cos = bt_must(bt_calloc(table + 1, 4)), *sin = bt_must(bt_calloc(table + 1, 4));
    bt_rope_tables(&t.rope, NULL, 0, CTX, cos, sin);
    t.a = (bt_cuda_rope_args){
        .kv = {s->format, s->kv_heads, s->head_dim, s->page_tokens, NULL, t.page_bytes},
        .rows = ROWS,
        .n_heads = s->n_heads,
        .style = s->style,
        .rope_dim = s->rope_dim,
        .cos = cuda_put(cos, table * 4),
        .sin = cuda_put(sin, table * 4),
        .q = cuda_put(t.q, (size_t)(ROWS * (nq + 4) - 4) * 4),
        .k = cuda_put(t.k, (size_t)(ROWS * (nk + 8) - 8) * 4),
        .v = cuda_put(t.v, (size_t)(ROWS * nk) * 4),
        .ldq = nq + 4,
        .ldk = nk + 8,
        .ldv = nk,
        .q_norm = s->normed ? cuda_put(t.q_norm, (size_t)s->head_dim * 4) : NULL,
        .k_norm = s->normed ? cuda_put(t.k_norm, (size_t)s->head_dim * 4) : NULL,
        .norm_eps = 1e-6f,
        .pos = cuda_put(row_pos, sizeof row_pos),
        .row_seq = cuda_put(row_seq, sizeof row_seq),
        .pages = cuda_put(page_of, sizeof page_of),
        .pages_ld = PAGES_LD,
    };
    t.a.kv.base = cuda_filled(t.page_bytes * PAGES);
    bt_free(cos);
    bt_free(sin);
    return t;
}

static void step_free(step *t)
{
    bt_free(t->q);
    bt_free(t->k);
    bt_free(t->v);
    bt_free(t->q_norm);
    bt_free(t->k_norm);
    cuda_clear();
}

/* A head as the reference turns it: norm and rotation in double. */
static void turn(const step *t, const float *norm, int32_t pos, const float *x, float *y)
{
    int32_t n = t->head_dim;
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    double scale = 1 / sqrt(sum / n + 1e-6);
    for (int32_t i = 0; i < n; i++)
        y[i] = norm ? (float)((double)x[i] * scale * (double)norm[i]) : x[i];
    bt_rope_ref(&t->rope, NULL, pos, 1, n, y);
}

static double greatest(const float *x, int32_t n)
{
    double most = 0;
    for (int32_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static double element(bt_kv_format format, const char *p, const char *scale)
{
    float f;
    switch (format) {
    case BT_KV_F16: return (double)bt_f32_from_f16(bt_load_u16(p));
    case BT_KV_BF16: return (double)bt_f32_from_bf16(bt_load_u16(p));
    case BT_KV_INT8: return (double)((float)(int8_t)*p * bt_f32_from_f16(bt_load_u16(scale)));
    case BT_KV_FP8:
        return (double)(bt_f32_from_e4m3((uint8_t)*p) * bt_f32_from_f16(bt_load_u16(scale)));
    case BT_KV_F32: break;
    }
    memcpy(&f, p, 4);
    return (double)f;
}

/* The row's K and V of a KV head: K near the reference, V with the bits that the CPU's cache has.
 */
static void check_stored(const step *t, const shape *s, const char *pages, int32_t r, int32_t head)
{
    const bt_cuda_kv *kv = &t->a.kv;
    int32_t n = s->head_dim, slot = row_pos[r] % s->page_tokens;
    const char *page =
        pages +
        (size_t)page_of[row_seq[r] * PAGES_LD + row_pos[r] / s->page_tokens] * t->page_bytes;
    const char *k = page + bt_cuda_kv_k_offset(kv, head, slot);
    const char *v = page + bt_cuda_kv_v_offset(kv, head, slot);
    const char *ks = page + bt_cuda_kv_k_scale_offset(kv, head, slot);
    const char *vs = page + bt_cuda_kv_v_scale_offset(kv, head, slot);
    size_t element_bytes = bt_cuda_kv_element_bytes(s->format);

    bt_kv_layout cpu = {s->format, 1, n, 16};
    char *cpu_page = bt_must(bt_aligned_alloc(64, bt_kv_page_bytes(&cpu)));
    const float *given_v = t->v + r * t->a.ldv + (int64_t)head * n;
    bt_kv_append(&cpu, cpu_page, 3, given_v, given_v);
    float want[256];
    turn(t, s->normed ? t->k_norm : NULL, row_pos[r], t->k + r * t->a.ldk + (int64_t)head * n,
         want);
    double amax = greatest(want, n);
    int wrong = 0;
    for (int32_t d = 0; d < n; d++) {
        size_t at = (size_t)d * element_bytes;
        wrong += element(s->format, v + at, vs) != (double)bt_kv_v_at(&cpu, cpu_page, 0, 3, d);
        CHECK_NEAR(element(s->format, k + at, ks), want[d],
                   kv_stored_within(s->format, (double)want[d], amax) + 1e-6 * amax);
    }
    CHECK_INT(wrong, 0);
    bt_free(cpu_page);
}

/* Every byte of the pages that no row owns is as it was. */
static void check_untouched(const step *t, const shape *s, const char *pages)
{
    const bt_cuda_kv *kv = &t->a.kv;
    size_t bytes = t->page_bytes * PAGES,
           row = (size_t)s->head_dim * bt_cuda_kv_element_bytes(s->format);
    char *mine = bt_must(bt_calloc(bytes, 1));
    for (int32_t r = 0; r < ROWS; r++) {
        if (row_seq[r] < 0) continue;
        int32_t slot = row_pos[r] % s->page_tokens;
        int32_t page = page_of[row_seq[r] * PAGES_LD + row_pos[r] / s->page_tokens];
        char *p = mine + (size_t)page * t->page_bytes;
        for (int32_t h = 0; h < s->kv_heads; h++) {
            memset(p + bt_cuda_kv_k_offset(kv, h, slot), 1, row);
            memset(p + bt_cuda_kv_v_offset(kv, h, slot), 1, row);
            if (!bt_cuda_kv_scaled(s->format)) continue;
            memset(p + bt_cuda_kv_k_scale_offset(kv, h, slot), 1, 2);
            memset(p + bt_cuda_kv_v_scale_offset(kv, h, slot), 1, 2);
        }
    }
    int touched = 0;
    for (size_t i = 0; i < bytes; i++) touched += !mine[i] && (uint8_t)pages[i] != 0xA5;
    CHECK_INT(touched, 0);
    bt_free(mine);
}

static void check_step(const shape *s)
{
    step t = step_new(s);
    CHECK_CUDA(bt_cuda_rope_kv(&t.a, NULL));
    float *q = cuda_copy(t.a.q, (size_t)(ROWS * t.a.ldq - 4) * 4), want[256];
    char *pages = cuda_copy(t.a.kv.base, t.page_bytes * PAGES);
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t h = 0; h < s->n_heads; h++) {
            int64_t at = r * t.a.ldq + (int64_t)h * s->head_dim;
            memset(want, 0, sizeof want);
            if (row_seq[r] >= 0) turn(&t, s->normed ? t.q_norm : NULL, row_pos[r], t.q + at, want);
            double bound = 1e-6 * greatest(want, s->head_dim);
            for (int32_t d = 0; d < s->head_dim; d++) CHECK_NEAR(q[at + d], want[d], bound);
        }
        for (int32_t h = 0; h < s->kv_heads && row_seq[r] >= 0; h++)
            check_stored(&t, s, pages, r, h);
    }
    for (int32_t r = 0; r + 1 < ROWS; r++) // the gap between rows of q
        for (int64_t i = t.a.ldq - 4; i < t.a.ldq; i++)
            CHECK(q[r * t.a.ldq + i] == t.q[r * t.a.ldq + i]);
    check_untouched(&t, s, pages);
    bt_free(q);
    bt_free(pages);
    step_free(&t);
}

static void formats_and_shapes(void)
{
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) {
        check_step(&(shape){f, 4, 2, 64, 16, BT_ROPE_HALF, 64, false});
        check_step(&(shape){f, 3, 1, 80, 16, BT_ROPE_INTERLEAVED, 80, false});
        check_step(&(shape){f, 2, 2, 128, 32, BT_ROPE_HALF, 128, true});
        check_step(&(shape){f, 5, 1, 256, 16, BT_ROPE_INTERLEAVED, 64, true});
        check_step(&(shape){f, 1, 1, 20, 32, BT_ROPE_NONE, 0, false});
        check_step(&(shape){f, 7, 1, 36, 16, BT_ROPE_HALF, 10, false});
    }
}

static void any_order_of_threads(void)
{
    for (int i = 0; cuda_order_next(&i);) {
        uint64_t counter = random_counter;
        check_step(&(shape){BT_KV_INT8, 3, 1, 80, 16, BT_ROPE_HALF, 64, true});
        random_counter = counter;
    }
}

/* NaN in a value reaches whoever reads it, in every format. */
static void nan_is_stored(void)
{
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) {
        shape s = {f, 1, 1, 32, 16, BT_ROPE_NONE, 0, false};
        step t = step_new(&s);
        float nan = NAN;
        CHECK_CUDA(cudaMemcpy((float *)(uintptr_t)t.a.v + 5, &nan, 4, cudaMemcpyHostToDevice));
        CHECK_CUDA(bt_cuda_rope_kv(&t.a, NULL));
        char *pages = cuda_copy(t.a.kv.base, t.page_bytes * PAGES);
        const char *page = pages + (size_t)page_of[PAGES_LD] * t.page_bytes;
        CHECK(isnan(
            element(f, page + bt_cuda_kv_v_offset(&t.a.kv, 0, 0) + 5 * bt_cuda_kv_element_bytes(f),
                    page + bt_cuda_kv_v_scale_offset(&t.a.kv, 0, 0))));
        bt_free(pages);
        step_free(&t);
    }
}

static void page_layout(void)
{
    CHECK_INT(bt_cuda_kv_page_bytes(BT_KV_F16, 8, 128, 16), 65536);
    CHECK_INT(bt_cuda_kv_page_bytes(BT_KV_F32, 8, 128, 16), 131072);
    CHECK_INT(bt_cuda_kv_page_bytes(BT_KV_INT8, 8, 128, 16), 32768 + 512);
    CHECK_INT(bt_cuda_kv_page_bytes(BT_KV_FP8, 1, 20, 16), 768);
    bt_cuda_kv kv = {BT_KV_INT8, 8, 128, 16, NULL, 0};
    CHECK_INT(bt_cuda_kv_v_offset(&kv, 0, 0), 16384);
    CHECK_INT(bt_cuda_kv_k_scale_offset(&kv, 1, 2), 32768 + 36);
    CHECK_INT(bt_cuda_kv_v_scale_offset(&kv, 7, 15), 32768 + 510);
}

static void shapes_are_refused(void)
{
    shape s = {BT_KV_F16, 2, 1, 32, 16, BT_ROPE_HALF, 32, false};
    step t = step_new(&s);
    bt_cuda_rope_args a = t.a;
    a.kv.head_dim = 30;
    CHECK_INT(bt_cuda_rope_kv(&a, NULL), cudaErrorInvalidValue);
    a = t.a;
    a.rope_dim = 34;
    CHECK_INT(bt_cuda_rope_kv(&a, NULL), cudaErrorInvalidValue);
    a = t.a;
    a.kv.page_stride -= 256;
    CHECK_INT(bt_cuda_rope_kv(&a, NULL), cudaErrorInvalidValue);
    a = t.a;
    a.ldk = 34;
    CHECK_INT(bt_cuda_rope_kv(&a, NULL), cudaErrorInvalidValue);
    a = t.a;
    a.rows = 0;
    CHECK_CUDA(bt_cuda_rope_kv(&a, NULL));
    step_free(&t);
}

int main(void)
{
    cuda_need_device();
    RUN(page_layout);
    RUN(formats_and_shapes);
    RUN(any_order_of_threads);
    RUN(nan_is_stored);
    RUN(shapes_are_refused);
    return TEST_END();
}
