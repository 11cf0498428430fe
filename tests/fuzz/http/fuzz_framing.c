/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes of a connection, however they are cut: one judgement. The first byte is the cut. */
#include "base/assert.h"
#include "http/framing.h"
#include <string.h>

enum { LINE_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What all of it came to. */
typedef struct verdict {
    size_t passed; // bytes before a refusal, or all
    int32_t requests;
    bt_status status;
    const char *why;
    bool midway;
} verdict;

/* `why` is NULL where the status says it all (BT_ETOOBIG). */
static verdict judge(const char *data, size_t n, size_t step)
{
    bt_framing f = {0};
    verdict v = {0};
    for (size_t at = 0; at < n && !f.status; at += step) {
        size_t some = BT_MIN(step, n - at), took = bt__framing_take(&f, data + at, some, LINE_MAX);
        BT_ASSERT(took <= some && (f.status || took == some));
        BT_ASSERT(f.why ? f.status != BT_OK : f.status == BT_OK || f.status == BT_ETOOBIG);
        BT_ASSERT(strlen(f.target) < sizeof f.target && f.ahead >= 0);
        v.passed += took;
        v.requests += f.ahead;
    }
    v.status = f.status;
    v.why = f.why;
    v.midway = bt__framing_midway(&f);
    bt__framing_release(&f);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    verdict whole = judge((const char *)data + 1, size - 1, size - 1);
    verdict cut = judge((const char *)data + 1, size - 1, 1u + data[0]);
    BT_ASSERT(whole.status == cut.status && whole.why == cut.why);
    BT_ASSERT(whole.requests == cut.requests);
    if (!whole.status) BT_ASSERT(whole.passed == cut.passed && whole.midway == cut.midway);
    return 0;
}
