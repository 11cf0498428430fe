/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit TIMEOUT 120
 * GGUF: what is read is what is there, and nothing damaged gets past open. */
#include "file/gguf.h"
#include "file/not_gguf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "src/file/gguf_build.h"
#include "test.h"
#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t dim_8x2[] = {8, 2}, dim_8[] = {8};

/* A sound file that uses every value type, two tensors, and ends with the last tensor's byte. */
static void build_small(bt_buf *b)
{
    static const uint8_t bytes8[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const float floats[] = {1.5f, -2.0f};
    const double wide = 2.25;
    gb_head(b, 3, 2, 16);
    gb_string(b, "general.architecture", "llama");
    gb_int(b, "general.alignment", 32);
    gb_key(b, "u8", BT_GGUF_U8);
    bt_buf_addc(b, (char)200);
    gb_key(b, "i8", BT_GGUF_I8);
    bt_buf_addc(b, (char)-3);
    gb_key(b, "u16", BT_GGUF_U16);
    bt_buf_add(b, "\xff\xff", 2);
    gb_key(b, "i16", BT_GGUF_I16);
    bt_buf_add(b, "\xfe\xff", 2);
    gb_key(b, "i32", BT_GGUF_I32);
    gb_u32(b, (uint32_t)-7);
    gb_key(b, "u64", BT_GGUF_U64);
    gb_u64(b, UINT64_MAX);
    gb_key(b, "i64", BT_GGUF_I64);
    gb_u64(b, (uint64_t)-9);
    gb_float(b, "f32", 0.5f);
    gb_key(b, "f64", BT_GGUF_F64);
    bt_buf_add(b, &wide, sizeof wide);
    gb_key(b, "bool", BT_GGUF_BOOL);
    bt_buf_addc(b, 1);
    gb_array(b, "strings", BT_GGUF_STRING, 3);
    gb_str(b, "a");
    gb_str(b, "");
    gb_str(b, "ccc");
    gb_array(b, "floats", BT_GGUF_F32, 2);
    bt_buf_add(b, floats, sizeof floats);
    gb_array(b, "bytes", BT_GGUF_I8, 8);
    bt_buf_add(b, bytes8, sizeof bytes8);
    gb_array(b, "none", BT_GGUF_STRING, 0);
    gb_tensor(b, "matrix", 2, dim_8x2, BT_FORMAT_F32, 0);
    gb_tensor(b, "vector", 1, dim_8, BT_FORMAT_F16, 64);
    gb_pad(b, 32);
    for (int i = 0; i < 64; i++) bt_buf_addc(b, (char)i);
    gb_zeros(b, 16);
}

static bool join(void *ud, size_t i, bt_str s)
{
    bt_buf *b = ud;
    bt_buf_addf(b, "%zu=%.*s;", i, (int)s.n, s.s);
    return i < 1000;
}

static bool stop_at_once(void *ud, size_t i, bt_str s)
{
    (void)s;
    (*(int *)ud)++;
    return i > 0;
}

static void reads_every_type(void)
{
    bt_buf b = BT_BUF_INIT, text = BT_BUF_INIT;
    bt_gguf *g = NULL;
    bt_err err = {0};
    build_small(&b);
    REQUIRE(!b.failed);
    if (bt_gguf_open_memory(b.data, b.len, "small", &g, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(g);
    CHECK_STR(bt_gguf_path(g), "small");
    CHECK_INT(bt_gguf_n_keys(g), 16);
    CHECK(bt_gguf_key_at(g, 3).n == 2 && memcmp(bt_gguf_key_at(g, 3).s, "i8", 2) == 0);

    int64_t v = 0;
    double d = 0;
    bool yes = false;
    bt_str s = {0};
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200}, {"i8", -3},  {"u16", 65535},           {"i16", -2},
                {"i32", -7}, {"i64", -9}, {"general.alignment", 32}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        CHECK_INT(bt_gguf_int(g, ints[i].key, INT64_MIN, INT64_MAX, &v, &err), BT_OK);
        CHECK_INT(v, ints[i].value);
    }
    CHECK_INT(bt_gguf_float(g, "f32", &d, &err), BT_OK);
    CHECK_NEAR(d, 0.5, 0);
    CHECK_INT(bt_gguf_float(g, "f64", &d, &err), BT_OK);
    CHECK_NEAR(d, 2.25, 0);
    CHECK_INT(bt_gguf_bool(g, "bool", &yes, &err), BT_OK);
    CHECK(yes);
    CHECK_INT(bt_gguf_string(g, "general.architecture", &s, &err), BT_OK);
    CHECK(s.n == 5 && memcmp(s.s, "llama", 5) == 0);

    size_t n = 99;
    CHECK_INT(bt_gguf_array(g, "strings", &n), BT_GGUF_STRING);
    CHECK_INT(n, 3);
    CHECK(bt_gguf_each_string(g, "strings", join, &text));
    CHECK_STR(text.data, "0=a;1=;2=ccc;");
    CHECK(bt_gguf_each_string(g, "none", join, &text));
    CHECK(!bt_gguf_each_string(g, "floats", join, &text));
    CHECK(!bt_gguf_each_string(g, "absent", join, &text));
    int calls = 0;
    CHECK(!bt_gguf_each_string(g, "strings", stop_at_once, &calls));
    CHECK_INT(calls, 1);
    CHECK_NEAR(bt_gguf_array_float(g, "floats", 1), -2.0, 0);
    CHECK_INT(bt_gguf_array_int(g, "floats", 1), -2);
    CHECK_INT(bt_gguf_array_int(g, "bytes", 7), 8);
    CHECK_NEAR(bt_gguf_array_float(g, "bytes", 7), 8, 0);
    CHECK(bt_gguf_array_raw(g, "bytes", BT_GGUF_I8, &n) && n == 8);
    CHECK(!bt_gguf_array_raw(g, "bytes", BT_GGUF_U8, &n));
    CHECK(!bt_gguf_array_raw(g, "strings", BT_GGUF_STRING, &n));
    CHECK_INT(bt_gguf_array(g, "absent", &n), -1);
    CHECK_INT(bt_gguf_array(g, "f32", &n), -1);

    const bt_gguf_tensor *t = bt_gguf_tensor_find(g, "matrix");
    CHECK(t && t == bt_gguf_tensor_at(g, 0) && t->n_dims == 2 && t->dim[0] == 8 && t->dim[1] == 2 &&
          t->dim[2] == 1 && t->bytes == 64 && t->format == BT_FORMAT_F32);
    CHECK(t && ((const char *)t->data)[63] == 63);
    t = bt_gguf_tensor_find(g, "vector");
    CHECK(t && t->bytes == 16 && (const char *)t->data == b.data + b.len - 16);
    CHECK(!bt_gguf_tensor_find(g, "matri") && !bt_gguf_tensor_find(g, ""));
    CHECK_INT(bt_gguf_n_tensors(g), 2);
    bt_gguf_close(g);
    bt_buf_release(&text);
    bt_buf_release(&b);
}

/* Absent: fine and untouched. Wrong: refused and untouched, with the key in the sentence. */
static void scalars_refuse_by_name(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_gguf *g = NULL;
    bt_err err = {0};
    build_small(&b);
    REQUIRE(bt_gguf_open_memory(b.data, b.len, "small", &g, NULL) == BT_OK);
    int64_t v = 41;
    double d = 41;
    bool yes = true;
    bt_str s = {"kept", 4};
    CHECK_INT(bt_gguf_int(g, "absent", 0, 1, &v, &err), BT_OK);
    CHECK_INT(bt_gguf_float(g, "absent", &d, &err), BT_OK);
    CHECK_INT(bt_gguf_bool(g, "absent", &yes, &err), BT_OK);
    CHECK_INT(bt_gguf_string(g, "absent", &s, &err), BT_OK);
    CHECK(!bt_gguf_has(g, "absent") && bt_gguf_has(g, "u8"));
    CHECK_INT(bt_gguf_int(g, "u8", 0, 100, &v, &err), BT_EFORMAT);
    CHECK_STR(err.msg, "small: key 'u8' is 200; expected 0 to 100");
    CHECK_INT(bt_gguf_int(g, "u64", 0, INT64_MAX, &v, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "'u64' is over 9223372036854775807"));
    CHECK_INT(bt_gguf_int(g, "f32", 0, 100, &v, &err), BT_EFORMAT);
    CHECK_STR(err.msg, "small: key 'f32' is a 32-bit float; expected an integer");
    CHECK_INT(bt_gguf_int(g, "bool", 0, 1, &v, &err), BT_EFORMAT);
    CHECK_INT(bt_gguf_float(g, "u8", &d, &err), BT_EFORMAT);
    CHECK_INT(bt_gguf_bool(g, "u8", &yes, &err), BT_EFORMAT);
    CHECK_INT(bt_gguf_string(g, "strings", &s, &err), BT_EFORMAT);
    CHECK_STR(err.msg, "small: key 'strings' is an array; expected a string");
    CHECK(v == 41 && d == 41 && yes && s.n == 4);
    bt_gguf_close(g);
    bt_buf_release(&b);
}

/* Refusals: each case writes a broken file; the sentence must say what is wrong. */

static void b_empty(bt_buf *b)
{
    (void)b;
}
static void b_lfs(bt_buf *b)
{
    bt_buf_adds(b, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
}
static void b_zip(bt_buf *b)
{
    bt_buf_add(b, "PK\003\004 and so on", 14);
}
static void b_pickle(bt_buf *b)
{
    bt_buf_add(b, "\x80\002}q", 4);
}
static void b_safetensors(bt_buf *b)
{
    gb_u64(b, 16);
    bt_buf_adds(b, "{\"__metadata__\":{}}   ");
}
static void b_html(bt_buf *b)
{
    bt_buf_adds(b, "<!DOCTYPE html><html>");
}
static void b_ggjt(bt_buf *b)
{
    bt_buf_adds(b, "tjgg\001\001\001\001");
}
static void b_noise(bt_buf *b)
{
    bt_buf_adds(b, "what is this");
}
static void b_version1(bt_buf *b)
{
    gb_head(b, 1, 0, 0);
}
static void b_version4(bt_buf *b)
{
    gb_head(b, 4, 0, 0);
}
static void b_version0(bt_buf *b)
{
    gb_head(b, 0, 0, 0);
}
static void b_big_endian(bt_buf *b)
{
    gb_head(b, 3u << 24, 0, 0);
}
static void b_many_keys(bt_buf *b)
{
    gb_head(b, 3, 0, UINT64_MAX);
    gb_zeros(b, 64);
}
static void b_many_tensors(bt_buf *b)
{
    gb_head(b, 3, 1ull << 60, 0);
    gb_zeros(b, 64);
}
static void b_long_key(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_u64(b, UINT64_MAX - 7);
    gb_zeros(b, 64);
}
static void b_control_key(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_int(b, "a\nb", 1);
}
static void b_no_key(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_int(b, "", 1);
    gb_zeros(b, 8);
}
static void b_twice(bt_buf *b)
{
    gb_head(b, 3, 0, 2);
    gb_int(b, "same", 1);
    gb_int(b, "same", 1);
}
static void b_type13(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_key(b, "odd", 13);
    gb_zeros(b, 8);
}
static void b_elem99(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_array(b, "odd", 99, 1);
    gb_zeros(b, 8);
}
static void b_nested(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_array(b, "deep", BT_GGUF_ARRAY, 1);
    gb_zeros(b, 32);
}
static void b_bool2(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_key(b, "flag", BT_GGUF_BOOL);
    bt_buf_addc(b, 2);
}
static void b_string_past(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_key(b, "text", BT_GGUF_STRING);
    gb_u64(b, 1000);
    gb_zeros(b, 64);
}
static void b_array_past(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_array(b, "list", BT_GGUF_U64, UINT64_MAX / 8 + 2);
    gb_zeros(b, 64);
}
static void b_strings_past(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_array(b, "words", BT_GGUF_STRING, 3);
    gb_str(b, "one");
    gb_u64(b, 1 << 20);
    gb_zeros(b, 64);
}
static void b_align3(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_int(b, "general.alignment", 48);
}
static void b_align0(bt_buf *b)
{
    gb_head(b, 3, 0, 1);
    gb_int(b, "general.alignment", 0);
}

/* One tensor with this description and `data` bytes behind it. */
static void one_tensor(bt_buf *b, const char *name, uint32_t n_dims, const uint64_t *dim,
                       uint32_t format, uint64_t offset, size_t data)
{
    gb_head(b, 3, 1, 0);
    gb_tensor(b, name, n_dims, dim, format, offset);
    gb_pad(b, 32);
    gb_zeros(b, data);
}
static void b_dims0(bt_buf *b)
{
    one_tensor(b, "x", 0, NULL, 0, 0, 64);
}
static void b_dims5(bt_buf *b)
{
    static const uint64_t dim[] = {1, 1, 1, 1, 1};
    one_tensor(b, "x", 5, dim, 0, 0, 64);
}
static void b_dim_zero(bt_buf *b)
{
    static const uint64_t dim[] = {8, 0};
    one_tensor(b, "x", 2, dim, 0, 0, 64);
}
static void b_dim_wraps(bt_buf *b)
{
    static const uint64_t dim[] = {1ull << 32, 1ull << 32};
    one_tensor(b, "x", 2, dim, 0, 0, 64);
}
static void b_bytes_wrap(bt_buf *b)
{
    static const uint64_t dim[] = {1ull << 61, 2};
    one_tensor(b, "x", 2, dim, 0, 0, 64);
}
static void b_foreign(bt_buf *b)
{
    one_tensor(b, "blk.0.ffn_up.weight", 1, dim_8, 19, 0, 64);
}
static void b_format_high(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, UINT32_MAX, 0, 64);
}
static void b_format_own(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, BT_FORMAT_INT8G, 0, 64);
}
static void b_block(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, BT_FORMAT_Q8_0, 0, 64);
}
static void b_unaligned(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, 0, 16, 64);
}
static void b_past_end(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, 0, 0, 20);
}
static void b_offset_wraps(bt_buf *b)
{
    one_tensor(b, "x", 1, dim_8, 0, UINT64_MAX - 31, 64);
}
static void b_no_data(bt_buf *b)
{
    gb_head(b, 3, 1, 0);
    gb_tensor(b, "x", 1, dim_8, 0, 0);
}
static void b_tensor_name(bt_buf *b)
{
    one_tensor(b, "", 1, dim_8, 0, 0, 64);
}
static void b_tensor_twice(bt_buf *b)
{
    gb_head(b, 3, 2, 0);
    gb_tensor(b, "x", 1, dim_8, 0, 0);
    gb_tensor(b, "x", 1, dim_8, 0, 32);
    gb_zeros(b, 128);
}
static void b_overlap(bt_buf *b)
{
    gb_head(b, 3, 3, 0);
    gb_tensor(b, "c", 1, dim_8, 0, 96);
    gb_tensor(b, "a", 2, dim_8x2, 0, 0);
    gb_tensor(b, "b", 1, dim_8, 0, 32);
    gb_zeros(b, 256);
}

