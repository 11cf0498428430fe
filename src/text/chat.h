/* SPDX-License-Identifier: Apache-2.0 */
/* chat.h - messages to one prompt, for models whose own template is not used: one plain format.
 *
 *     System: ...\nUser: ...\nAssistant: ...\nUser: ...\nAssistant:
 *
 * and an answer ends at "\nUser:". Pure; needs no foreign library. */
#pragma once
#include "base/buf.h"
#include <stdint.h>

typedef struct bt_message {
    const char *role; // system, developer, user, assistant, tool
    const char *content;
} bt_message;

extern const char bt_chat_stop[]; // "\nUser:"
void bt_chat_render(const bt_message *messages, int32_t n, bt_buf *out);
