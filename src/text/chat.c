/* SPDX-License-Identifier: Apache-2.0 */
#include "text/chat.h"
#include <string.h>

const char bt_chat_stop[] = "\nUser:";

static const char *chat_label(const char *role)
{
    if (strcmp(role, "user") == 0) return "User";
    if (strcmp(role, "assistant") == 0) return "Assistant";
    if (strcmp(role, "tool") == 0) return "Tool";
    return "System";
}

void bt_chat_render(const bt_message *messages, int32_t n, bt_buf *out)
{
    for (int32_t i = 0; i < n; i++) {
        bt_buf_addf(out, "%s: ", chat_label(messages[i].role));
        bt_buf_adds(out, messages[i].content);
        bt_buf_addc(out, '\n');
    }
    bt_buf_adds(out, "Assistant:");
}
