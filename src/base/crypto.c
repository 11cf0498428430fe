/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crypto.h"
#include "base/assert.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

void bt_random(void *dst, size_t len)
{
    char *p = dst;
    while (len > 0) {
        ssize_t n = getrandom(p, len < 256 ? len : 256, 0);
        BT_ASSERT(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

uint64_t bt_random_id(void)
{
    uint64_t id = 0;
    while (id == 0) {
        bt_random(&id, sizeof id);
        id >>= 1;
    }
    return id;
}

void bt_sha256(const void *data, size_t len, uint8_t dst[static 32])
{
    unsigned int n = 32;
    BT_ASSERT(EVP_Digest(data, len, dst, &n, EVP_sha256(), NULL) == 1);
}

bool bt_secret_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}
