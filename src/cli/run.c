/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - `baton run`: completes a prompt, or chats, with the engine in this process. Ctrl-C ends
 * an answer. */
#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "front/model_text.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROMPT_MAX = 16 << 20, LINE_MAX_BYTES = 1 << 20 };

typedef struct session {
    const bt_options *o;
    bt_engine *engine;
    bt_encoder *encoder;
    const bt_generation *generation; // the model's own defaults
    bt_chat *chat;
    bool ready, ended, progress;
    bt_finish finish;
    int32_t ctx, prompt_tokens, cached_tokens, completion_tokens;
    int64_t prefill_ns, decode_ns;
    bt_buf answer; // chat: what the model said in this turn
    bool keep;
} session;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void on_event(void *ud, const bt_engine_event *ev)
{
    session *s = ud;
    switch (ev->type) {
    case BT_EE_LOAD:
        /* small models load before one could read it */
        if (!s->progress || ev->u.load.total < 64 << 20) break;
        fprintf(stderr, "\rloading %3d %%", (int)(ev->u.load.done * 100 / ev->u.load.total));
        if (ev->u.load.done == ev->u.load.total) fprintf(stderr, "\r             \r");
        break;
    case BT_EE_READY: s->ctx = ev->u.ready.ctx; break;
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END:
        fwrite(ev->u.tokens.text, 1, (size_t)ev->u.tokens.n_text, stdout);
        fflush(stdout);
        if (s->keep) bt_buf_add(&s->answer, ev->u.tokens.text, (size_t)ev->u.tokens.n_text);
        break;
    case BT_EE_END:
        s->ended = true;
        s->finish = ev->u.end.finish;
        s->prompt_tokens = ev->u.end.prompt_tokens;
        s->cached_tokens = ev->u.end.cached_tokens;
        s->completion_tokens = ev->u.end.completion_tokens;
        s->prefill_ns = ev->u.end.prefill_ns;
        s->decode_ns = ev->u.end.decode_ns;
        break;
    case BT_EE_PREFILL:
    case BT_EE_PROMPT_LOGPROBS:
    case BT_EE_STEP:
    case BT_EE_RESIDENCY:
    case BT_EE_FATAL: break;
    }
}

/* The user's word, else the model's, else what suits a talk. */
static void params_of(const bt_options *o, const bt_generation *model, bt_gen_params *p)
{
    bt_generation own = bt_options_generation(o);
    bt_gen_params_init(p);
    p->temperature = 0.8f;
    p->top_k = 40;
    p->top_p = 0.95f;
    p->min_p = 0.05f;
    bt_generation_apply(model, p);
    bt_generation_apply(&own, p);
    if (o->repeat_penalty >= 0) p->repeat_last_n = (int32_t)o->repeat_last_n;
    p->ignore_eos = o->ignore_eos;
    p->seed = o->seed >= 0 ? (uint64_t)o->seed : bt_random_id();
}

/* Runs one prompt to its end; the text goes to stdout as it comes. st: of the encoding. */
static bt_status complete(session *s, bt_status st, const int32_t *ids, size_t n_ids,
                          const char *stop, bt_err *err)
{
    static uint64_t next_id;
    if (st == BT_ECONTEXT || (st == BT_OK && (int32_t)n_ids >= s->ctx))
        return bt_err_set(err, BT_ECONTEXT, 0,
                          "the prompt does not fit the context of %d tokens; use "
                          "--ctx or a shorter one",
                          s->ctx);
    if (st == BT_OK && n_ids == 0) return bt_err_set(err, BT_EINVAL, 0, "the prompt is empty");
    if (st) return st;
    bt_engine_request req = {
        .id = ++next_id, .salt = 1, .tokens = ids, .n_tokens = (int32_t)n_ids, .n_seq = 1};
    params_of(s->o, s->generation, &req.params);
    int32_t room = s->ctx - (int32_t)n_ids;
    req.params.max_tokens = s->o->predict < room ? (int32_t)s->o->predict : room;
    req.params.stop = &stop;
    req.params.n_stop = stop != NULL;
    req.lease =
        (bt_lease){.generation = (uint32_t)next_id, .budget_us = INT64_MAX, .budget_final = true};
    s->ended = false;
    interrupted = 0;
    st = bt_engine_submit(s->engine, &req, err);
    while (st == BT_OK && !s->ended) {
        if (interrupted)
            bt_engine_cancel(s->engine, req.id, req.lease.generation, BT_FINISH_CANCELLED);
        else
            st = bt_engine_step(s->engine, err);
    }
    bt_engine_release(s->engine, req.id);
    return st;
}

static void show_timings(const session *s)
{
    if (s->o->quiet) return;
    int32_t prompt = s->prompt_tokens - s->cached_tokens;
    double prefill_s = (double)s->prefill_ns / 1e9, decode_s = (double)s->decode_ns / 1e9;
    fprintf(stderr, "\n[prompt %d tokens, %.1f/s; generated %d, %.1f/s; ended: %s]\n", prompt,
            prefill_s > 0 ? prompt / prefill_s : 0, s->completion_tokens,
            decode_s > 0 ? (s->completion_tokens - 1) / decode_s : 0, bt_finish_name(s->finish));
}

