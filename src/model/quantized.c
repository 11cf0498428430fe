/* SPDX-License-Identifier: Apache-2.0 */
/* quantized.c - finds the tensors of a quantized matrix and checks that they go together. */
#include "model/quantized.h"
#include "base/assert.h"
#include "model/config_json.h"
#include <stdio.h>
#include <string.h>

static const char *const methods[] = {
    "fp8", "fbgemm_fp8", "gptq", "awq", "compressed-tensors", "modelopt", "bitsandbytes"};

static bt_status read_compressed(const bt__config *c, bt__quantization *q, bt_err *err)
{
    bt__config groups = {0}, group = {0}, weights = {0};
    int64_t bits = 0, size = 0;
    bt_status st =
        bt__config_object(c, "config_groups", "quantization_config.config_groups.", &groups, err);
    if (!st)
        st = bt__config_object(&groups, "group_0", "quantization_config.config_groups.group_0.",
                               &group, err);
    if (!st)
        st = bt__config_object(&group, "weights",
                               "quantization_config.config_groups.group_0.weights.", &weights, err);
    if (!st) st = bt__config_int(&weights, "num_bits", 2, 16, &bits, err);
    if (!st) st = bt__config_int(&weights, "group_size", -1, 1 << 16, &size, err);
    q->bits = (int32_t)bits;
    q->group = (int32_t)BT_MAX(size, 0);
    bt__config_close(&weights);
    bt__config_close(&group);
    bt__config_close(&groups);
    return st;
}

bt_status bt__quantization_read(bt_str text, const char *label, bt__quantization *out, bt_err *err)
{
    bt__config c = {0};
    bt_str method = {0}, version = {0}, format = {0};
    int64_t bits = 0, group = 0;
    double block[2] = {0};
    size_t n = 0;
    bool known = false;
    memset(out, 0, sizeof *out);
    if (!text.s) return BT_OK;
    bt_status st = bt__config_open(text, label, "quantization_config.", &c, err);
    if (!st) st = bt__config_str(&c, "quant_method", &method, err);
    if (!st) st = bt__config_str(&c, "checkpoint_format", &format, err);
    if (!st) st = bt__config_str(&c, "version", &version, err);
    if (!st) st = bt__config_int(&c, "bits", 1, 16, &bits, err);
    if (!st) st = bt__config_int(&c, "group_size", -1, 1 << 16, &group, err);
    if (!st) st = bt__config_nums(&c, "weight_block_size", block, 2, &n, err);
    for (size_t i = 0; i < BT_COUNT(methods); i++)
        known = known || bt_str_equals(method, methods[i]);
    if (!st && !known)
        st = bt_err_set(err, BT_EUNSUPPORTED, 0,
                        "%s: quantization_config.quant_method '%s' is not read; fp8, gptq, awq, "
                        "compressed-tensors, modelopt and bitsandbytes are: get the model "
                        "unquantized, or as GGUF",
                        label, bt_str_shown(method).s);
    bool gemm = !version.s || bt_str_equals(version, "gemm") || bt_str_equals(version, "GEMM");
    if (!st && bt_str_equals(method, "awq") && !gemm)
        st = bt_err_set(err, BT_EUNSUPPORTED, 0,
                        "%s: quantization_config.version '%s' of AWQ is not read; gemm is", label,
                        bt_str_shown(version).s);
    if (!st && n == 2 && !(block[0] >= 1 && block[0] <= 1e6 && block[1] >= 1 && block[1] <= 1e6))
        st = bt_err_set(err, BT_EFORMAT, 0,
                        "%s: quantization_config.weight_block_size has to be two sizes", label);
    if (!st) {
        memcpy(out->method, method.s, method.n); // a known one: shorter than that
        out->bits = (int32_t)bits;
        out->group = (int32_t)BT_MAX(group, 0);
        out->block_rows = (int32_t)block[0];
        out->block = (int32_t)block[1];
        out->zero_is_less = !bt_str_equals(format, "gptq_v2");
        if (bt_str_equals(method, "compressed-tensors")) st = read_compressed(&c, out, err);
    }
    bt__config_close(&c);
    return st;
}

