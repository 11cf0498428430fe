/* SPDX-License-Identifier: Apache-2.0 */
/* spec_steps.c - normalizers, pre-tokenizers, post-processors and decoders of tokenizer.json.
 *
 * A Sequence is written flat. What a file leaves out gets the library's default; a type that is not
 * known is refused by its name. */
#include "token/spec_steps.h"
#include "file/base64.h"
#include <string.h>

enum { NESTING_MAX = 8 };

typedef struct part {
    bt__jload *l;
    const char *what; // "normalizer"
    int depth;
    bool parted; // a post-processor has made several parts of the text
} part;

static bool too_many(const bt__jload *l, const char *what)
{
    return bt__jfail((bt__jload *)l, BT_EUNSUPPORTED, "the %s has too many steps", what);
}

static bool unknown_type(const part *p, bt_str type)
{
    return bt__jfail(p->l, BT_EUNSUPPORTED, "%s '%.40s' is not supported", p->what,
                     type.s ? bt_str_shown(type).s : "(without a type)");
}

static bool open_part(part *p, bt__fields *f, bt_str object, bt_str *type)
{
    *type = (bt_str){0};
    if (p->depth == NESTING_MAX)
        return bt__jfail(p->l, BT_EFORMAT, "the %s is nested too deeply", p->what);
    if (!bt__fields_read(f, p->l, object)) return false;
    if (!bt__field_text(f, "type", type)) return false;
    return type->s ? true : unknown_type(p, *type);
}

/* A type as files spell it. */
typedef struct named {
    const char *name;
    int kind;
} named;

/* -1: none of them, and that is told. */
static int kind_of(const part *p, bt_str type, const named *known, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (bt_str_is(type, known[k].name)) return known[k].kind;
    unknown_type(p, type);
    return -1;
}

static bool read_sequence(part *p, const bt__fields *f, const char *list, bt__element_fn read)
{
    p->depth++;
    bool ok = bt__field_each(f, list, read, p);
    p->depth--;
    return ok;
}

/* {"String": literal} or {"Regex": pattern} */
static bool read_pattern(const bt__fields *f, const char *name, bt_str *pattern, bool *regex)
{
    const bt_str *value = bt__field_find(f, name);
    bt__fields in;
    *pattern = (bt_str){0};
    if (value && !bt__fields_read(&in, f->l, *value)) return false;
    if (value && !bt__field_text(&in, "String", pattern)) return false;
    *regex = !pattern->s;
    if (value && *regex && !bt__field_text(&in, "Regex", pattern)) return false;
    if (!pattern->s)
        return bt__jfail(f->l, BT_EFORMAT, "'%s' is neither a String nor a Regex", name);
    if (pattern->n > BT_SPEC_STRING_BYTES_MAX)
        return bt__jfail(f->l, BT_EFORMAT, "'%s' has more than %d bytes", name,
                         BT_SPEC_STRING_BYTES_MAX);
    return true;
}

/* ---- Normalizers. */

static bool read_charsmap(const bt__fields *f, bt_normal_step *step)
{
    bt_str text = {"", 0};
    size_t n = 0;
    if (!bt__field_text(f, "precompiled_charsmap", &text)) return false;
    char *blob = bt_malloc(text.n + 4);
    if (!blob) return bt__jmemory(f->l);
    bool ok = bt_base64_decode(text.s, text.n, true, blob, &n);
    if (!ok)
        bt__jfail(f->l, BT_EFORMAT, "'precompiled_charsmap' is not base64");
    else if (!bt_spec_string(f->l->s, blob, n, &step->pattern))
        ok = bt__jmemory(f->l);
    bt_free(blob);
    return ok;
}

static bool read_bert(const bt__fields *f, bt_normal_step *step)
{
    bool strip = false;
    step->clean_text = step->chinese = step->lowercase = true;
    if (!bt__field_bool(f, "clean_text", &step->clean_text)) return false;
    if (!bt__field_bool(f, "handle_chinese_chars", &step->chinese)) return false;
    if (!bt__field_bool(f, "lowercase", &step->lowercase)) return false;
    if (!bt__field_bool(f, "strip_accents", &strip)) return false;
    step->accents = !bt__field_find(f, "strip_accents") ? BT_ACCENTS_AS_CASE
                    : strip                             ? BT_ACCENTS_STRIP
                                                        : BT_ACCENTS_KEEP;
    return true;
}

