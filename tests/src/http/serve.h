/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h - a server over the fake front, for the tests of src/http. */
#pragma once
#include "src/http/client.h"
#include "src/http/fake_front.h"
#include "http/server.h"
#include "test.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* With the key user-secret, of tier pro. */
static inline void start_keyed(bt_server_options opt, bt_accounts_options accounts)
{
    char keys[] = "/tmp/baton-keys-XXXXXX";
    int fd = mkstemp(keys);
    REQUIRE(fd >= 0 && write(fd, "user-secret alice pro\n", 22) == 22);
    fchmod(fd, 0600);
    close(fd);
    opt.host = "127.0.0.1";
    accounts.api_keys = keys;
    start_with(&opt, &accounts);
    unlink(keys);
}

static inline void stop(void)
{
    bt_server_close(server, 0);
    fake_close();
}
