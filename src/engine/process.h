/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - an engine as a process of its own, at the far end of a socket.
 *
 * It ends with its front in three ways: the kernel kills it when the front thread that started it
 * dies (so start it from a thread that lives as long as front), the socket reaches its end, or
 * front stops reading for 5 seconds. An engine with nothing to do sleeps in poll() without CPU. */
#pragma once
#include "baton/engine.h"

/* The hidden subcommand, followed by the descriptor, that makes this program an engine process. */
#define BT_ENGINE_COMMAND "engine-process"

enum {
    BT_ENGINE_EXIT_OK = 0,    // asked to stop, or front is gone
    BT_ENGINE_EXIT_LOAD = 1,  // could not load, or front broke the protocol; FATAL was sent
    BT_ENGINE_EXIT_FAULT = 4, // the device failed; FATAL was sent
};

/* Serves one engine on fd (a connected stream socket) until it ends; returns the exit code. opt
 * NULL: the options come as the first frame. Call it in a process of its own: it sets the process's
 * name, its parent-death signal and ignores SIGINT and SIGTERM: a terminal and a service manager
 * send them to the whole group, while front lets what runs end in order. Frames: engine/wire.h. */
typedef bt_status (*bt_engine_opener)(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                                      bt_engine **out, bt_err *err); // bt_engine_open, or around it
int bt_engine_main(int fd, const bt_engine_options *opt, bt_engine_opener opener);
