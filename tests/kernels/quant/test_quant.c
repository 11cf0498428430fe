/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* Conversions against the gguf package's, bit for bit (tests/data/quant), and their error bounds.
 */
#include "test.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/quant/quant.h"

enum { COUNT = 1024 };

/* |x - dequant(quant(x))| <= scale * (largest magnitude of the block) + the format's smallest step.
 * Q8_0: half a step of amax / 127 and the scale's own rounding. Q4_0 and Q5_0: a whole step of
 * amax / 8 or 16 on the side that is cut to 15 or 31. Q4_1 and Q5_1: half a step of 2 amax / 15 or
 * 31. MXFP4: 8 is cut to 6. */
static const struct {
    int32_t format;
    const char *name;
    double scale, floor;
} formats[] = {
    {BT_FORMAT_F32, "F32", 0, 0},
    {BT_FORMAT_F16, "F16", 0x1p-11, 0x1p-25},
    {BT_FORMAT_BF16, "BF16", 0x1p-8, 0},
    {BT_FORMAT_Q8_0, "Q8_0", 0.5 / 127 + 0x1p-11, 127 * 0x1p-25},
    {BT_FORMAT_Q4_0, "Q4_0", 1.0 / 8 + 0x1p-10, 8 * 0x1p-25},
    {BT_FORMAT_Q4_1, "Q4_1", 1.0 / 15 + 0x1p-9, 16 * 0x1p-25},
    {BT_FORMAT_Q5_0, "Q5_0", 1.0 / 16 + 0x1p-10, 16 * 0x1p-25},
    {BT_FORMAT_Q5_1, "Q5_1", 1.0 / 31 + 0x1p-9, 32 * 0x1p-25},
    {BT_FORMAT_MXFP4, "MXFP4", 0.25, 0},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* The same bound for blocks that Baton quantizes in its own way: half a step, what rounding the
 * scales to their integers adds, and a margin, because least squares lowers the squared error, not
 * the largest. Steps are up to 2 / 15 (4 bits), 2 / 31 (Q5_K) and 1 / 32 (Q6_K) of the largest
 * magnitude; half of 2^-24, the smallest step of the F16 d, is multiplied by the largest integers
 * that meet it. */
static const struct {
    int32_t format;
    const char *name;
    bool golden;
    double scale, floor;
} own_formats[] = {
    {BT_FORMAT_Q2_K, "Q2_K", true, 0.7, 15 * 4 * 0x1p-25},
    {BT_FORMAT_Q3_K, "Q3_K", true, 0.3, 32 * 4 * 0x1p-25},
    {BT_FORMAT_Q4_K, "Q4_K", true, 0.14, 63 * 16 * 0x1p-25},
    {BT_FORMAT_Q5_K, "Q5_K", true, 0.075, 63 * 32 * 0x1p-25},
    {BT_FORMAT_Q6_K, "Q6_K", true, 0.03, 128 * 32 * 0x1p-25},
    {BT_FORMAT_IQ4_NL, "IQ4_NL", true, 0.12, 127 * 0x1p-25},
    {BT_FORMAT_IQ4_XS, "IQ4_XS", true, 0.14, 32 * 127 * 0x1p-25},
    {BT_FORMAT_INT8G, "INT8G", false, 0.5 / 127 + 0x1p-11, 127 * 0x1p-25},
    {BT_FORMAT_INT4G, "INT4G", false, 0.1, 16 * 0x1p-25},
};
enum { N_OWN = sizeof own_formats / sizeof *own_formats };

/* Reads exactly `bytes` bytes of a golden file. */
static void golden(const char *name, const char *ext, void *dst, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/tests/data/quant/%s.%s", BATON_SOURCE_DIR, name, ext);
    FILE *f = fopen(path, "rb");
    if (!f) fprintf(stderr, "cannot open %s\n", path);
    REQUIRE(f != NULL);
    size_t got = fread(dst, 1, bytes, f);
    int more = fgetc(f);
    fclose(f);
    REQUIRE(got == bytes);
    REQUIRE(more == EOF);
}

/* Same bits, any NaN counting as the same. */
static int count_unequal(const float *a, const float *b, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) bad++;
    return bad;
}

