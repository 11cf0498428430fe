/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* Conversions against the gguf package's, bit for bit (tests/data/quant), and their error bounds.
 */
#include "test.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/quant.h"

enum { COUNT = 1024 };

/* |x - dequant(quant(x))| <= scale * (largest magnitude of the block) + the format's smallest step.
 * Q8_0: half a step of amax / 127 and the scale's own rounding. Q4_0: a whole step of amax / 8 on
 * the side that is cut to 15. */
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
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

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
    static const int32_t kinds[] = {BT_FORMAT_Q8_0, BT_FORMAT_Q4_0};
    const float odd[] = {INFINITY, -INFINITY, NAN};
    for (size_t f = 0; f < 2; f++)
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

static void refusals(void)
{
    float x[256] = {0};
    uint8_t packed[512] = {0};
    CHECK(!bt_dequant_ref(BT_FORMAT_Q4_K, packed, 256, x));
    CHECK(!bt_quant_ref(BT_FORMAT_Q4_K, x, 256, packed));
    CHECK(!bt_dequant_ref(12345, packed, 32, x));
    CHECK(bt_quant_ref(BT_FORMAT_Q8_0, x, 0, packed));
}

int main(void)
{
    RUN(golden_dequantize);
    RUN(golden_quantize);
    RUN(round_trip_bounds);
    RUN(f16_exhaustive);
    RUN(bf16_exhaustive);
    RUN(not_finite);
    RUN(refusals);
    return TEST_END();
}
