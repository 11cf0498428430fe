/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - what all dialects share: a parsed request, an answer in progress, error objects.
 *
 * DESIGN    A dialect (dialect.h) is a row of pure functions. Its parser turns a body into a
 *           bt_api_request: one or more front requests ("parts": a completion may carry several
 *           prompts) with every string copied into one arena. The answer turns the parts' stream
 *           events into the bytes a client reads: chunks as they come, or one JSON body at the end.
 *           The HTTP layer moves events in and bytes out.
 * NOT HERE  sockets, status lines, threads, identities (the caller fills
 *           bt_front_request.identity).
 * Thread: the owner's; nothing is shared. */
#pragma once
#include "base/json.h"
#include "base/mem.h"
#include "front/front.h"

enum {
    BT_API_PARTS_MAX = 128,    // prompts a completion
    BT_API_CHOICES_MAX = 1024, // prompts x n
    BT_API_MESSAGES_MAX = 1024,
    BT_API_TOOLS_MAX = 512,
    BT_API_LEASE_MAX_S = 86400,
};

typedef struct bt_dialect bt_dialect; // dialect.h

typedef struct bt_api_request {
    bt_arena arena; // owns all strings and arrays below
    const bt_dialect *dialect;
    const char *model; // NULL = whatever is loaded
    bool stream;
    bool include_usage; // a last chunk with the usage
    bool echo;          // the prompt comes back in front of the text
    bool score_only;    // max_tokens 0: nothing but the prompt is answered
    bool logprobs;
    int32_t n_seq; // of each part
    int32_t n_parts;
    bt_front_request *part; // [n_parts]
} bt_api_request;

/* What a request to that model (NULL: none is named) starts from; NULL: bt_gen_params_init's. */
typedef const bt_gen_params *(*bt_api_defaults_fn)(void *ud, const char *model);
/* Parses a body. defaults may be NULL. On success release() it; on failure there is nothing to
 * release. Thread: any. */
bt_status bt_api_parse(const bt_dialect *d, bt_api_defaults_fn defaults, void *ud, const char *body,
                       size_t len, bt_api_request *out, bt_err *e);
void bt_api_request_release(bt_api_request *r); // idempotent

/* Whether `wanted` names the model served as `alias` from the file `path` (may be NULL): the alias,
 * the file's name, or either without ".gguf" or in front of it a folder or organisation. */
bool bt_api_model_matches(const char *wanted, const char *alias, const char *path);

typedef struct bt_api_error {
    bt_status status;
    const char *message;              // NULL or "": the status' own
    const char *param;                // the field at fault; NULL or "": none
    const char *code;                 // NULL: the status' label
    const bt_ledger_balance *balance; // the account's; NULL: not known
} bt_api_error;
/* Appends the error as the dialect has it. d NULL: where none is spoken, which is as OpenAI has it.
 * event: in a stream that has begun. */
void bt_api_error_write(const bt_dialect *d, const bt_api_error *err, bool event, bt_buf *out);

/* A quota nobody can use up is written as null. */
void bt_api_quota_write(bt_jw *w, const char *key, int64_t us, int64_t limit_us);
bool bt_api_quota_unlimited(int64_t limit_us);

/* Ids as clients see them: 16 hexadecimal digits. */
char *bt_api_id(uint64_t id, char dst[static 24]);

/* ---- answers */

typedef struct bt_api_context {
    bt_unit *unit;           // whose tokens they are
    const char *model;       // name the answer carries
    const char *fingerprint; // system_fingerprint
    int64_t created_s;
} bt_api_context;

typedef struct bt_answer bt_answer;

typedef enum bt_answer_state {
    BT_ANSWER_WAITING,  // no part has been accepted or refused
    BT_ANSWER_RUNNING,  // one was accepted: the status line may go out
    BT_ANSWER_REFUSED,  // the error body was written; the other parts should be cancelled
    BT_ANSWER_COMPLETE, // all bytes were written
    BT_ANSWER_BROKEN, // ended by a fault: the error was written, in place of the body or as an SSE
                      // event
} bt_answer_state;

/* Copies what it needs of req and ctx (the unit is borrowed). */
bt_status bt_answer_open(const bt_api_request *req, const bt_api_context *ctx, bt_answer **out,
                         bt_err *err);
void bt_answer_close(bt_answer *a);
/* Names part `part` before its first event. The strings are copied. */
void bt_answer_part(bt_answer *a, int32_t part, uint64_t id, const char *account, const char *tier);
/* Takes one event of a part and appends what the client should read now. */
void bt_answer_event(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out);
/* Appends a word that no client takes for text. Streams only. */
void bt_answer_note(const bt_answer *a, bt_buf *out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bt_answer_state bt_answer_state_get(const bt_answer *a);
/* REFUSED and BROKEN: why; OK otherwise. */
bt_status bt_answer_status(const bt_answer *a);
int64_t bt_answer_retry_after_ms(const bt_answer *a);
/* The latest balance an event brought; NULL before, or if it was not known. */
const bt_ledger_balance *bt_answer_balance(const bt_answer *a);