static bool read_normalizer(bt__jload *l, void *ud, size_t i, bt_str object)
{
    static const named known[] = {{"NFC", BT_NORMAL_NFC},
                                  {"NFD", BT_NORMAL_NFD},
                                  {"NFKC", BT_NORMAL_NFKC},
                                  {"NFKD", BT_NORMAL_NFKD},
                                  {"BertNormalizer", BT_NORMAL_BERT},
                                  {"Strip", BT_NORMAL_STRIP},
                                  {"StripAccents", BT_NORMAL_STRIP_ACCENTS},
                                  {"Lowercase", BT_NORMAL_LOWERCASE},
                                  {"Nmt", BT_NORMAL_NMT},
                                  {"Precompiled", BT_NORMAL_CHARSMAP},
                                  {"Replace", BT_NORMAL_REPLACE},
                                  {"Prepend", BT_NORMAL_PREPEND},
                                  {"ByteLevel", BT_NORMAL_BYTE_LEVEL}};
    part *p = ud;
    bt__fields f;
    bt_str type;
    (void)i;
    if (!open_part(p, &f, object, &type)) return false;
    if (bt_str_is(type, "Sequence")) return read_sequence(p, &f, "normalizers", read_normalizer);
    int kind = kind_of(p, type, known, sizeof known / sizeof *known);
    if (kind < 0) return false;
    bt_normal_step *step = bt_spec_add_normal(l->s, (bt_normal_kind)kind);
    if (!step) return too_many(l, p->what);
    switch (step->kind) {
    case BT_NORMAL_BERT: return read_bert(&f, step);
    case BT_NORMAL_CHARSMAP: return read_charsmap(&f, step);
    case BT_NORMAL_STRIP:
        step->left = step->right = true;
        return bt__field_bool(&f, "strip_left", &step->left) &&
               bt__field_bool(&f, "strip_right", &step->right);
    case BT_NORMAL_REPLACE:
        return read_pattern(&f, "pattern", &step->pattern, &step->regex) &&
               bt__field_text(&f, "content", &step->content);
    case BT_NORMAL_PREPEND: return bt__field_text(&f, "prepend", &step->content);
    default: return true;
    }
}

bool bt__read_normalizer(bt__jload *l, bt_str object)
{
    part p = {l, "normalizer", 0, false};
    return !object.s || read_normalizer(l, &p, 0, object);
}

/* ---- Pre-tokenizers. */

static bool read_behavior(const bt__fields *f, bt_split_behavior *out)
{
    static const char *const names[] = {[BT_SPLIT_REMOVED] = "Removed",
                                        [BT_SPLIT_ISOLATED] = "Isolated",
                                        [BT_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [BT_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [BT_SPLIT_CONTIGUOUS] = "Contiguous"};
    bt_str name = {0};
    if (!bt__field_text(f, "behavior", &name)) return false;
    if (!name.s) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!bt_str_is(name, names[i])) continue;
        *out = (bt_split_behavior)i;
        return true;
    }
    return bt__jfail(f->l, BT_EUNSUPPORTED, "behavior '%.40s' is not supported",
                     bt_str_shown(name).s);
}

/* Of old files add_prefix_space, of newer ones prepend_scheme. */
static bool read_scheme(const bt__fields *f, bt_prepend *out)
{
    bool prefix = true;
    bt_str name = {0};
    if (!bt__field_text(f, "prepend_scheme", &name)) return false;
    if (!bt__field_bool(f, "add_prefix_space", &prefix)) return false;
    *out = prefix ? BT_PREPEND_ALWAYS : BT_PREPEND_NEVER;
    if (!name.s || bt_str_is(name, "always")) return true;
    if (!bt_str_is(name, "first") && !bt_str_is(name, "never"))
        return bt__jfail(f->l, BT_EUNSUPPORTED, "prepend_scheme '%.40s' is not supported",
                         bt_str_shown(name).s);
    if (prefix) *out = bt_str_is(name, "first") ? BT_PREPEND_FIRST : BT_PREPEND_NEVER;
    return true;
}

