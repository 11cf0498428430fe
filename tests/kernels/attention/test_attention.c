/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/attention/attention.h"
#include "kernels/attention/kv_element.h"
#include "kv_bound.h"
#include "kernels/random.h"
#include "test.h"

/* A sequence of n tokens in shuffled pages, with q for its last `rows` tokens. Unwritten page
 * memory is NaN, so that a read past the end shows. */
typedef struct scene {
    bt_attention a;
    bt_attention_rows s;
    int32_t rows, spans;
    char *pages;
    int32_t *table;
    float *q, *out, *scratch;
    size_t out_floats;
} scene;

static scene scene_new(bt_kv_layout kv, int32_t group, int32_t n, int32_t rows, uint64_t seed)
{
    scene c = {.rows = rows};
    random_counter = seed * 1000003;
    int32_t n_pages = (n + kv.page_tokens - 1) / kv.page_tokens, width = kv.kv_heads * kv.head_dim;
    c.spans = (n + BT_ATTENTION_SPAN - 1) / BT_ATTENTION_SPAN;
    c.a = (bt_attention){.kv = kv,
                         .n_heads = kv.kv_heads * group,
                         .scale = 1.0f / sqrtf((float)kv.head_dim),
                         .page_stride = bt_kv_page_bytes(&kv)};
    size_t bytes = (size_t)n_pages * c.a.page_stride;
    c.pages = bt_must(bt_aligned_alloc(64, bytes));
    memset(c.pages, 0xFF, bytes);
    c.a.pages = c.pages;
    c.table = bt_must(bt_malloc((size_t)n_pages * sizeof *c.table));
    for (int32_t i = 0; i < n_pages; i++) c.table[i] = n_pages - 1 - i;
    float *k = bt_must(bt_malloc((size_t)width * sizeof *k));
    float *v = bt_must(bt_malloc((size_t)width * sizeof *v));
    for (int32_t t = 0; t < n; t++) {
        for (int32_t i = 0; i < width; i++) {
            k[i] = 2 * random_normal();
            v[i] = random_normal();
        }
        bt_kv_append(&kv, c.pages + (size_t)c.table[t / kv.page_tokens] * c.a.page_stride,
                     t % kv.page_tokens, k, v);
    }
    bt_free(k);
    bt_free(v);
    c.out_floats = (size_t)(rows * c.a.n_heads * kv.head_dim);
    c.q = random_floats(c.out_floats, 1.5f);
    c.out = bt_must(bt_calloc(c.out_floats, sizeof *c.out));
    c.scratch = bt_must(bt_aligned_alloc(64, bt_attention_scratch_bytes(&kv)));
    int64_t ld = (int64_t)c.a.n_heads * kv.head_dim;
    c.s = (bt_attention_rows){c.table, c.q, c.out, ld, ld, n - rows};
    return c;
}

static void scene_free(scene *c)
{
    bt_free(c->pages);
    bt_free(c->table);
    bt_free(c->q);
    bt_free(c->out);
    bt_free(c->scratch);
}

static void run_tiled(scene *c, int32_t tile)
{
    int32_t n = c->rows * (c->a.n_heads / c->a.kv.kv_heads);
    memset(c->out, 0, c->out_floats * sizeof *c->out);
    for (int32_t h = 0; h < c->a.kv.kv_heads; h++)
        for (int32_t q = 0; q < n; q += tile)
            bt_attention_run(&c->a, &c->s, h, q, q + tile < n ? q + tile : n, c->scratch);
}

static void run_by_spans(scene *c, int32_t tile)
{
    int32_t n = c->rows * (c->a.n_heads / c->a.kv.kv_heads);
    size_t record = bt_attention_record_floats(&c->a.kv);
    float *records =
        bt_must(bt_aligned_alloc(64, (size_t)(tile * c->spans) * record * sizeof *records));
    memset(c->out, 0, c->out_floats * sizeof *c->out);
    for (int32_t h = 0; h < c->a.kv.kv_heads; h++) {
        for (int32_t q = 0; q < n; q += tile) {
            int32_t end = q + tile < n ? q + tile : n;
            for (int32_t s = c->spans - 1; s >= 0; s--) // any order
                bt_attention_span(&c->a, &c->s, h, q, end, s, c->spans, records, c->scratch);
            bt_attention_merge(&c->a, &c->s, h, q, end, c->spans, records, c->scratch);
        }
    }
    bt_free(records);
}

/* Against the reference, then bit for bit: every instruction set, every tiling, spans apart, rows
 * alone. */