static const struct refusal {
    void (*build)(bt_buf *b);
    bt_status code;
    const char *says;
} refusals[] = {
    {b_empty, BT_EFORMAT, "F is empty"},
    {b_lfs, BT_EFORMAT, "F is a Git LFS pointer"},
    {b_zip, BT_EFORMAT, "F is a zip archive"},
    {b_pickle, BT_EFORMAT, "F is a pickle"},
    {b_safetensors, BT_EUNSUPPORTED, "F is a safetensors file"},
    {b_html, BT_EFORMAT, "F is a web page"},
    {b_ggjt, BT_EFORMAT, "F is a GGJT file"},
    {b_noise, BT_EFORMAT, "F is a text (\"what is this\"), not a GGUF file"},
    {b_version0, BT_EUNSUPPORTED, "GGUF version 0"},
    {b_version1, BT_EUNSUPPORTED, "F is GGUF version 1 of 2023"},
    {b_version4, BT_EUNSUPPORTED, "F is GGUF version 4; versions 2 and 3 are read"},
    {b_big_endian, BT_EUNSUPPORTED, "F is a big-endian GGUF file"},
    {b_many_keys, BT_EFORMAT, "F claims 18446744073709551615 keys, more than its 88 bytes"},
    {b_many_tensors, BT_EFORMAT, "F claims 1152921504606846976 tensors"},
    {b_long_key, BT_EFORMAT, "F ends inside a key, after 96 bytes"},
    {b_control_key, BT_EFORMAT, "key 'a?b' is empty, too long or holds control characters"},
    {b_no_key, BT_EFORMAT, "key '' is empty"},
    {b_twice, BT_EFORMAT, "key 'same' is there twice"},
    {b_type13, BT_EFORMAT, "key 'odd' has the unknown value type 13"},
    {b_elem99, BT_EFORMAT, "key 'odd' has the unknown value type 99"},
    {b_nested, BT_EUNSUPPORTED, "key 'deep' is an array of arrays"},
    {b_bool2, BT_EFORMAT, "key 'flag' holds a truth value that is neither 0 nor 1"},
    {b_string_past, BT_EFORMAT, "value of key 'text' goes past the end of the file"},
    {b_array_past, BT_EFORMAT, "value of key 'list' goes past the end of the file"},
    {b_strings_past, BT_EFORMAT, "value of key 'words' goes past the end of the file"},
    {b_align3, BT_EFORMAT, "general.alignment is 48, not a power of two"},
    {b_align0, BT_EFORMAT, "key 'general.alignment' is 0"},
    {b_dims0, BT_EFORMAT, "tensor 'x' has 0 dimensions"},
    {b_dims5, BT_EFORMAT, "tensor 'x' has 5 dimensions"},
    {b_dim_zero, BT_EFORMAT, "dimension 1 of tensor 'x' is 0"},
    {b_dim_wraps, BT_EFORMAT, "dimension 1 of tensor 'x' is 4294967296, which cannot be"},
    {b_bytes_wrap, BT_EFORMAT, "tensor 'x' is larger than any file"},
    {b_foreign, BT_EUNSUPPORTED, "'blk.0.ffn_up.weight' has the unknown format 19 (IQ1_S)"},
    {b_format_high, BT_EUNSUPPORTED, "tensor 'x' has the unknown format 4294967295;"},
    {b_format_own, BT_EUNSUPPORTED, "tensor 'x' has the unknown format 1000;"},
    {b_block, BT_EFORMAT, "rows of tensor 'x' have 8 elements, no multiple of Q8_0's block of 32"},
    {b_unaligned, BT_EFORMAT, "tensor 'x' starts at 16, no multiple of the alignment 32"},
    {b_past_end, BT_EFORMAT, "F ends too early: 12 bytes are missing (it has 84)"},
    {b_offset_wraps, BT_EFORMAT, "F ends too early: 18446744073709551"},
    {b_no_data, BT_EFORMAT, "F ends inside its header"},
    {b_tensor_name, BT_EFORMAT, "the tensor name '' is empty"},
    {b_tensor_twice, BT_EFORMAT, "tensor 'x' is there twice"},
    {b_overlap, BT_EFORMAT, "tensors 'a' and 'b' overlap"},
};

