/* SPDX-License-Identifier: Apache-2.0 */
/* LAYER chat - how long does a chat template take to render a conversation?
 *
 *     bench-template TEMPLATE.jinja [MESSAGES]     (default 50)
 */
#include "base/clock.h"
#include "chat/template.h"
#include <stdio.h>
#include <stdlib.h>

static bt_status read_file(const char *path, bt_buf *out)
{
    char chunk[16384];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) return BT_EIO;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) bt_buf_add(out, chunk, n);
    fclose(f);
    return BT_OK;
}

int main(int argc, char **argv)
{
    bt_buf source = BT_BUF_INIT, messages = BT_BUF_INIT;
    bt_template *t = NULL;
    bt_err err = {0};
    int count = argc > 2 ? atoi(argv[2]) : 50;
    if (argc < 2 || read_file(argv[1], &source)) {
        fprintf(stderr, "usage: bench-template TEMPLATE.jinja [MESSAGES]\n");
        return 2;
    }
    bt_buf_addc(&messages, '[');
    for (int i = 0; i < count; i++)
        bt_buf_addf(&messages,
                    "%s{\"role\":\"%s\",\"content\":\"Message %d: a few words, as people write, "
                    "and a \\\"quote\\\".\\nAnd a second line.\"}",
                    i ? "," : "", i % 2 ? "assistant" : "user", i);
    bt_buf_addc(&messages, ']');
    bt_template_source s = {NULL, {source.data, source.len}};
    bt_template_token tokens[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    int64_t start = bt_now_ns();
    if (bt_template_new(&s, 1, tokens, 2, NULL, &t, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("compile and probe: %.3f ms\n", (double)(bt_now_ns() - start) / 1e6);
    bt_template_chat chat = {.add_generation_prompt = true};
    bt_arena arena;
    bt_arena_init(&arena, bt_json_room(messages.len));
    if (bt_json_parse(messages.data, messages.len, &arena, &chat.messages, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    double best = 1e9;
    size_t bytes = 0;
    for (int i = 0; i < 200; i++) {
        bt_jinja_output out = {0};
        start = bt_now_ns();
        if (bt_template_render(t, &chat, &out, NULL, &err)) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        double ms = (double)(bt_now_ns() - start) / 1e6;
        if (ms < best) best = ms;
        bytes = out.len;
        bt_jinja_output_release(&out);
    }
    printf("%d messages, %zu bytes of prompt: %.3f ms (best of 200)\n", count, bytes, best);
    bt_template_free(t);
    bt_arena_release(&arena);
    bt_buf_release(&source);
    bt_buf_release(&messages);
    return 0;
}
