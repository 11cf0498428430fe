/* SPDX-License-Identifier: Apache-2.0 */
/* spec_config.c - what the files beside a tokenizer add: tokenizer_config.json,
 * special_tokens_map.json, generation_config.json, config.json and chat templates.
 *
 * SPECIAL  bos and eos by tokenizer_config, else special_tokens_map, else config's ids.
 * ENDS     The classes that transformers gives for Llama, Code Llama, Gemma, Cohere and GPT-NeoX
 * put bos and eos around a text by add_bos_token and add_eos_token, whatever tokenizer.json says.
 * EOS      The set is the union of all files; without a generation_config, also of what ends a turn
 * by its name. All of it is control tokens, whatever added_tokens says. */
#include "base/assert.h"
#include "base/utf8.h"
#include "token/spec_json.h"
#include <string.h>

/* The first three have ids too. */
static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

typedef struct beside {
    bt__jload l;
    bool generation; // generation_config says what ends an answer
} beside;

/* A file's own text is what faults count bytes of. */
static bool has(beside *b, const bt_spec_files *files, bt_spec_beside which, bt_str *text)
{
    *text = files->text[which];
    b->l.text = text->s;
    b->l.n = text->n;
    return text->s != NULL;
}

/* ---- Eos sets: a number or a list of them. */

static bool add_eos_id(bt__jload *l, void *ud, size_t i, bt_str element)
{
    bt_json_reader r;
    int64_t id;
    (void)ud, (void)i;
    bt__jreader(l, &r, element);
    if (!bt_json_read_int(&r, &id)) return bt__jfail(l, BT_EFORMAT, "'eos_token_id' is no number");
    if (id >= 0 && (size_t)id < l->s->n_pieces) bt_spec_add_eos(l->s, (int32_t)id);
    return true;
}

static bool read_eos_ids(const bt__fields *f, bool *any)
{
    const bt_str *value = bt__field_find(f, "eos_token_id");
    if (!value) return true;
    *any = true;
    if (bt__field_kind(f, "eos_token_id") == BT_JSON_ARRAY)
        return bt__field_each(f, "eos_token_id", add_eos_id, NULL);
    return add_eos_id(f->l, NULL, 0, *value);
}

static bool read_bos_id(const bt__fields *f)
{
    bt_spec *s = f->l->s;
    int64_t id = -1;
    /* Some files write a list, or an id past the vocabulary: then other files decide. */
    if (bt__field_kind(f, "bos_token_id") != BT_JSON_NUMBER) return true;
    if (!bt__field_int(f, "bos_token_id", INT32_MIN, INT32_MAX, &id)) return false;
    if (s->bos < 0 && id >= 0 && (size_t)id < s->n_pieces) s->bos = (int32_t)id;
    return true;
}

static bool read_config(beside *b, bt_str text)
{
    bt__fields f, in;
    bool any = false;
    if (!bt__fields_read(&f, &b->l, text) || !read_eos_ids(&f, &any) || !read_bos_id(&f))
        return false;
    const bt_str *inner = bt__field_find(&f, "text_config");
    if (!inner || bt__field_kind(&f, "text_config") != BT_JSON_OBJECT) return true;
    return bt__fields_read(&in, &b->l, *inner) && read_eos_ids(&in, &any) && read_bos_id(&in);
}

/* ---- Special tokens by name. */

/* A string, or an object whose "content" is one; -1 if there is no such token. */
static bool read_token(const bt__fields *f, const char *name, int32_t *id)
{
    bt_str text = {0};
    bt__fields in;
    bt_json_kind kind = bt__field_kind(f, name);
    if (kind == BT_JSON_OBJECT) {
        if (!bt__fields_read(&in, f->l, *bt__field_find(f, name))) return false;
        if (!bt__field_text(&in, "content", &text)) return false;
    } else if (kind == BT_JSON_STRING && !bt__field_text(f, name, &text)) {
        return false;
    }
    if (text.s && *id < 0) *id = bt_spec_find(f->l->s, text.s, text.n);
    return true;
}