static void refusals_say_why(void)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        bt_buf b = BT_BUF_INIT;
        bt_gguf *g = NULL;
        bt_err err = {0};
        refusals[i].build(&b);
        CHECK_INT(bt_gguf_open_memory(b.data, b.len, "F", &g, &err), refusals[i].code);
        CHECK(g == NULL);
        bool says_why = strstr(err.msg, refusals[i].says);
        CHECK(says_why);
        if (!says_why) fprintf(stderr, "got: %s\nnot: %s\n", err.msg, refusals[i].says);
        CHECK(strlen(err.msg) + 1 < sizeof err.msg);
        bt_gguf_close(g);
        bt_buf_release(&b);
    }
}

/* Uses everything an open file offers, so that sanitizers see what damage could reach. */
static bool walk_string(void *ud, size_t i, bt_str s)
{
    (void)i;
    for (size_t k = 0; k < s.n; k++) *(unsigned *)ud += (unsigned char)s.s[k];
    return true;
}

static unsigned walk(const bt_gguf *g)
{
    unsigned sum = 0;
    for (size_t i = 0; i < bt_gguf_n_keys(g); i++) {
        char key[4200] = "";
        bt_str k = bt_gguf_key_at(g, i);
        memcpy(key, k.s, k.n);
        size_t n;
        int elem = bt_gguf_array(g, key, &n);
        bt_gguf_each_string(g, key, walk_string, &sum);
        for (size_t j = 0; elem >= 0 && elem != BT_GGUF_STRING && j < n; j++)
            sum += (unsigned)bt_gguf_array_int(g, key, j) +
                   (bt_gguf_array_float(g, key, j) > 0 ? 1u : 0u);
        bt_str s = {0};
        if (bt_gguf_string(g, key, &s, NULL) == BT_OK) walk_string(&sum, 0, s);
    }
    for (size_t i = 0; i < bt_gguf_n_tensors(g); i++) {
        const bt_gguf_tensor *t = bt_gguf_tensor_at(g, i);
        walk_string(&sum, 0, (bt_str){t->data, t->bytes});
    }
    return sum;
}