static bool read_split_fields(const bt__fields *f, bt_split_step *step)
{
    bool individual = false;
    int64_t length = 5;
    switch (step->kind) {
    case BT_SPLIT_PATTERN:
        return read_pattern(f, "pattern", &step->pattern, &step->regex) &&
               read_behavior(f, &step->behavior) && bt__field_bool(f, "invert", &step->invert);
    case BT_SPLIT_BYTE_LEVEL:
        step->use_regex = step->add_space = true;
        return bt__field_bool(f, "add_prefix_space", &step->add_space) &&
               bt__field_bool(f, "use_regex", &step->use_regex);
    case BT_SPLIT_METASPACE:
        step->split = true;
        step->pattern = (bt_str){"\xE2\x96\x81", 3};
        return bt__field_text(f, "replacement", &step->pattern) && read_scheme(f, &step->scheme) &&
               bt__field_bool(f, "split", &step->split);
    case BT_SPLIT_PUNCTUATION: return read_behavior(f, &step->behavior);
    case BT_SPLIT_DIGITS:
        if (!bt__field_bool(f, "individual_digits", &individual)) return false;
        step->behavior = individual ? BT_SPLIT_ISOLATED : BT_SPLIT_CONTIGUOUS;
        return true;
    case BT_SPLIT_CHAR: return bt__field_text(f, "delimiter", &step->pattern);
    case BT_SPLIT_LENGTH:
        if (!bt__field_int(f, "length", 1, 1 << 30, &length)) return false;
        step->length = (uint32_t)length;
        return true;
    default: return true;
    }
}

static bool read_pre_tokenizer(bt__jload *l, void *ud, size_t i, bt_str object)
{
    static const named known[] = {
        {"Split", BT_SPLIT_PATTERN},           {"ByteLevel", BT_SPLIT_BYTE_LEVEL},
        {"Metaspace", BT_SPLIT_METASPACE},     {"WhitespaceSplit", BT_SPLIT_WHITESPACE},
        {"Whitespace", BT_SPLIT_WORDS},        {"BertPreTokenizer", BT_SPLIT_BERT},
        {"Punctuation", BT_SPLIT_PUNCTUATION}, {"Digits", BT_SPLIT_DIGITS},
        {"CharDelimiterSplit", BT_SPLIT_CHAR}, {"UnicodeScripts", BT_SPLIT_SCRIPTS},
        {"FixedLength", BT_SPLIT_LENGTH}};
    part *p = ud;
    bt__fields f;
    bt_str type;
    (void)i;
    if (!open_part(p, &f, object, &type)) return false;
    if (bt_str_is(type, "Sequence"))
        return read_sequence(p, &f, "pretokenizers", read_pre_tokenizer);
    int kind = kind_of(p, type, known, sizeof known / sizeof *known);
    if (kind < 0) return false;
    bt_split_step *step = bt_spec_add_split(l->s, (bt_split_kind)kind);
    return step ? read_split_fields(&f, step) : too_many(l, p->what);
}

bool bt__read_pre_tokenizer(bt__jload *l, bt_str object)
{
    part p = {l, "pre-tokenizer", 0, false};
    return !object.s || read_pre_tokenizer(l, &p, 0, object);
}

/* ---- Post-processors: what goes before and after one text. */

typedef struct ends {
    part p;
    int32_t before[BT_VOCAB_ENDS_MAX], after[BT_VOCAB_ENDS_MAX];
    size_t n_before, n_after;
    bool text; // the place of the text was met
    const bt__fields *special;
} ends;

/* Puts them around what earlier processors put. */
static bool wrap_ends(ends *e)
{
    bt_spec *s = e->p.l->s;
    if (e->n_before + s->n_prefix > BT_VOCAB_ENDS_MAX ||
        e->n_after + s->n_suffix > BT_VOCAB_ENDS_MAX)
        return too_many(e->p.l, "post-processor");
    memmove(s->prefix + e->n_before, s->prefix, s->n_prefix * sizeof *s->prefix);
    memcpy(s->prefix, e->before, e->n_before * sizeof *s->prefix);
    memcpy(s->suffix + s->n_suffix, e->after, e->n_after * sizeof *s->suffix);
    s->n_prefix += e->n_before;
    s->n_suffix += e->n_after;
    return true;
}

