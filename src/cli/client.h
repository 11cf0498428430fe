/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - one request to the running server on this machine, for `baton quota`. Plain HTTP/1.1,
 * one connection a request; not a general client. */
#pragma once
#include "base/buf.h"
#include "baton/status.h"

/* The URL of a server at `host` as --host names it: an IPv6 address gets its brackets. */
void bt_client_url_write(const char *host, int port, char *out, size_t cap);
/* url: http://HOST:PORT or http://[ADDRESS]:PORT. method and path as given; body may be NULL. *code
 * = the HTTP status. */
bt_status bt_client_call(const char *url, const char *method, const char *path, const char *token,
                         const char *body, int *code, bt_buf *answer, bt_err *err);
/* --url, else what the server left in DATA/server, else http://127.0.0.1:7860. */
struct bt_options;
bt_status bt_client_url(const struct bt_options *o, char *out, size_t cap, bt_err *err);
