/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c - the prompts of one request: one place in the queue, one after another.
 *
 * A completion may carry many prompts. Each is a request to the scheduler, the ledger and the
 * engine, with a hold and a charge of its own; but only one of them waits at a time. The first is
 * bound by the queue as any request; when it is admitted the next takes the place that it leaves,
 * and so on, so that no request is ever refused by its own parts, nor pushes others back by more
 * than its account's share. All are tokens before the first is submitted: what is wrong with any is
 * said before anything has run.
 *
 * Once one has run nothing is refused any more. A hold that was refused because running sisters
 * have all that is left of the quota is asked for again when one has ended. Where it is final, or
 * the wait for a place was too long, those left end without having run. */
#include "base/assert.h"
#include "base/clock.h"
#include "front/internal.h"
#include <stdio.h>

void bt__parts_name(bt_err *err, int32_t i, int32_t n)
{
    bt_err why = *err;
    if (n > 1) snprintf(err->msg, sizeof err->msg, "prompt %d of %d: %.200s", i + 1, n, why.msg);
}

void bt__parts_drop(bt_parts *p)
{
    for (int32_t i = BT_MAX(p->next, 1); i < p->n; i++) bt_stream_unref(p->part[i]);
    p->next = p->n;
}

void bt__parts_submit(bt_stream *s)
{
    const bt_tier *t = s->identity.tier;
    bt_sched_event ev = {.type = BT_EV_SUBMIT, .request = s->id};
    ev.u.submit = (bt_sched_request){
        .id = s->id,
        .account = {.id = s->identity.account_id,
                    .cls = (int32_t)t->cls,
                    .weight = t->weight,
                    .slots = t->slots,
                    .queue = t->queue,
                    .lease_max_ns = t->lease_max_s * (int64_t)1000000000,
                    .anonymous = !s->identity.authenticated,
                    .group = s->identity.network},
        .prompt_tokens = s->n_tokens,
        .max_tokens = s->max_tokens,
        .n_seq = s->n_seq,
        .lease_ns = s->lease_ns,
        .follows = s->parts->ran,
    };
    bt__unit_events(s->unit, &ev, 1);
    atomic_store(&s->in_sched, true);
    /* a cancel that came before in_sched was set has told nobody */
    if (atomic_load(&s->cancelled)) bt__unit_event(s->unit, BT_EV_CANCEL, s->id);
}

/* One that is not, or no longer, with the scheduler and has not run. */
static void end(bt_stream *s, bt_finish finish, const bt_ledger_balance *balance)
{
    bt_front *f = s->unit->front;
    bt__count(&f->count.finished[finish], 1);
    bt__stream_done(s, finish, 0, 0, balance);
    if (s->registered)
        bt__front_forget(f, s);
    else
        bt_stream_unref(s);
}

/* Submits the next, if none waits; ends those that are not to run. */
static void go_on(bt_parts *p)
{
    while (!p->waiting && !p->stalled && p->next < p->n) {
        bt_stream *s = p->part[p->next++];
        bt_finish over = atomic_load(&s->cancelled) ? BT_FINISH_CANCELLED : p->over;
        s->submitted_ns = bt_now_ns();
        if (over == BT_FINISH_NONE && !s->registered && !bt__front_register(s->unit->front, s))
            over = BT_FINISH_LEASE_EXPIRED; // out of memory
        if (over != BT_FINISH_NONE) {
            end(s, over, NULL);
            continue;
        }
        s->accepted = true; // the answer has begun
        p->waiting = true;
        p->asked = p->posts;
        bt__parts_submit(s);
    }
}

void bt__parts_admitted(bt_stream *s)
{
    bt_parts *p = s->parts;
    p->waiting = false;
    p->ran = true;
    p->running++;
    go_on(p);
}

void bt__parts_posted(bt_stream *s)
{
    bt_parts *p = s->parts;
    p->running--;
    p->posts++;
    p->stalled = false;
    go_on(p);
}

bt_finish bt__parts_over(bt_stream *s, bt_status st)
{
    bt_parts *p = s->parts;
    p->waiting = false;
    if (!p->ran) {
        bt__parts_drop(p);
        return BT_FINISH_NONE;
    }
    if (p->over == BT_FINISH_NONE)
        p->over = st == BT_EQUOTA       ? BT_FINISH_QUOTA_EXHAUSTED
                  : st == BT_ECANCELLED ? BT_FINISH_CANCELLED
                                        : BT_FINISH_LEASE_EXPIRED;
    return p->over;
}

void bt__parts_voided(bt_stream *s)
{
    go_on(s->parts);
}

bool bt__parts_refused(bt_stream *s, bt_status st)
{
    bt_parts *p = s->parts;
    if (st == BT_EQUOTA && (p->running > 0 || p->posts != p->asked)) {
        p->waiting = false;
        p->stalled = p->running > 0; // else the last sister's post and this answer have crossed
        p->next--;                   // it is the one submitted last
        go_on(p);
        return true;
    }
    bt_finish over = bt__parts_over(s, st);
    if (over == BT_FINISH_NONE) return false;
    end(s, over, st == BT_EQUOTA ? &s->balance : NULL);
    go_on(p);
    return true;
}
