/* SPDX-License-Identifier: Apache-2.0 */
#include "http/page.h"
#include "base/assert.h"
#include "base/crypto.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The path is looked up along the include directories, of which src is one. */
__asm__(".pushsection .rodata\n"
        ".globl bt__page\n"
        ".globl bt__page_end\n"
        "bt__page:\n"
        ".incbin \"http/page.html\"\n"
        "bt__page_end:\n"
        ".byte 0\n"
        ".popsection\n");

enum { HASH_CHARS = 44 }; // 32 bytes in base64

static char policy[320];
static pthread_once_t policy_once = PTHREAD_ONCE_INIT;

/* What stands between the first open and the close after it: what a browser hashes. */
static void hash_between(const char *open, const char *close, char dst[static HASH_CHARS + 1])
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t digest[33] = {0};
    const char *begin = strstr(bt__page, open);
    BT_ASSERT(begin);
    begin += strlen(open);
    const char *end = strstr(begin, close);
    BT_ASSERT(end);
    bt_sha256(begin, (size_t)(end - begin), digest);
    for (int i = 0; i < 33; i += 3, dst += 4) {
        uint32_t v = (uint32_t)digest[i] << 16 | (uint32_t)digest[i + 1] << 8 | digest[i + 2];
        for (int k = 0; k < 4; k++) dst[k] = digit[v >> (18 - 6 * k) & 63];
    }
    memcpy(dst - 1, "=", 2);
}

static void policy_make(void)
{
    char style[HASH_CHARS + 1], script[HASH_CHARS + 1];
    hash_between("<style>", "</style>", style);
    hash_between("<script>", "</script>", script);
    int n = snprintf(policy, sizeof policy,
                     "default-src 'none'; connect-src 'self'; img-src data:; "
                     "style-src 'sha256-%s'; script-src 'sha256-%s'; base-uri 'none'; "
                     "form-action 'none'",
                     style, script);
    BT_ASSERT(n > 0 && (size_t)n < sizeof policy);
}

const char *bt__page_policy(void)
{
    pthread_once(&policy_once, policy_make);
    return policy;
}