static void golden_dequantize(void)
{
    for (size_t f = 1; f < N_FORMATS; f++) {
        size_t bytes = bt_format_bytes(formats[f].format, COUNT);
        uint8_t *packed = bt_must(bt_malloc(2 * bytes + 1)); // at an odd address
        float want[2 * COUNT], got[2 * COUNT];
        golden(formats[f].name, "bin", packed + 1, bytes);
        golden(formats[f].name, "bits", packed + 1 + bytes, bytes);
        golden(formats[f].name, "f32", want, sizeof want);
        CHECK(bt_dequant_ref(formats[f].format, packed + 1, 2 * COUNT, got));
        int bad = count_unequal(got, want, 2 * COUNT);
        if (bad) fprintf(stderr, "format %s\n", formats[f].name);
        CHECK_INT(bad, 0);
        bt_free(packed);
    }
}

/* Random bits as blocks, each exactly as long as a file's, at an odd address. */
static void golden_super_blocks(void)
{
    enum { ELEMS = 2 * COUNT };
    for (size_t f = 0; f < N_OWN; f++) {
        if (!own_formats[f].golden) continue;
        size_t bytes = bt_format_bytes(own_formats[f].format, ELEMS);
        uint8_t *packed = bt_must(bt_malloc(bytes + 1));
        float want[ELEMS], got[ELEMS];
        golden(own_formats[f].name, "bits", packed + 1, bytes);
        golden(own_formats[f].name, "f32", want, sizeof want);
        CHECK(bt_dequant_ref(own_formats[f].format, packed + 1, ELEMS, got));
        int bad = count_unequal(got, want, ELEMS);
        if (bad) fprintf(stderr, "format %s\n", own_formats[f].name);
        CHECK_INT(bad, 0);
        bt_free(packed);
    }
}

static void golden_quantize(void)
{
    float x[COUNT];
    golden("input", "f32", x, sizeof x);
    for (size_t f = 1; f < N_FORMATS; f++) {
        size_t bytes = bt_format_bytes(formats[f].format, COUNT), bad = 0;
        uint8_t *want = bt_must(bt_malloc(bytes)), *got = bt_must(bt_malloc(bytes));
        golden(formats[f].name, "bin", want, bytes);
        CHECK(bt_quant_ref(formats[f].format, x, COUNT, got));
        for (size_t i = 0; i < bytes; i++) bad += want[i] != got[i];
        if (bad) fprintf(stderr, "format %s\n", formats[f].name);
        CHECK_INT(bad, 0);
        bt_free(want);
        bt_free(got);
    }
}

static void round_trip_bounds(void)
{
    for (size_t f = 0; f < N_FORMATS; f++) {
        int32_t elems = bt_format_get(formats[f].format)->elems, bad = 0;
        double worst = 0;
        for (uint64_t b = 0; b < 3000; b++) {
            float x[32], y[32];
            uint8_t packed[128];
            float size = ldexpf(1, (int)(bt_rng_u64(5, b) % 24) - 16);
            for (uint64_t i = 0; i < 32; i++)
                x[i] = size * (float)(bt_rng_unit(6, b * 32 + i) * 2 - 1);
            bt_quant_ref(formats[f].format, x, 32, packed);
            bt_dequant_ref(formats[f].format, packed, 32, y);
            for (int i = 0; i < 32; i++) {
                double amax = 0;
                for (int j = elems == 1 ? i : 0; j < (elems == 1 ? i + 1 : 32); j++)
                    amax = fmax(amax, fabs((double)x[j]));
                double error = fabs((double)x[i] - (double)y[i]);
                if (size >= 0x1p-7f) worst = fmax(worst, amax > 0 ? error / amax : 0);
                bad += !(error <= formats[f].scale * amax + formats[f].floor);
            }
        }
        fprintf(stderr, "     %-5s worst error %.5f of the block's largest\n", formats[f].name,
                worst);
        CHECK_INT(bad, 0);
    }
}

/* Numbers of a super-block in one of several shapes: spread, one-sided, with outliers, constant,
 * sparse. */
static void own_input(uint64_t b, float x[256])
{
    float size = ldexpf(1, (int)(bt_rng_u64(7, b) % 20) - 12);
    for (uint64_t i = 0; i < 256; i++) {
        float u = (float)(bt_rng_unit(8, b * 256 + i) * 2 - 1);
        switch (b % 6) {
        case 0: break;
        case 1: u = fabsf(u); break;
        case 2: u = u * 0.05f + (i % 61 == 7 ? 1.0f : 0.0f); break;
        case 3: u = 0.7f; break;
        case 4: u = i % 5 ? 0 : -u; break;
        case 5: u = -fabsf(u) - 0.1f; break;
        }
        x[i] = u * size;
    }
}

