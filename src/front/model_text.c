/* SPDX-License-Identifier: Apache-2.0 */
#include "front/model_text.h"
#include "token/open.h"
#include <string.h>

bt_status bt_model_text_open(const char *path, const char *own, bt_model_text *out, bt_err *err)
{
    memset(out, 0, sizeof *out);
    bt_status st = bt_model_open(path, &out->model, err);
    if (st == BT_OK)
        st = out->model->gguf
                 ? bt_text_open_gguf(out->model->gguf, &out->vocab, &out->tokenizer, err)
                 : bt_text_open(path, NULL, &out->vocab, &out->tokenizer, err);
    if (st == BT_OK && bt_chat_open(out->vocab, own, &out->chat, &out->chat_why) != BT_OK &&
        (own || out->chat_why.code == BT_ENOMEM)) {
        if (err) *err = out->chat_why;
        st = out->chat_why.code;
    }
    if (st == BT_OK && out->chat) bt_chat_check(out->chat, &out->chat_why);
    if (st) bt_model_text_close(out);
    return st;
}

bt_status bt_model_vocab_open(const char *path, struct bt_vocab **out, bt_err *err)
{
    return bt_text_open(path, NULL, out, NULL, err);
}

void bt_model_text_close(bt_model_text *t)
{
    bt_chat_close(t->chat);
    bt_tokenizer_close(t->tokenizer);
    bt_vocab_close(t->vocab);
    bt_model_close(t->model);
    memset(t, 0, sizeof *t);
}
