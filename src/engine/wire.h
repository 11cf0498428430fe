/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - engine.h as frames: commands from front to engine, events from engine to front.
 *
 * DESIGN   One put and one get for each struct; a frame's payload holds its fields in order, in
 *          host byte order (both ends are one machine and one build). Get trusts nothing: counts
 *          are checked against what is there before anything is sized by them, enums and ranges
 *          against their maps, numbers that must be finite are, and bytes left over are an error.
 *          A token is encoded by the engine and decoded by who writes the answer: between them the
 *          payload is checked and handed on. Those that no logprobs were asked of are a number.
 * STREAM   front sends OPTIONS once, then commands; the engine sends LOAD..., READY or FATAL, then
 *          events. A submit that the engine refuses comes back as END with a status.
 * NOT HERE sockets (base/frame.h), the engine. Thread: any. */
#pragma once
#include "base/frame.h"
#include "base/mem.h"
#include "baton/engine.h"

typedef enum bt_wire_type {
    BT_WIRE_OPTIONS = 1,
    BT_WIRE_SUBMIT,
    BT_WIRE_CANCEL,
    BT_WIRE_BUDGET,
    BT_WIRE_RELEASE,
    BT_WIRE_STOP,
    BT_WIRE_PARK,
    BT_WIRE_WAKE,
    BT_WIRE_EVENT = 64, // + bt_engine_event_type
} bt_wire_type;

enum {
    BT_WIRE_TOKENS_MAX = 32,      // tokens in one event
    BT_WIRE_SHARES_MAX = 256,     // requests in one step
    BT_WIRE_TEXT_MAX = 64 << 10,  // bytes of text in one event
    BT_WIRE_PROMPT_MAX = 2 << 20, // tokens of a prompt
    BT_WIRE_PATH_MAX = 4096,
    BT_WIRE_NAME_MAX = 128,
};

/* ---- commands ---- */

typedef struct bt_wire_command {
    uint64_t request;
    uint32_t generation;
    bt_finish why;     // cancel
    int64_t budget_us; // budget
    bool budget_final;
} bt_wire_command;

/* Strings are copied into the arena; NULL stays NULL. */
void bt_wire_put_options(bt_buf *b, const bt_engine_options *opt);
bt_status bt_wire_get_options(bt_rd *r, bt_arena *arena, bt_engine_options *out, bt_err *err);

/* Tokens, bias and stop strings are copied into the arena. */
void bt_wire_put_submit(bt_buf *b, const bt_engine_request *req);
bt_status bt_wire_get_submit(bt_rd *r, bt_arena *arena, bt_engine_request *out, bt_err *err);

void bt_wire_put_cancel(bt_buf *b, uint64_t request, uint32_t generation, bt_finish why);
void bt_wire_put_budget(bt_buf *b, uint64_t request, uint32_t generation, int64_t budget_us,
                        bool budget_final);
void bt_wire_put_release(bt_buf *b, uint64_t request);
void bt_wire_put_plain(bt_buf *b, bt_wire_type type); // STOP, PARK, WAKE
/* CANCEL, BUDGET, RELEASE, STOP, PARK, WAKE. */
bt_status bt_wire_get_command(uint16_t type, bt_rd *r, bt_wire_command *out, bt_err *err);

/* ---- events ---- */

/* Where a decoded event's tokens live; reuse it for the next. */
typedef struct bt_wire_tokens {
    bt_token_out token[BT_WIRE_TOKENS_MAX];
    int32_t top_token[BT_WIRE_TOKENS_MAX][BT_TOP_LOGPROBS_MAX];
    float top_logprob[BT_WIRE_TOKENS_MAX][BT_TOP_LOGPROBS_MAX];
} bt_wire_tokens;

/* And all else of it. */
typedef struct bt_wire_storage {
    bt_step_share share[BT_WIRE_SHARES_MAX];
    char name[3][BT_WIRE_NAME_MAX + 1];
    char message[512];
} bt_wire_storage;

void bt_wire_put_event(bt_buf *b, const bt_engine_event *ev);
/* type is the frame's. *out points into storage and tokens and, for text and bytes (not
 * NUL-terminated), into the frame. tokens NULL: they are checked and counted, and out's token is
 * NULL. storage may be NULL where the type is known to be one with tokens. */
bt_status bt_wire_get_event(uint16_t type, bt_rd *r, bt_wire_storage *storage,
                            bt_wire_tokens *tokens, bt_engine_event *out, bt_err *err);