static bt_status open_copy(const char *data, size_t n, bt_err *err)
{
    bt_gguf *g = NULL;
    char *exact = malloc(n ? n : 1); // its own block: one byte too far is seen
    REQUIRE(exact);
    memcpy(exact, data, n);
    bt_status s = bt_gguf_open_memory(exact, n, "cut", &g, err);
    if (!s) walk(g);
    bt_gguf_close(g);
    free(exact);
    return s;
}

static void every_prefix_is_refused(void)
{
    bt_buf b = BT_BUF_INIT;
    build_small(&b);
    for (size_t n = 0; n < b.len; n++) {
        bt_err err = {0};
        bool opens = open_copy(b.data, n, &err) == BT_OK;
        CHECK(!opens);
        if (opens) fprintf(stderr, "opened with %zu of %zu bytes\n", n, b.len);
        CHECK(err.msg[0]);
    }
    CHECK_INT(open_copy(b.data, b.len, NULL), BT_OK);
    bt_buf_addc(&b, 0); // padding behind the last tensor is common
    CHECK_INT(open_copy(b.data, b.len, NULL), BT_OK);
    bt_buf_release(&b);
}

static void every_corrupt_byte_is_survived(void)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff, 0x20, 0x04};
    bt_buf b = BT_BUF_INIT;
    int opened = 0, refused = 0;
    build_small(&b);
    for (size_t at = 0; at < b.len; at++)
        for (size_t f = 0; f < sizeof flips; f++) {
            b.data[at] = (char)(b.data[at] ^ flips[f]);
            if (open_copy(b.data, b.len, NULL) == BT_OK)
                opened++;
            else
                refused++;
            b.data[at] = (char)(b.data[at] ^ flips[f]);
        }
    CHECK(opened > 100 && refused > 100);
    bt_buf_release(&b);
}

