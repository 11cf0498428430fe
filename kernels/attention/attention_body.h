/* SPDX-License-Identifier: Apache-2.0 */
/* attention_body.h - one span of attention for a tile of queries; included once an instruction set.
 *
 * Scores and values are the same small product C[q][col] += sum_k A[q][k] * B[k][col], B being K
 * lying across (k = dimension, col = position) or V (k = position, col = dimension). tile_mul()
 * does it with A broadcast, B loaded once for all queries, and C in registers; each C is one fma
 * chain along k whatever the tile, which is what keeps results independent of it. The scales of
 * int8 and fp8 are applied to the scores (K) and to the softmax weights (V), once a position. */
#include "base/assert.h"
#include "kernels/simd.h"
#include "kernels/vec.h"

enum { BLOCK = 64, BLOCK_GROUPS = BLOCK / 16, SEGS_MAX = BLOCK / 16 };
_Static_assert(BT_ATTENTION_SPAN % BLOCK == 0, "a span is whole blocks");

/* Registers: 32 of 16 floats, or 16 of 8. NG is for how many groups of columns fit beside NQ
 * queries. */
#if defined(__AVX512F__) && !defined(V_SANITIZED)
enum { QUERIES_MAX = 8 };
V_INLINE int groups_for(int nq)
{
    return nq <= 4 ? 4 : 2;
}
#elif defined(__AVX2__) && !defined(V_SANITIZED)
enum { QUERIES_MAX = 6 };
V_INLINE int groups_for(int nq)
{
    return nq == 1 ? 4 : nq <= 3 ? 2 : 1;
}
#else
enum { QUERIES_MAX = 2 };
V_INLINE int groups_for(int nq)
{
    return nq == 1 ? 2 : 1;
}
#endif

/* Registers have no index, so their loops must be gone; arrays are better off with loops. */
#if !defined(__AVX2__) || defined(V_SANITIZED)
#define V_UNROLL
#elif defined(__clang__)
#define V_UNROLL _Pragma("unroll")
#else
#define V_UNROLL _Pragma("GCC unroll 8")
#endif

typedef struct tile {
    const float *a; // [queries][lda]
    ptrdiff_t lda;
    const char *seg[SEGS_MAX]; // B: pieces along k
    int seg_len[SEGS_MAX];
    int n_segs;
    ptrdiff_t ldb;                          // bytes from one k to the next
    ptrdiff_t col[BT_KV_HEAD_DIM_MAX / 16]; // bytes from a piece to each group of 16 columns
    int n_cols;                             // groups
    float *c;                               // [queries][ldc]
    ptrdiff_t ldc;
    const float *keep; // C starts as C * keep[q]; NULL: as zero
} tile;

V_INLINE v16 element_load(bt_kv_format format, const char *p)
{
    switch (format) {
    case BT_KV_F16: return v16_load_half(p);
    case BT_KV_BF16: return v16_load_bf16(p);
    case BT_KV_INT8: return v16_load_int8(p);
    case BT_KV_FP8: return v16_load_e4m3(p);
    default: return v16_load((const float *)(const void *)p);
    }
}

V_INLINE void tile_mul_at(const tile *t, bt_kv_format format, int nq, int ng, int g0)
{
    v16 acc[8][4];
    V_UNROLL
    for (int q = 0; q < nq; q++) {
        V_UNROLL
        for (int g = 0; g < ng; g++) {
            acc[q][g] = v16_zero();
            if (t->keep)
                acc[q][g] =
                    v16_mul(v16_load(t->c + q * t->ldc + 16 * (g0 + g)), v16_set1(t->keep[q]));
        }
    }
    const float *a = t->a;
    for (int s = 0; s < t->n_segs; s++) {
        const char *b = t->seg[s];
        for (int k = 0; k < t->seg_len[s]; k++, a++, b += t->ldb) {
            V_UNROLL
            for (int g = 0; g < ng; g++) {
                v16 e = element_load(format, b + t->col[g0 + g]);
                V_UNROLL
                for (int q = 0; q < nq; q++)
                    acc[q][g] = v16_fma(v16_set1(a[q * t->lda]), e, acc[q][g]);
            }
        }
    }
    V_UNROLL
    for (int q = 0; q < nq; q++) {
        V_UNROLL
        for (int g = 0; g < ng; g++) v16_store(t->c + q * t->ldc + 16 * (g0 + g), acc[q][g]);
    }
}

V_INLINE void tile_mul_n(const tile *t, bt_kv_format format, int nq)
{
    int g = 0, most = groups_for(nq);
    if (most >= 4)
        for (; g + 4 <= t->n_cols; g += 4) tile_mul_at(t, format, nq, 4, g);
    if (most >= 2)
        for (; g + 2 <= t->n_cols; g += 2) tile_mul_at(t, format, nq, 2, g);
    for (; g < t->n_cols; g++) tile_mul_at(t, format, nq, 1, g);
}

#if defined(__AVX512F__) && !defined(V_SANITIZED)
#define TILES(X, name)                                                                             \
    X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6) X(name, 7) X(name, 8)
