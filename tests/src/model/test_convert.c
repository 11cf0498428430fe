/* SPDX-License-Identifier: Apache-2.0 */
/* test_convert.c - quantized matrices of safetensors: packed here as their formats say, they become
 * the numbers that went in; what does not go together is refused by name. */
#include "base/assert.h"
#include "base/mem.h"
#include "kernels/quant/quant.h"
#include "model/quantized.h"
#include "test.h"

enum { ROWS = 64, COLS = 256 };

static float want[ROWS][COLS];
static int q[ROWS][COLS];
static uint32_t rng = 7;

static uint32_t draw(uint32_t n)
{
    rng = rng * 1664525u + 1013904223u;
    return (rng >> 8) % n;
}

/* Tensors by name, and their memory. */
static struct {
    char name[80];
    bt_file_tensor t;
} file[16];
static int n_file;
static uint8_t memory[1 << 20];
static size_t used;

static void *tensor(const char *name, int32_t format, int64_t slow, int64_t fast)
{
    bt_file_tensor *t = &file[n_file].t;
    snprintf(file[n_file].name, sizeof file[n_file].name, "m.%s", name);
    *t = (bt_file_tensor){.name = {file[n_file].name, strlen(file[n_file].name)},
                          .format = format,
                          .n_dims = 2,
                          .dim = {fast, slow, 1, 1},
                          .data = memory + used,
                          .bytes = bt_format_bytes(format, (size_t)(slow * fast))};
    n_file++;
    used += (t->bytes + 7) / 8 * 8;
    REQUIRE(used <= sizeof memory && n_file <= 16);
    memset((void *)(uintptr_t)t->data, 0, t->bytes);
    return (void *)(uintptr_t)t->data;
}

static void clear(void)
{
    n_file = 0;
    used = 0;
}

static const bt_file_tensor *find(void *ud, const char *name)
{
    (void)ud;
    for (int i = 0; i < n_file; i++)
        if (strcmp(file[i].name, name) == 0) return &file[i].t;
    return NULL;
}

static void remove_tensor(const char *name)
{
    for (int i = 0; i < n_file; i++)
        if (strcmp(file[i].name + 2, name) == 0) file[i].name[0] = 0;
}

static bt__quantization config(const char *text)
{
    bt__quantization c;
    bt_err err = {0};
    if (bt__quantization_read((bt_str){text, strlen(text)}, "C", &c, &err))
        fprintf(stderr, "%s\n", err.msg);
    CHECK_STR(err.msg, "");
    return c;
}

static bt_status search(const bt__quantization *qc, bt__conversion *c, bt_err *err)
{
    return bt__quantized_find(qc, "m", ROWS, COLS, find, NULL, "F", c, err);
}

/* All rows, and the last 32 of them as a matrix of its own, as in a fused module. */
static void expect(const char *what, const bt__quantization *qc, int32_t format, double tolerance)
{
    static uint8_t out[ROWS * COLS * 4];
    static float row[COLS], got[COLS];
    double worst = 0;
    for (int first = 0; first < ROWS; first += 32) {
        bt_weight w = {0, ROWS - first, COLS, NULL};
        bt__conversion c = {.to = &w, .first = first, .block = COLS};
        bt_err err = {0};
        CHECK_INT(search(qc, &c, &err), BT_OK);
        if (err.msg[0]) fprintf(stderr, "%s: %s\n", what, err.msg);
        REQUIRE(c.q);
        w.format = bt__convert_format(&c);
        CHECK_INT(w.format, format);
        CHECK(bt__convert_rows(&c, 0, w.rows, row, out));
        size_t stride = bt_format_bytes(w.format, COLS);
        for (int r = 0; r < w.rows; r++) {
            CHECK(bt_dequant_ref(w.format, out + (size_t)r * stride, COLS, got));
            for (int k = 0; k < COLS; k++)
                worst = fmax(worst, fabs((double)got[k] - (double)want[first + r][k]));
        }
    }
    CHECK_NEAR(worst, 0, tolerance);
    fprintf(stderr, "  %-24s becomes %-5s within %.1e\n", what, bt_format_get(format)->name, worst);
}

