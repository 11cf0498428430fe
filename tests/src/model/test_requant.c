/* SPDX-License-Identifier: Apache-2.0 */
#include "model/requant.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/quant/quant.h"
#include "test.h"
#include <math.h>
#include <string.h>

enum { HIDDEN = 128, FFN = 256, VOCAB = 40, LAYERS = 2 };

typedef struct fixture {
    bt_model *m;
    void *owned[32];
    int n;
    uint64_t draws;
} fixture;

static bt_weight matrix(fixture *f, int32_t format, int32_t rows, int32_t cols)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *x = bt_must(bt_malloc(n * sizeof *x));
    void *data = f->owned[f->n++] = bt_must(bt_malloc(bt_format_bytes(format, n)));
    for (size_t i = 0; i < n; i++) x[i] = (float)bt_rng_unit(9, f->draws++) - 0.5f;
    REQUIRE(bt_quant_ref(format, x, n, data));
    bt_free(x);
    return (bt_weight){format, rows, cols, data};
}

/* A down projection of odd width cannot be converted, one in Q4_0 need not be. */
static fixture model_new(bool tied)
{
    fixture f = {.m = bt_must(bt_calloc(1, sizeof *f.m))};
    bt_weights *w = &f.m->weights;
    f.m->recipe = (bt_recipe){.n_layers = LAYERS, .hidden = HIDDEN, .vocab = VOCAB};
    w->embed = matrix(&f, BT_FORMAT_F16, VOCAB, HIDDEN);
    w->head = tied ? w->embed : matrix(&f, BT_FORMAT_F32, VOCAB, HIDDEN);
    w->layers = bt_must(bt_calloc(LAYERS, sizeof *w->layers));
    for (int i = 0; i < LAYERS; i++) {
        bt_layer_weights *l = &w->layers[i];
        l->wq = l->wk = l->wv = matrix(&f, BT_FORMAT_F16, HIDDEN, HIDDEN);
        l->wo = matrix(&f, BT_FORMAT_BF16, HIDDEN, HIDDEN);
        l->w_gate = l->w_up = matrix(&f, BT_FORMAT_Q8_0, FFN, HIDDEN);
        l->w_down =
            i ? matrix(&f, BT_FORMAT_F16, HIDDEN, 96) : matrix(&f, BT_FORMAT_Q4_0, HIDDEN, FFN);
    }
    return f;
}

static void model_end(fixture *f)
{
    bt_model_close(f->m);
    for (int i = 0; i < f->n; i++) bt_free(f->owned[i]);
}

/* Greatest difference of two matrices, over the greatest value of the first. */
static double difference(const bt_weight *a, const bt_weight *b)
{
    size_t n = (size_t)a->rows * (size_t)a->cols;
    float *x = bt_must(bt_malloc(n * sizeof *x)), *y = bt_must(bt_malloc(n * sizeof *y));
    REQUIRE(bt_dequant_ref(a->format, a->data, n, x) && bt_dequant_ref(b->format, b->data, n, y));
    double worst = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        most = fmax(most, fabs((double)x[i]));
    }
    bt_free(x);
    bt_free(y);
    return worst / most;
}

typedef struct told {
    uint64_t done, total;
} told;
static void on_progress(void *ud, uint64_t done, uint64_t total)
{
    told *t = ud;
    CHECK(done > t->done && done <= total);
    *t = (told){done, total};
}

static void matrices_are_converted_where_it_pays(void)
{
    static const struct {
        const char *name;
        int32_t format;
        double bound;
    } row[] = {{"int8", BT_FORMAT_INT8G, 0.005}, {"int4", BT_FORMAT_INT4G, 0.07}};
    for (size_t k = 0; k < sizeof row / sizeof *row; k++)
        for (int tied = 0; tied < 2; tied++) {
            fixture f = model_new(tied);
            int32_t format = 0;
            CHECK_INT(bt_requant_parse(row[k].name, &format, NULL), BT_OK);
            CHECK_INT(format, row[k].format);
            bt_layer_weights before[LAYERS];
            memcpy(before, f.m->weights.layers, sizeof before);
            bt_weight embed = f.m->weights.embed;
            told t = {0};
            REQUIRE(bt_model_requant(f.m, format, 3, on_progress, &t, NULL) == BT_OK);
            CHECK(t.done == t.total && t.total > 0);
            const bt_layer_weights *l = f.m->weights.layers;
            for (int i = 0; i < LAYERS; i++) {
                CHECK_INT(l[i].wq.format, format);
                CHECK(difference(&before[i].wq, &l[i].wq) < row[k].bound);
                CHECK(difference(&before[i].wo, &l[i].wo) < row[k].bound);
                CHECK(difference(&before[i].w_up, &l[i].w_up) < row[k].bound);
            }
            CHECK_INT(l[0].w_down.format, k == 0 ? BT_FORMAT_Q4_0 : BT_FORMAT_INT4G);
            CHECK_INT(l[1].w_down.format, BT_FORMAT_F16); // 96 columns
            CHECK_INT(f.m->weights.head.format, format);
            CHECK_INT(f.m->weights.embed.format, tied ? format : BT_FORMAT_F16);
            CHECK((f.m->weights.embed.data == f.m->weights.head.data) == (tied != 0));
            CHECK(difference(&embed, &f.m->weights.embed) < row[k].bound);
            model_end(&f);
        }
}

static void words_are_checked(void)
{
    int32_t format = 5;
    bt_err err = {0};
    CHECK_INT(bt_requant_parse(NULL, &format, &err), BT_OK);
    CHECK_INT(format, -1);
    CHECK_INT(bt_requant_parse("", &format, &err), BT_OK);
    CHECK_INT(bt_requant_parse("int3", &format, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "int3") && strstr(err.msg, "int4"));
}

static void no_memory_changes_nothing(void)
{
    fixture f = model_new(false);
    bt_err err = {0};
    const void *data = f.m->weights.layers[0].wq.data;
    for (long n = 1;; n++) {
        bt_mem_fail_at(n);
        bt_status status = bt_model_requant(f.m, BT_FORMAT_INT8G, 2, NULL, NULL, &err);
        bt_mem_fail_at(0);
        if (status == BT_OK) break;
        CHECK_INT(status, BT_ENOMEM);
        CHECK(f.m->weights.layers[0].wq.data == data && !f.m->requantized);
        REQUIRE(n < 50);
    }
    model_end(&f);
}

int main(void)
{
    RUN(matrices_are_converted_where_it_pays);
    RUN(words_are_checked);
    RUN(no_memory_changes_nothing);
    return TEST_END();
}
