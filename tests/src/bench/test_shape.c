/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* test_shape.c - models of random weights: their sizes are the published ones, and an engine runs
 * and measures them. */
#include "base/mem.h"
#include "bench/runs.h"
#include "bench/shape.h"
#include "kernels/quant/quant.h"
#include "test.h"

static bt_shape_model *make(const char *shape, const char *quant, int32_t layers)
{
    bt_shape_model *m = NULL;
    bt_err err = {0};
    if (bt_shape_model_new(shape, quant, layers, &m, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(m);
    return m;
}

/* Parameters of the whole model by its shape, norms and biases left out. */
static double billions(const char *name)
{
    const bt_shape *s = bt_shape_find(name);
    REQUIRE(s);
    double q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, hidden = s->hidden;
    double layer = hidden * (2 * q + 2 * kv) + 3 * hidden * s->ffn;
    return (layer * s->layers + hidden * s->vocab * (s->tied ? 1 : 2)) / 1e9;
}

static void published_sizes(void)
{
    CHECK_NEAR(billions("qwen2.5-0.5b"), 0.494, 0.001);
    CHECK_NEAR(billions("llama-3.2-1b"), 1.236, 0.001);
    CHECK_NEAR(billions("qwen2.5-7b"), 7.615, 0.002);
    CHECK_NEAR(billions("mistral-7b"), 7.248, 0.001);
    CHECK_NEAR(billions("llama-2-7b"), 6.738, 0.001);
    CHECK_NEAR(billions("llama-3-8b"), 8.030, 0.001);
    CHECK_NEAR(billions("qwen2.5-14b"), 14.77, 0.01);
    CHECK_NEAR(billions("llama-3-70b"), 70.55, 0.01);
}

static void weights_are_sound(void)
{
    static const char *const quants[] = {"f32",    "f16",  "bf16",   "q8_0", "q4_0", "q4_k",
                                         "q4_k_m", "q5_k", "q5_k_m", "q6_k", "int8", "int4"};
    for (size_t i = 0; i < sizeof quants / sizeof *quants; i++) {
        bt_shape_model *m = make("tiny", quants[i], 0);
        const bt_weights *w = &m->weights;
        float row[512];
        CHECK(w->head.data != w->embed.data);
        for (int32_t l = 0; l < m->recipe.n_layers; l++) {
            const bt_weight *d = &w->layers[l].w_down;
            CHECK(d->rows == 256 && d->cols == 512);
            size_t last = (size_t)(d->rows - 1) * bt_format_bytes(d->format, 512);
            CHECK(bt_dequant_ref(d->format, (const char *)d->data + last, 512, row));
            for (int c = 0; c < 512; c++) CHECK(isfinite(row[c]));
        }
        /* The head's last row lies one past the embedding's: ASan knows whether it is there. */
        size_t stride = bt_format_bytes(w->head.format, 256);
        CHECK(bt_dequant_ref(w->head.format,
                             (const char *)w->head.data + (size_t)(w->head.rows - 1) * stride, 256,
                             row));
        bt_shape_model_free(m);
    }
}

static void mixtures(void)
{
    bt_shape_model *m = make("tiny", "q4_k_m", 1);
    CHECK_INT(m->recipe.n_layers, 1);
    CHECK_INT(m->weights.embed.format, BT_FORMAT_Q6_K);
    CHECK_INT(m->weights.layers[0].w_up.format, BT_FORMAT_Q4_K);
    CHECK_INT(m->weights.layers[0].w_down.format, BT_FORMAT_Q6_K);
    size_t n = 0;
    CHECK_INT(bt_vocab_size(m->vocab), 1000);
    const char *bytes = bt_vocab_bytes(m->vocab, 'A', &n);
    CHECK(n == 1 && bytes[0] == 'A');
    CHECK(bt_vocab_is_eos(m->vocab, 999));
    bt_shape_model_free(m);
    /* No k-quant divides rows of 896. */
    m = make("qwen2.5-0.5b", "q4_k", 1);
    CHECK_INT(m->weights.layers[0].wq.format, BT_FORMAT_Q8_0);
    CHECK_INT(m->weights.layers[0].w_down.format, BT_FORMAT_Q4_K);
    CHECK(m->weights.head.data == m->weights.embed.data && m->weights.layers[0].bq);
    bt_shape_model_free(m);
}

static void unknown_names(void)
{
    bt_shape_model *m = NULL;
    bt_err err = {0};
    CHECK_INT(bt_shape_model_new("gpt-9", "f16", 0, &m, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "llama-3-8b") != NULL);
    CHECK_INT(bt_shape_model_new("tiny", "q9", 0, &m, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "q4_k_m") != NULL);
    CHECK(m == NULL);
}

static void an_engine_measures_it(void)
{
    bt_shape_model *shape = make("tiny", "q4_k_m", 0);
    bt_engine_options opt = {.device = "cpu", .threads = 1, .slots = 4, .ctx = 256};
    bt_measure *m = NULL;
    bt_err err = {0};
    bt_measure_model_row *row = bt_must(bt_calloc(1, sizeof *row));
    REQUIRE(bt_measure_open(&opt, shape, &m, &err) == BT_OK);
    CHECK_STR(bt_measure_about(m)->backend, "CPU");
    CHECK_STR(bt_measure_about(m)->model, "tiny q4_k_m");
    CHECK_INT(bt_measure_model(m, 64, 0, 3, row, &err), BT_OK);
    CHECK(row->n == 3 && row->avg_ts > 0 && row->n_prompt == 64 && row->n_gen == 0);
    CHECK_NEAR(row->avg_ts, 64e9 / row->avg_ns, row->avg_ts / 2);
    CHECK_INT(bt_measure_model(m, 0, 16, 2, row, &err), BT_OK);
    CHECK(row->n == 2 && row->busy_us > 0 && row->n_gen == 16);
    bt_buf out = BT_BUF_INIT;
    bt_measure_model_print(m, row, BT_MEASURE_MD, true, &out);
    CHECK(strstr(out.data, "| model ") && strstr(out.data, "tg16"));
    bt_measure_batch_row batch;
    CHECK_INT(bt_measure_batch(m, 16, 8, 4, 2, &batch, &err), BT_OK);
    CHECK(batch.prompt_s > 0 && batch.gen_s > 0);
    bt_measure_batch_print(m, &batch, BT_MEASURE_CSV, true, &out);
    CHECK(strstr(out.data, "tiny q4_k_m,CPU,cpu0,f16,16,8,4,96,") != NULL);
    bt_measure_residency r;
    CHECK_INT(bt_measure_residency_run(m, 1, &r, &err), BT_EUNSUPPORTED);
    bt_buf_release(&out);
    bt_measure_close(m);
    bt_shape_model_free(shape);
    bt_free(row);
}

#ifdef BT_EMULATED
static void an_emulated_device_parks(void)
{
    bt_shape_model *shape = make("tiny", "q4_0", 1);
    bt_engine_options opt = {.device = "emulated", .threads = 1, .slots = 2, .ctx = 64};
    bt_measure *m = NULL;
    bt_measure_residency r;
    bt_err err = {0};
    opt.step_tokens = 32;
    if (bt_measure_open(&opt, shape, &m, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(m);
    CHECK_STR(bt_measure_about(m)->backend, "emulated");
    CHECK_INT(bt_measure_residency_run(m, 1, &r, &err), BT_OK);
    CHECK(r.bytes > 0 && r.wake_s > 0 && r.park_s > 0);
    bt_measure_batch_row batch;
    CHECK_INT(bt_measure_batch(m, 8, 3, 2, 1, &batch, &err), BT_OK);
    bt_measure_close(m);
    bt_shape_model_free(shape);
}
#endif

int main(void)
{
    RUN(published_sizes);
    RUN(weights_are_sound);
    RUN(mixtures);
    RUN(unknown_names);
    RUN(an_engine_measures_it);
#ifdef BT_EMULATED
    RUN(an_emulated_device_parks);
#endif
    return TEST_END();
}
