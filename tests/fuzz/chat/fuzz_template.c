/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_template.c - any bytes as a request's messages, tools and kwargs (NUL between them), through
 * templates that look at all of them. */
#include "base/assert.h"
#include "chat/template.h"
#include <stdlib.h>
#include <string.h>

static const char first[] =
    "{{ bos_token }}{% if tools %}{{ tools|tojson(indent=2) }}{% endif %}{% for m in messages %}"
    "<|{{ m.role }}|>{% if m.content is string %}{{ m.content|trim }}{% else %}{% for p in "
    "m.content "
    "%}{{ p.text }}{% endfor %}{% endif %}{% for c in m.tool_calls or [] %}{% for k, v in "
    "c.function.arguments|items %}{{ k }}={{ v }}{% endfor %}{% endfor %}{{ eos_token }}{% endfor "
    "%}"
    "{% if x is defined %}{{ x }}{{ y|default('')|upper|replace('A', 'b') }}{% endif %}";
static const char second[] = "{% for m in messages %}{% if m.role == 'system' %}"
                             "{{ raise_exception('no') }}{% endif %}{{ m.role + ': ' + m.content }}"
                             "{% generation %}.{% endgeneration %}{% endfor %}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bt_template *t[2];
    static const bt_template_token tokens[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    if (!t[0]) {
        bt_jinja_limits limits = {.steps = 500000, .memory_bytes = 32 << 20};
        bt_template_source a = {NULL, {first, sizeof first - 1}};
        bt_template_source b = {NULL, {second, sizeof second - 1}};
        BT_ASSERT(bt_template_new(&a, 1, tokens, 2, &limits, &t[0], NULL) == BT_OK);
        BT_ASSERT(bt_template_new(&b, 1, tokens, 2, &limits, &t[1], NULL) == BT_OK);
    }
    char *exact = malloc(size ? size : 1);
    if (!exact) return 0;
    if (size) memcpy(exact, data, size);
    bt_template_text part[3] = {{exact, size}, {NULL, 0}, {NULL, 0}};
    for (int i = 1; i < 3; i++) {
        const char *nul = part[i - 1].text ? memchr(part[i - 1].text, 0, part[i - 1].len) : NULL;
        if (!nul) break;
        size_t head = (size_t)(nul - part[i - 1].text);
        part[i] = (bt_template_text){nul + 1, part[i - 1].len - head - 1};
        part[i - 1].len = head;
    }
    const bt_json *json[3] = {NULL};
    bt_arena arena;
    bt_arena_init(&arena, 3 * bt_json_room(size));
    for (int i = 0; i < 3 && part[i].text; i++)
        bt_json_parse(part[i].text, part[i].len, &arena, &json[i], NULL);
    for (int i = 0; i < 4; i++) {
        bt_template_chat chat = {.messages = json[0],
                                 .tools = json[1],
                                 .kwargs = json[2],
                                 .continue_final_message = i & 2};
        bt_jinja_output out = {0};
        bt_err err = {0};
        bt_status st = bt_template_render(t[i & 1], &chat, &out, NULL, &err);
        size_t at = 0;
        for (size_t k = 0; st == BT_OK && k < out.n_ranges; k++) {
            BT_ASSERT(out.range[k].start == at && out.range[k].end > at);
            at = out.range[k].end;
        }
        BT_ASSERT(st == BT_OK ? at == out.len : err.msg[0] != 0);
        bt_jinja_output_release(&out);
    }
    bt_arena_release(&arena);
    free(exact);
    return 0;
}
