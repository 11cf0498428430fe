/* SPDX-License-Identifier: Apache-2.0 */
/* test_jinja_units.c - small templates against what Python printed or raised, and conversations of
 * our own for every real template (tests/data/templates, scripts/make_template_golden.py). */
#include "template_fixture.h"

typedef struct tally {
    int equal, raised, words;
} tally;

static const char *fault_words(const bt_json *err)
{
    return err->child->next->text;
}

static bool says(const bt_jinja_error *e, const bt_json *err, tally *t, const char *what)
{
    bool same = strcmp(e->msg, fault_words(err)) == 0;
    t->raised += e->fault != BT_JINJA_OK;
    t->words += same;
    if (!same && getenv("BATON_TEST_WORDS"))
        fprintf(stderr, "%.200s\n  says  '%s'\n  wants '%s'\n", what, e->msg, fault_words(err));
    return e->fault != BT_JINJA_OK;
}

static void check_unit(const bt_json *row, void *ud)
{
    tally *t = ud;
    const char *source = text_of(row, "template"), *want = text_of(row, "out");
    const char *json = text_of(row, "context");
    const bt_json *fault = bt_json_find(row, "err");
    bt_jinja *tmpl = NULL;
    bt_jinja_vars vars = {json, strlen(json), false};
    bt_jinja_options opt = {.now_local_us = GOLDEN_NOW_US};
    bt_jinja_output out = {0};
    bt_jinja_error error = {0};
    bt_err err = {0};
    bt_status st = bt_jinja_compile(source, strlen(source), NULL, &tmpl, &error, &err);
    if (st == BT_OK) st = bt_jinja_render(tmpl, &vars, 1, &opt, &out, &error, &err);
    bool good = want ? st == BT_OK && strcmp(out.text, want) == 0
                     : st != BT_OK && says(&error, fault, t, source);
    t->equal += want && good;
    CHECK(good);
    if (!good)
        fprintf(stderr, "%.600s\n  got  %s\n  want %s\n", source, st ? err.msg : out.text,
                want ? want : fault_words(fault));
    bt_jinja_output_release(&out);
    bt_jinja_free(tmpl);
}

static void units(void)
{
    tally t = {0};
    int n = each_line(TEMPLATE_DATA "units.jsonl", check_unit, &t);
    fprintf(stderr, "%d templates: %d equal, %d raise as Python does, %d with its words\n", n,
            t.equal, t.raised, t.words);
    CHECK(t.equal > 300 && t.raised > 200);
}

/* ---- conversations */

static const bt_json *templates, *conversations;

static uint64_t fnv(const char *p, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return h;
}

static const char *source_of(const char *id)
{
    const bt_json *item = bt_json_find(templates, "templates")->child;
    for (; item; item = item->next)
        if (strcmp(text_of(item, "id"), id) == 0) return text_of(item, "template");
    return NULL;
}

static bool same_text(const bt_json *row, const bt_jinja_output *out)
{
    const char *whole = text_of(row, "out"), *head = text_of(row, "head");
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)fnv(out->text, out->len));
    bool same = strcmp(hash, text_of(row, "fnv")) == 0;
    if (!same) {
        const char *want = whole ? whole : head;
        size_t at = 0;
        while (want[at] && out->text[at] == want[at]) at++;
        fprintf(stderr, "%s %s: byte %zu\n  got  %.200s\n  want %.200s\n", text_of(row, "id"),
                text_of(row, "ctx"), at, out->text + at, want + at);
    }
    return same;
}

static void check_conversation(const bt_json *row, void *ud)
{
    static const char fixed[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    tally *t = ud;
    const bt_json *fault = bt_json_find(row, "err");
    const char *source = source_of(text_of(row, "id"));
    char *json = json_text(bt_json_find(conversations, text_of(row, "ctx")));
    REQUIRE(source && json);
    bt_jinja *tmpl = NULL;
    bt_jinja_vars vars[] = {{fixed, sizeof fixed - 1, true}, {json, strlen(json), false}};
    bt_jinja_options opt = {.now_local_us = GOLDEN_NOW_US};
    bt_jinja_output out = {0};
    bt_jinja_error error = {0};
    bt_err err = {0};
    REQUIRE(bt_jinja_compile(source, strlen(source), NULL, &tmpl, &error, &err) == BT_OK);
    bt_status st = bt_jinja_render(tmpl, vars, 2, &opt, &out, &error, &err);
    bool good = fault ? st != BT_OK && says(&error, fault, t, text_of(row, "id"))
                      : st == BT_OK && same_text(row, &out);
    t->equal += !fault && good;
    CHECK(good);
    if (!good)
        fprintf(stderr, "%s %s: %s, Python %s\n", text_of(row, "id"), text_of(row, "ctx"),
                st ? err.msg : "no fault", fault ? fault_words(fault) : "has none");
    bt_jinja_output_release(&out);
    bt_jinja_free(tmpl);
    bt_free(json);
}

static void own_conversations(void)
{
    tally t = {0};
    bt_arena arena[2];
    templates = read_json(TEMPLATE_DATA "templates.json", &arena[0]);
    conversations = read_json(TEMPLATE_DATA "conversations.json", &arena[1]);
    int n = each_line(TEMPLATE_DATA "conversations.jsonl", check_conversation, &t);
    fprintf(stderr, "%d conversations: %d equal, %d raise as Python does, %d with its words\n", n,
            t.equal, t.raised, t.words);
    CHECK_INT(t.equal + t.raised, n);
    CHECK_INT(t.words, t.raised);
    bt_arena_release(&arena[0]);
    bt_arena_release(&arena[1]);
}

int main(void)
{
    RUN(units);
    RUN(own_conversations);
    return TEST_END();
}