/* The search ------------------------------------------------------------------------------------*/

typedef struct search {
    const bt__quantization *q;
    const char *module, *label;
    bt__find_fn find;
    void *ud;
    int32_t rows, cols;
    bt__conversion *c;
    bt_err *err;
} search;

static const bt_file_tensor *find(const search *s, const char *end)
{
    char name[BT_FILE_NAME_MAX + 1];
    int n = snprintf(name, sizeof name, "%s.%s", s->module, end);
    return n > 0 && n < (int)sizeof name ? s->find(s->ud, name) : NULL;
}

static bt_status bad(const search *s, const char *end, const char *what)
{
    return bt_err_set(s->err, BT_EFORMAT, 0, "%s: tensor '%s.%s' %s", s->label, s->module, end,
                      what);
}

static bool is(const bt_file_tensor *t, int32_t format, int64_t slow, int64_t fast)
{
    return t && t->format == format && t->dim[0] == fast && t->dim[1] == slow && t->dim[2] == 1 &&
           t->dim[3] == 1;
}

static bool is_scale(const bt_file_tensor *t, int64_t slow, int64_t fast)
{
    return t && (is(t, BT_FORMAT_F16, slow, fast) || is(t, BT_FORMAT_BF16, slow, fast) ||
                 is(t, BT_FORMAT_F32, slow, fast));
}

