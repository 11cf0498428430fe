/* SPDX-License-Identifier: Apache-2.0 */
/* Any body: refused with a sentence, or parsed into a request whose every promise holds. */
#include "api/openai/openai.h"
#include "base/assert.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(const bt_front_request *p)
{
    const bt_gen_params *g = &p->params;
    BT_ASSERT((p->text != NULL) + (p->tokens != NULL) + (p->chat != NULL) == 1);
    BT_ASSERT(p->n_seq >= 1 && p->n_seq <= BT_SEQS_PER_REQUEST_MAX);
    BT_ASSERT(!p->text || strlen(p->text) == p->n_text);
    for (int32_t i = 0; i < p->n_tokens; i++) BT_ASSERT(p->tokens[i] >= 0);
    if (p->chat) BT_ASSERT(bt_json_is(p->chat->messages, BT_JSON_ARRAY));
    BT_ASSERT(g->temperature >= 0 && g->temperature <= 2 && g->top_p >= 0 && g->top_p <= 1);
    BT_ASSERT(g->max_tokens >= 0 && g->top_k >= 0 && g->n_logprobs <= BT_TOP_LOGPROBS_MAX);
    BT_ASSERT(g->n_stop <= BT_STOP_MAX && g->n_bias <= BT_BIAS_MAX);
    for (int32_t i = 0; i < g->n_stop; i++) BT_ASSERT(strlen(g->stop[i]) <= BT_STOP_BYTES_MAX);
    BT_ASSERT(p->lease_seconds >= 0 && p->lease_seconds <= BT_API_LEASE_MAX_S);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_api_request req;
    bt_err e;
    bt_status rc = bt_api_parse(&bt_openai_chat, NULL, NULL, (const char *)data, size, &req, &e);
    if (rc != BT_OK) {
        BT_ASSERT(rc == BT_EINVAL && e.msg[0]);
        return 0;
    }
    BT_ASSERT(req.n_parts >= 1 && req.n_parts <= BT_API_PARTS_MAX);
    for (int32_t i = 0; i < req.n_parts; i++) check_part(&req.part[i]);
    bt_api_request_release(&req);
    return 0;
}
