/* SPDX-License-Identifier: Apache-2.0 */
/* tokenize.c - `baton tokenize`: one line of pieces or ids for the text on standard input, or one
 * of ids for each of its lines. */
#include "base/json_read.h"
#include "cli/cli.h"
#include "token/open.h"
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 256 << 20 };

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

static void print_tokens(const bt_vocab *v, bool ids_only, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len;
        if (i) putchar(' ');
        if (ids_only) {
            printf("%d", ids[i]);
            continue;
        }
        const char *piece = bt_vocab_piece(v, ids[i], &len);
        print_piece(piece, len);
    }
    putchar('\n');
}

/* Strings as Python's json.loads reads them: escaped NULs and all. */
static bt_status tokenize_lines(bt_encoder *enc, const bt_encode_options *opt, const bt_vocab *v,
                                const char *text, size_t n, bt_err *err)
{
    const int32_t *ids;
    size_t n_ids, line = 1;
    for (size_t at = 0; at < n; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        bt_err why = {0};
        bt_json_reader r;
        const char *s = NULL;
        size_t n_s = 0, wrong = 0;
        bt_status st;
        bt_json_reader_init(&r, text + at, len, BT_JSON_PYTHON);
        if (bt_json_read_string(&r, &s, &n_s) && bt_json_done(&r)) {
            st = bt_encode(enc, s, n_s, opt, 0, &ids, &n_ids, &why);
        } else {
            const char *fault = bt_json_reader_why(&r, &wrong);
            st = bt_err_set(&why, BT_EINVAL, 0, "not a JSON string: %s at byte %zu", fault, wrong);
        }
        bt_json_reader_release(&r);
        if (st) return bt_err_set(err, st, 0, "line %zu: %.200s", line, why.msg);
        print_tokens(v, true, ids, n_ids);
        at += len + 1;
    }
    return BT_OK;
}

int bt_cmd_tokenize(const bt_options *o, int argc, char **argv)
{
    bt_vocab *vocab = NULL;
    bt_tokenizer *tok = NULL;
    bt_encoder *enc = NULL;
    bt_buf text = BT_BUF_INIT;
    bt_err err = {0};
    const int32_t *ids;
    size_t n;
    bt_encode_options opt = {.add_special = !o->no_special, .parse_special = o->parse_special};
    bt_status st = o->model && *o->model
                       ? BT_OK
                       : bt_err_set(&err, BT_EINVAL, 0, "no model was given: use --model PATH");
    if (st == BT_OK && argc > 0)
        st = bt_err_set(&err, BT_EINVAL, 0,
                        "'%.60s' is one too many: the text comes from standard "
                        "input",
                        argv[0]);
    if (st == BT_OK) st = bt_text_open(o->model, NULL, &vocab, &tok, &err);
    if (st == BT_OK) st = bt_encoder_open(tok, &enc, &err);
    if (st == BT_OK) st = bt_cli_read_stdin(&text, TEXT_MAX, &err);
    if (st == BT_OK && o->jsonl) {
        st = tokenize_lines(enc, &opt, vocab, text.data, text.len, &err);
    } else if (st == BT_OK) {
        st = bt_encode(enc, text.data, text.len, &opt, 0, &ids, &n, &err);
        if (st == BT_OK) print_tokens(vocab, o->ids, ids, n);
    }
    bt_buf_release(&text);
    bt_encoder_close(enc);
    bt_tokenizer_close(tok);
    bt_vocab_close(vocab);
    return st ? bt_cli_fail(&err) : 0;
}
