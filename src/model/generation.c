/* SPDX-License-Identifier: Apache-2.0 */
/* generation.c - five numbers of generation_config.json. */
#include "model/generation.h"
#include "model/config_json.h"

bt_status bt_generation_read(bt_str text, const char *label, bt_generation *out, bt_err *err)
{
    bt__config c = {0};
    bt_generation g = bt_generation_none();
    bt_status st = bt__config_open(text, label, "", &c, err);
    if (!st) st = bt__config_num(&c, "temperature", 0, 100, &g.temperature, err);
    if (!st) st = bt__config_num(&c, "top_p", 0, 1, &g.top_p, err);
    if (!st) st = bt__config_num(&c, "min_p", 0, 1, &g.min_p, err);
    if (!st) st = bt__config_num(&c, "repetition_penalty", 0.01, 100, &g.repetition_penalty, err);
    if (!st) st = bt__config_int(&c, "top_k", -1, INT32_MAX, &g.top_k, err);
    bt__config_close(&c);
    if (!st) *out = g;
    return st;
}

void bt_generation_apply(const bt_generation *g, bt_gen_params *p)
{
    if (g->temperature >= 0) p->temperature = (float)g->temperature;
    if (g->top_p >= 0) p->top_p = (float)g->top_p;
    if (g->min_p >= 0) p->min_p = (float)g->min_p;
    if (g->top_k >= 0) p->top_k = (int32_t)g->top_k;
    if (g->repetition_penalty < 0) return;
    p->repeat_penalty = (float)g->repetition_penalty;
    p->repeat_last_n = -1; // as transformers has it: all of the text
}
