/* SPDX-License-Identifier: Apache-2.0 */
/* test.h - the whole test framework: checks that live under NDEBUG and print both values.
 *
 * A test program lists its cases in main with RUN(case_name) and returns TEST_END(). */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 1 in a build with the address or the thread sanitizer, which make everything slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

static int test_failed, test_checked;
static const char *test_case = "";

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        test_checked++;                                                                            \
        if (!(cond)) {                                                                             \
            test_failed++;                                                                         \
            fprintf(stderr, "%s:%d: %s: %s is false\n", __FILE__, __LINE__, test_case, #cond);     \
        }                                                                                          \
    } while (0)

#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        test_checked++;                                                                            \
        if (a_ != b_) {                                                                            \
            test_failed++;                                                                         \
            fprintf(stderr, "%s:%d: %s: %s = %lld, expected %s = %lld\n", __FILE__, __LINE__,      \
                    test_case, #a, a_, #b, b_);                                                    \
        }                                                                                          \
    } while (0)

#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        test_checked++;                                                                            \
        if (!a_ || !b_ || strcmp(a_, b_) != 0) {                                                   \
            test_failed++;                                                                         \
            fprintf(stderr, "%s:%d: %s: %s = \"%s\", expected \"%s\"\n", __FILE__, __LINE__,       \
                    test_case, #a, a_ ? a_ : "(null)", b_ ? b_ : "(null)");                        \
        }                                                                                          \
    } while (0)

#define CHECK_NEAR(a, b, tol)                                                                      \
    do {                                                                                           \
        double a_ = (double)(a), b_ = (double)(b), t_ = (double)(tol);                             \
        test_checked++;                                                                            \
        if (!(fabs(a_ - b_) <= t_)) {                                                              \
            test_failed++;                                                                         \
            fprintf(stderr, "%s:%d: %s: %s = %.9g, expected %.9g within %g\n", __FILE__, __LINE__, \
                    test_case, #a, a_, b_, t_);                                                    \
        }                                                                                          \
    } while (0)

/* Stops the program: for what the rest of the case cannot live without. */
#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        test_checked++;                                                                            \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %s is false; giving up\n", __FILE__, __LINE__, test_case,  \
                    #cond);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define RUN(name)                                                                                  \
    do {                                                                                           \
        int before_ = test_failed;                                                                 \
        test_case = #name;                                                                         \
        name();                                                                                    \
        fprintf(stderr, "%s %s\n", test_failed == before_ ? "ok  " : "FAIL", #name);               \
    } while (0)

#define TEST_END()                                                                                 \
    (fprintf(stderr, "%d checks, %d failed\n", test_checked, test_failed), test_failed ? 1 : 0)

/* Skips aloud: ctest shows it as skipped. */
#define SKIP(why) (fprintf(stderr, "SKIP (%s)\n", why), exit(77))
