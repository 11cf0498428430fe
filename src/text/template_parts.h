/* SPDX-License-Identifier: Apache-2.0 */
/* template_parts.h - shared by template.c, template_adapt.c and template_caps.c. */
#pragma once
#include "text/jinja_run.h"
#include "text/template.h"

struct bt_template {
    struct {
        char *name; // owned
        bt_jinja *jinja;
    } source[BT_TEMPLATE_SOURCES_MAX];
    size_t n_sources;
    struct {
        char *name, *text; // owned
    } token[BT_TEMPLATE_TOKENS_MAX];
    size_t n_tokens;
    bt_jinja_limits limits;
    bt_template_caps caps;
};

void bt__template_probe(bt_template *t);
/* messages, adapted to what the template takes; a new list. */
jv bt__template_adapt(jrt *r, const bt_template_caps *caps, jv messages, bool as_given);