static void check_masked(bt_kv_layout kv, int32_t group, int32_t n, int32_t rows, int32_t window,
                         float cap, float alibi, double bound)
{
    scene c = scene_new(kv, group, n, rows, 7);
    c.a.window = window;
    c.a.cap = cap;
    c.a.alibi = alibi;
    size_t bytes = c.out_floats * sizeof(float);
    float *want = bt_must(bt_malloc(bytes)), *first = bt_must(bt_malloc(bytes));
    bt_attention_ref(&c.a, &c.s, rows);
    memcpy(want, c.out, bytes);
    int ran = 0;
    for (int isa = 0; isa_next(&isa); ran++) {
        run_tiled(&c, BT_ATTENTION_QUERIES);
        for (size_t i = 0; i < c.out_floats; i++) CHECK_NEAR(c.out[i], want[i], bound);
        if (ran) CHECK(memcmp(c.out, first, bytes) == 0);
        memcpy(first, c.out, bytes);
        for (int32_t tile = 1; tile <= 9; tile += 2) {
            run_tiled(&c, tile);
            CHECK(memcmp(c.out, first, bytes) == 0);
        }
        run_by_spans(&c, 5);
        CHECK(memcmp(c.out, first, bytes) == 0);
        /* Each row as a step of its own, as decoding would have done it. */
        for (int32_t r = 0; r < rows; r++) {
            scene one = c;
            one.rows = 1;
            one.s.q += r * c.s.ldq;
            one.s.out += r * c.s.ldo;
            one.s.pos += r;
            one.out = one.s.out;
            one.out_floats = c.out_floats / (size_t)rows;
            run_tiled(&one, BT_ATTENTION_QUERIES);
        }
        CHECK(memcmp(c.out, first, bytes) == 0);
    }
    bt_free(want);
    bt_free(first);
    scene_free(&c);
}

static void check_scene(bt_kv_layout kv, int32_t group, int32_t n, int32_t rows, double bound)
{
    check_masked(kv, group, n, rows, 0, 0, 0, bound);
}

/* Windows that end inside a block, a page and a span, at their borders, and past the beginning;
 * most of the sequence hidden; and capped scores. */
static void windows_and_caps(void)
{
    static const int32_t windows[] = {1, 2, 15, 16, 17, 63, 64, 65, 100, 512, 700};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        check_masked((bt_kv_layout){BT_KV_F16, 2, 32, 16}, 3, 140, 140, windows[i], 0, 0, 1e-5);
        check_masked((bt_kv_layout){BT_KV_INT8, 1, 20, 32}, 2, 75, 9, windows[i], 0, 0, 1e-5);
        check_masked((bt_kv_layout){BT_KV_F32, 1, 16, 16}, 2, 1700, 4, windows[i], 0, 0, 1e-5);
        check_masked((bt_kv_layout){BT_KV_F16, 1, 16, 32}, 1, 1100, 80, windows[i], 2, 0, 1e-5);
    }
    check_masked((bt_kv_layout){BT_KV_F16, 2, 64, 16}, 2, 130, 11, 0, 5, 0, 1e-5);
}

/* The slopes as published, for a power of 2 and for 12 heads; then in scores. */
static void alibi(void)
{
    bt_attention a = {.n_heads = 8, .alibi = 8};
    CHECK_NEAR(bt_attention_slope(&a, 0), 0.5, 0);
    CHECK_NEAR(bt_attention_slope(&a, 7), 1.0 / 256, 0);
    a.n_heads = 12;
    CHECK_NEAR(bt_attention_slope(&a, 0), 0.5, 0);
    CHECK_NEAR(bt_attention_slope(&a, 8), sqrt(0.5), 1e-7);
    CHECK_NEAR(bt_attention_slope(&a, 11), pow(2, -3.5), 1e-7);
    check_masked((bt_kv_layout){BT_KV_F32, 4, 16, 16}, 1, 140, 70, 0, 0, 8, 1e-5);
    check_masked((bt_kv_layout){BT_KV_F16, 3, 16, 32}, 2, 600, 5, 0, 0, 8, 1e-5);
    check_masked((bt_kv_layout){BT_KV_F32, 2, 20, 16}, 3, 1100, 4, 90, 5, 8, 1e-5);
}

static void lengths_and_rows(void)
{
    static const int32_t lengths[] = {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int32_t n = lengths[i];
        check_scene((bt_kv_layout){BT_KV_F16, 2, 32, 16}, 3, n, 1, 5e-6);
        check_scene((bt_kv_layout){BT_KV_F16, 2, 32, 32}, 3, n, n, 5e-6);
    }
}

static void shapes(void)
{
    static const int32_t dims[] = {1, 8, 16, 20, 40, 64, 80, 96, 128, 256};
    static const int32_t groups[] = {1, 2, 4, 7, 8, 12};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        check_scene((bt_kv_layout){BT_KV_F16, 2, dims[i], 16}, 2, 75, 9, 1e-5);
        check_scene((bt_kv_layout){BT_KV_F32, 1, dims[i], 32}, 3, 75, 9, 1e-5);
    }
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        check_scene((bt_kv_layout){BT_KV_F16, 1, 64, 16}, groups[i], 90, 21, 1e-5);
}