static bool read_special(beside *b, bt_str text, int32_t *bos, int32_t *eos)
{
    bt__fields f;
    return bt__fields_read(&f, &b->l, text) && read_token(&f, "bos_token", bos) &&
           read_token(&f, "eos_token", eos);
}

/* ---- Special tokens as templates' variables: what transformers' special_tokens_map holds. */

/* A string, or an object whose "content" is one. */
static bool name_token(bt__jload *l, const char *name, bt_str value)
{
    bt__fields in;
    bt_json_reader r;
    bt_str text = {0};
    bt__jreader(l, &r, value);
    bt_json_kind kind = bt_json_peek(&r);
    bool ok = true;
    if (kind == BT_JSON_OBJECT)
        ok = bt__fields_read(&in, l, value) && bt__field_text(&in, "content", &text);
    else if (kind == BT_JSON_STRING)
        ok = bt_json_read_string(&r, &text.s, &text.n) ? true : bt__jfail_reader(l, &r);
    if (ok && text.s && !bt_spec_add_named(l->s, name, text)) ok = bt__jmemory(l);
    bt_json_reader_release(&r);
    return ok;
}

static bool name_additional(bt__jload *l, void *ud, size_t i, bt_str element)
{
    (void)ud, (void)i;
    return name_token(l, "additional_special_tokens", element);
}

static bool name_extra(bt__jload *l, void *ud, bt_str name, bt_str value)
{
    char key[64];
    (void)ud;
    if (name.n >= sizeof key) return true;
    memcpy(key, name.s, name.n);
    key[name.n] = 0;
    return name_token(l, key, value);
}

/* given: the names that the file has, with a token or with null. */
static bool read_named(beside *b, bt_str text, unsigned *given)
{
    bt__fields f;
    if (!bt__fields_read(&f, &b->l, text)) return false;
    for (size_t i = 0; i < BT_COUNT(token_names); i++) {
        const bt_str *value = bt__field_find(&f, token_names[i]);
        if (bt__field_given(&f, token_names[i])) *given |= 1u << i;
        if (value && !name_token(&b->l, token_names[i], *value)) return false;
    }
    if (bt__field_kind(&f, "additional_special_tokens") == BT_JSON_ARRAY &&
        !bt__field_each(&f, "additional_special_tokens", name_additional, NULL))
        return false;
    return bt__field_kind(&f, "extra_special_tokens") != BT_JSON_OBJECT ||
           bt__field_members(&f, "extra_special_tokens", name_extra, NULL);
}

/* special_tokens_map counts where tokenizer_config does not list the added tokens, and wins there;
 * what neither names is named by its id. */
static bool read_all_named(beside *b, const bt_spec_files *files)
{
    bt_spec *s = b->l.s;
    bt__fields f;
    bt_str text;
    unsigned given = 0;
    bool listed = false;
    if (has(b, files, BT_BESIDE_TOKENIZER_CONFIG, &text)) {
        if (!bt__fields_read(&f, &b->l, text)) return false;
        listed = bt__field_given(&f, "added_tokens_decoder");
        if (!read_named(b, text, &given)) return false;
    }
    if (!listed && has(b, files, BT_BESIDE_SPECIAL_TOKENS_MAP, &text) &&
        !read_named(b, text, &given))
        return false;
    const int32_t id[] = {s->bos, s->eos_token, s->unk};
    for (size_t i = 0; i < BT_COUNT(id); i++)
        if (!(given & 1u << i) && !bt_spec_name_id(s, token_names[i], id[i]))
            return bt__jmemory(&b->l);
    return true;
}

/* ---- tokenizer_config.json. */

