/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
#include "engine/window.h"
#include "base/mem.h"
#include "base/rng.h"
#include "test.h"

/* Against counting from scratch, over sliding windows of several sizes and few and many tokens;
 * every third token counts as drawn, for good. */
static void equals_counting(void)
{
    enum { LEN = 600, TOKENS_MAX = 700 };
    static int32_t text[LEN], count[TOKENS_MAX], drawn[TOKENS_MAX];
    for (int32_t size = 1; size <= 257; size += 64) {
        for (int32_t tokens = 2; tokens <= TOKENS_MAX; tokens += 349) {
            bt_window w;
            REQUIRE(!bt_window_init(&w, LEN, NULL));
            bt_mem_guard_begin();
            memset(count, 0, sizeof count);
            memset(drawn, 0, sizeof drawn);
            for (int32_t i = 0; i < LEN; i++) {
                text[i] = (int32_t)(bt_rng_u64((uint64_t)size, (uint64_t)i) % (uint64_t)tokens);
                if (i >= size) {
                    bt_window_add(&w, text[i - size], -1, 0);
                    count[text[i - size]]--;
                }
                bt_window_add(&w, text[i], 1, i % 3 == 0);
                count[text[i]]++;
                drawn[text[i]] += i % 3 == 0;
                int32_t distinct = 0;
                bool same = true;
                for (int32_t k = 0; k < tokens; k++) distinct += count[k] + drawn[k] > 0;
                for (int32_t k = 0; k < w.n; k++)
                    same = same && w.count[k].in_window == count[w.count[k].token] &&
                           w.count[k].drawn == drawn[w.count[k].token];
                CHECK_INT(w.n, distinct);
                CHECK(same);
            }
            bt_window_clear(&w);
            CHECK_INT(w.n, 0);
            bt_window_add(&w, 3, 1, 0);
            CHECK_INT(w.count[0].token, 3);
            bt_mem_guard_end();
            bt_window_release(&w);
        }
    }
}

int main(void)
{
    RUN(equals_counting);
    return TEST_END();
}