static void every_failed_allocation_is_survived(void)
{
    bt_buf b = BT_BUF_INIT;
    build_small(&b);
    int n = 1;
    for (;; n++) {
        bt_gguf *g = NULL;
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status s = bt_gguf_open_memory(b.data, b.len, "small", &g, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(s, failed ? BT_ENOMEM : BT_OK);
        CHECK(failed ? !g && strstr(err.msg, "out of memory") : g != NULL);
        bt_gguf_close(g);
        if (!failed) break;
    }
    CHECK(n > 5);
    bt_buf_release(&b);
}

static void real_files_and_what_is_no_file(void)
{
    char dir[] = "/tmp/baton-gguf-XXXXXX", path[64];
    bt_gguf *g = NULL;
    bt_err err = {0};
    CHECK_INT(bt_gguf_open("models/stories260K.gguf", &g, &err), BT_OK);
    REQUIRE(g);
    CHECK_INT(bt_gguf_n_tensors(g), 48);
    const bt_gguf_tensor *t = bt_gguf_tensor_find(g, "blk.4.ffn_down.weight");
    CHECK(t && t->dim[0] == 172 && t->dim[1] == 64);
    size_t n = 0;
    CHECK_INT(bt_gguf_array(g, "tokenizer.ggml.tokens", &n), BT_GGUF_STRING);
    CHECK_INT(n, 512);
    bt_gguf_close(g);
    g = NULL;

    REQUIRE(mkdtemp(dir));
    CHECK_INT(bt_gguf_open(dir, &g, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "is not a regular file"));
    snprintf(path, sizeof path, "%s/none.gguf", dir);
    CHECK_INT(bt_gguf_open(path, &g, &err), BT_ENOTFOUND);
    CHECK(strstr(err.msg, path) && strstr(err.msg, "No such file"));
    CHECK_INT(bt_not_gguf_path(path, "F", EACCES, &err), BT_EIO);
    CHECK(strstr(err.msg, "cannot open F: Permission denied; the user with id "));
    REQUIRE(mkfifo(path, 0600) == 0);
    CHECK_INT(bt_gguf_open(path, &g, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "not a regular file"));
    unlink(path);
    FILE *f = fopen(path, "wb");
    REQUIRE(f);
    fclose(f);
    CHECK_INT(bt_gguf_open(path, &g, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "none.gguf is empty"));
    CHECK(!g);
    unlink(path);
    rmdir(dir);
}

/* A vocabulary of Qwen's or Llama 3's size: opening must not be felt. */
static void large_vocabularies_open_fast(void)
{
    bt_buf b = BT_BUF_INIT;
    char word[32];
    gb_head(&b, 3, 0, 2);
    gb_array(&b, "tokenizer.ggml.tokens", BT_GGUF_STRING, 150000);
    for (int i = 0; i < 150000; i++) {
        snprintf(word, sizeof word, "token%d", i);
        gb_str(&b, word);
    }
    gb_array(&b, "tokenizer.ggml.merges", BT_GGUF_STRING, 280000);
    for (int i = 0; i < 280000; i++) gb_str(&b, "some thing");
    REQUIRE(!b.failed);
    bt_gguf *g = NULL;
    int64_t best = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        int64_t t0 = bt_now_ns();
        CHECK_INT(bt_gguf_open_memory(b.data, b.len, "vocab", &g, NULL), BT_OK);
        int64_t took = bt_now_ns() - t0;
        best = took < best ? took : best;
        bt_gguf_close(g);
    }
    fprintf(stderr, "150k tokens and 280k merges open in %.2f ms\n", (double)best * 1e-6);
    CHECK(best < 15000000);
    bt_buf_release(&b);
}

