/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_jinja.c - any bytes as a template, rendered with a context that has something of everything;
 * limits are small so that runaway templates end soon. */
#include "base/assert.h"
#include "jinja/jinja.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char context[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9 <|x|> "
        "\"},{\"role\":\"assistant\","
        "\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1.5,"
        "\"b\":[true,null,-7]}}}]}],\"tools\":[{\"name\":\"t\"}],\"a\":\"a,b c\",\"b\":[3,1,2],"
        "\"c\":123456789012345678901,\"d\":{\"x\":{\"y\":[1,\"z\"]}},\"e\":0.25}";
    bt_jinja_limits limits = {.compile_bytes = 16 << 20,
                              .steps = 200000,
                              .output_bytes = 1 << 20,
                              .memory_bytes = 16 << 20,
                              .depth = 200};
    bt_jinja *t = NULL;
    bt_jinja_error error = {0};
    bt_err err = {0};
    char *exact = malloc(size ? size : 1);
    if (!exact) return 0;
    if (size) memcpy(exact, data, size);
    bt_status st = bt_jinja_compile(exact, size, &limits, &t, &error, &err);
    BT_ASSERT((st == BT_OK) == (error.fault == BT_JINJA_OK) && (st == BT_OK) == (t != NULL));
    free(exact);
    if (st == BT_OK) {
        bt_jinja_vars vars = {context, sizeof context - 1, false};
        bt_jinja_options options = {.limits = limits, .now_local_us = 1722006245000000};
        bt_jinja_output out = {0};
        st = bt_jinja_render(t, &vars, 1, &options, &out, &error, &err);
        if (st == BT_OK) {
            size_t at = 0;
            for (size_t i = 0; i < out.n_ranges; i++) {
                BT_ASSERT(out.range[i].start == at && out.range[i].end > at);
                at = out.range[i].end;
            }
            BT_ASSERT(at == out.len && out.text[out.len] == 0);
        } else {
            BT_ASSERT(err.msg[0] || error.fault == BT_JINJA_RAISED);
        }
        bt_jinja_output_release(&out);
    }
    bt_jinja_free(t);
    return 0;
}
