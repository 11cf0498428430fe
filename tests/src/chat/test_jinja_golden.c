/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 - every golden rendering of tests/data/templates: 184 real chat templates, byte for
 * byte what Python's jinja2 gives in transformers' environment, and a fault where Python raises. */
#include "src/jinja/template_fixture.h"
#include "chat/template.h"

enum { TEMPLATES_MAX = 512 };

static struct {
    bt_arena arena;
    const bt_json *root;
    const bt_json *contexts;
    const char *id[TEMPLATES_MAX];
    bt_jinja *compiled[TEMPLATES_MAX];
    int n;
} corpus;

static void compile_all(void)
{
    corpus.root = read_json(TEMPLATE_DATA "templates.json", &corpus.arena);
    corpus.contexts = bt_json_find(corpus.root, "contexts");
    const bt_json *item = bt_json_find(corpus.root, "templates")->child;
    for (; item; item = item->next) {
        const char *source = text_of(item, "template");
        bt_err err = {0};
        REQUIRE(source && corpus.n < TEMPLATES_MAX);
        corpus.id[corpus.n] = text_of(item, "id");
        if (bt_jinja_compile(source, strlen(source), NULL, &corpus.compiled[corpus.n], NULL, &err))
            fprintf(stderr, "%s: %s\n", corpus.id[corpus.n], err.msg);
        CHECK(corpus.compiled[corpus.n]);
        corpus.n++;
    }
    CHECK_INT(corpus.n, 184);
}

static const bt_jinja *compiled(const char *id)
{
    for (int i = 0; i < corpus.n; i++)
        if (strcmp(corpus.id[i], id) == 0) return corpus.compiled[i];
    return NULL;
}

typedef struct tally {
    int equal, wrong, raised, words; // words: faults with Python's very message
    bool plain_safe;
} tally;

static void show_difference(const bt_json *row, const char *got, const char *want)
{
    size_t at = 0;
    while (got[at] && got[at] == want[at]) at++;
    size_t from = at > 60 ? at - 60 : 0;
    fprintf(stderr, "%s %s: byte %zu\n  got  ...%.120s\n  want ...%.120s\n", text_of(row, "id"),
            text_of(row, "ctx"), at, got + from, want + from);
}

static void check_row(const bt_json *row, void *ud)
{
    tally *t = ud;
    const char *want = text_of(row, "out"), *fault = text_of(row, "err");
    const bt_jinja *tmpl = compiled(text_of(row, "id"));
    const bt_json *context = bt_json_find(corpus.contexts, text_of(row, "ctx"));
    bool agp = is_true(row, "agp");
    char fixed[200];
    REQUIRE(tmpl && context && (want || fault));
    char *json = json_text(context);
    int n = snprintf(fixed, sizeof fixed,
                     "{\"tools\":null,\"add_generation_prompt\":%s,\"bos_token\":\"<s>\","
                     "\"eos_token\":\"</s>\"}",
                     agp ? "true" : "false");
    bt_jinja_vars vars[] = {{fixed, (size_t)n, true}, {json, strlen(json), false}};
    bt_jinja_options opt = {.now_local_us = GOLDEN_NOW_US, .plain_safe = t->plain_safe};
    bt_jinja_output out = {0};
    bt_jinja_error error = {0};
    bt_err err = {0};
    bt_status st = bt_jinja_render(tmpl, vars, 2, &opt, &out, &error, &err);
    bool good;
    if (want) {
        good = st == BT_OK && out.len == strlen(want) && memcmp(out.text, want, out.len) == 0;
        if (st) fprintf(stderr, "%s %s: %s\n", text_of(row, "id"), text_of(row, "ctx"), err.msg);
        if (!st && !good) show_difference(row, out.text, want);
        t->equal += good;
    } else {
        const char *words = strstr(fault, ": ") + 2;
        bool same = strcmp(words, error.msg) == 0;
        good = st == BT_EINVAL && (same || strncmp(fault, "TemplateError: ", 15) != 0);
        if (!same)
            fprintf(stderr, "%s %s: got '%s', want '%s'\n", text_of(row, "id"), text_of(row, "ctx"),
                    st ? error.msg : "(no fault)", fault);
        t->raised += good;
        t->words += same;
    }
    t->wrong += !good;
    bt_jinja_output_release(&out);
    bt_free(json);
}

