/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.h - one way to speak to clients, as a row of functions.
 *
 * DESIGN   answer.c turns the events of a request's parts into calls of these; what they need of
 *          the answer is in answer.h, and what they append to `out` is what the client reads. A row
 *          has no state: what an answer has said so far is in it. A route (http/routes.c) points at
 *          a row; nothing above src/api knows more of it.
 *
 * STREAM   chunk() as text comes; finish() once a choice: the last choice's when the books are
 *          known, unless the request asked for them apart (include_usage); then done().
 * BODY     body() once, when all is known: the text is in the choices.
 *
 * Thread: parse() the http loop's or a text thread's; the others the loop's. */
#pragma once
#include "api/api.h"

typedef struct bt_parser bt_parser; // parse.h
typedef struct bt_choice bt_choice; // answer.h
typedef struct bt_part bt_part;     // answer.h

struct bt_dialect {
    const char *name;         // in the log
    const char *stream_type;  // Content-Type of a stream. Bodies and errors are JSON
    const char *prompt_field; // of the request: where a prompt that is too long came from
    bool early_chunk;         // a stream's first chunk needs no text: it names the role

    /* From an object, p->root, to p->out, whose arena is open. Faults name their field. */
    bt_status (*parse)(bt_parser *p);
    /* Only where logprobs were asked for: keeps those of the tokens of a PROMPT, TOKENS or SEQ_END
     * event in the choice, for its next chunk or its body. */
    void (*tokens)(bt_answer *a, bt_choice *c, const bt_part *part, const bt_stream_event *ev);
    /* Text of a choice, valid UTF-8, maybe empty. c->begun: it is not the first. */
    void (*chunk)(bt_answer *a, int32_t choice, const char *text, size_t n, bt_buf *out);
    /* A choice has ended: c->finish. books: usage and cost are known and belong here. */
    void (*finish)(bt_answer *a, int32_t choice, bool books, bt_buf *out);
    void (*done)(bt_answer *a, bt_buf *out); // the end of a stream in which nothing broke
    void (*body)(bt_answer *a, bt_buf *out);
    /* The whole body of an answer; or, event, the last thing in a stream that has begun. */
    void (*error)(const bt_api_error *err, bool event, bt_buf *out);
    /* A word in a stream that no client takes for text: its place in the queue, a sign of life. */
    void (*note)(const char *text, bt_buf *out);
};
