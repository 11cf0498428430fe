/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - every knob of the program, once: flag, variable, key and help come from options.c's
 * table. */
#pragma once
#include "base/buf.h"
#include "baton/engine.h"
#include "baton/status.h"
#include "model/generation.h"
#include "model/generation.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum bt_command {
    BT_CMD_SERVE = 1,
    BT_CMD_RUN = 2,
    BT_CMD_TOKENIZE = 4,
    BT_CMD_BENCH = 8,
    BT_CMD_QUOTA = 16,
    BT_CMD_DOCTOR = 32,
    BT_CMD_TEMPLATE = 64,
} bt_command;

typedef struct bt_options {
    bool help;
    const char *config;
    /* model and device */
    const char *model, *alias, *device, *kv_type, *quant;
    int64_t threads, slots, ctx, kv_tokens, step_tokens, step_ms, gpu_layers;
    bool share_prefix, deterministic;
    /* server */
    const char *host, *data, *log_level;
    int64_t port, queue, queue_wait, anonymous_share, engine_timeout, park_after, max_body;
    int64_t max_bodies, connections, address_connections;
    /* who may use it */
    const char *api_keys, *api_key, *tiers, *trusted_proxy, *owner_token_file, *default_tier,
        *cors_origins;
    bool require_key;
    double price;
    /* text */
    const char *prompt, *system;
    int64_t predict, top_k, seed, repeat_last_n;
    double temperature, top_p, min_p, repeat_penalty;
    bool ids, jsonl, no_special, parse_special, ignore_eos, quiet, chat;
    /* bench */
    const char *n_prompt, *n_gen, *streams, *output, *shape, *only;
    int64_t repeat, shape_layers, seconds;
    bool quick;
    /* chat templates */
    const char *chat_template, *chat_template_file, *template_file, *context, *now;
    /* client commands */
    const char *url;
    bool health;
} bt_options;

/* Reads --config (or BATON_CONFIG, or ./baton.json if it is there), the environment and argv. */
bt_status bt_options_load(bt_options *o, bt_command command, int argc, char **argv, int *n_args,
                          bt_err *err);
void bt_options_release(bt_options *o); // also after a load that failed
void bt_options_help(bt_command command, bt_buf *out);
/* The engine's share of the options; BT_EINVAL names what is wrong. Without --model only where
 * --shape stands in for it. */
bt_status bt_options_engine(const bt_options *o, bt_engine_options *out, bt_err *err);
/* What the owner says of sampling; -1 where that is nothing. */
bt_generation bt_options_generation(const bt_options *o);
/* --data, else /data if it is there and writable, else ./data. */
const char *bt_options_data_dir(const bt_options *o);