static int64_t pieces(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* FP8 and int8: what the scales' shape says. */
static bt_status find_scaled(search *s, const bt_file_tensor *w)
{
    static const char *const names[] = {"weight_scale_inv", "weight_scale", "SCB"};
    bt__conversion *c = s->c;
    const bt_file_tensor *t = NULL;
    size_t i = 0;
    for (; i < BT_COUNT(names) && !(t = find(s, names[i])); i++) {
    }
    if (!t)
        return bt_err_set(s->err, BT_EFORMAT, 0,
                          "%s: tensor '%s.weight' is %s and there is no scale '%s.weight_scale'",
                          s->label, s->module, bt_format_get(w->format)->name, s->module);
    if (find(s, "weight_zero_point"))
        return bt_err_set(
            s->err, BT_EUNSUPPORTED, 0,
            "%s: 8-bit weights with zero points ('%s.weight_zero_point') are not read", s->label,
            s->module);
    int32_t rows = s->q->block_rows, cols = s->q->block;
    c->kind = BT__CONVERT_SCALED;
    c->scale = t;
    c->factor = i == 2 ? 1 / 127.f : 1;
    if (rows > 0 && is_scale(t, pieces(s->rows, rows), pieces(s->cols, cols))) {
        c->block_rows = rows;
        c->block = cols;
    } else if (is_scale(t, 1, 1)) {
        c->block_rows = s->rows;
        c->block = s->cols;
    } else if (is_scale(t, s->rows, 1) || is_scale(t, 1, s->rows)) {
        c->block_rows = 1;
        c->block = s->cols;
    } else if (is_scale(t, pieces(s->rows, 128), pieces(s->cols, 128))) {
        c->block_rows = c->block = 128;
    } else {
        return bad(s, names[i], "is neither one scale, one a row, nor one a block");
    }
    c->q = w;
    return BT_OK;
}

static bt_status find_fp4(search *s, const bt_file_tensor *w, bool inverse)
{
    const char *end = inverse ? "weight_global_scale" : "weight_scale_2";
    const bt_file_tensor *scale = find(s, "weight_scale"), *all = find(s, end);
    bt__conversion *c = s->c;
    float factor = 0;
    if (s->cols % 16 || !is(w, BT_FORMAT_U8, s->rows, s->cols / 2))
        return bad(s, inverse ? "weight_packed" : "weight", "is no packed FP4 of the right shape");
    if (!is(scale, BT_FORMAT_F8_E4M3, s->rows, s->cols / 16))
        return bad(s, "weight_scale", "has to be F8_E4M3, one for 16 columns");
    if (!is(all, BT_FORMAT_F32, 1, 1)) return bad(s, end, "has to be one F32");
    memcpy(&factor, all->data, sizeof factor);
    if (!(factor > 0)) return bad(s, end, "has to be above 0");
    c->kind = BT__CONVERT_FP4;
    c->scale = scale;
    c->factor = inverse ? 1 / factor : factor;
    c->block = 16;
    c->q = w;
    return BT_OK;
}

/* GPTQ and AWQ; words along the columns or along the rows. */
static bt_status find_words(search *s, const bt_file_tensor *w)
{
    bt__conversion *c = s->c;
    bool awq = strcmp(s->q->method, "awq") == 0;
    int32_t bits = s->q->bits ? s->q->bits : 4;
    const bt_file_tensor *scale = find(s, "scales"), *zero = find(s, "qzeros");
    const bt_file_tensor *order = find(s, "g_idx");
    c->bits = bits;
    c->block = s->q->group > 0 ? BT_MIN(s->q->group, s->cols) : s->cols;
    int64_t groups = pieces(s->cols, c->block);
    bool known = awq ? bits == 4 : bits == 2 || bits == 3 || bits == 4 || bits == 8;
    if (!known || (!awq && strcmp(s->q->method, "gptq") != 0))
        return bt_err_set(s->err, BT_EUNSUPPORTED, 0,
                          "%s: tensor '%s.qweight' of %d bits and quant_method '%s' is not read",
                          s->label, s->module, bits, s->q->method);
    if (s->rows % 32 || s->cols % 32 ||
        !(awq ? is(w, BT_FORMAT_I32, s->cols, s->rows / 8)
              : is(w, BT_FORMAT_I32, s->cols / 32 * bits, s->rows)))
        return bad(s, "qweight", "is not of the shape that the model and its bits ask for");
    if (!is_scale(scale, groups, s->rows))
        return bad(s, "scales", "is missing or of a wrong shape");
    if (!is(zero, BT_FORMAT_I32, groups, s->rows / 32 * bits))
        return bad(s, "qzeros", "is missing or of a wrong shape");
    if (order && !is(order, BT_FORMAT_I32, 1, s->cols))
        return bad(s, "g_idx", "is of a wrong shape");
    for (int32_t k = 0; order && k < s->cols; k++) {
        int32_t g;
        memcpy(&g, (const char *)order->data + 4 * (size_t)k, sizeof g);
        if (g < 0 || g >= groups) return bad(s, "g_idx", "names a group that there is not");
        if (g != k / c->block) c->order = order; // else it is the plain order
    }
    c->kind = awq ? BT__CONVERT_AWQ : BT__CONVERT_GPTQ;
    c->plus_one = !awq && s->q->zero_is_less;
    c->scale = scale;
    c->zero = zero;
    c->q = w;
    return BT_OK;
}

/* compressed-tensors' pack-quantized. */
static bt_status find_packed(search *s, const bt_file_tensor *w)
{
    bt__conversion *c = s->c;
    int32_t bits = s->q->bits ? s->q->bits : 4;
    const bt_file_tensor *scale = find(s, "weight_scale"), *zero = find(s, "weight_zero_point");
    find(s, "weight_shape");
    c->bits = bits;
    c->block = s->q->group > 0 ? BT_MIN(s->q->group, s->cols) : s->cols;
    int64_t groups = pieces(s->cols, c->block);
    if ((bits != 4 && bits != 8) || find(s, "weight_g_idx"))
        return bt_err_set(s->err, BT_EUNSUPPORTED, 0,
                          "%s: tensor '%s.weight_packed' of %d bits%s is not read; 4 and 8 bits in "
                          "plain order are",
                          s->label, s->module, bits,
                          find(s, "weight_g_idx") ? " with 'weight_g_idx'" : "");
    if (!is(w, BT_FORMAT_I32, s->rows, pieces((int64_t)s->cols * bits, 32)))
        return bad(s, "weight_packed", "is not of the shape that the model and its bits ask for");
    if (!is_scale(scale, s->rows, groups) && !(groups == 1 && is_scale(scale, 1, s->rows)))
        return bad(s, "weight_scale", "is missing or of a wrong shape");
    if (zero && !is(zero, BT_FORMAT_I32, pieces((int64_t)s->rows * bits, 32), groups))
        return bad(s, "weight_zero_point", "is of a wrong shape");
    c->kind = BT__CONVERT_PACKED;
    c->scale = scale;
    c->zero = zero;
    c->q = w;
    return BT_OK;
}

/* bitsandbytes' nf4 and fp4. */
static bt_status find_codes(search *s, const bt_file_tensor *w, const bt_file_tensor *state,
                            const char *end)
{
    bt__conversion *c = s->c;
    bt__config f = {0};
    int64_t block = 64, block2 = 256, n = (int64_t)s->rows * s->cols;
    double offset = 0;
    bt_status st =
        bt__config_open((bt_str){state->data, state->bytes}, s->label, "quant_state.", &f, s->err);
    if (!st) st = bt__config_int(&f, "blocksize", 1, 1 << 20, &block, s->err);
    if (!st) st = bt__config_int(&f, "nested_blocksize", 1, 1 << 20, &block2, s->err);
    if (!st) st = bt__config_num(&f, "nested_offset", -1e30, 1e30, &offset, s->err);
    bt__config_close(&f);
    if (st) return st;
    const bt_file_tensor *scale = find(s, "weight.absmax"), *code = find(s, "weight.quant_map");
    const bt_file_tensor *scale2 = find(s, "weight.nested_absmax");
    const bt_file_tensor *code2 = find(s, "weight.nested_quant_map");
    int64_t blocks = pieces(n, block);
    if (w->bytes != (size_t)pieces(n, 2)) return bad(s, end, "is not of the matrix's size");
    if (!is(code, BT_FORMAT_F32, 1, 16)) return bad(s, "weight.quant_map", "has to be 16 F32");
    if (scale2 ? !is(scale, BT_FORMAT_U8, 1, blocks) || !is(code2, BT_FORMAT_F32, 1, 256) ||
                     !is(scale2, BT_FORMAT_F32, 1, pieces(blocks, block2))
               : !is(scale, BT_FORMAT_F32, 1, blocks))
        return bad(s, "weight.absmax", "and what belongs to it are not of the matrix's size");
    c->kind = BT__CONVERT_CODES;
    c->scale = scale;
    c->code = code;
    c->scale2 = scale2;
    c->code2 = code2;
    c->block = (int32_t)block;
    c->block2 = (int32_t)block2;
    c->offset = (float)offset;
    c->q = w;
    return BT_OK;
}

bt_status bt__quantized_find(const bt__quantization *q, const char *module, int32_t rows,
                             int32_t cols, bt__find_fn find_fn, void *ud, const char *label,
                             bt__conversion *c, bt_err *err)
{
    static const char nf4[] = "weight.quant_state.bitsandbytes__nf4";
    static const char fp4[] = "weight.quant_state.bitsandbytes__fp4";
    search s = {q, module, label, find_fn, ud, rows, cols, c, err};
    const bt_file_tensor *w, *state;
    c->of = rows;
    if ((w = find(&s, "qweight"))) return find_words(&s, w);
    if ((w = find(&s, "weight_packed")))
        return w->format == BT_FORMAT_U8 ? find_fp4(&s, w, true) : find_packed(&s, w);
    if (!(w = find(&s, "weight"))) return BT_OK;
    if (w->format == BT_FORMAT_U8) {
        if ((state = find(&s, nf4))) return find_codes(&s, w, state, nf4);
        if ((state = find(&s, fp4))) return find_codes(&s, w, state, fp4);
        return find_fp4(&s, w, false);
    }
    if (w->format != BT_FORMAT_F8_E4M3 && w->format != BT_FORMAT_F8_E5M2 &&
        w->format != BT_FORMAT_I8)
        return BT_OK;
    if (!is(w, w->format, rows, cols)) return bad(&s, "weight", "is of a wrong shape");
    return find_scaled(&s, w);
}