static void many_names_are_found(void)
{
    enum { N = 3000 };
    bt_buf b = BT_BUF_INIT;
    char name[32];
    bt_gguf *g = NULL;
    gb_head(&b, 2, N, N);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        gb_int(&b, name, i);
    }
    for (uint32_t i = 0; i < N; i++) { // in falling order: the overlap check must sort
        snprintf(name, sizeof name, "tensor.%u", i);
        gb_tensor(&b, name, 1, dim_8, BT_FORMAT_F32, (uint64_t)(N - 1 - i) * 32);
    }
    gb_pad(&b, 32);
    gb_zeros(&b, (size_t)N * 32);
    CHECK_INT(bt_gguf_open_memory(b.data, b.len, "many", &g, NULL), BT_OK);
    REQUIRE(g);
    for (uint32_t i = 0; i < N; i++) {
        int64_t v = -1;
        snprintf(name, sizeof name, "key.%u", i);
        CHECK(bt_gguf_int(g, name, 0, N, &v, NULL) == BT_OK && v == i);
        snprintf(name, sizeof name, "tensor.%u", i);
        CHECK(bt_gguf_tensor_find(g, name) == bt_gguf_tensor_at(g, i));
    }
    CHECK(!bt_gguf_tensor_find(g, "tensor.3000"));
    bt_gguf_close(g);
    bt_buf_release(&b);
}

static void strings_are_shown_safely(void)
{
    char wide[200];
    memset(wide, 'w', sizeof wide);
    CHECK_STR(bt_str_shown((bt_str){"a\x1b[31m\xc3\xa9", 8}).s, "a?[31m??");
    CHECK_INT(strlen(bt_str_shown((bt_str){wide, sizeof wide}).s), 67);
    CHECK_INT(strlen(bt_str_shown((bt_str){wide, 64}).s), 64);
}

int main(void)
{
    RUN(reads_every_type);
    RUN(scalars_refuse_by_name);
    RUN(refusals_say_why);
    RUN(every_prefix_is_refused);
    RUN(every_corrupt_byte_is_survived);
    RUN(every_failed_allocation_is_survived);
    RUN(real_files_and_what_is_no_file);
    RUN(large_vocabularies_open_fast);
    RUN(many_names_are_found);
    RUN(strings_are_shown_safely);
    return TEST_END();
}