static void across_spans(void)
{
    check_scene((bt_kv_layout){BT_KV_F16, 1, 16, 16}, 2, 512, 3, 1e-5);
    check_scene((bt_kv_layout){BT_KV_F16, 1, 16, 32}, 2, 513, 3, 1e-5);
    check_scene((bt_kv_layout){BT_KV_F32, 1, 16, 16}, 2, 1100, 4, 1e-5);
    check_scene((bt_kv_layout){BT_KV_F16, 1, 16, 16}, 1, 1100, 80, 1e-5);
}

static void page_size_does_not_matter(void)
{
    for (int isa = 0; isa_next(&isa);) {
        scene a = scene_new((bt_kv_layout){BT_KV_F16, 2, 24, 16}, 2, 141, 30, 3);
        scene b = scene_new((bt_kv_layout){BT_KV_F16, 2, 24, 32}, 2, 141, 30, 3);
        run_tiled(&a, 64);
        run_tiled(&b, 64);
        CHECK(memcmp(a.out, b.out, a.out_floats * sizeof *a.out) == 0);
        scene_free(&a);
        scene_free(&b);
    }
}

/* Scores of +-1000 leave one position with all the weight; equal scores give the mean. */
static void extreme_scores(void)
{
    for (int isa = 0; isa_next(&isa);) {
        scene c = scene_new((bt_kv_layout){BT_KV_F32, 1, 16, 16}, 1, 70, 1, 5);
        c.a.scale = 1e4f;
        run_tiled(&c, 1);
        float got[16];
        memcpy(got, c.out, sizeof got);
        bt_attention_ref(&c.a, &c.s, 1);
        for (int i = 0; i < 16; i++) CHECK_NEAR(got[i], c.out[i], 1e-6);
        c.a.scale = 0;
        run_tiled(&c, 1);
        memcpy(got, c.out, sizeof got);
        bt_attention_ref(&c.a, &c.s, 1);
        for (int i = 0; i < 16; i++) CHECK_NEAR(got[i], c.out[i], 1e-6);
        scene_free(&c);
    }
}

/* A NaN reaches the rows that see it and no other, in every format. */
static void nan_stays_with_those_who_see_it(void)
{
    float k[16], v[16];
    for (int i = 0; i < 16; i++) k[i] = v[i] = i == 3 ? NAN : 1.0f;
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) {
        for (int isa = 0; isa_next(&isa);) {
            scene c = scene_new((bt_kv_layout){f, 1, 16, 16}, 1, 40, 40, 6);
            bt_kv_append(&c.a.kv, c.pages + (size_t)c.table[1] * c.a.page_stride, 9, k, v);
            run_tiled(&c, 64);
            for (int32_t r = 0; r < 40; r++)
                for (int32_t d = 0; d < 16; d++) CHECK(isnan(c.out[r * 16 + d]) == (r >= 25));
            scene_free(&c);
        }
    }
}

static void kv_stores_and_reads_back(void)
{
    for (int isa = 0; isa_next(&isa);) {
        for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) {
            bt_kv_layout kv = {f, 3, 20, 16};
            char *page = bt_must(bt_aligned_alloc(64, bt_kv_page_bytes(&kv)));
            memset(page, 0xFF, bt_kv_page_bytes(&kv));
            float *k = random_floats(60, 1), *v = random_floats(60, 1);
            bt_kv_append(&kv, page, 15, k, v);
            for (int32_t h = 0; h < 3; h++) {
                double k_max = 0, v_max = 0;
                for (int32_t d = 0; d < 20; d++) {
                    k_max = fmax(k_max, fabs((double)k[h * 20 + d]));
                    v_max = fmax(v_max, fabs((double)v[h * 20 + d]));
                }
                for (int32_t d = 0; d < 20; d++) {
                    double kx = (double)k[h * 20 + d], vx = (double)v[h * 20 + d];
                    CHECK_NEAR(bt_kv_k_at(&kv, page, h, 15, d), kx, kv_stored_within(f, kx, k_max));
                    CHECK_NEAR(bt_kv_v_at(&kv, page, h, 15, d), vx, kv_stored_within(f, vx, v_max));
                    CHECK(isnan(bt_kv_k_at(&kv, page, h, 14, d)));
                    CHECK(isnan(bt_kv_v_at(&kv, page, h, 14, d)));
                }
            }
            bt_free(page);
            bt_free(k);
            bt_free(v);
        }
    }
}

