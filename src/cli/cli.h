/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - the subcommands. Each takes its loaded options and returns the program's exit code:
 * 0 ok, 1 failed, 2 usage, 3 no device when one was demanded. */
#pragma once
#include "cli/options.h"
#include "front/front.h"

int bt_cmd_serve(const bt_options *o, int argc, char **argv);
int bt_cmd_run(const bt_options *o, int argc, char **argv);
int bt_cmd_tokenize(const bt_options *o, int argc, char **argv);
int bt_cmd_template(const bt_options *o, int argc, char **argv);
int bt_cmd_bench(const bt_options *o, int argc, char **argv);
int bt_cmd_quota(const bt_options *o, int argc, char **argv);
int bt_cmd_doctor(const bt_options *o, int argc, char **argv);

/* Prints "baton: SENTENCE" and returns the exit code of that kind of error. */
int bt_cli_fail(const bt_err *err);
/* Appends all of stdin; BT_ETOOBIG past max bytes. */
bt_status bt_cli_read_stdin(bt_buf *out, size_t max, bt_err *err);
/* Appends all of a file; "-" is stdin. */
bt_status bt_cli_read_file(const char *path, bt_buf *out, size_t max, bt_err *err);
/* What --chat-template and --chat-template-file say; *own NULL: nothing. The text lives in buf or
 * in the options. */
bt_status bt_cli_chat_template(const bt_options *o, bt_buf *buf, const char **own, bt_err *err);
/* What the options say beside the engine and the chat template; token may be NULL. All borrowed. */
void bt_cli_front_options(const bt_options *o, const char *data, const char *token,
                          bt_front_options *out);
/* One line of a small file, without its newline; "" if the file is not there. */
bt_status bt_cli_read_line(const char *path, char *out, size_t cap, bt_err *err);
enum { BT_CLI_TOKEN_BYTES = 128 };
/* The owner's secret from --owner-token-file, else BATON_OWNER_TOKEN (a Space's secrets come so; a
 * flag would show it to the whole machine), else DATA/owner-token, without blanks around it; "":
 * there is none. path: the file it was looked for in; "" = the environment. BT_EINVAL: it is not
 * one word of printable ASCII, or too long. */
bt_status bt_cli_owner_token(const bt_options *o, const char *data, char *path, size_t path_cap,
                             char out[static BT_CLI_TOKEN_BYTES], bt_err *err);
/* The same where a server is to take it: BT_EINVAL also where others can guess or read it, or where
 * the file that was named has none. "": none is there yet, and `serve` makes one at path. */
bt_status bt_cli_owner_secret(const bt_options *o, const char *data, char *path, size_t path_cap,
                              char out[static BT_CLI_TOKEN_BYTES], bt_err *err);
