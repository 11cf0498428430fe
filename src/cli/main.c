/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - picks the subcommand. The hidden command "engine-process FD" is what `baton serve`
 * starts. */
#include "base/assert.h"
#include "cli/cli.h"
#include "engine/process.h"
#include "front/model_text.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    bt_command command;
    int (*run)(const bt_options *o, int argc, char **argv);
    const char *args, *help;
} commands[] = {
    {"serve", BT_CMD_SERVE, bt_cmd_serve, "-m MODEL [options]", "serve a model over HTTP"},
    {"run", BT_CMD_RUN, bt_cmd_run, "-m MODEL [-p PROMPT] [options]",
     "complete or chat in the terminal"},
    {"tokenize", BT_CMD_TOKENIZE, bt_cmd_tokenize, "-m MODEL [options] < TEXT",
     "show a text's tokens"},
    {"template", BT_CMD_TEMPLATE, bt_cmd_template,
     "--template FILE | -m MODEL --context FILE [--now TIME]", "render a chat template"},
    {"bench", BT_CMD_BENCH, bt_cmd_bench, "model|batch -m MODEL [options]",
     "measure prompt and generation speed"},
    {"quota", BT_CMD_QUOTA, bt_cmd_quota, "[show | set ACCOUNT SECONDS | reset ACCOUNT] [options]",
     "show and edit accounts of the running server"},
    {"doctor", BT_CMD_DOCTOR, bt_cmd_doctor, "[-m MODEL] [options]",
     "check what this machine offers"},
};

static void usage(FILE *out)
{
    fprintf(out,
            "Baton %s passes one GPU, or a few CPU cores, fairly between many users.\n\n"
            "usage: baton COMMAND [options]\n\n",
            BATON_VERSION);
    for (size_t i = 0; i < BT_COUNT(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "  %-10s %s\n\n`baton COMMAND --help` lists a command's options.\n", "version",
            "print the version");
}

static int run(size_t i, int argc, char **argv)
{
    bt_options o;
    bt_err err = {0};
    int n_args = 0, code = 0;
    if (bt_options_load(&o, commands[i].command, argc, argv, &n_args, &err)) {
        code = bt_cli_fail(&err);
    } else if (o.help) {
        bt_buf text = BT_BUF_INIT;
        bt_options_help(commands[i].command, &text);
        printf("usage: baton %s %s\n  %s\n%s", commands[i].name, commands[i].args, commands[i].help,
               text.data ? text.data : "");
        bt_buf_release(&text);
    } else {
        code = commands[i].run(&o, n_args, argv);
    }
    bt_options_release(&o);
    return code;
}

/* The engine process reads the vocabulary of a model's folder as the rest of the program does. */
static bt_status open_engine(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                             bt_engine **out, bt_err *err)
{
    bt_engine_options o = *opt;
    o.open_vocab = bt_model_vocab_open;
    return bt_engine_open(&o, sink, ud, out, err);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, BT_ENGINE_COMMAND) == 0 && argc == 3)
        return bt_engine_main(atoi(argv[2]), NULL, open_engine);
    if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
        printf("baton %s\n", BATON_VERSION);
        return 0;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < BT_COUNT(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return run(i, argc - 2, argv + 2);
    fprintf(stderr, "baton: unknown command '%s'\n\n", name);
    usage(stderr);
    return 2;
}