/* Quantized rows at their edges: zeros, the tiny, the huge, what no scale reaches, and NaN. */
static void quantized_rows_at_the_edges(void)
{
    static const float amax[] = {0, 1e-38f, 1e-9f, 1e-3f, 1, 65504, 8e6f, 3e7f, INFINITY, NAN};
    for (bt_kv_format f = BT_KV_INT8; f <= BT_KV_FP8; f++) {
        bt_kv_layout kv = {f, 1, 16, 16};
        char *page = bt_must(bt_aligned_alloc(64, bt_kv_page_bytes(&kv)));
        for (size_t i = 0; i < sizeof amax / sizeof *amax; i++) {
            float x[16] = {0};
            x[3] = amax[i];
            x[4] = -amax[i] / 2;
            bt_kv_append(&kv, page, 0, x, x);
            float top = f == BT_KV_INT8 ? 127 : 448;
            bool lost = !(amax[i] / top < 65520);
            for (int32_t d = 0; d < 16; d++) {
                double got = (double)bt_kv_k_at(&kv, page, 0, 0, d);
                CHECK(isnan(got) == lost);
                CHECK(isnan(bt_kv_v_at(&kv, page, 0, 0, d)) == lost);
                /* Below the smallest normal F16 the scale itself is coarse: 2^-25 of error. */
                double bound = f == BT_KV_INT8 ? 0.57 * (double)amax[i] / 127
                                               : fmax(fabs((double)x[d]) / 16, 0);
                if (!lost) CHECK_NEAR(got, x[d], fmax(bound, (double)top * 0x1p-25));
            }
        }
        bt_free(page);
    }
}

/* All 256 bytes are fixed points; between neighbours the nearest wins, ties to even; what is beyond
 * 448 saturates. */
static void e4m3_conversion(void)
{
    CHECK(isnan(bt_f32_from_e4m3(0x7F)) && isnan(bt_f32_from_e4m3(0xFF)));
    CHECK_INT(bt_e4m3_from_f32(NAN), 0x7F);
    CHECK(bt_f32_from_e4m3(0x7E) == 448 && bt_f32_from_e4m3(0x38) == 1);
    CHECK(bt_f32_from_e4m3(1) == 0x1p-9f && bt_f32_from_e4m3(8) == 0x1p-6f);
    CHECK_INT(bt_e4m3_from_f32(0), 0);
    CHECK_INT(bt_e4m3_from_f32(-0.0f), 0x80);
    CHECK_INT(bt_e4m3_from_f32(INFINITY), 0x7E);
    CHECK_INT(bt_e4m3_from_f32(-1e30f), 0xFE);
    for (int b = 0; b < 0x7F; b++) {
        float x = bt_f32_from_e4m3((uint8_t)b), up = bt_f32_from_e4m3((uint8_t)(b + 1));
        CHECK_INT(bt_e4m3_from_f32(x), b);
        CHECK_INT(bt_e4m3_from_f32(-x), b | 0x80);
        if (b == 0x7E) break;
        float mid = (x + up) / 2; // exact
        CHECK_INT(bt_e4m3_from_f32(mid), b % 2 ? b + 1 : b);
        CHECK_INT(bt_e4m3_from_f32(nextafterf(mid, 0)), b);
        CHECK_INT(bt_e4m3_from_f32(nextafterf(mid, 1e9f)), b + 1);
    }
}

/* Every format against the reference, which reads the same elements, over odd shapes. */
static void kv_formats(void)
{
    for (bt_kv_format f = BT_KV_BF16; f <= BT_KV_FP8; f++) {
        check_scene((bt_kv_layout){f, 2, 32, 16}, 3, 1, 1, 1e-5);
        check_scene((bt_kv_layout){f, 2, 32, 32}, 3, 33, 33, 1e-5);
        check_scene((bt_kv_layout){f, 1, 20, 16}, 7, 75, 9, 1e-5);
        check_scene((bt_kv_layout){f, 3, 80, 32}, 2, 130, 11, 1e-5);
        check_scene((bt_kv_layout){f, 1, 128, 16}, 4, 65, 5, 1e-5);
        check_scene((bt_kv_layout){f, 1, 16, 16}, 2, 1100, 4, 1e-5);
    }
}

int main(void)
{
    RUN(kv_stores_and_reads_back);
    RUN(quantized_rows_at_the_edges);
    RUN(e4m3_conversion);
    RUN(lengths_and_rows);
    RUN(shapes);
    RUN(across_spans);
    RUN(kv_formats);
    RUN(windows_and_caps);
    RUN(alibi);
    RUN(page_size_does_not_matter);
    RUN(extreme_scores);
    RUN(nan_stays_with_those_who_see_it);
    return TEST_END();
}
