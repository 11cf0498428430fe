/* SPDX-License-Identifier: Apache-2.0 */
/* model_text.h - what serving asks of a model's file before a device is asked: a sound file of a
 * known architecture with all its tensors, its vocabulary, its tokenizer and its chat format; of a
 * folder the files that lie in it.
 * `baton serve`, `run` and `doctor` open it here, so that they refuse with one sentence. */
#pragma once
#include "model/model.h"
#include "token/encode.h"
#include "chat/template_chat.h"

typedef struct bt_model_text {
    bt_model *model; // owned, as all of these
    bt_vocab *vocab;
    bt_tokenizer *tokenizer;
    bt_chat *chat;   // NULL: the model's own template cannot be used
    bt_err chat_why; // why not; or what the template makes nothing of (code 0: nothing)
} bt_model_text;

/* own: as bt_chat_open. A template of the model's that cannot be used costs the chats, not the
 * model; the owner's own has to be one. Nothing is left open on failure. */
bt_status bt_model_text_open(const char *path, const char *own, bt_model_text *out, bt_err *err);
void bt_model_text_close(bt_model_text *t);
/* bt_engine_options.open_vocab of all commands. */
bt_status bt_model_vocab_open(const char *path, struct bt_vocab **out, bt_err *err);
