/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - a server over the fake front, for the tests of src/http. */
#pragma once
#include "src/http/client.h"
#include "src/http/fake_front.h"
#include "http/server.h"
#include <stdio.h>
#include <stdlib.h>

static bt_server *server;
static uint16_t port;

static inline void start_with(const bt_server_options *opt, const bt_accounts_options *accounts)
{
    bt_err err = {0};
    fake_open(accounts);
    if (bt_server_open(&fake, opt, &server, &err) != BT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    port = bt_server_port(server);
}

static inline void stop(void)
{
    bt_server_close(server, 0);
    fake_close();
}