static bool put_id(bt__jload *l, void *ud, size_t i, bt_str element)
{
    ends *e = ud;
    int32_t *list = e->text ? e->after : e->before;
    size_t *n = e->text ? &e->n_after : &e->n_before;
    int64_t id = -1;
    bt_json_reader r;
    (void)i;
    bt__jreader(l, &r, element);
    if (!bt_json_read_int(&r, &id)) return bt__jfail(l, BT_EFORMAT, "a token id is no number");
    if (id < 0 || (size_t)id >= l->s->n_pieces)
        return bt__jfail(l, BT_EFORMAT, "the post-processor adds token %lld, which is none",
                         (long long)id);
    if (*n == BT_VOCAB_ENDS_MAX)
        return bt__jfail(l, BT_EUNSUPPORTED,
                         "the post-processor adds more than %d tokens at an end",
                         BT_VOCAB_ENDS_MAX);
    list[(*n)++] = (int32_t)id;
    return true;
}

/* {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": "<s>"}} */
static bool read_template_item(bt__jload *l, void *ud, size_t i, bt_str element)
{
    ends *e = ud;
    bt__fields item, in;
    bt_str name = {0};
    (void)i;
    if (!bt__fields_read(&item, l, element)) return false;
    const bt_str *text = bt__field_find(&item, "Sequence");
    const bt_str *token = bt__field_find(&item, "SpecialToken");
    if (text && e->text)
        return bt__jfail(l, BT_EUNSUPPORTED, "the post-processor repeats the text");
    if (text) return e->text = true;
    if (!token || !bt__fields_read(&in, l, *token) || !bt__field_text(&in, "id", &name) || !name.s)
        return bt__jfail(l, BT_EFORMAT, "an item of the post-processor is not understood");
    char key[BT__NAME_BYTES];
    if (name.n >= sizeof key)
        return bt__jfail(l, BT_EUNSUPPORTED, "a special token's name is too long");
    memcpy(key, name.s, name.n);
    key[name.n] = 0;
    const bt_str *entry = bt__field_find(e->special, key);
    if (!entry || !bt__fields_read(&in, l, *entry) || !bt__field_find(&in, "ids"))
        return bt__jfail(l, BT_EFORMAT, "the post-processor does not say the ids of '%.40s'",
                         bt_str_shown(name).s);
    return bt__field_each(&in, "ids", put_id, e);
}

static bool read_template(ends *e, const bt__fields *f)
{
    bt__fields special = {.l = e->p.l};
    const bt_str *map = bt__field_find(f, "special_tokens");
    if (map && !bt__fields_read(&special, e->p.l, *map)) return false;
    e->special = &special;
    if (!bt__field_each(f, "single", read_template_item, e)) return false;
    if (!e->text)
        return bt__jfail(e->p.l, BT_EUNSUPPORTED, "the post-processor leaves the text out");
    return wrap_ends(e);
}

static bool put_pair_id(bt__jload *l, void *ud, size_t i, bt_str element)
{
    return i != 1 || put_id(l, ud, i, element);
}

static bool read_post_processor(bt__jload *l, void *ud, size_t i, bt_str object)
{
    part *p = ud;
    bt__fields f;
    bt_str type;
    ends e = {.p = *p};
    (void)i;
    if (!open_part(p, &f, object, &type)) return false;
    if (bt_str_is(type, "ByteLevel")) return true; // only about offsets
    if (bt_str_is(type, "Sequence")) return read_sequence(p, &f, "processors", read_post_processor);
    bool template = bt_str_is(type, "TemplateProcessing");
    if (!template && !bt_str_is(type, "BertProcessing") && !bt_str_is(type, "RobertaProcessing"))
        return unknown_type(p, type);
    /* The library would put its tokens around each token of the template, or give up. */
    if (p->parted)
        return bt__jfail(l, BT_EUNSUPPORTED,
                         "post-processor '%.40s' behind TemplateProcessing is not supported",
                         bt_str_shown(type).s);
    if (template) {
        p->parted = read_template(&e, &f) && e.n_before + e.n_after > 0;
        return !l->status;
    }
    if (!bt__field_each(&f, "cls", put_pair_id, &e)) return false; // [token, id]
    e.text = true;
    return bt__field_each(&f, "sep", put_pair_id, &e) && wrap_ends(&e);
}