static bt_status run_prompt(session *s, bt_err *err)
{
    bt_buf in = BT_BUF_INIT;
    const char *text = s->o->prompt;
    size_t n = text ? strlen(text) : 0;
    bt_status st = BT_OK;
    if (!text) {
        st = bt_cli_read_stdin(&in, PROMPT_MAX, err);
        text = in.data;
        n = in.len;
    }
    if (st == BT_OK) {
        fwrite(text, 1, n, stdout);
        fflush(stdout);
        bt_encode_options opt = {.add_special = true};
        const int32_t *ids = NULL;
        size_t n_ids = 0;
        st = bt_encode(s->encoder, text, n, &opt, (size_t)s->ctx, &ids, &n_ids, err);
        st = complete(s, st, ids, n_ids, NULL, err);
    }
    if (st == BT_OK) {
        putchar('\n');
        show_timings(s);
    }
    bt_buf_release(&in);
    return st;
}

/* Appends a message to the list, whose bracket stays open. */
static void say(bt_buf *list, const char *role, const char *content, size_t n)
{
    bt_buf_addc(list, list->len ? ',' : '[');
    bt_jw w = bt_jw_on(list);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "role", role);
    bt_jw_key(&w, "content");
    bt_jw_strn(&w, content, n);
    bt_jw_close(&w, '}');
}

/* The whole conversation is the prompt of each turn; the prefix cache makes that cheap. */
static bt_status chat_turn(session *s, bt_buf *list, bt_err *err)
{
    bt_jinja_output prompt = {0};
    const int32_t *ids = NULL;
    size_t n_ids = 0;
    bt_buf_addc(list, ']');
    if (list->failed) return bt_err_set(err, BT_ENOMEM, 0, "the chat has grown too long");
    bt_template_chat chat = {.add_generation_prompt = true};
    bt_arena arena;
    bt_arena_init(&arena, bt_json_room(list->len));
    bt_status st = bt_json_parse(list->data, list->len, &arena, &chat.messages, err);
    if (st == BT_OK) st = bt_chat_render(s->chat, &chat, &prompt, err);
    bt_arena_release(&arena);
    list->len--;
    if (st) return st;
    st = bt_chat_encode(s->chat, s->encoder, &prompt, false, (size_t)s->ctx, NULL, &ids, &n_ids,
                        err);
    bt_jinja_output_release(&prompt);
    bt_buf_clear(&s->answer);
    st = complete(s, st, ids, n_ids, bt_chat_stop(s->chat), err);
    if (st == BT_OK) say(list, "assistant", s->answer.data ? s->answer.data : "", s->answer.len);
    return st;
}

/* The next line of the user's; false at the end. */
static bool next_line(const session *s, char *line, size_t cap, bool first)
{
    if (first && s->o->prompt) {
        snprintf(line, cap, "%s", s->o->prompt);
        return true;
    }
    fprintf(stderr, "> ");
    if (!fgets(line, (int)cap, stdin)) return false;
    line[strcspn(line, "\n")] = 0;
    return line[0] != 0;
}

static bt_status run_chat(session *s, bt_err *err)
{
    static char line[LINE_MAX_BYTES];
    bt_buf list = BT_BUF_INIT;
    bt_status st = BT_OK;
    s->keep = true;
    if (s->o->system) say(&list, "system", s->o->system, strlen(s->o->system));
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "Chat. An empty line or Ctrl-D ends it, Ctrl-C an answer.\n");
    for (bool first = true; st == BT_OK && next_line(s, line, sizeof line, first); first = false) {
        say(&list, "user", line, strlen(line));
        st = chat_turn(s, &list, err);
        if (st) break;
        putchar('\n');
        show_timings(s);
    }
    bt_buf_release(&list);
    return st;
}

int bt_cmd_run(const bt_options *o, int argc, char **argv)
{
    (void)argc, (void)argv;
    session s = {.o = o, .progress = isatty(STDERR_FILENO)};
    bt_engine_options eo;
    bt_model_text text = {0};
    bt_buf file = BT_BUF_INIT;
    const char *own = NULL;
    bt_err err = {0};
    int level = bt_log_parse_level(o->log_level);
    bool loud = level > BT_LOG_INFO && !o->quiet; // an answer is no place for the default's lines
    bt_log_set_level(loud || level == BT_LOG_ERR ? (bt_log_level)level : BT_LOG_WARN);
    bool chat = o->chat || (!o->prompt && isatty(STDIN_FILENO));
    bt_status st = bt_options_engine(o, &eo, &err);
    if (st == BT_OK && eo.slots == 0) eo.slots = 1;
    if (st == BT_OK) st = bt_cli_chat_template(o, &file, &own, &err);
    if (st == BT_OK) st = bt_model_text_open(o->model, own, &text, &err);
    s.chat = text.chat;
    if (st == BT_OK && chat && !s.chat)
        st = bt_err_set(&err, text.chat_why.code, 0, "%s", text.chat_why.msg);
    if (st == BT_OK) st = bt_encoder_open(text.tokenizer, &s.encoder, &err);
    if (st == BT_OK) s.generation = &text.model->generation;
    if (st == BT_OK) st = bt_engine_open(&eo, on_event, &s, &s.engine, &err);
    if (st == BT_OK) {
        signal(SIGINT, on_interrupt);
        st = chat ? run_chat(&s, &err) : run_prompt(&s, &err);
    }
    bt_engine_close(s.engine);
    bt_encoder_close(s.encoder);
    bt_model_text_close(&text);
    bt_buf_release(&file);
    bt_buf_release(&s.answer);
    return st ? bt_cli_fail(&err) : 0;
}
