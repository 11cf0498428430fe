/* SPDX-License-Identifier: Apache-2.0 */
/* template_chat.h - a model's chat format: from a conversation to the tokens of its prompt.
 *
 * It is the model's own chat template, or another one the owner names. A model without one gets the
 * plain format, written in the same template language:
 *
 *     System: ...\nUser: ...\nAssistant: ...\nUser: ...\nAssistant:
 *
 * The template's own text may spell control tokens; what users wrote may not (encode.h). A real
 * template writes the beginning-of-text token itself, so encoding adds none; the plain one does
 * not. Read-only after open and shared by threads. */
#pragma once
#include "token/encode.h"
#include "chat/template.h"

typedef struct bt_chat bt_chat;

/* What one rendering may use up in a server. */
extern const bt_jinja_limits bt_chat_limits;

/* From the vocabulary's templates and special tokens (copied). own: instead of the model's, "plain"
 * or a template's source; NULL: the model's. BT_EFORMAT: a template is not one. */
bt_status bt_chat_open(const bt_vocab *v, const char *own, bt_chat **out, bt_err *err);
void bt_chat_close(bt_chat *c); // NULL is fine
bool bt_chat_is_plain(const bt_chat *c);
/* What ends an answer besides the vocabulary's end tokens: "\nUser:" of the plain format, or NULL.
 */
const char *bt_chat_stop(const bt_chat *c);
const bt_template_caps *bt_chat_caps(const bt_chat *c);

/* Renders a user's message, one with a system message, and a conversation. BT_EFORMAT: the first
 * already fails or is not shown; BT_EUNSUPPORTED: one of the others. */
bt_status bt_chat_check(const bt_chat *c, bt_err *err);

/* The prompt, with what of it is the users' own. now_local_us 0: the present; plain_safe is always
 * true here. BT_EINVAL: the template's own refusal, or what it would not show
 * (tools, documents, calls); names the field.
 * Thread: any. */
bt_status bt_chat_render(const bt_chat *c, const bt_template_chat *chat, bt_jinja_output *out,
                         bt_err *err);
/* Tokens of a rendered prompt. parse_special: control tokens count in the users' text too. As
 * bt_encode otherwise; stop as in bt_encode_options. */
bt_status bt_chat_encode(const bt_chat *c, bt_encoder *e, const bt_jinja_output *prompt,
                         bool parse_special, size_t n_max, bt_stop *stop, const int32_t **ids,
                         size_t *n_ids, bt_err *err);
