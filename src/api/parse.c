/* SPDX-License-Identifier: Apache-2.0 */
#include "api/parse.h"
#include "base/crypto.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 1 << 19 }; // in one body: 32 bytes of memory each

bt_status bt__parse_fault(bt_parser *p, bt_status st, const char *field, const char *fmt, ...)
{
    char msg[sizeof p->e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return bt_err_field(p->e, st, field, "%s", msg);
}

bt_status bt__parse_nomem(bt_parser *p)
{
    return bt_err_set(p->e, BT_ENOMEM, 0, "out of memory for the request");
}

void *bt__parse_alloc(bt_parser *p, size_t count, size_t bytes)
{
    if (count > SIZE_MAX / bytes) return NULL;
    return bt_arena_alloc(&p->out->arena, count * bytes);
}

bt_status bt__parse_open(bt_parser *p, const char *body, size_t len, bt_api_request *out, bt_err *e)
{
    *p = (bt_parser){.out = out, .e = e};
    *e = (bt_err){0};
    *out = (bt_api_request){0};
    /* Beside the tree token ids are the worst: two bytes of the body ("1,") become four. */
    bt_arena_init(&out->arena, bt_json_room(len) + len * 2 + (256 << 10));
    bt_status st = bt_json_parse_bounded(body, len, VALUES_MAX, &out->arena, &p->root, e);
    if (st == BT_OK && !bt_json_is(p->root, BT_JSON_OBJECT))
        st = bt_err_set(e, BT_EINVAL, 0, "the request body must be a JSON object");
    return st;
}

bt_status bt_api_parse(const bt_dialect *d, bt_api_defaults_fn defaults, void *ud, const char *body,
                       size_t len, bt_api_request *out, bt_err *e)
{
    bt_parser p;
    bt_status st = bt__parse_open(&p, body, len, out, e);
    out->dialect = d;
    p.defaults = defaults;
    p.ud = ud;
    if (st == BT_OK) st = d->parse(&p);
    if (st != BT_OK) bt_api_request_release(out);
    return st;
}

void bt_api_request_release(bt_api_request *r)
{
    bt_arena_release(&r->arena);
    r->part = NULL;
    r->n_parts = 0;
}

bt_status bt__parse_int(bt_parser *p, const char *field, int64_t min, int64_t max, int64_t *out)
{
    return bt_json_get_int(p->root, field, min, max, out, p->e);
}

bt_status bt__parse_num(bt_parser *p, const char *field, double min, double max, double *out)
{
    return bt_json_get_num(p->root, field, min, max, out, p->e);
}

bt_status bt__parse_bool(bt_parser *p, const char *field, bool *out)
{
    return bt_json_get_bool(p->root, field, out, p->e);
}

bt_status bt__parse_str(bt_parser *p, const char *field, const char **out)
{
    return bt_json_get_str(p->root, field, out, p->e);
}

bool bt__parse_id(const bt_json *v, int32_t *id)
{
    int64_t whole;
    if (!bt_json_whole(v, &whole) || whole < 0 || whole > INT32_MAX) return false;
    *id = (int32_t)whole;
    return true;
}

bt_status bt__parse_stop(bt_parser *p, bt_gen_params *params)
{
    const bt_json *v = bt_json_item(p->root, "stop");
    if (!v) return BT_OK;
    if (!bt_json_is(v, BT_JSON_STRING) && !bt_json_is(v, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "stop",
                               "'stop' must be a string or an array of strings");
    int count = bt_json_is(v, BT_JSON_ARRAY) ? (int)v->n : 1;
    if (count > BT_STOP_MAX)
        return bt__parse_fault(p, BT_EINVAL, "stop",
                               "'stop' holds %d strings; at most %d are allowed", count,
                               BT_STOP_MAX);
    const char **stop = bt__parse_alloc(p, (size_t)count + 1, sizeof *stop);
    if (!stop) return bt__parse_nomem(p);
    int32_t n = 0;
    for (const bt_json *item = bt_json_is(v, BT_JSON_ARRAY) ? v->child : v; item;
         item = bt_json_is(v, BT_JSON_ARRAY) ? item->next : NULL) {
        if (!bt_json_is(item, BT_JSON_STRING))
            return bt__parse_fault(p, BT_EINVAL, "stop", "'stop' must hold strings only");
        if (item->n > BT_STOP_BYTES_MAX)
            return bt__parse_fault(p, BT_EINVAL, "stop",
                                   "a stop string of %u bytes is too long; at most %d are allowed",
                                   item->n, BT_STOP_BYTES_MAX);
        if (item->n > 0) stop[n++] = item->text; // some clients send "" for none
    }
    params->stop = stop;
    params->n_stop = n;
    return BT_OK;
}

bt_status bt__parse_bias(bt_parser *p, bt_gen_params *params)
{
    const bt_json *v = bt_json_item(p->root, "logit_bias");
    if (!v) return BT_OK;
    if (!bt_json_is(v, BT_JSON_OBJECT))
        return bt__parse_fault(p, BT_EINVAL, "logit_bias",
                               "'logit_bias' must be an object from token id to bias");
    int count = (int)v->n;
    if (count > BT_BIAS_MAX)
        return bt__parse_fault(p, BT_EINVAL, "logit_bias",
                               "'logit_bias' holds %d tokens; at most %d are allowed", count,
                               BT_BIAS_MAX);
    bt_logit_bias *bias = bt__parse_alloc(p, (size_t)count + 1, sizeof *bias);
    if (!bias) return bt__parse_nomem(p);
    int32_t n = 0;
    for (const bt_json *item = v->child; item; item = item->next) {
        char *end;
        errno = 0;
        long id = strtol(item->key, &end, 10);
        if (item->key[0] < '0' || item->key[0] > '9' || *end || errno || id > INT32_MAX)
            return bt__parse_fault(p, BT_EINVAL, "logit_bias",
                                   "'logit_bias' has the key \"%.40s\", which is not a token id",
                                   item->key);
        double value = bt_json_is(item, BT_JSON_NUMBER) ? bt_json_number(item) : NAN;
        if (!(value >= -100 && value <= 100))
            return bt__parse_fault(
                p, BT_EINVAL, "logit_bias",
                "'logit_bias' of token %ld must be a number between -100 and 100", id);
        bias[n++] = (bt_logit_bias){(int32_t)id, (float)value};
    }
    params->bias = bias;
    params->n_bias = n;
    return BT_OK;
}

static bt_status parse_penalties(bt_parser *p, bt_gen_params *params)
{
    enum { WINDOW = 64 };
    double freq = 0, presence = 0, repeat = (double)params->repeat_penalty;
    /* llama-server's repeat_penalty has a window; repetition_penalty, as vLLM and TGI have it,
     * looks at everything. */
    int64_t last_n = bt_json_item(p->root, "repetition_penalty") ? -1
                     : bt_json_item(p->root, "repeat_penalty")   ? WINDOW
                                                                 : params->repeat_last_n;
    bt_status st;
    if ((st = bt__parse_num(p, "frequency_penalty", -2, 2, &freq)) ||
        (st = bt__parse_num(p, "presence_penalty", -2, 2, &presence)) ||
        (st = bt__parse_num(p, "repeat_penalty", 0.01, 100, &repeat)) ||
        (st = bt__parse_num(p, "repetition_penalty", 0.01, 100, &repeat)) ||
        (st = bt__parse_int(p, "repeat_last_n", -1, INT32_MAX, &last_n)))
        return st;
    params->freq_penalty = (float)freq;
    params->presence_penalty = (float)presence;
    params->repeat_penalty = (float)repeat;
    params->repeat_last_n = (int32_t)last_n;
    return BT_OK;
}

bt_status bt__parse_sampling(bt_parser *p, bt_gen_params *params)
{
    double temperature = params->temperature, top_p = params->top_p, min_p = params->min_p;
    int64_t top_k = params->top_k, seed = -1, min_tokens = 0;
    bt_status st;
    if ((st = bt__parse_num(p, "temperature", 0, 2, &temperature)) ||
        (st = bt__parse_num(p, "top_p", 0, 1, &top_p)) ||
        (st = bt__parse_num(p, "min_p", 0, 1, &min_p)) ||
        (st = bt__parse_int(p, "top_k", -1, INT32_MAX, &top_k)) ||
        (st = bt__parse_int(p, "seed", INT64_MIN, INT64_MAX, &seed)) ||
        (st = bt__parse_int(p, "min_tokens", 0, INT32_MAX, &min_tokens)) ||
        (st = bt__parse_bool(p, "ignore_eos", &params->ignore_eos)) ||
        (st = bt__parse_bool(p, "cache_prompt", &params->cache_prompt)) ||
        (st = parse_penalties(p, params)) || (st = bt__parse_stop(p, params)) ||
        (st = bt__parse_bias(p, params)))
        return st;
    params->temperature = (float)temperature;
    params->top_p = (float)top_p;
    params->min_p = (float)min_p;
    params->top_k = top_k < 0 ? 0 : (int32_t)top_k;
    params->min_tokens = (int32_t)min_tokens;
    params->seed =
        seed == -1 ? bt_random_id() : (uint64_t)seed; // -1: "any", as llama-server has it
    return BT_OK;
}
