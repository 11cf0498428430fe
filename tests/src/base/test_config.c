/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"
#include "test.h"
#include <unistd.h>

typedef struct settings {
    const char *model;
    int64_t port;
    double price;
    bool quiet, keep;
} settings;

#define AT(f) offsetof(settings, f)
static const bt_knob knobs[] = {
    {"model", "-m -model", "PATH", BT_KNOB_STR, AT(model), 0, 0, NULL, 3, "Model", "a file"},
    {"port", NULL, "PORT", BT_KNOB_INT, AT(port), 0, 65535, "7860", 1, "Server", "a port"},
    {"unit-price", NULL, "X", BT_KNOB_NUM, AT(price), 0, 10, "1", 1, "Server", "a factor"},
    {"quiet", "-q", NULL, BT_KNOB_BOOL, AT(quiet), 0, 0, NULL, 3, "Other", "say less"},
    {"keep", NULL, NULL, BT_KNOB_BOOL, AT(keep), 0, 0, "true", 1, "Other", "keep it"},
};
enum { KNOBS = sizeof knobs / sizeof *knobs };

static bt_status load(settings *s, unsigned command, const char *file, int argc, const char **argv,
                      int *n, bt_err *err)
{
    char *given[16];
    bt_config_release(knobs, KNOBS, s);
    memset(s, 0, sizeof *s);
    for (int i = 0; i < argc; i++) given[i] = (char *)(uintptr_t)argv[i];
    bt_status st = bt_config_load(knobs, KNOBS, s, command, file, argc, given, n, err);
    for (int i = 0; i < argc && i < *n && st == BT_OK; i++) argv[i] = given[i];
    return st;
}

static void flags_beat_environment_beats_file_beats_default(void)
{
    settings s = {0};
    bt_err err = {0};
    int n = 0;
    char path[] = "/tmp/baton-config-XXXXXX";
    int fd = mkstemp(path);
    const char *text =
        "{\"port\": 1000, \"unit_price\": 2.5, \"model\": \"file.gguf\", \"quiet\": true}";
    REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    CHECK_INT(load(&s, 1, NULL, 0, NULL, &n, &err), BT_OK);
    CHECK_INT(s.port, 7860);
    CHECK(s.keep && !s.quiet && s.model == NULL);
    setenv("BATON_UNIT_PRICE", "3", 1);
    const char *argv[] = {"-m", "flag.gguf", "left", "--no-keep", "--port=99", "--", "-x"};
    CHECK_INT(load(&s, 1, path, 7, argv, &n, &err), BT_OK);
    CHECK_STR(s.model, "flag.gguf");
    CHECK_INT(s.port, 99);
    CHECK_NEAR(s.price, 3, 0);
    CHECK(s.quiet && !s.keep);
    CHECK_INT(n, 2);
    CHECK_STR(argv[0], "left");
    CHECK_STR(argv[1], "-x");
    unsetenv("BATON_UNIT_PRICE");
    unlink(path);
    bt_config_release(knobs, KNOBS, &s);
}

static void errors_name_the_source(void)
{
    settings s = {0};
    int n = 0;
    static const struct {
        const char *flag[2], *why;
    } bad[] = {
        {{"--port", "70000"}, "--port must be between 0 and 65535, not 70000"},
        {{"--port", "12x"}, "--port must be a whole number, not '12x'"},
        {{"--port", "1.5"}, "--port must be a whole number"},
        {{"--prot", "1"}, "unknown option '--prot'"},
        {{"--quiet=maybe", "x"}, "true or false"},
        {{"x", "--port"}, "--port needs a value (PORT)"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bt_err err = {0};
        const char *argv[] = {bad[i].flag[0], bad[i].flag[1]};
        CHECK_INT(load(&s, 1, NULL, 2, argv, &n, &err), BT_EINVAL);
        if (!strstr(err.msg, bad[i].why)) CHECK_STR(err.msg, bad[i].why);
    }
    bt_err err = {0};
    setenv("BATON_PORT", "no", 1);
    CHECK_INT(load(&s, 1, NULL, 0, NULL, &n, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "BATON_PORT") != NULL);
    unsetenv("BATON_PORT");
    CHECK_INT(load(&s, 1, "/no/such.json", 0, NULL, &n, &err), BT_EIO);
    bt_config_release(knobs, KNOBS, &s);
}

static void commands_take_only_their_own(void)
{
    settings s = {0};
    bt_err err = {0};
    int n;
    const char *argv[] = {"--port", "1"};
    CHECK_INT(load(&s, 2, NULL, 2, argv, &n, &err), BT_EINVAL);
    bt_buf b = BT_BUF_INIT;
    bt_config_help(knobs, KNOBS, 2, &b);
    CHECK(strstr(b.data, "--model, -m, -model PATH") && !strstr(b.data, "--port"));
    bt_buf_release(&b);
    bt_config_release(knobs, KNOBS, &s);
}

int main(void)
{
    RUN(flags_beat_environment_beats_file_beats_default);
    RUN(errors_name_the_source);
    RUN(commands_take_only_their_own);
    return TEST_END();
}
