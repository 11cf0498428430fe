/* SPDX-License-Identifier: Apache-2.0 */
/* totals.c - the numbers at the end of an answer: usage, timings, and what it cost. */
#include "api/answer.h"
#include "base/assert.h"
#include "base/clock.h"

/* Over all parts: tokens, device time and charge add up; waiting is the longest; the finish is the
 * worst. */
static bt_part totals(const bt_answer *a)
{
    bt_part t = {0};
    for (int32_t i = 0; i < a->n_parts; i++) {
        const bt_part *p = &a->part[i];
        t.prompt_tokens += p->prompt_tokens;
        t.cached_tokens += p->cached_tokens;
        t.completion_tokens += p->completion_tokens;
        t.prefill_us += p->prefill_us;
        t.decode_us += p->decode_us;
        t.device_us += p->device_us;
        t.charged_us += p->charged_us;
        t.queue_us = BT_MAX(t.queue_us, p->queue_us);
        t.lease_us = BT_MAX(t.lease_us, p->lease_us);
        t.finish = BT_MAX(t.finish, p->finish);
    }
    if (a->score_only) t.completion_tokens = 0;
    return t;
}

void bt__answer_usage(const bt_answer *a, bt_jw *w)
{
    bt_part t = totals(a);
    bt_jw_key(w, "usage");
    bt_jw_open(w, '{');
    bt_jw_kint(w, "prompt_tokens", t.prompt_tokens);
    bt_jw_kint(w, "completion_tokens", t.completion_tokens);
    bt_jw_kint(w, "total_tokens", t.prompt_tokens + t.completion_tokens);
    bt_jw_key(w, "prompt_tokens_details");
    bt_jw_open(w, '{');
    bt_jw_kint(w, "cached_tokens", t.cached_tokens);
    bt_jw_close(w, '}');
    bt_jw_close(w, '}');
}

static double thousandth(double v)
{
    return (double)(int64_t)(v * 1000 + 0.5) / 1000;
}

static void rates(bt_jw *w, const char *const key[4], int64_t count, int64_t us)
{
    bt_jw_kint(w, key[0], count);
    bt_jw_knum(w, key[1], thousandth((double)us / 1000));
    bt_jw_knum(w, key[2], count ? thousandth((double)us / 1000 / (double)count) : 0);
    bt_jw_knum(w, key[3], us ? thousandth((double)count * 1e6 / (double)us) : 0);
}

/* llama-server's names. */
void bt__answer_timings(const bt_answer *a, bt_jw *w)
{
    static const char *const prompt[] = {"prompt_n", "prompt_ms", "prompt_per_token_ms",
                                         "prompt_per_second"};
    static const char *const predicted[] = {"predicted_n", "predicted_ms", "predicted_per_token_ms",
                                            "predicted_per_second"};
    bt_part t = totals(a);
    bt_jw_key(w, "timings");
    bt_jw_open(w, '{');
    bt_jw_kint(w, "cache_n", t.cached_tokens);
    rates(w, prompt, t.prompt_tokens - t.cached_tokens, t.prefill_us);
    rates(w, predicted, t.completion_tokens, t.decode_us);
    bt_jw_close(w, '}');
}

void bt__answer_baton(const bt_answer *a, bt_jw *w)
{
    bt_part t = totals(a);
    char id[24], when[24];
    bt_jw_key(w, "baton");
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "request_id", bt_api_id(a->part[0].id, id));
    bt_jw_kstr(w, "account", a->account);
    bt_jw_kstr(w, "tier", a->tier);
    bt_jw_kint(w, "queue_us", t.queue_us);
    bt_jw_knum(w, "lease_s", thousandth((double)t.lease_us / 1e6));
    bt_jw_kint(w, "device_us", t.device_us);
    bt_jw_kint(w, "charged_us", t.charged_us);
    if (a->balance_known)
        bt_api_quota_write(w, "remaining_us", a->balance.remaining_us, a->balance.limit_us);
    else
        bt_jw_knull(w, "remaining_us");
    bt_jw_kstr(w, "resets_at",
               a->balance_known && a->balance.resets_us ? bt_rfc3339(a->balance.resets_us, when)
                                                        : NULL);
    bt_jw_kstr(w, "finish_detail", bt_finish_name(t.finish));
    bt_jw_close(w, '}');
}