bool bt__read_post_processor(bt__jload *l, bt_str object)
{
    part p = {l, "post-processor", 0, false};
    return !object.s || read_post_processor(l, &p, 0, object);
}

/* ---- Decoders. */

static bool read_count(const bt__fields *f, const char *name, uint32_t *out)
{
    int64_t v = *out;
    if (!bt__field_int(f, name, 0, INT32_MAX, &v)) return false;
    *out = (uint32_t)v;
    return true;
}

static bool read_chain_fields(const bt__fields *f, bt_chain_step *step)
{
    bool regex = false;
    bt_prepend scheme;
    switch (step->kind) {
    case BT_CHAIN_WORDPIECE:
        step->flag = true;
        step->pattern = (bt_str){"##", 2};
        return bt__field_text(f, "prefix", &step->pattern) &&
               bt__field_bool(f, "cleanup", &step->flag);
    case BT_CHAIN_METASPACE:
        step->pattern = (bt_str){"\xE2\x96\x81", 3};
        if (!bt__field_text(f, "replacement", &step->pattern) || !read_scheme(f, &scheme))
            return false;
        step->flag = scheme != BT_PREPEND_NEVER;
        return true;
    case BT_CHAIN_STRIP:
        step->pattern = (bt_str){" ", 1};
        return bt__field_text(f, "content", &step->pattern) &&
               read_count(f, "start", &step->start) && read_count(f, "stop", &step->stop);
    case BT_CHAIN_REPLACE:
        if (!read_pattern(f, "pattern", &step->pattern, &regex)) return false;
        if (regex)
            return bt__jfail(f->l, BT_EUNSUPPORTED,
                             "decoder 'Replace' with a Regex is not supported");
        return bt__field_text(f, "content", &step->content);
    case BT_CHAIN_BPE:
        step->pattern = (bt_str){"</w>", 4};
        return bt__field_text(f, "suffix", &step->pattern);
    case BT_CHAIN_CTC:
        step->flag = true;
        step->pattern = (bt_str){"<pad>", 5};
        step->content = (bt_str){"|", 1};
        return bt__field_text(f, "pad_token", &step->pattern) &&
               bt__field_text(f, "word_delimiter_token", &step->content) &&
               bt__field_bool(f, "cleanup", &step->flag);
    default: return true;
    }
}

static bool read_decoder(bt__jload *l, void *ud, size_t i, bt_str object)
{
    static const named known[] = {{"ByteLevel", BT_CHAIN_BYTE_LEVEL},
                                  {"ByteFallback", BT_CHAIN_BYTE_FALLBACK},
                                  {"WordPiece", BT_CHAIN_WORDPIECE},
                                  {"Metaspace", BT_CHAIN_METASPACE},
                                  {"Fuse", BT_CHAIN_FUSE},
                                  {"Strip", BT_CHAIN_STRIP},
                                  {"Replace", BT_CHAIN_REPLACE},
                                  {"BPEDecoder", BT_CHAIN_BPE},
                                  {"CTC", BT_CHAIN_CTC}};
    part *p = ud;
    bt__fields f;
    bt_str type;
    (void)i;
    if (!open_part(p, &f, object, &type)) return false;
    if (bt_str_is(type, "Sequence")) return read_sequence(p, &f, "decoders", read_decoder);
    int kind = kind_of(p, type, known, sizeof known / sizeof *known);
    if (kind < 0) return false;
    /* Where it comes first, the vocabulary's own table of bytes is what it makes of tokens. */
    if (kind == BT_CHAIN_BYTE_LEVEL && l->s->n_chain == 0) kind = BT_CHAIN_BYTES;
    bt_chain_step *step = bt_spec_add_chain(l->s, (bt_chain_kind)kind);
    return step ? read_chain_fields(&f, step) : too_many(l, p->what);
}

bool bt__read_decoder(bt__jload *l, bt_str object)
{
    part p = {l, "decoder", 0, false};
    if (object.s) return read_decoder(l, &p, 0, object);
    return bt_spec_add_chain(l->s, BT_CHAIN_JOIN) ? true : too_many(l, p.what);
}