static bool class_adds_ends(bt_str class)
{
    static const char *const known[] = {"Llama", "CodeLlama", "Gemma", "Cohere", "GPTNeoX"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i]);
        if (class.n < n || memcmp(class.s, known[i], n) != 0) continue;
        bt_str rest = {class.s + n, class.n - n};
        if (bt_str_is(rest, "Tokenizer") || bt_str_is(rest, "TokenizerFast")) return true;
    }
    return false;
}

/* GPT-NeoX's class adds nothing unless told; the others begin with bos. */
static bool read_ends(const bt__fields *f)
{
    bt_spec *s = f->l->s;
    bt_str class = {0};
    if (!bt__field_text(f, "tokenizer_class", &class)) return false;
    if (!class.s || !class_adds_ends(class)) return true;
    bool add_bos = class.s[0] != 'G' || class.s[1] != 'P', add_eos = false;
    if (!bt__field_bool(f, "add_bos_token", &add_bos)) return false;
    if (!bt__field_bool(f, "add_eos_token", &add_eos)) return false;
    if ((add_bos && s->bos < 0) || (add_eos && s->eos_token < 0)) return true;
    s->n_prefix = s->n_suffix = 0;
    if (add_bos) s->prefix[s->n_prefix++] = s->bos;
    if (add_eos) s->suffix[s->n_suffix++] = s->eos_token;
    return true;
}

static bool add_template(bt__jload *l, bt_str name, bt_str text)
{
    if (text.n > BT_SPEC_TEMPLATE_BYTES_MAX || memchr(text.s, 0, text.n))
        return bt__jfail(l, BT_EFORMAT, "chat template '%.40s' is too long, or holds a NUL",
                         bt_str_shown(name).s);
    if (l->s->n_templates == BT_SPEC_TEMPLATES_MAX)
        return bt__jfail(l, BT_EUNSUPPORTED, "there are more than %d chat templates",
                         BT_SPEC_TEMPLATES_MAX);
    return bt_spec_add_template(l->s, name, text) ? true : bt__jmemory(l);
}

/* {"name": ..., "template": ...} */
static bool read_named_template(bt__jload *l, void *ud, size_t i, bt_str object)
{
    bt__fields f;
    bt_str name = {0}, text = {0};
    (void)ud, (void)i;
    if (!bt__fields_read(&f, l, object) || !bt__field_text(&f, "name", &name) ||
        !bt__field_text(&f, "template", &text))
        return false;
    if (!name.s || !text.s)
        return bt__jfail(l, BT_EFORMAT, "a chat template lacks its name or its text");
    return add_template(l, name, text);
}

static bool read_templates(const bt__fields *f)
{
    bt_str text = {0}, name = {"default", 7};
    bt_json_kind kind = bt__field_kind(f, "chat_template");
    if (kind == BT_JSON_ARRAY) return bt__field_each(f, "chat_template", read_named_template, NULL);
    if (!bt__field_text(f, "chat_template", &text)) return false;
    return !text.s || add_template(f->l, name, text);
}

/* ---- Tokens that only tokenizer_config knows. */

static bool read_extra_token(bt__jload *l, void *ud, bt_str name, bt_str object)
{
    bt_spec *s = l->s;
    bt__fields f;
    bt_added t = {0};
    int64_t id = 0;
    (void)ud;
    for (size_t i = 0; i < name.n; i++) {
        if (name.s[i] < '0' || name.s[i] > '9' || id >= BT_VOCAB_SIZE_MAX)
            return bt__jfail(l, BT_EFORMAT, "'added_tokens_decoder' has a member '%.40s'",
                             bt_str_shown(name).s);
        id = id * 10 + (name.s[i] - '0');
    }
    if (!bt__fields_read(&f, l, object) || !bt__field_text(&f, "content", &t.content) ||
        !bt__field_bool(&f, "special", &t.special) ||
        !bt__field_bool(&f, "normalized", &t.normalized) ||
        !bt__field_bool(&f, "lstrip", &t.lstrip) || !bt__field_bool(&f, "rstrip", &t.rstrip) ||
        !bt__field_bool(&f, "single_word", &t.single_word))
        return false;
    bool taken = (size_t)id < s->n_pieces && s->piece[id].kind;
    if (id >= BT_VOCAB_SIZE_MAX || taken || !t.content.s || t.content.n == 0 ||
        t.content.n > BT_VOCAB_PIECE_BYTES_MAX || bt_spec_find(s, t.content.s, t.content.n) >= 0)
        return true; // the tokenizer's own file counts
    t.id = (int32_t)id;
    bt_token_kind kind = t.special ? BT_TOKEN_CONTROL : BT_TOKEN_USER;
    return bt_spec_set_piece(s, t.id, t.content.s, t.content.n, 0, kind, false) &&
                   bt_spec_add_token(s, &t)
               ? true
               : bt__jmemory(l);
}

