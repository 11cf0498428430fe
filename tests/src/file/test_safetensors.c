/* SPDX-License-Identifier: Apache-2.0 */
/* test_safetensors.c - files and indexes, sound and broken: read as meant, or refused with a
 * sentence that names file and field. */
#include "base/buf.h"
#include "base/mem.h"
#include "file/safetensors.h"
#include "file/safetensors_index.h"
#include "test.h"
#include <sys/stat.h>
#include <unistd.h>

/* A file: the header's length, the header, n bytes of data that count up. */
static void build(bt_buf *b, const char *header, size_t n)
{
    uint64_t len = strlen(header);
    bt_buf_clear(b);
    bt_buf_add(b, &len, sizeof len);
    bt_buf_adds(b, header);
    for (size_t i = 0; i < n; i++) bt_buf_addc(b, (char)i);
}

static void expect(const char *header, size_t n, bt_status code, const char *says)
{
    bt_buf b = BT_BUF_INIT;
    bt_safetensors *s = NULL;
    bt_err err = {0};
    build(&b, header, n);
    CHECK_INT(bt_safetensors_open_memory(b.data, b.len, "F", &s, &err), code);
    bool as_said = strstr(err.msg, says) && !s == (code != BT_OK);
    CHECK(as_said);
    if (!as_said) fprintf(stderr, "%s\ngot: %s\nnot: %s\n", header, err.msg, says);
    bt_safetensors_close(s);
    bt_buf_release(&b);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"

static void reads(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_safetensors *s = NULL;
    bt_err err = {0};
    build(
        &b,
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"z\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]},"
        "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[24,24]}," A ","
        "\"t\\u0061b\":{\"shape\":[2,1,3,1,2],\"data_offsets\":[26,38],\"dtype\":\"F8_E4M3\"},"
        "\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[38,46],\"more\":{\"x\":[1]}}}   ",
        46);
    CHECK_INT(bt_safetensors_open_memory(b.data, b.len, "F", &s, &err), BT_OK);
    REQUIRE(s);
    CHECK_INT(bt_safetensors_n_tensors(s), 5);
    const bt_file_tensor *a = bt_safetensors_find(s, "a"), *z = bt_safetensors_find(s, "z");
    const bt_file_tensor *tab = bt_safetensors_find(s, "tab");
    REQUIRE(a && z && tab && bt_safetensors_find(s, "none") && !bt_safetensors_find(s, "b"));
    const char *data = b.data + b.len - 46;
    CHECK(a->data == data && a->bytes == 24 && a->format == BT_FORMAT_F32 && a->n_dims == 2);
    CHECK(a->dim[0] == 3 && a->dim[1] == 2 && a->dim[2] == 1 && a->dim[3] == 1);
    CHECK(z->data == data + 24 && z->n_dims == 0 && z->dim[0] == 1 && z->bytes == 2);
    CHECK(tab->n_dims == 5 && tab->dim[0] == 2 && tab->dim[2] == 3 && tab->dim[3] == 2);
    CHECK_INT(tab->format, BT_FORMAT_F8_E4M3);
    CHECK(bt_safetensors_at(s, 0) == z);
    bt_safetensors_close(s);
    bt_buf_release(&b);
    expect("{}", 0, BT_OK, "");
    expect("{" A "}", 24, BT_OK, "");
}

static void refusals(void)
{
    static const struct {
        const char *header;
        size_t n;
        const char *says;
    } row[] = {
        {"{" A "}", 23, "tensor 'a' lacks 1 bytes"},
        {"{" A "}", 25, "the last 1 bytes belong to no tensor"},
        {"{" A "," A "}", 24, "tensor"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[20,24]}}", 24,
         "tensors 'a' and 'b' overlap"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[28,32]}}", 32,
         "4 bytes before tensor 'b'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,20]}}", 20,
         "tensor 'a' has 6 numbers of F32 by its 'shape', and 20 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,-3],\"data_offsets\":[0,24]}}", 24,
         "a dimension in 'shape'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1.5],\"data_offsets\":[0,24]}}", 24,
         "a dimension in 'shape'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,24]}}",
         24, "larger than any file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,24]}}", 24,
         "by its 'shape'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"
         "\"data_offsets\":[0,4]}}",
         4, "more than 16 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":6,\"data_offsets\":[0,24]}}", 24, "no list"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "'dtype'"},
        {"{\"a\":{\"dtype\":3,\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "'dtype'"},
        {"{\"a\":{\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "lacks its 'dtype'"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,24]}}", 24, "'shape'"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24,
         "tensor 'a' is described twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[24,0]}}", 24, "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0]}}", 24, "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24,1]}}", 24,
         "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":\"x\"}}", 24, "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,18446744073709551615]}}", 24,
         "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":"
         "[9223372036854775783,9223372036854775807]}}",
         24, "lacks"},
        {"{\"a\":7}", 0, "tensor 'a' is described by no object"},
        {"{\"\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "tensor name"},
        {"{\"a\\n\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, "tensor name"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "3 numbers of F4"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "'__metadata__' holds more than strings"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "'__metadata__' is there twice"},
        {"{" A "", 24, "the header is not sound"},
        {"{" A "}}", 24, "the header is not sound"},
        {"{" A "} \xff", 24, "the header is not sound"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        expect(row[i].header, row[i].n, BT_EFORMAT, row[i].says);
    expect("{" A ",\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]}}", 28,
           BT_EFORMAT, "tensor 'a' is there twice");
}

/* What is no such file says what it is. */
static void other_files(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } row[] = {
        {"", 0, "empty"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", 58, "Git LFS pointer"},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16, "a GGUF file"},
        {"PK\3\4aaaaaaaaaaaa", 16, "a zip archive"},
        {"<html>not found</html>", 22, "a web page"},
        {"\x80\2ccccccccccc", 13, "does not begin with a header"},
        {"\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "claims a header of 9223372036854775807 bytes"},
        {"\x40\0\0\0\0\0\0\0{}", 10, "ends inside its header"},
        {"\2\0\0\0", 4, "ends inside its header"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_safetensors *s = NULL;
        bt_err err = {0};
        CHECK_INT(bt_safetensors_open_memory(row[i].bytes, row[i].n, "F", &s, &err), BT_EFORMAT);
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s, not %s\n", err.msg, row[i].says);
        CHECK(strstr(err.msg, row[i].says) && !s);
    }
}

/* Each prefix of a sound file is refused, and so is each that has one more byte. */
static void truncation(void)
{
    bt_buf b = BT_BUF_INIT;
    build(&b, "{" A ",\"b\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[24,32]}}", 32);
    for (size_t n = 0; n < b.len; n++) {
        bt_safetensors *s = NULL;
        bt_err err = {0};
        char *exact = malloc(n + !n);
        REQUIRE(exact);
        memcpy(exact, b.data, n);
        CHECK_INT(bt_safetensors_open_memory(exact, n, "cut", &s, &err), BT_EFORMAT);
        CHECK(!s && strncmp(err.msg, "cut ", 4) == 0);
        free(exact);
    }
    bt_buf_release(&b);
}

/* Every allocation may fail. */
static void out_of_memory(void)
{
    bt_buf b = BT_BUF_INIT;
    build(&b, "{" A ",\"\\u0062\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[24,32]}}",
          32);
    for (long n = 1;; n++) {
        bt_safetensors *s = NULL;
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status st = bt_safetensors_open_memory(b.data, b.len, "F", &s, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        bt_safetensors_close(s);
        if (!failed) break;
        CHECK(st == BT_ENOMEM && err.msg[0]);
    }
    bt_buf_release(&b);
}

/* Files on disk --------------------------------------------------------------------------------*/

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][200];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, 200, "%s/%s", folder, name);
    return p;
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    REQUIRE(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void put_part(const char *name, const char *tensor)
{
    char header[200];
    bt_buf b = BT_BUF_INIT;
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", tensor);
    build(&b, header, 8);
    put(name, b.data, b.len);
    bt_buf_release(&b);
}

static void expect_open(const char *name, bt_status code, const char *says)
{
    bt_safetensors *s = NULL;
    bt_err err = {0};
    CHECK_INT(bt_safetensors_open(in_folder(name), &s, &err), code);
    bool as_said = strstr(err.msg, says) && !s == (code != BT_OK);
    CHECK(as_said && strlen(err.msg) + 1 < sizeof err.msg);
    if (!as_said) fprintf(stderr, "got: %s\nnot: %s\n", err.msg, says);
    bt_safetensors_close(s);
}

static void expect_index(const char *text, bt_status code, const char *says)
{
    put("model.safetensors.index.json", text, strlen(text));
    expect_open("model.safetensors.index.json", code, says);
}

static void parts(void)
{
    bt_safetensors *s = NULL;
    snprintf(folder, sizeof folder, "/tmp/baton-safetensors-XXXXXX");
    REQUIRE(mkdtemp(folder));
    put_part("m-1.safetensors", "a");
    put_part("m-2.safetensors", "b");
    put_part("m-3.safetensors", "a");
    put("cut.safetensors", "\2\0\0\0", 4);
    put("none.safetensors", "", 0);
    expect_index("{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"m-1.safetensors\","
                 "\"b\":\"m-2.safetensors\"}}",
                 BT_OK, "");
    REQUIRE(!bt_safetensors_open(in_folder("model.safetensors.index.json"), &s, NULL));
    CHECK_INT(bt_safetensors_n_tensors(s), 2);
    CHECK(bt_safetensors_find(s, "a") && bt_safetensors_find(s, "b"));
    CHECK(strstr(bt_safetensors_label(s), "index.json"));
    bt_safetensors_close(s);
    expect_index("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-9.safetensors\"}}",
                 BT_ENOTFOUND, "m-9.safetensors is missing beside");
    expect_index("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}}",
                 BT_EFORMAT, "lacks the tensor 'b'");
    expect_index("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}}",
                 BT_EFORMAT, "tensor 'a' is there twice");
    expect_index("{\"weight_map\":{\"a\":\"cut.safetensors\"}}", BT_EFORMAT,
                 "cut.safetensors ends");
    expect_index("{\"weight_map\":{\"a\":\"none.safetensors\"}}", BT_EFORMAT, "empty");
    expect_open("m-1.safetensors", BT_OK, "");
    expect_open("m-4.safetensors", BT_ENOTFOUND, "cannot open");
    expect_open("pytorch_model.bin", BT_EUNSUPPORTED, "PyTorch pickle");
    mkdir(in_folder("d.safetensors"), 0700);
    expect_open("d.safetensors", BT_EFORMAT, "not a regular file");
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK_INT(system(command), 0);
}

static void indexes(void)
{
    static const struct {
        const char *text;
        bt_status code;
        const char *says;
    } row[] = {
        {"{\"weight_map\":{\"a\":\"../m.safetensors\"}}", BT_EFORMAT, "none beside it"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", BT_EFORMAT, "none beside it"},
        {"{\"weight_map\":{\"a\":\"\"}}", BT_EFORMAT, "none beside it"},
        {"{\"weight_map\":{\"a\":\".\"}}", BT_EFORMAT, "none beside it"},
        {"{\"weight_map\":{\"a\":\"pytorch_model-1.bin\"}}", BT_EUNSUPPORTED, "PyTorch pickle"},
        {"{\"weight_map\":{\"a\":\"m.gguf\"}}", BT_EUNSUPPORTED, "no .safetensors file"},
        {"{\"weight_map\":{\"a\":1}}", BT_EFORMAT, "no file for tensor 'a'"},
        {"{\"weight_map\":{\"\\u0000\":\"m.safetensors\"}}", BT_EFORMAT, "tensor name"},
        {"{\"weight_map\":[]}", BT_EFORMAT, "not an object"},
        {"{\"weight_map\":{}}", BT_EFORMAT, "no 'weight_map'"},
        {"{\"metadata\":{}}", BT_EFORMAT, "no 'weight_map'"},
        {"{\"weight_map\":{\"a\":\"m.safetensors\"},\"weight_map\":{\"a\":\"m.safetensors\"}}",
         BT_EFORMAT, "two members"},
        {"{\"weight_map\":{\"a\":\"m.safetensors\"}", BT_EFORMAT, "no sound index"},
        {"[]", BT_EFORMAT, "an object was expected"},
        {"", BT_EFORMAT, "no sound index"},
    };
    bt_safetensors_index x = {0};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_err err = {0};
        CHECK_INT(bt_safetensors_index_read(row[i].text, strlen(row[i].text), "I", &x, &err),
                  row[i].code);
        CHECK(strstr(err.msg, row[i].says));
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s, not %s\n", err.msg, row[i].says);
    }
    static const char sound[] = "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"\\u0062\":\"m-2."
                                "safetensors\",\"c\":\"m-1.safetensors\"}}";
    CHECK_INT(bt_safetensors_index_read(sound, sizeof sound - 1, "I", &x, NULL), BT_OK);
    REQUIRE(x.n_entries == 3 && x.n_parts == 2);
    CHECK(x.entry[1].part == 1 && x.entry[2].part == 0);
    CHECK(x.entry[1].name.n == 1 && x.entry[1].name.s[0] == 'b');
    CHECK_STR(x.part[1], "m-2.safetensors");
    bt_safetensors_index_release(&x);
    for (size_t n = 0; n < sizeof sound - 1; n++)
        CHECK_INT(bt_safetensors_index_read(sound, n, "I", &x, NULL), BT_EFORMAT);
}

int main(void)
{
    RUN(reads);
    RUN(refusals);
    RUN(other_files);
    RUN(truncation);
    RUN(out_of_memory);
    RUN(parts);
    RUN(indexes);
    return TEST_END();
}