static void own_bounds(void)
{
    for (size_t f = 0; f < N_OWN; f++) {
        int32_t format = own_formats[f].format, elems = bt_format_get(format)->elems, bad = 0;
        double worst = 0, squares = 0, energy = 0;
        for (uint64_t b = 0; b < 600; b++) {
            float x[256], y[256];
            uint8_t packed[260];
            own_input(b, x);
            CHECK(bt_quant_ref(format, x, 256, packed));
            CHECK(bt_dequant_ref(format, packed, 256, y));
            for (int i = 0; i < 256; i++) {
                double amax = 0, error = fabs((double)x[i] - (double)y[i]);
                for (int j = i / elems * elems; j < i / elems * elems + elems; j++)
                    amax = fmax(amax, fabs((double)x[j]));
                if (amax >= 0.01) worst = fmax(worst, error / amax);
                bad += !(error <= own_formats[f].scale * amax + own_formats[f].floor);
                if (b % 6 == 0 && amax >= 0.01) squares += error * error, energy += amax * amax;
            }
        }
        fprintf(stderr, "     %-5s worst error %.5f of the block's largest, rms %.5f\n",
                own_formats[f].name, worst, sqrt(squares / energy));
        CHECK_INT(bad, 0);
    }
}

/* --quant: any loadable format, row by row, as dequantizing and quantizing would; k of one group
 * more than a super-block where the format allows it. */
static void requant(void)
{
    static const int32_t to[] = {BT_FORMAT_INT8G, BT_FORMAT_INT4G};
    static const int32_t from[] = {BT_FORMAT_F32,  BT_FORMAT_F16,    BT_FORMAT_BF16, BT_FORMAT_Q8_0,
                                   BT_FORMAT_Q4_0, BT_FORMAT_Q5_1,   BT_FORMAT_Q2_K, BT_FORMAT_Q4_K,
                                   BT_FORMAT_Q6_K, BT_FORMAT_IQ4_XS, BT_FORMAT_MXFP4};
    for (size_t f = 0; f < sizeof from / sizeof *from; f++)
        for (size_t t = 0; t < 2; t++) {
            enum { ROWS = 3 };
            int32_t k = bt_format_get(from[f])->elems == 256 ? 512 : 384;
            size_t n = ROWS * (size_t)k;
            uint8_t *src = bt_must(bt_malloc(bt_format_bytes(from[f], n) + 1));
            uint8_t *want = bt_must(bt_malloc(bt_format_bytes(to[t], n)));
            uint8_t *got = bt_must(bt_malloc(bt_format_bytes(to[t], n) + 1));
            float *x = bt_must(bt_malloc(n * sizeof *x));
            for (size_t i = 0; i < n; i++) x[i] = (float)(bt_rng_unit(9, i) - 0.5);
            REQUIRE(bt_quant_ref(from[f], x, n, src + 1));
            CHECK(bt_requant_supported(from[f], to[t], k));
            CHECK(bt_requant(from[f], src + 1, to[t], ROWS, k, got + 1));
            REQUIRE(bt_dequant_ref(from[f], src + 1, n, x));
            REQUIRE(bt_quant_ref(to[t], x, n, want));
            CHECK_INT(memcmp(got + 1, want, bt_format_bytes(to[t], n)), 0);
            bt_free(src);
            bt_free(want);
            bt_free(got);
            bt_free(x);
        }
    CHECK(!bt_requant_supported(BT_FORMAT_F16, BT_FORMAT_INT8G, 576));
    CHECK(!bt_requant_supported(BT_FORMAT_Q4_K, BT_FORMAT_INT8G, 384));
    CHECK(!bt_requant_supported(BT_FORMAT_Q8_1, BT_FORMAT_INT8G, 512));
    CHECK(!bt_requant_supported(BT_FORMAT_F16, BT_FORMAT_Q8_0, 512));
    CHECK(!bt_requant_supported(BT_FORMAT_F16, BT_FORMAT_INT4G, 0));
    CHECK(!bt_requant(BT_FORMAT_F16, NULL, BT_FORMAT_INT4G, 1, 100, NULL));
}

/* Every F16 goes to f32 and back unchanged; and f32 values between two neighbours round to the
 * nearer, even on ties. */