static bool read_template_file(beside *b, const char *label, bt_str text)
{
    bt_str name = {label, strlen(label)};
    if (bt_utf8_valid_prefix(text.s, text.n) != text.n)
        return bt__jfail(&b->l, BT_EFORMAT, "the file of chat template '%s' is not UTF-8 text",
                         label);
    size_t mark = bt_utf8_mark(text.s, text.n);
    return add_template(&b->l, name, (bt_str){text.s + mark, text.n - mark});
}

static bool read_all(beside *b, const bt_spec_files *files)
{
    bt_spec *s = b->l.s;
    bt__fields f;
    bt_str text;
    int32_t bos = -1, eos = -1;
    bool ok = true;
    if (has(b, files, BT_BESIDE_TOKENIZER_CONFIG, &text)) {
        ok = bt__fields_read(&f, &b->l, text) &&
             bt__field_members(&f, "added_tokens_decoder", read_extra_token, NULL);
        if (ok && !bt_spec_index(s)) ok = bt__jmemory(&b->l);
        ok = ok && read_special(b, text, &bos, &eos);
    }
    if (ok && has(b, files, BT_BESIDE_SPECIAL_TOKENS_MAP, &text))
        ok = read_special(b, text, &bos, &eos);
    if (bos >= 0) s->bos = bos;
    if (eos >= 0) s->eos_token = eos;
    bt_spec_add_eos(s, s->eos_token);
    if (ok && has(b, files, BT_BESIDE_GENERATION_CONFIG, &text))
        ok = bt__fields_read(&f, &b->l, text) && read_eos_ids(&f, &b->generation);
    if (ok && has(b, files, BT_BESIDE_CONFIG, &text)) ok = read_config(b, text);
    if (ok && has(b, files, BT_BESIDE_TOKENIZER_CONFIG, &text))
        ok = bt__fields_read(&f, &b->l, text) && read_ends(&f) && read_templates(&f);
    if (ok && has(b, files, BT_BESIDE_TEMPLATE_JSON, &text))
        ok = bt__fields_read(&f, &b->l, text) && read_templates(&f);
    bool own = files->text[BT_BESIDE_TEMPLATE_JINJA].s != NULL || files->n_extra > 0;
    if (own) s->n_templates = 0; // files of their own stand for all of the others
    if (ok && has(b, files, BT_BESIDE_TEMPLATE_JINJA, &text))
        ok = read_template_file(b, "default", text);
    for (size_t i = 0; ok && i < files->n_extra; i++)
        ok = read_template_file(b, files->extra[i].name, files->extra[i].text);
    if (ok) ok = read_all_named(b, files);
    for (int32_t i = 0; i < s->n_eos; i++) bt_spec_mark(s, s->eos[i]);
    if (ok && !b->generation) bt_spec_mark_by_name(s);
    return ok;
}

bt_status bt_spec_read_beside(bt_spec *s, const bt_spec_files *files, bt_err *err)
{
    beside b = {.l = {.s = s, .err = err, .flags = BT_JSON_PYTHON}};
    read_all(&b, files);
    return b.l.status;
}