#elif defined(__AVX2__) && !defined(V_SANITIZED)
#define TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6)
#else
#define TILES(X, name) X(name, 1) X(name, 2)
#endif
#define TILE_FUNCTION(name, nq)                                                                    \
    static __attribute__((noinline)) void tile_##name##_##nq(const tile *t)                        \
    {                                                                                              \
        tile_mul_n(t, BT_KV_##name, nq);                                                           \
    }
TILES(TILE_FUNCTION, F16)
TILES(TILE_FUNCTION, F32)
TILES(TILE_FUNCTION, BF16)
TILES(TILE_FUNCTION, INT8)
TILES(TILE_FUNCTION, FP8)

static void tile_mul(const tile *t, bt_kv_format format, int nq)
{
#define TILE_NAME(name, nq) tile_##name##_##nq,
    static void (*const by_count[][QUERIES_MAX])(const tile *) = {
        [BT_KV_F16] = {TILES(TILE_NAME, F16)},   [BT_KV_F32] = {TILES(TILE_NAME, F32)},
        [BT_KV_BF16] = {TILES(TILE_NAME, BF16)}, [BT_KV_INT8] = {TILES(TILE_NAME, INT8)},
        [BT_KV_FP8] = {TILES(TILE_NAME, FP8)},
    };
#undef TILE_NAME
    by_count[format][nq - 1](t);
}
#undef TILE_FUNCTION
#undef TILES

/* Multiplies columns of nq rows of scores or weights by the F16 scales of a block's positions. Past
 * the last position p becomes anything, and nobody looks. */
V_INLINE void block_scale(float p[][BLOCK], int nq, int n, const char *const *page, int tokens,
                          size_t offset)
{
    for (int g = 0; 16 * g < n; g++) {
        v16 s = v16_load_half(page[16 * g / tokens] + offset + 2 * (16 * g % tokens));
        for (int i = 0; i < nq; i++) v16_store(p[i] + 16 * g, v16_mul(v16_load(p[i] + 16 * g), s));
    }
}

/* Turns a row of scores [from, n) into weights relative to the new maximum; returns what older
 * weights and values are multiplied by. Scores outside become weight zero. */
static float block_softmax(float *p, int from, int n, float *record_tail)
{
    const v16 none = v16_set1(-INFINITY);
    v16 x[BLOCK_GROUPS], top = none;
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        int left = n - 16 * g;
        x[g] = left <= 0 ? none : v16_keep(v16_load(p + 16 * g), left < 16 ? left : 16, none);
        int hidden = from - 16 * g;
        if (hidden > 0) x[g] = v16_keep(none, hidden < 16 ? hidden : 16, x[g]);
        top = v16_max(top, x[g]);
    }
    float old = record_tail[BT__RECORD_MAX], max = v16_hmax(top);
    max = old > max ? old : max;
    v16 m = v16_set1(max), sum = v16_zero();
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        x[g] = v16_exp(v16_sub(x[g], m));
        v16_store(p + 16 * g, x[g]);
        sum = v16_add(sum, x[g]);
    }
    float keep = 1.0f;
    if (old != max) {
        float lane[16];
        v16_store(lane, v16_exp(v16_set1(old - max)));
        keep = lane[0];
    }
    record_tail[BT__RECORD_SUM] = fmaf(record_tail[BT__RECORD_SUM], keep, v16_sum(sum));
    record_tail[BT__RECORD_MAX] = max;
    return keep;
}

/* Adds ALiBi to a query's scores of a block, the first of which is `behind` positions before it. */
static void block_slope(float *p, float slope, int32_t behind)
{
    _Alignas(64) static const float count[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                 8, 9, 10, 11, 12, 13, 14, 15};
    for (int g = 0; g < BLOCK_GROUPS; g++) {
        v16 at = v16_add(v16_load(count), v16_set1((float)(16 * g - behind)));
        v16_store(p + 16 * g, v16_fma(at, v16_set1(slope), v16_load(p + 16 * g)));
    }
}

/* Queries [first, first + nq), which all see the first n positions of a block, but for the first
 * from[i] of them. */
