/* SPDX-License-Identifier: Apache-2.0 */
/* hf_folder.h - writes a model of a GGUF file as transformers would: config.json and safetensors, with
 * the rows of q and k in halves. */
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include "kernels/quant/quant.h"
#include "model/model.h"
#include "model/tensors.h"
#include "test.h"
#include <unistd.h>

typedef struct hf_folder {
    char path[64];
    bt_buf header, data, config;
} hf_folder;

static inline void hf_put(const hf_folder *f, const char *name, const bt_buf *head,
                          const bt_buf *data)
{
    char path[200];
    uint64_t n = head->len;
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *out = fopen(path, "wb");
    REQUIRE(out && !head->failed);
    if (data) REQUIRE(fwrite(&n, 8, 1, out) == 1);
    REQUIRE(fwrite(head->data, 1, head->len, out) == head->len);
    if (data) REQUIRE(fwrite(data->data, 1, data->len, out) == data->len);
    REQUIRE(fclose(out) == 0);
}

/* One more tensor, [rows, cols] or, rows 0, [cols]; from F32. */
static inline void hf_tensor(hf_folder *f, const char *name, int32_t rows, int32_t cols,
                             const float *x)
{
    size_t n = (size_t)cols * (size_t)(rows ? rows : 1);
    char shape[32];
    snprintf(shape, sizeof shape, rows ? "%d,%d" : "%d", rows ? rows : cols, cols);
    bt_buf_addf(&f->header,
                "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                f->header.len ? "," : "{", name, shape, f->data.len, f->data.len + 4 * n);
    bt_buf_add(&f->data, x, 4 * n);
}

/* Adjacent pairs of each head to halves. */
static inline void hf_unpermute(float *x, int32_t rows, int32_t cols, int32_t head_dim)
{
    size_t bytes = (size_t)rows * (size_t)cols * 4;
    float *copy = malloc(bytes);
    REQUIRE(copy);
    memcpy(copy, x, bytes);
    for (int32_t r = 0; r < rows; r++) {
        int32_t head = r / head_dim, i = r % head_dim / 2, odd = r % 2;
        memcpy(x + (size_t)(head * head_dim + odd * head_dim / 2 + i) * (size_t)cols,
               copy + (size_t)r * (size_t)cols, (size_t)cols * 4);
    }
    free(copy);
}

/* m is of a llama or qwen2 GGUF file in F32. more: members for config.json, ", ..." or "". */
static inline void hf_write(hf_folder *f, const bt_model *m, const char *more)
{
    const bt_recipe *r = &m->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    bool turn = r->rope[0].style == BT_ROPE_INTERLEAVED;
    memset(f, 0, sizeof *f);
    snprintf(f->path, sizeof f->path, "/tmp/baton-hf-XXXXXX");
    REQUIRE(mkdtemp(f->path));
    for (int32_t id = 0; id < BT_TENSORS; id++)
        for (int32_t i = 0; i < (bt_tensor_per_layer(id) ? r->n_layers : 1); i++) {
            const void *base = bt_tensor_per_layer(id) ? (const void *)&m->weights.layers[i]
                                                       : (const void *)&m->weights;
            const bt_weight *w = bt_tensor_in(base, id);
            char name[BT_TENSOR_NAME_MAX];
            int32_t cols = bt_tensor_size_of(r, i, bt_tensors[id].cols);
            int32_t rows = bt_tensor_size_of(r, i, bt_tensors[id].rows);
            bool qk = id == BT_MATRIX_Q || id == BT_MATRIX_K;
            if (bt_tensor_needed(r, i, id, false) != BT_NEED_MUST) continue;
            bt_tensor_name(r, i, id, BT_NAMING_HF, name);
            if (bt_tensor_is_vector(id)) {
                hf_tensor(f, name, 0, cols, *(const float *const *)bt_tensor_in(base, id));
                continue;
            }
            size_t n = (size_t)rows * (size_t)cols;
            float *x = malloc(n * 4);
            REQUIRE(x && w->format == BT_FORMAT_F32);
            memcpy(x, w->data, n * 4);
            if (turn && qk) hf_unpermute(x, rows, cols, l->head_dim);
            hf_tensor(f, name, rows, cols, x);
            const float *bias =
                bt_tensors[id].bias_at && bt_tensor_per_layer(id) ? bt_layer_bias(base, id) : NULL;
            if (bias) {
                memcpy(x, bias, (size_t)rows * 4);
                if (turn && qk) hf_unpermute(x, rows, 1, l->head_dim);
                memcpy(strrchr(name, '.'), ".bias", 6);
                hf_tensor(f, name, 0, rows, x);
            }
            free(x);
        }
    bt_buf_adds(&f->header, "}");
    bt_buf_addf(&f->config,
                "{\"model_type\":\"%s\",\"hidden_size\":%d,\"intermediate_size\":%d,"
                "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
                "\"head_dim\":%d,\"vocab_size\":%d,\"max_position_embeddings\":%d,"
                "\"rms_norm_eps\":%.9g,\"rope_theta\":%.9g,\"hidden_act\":\"silu\","
                "\"tie_word_embeddings\":%s%s}",
                r->arch, r->hidden, l->ffn, r->n_layers, l->n_heads, l->n_kv_heads, l->head_dim,
                r->vocab, r->ctx_train, (double)r->norm_eps, (double)r->rope[0].theta,
                r->tied_head ? "true" : "false", more);
    hf_put(f, "config.json", &f->config, NULL);
    hf_put(f, "model.safetensors", &f->header, &f->data);
}

static inline void hf_free(hf_folder *f)
{
    char command[200];
    snprintf(command, sizeof command, "rm -r %s", f->path);
    CHECK_INT(system(command), 0);
    bt_buf_release(&f->header);
    bt_buf_release(&f->data);
    bt_buf_release(&f->config);
}