static void f16_exhaustive(void)
{
    int back = 0, order = 0, ties = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = bt_f32_from_f16((uint16_t)h);
        if (isnan(f)) {
            back += !((bt_f16_from_f32(f) & 0x7C00) == 0x7C00 && (bt_f16_from_f32(f) & 0x3FF));
            continue;
        }
        back += bt_f16_from_f32(f) != h;
        if ((h & 0x7FFF) >= 0x7BFF) continue;
        float next = bt_f32_from_f16((uint16_t)(h + 1)), half = f + (next - f) / 2;
        order += !(fabsf(next) > fabsf(f));
        ties += bt_f16_from_f32(half) != ((h & 1) ? h + 1 : h);
        ties += bt_f16_from_f32(nextafterf(half, next)) != h + 1;
        ties += bt_f16_from_f32(nextafterf(half, f)) != h;
    }
    CHECK_INT(back, 0);
    CHECK_INT(order, 0);
    CHECK_INT(ties, 0);
    CHECK_INT(bt_f16_from_f32(65519.99f), 0x7BFF);
    CHECK_INT(bt_f16_from_f32(65520.0f), 0x7C00);
    CHECK_INT(bt_f16_from_f32(-1e30f), 0xFC00);
    CHECK_INT(bt_f16_from_f32(0x1p-25f), 0);
    CHECK_INT(bt_f16_from_f32(nextafterf(0x1p-25f, 1)), 1);
    CHECK_INT(bt_f16_from_f32(-0.0f), 0x8000);
}

static void bf16_exhaustive(void)
{
    int back = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = bt_f32_from_bf16((uint16_t)h);
        uint16_t again = bt_bf16_from_f32(f);
        back += isnan(f) ? (again & 0x7FFF) <= 0x7F80 : again != h;
    }
    CHECK_INT(back, 0);
    CHECK_INT(bt_bf16_from_f32(bt_f32_from_bits(0x3F808000u)), 0x3F80); // tie to even
    CHECK_INT(bt_bf16_from_f32(bt_f32_from_bits(0x3F818000u)), 0x3F82);
    CHECK_INT(bt_bf16_from_f32(bt_f32_from_bits(0x7F7FFFFFu)), 0x7F80); // overflow is infinity
    CHECK_INT(bt_bf16_from_f32(bt_f32_from_bits(0x7F800001u)) & 0x7FFF, 0x7FC0);
}

/* A block that holds infinity or NaN must not come back as ordinary numbers. */
static void not_finite(void)
{
    static const int32_t kinds[] = {BT_FORMAT_Q8_0, BT_FORMAT_Q4_0, BT_FORMAT_Q4_1,
                                    BT_FORMAT_Q5_0, BT_FORMAT_Q5_1, BT_FORMAT_MXFP4};
    const float odd[] = {INFINITY, -INFINITY, NAN};
    for (size_t f = 0; f < sizeof kinds / sizeof *kinds; f++)
        for (size_t i = 0; i < 3; i++)
            for (int at = 0; at < 32; at += 31) {
                float x[32], y[32];
                uint8_t packed[34];
                for (int j = 0; j < 32; j++) x[j] = 1.0f + (float)j;
                x[at] = odd[i];
                bt_quant_ref(kinds[f], x, 32, packed);
                bt_dequant_ref(kinds[f], packed, 32, y);
                CHECK(!isfinite(y[at]));
            }
}

/* The same for super-blocks and groups: wherever it stands, its own element is not finite. */
static void own_not_finite(void)
{
    const float odd[] = {INFINITY, -INFINITY, NAN};
    for (size_t f = 0; f < N_OWN; f++)
        for (size_t i = 0; i < 3; i++)
            for (int at = 0; at < 256; at += 85) {
                float x[256], y[256];
                uint8_t packed[260];
                own_input(0, x);
                x[at] = odd[i];
                bt_quant_ref(own_formats[f].format, x, 256, packed);
                bt_dequant_ref(own_formats[f].format, packed, 256, y);
                CHECK(!isfinite(y[at]));
            }
}

static void refusals(void)
{
    float x[256] = {0};
    uint8_t packed[512] = {0};
    CHECK(!bt_dequant_ref(BT_FORMAT_Q8_1, packed, 256, x));
    CHECK(!bt_quant_ref(BT_FORMAT_I8, x, 256, packed));
    CHECK(!bt_dequant_ref(12345, packed, 32, x));
    CHECK(bt_quant_ref(BT_FORMAT_Q8_0, x, 0, packed));
}

int main(void)
{
    RUN(golden_dequantize);
    RUN(golden_super_blocks);
    RUN(golden_quantize);
    RUN(round_trip_bounds);
    RUN(own_bounds);
    RUN(requant);
    RUN(f16_exhaustive);
    RUN(bf16_exhaustive);
    RUN(not_finite);
    RUN(own_not_finite);
    RUN(refusals);
    return TEST_END();
}
