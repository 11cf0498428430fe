/* SPDX-License-Identifier: Apache-2.0 */
/* tokenize.c - `baton tokenize`: one line of pieces or ids for the text on standard input. */
#include "cli/cli.h"
#include "text/encode.h"
#include <stdio.h>

enum { TEXT_MAX = 64 << 20 };

static void print_piece(const char *s, size_t n)
{
    putchar('\'');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '\'' || c == '\\')
            printf("\\%c", c);
        else if (c == '\n')
            printf("\\n");
        else if (c < 0x20 || c == 0x7F)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('\'');
}

static void print_tokens(const bt_options *o, const bt_vocab *v, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len;
        if (i) putchar(' ');
        if (o->ids) {
            printf("%d", ids[i]);
            continue;
        }
        const char *piece = bt_vocab_piece(v, ids[i], &len);
        print_piece(piece, len);
    }
    putchar('\n');
}

int bt_cmd_tokenize(const bt_options *o, int argc, char **argv)
{
    (void)argc, (void)argv;
    bt_gguf *file = NULL;
    bt_vocab *vocab = NULL;
    bt_tokenizer *tok = NULL;
    bt_encoder *enc = NULL;
    bt_buf text = BT_BUF_INIT;
    bt_err err = {0};
    const int32_t *ids;
    size_t n;
    bt_encode_options opt = {.add_special = !o->no_special, .parse_special = o->parse_special};
    bt_status st =
        o->model ? BT_OK : bt_err_set(&err, BT_EINVAL, 0, "no model was given: use --model PATH");
    if (st == BT_OK) st = bt_gguf_open(o->model, &file, &err);
    if (st == BT_OK) st = bt_vocab_open(file, &vocab, &err);
    if (st == BT_OK) st = bt_tokenizer_open(file, vocab, &tok, &err);
    if (st == BT_OK) st = bt_encoder_open(tok, &enc, &err);
    if (st == BT_OK) st = bt_cli_read_stdin(&text, TEXT_MAX, &err);
    if (st == BT_OK) st = bt_encode(enc, text.data, text.len, &opt, 0, &ids, &n, &err);
    if (st == BT_OK) print_tokens(o, vocab, ids, n);
    bt_buf_release(&text);
    bt_encoder_close(enc);
    bt_tokenizer_close(tok);
    bt_vocab_close(vocab);
    bt_gguf_close(file);
    return st ? bt_cli_fail(&err) : 0;
}
