/* SPDX-License-Identifier: Apache-2.0 */
/* test_nfc.c - our linear normalization equals utf8proc's own, and the quick check never lies. */
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "test.h"
#include "text/encode_nfc.h"
#include <utf8proc.h>

enum { N_MAX = 4096, POINTS = N_MAX * BT__NFC_CODE_POINTS + BT__NFC_SLACK };

static size_t ours(const char *s, size_t n, char *dst)
{
    static int32_t cp[POINTS], tmp[POINTS];
    return bt__nfc(s, n, cp, tmp, dst);
}

static size_t theirs(const char *s, size_t n, char *dst)
{
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &out,
                                        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    REQUIRE(len >= 0 && len <= N_MAX * BT__NFC_BYTES);
    memcpy(dst, out, (size_t)len);
    free(out);
    return (size_t)len;
}

static void check_text(const char *s, size_t n)
{
    static char a[N_MAX * BT__NFC_BYTES], b[N_MAX * BT__NFC_BYTES];
    size_t n_a = ours(s, n, a), n_b = theirs(s, n, b);
    CHECK_INT(n_a, n_b);
    CHECK(n_a == n_b && memcmp(a, b, n_a) == 0);
    if (bt__nfc_quick(s, n)) CHECK(n_b == n && memcmp(b, s, n) == 0);
}

static bool is_scalar(uint32_t cp)
{
    return cp < 0x110000 && (cp < 0xD800 || cp >= 0xE000);
}

static void every_character_alone(void)
{
    for (uint32_t cp = 1; cp < 0x110000; cp++) {
        char s[4];
        if (is_scalar(cp)) check_text(s, bt_utf8_encode(cp, s));
    }
}

/* After each character that begins a composition, each that might go on with it. */
static void pairs_that_compose(void)
{
    static const uint32_t first[] = {'e',    'A',    0x09C7, 0x0B47,  0x1100,
                                     0xAC00, 0x0DD9, 0x1025, 0x11099, 0x30AB};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        for (uint32_t cp = 0x80; cp < 0x12000; cp++) {
            char s[8];
            if (!is_scalar(cp)) continue;
            size_t n = bt_utf8_encode(first[i], s);
            check_text(s, n + bt_utf8_encode(cp, s + n));
        }
    }
}

static void random_runs_of_marks(void)
{
    static const uint32_t range[][2] = {{0x41, 0x7A},       {0xC0, 0x24F},    {0x300, 0x36F},
                                        {0x300, 0x36F},     {0x591, 0x5C7},   {0x64B, 0x670},
                                        {0x900, 0xDFF},     {0x1100, 0x11FF}, {0xAC00, 0xAC80},
                                        {0x1D15E, 0x1D1C0}, {0xF900, 0xFAFF}, {0x1AB0, 0x1ACE}};
    for (uint64_t k = 0; k < 4000; k++) {
        static char s[N_MAX];
        size_t n = 0, chars = k % 8 ? bt_rng_u64(3, k) % 12 : bt_rng_u64(3, k) % 900;
        for (size_t i = 0; i < chars; i++) {
            uint64_t r = bt_rng_u64(k + 9, i);
            const uint32_t *pick =
                range[k % 16 == 0 ? 2 + r % 2 : r % (sizeof range / sizeof *range)];
            n += bt_utf8_encode(pick[0] + (uint32_t)(r >> 16) % (pick[1] - pick[0] + 1), s + n);
        }
        check_text(s, n);
    }
}

int main(void)
{
    RUN(every_character_alone);
    RUN(pairs_that_compose);
    RUN(random_runs_of_marks);
    return TEST_END();
}