static void block_run(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                      int32_t first, int32_t pos, const int *from, int n, int nq, const float *q,
                      float *record, size_t stride)
{
    const bt_kv_layout *kv = &a->kv;
    ptrdiff_t element = (ptrdiff_t)bt_kv_element_bytes(kv), cols = bt_kv_v_cols(kv);
    _Alignas(64) float p[QUERIES_MAX][BLOCK];
    float keep[QUERIES_MAX];
    int groups = (n + 15) / 16, tokens = kv->page_tokens;
    const char *page[SEGS_MAX];
    for (int at = 0, i = 0; at < n; at += tokens, i++)
        page[i] = (const char *)a->pages + (size_t)s->pages[(pos + at) / tokens] * a->page_stride;

    tile t = {.a = q, .lda = kv->head_dim, .n_segs = 1, .c = p[0], .ldc = BLOCK};
    t.seg[0] = page[0] + bt_kv_k_offset(kv, kv_head);
    t.seg_len[0] = kv->head_dim;
    t.ldb = tokens * element;
    t.n_cols = groups;
    for (int g = 0; g < groups; g++)
        t.col[g] = page[16 * g / tokens] - page[0] + 16 * g % tokens * element;
    tile_mul(&t, kv->format, nq);
    if (bt_kv_scaled(kv)) block_scale(p, nq, n, page, tokens, bt_kv_k_scale_offset(kv, kv_head));

    if (a->cap > 0.0f)
        for (int i = 0; i < nq; i++)
            for (int g = 0; g < groups; g++)
                v16_store(p[i] + 16 * g, v16_cap(v16_load(p[i] + 16 * g), a->cap));
    int32_t group = a->n_heads / kv->kv_heads;
    for (int i = 0; a->alibi > 0.0f && i < nq; i++)
        block_slope(p[i], bt_attention_slope(a, kv_head * group + (first + i) % group),
                    s->pos + (first + i) / group - pos);

    for (int i = 0; i < nq; i++)
        keep[i] = block_softmax(p[i], from[i], n, record + i * stride + cols);
    if (bt_kv_scaled(kv)) block_scale(p, nq, n, page, tokens, bt_kv_v_scale_offset(kv, kv_head));

    t = (tile){.a = p[0], .lda = BLOCK, .ldb = cols * element, .c = record, .keep = keep};
    t.ldc = (ptrdiff_t)stride;
    t.n_cols = (int)cols / 16;
    for (int g = 0; g < t.n_cols; g++) t.col[g] = 16 * g * element;
    for (int at = 0; at < n; at += tokens, t.n_segs++) {
        t.seg[t.n_segs] = page[at / tokens] + bt_kv_v_offset(kv, kv_head);
        t.seg_len[t.n_segs] = n - at < tokens ? n - at : tokens;
    }
    tile_mul(&t, kv->format, nq);
}

static void attention_span(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                           int32_t q0, int32_t q1, int32_t span, const float *q, float *records,
                           size_t stride)
{
    int32_t group = a->n_heads / a->kv.kv_heads, cols = bt_kv_v_cols(&a->kv);
    int32_t first = span * BT_ATTENTION_SPAN, end = s->pos + (q1 - 1) / group + 1;
    if (end > first + BT_ATTENTION_SPAN) end = first + BT_ATTENTION_SPAN;
    for (int32_t i = 0; i < q1 - q0; i++) {
        float *r = records + (size_t)i * stride;
        memset(r, 0, (size_t)(cols + BT__RECORD_TAIL) * sizeof *r);
        r[cols + BT__RECORD_MAX] = -INFINITY;
    }
    int32_t seen = bt__attention_from(a, s->pos + q0 / group) / BLOCK * BLOCK;
    for (int32_t pos = first > seen ? first : seen; pos < end; pos += BLOCK) {
        for (int32_t i = q0, j; i < q1; i = j) {
            /* Those that see equally much of the block's end go together: all of it, or a row's
             * last part. Before the window of one is nothing for it. */
            int32_t n = BT_MIN(s->pos + i / group + 1 - pos, BLOCK);
            int from[QUERIES_MAX] = {0};
            for (j = i; j < q1 && j - i < QUERIES_MAX; j++) {
                from[j - i] = bt__attention_from(a, s->pos + j / group) - pos;
                if (from[j - i] >= n || BT_MIN(s->pos + j / group + 1 - pos, BLOCK) != n) break;
            }
            if (j == i) j++;
            if (n <= 0 || from[0] >= n) continue;
            block_run(a, s, kv_head, i, pos, from, n, j - i,
                      q + (ptrdiff_t)(i - q0) * a->kv.head_dim, records + (size_t)(i - q0) * stride,
                      stride);
        }
    }
}

/* Adds a later span's record to the total of the earlier ones. */
static void attention_merge(float *total, const float *record, int32_t v_cols)
{
    float *tail = total + v_cols;
    const float *other = record + v_cols;
    if (other[BT__RECORD_SUM] == 0.0f) return;
    float max =
        tail[BT__RECORD_MAX] > other[BT__RECORD_MAX] ? tail[BT__RECORD_MAX] : other[BT__RECORD_MAX];
    float lane[16];
    v16 mine = v16_exp(v16_set1(tail[BT__RECORD_MAX] - max));
    v16 theirs = v16_exp(v16_set1(other[BT__RECORD_MAX] - max));
    for (int32_t c = 0; c < v_cols; c += 16) {
        v16 x = v16_mul(v16_load(total + c), mine);
        v16_store(total + c, v16_fma(v16_load(record + c), theirs, x));
    }
    v16_store(lane, v16_fma(v16_set1(other[BT__RECORD_SUM]), theirs,
                            v16_mul(v16_set1(tail[BT__RECORD_SUM]), mine)));
    tail[BT__RECORD_SUM] = lane[0];
    tail[BT__RECORD_MAX] = max;
}

static void attention_finish(const float *record, int32_t v_cols, int32_t head_dim, float *out)
{
    v16 scale = v16_set1(1.0f / record[v_cols + BT__RECORD_SUM]);
    for (int32_t c = 0; c < head_dim; c += 16)
        v16_store_n(out + c, v16_mul(v16_load(record + c), scale),
                    head_dim - c < 16 ? head_dim - c : 16);
}
