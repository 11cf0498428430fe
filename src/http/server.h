/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - the HTTP server: sockets, routes, streams, the page.
 *
 * One loop thread owns all connections (libmicrohttpd without a thread of its own). What takes a
 * processor (tokenizing, large bodies) is text work of front (front/work.h); one helper thread
 * waits for what only the ledger knows. A client that hangs up is noticed within milliseconds,
 * streaming or not, and its requests are cancelled. */
#pragma once
#include "front/front.h"

typedef struct bt_server bt_server;

typedef struct bt_server_options {
    const char *host;       // NULL = "0.0.0.0"
    uint16_t port;          // 0 = a free one
    const char *model_path; // borrowed; its file name is accepted as a model's name. May be NULL
    bool any_model;         // accept every model name
    const char
        *cors_origins;     // borrowed; whose pages may ask without a key (http/origin.h), or NULL
    size_t body_bytes_max; // 0 = 8 MiB
    size_t
        bodies_bytes_max; // memory of large bodies together (http/budget.h); 0 = 8 x body_bytes_max
    int32_t connections_max; // 0 = 4096
    /* Of one address. 0 = an eighth of connections_max, or three quarters for a private address,
     * behind which there may be a proxy; at least 8. Trusted proxies have all, and each anonymous
     * client that they name as many requests at once. */
    int32_t address_connections_max;
    int32_t header_bytes;       // memory of a connection: bounds its request head. 0 = 8192
    int32_t request_timeout_ms; // a request's head; then its body, which gets more as it comes. 0 =
                                // 15 s
    int32_t body_rate;          // bytes/s that a body must keep up after that; 0 = 16 KiB
    int32_t idle_timeout_ms;    // keep-alive; 0 = 75 s
    int32_t write_timeout_ms;   // a socket that accepts nothing; 0 = 30 s
    int32_t beat_ms;            // SSE comment when nothing else was sent; 0 = 12 s
} bt_server_options;

/* Listens and starts the threads. Takes over bt_front_on_wake(). The front must outlive the server.
 */
bt_status bt_server_open(bt_front *front, const bt_server_options *opt, bt_server **out,
                         bt_err *err);
uint16_t bt_server_port(const bt_server *s);
/* Stops accepting, lets running answers finish until drain_ms have passed, cancels the rest, joins.
 */
void bt_server_close(bt_server *s, int32_t drain_ms);