static void put_f16(void *at, size_t i, float v)
{
    bt_store_u16((uint8_t *)at + 2 * i, bt_f16_from_f32(v));
}

static float scale(int r, int g)
{
    return bt_f32_from_f16(bt_f16_from_f32(0.01f + 0.001f * (float)((r * 7 + g * 3) % 11)));
}

/* ---- FP8, int8 */

static float e4m3(int b)
{
    int e = b >> 3 & 15, m = b & 7;
    double v = e ? (8 + m) * pow(2, e - 10) : m * pow(2, -9);
    return (float)(b & 128 ? -v : v);
}

static void fp8(void)
{
    static const char blocks[] = "{\"quant_method\":\"fp8\",\"weight_block_size\":[32,128]}";
    bt__quantization qc = config(blocks), plain = config("{\"quant_method\":\"modelopt\"}");
    for (int kind = 0; kind < 4; kind++) { // blocks, a row, one, blocks of 128 by their shape
        int br = kind == 0 ? 32 : kind == 1 ? 1 : kind == 2 ? ROWS : 128, bc = kind ? COLS : 128;
        if (kind == 3) bc = 128;
        int down = (ROWS + br - 1) / br, across = (COLS + bc - 1) / bc;
        clear();
        uint8_t *w = tensor("weight", BT_FORMAT_F8_E4M3, ROWS, COLS);
        float *s =
            tensor(kind == 0 ? "weight_scale_inv" : "weight_scale", BT_FORMAT_F32, down, across);
        for (int i = 0; i < down * across; i++) s[i] = scale(i, 1);
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < COLS; k++) {
                int b = (int)draw(256);
                if ((b & 127) == 127) b = 0;
                w[r * COLS + k] = (uint8_t)b;
                want[r][k] = e4m3(b) * s[r / br * across + k / bc];
            }
        expect(kind == 0   ? "FP8, blocks"
               : kind == 1 ? "FP8, a row"
               : kind == 2 ? "FP8, one scale"
                           : "FP8, blocks of 128",
               kind ? &plain : &qc, BT_FORMAT_BF16, 448 * 0.02 / 256);
    }
    static uint8_t out[COLS * 4];
    static float row[COLS];
    bt_weight t = {BT_FORMAT_BF16, ROWS, COLS, NULL};
    bt__conversion c = {.to = &t, .block = COLS};
    ((uint8_t *)(uintptr_t)find(NULL, "m.weight")->data)[3] = 0x7f;
    CHECK_INT(search(&plain, &c, NULL), BT_OK);
    CHECK(!bt__convert_rows(&c, 0, 1, row, out) && bt__convert_rows(&c, 1, 2, row, out));
    remove_tensor("weight_scale");
    bt_err err = {0};
    CHECK_INT(search(&plain, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'m.weight' is F8_E4M3 and there is no scale 'm.weight_scale'"));
}

static void int8(void)
{
    bt__quantization qc = config("{\"quant_method\":\"compressed-tensors\"}");
    clear();
    int8_t *w = tensor("weight", BT_FORMAT_I8, ROWS, COLS);
    void *s = tensor("weight_scale", BT_FORMAT_F16, ROWS, 1);
    for (int r = 0; r < ROWS; r++) {
        put_f16(s, (size_t)r, scale(r, 0));
        for (int k = 0; k < COLS; k++) {
            w[r * COLS + k] = (int8_t)((int)draw(255) - 127);
            want[r][k] = scale(r, 0) * w[r * COLS + k];
        }
    }
    expect("int8, a row", &qc, BT_FORMAT_INT8G, 1e-6);
    tensor("weight_zero_point", BT_FORMAT_I8, ROWS, 1);
    bt_weight t = {0, ROWS, COLS, NULL};
    bt__conversion c = {.to = &t, .block = COLS};
    bt_err err = {0};
    CHECK_INT(search(&qc, &c, &err), BT_EUNSUPPORTED);
    CHECK(strstr(err.msg, "m.weight_zero_point"));
}

/* ---- GPTQ and AWQ */

/* `bits` bits into place i of a stream of words `stride` apart. */
static void put_bits(uint32_t *w, size_t stride, size_t i, int bits, int v)
{
    for (int b = 0; b < bits; b++) {
        size_t bit = i * (size_t)bits + (size_t)b;
        w[bit / 32 * stride] |= (uint32_t)(v >> b & 1) << bit % 32;
    }
}

static void gptq_of(int bits, int group, bool ordered, bool v2, int32_t format, double tolerance)
{
    char text[120], what[40];
    int groups = COLS / group, z[ROWS][COLS];
    snprintf(text, sizeof text, "{\"quant_method\":\"gptq\",\"bits\":%d,\"group_size\":%d%s}", bits,
             group, v2 ? ",\"checkpoint_format\":\"gptq_v2\"" : "");
    bt__quantization qc = config(text);
    clear();
    uint32_t *w = tensor("qweight", BT_FORMAT_I32, COLS / 32 * bits, ROWS);
    uint32_t *zeros = tensor("qzeros", BT_FORMAT_I32, groups, ROWS / 32 * bits);
    void *s = tensor("scales", BT_FORMAT_F16, groups, ROWS);
    int32_t *order = tensor("g_idx", BT_FORMAT_I32, 1, COLS);
    for (int k = 0; k < COLS; k++) order[k] = ordered ? k * 7 % COLS / group : k / group;
    for (int r = 0; r < ROWS; r++) {
        for (int g = 0; g < groups; g++) {
            z[r][g] = (int)draw((1u << bits) - 1) + 1;
            put_bits(zeros + g * (ROWS / 32 * bits), 1, (size_t)r, bits, z[r][g] - !v2);
            put_f16(s, (size_t)(g * ROWS + r), scale(r, g));
        }
        for (int k = 0; k < COLS; k++) {
            q[r][k] = (int)draw(1u << bits);
            put_bits(w + r, ROWS, (size_t)k, bits, q[r][k]);
            want[r][k] = scale(r, order[k]) * (float)(q[r][k] - z[r][order[k]]);
        }
    }
    snprintf(what, sizeof what, "GPTQ %d bits, %d%s%s", bits, group, ordered ? ", ordered" : "",
             v2 ? ", v2" : "");
    expect(what, &qc, format, tolerance);
}

static void gptq(void)
{
    gptq_of(4, 128, false, false, BT_FORMAT_INT4G, 2e-4);
    gptq_of(4, 128, false, true, BT_FORMAT_INT4G, 2e-4);
    gptq_of(4, 128, true, false, BT_FORMAT_F16, 2e-4);
    gptq_of(4, 32, false, false, BT_FORMAT_F16, 2e-4);
    gptq_of(2, 64, false, false, BT_FORMAT_F16, 1e-4);
    gptq_of(3, 128, false, false, BT_FORMAT_INT4G, 2e-4);
    gptq_of(8, 128, true, false, BT_FORMAT_F16, 4e-3);
    /* What is wrong is named. */
    bt__quantization qc = config("{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":128}");
    bt_weight t = {0, ROWS, COLS, NULL};
    bt__conversion c = {.to = &t, .block = COLS};
    bt_err err = {0};
    ((int32_t *)(uintptr_t)find(NULL, "m.g_idx")->data)[9] = 2;
    CHECK_INT(search(&qc, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'m.g_idx' names a group that there is not"));
    remove_tensor("g_idx");
    remove_tensor("scales");
    CHECK_INT(search(&qc, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'m.scales' is missing"));
    qc = config("{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128}");
    CHECK_INT(search(&qc, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'m.qweight' is not of the shape"));
    qc.bits = 5;
    CHECK_INT(search(&qc, &c, &err), BT_EUNSUPPORTED);
}

static void awq(void)
{
    static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    bt__quantization qc = config("{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":128,"
                                 "\"version\":\"gemm\",\"zero_point\":true}");
    int z[ROWS][2];
    clear();
    uint32_t *w = tensor("qweight", BT_FORMAT_I32, COLS, ROWS / 8);
    uint32_t *zeros = tensor("qzeros", BT_FORMAT_I32, 2, ROWS / 8);
    void *s = tensor("scales", BT_FORMAT_F16, 2, ROWS);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < COLS; k++) {
            int g = k / 128;
            q[r][k] = (int)draw(16);
            if (k % 128 == 0) z[r][g] = (int)draw(16);
            put_f16(s, (size_t)(g * ROWS + r), scale(r, g));
            want[r][k] = scale(r, g) * (float)(q[r][k] - z[r][g]);
        }
    for (int word = 0; word < ROWS / 8; word++)
        for (int i = 0; i < 8; i++) { // nibble i holds row order[i]
            int r = 8 * word + order[i];
            for (int k = 0; k < COLS; k++) w[k * (ROWS / 8) + word] |= (uint32_t)q[r][k] << 4 * i;
            for (int g = 0; g < 2; g++) zeros[g * (ROWS / 8) + word] |= (uint32_t)z[r][g] << 4 * i;
        }
    expect("AWQ", &qc, BT_FORMAT_INT4G, 2e-4);
}

/* ---- compressed-tensors, NVFP4, bitsandbytes */

static void packed(void)
{
    static const char text[] =
        "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_0\":{\"weights\":"
        "{\"num_bits\":4,\"group_size\":128}}}}";
    bt__quantization qc = config(text);
    for (int zero = 0; zero < 2; zero++) {
        clear();
        uint32_t *w = tensor("weight_packed", BT_FORMAT_I32, ROWS, COLS / 8);
        void *s = tensor("weight_scale", BT_FORMAT_F16, ROWS, 2);
        uint32_t *zeros = zero ? tensor("weight_zero_point", BT_FORMAT_I32, ROWS / 8, 2) : NULL;
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < COLS; k++) {
                int g = k / 128, z = zero ? (r + g) % 16 : 8, v = (int)draw(16);
                put_bits(w + r * (COLS / 8), 1, (size_t)k, 4, v);
                if (zero && k % 128 == 0) put_bits(zeros + g, 2, (size_t)r, 4, z);
                put_f16(s, (size_t)(r * 2 + g), scale(r, g));
                want[r][k] = scale(r, g) * (float)(v - z);
            }
        expect(zero ? "w4a16 with zeros" : "w4a16", &qc, BT_FORMAT_INT4G, 2e-4);
    }
}

static void nvfp4(void)
{
    static const float of[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    bt__quantization qc = config("{\"quant_method\":\"modelopt\"}");
    clear();
    uint8_t *w = tensor("weight", BT_FORMAT_U8, ROWS, COLS / 2);
    uint8_t *s = tensor("weight_scale", BT_FORMAT_F8_E4M3, ROWS, COLS / 16);
    float *all = tensor("weight_scale_2", BT_FORMAT_F32, 1, 1);
    *all = 0.01f;
    for (int i = 0; i < ROWS * COLS / 16; i++) s[i] = (uint8_t)draw(126);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < COLS; k++) {
            int v = (int)draw(16);
            w[(r * COLS + k) / 2] |= (uint8_t)(v << 4 * (k % 2));
            want[r][k] = (v & 8 ? -1.f : 1.f) * of[v & 7] * *all * e4m3(s[(r * COLS + k) / 16]);
        }
    expect("NVFP4", &qc, BT_FORMAT_BF16, 6 * 4.48 / 256);
}

static void nf4(void)
{
    static const char state[] = "{\"quant_type\":\"nf4\",\"blocksize\":64,\"nested_blocksize\":256,"
                                "\"nested_offset\":0.5,\"dtype\":\"float16\"}";
    bt__quantization qc = config("{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}");
    for (int nested = 0; nested < 2; nested++) {
        int blocks = ROWS * COLS / 64;
        clear();
        uint8_t *w = tensor("weight", BT_FORMAT_U8, ROWS * COLS / 2, 1);
        uint8_t *text = tensor("weight.quant_state.bitsandbytes__nf4", BT_FORMAT_U8, 1,
                               (int64_t)sizeof state - 1);
        float *code = tensor("weight.quant_map", BT_FORMAT_F32, 1, 16);
        memcpy(text, state, sizeof state - 1);
        for (int i = 0; i < 16; i++) code[i] = (float)(i - 7) / 8;
        uint8_t *small = nested ? tensor("weight.absmax", BT_FORMAT_U8, 1, blocks) : NULL;
        float *abs = nested ? NULL : tensor("weight.absmax", BT_FORMAT_F32, 1, blocks);
        float *code2 = nested ? tensor("weight.nested_quant_map", BT_FORMAT_F32, 1, 256) : NULL;
        float *abs2 = nested ? tensor("weight.nested_absmax", BT_FORMAT_F32, 1, 1) : NULL;
        for (int i = 0; nested && i < 256; i++) code2[i] = (float)i / 256;
        if (nested) *abs2 = 2;
        for (int i = 0; i < blocks; i++) {
            if (nested)
                small[i] = (uint8_t)(i * 37);
            else
                abs[i] = scale(i, 0);
        }
        for (int i = 0; i < ROWS * COLS; i++) {
            int v = (int)draw(16);
            w[i / 2] |= (uint8_t)(i % 2 ? v : v << 4);
            want[i / COLS][i % COLS] =
                code[v] * (nested ? code2[small[i / 64]] * *abs2 + 0.5f : abs[i / 64]);
        }
        expect(nested ? "nf4, nested" : "nf4", &qc, BT_FORMAT_BF16, nested ? 0.01 : 1e-4);
    }
    remove_tensor("weight.nested_quant_map");
    bt_weight t = {0, ROWS, COLS, NULL};
    bt__conversion c = {.to = &t, .block = COLS};
    bt_err err = {0};
    CHECK_INT(search(&qc, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'m.weight.absmax'"));
}

static void configs(void)
{
    static const struct {
        const char *text, *says;
        bt_status code;
    } row[] = {
        {"{\"quant_method\":\"hqq\"}", "quant_method 'hqq' is not read", BT_EUNSUPPORTED},
        {"{}", "quant_method '' is not read", BT_EUNSUPPORTED},
        {"{\"quant_method\":\"awq\",\"version\":\"gemv\"}", "version 'gemv'", BT_EUNSUPPORTED},
        {"{\"quant_method\":\"gptq\",\"bits\":\"4\"}", "'quantization_config.bits'", BT_EFORMAT},
        {"{\"quant_method\":\"gptq\",\"bits\":99}", "'quantization_config.bits' is 99", BT_EFORMAT},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[0,128]}", "weight_block_size",
         BT_EFORMAT},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":128}", "weight_block_size", BT_EFORMAT},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt__quantization c;
        bt_err err = {0};
        CHECK_INT(bt__quantization_read((bt_str){row[i].text, strlen(row[i].text)}, "C", &c, &err),
                  row[i].code);
        CHECK(strstr(err.msg, row[i].says));
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s\n", err.msg);
    }
}

int main(void)
{
    RUN(fp8);
    RUN(int8);
    RUN(gptq);
    RUN(awq);
    RUN(packed);
    RUN(nvfp4);
    RUN(nf4);
    RUN(configs);
    return TEST_END();
}
