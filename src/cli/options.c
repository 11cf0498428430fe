/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"
#include "base/assert.h"
#include "base/config.h"
#include "front/model_text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(bt_options, field)
#define SERVE (BT_CMD_SERVE | BT_CMD_DOCTOR) // the doctor asks what serving asks
#define ENGINE (SERVE | BT_CMD_RUN | BT_CMD_BENCH)
#define MODEL (ENGINE | BT_CMD_TOKENIZE)
#define ALL (MODEL | BT_CMD_QUOTA | BT_CMD_TEMPLATE)

/* name, alias, value, type, field, min, max, default, commands, group, help */
static const bt_knob knobs[] = {
    {"model", "-m -hf", "PATH", BT_KNOB_STR, AT(model), 0, 0, NULL, MODEL | BT_CMD_TEMPLATE,
     "Model and device",
     "GGUF file, or a folder with safetensors and config.json; where only text is concerned also a "
     "tokenizer.json, .model or .tiktoken file or a folder of them"},
    {"alias", "-a", "NAME", BT_KNOB_STR, AT(alias), 0, 0, NULL, SERVE, "Model and device",
     "model name shown to clients (default: the file's name)"},
    {"device", "-dev", "auto|cpu|cuda:N", BT_KNOB_STR, AT(device), 0, 0, "auto", ENGINE,
     "Model and device", "where the model runs"},
    {"threads", "-t", "N", BT_KNOB_INT, AT(threads), 0, 1024, "0", ENGINE, "Model and device",
     "CPU threads; 0 = all cores it may use"},
    {"slots", "-np --parallel", "N", BT_KNOB_INT, AT(slots), 0, 256, "0", ENGINE,
     "Model and device", "sequences running at once; 0 = 8"},
    {"ctx", "-c --ctx-size", "TOKENS", BT_KNOB_INT, AT(ctx), 0, 1 << 24, "0", ENGINE,
     "Model and device", "longest sequence; 0 = the model's, at most 4096"},
    {"kv-tokens", NULL, "TOKENS", BT_KNOB_INT, AT(kv_tokens), 0, 1 << 28, "0", ENGINE,
     "Model and device", "KV cache in all; 0 = planned from free memory"},
    {"kv-type", "-ctk --cache-type-k --kv-format", "FORMAT", BT_KNOB_STR, AT(kv_type), 0, 0, "f16",
     ENGINE, "Model and device",
     "format of the KV cache: f16, bf16, f32, or int8 and fp8, which hold nearly twice the tokens"},
    {"quant", NULL, "int8|int4", BT_KNOB_STR, AT(quant), 0, 0, NULL, ENGINE, "Model and device",
     "convert the weights while loading (groups of 128); default: as they are in the file"},
    {"deterministic", NULL, NULL, BT_KNOB_BOOL, AT(deterministic), 0, 0, NULL, ENGINE,
     "Model and device", "CUDA: the same text whatever else is in the batch (the CPU always)"},
    {"step-tokens", "-ub --ubatch-size", "N", BT_KNOB_INT, AT(step_tokens), 0, 8192, "0", ENGINE,
     "Model and device", "most tokens in one step; 0 = 512"},
    {"step-ms", NULL, "MS", BT_KNOB_INT, AT(step_ms), 0, 10000, "0", ENGINE, "Model and device",
     "longest step aimed at; 0 = 250"},
    {"gpu-layers", "-ngl --n-gpu-layers", "N", BT_KNOB_INT, AT(gpu_layers), -1, 1e6, "0", ENGINE,
     "Model and device", "accepted for llama-server's users; the device is --device's choice"},
    {"share-prefix", NULL, NULL, BT_KNOB_BOOL, AT(share_prefix), 0, 0, NULL, SERVE,
     "Model and device", "one prefix cache for all accounts (default: one each)"},

    {"host", NULL, "ADDRESS", BT_KNOB_STR, AT(host), 0, 0, "0.0.0.0", SERVE, "Server",
     "listen here"},
    {"port", NULL, "PORT", BT_KNOB_INT, AT(port), 0, 65535, "7860", SERVE, "Server",
     "listen here; 0 = any free one (PORT is read too)"},
    {"data", NULL, "DIR", BT_KNOB_STR, AT(data), 0, 0, NULL, SERVE | BT_CMD_QUOTA, "Server",
     "ledger and keys; default /data if it is there, else ./data"},
    {"queue", NULL, "N", BT_KNOB_INT, AT(queue), 1, 1000000, "1024", SERVE, "Server",
     "requests waiting in all"},
    {"queue-wait", NULL, "SECONDS", BT_KNOB_INT, AT(queue_wait), 1, 86400, "600", SERVE, "Server",
     "longest wait in the queue"},
    {"anonymous-share", NULL, "PERCENT", BT_KNOB_INT, AT(anonymous_share), 1, 100, "75", SERVE,
     "Server",
     "what visitors without a key may take together of the slots, and of the places in the queue "
     "that their class may take"},
    {"park-after", NULL, "SECONDS", BT_KNOB_INT, AT(park_after), 0, 1 << 30, "0", SERVE, "Server",
     "give the device's memory back after so long without requests; 0 = never"},
    {"engine-timeout", NULL, "SECONDS", BT_KNOB_INT, AT(engine_timeout), 1, 86400, "60", SERVE,
     "Server", "an engine that has work and says nothing for this long is restarted"},
    {"max-body", NULL, "BYTES", BT_KNOB_INT, AT(max_body), 1024, 1 << 30, "8388608", SERVE,
     "Server", "largest request body"},
    {"max-bodies", NULL, "BYTES", BT_KNOB_INT, AT(max_bodies), 0, 1LL << 40, "0", SERVE, "Server",
     "memory of request bodies together; 0 = 8 x --max-body"},
    {"connections", NULL, "N", BT_KNOB_INT, AT(connections), 8, 100000, "4096", SERVE, "Server",
     "connections in all"},
    {"address-connections", NULL, "N", BT_KNOB_INT, AT(address_connections), 0, 100000, "0", SERVE,
     "Server",
     "connections of one address that is no trusted proxy; 0 = an eighth of all, or three quarters "
     "for a private address"},
    {"log-level", NULL, "LEVEL", BT_KNOB_STR, AT(log_level), 0, 0, "info", ENGINE, "Server",
     "error, warn, info or debug"},

    {"api-keys", "--api-key-file", "FILE", BT_KNOB_STR, AT(api_keys), 0, 0, NULL, SERVE,
     "Who may use it", "lines of KEY ACCOUNT TIER"},
    {"api-key", NULL, "KEY", BT_KNOB_STR, AT(api_key), 0, 0, NULL, SERVE, "Who may use it",
     "one key, account \"default\", tier pro; then a key is required"},
    {"require-key", NULL, NULL, BT_KNOB_BOOL, AT(require_key), 0, 0, NULL, SERVE, "Who may use it",
     "refuse anonymous requests"},
    {"tiers", NULL, "FILE|guide|2026", BT_KNOB_STR, AT(tiers), 0, 0, "guide", SERVE,
     "Who may use it",
     "what each tier may use; FILE is JSON, {TIER: {gpu_seconds, class, weight, lease_max_s, "
     "slots, "
     "queue}}"},
    {"default-tier", NULL, "TIER", BT_KNOB_STR, AT(default_tier), 0, 0, "anonymous", SERVE,
     "Who may use it", "tier of requests without a key"},
    {"trusted-proxy", NULL, "auto|CIDR,...", BT_KNOB_STR, AT(trusted_proxy), 0, 0, "auto", SERVE,
     "Who may use it", "whose X-Forwarded-For to believe"},
    {"cors-origins", NULL, "*|ORIGIN,...", BT_KNOB_STR, AT(cors_origins), 0, 0, NULL, SERVE,
     "Who may use it",
     "web pages of other sites that may use it without a key, as https://chat.example.org"},
    {"owner-token-file", NULL, "FILE", BT_KNOB_STR, AT(owner_token_file), 0, 0, NULL,
     SERVE | BT_CMD_QUOTA, "Who may use it",
     "the owner's secret, 16 characters or more; default BATON_OWNER_TOKEN, else DATA/owner-token, "
     "which is made if it is missing"},
    {"price", NULL, "FACTOR", BT_KNOB_NUM, AT(price), 0.0001, 10000, "1", SERVE, "Who may use it",
     "charged time = device time x this"},

    {"prompt", "-p", "TEXT", BT_KNOB_STR, AT(prompt), 0, 0, NULL, BT_CMD_RUN, "Text",
     "complete this; without it, chat"},
    {"system", "-sys", "TEXT", BT_KNOB_STR, AT(system), 0, 0, NULL, BT_CMD_RUN, "Text",
     "system message of the chat"},
    {"chat", "-cnv --conversation", NULL, BT_KNOB_BOOL, AT(chat), 0, 0, NULL, BT_CMD_RUN, "Text",
     "chat also where there is a prompt (its first message) or no terminal"},
    {"chat-template", NULL, "plain|TEXT", BT_KNOB_STR, AT(chat_template), 0, 0, NULL,
     SERVE | BT_CMD_RUN | BT_CMD_TEMPLATE, "Text",
     "chats go through this (Jinja source, or Baton's plain format); default: the model's own"},
    {"chat-template-file", NULL, "FILE", BT_KNOB_STR, AT(chat_template_file), 0, 0, NULL,
     SERVE | BT_CMD_RUN | BT_CMD_TEMPLATE, "Text", "the same from a file"},
    {"predict", "-n --n-predict", "TOKENS", BT_KNOB_INT, AT(predict), 1, 1 << 24, "256", BT_CMD_RUN,
     "Text", "most tokens to generate"},
    {"temp", "--temperature", "T", BT_KNOB_NUM, AT(temperature), -1, 100, "-1", SERVE | BT_CMD_RUN,
     "Text", "0 = greedy; -1 = as the model's generation_config.json has it, else 0.8 (served: 1)"},
    {"top-k", NULL, "K", BT_KNOB_INT, AT(top_k), -1, 1 << 24, "-1", SERVE | BT_CMD_RUN, "Text",
     "0 = off; -1 = the model's, else 40 (served: off)"},
    {"top-p", NULL, "P", BT_KNOB_NUM, AT(top_p), -1, 1, "-1", SERVE | BT_CMD_RUN, "Text",
     "1 = off; -1 = the model's, else 0.95 (served: off)"},
    {"min-p", NULL, "P", BT_KNOB_NUM, AT(min_p), -1, 1, "-1", SERVE | BT_CMD_RUN, "Text",
     "0 = off; -1 = the model's, else 0.05 (served: off)"},
    {"repeat-penalty", NULL, "X", BT_KNOB_NUM, AT(repeat_penalty), -1, 10, "-1", SERVE | BT_CMD_RUN,
     "Text", "1 = off; -1 = the model's, else 1"},
    {"repeat-last-n", NULL, "N", BT_KNOB_INT, AT(repeat_last_n), -1, 1 << 24, "64", BT_CMD_RUN,
     "Text", "window of --repeat-penalty; -1 = everything"},
    {"seed", "-s", "SEED", BT_KNOB_INT, AT(seed), -1, 9e15, "-1", BT_CMD_RUN, "Text",
     "-1 = random"},
    {"ignore-eos", NULL, NULL, BT_KNOB_BOOL, AT(ignore_eos), 0, 0, NULL, BT_CMD_RUN, "Text",
     "never end by itself"},
    {"quiet", "-q", NULL, BT_KNOB_BOOL, AT(quiet), 0, 0, NULL, BT_CMD_RUN, "Text",
     "no timings on stderr"},
    {"ids", NULL, NULL, BT_KNOB_BOOL, AT(ids), 0, 0, NULL, BT_CMD_TOKENIZE | BT_CMD_TEMPLATE,
     "Text", "print ids (default: pieces, or the prompt's text)"},
    {"jsonl", NULL, NULL, BT_KNOB_BOOL, AT(jsonl), 0, 0, NULL, BT_CMD_TOKENIZE, "Text",
     "each line of the input is a JSON string; prints a line of ids for each"},
    {"no-special", NULL, NULL, BT_KNOB_BOOL, AT(no_special), 0, 0, NULL, BT_CMD_TOKENIZE, "Text",
     "do not add BOS or EOS"},
    {"parse-special", NULL, NULL, BT_KNOB_BOOL, AT(parse_special), 0, 0, NULL, BT_CMD_TOKENIZE,
     "Text", "read control tokens spelled in the text"},

    {"template", NULL, "FILE", BT_KNOB_STR, AT(template_file), 0, 0, NULL, BT_CMD_TEMPLATE, "Text",
     "a chat template (Jinja source)"},
    {"context", NULL, "FILE", BT_KNOB_STR, AT(context), 0, 0, NULL, BT_CMD_TEMPLATE, "Text",
     "its variables, a JSON object; with --model the body of a chat request; - reads standard "
     "input"},
    {"now", NULL, "TIME", BT_KNOB_STR, AT(now), 0, 0, NULL, BT_CMD_TEMPLATE, "Text",
     "what strftime_now shows, as 2026-01-31T12:00:00; default the present"},

    {"n-prompt", "-p", "N,...", BT_KNOB_STR, AT(n_prompt), 0, 0, "512", BT_CMD_BENCH, "Bench",
     "prompt lengths; 0 = none"},
    {"n-gen", "-n", "N,...", BT_KNOB_STR, AT(n_gen), 0, 0, "128", BT_CMD_BENCH, "Bench",
     "generation lengths; 0 = none"},
    {"repeat", "-r --repetitions", "N", BT_KNOB_INT, AT(repeat), 1, 1000, "5", BT_CMD_BENCH,
     "Bench", "runs of each test"},
    {"streams", "-npl", "N,...", BT_KNOB_STR, AT(streams), 0, 0, "1,4,16", BT_CMD_BENCH, "Bench",
     "`bench batch`: sequences at once"},
    {"shape", NULL, "NAME", BT_KNOB_STR, AT(shape), 0, 0, NULL, BT_CMD_BENCH, "Bench",
     "instead of --model: random weights of a known model's shape, as llama-3-8b; --quant is then "
     "their format, as q4_k_m, q8_0 or f16"},
    {"shape-layers", NULL, "N", BT_KNOB_INT, AT(shape_layers), 0, 1000, "0", BT_CMD_BENCH, "Bench",
     "with --shape: only so many layers; 0 = all"},
    {"only", NULL, "KERNEL", BT_KNOB_STR, AT(only), 0, 0, NULL, BT_CMD_BENCH, "Bench",
     "`bench ops`: kernels whose name begins so, as gemv"},
    {"quick", NULL, NULL, BT_KNOB_BOOL, AT(quick), 0, 0, NULL, BT_CMD_BENCH, "Bench",
     "`bench ops`: fewer cases and repetitions"},
    {"seconds", NULL, "S", BT_KNOB_INT, AT(seconds), 0, 86400, "0", BT_CMD_BENCH, "Bench",
     "`bench ops`: begin no case after so long; 0 = no limit"},
    {"output", "-o", "md|csv|json|jsonl", BT_KNOB_STR, AT(output), 0, 0, "md",
     BT_CMD_BENCH | BT_CMD_QUOTA, "Output", "table format"},

    {"health", NULL, NULL, BT_KNOB_BOOL, AT(health), 0, 0, NULL, BT_CMD_DOCTOR, "Server",
     "ask the running server whether it is ready; exit 0 or 1"},
    {"url", NULL, "URL", BT_KNOB_STR, AT(url), 0, 0, NULL, BT_CMD_QUOTA | BT_CMD_DOCTOR, "Server",
     "the running server; default http://127.0.0.1:7860 or what DATA says"},
    {"config", NULL, "FILE", BT_KNOB_STR, AT(config), 0, 0, NULL, ALL, "Other",
     "settings as JSON; ./baton.json is read if it is there"},
    {"help", "-h", NULL, BT_KNOB_BOOL, AT(help), 0, 0, NULL, ALL, "Other", "this page"},
};

