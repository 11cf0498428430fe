/* SPDX-License-Identifier: Apache-2.0 */
/* template_parts.h - shared by template.c, template_adapt.c and template_caps.c. */
#pragma once
#include "jinja/jinja_run.h"
#include "chat/template.h"

struct bt_template {
    struct {
        char *name; // owned
        bt_jinja *jinja;
        bt_template_caps caps[2]; // without tools, with them
    } source[BT_TEMPLATE_SOURCES_MAX];
    size_t n_sources;
    struct {
        char *name, *text; // owned
    } * token;             // owned
    size_t n_tokens;
    bt_jinja_limits limits;
    bt_template_caps caps; // as bt_template_get_caps says
};

/* A field of the body by its path, "messages[0].tool_calls[0].function.arguments". */
typedef struct bt_template_field {
    char path[88]; // "" = none
} bt_template_field;

void bt__template_probe(bt_template *t);
/* The place of the template that a chat takes; -1 sets err. */
int bt__template_choose(const bt_template *t, const bt_template_chat *chat, bt_err *err);
/* messages, adapted to what the template takes; a new list. Where it or the template
 * raises, *at may say at what.
 */
jv bt__template_adapt(jrt *r, const bt_template_caps *caps, jv messages, bool as_given,
                      bt_template_field *at);