static void all_golden_rows(void)
{
    tally t = {0};
    int n = each_line(TEMPLATE_DATA "golden.jsonl", check_row, &t);
    fprintf(stderr, "%d rows: %d equal, %d fault as Python does, %d with its words\n", n, t.equal,
            t.raised, t.words);
    CHECK_INT(t.wrong, 0);
    CHECK_INT(t.equal, 2056);
    CHECK_INT(t.raised, 336);
    CHECK_INT(t.words, 336);
}

/* Through bt_template_render, which adapts messages: what the template can take as it is comes out
 * as Python has it. Rows that need no adapting: all messages are strings, and the template shows a
 * system message where there is one. */
static void check_service(const bt_json *row, void *ud)
{
    tally *t = ud;
    static const char *const plain[] = {"user",  "sys_user", "multi",    "multi_nosys",
                                        "tools", "think",    "think_off"};
    static const bt_template_token tokens[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    static char id[40];
    static bt_template *open;
    static const bt_json *think_off;
    const char *want = text_of(row, "out"), *name = text_of(row, "ctx");
    bool known = false;
    if (!think_off) think_off = json("{\"enable_thinking\":false}");
    if (!row) {
        bt_template_free(open);
        return;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) known |= !strcmp(plain[i], name);
    if (!want || !known) return;
    if (!open || strcmp(id, text_of(row, "id")) != 0) { // rows come template by template
        const bt_json *item = bt_json_find(corpus.root, "templates")->child;
        bt_template_free(open);
        open = NULL;
        snprintf(id, sizeof id, "%s", text_of(row, "id"));
        for (; item; item = item->next) {
            const char *source = text_of(item, "template");
            bt_template_source s = {NULL, {source, strlen(source)}};
            if (strcmp(text_of(item, "id"), id) == 0)
                REQUIRE(bt_template_new(&s, 1, tokens, 2, NULL, &open, NULL) == BT_OK);
        }
        REQUIRE(open);
    }
    if (!bt_template_get_caps(open)->content_string[BT_ROLE_USER])
        return; // Python loses their text
    if (!bt_template_get_caps(open)->system_role &&
        (!strcmp(name, "sys_user") || !strcmp(name, "multi") || !strcmp(name, "tools")))
        return;
    const bt_json *context = bt_json_find(corpus.contexts, name);
    bt_template_chat chat = {.messages = bt_json_find(context, "messages"),
                             .tools = bt_json_find(context, "tools"),
                             .add_generation_prompt = is_true(row, "agp"),
                             .now_local_us = GOLDEN_NOW_US};
    if (!strcmp(name, "think_off")) chat.kwargs = think_off;
    bt_jinja_output out = {0};
    bt_err err = {0};
    bt_status st = bt_template_render(open, &chat, &out, NULL, &err);
    bool same = st == BT_OK && strcmp(out.text, want) == 0;
    if (!same) {
        fprintf(stderr, "%s %s through the service: %s\n", id, name, err.msg);
        if (st == BT_OK) show_difference(row, out.text, want);
    }
    t->equal += same;
    t->wrong += !same;
    bt_jinja_output_release(&out);
}

static void services_keep_what_fits(void)
{
    tally t = {0};
    each_line(TEMPLATE_DATA "golden.jsonl", check_service, &t);
    check_service(NULL, &t);
    fprintf(stderr, "%d rows equal through bt_template_render\n", t.equal);
    CHECK_INT(t.wrong, 0);
    CHECK(t.equal > 1000);
}

static void safe_may_be_plain(void)
{
    tally t = {.plain_safe = true};
    CHECK_INT(each_line(TEMPLATE_DATA "plain_safe.jsonl", check_row, &t), 12);
    CHECK_INT(t.equal, 12);
}

int main(void)
{
    RUN(compile_all);
    RUN(all_golden_rows);
    RUN(services_keep_what_fits);
    RUN(safe_may_be_plain);
    for (int i = 0; i < corpus.n; i++) bt_jinja_free(corpus.compiled[i]);
    bt_arena_release(&corpus.arena);
    return TEST_END();
}
