/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_forwarded.c - X-Forwarded-For and proxy lists. Line 1: the peer, line 2: the header, line 3:
 * the trusted proxies. */
#include "base/assert.h"
#include "base/mem.h"
#include "quota/address.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_proxies p;
    bt_address client, from;
    char name[64];
    char *text = bt_must(bt_strndup((const char *)data, size));
    char *rest = text, *peer = strsep(&rest, "\n"), *forwarded = strsep(&rest, "\n");
    if (!rest || bt_proxies_parse(rest, false, &p, NULL) != BT_OK)
        bt_proxies_parse("auto", true, &p, NULL);
    if (bt_proxies_client(&p, peer, forwarded, &client)) {
        bt_address_account(&client, name);
        BT_ASSERT(strncmp(name, "ip:", 3) == 0 && strlen(name) < 48);
        /* A peer that is not trusted speaks for itself alone. */
        BT_ASSERT(bt_address_parse(peer, strlen(peer), &from));
        if (!bt_proxies_trust(&p, &from)) BT_ASSERT(memcmp(&from, &client, sizeof from) == 0);
    }
    bt_free(text);
    return 0;
}
