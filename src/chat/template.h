/* SPDX-License-Identifier: Apache-2.0 */
/* template.h - chat templates: from messages, tools and settings to the prompt a model was trained
 * on, as transformers' apply_chat_template gives it.
 *
 * A bt_template is read-only after bt_template_new and serves any number of threads. What a user
 * spelled is marked in the prompt (bt_jinja_output.range), so that the tokenizer can keep special
 * tokens inside it plain text. */
#pragma once
#include "base/json.h"
#include "jinja/jinja.h"

typedef struct bt_template bt_template;

typedef struct bt_template_text {
    const char *text;
    size_t len;
} bt_template_text;

typedef struct bt_template_source {
    const char *name; // "default", "tool_use", "rag", ...; NULL = "default"
    bt_template_text text;
} bt_template_source;

typedef struct bt_template_token {
    const char *name; // the variable: "bos_token", ...; "additional_special_tokens" makes a list
    const char *text; // "<s>"
} bt_template_token;

/* Whose message it is; developers are SYSTEM, and what is none of these is USER. */
typedef enum bt_template_role {
    BT_ROLE_USER,
    BT_ROLE_SYSTEM,
    BT_ROLE_ASSISTANT,
    BT_ROLE_TOOL,
    BT_ROLE_COUNT
} bt_template_role;

/* What the template makes of a conversation, found by rendering probes when it is opened: for each
 * named template, with tools and without. */
typedef struct bt_template_caps {
    bool system_role;    // shows a system message (else it is put before the first user's text)
    bool system_run;     // shows several at the beginning (else they become one)
    bool system_later;   // shows one further on (else it is put before the next user's text)
    bool developer_role; // knows that role (else it is the system's)
    bool content_string[BT_ROLE_COUNT]; // takes such a message's content as a string
    bool content_parts[BT_ROLE_COUNT];  // takes it as a list of parts
    bool null_content;                  // takes an assistant's message without content
    bool tools;                         // shows the tools
    bool tool_calls;                    // shows an assistant's calls
    bool drops_calls;                   // shows nothing of them: a chat that has some is refused
    bool drops_documents;               // shows nothing of documents: they are refused
    bool tool_results;                  // shows a tool's message
    bool tool_call_id;                  // shows the id of a call
    bool object_arguments;              // arguments of calls go in as an object (else as JSON text)
    bool text_arguments;                // takes arguments that are no JSON, as text
    bool reasoning;                     // shows an assistant's reasoning_content
    bool enable_thinking;               // the variable enable_thinking changes the prompt
    bool generation_prompt;             // add_generation_prompt changes the prompt
} bt_template_caps;

enum { BT_TEMPLATE_SOURCES_MAX = 16, BT_TEMPLATE_TOKENS_MAX = 512 };

/* Compiles all sources (copied) and probes. BT_EFORMAT names the template and its line. */
bt_status bt_template_new(const bt_template_source *sources, size_t n_sources,
                          const bt_template_token *tokens, size_t n_tokens,
                          const bt_jinja_limits *limits, bt_template **out, bt_err *err);
void bt_template_free(bt_template *t);
/* Of the template that is chosen without a name; what concerns tools, with them. */
const bt_template_caps *bt_template_get_caps(const bt_template *t);

typedef struct bt_template_chat {
    const bt_json *messages;  // an array of message objects
    const bt_json *tools;     // an array; NULL: none
    const bt_json *documents; // an array; NULL: none
    const bt_json *kwargs;    // an object of further variables (chat_template_kwargs); or NULL
    const char
        *name; // of the template; NULL: tool_use with tools, rag with documents, else default
    bool add_generation_prompt;
    bool continue_final_message; // the prompt ends where the last message's content does
    bool as_given;               // change nothing in the messages (default: adapt to the caps)
    bool plain_safe;             // as bt_jinja_options
    int64_t now_local_us;        // as bt_jinja_options
    bt_stop *stop;               // as bt_jinja_options
} bt_template_chat;

/* Thread: any. BT_EINVAL carries the template's own sentence where it raised one, and names the
 * field of the body ("messages" where nothing tells more). */
bt_status bt_template_render(const bt_template *t, const bt_template_chat *chat,
                             bt_jinja_output *out, bt_jinja_error *error, bt_err *err);
