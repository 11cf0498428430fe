/* SPDX-License-Identifier: Apache-2.0 */
/* test_normalize_nf.c - our linear normalization equals utf8proc's own where the tables agree, and
 * the quick check never lies. */
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "test.h"
#include "token/normalize_nf.h"
#include <utf8proc.h>

enum { N_MAX = 4096, OUT_MAX = 12 * N_MAX };

static size_t ours(bt__nf form, const char *s, size_t n, char *dst)
{
    static bt__nf_scratch scratch;
    bt_buf out = BT_BUF_INIT;
    CHECK(bt__nf_append(form, &scratch, s, n, &out));
    REQUIRE(out.len <= OUT_MAX);
    size_t len = out.len;
    if (len) memcpy(dst, out.data, len);
    bt_buf_release(&out);
    return len;
}

static size_t theirs(bt__nf form, const char *s, size_t n, char *dst)
{
    static const int option[] = {[BT__NFC] = UTF8PROC_COMPOSE,
                                 [BT__NFD] = UTF8PROC_DECOMPOSE,
                                 [BT__NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                 [BT__NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &out,
                                        (utf8proc_option_t)(UTF8PROC_STABLE | option[form]));
    REQUIRE(len >= 0 && len <= OUT_MAX);
    memcpy(dst, out, (size_t)len);
    free(out);
    return (size_t)len;
}

static void check_text(const char *s, size_t n)
{
    static char a[OUT_MAX], b[OUT_MAX];
    for (int form = BT__NFC; form <= BT__NFKD; form++) {
        size_t n_a = ours((bt__nf)form, s, n, a), n_b = theirs((bt__nf)form, s, n, b);
        CHECK_INT(n_a, n_b);
        CHECK(n_a == n_b && memcmp(a, b, n_a) == 0);
        if (bt__nf_quick((bt__nf)form, s, n)) CHECK(n_b == n && memcmp(b, s, n) == 0);
    }
}

/* What the library does not know stays as it is, and marks do not cross it. */
static void newer_characters_stay(void)
{
    static const uint32_t newer[] = {0x898, 0x32FF, 0x1ABF, 0x11938, 0x1E030, 0x10FFFE};
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        char s[16] = "e", got[OUT_MAX];
        size_t n = 1 + bt_utf8_encode(newer[i], s + 1);
        n += bt_utf8_encode(0x301, s + n);
        for (int form = BT__NFC; form <= BT__NFKD; form++) {
            CHECK_INT(ours((bt__nf)form, s, n, got), n);
            CHECK(memcmp(got, s, n) == 0);
        }
    }
}

static bool is_scalar(uint32_t cp)
{
    return cp < 0x110000 && (cp < 0xD800 || cp >= 0xE000) && !bt__nf_newer(cp);
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
            uint32_t cp = pick[0] + (uint32_t)(r >> 16) % (pick[1] - pick[0] + 1);
            if (is_scalar(cp)) n += bt_utf8_encode(cp, s + n);
        }
        check_text(s, n);
    }
}

int main(void)
{
    RUN(every_character_alone);
    RUN(pairs_that_compose);
    RUN(random_runs_of_marks);
    RUN(newer_characters_stay);
    return TEST_END();
}
