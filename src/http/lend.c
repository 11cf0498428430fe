/* SPDX-License-Identifier: Apache-2.0 */
/* lend.c - a call that is on another thread: given away, given up, given back. */
#include "base/assert.h"
#include "base/log.h"
#include "http/internal.h"
#include <errno.h>
#include <unistd.h>

/* ---- waking the loop */

static void wake(bt_server *s)
{
    uint64_t one = 1;
    if (write(s->event_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        bt_log(BT_LOG_ERR, "http.wake", "errno=%d", errno);
}

void bt__server_ready(bt_server *s, uint64_t id)
{
    pthread_mutex_lock(&s->mu);
    bool first = s->n_ready == 0 && !s->ready_lost && !s->done;
    if (s->n_ready == s->cap_ready) {
        size_t cap = s->cap_ready ? s->cap_ready * 2 : 256;
        uint64_t *grown = bt_realloc(s->ready, cap * sizeof *grown);
        if (grown) {
            s->ready = grown;
            s->cap_ready = cap;
        }
    }
    if (s->n_ready < s->cap_ready)
        s->ready[s->n_ready++] = id;
    else
        s->ready_lost = true;
    pthread_mutex_unlock(&s->mu);
    if (first) wake(s);
}

void bt__server_done(bt_call *c)
{
    bt_server *s = c->conn->server;
    pthread_mutex_lock(&s->mu);
    bool first = s->n_ready == 0 && !s->ready_lost && !s->done;
    c->next_done = s->done;
    s->done = c;
    pthread_mutex_unlock(&s->mu);
    if (first) wake(s);
}

/* ---- giving away */

static void run_text(bt_work *w, bt_text *t)
{
    bt_call *c = BT_OF(bt_call, work, w);
    bt_buf_clear(&c->reply);
    c->n_headers = c->status = 0;
    c->text = t;
    c->route->handle(c);
    c->text = NULL;
}

static void text_done(bt_work *w, bt_status st)
{
    bt_call *c = BT_OF(bt_call, work, w);
    if (st) bt__call_fail(c, st, NULL, NULL, NULL);
    bt__server_done(c);
}

bt_status bt__call_lend(bt_call *c, bt_err *err)
{
    bt_server *s = c->conn->server;
    bt_status st;
    c->stage = BT_STAGE_WORK;
    if (c->route->where == BT_ON_HELPER) {
        st = bt_inbox_push(&s->work, &c);
        if (st) return bt_err_set(err, BT_EBUSY, 0, "the server is busy; try again in a moment");
    } else {
        c->work =
            (bt_work){.who = &c->who, .bytes = c->body.len, .run = run_text, .done = text_done};
        st = bt_work_start(s->front, &c->work, err);
        if (st) return st;
        bt__call_watch(c);
    }
    bt__call_park(c);
    return BT_OK;
}

/* ---- the client is gone */

void bt__call_hangup(bt_call *c)
{
    if (c->gone) return;
    c->gone = true;
    bool answered = c->stage == BT_STAGE_REPLIED ||
                    (c->answer && bt_answer_state_get(c->answer) > BT_ANSWER_RUNNING);
    if (!answered) atomic_fetch_add(&c->conn->server->count.hangups, 1);
    if (c->stage == BT_STAGE_WORK) { // lent: looked at when it comes back
        bt_work_cancel(c->conn->server->front, &c->work);
        return;
    }
    bt__generate_cancel(c);
    bt__call_unpark(c);
}