/* --config is looked for before anything else is read. */
static const char *options_file(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) return argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) return argv[i + 1];
    }
    const char *env = getenv("BATON_CONFIG");
    if (env && *env) return env;
    return access("baton.json", R_OK) == 0 ? "baton.json" : NULL;
}

bt_status bt_options_load(bt_options *o, bt_command command, int argc, char **argv, int *n_args,
                          bt_err *err)
{
    memset(o, 0, sizeof *o);
    bt_status st = bt_config_load(knobs, BT_COUNT(knobs), o, command, options_file(argc, argv),
                                  argc, argv, n_args, err);
    const char *port = getenv("PORT");
    if (st == BT_OK && command == BT_CMD_SERVE && o->port == 7860 && port && atoi(port) > 0)
        o->port = atoi(port);
    return st;
}

void bt_options_release(bt_options *o)
{
    bt_config_release(knobs, BT_COUNT(knobs), o);
}

void bt_options_help(bt_command command, bt_buf *out)
{
    bt_config_help(knobs, BT_COUNT(knobs), command, out);
}

bt_status bt_options_engine(const bt_options *o, bt_engine_options *out, bt_err *err)
{
    if ((!o->model || !*o->model) && !o->shape)
        return bt_err_set(
            err, BT_EINVAL, 0,
            "no model was given: use --model PATH (models/stories260K.gguf comes with Baton)");
    memset(out, 0, sizeof *out);
    out->model_path = o->model;
    out->open_vocab = bt_model_vocab_open;
    out->device = o->device;
    out->threads = (int32_t)o->threads;
    out->slots = (int32_t)o->slots;
    out->ctx = (int32_t)o->ctx;
    out->kv_tokens = (int32_t)o->kv_tokens;
    out->step_tokens = (int32_t)o->step_tokens;
    out->step_ms = (int32_t)o->step_ms;
    out->quant = o->quant;
    out->deterministic = o->deterministic;
    out->share_prefix = o->share_prefix;
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) {
        out->kv_format = f;
        if (strcmp(o->kv_type, bt_kv_format_name(f)) == 0) return BT_OK;
    }
    return bt_err_set(err, BT_EINVAL, 0, "--kv-type must be f16, f32, bf16, int8 or fp8, not '%s'",
                      o->kv_type);
}

bt_generation bt_options_generation(const bt_options *o)
{
    return (bt_generation){.temperature = o->temperature,
                           .top_p = o->top_p,
                           .min_p = o->min_p,
                           .repetition_penalty = o->repeat_penalty > 0 ? o->repeat_penalty : -1,
                           .top_k = o->top_k};
}

const char *bt_options_data_dir(const bt_options *o)
{
    if (o->data) return o->data;
    return access("/data", W_OK) == 0 ? "/data" : "data";
}
