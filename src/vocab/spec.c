/* SPDX-License-Identifier: Apache-2.0 */
/* spec.c - the description's own bookkeeping: growth, strings, the index by spelling. */
#include "vocab/spec.h"
#include "base/assert.h"
#include "base/hash.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES_MAX = 256 << 20 };

void bt_spec_init(bt_spec *s, const char *label)
{
    memset(s, 0, sizeof *s);
    size_t n = strlen(label);
    if (n >= sizeof s->label) label += n - sizeof s->label + 1;
    snprintf(s->label, sizeof s->label, "%s", label);
    s->unk = s->bos = s->eos_token = -1;
    s->text.max_bytes = (size_t)UINT32_MAX;
    bt_arena_init(&s->arena, ARENA_BYTES_MAX);
}

void bt_spec_release(bt_spec *s)
{
    bt_free(s->piece);
    bt_buf_release(&s->text);
    bt_free(s->merge);
    bt_free(s->added);
    bt_free(s->slot);
    bt_arena_release(&s->arena);
    memset(s, 0, sizeof *s);
}

bt_status bt_spec_refuse(const bt_spec *s, bt_err *err, bt_status st, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *slash = strrchr(s->label, '/');
    return bt_err_set(err, st, 0, "%.48s: %s", slash ? slash + 1 : s->label, text);
}

bt_status bt_spec_no_memory(const bt_spec *s, bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary of %zu tokens",
                      s->n_pieces);
}

bool bt_str_is(bt_str s, const char *literal)
{
    return s.n == strlen(literal) && memcmp(s.s, literal, s.n) == 0;
}

/* Room for one more element. */
static bool grow(void *array, size_t *cap, size_t n, size_t max, size_t element_bytes)
{
    void **p = array;
    if (n < *cap) return true;
    if (n >= max) return false;
    size_t want = *cap ? 2 * *cap : 1024;
    void *bigger = bt_realloc(*p, want * element_bytes);
    if (!bigger) return false;
    *p = bigger;
    *cap = want;
    return true;
}

bool bt_spec_reserve(bt_spec *s, size_t n_pieces)
{
    if (n_pieces > BT_VOCAB_SIZE_MAX) return false;
    if (n_pieces > s->cap_pieces) {
        size_t cap = BT_MAX(n_pieces, s->cap_pieces + s->cap_pieces / 2);
        bt_spec_piece *piece = bt_realloc(s->piece, cap * sizeof *piece);
        if (!piece) return false;
        s->piece = piece;
        s->cap_pieces = cap;
    }
    for (; s->n_pieces < n_pieces; s->n_pieces++) s->piece[s->n_pieces] = (bt_spec_piece){0};
    return true;
}

bool bt_spec_set_piece(bt_spec *s, int32_t id, const char *text, size_t n, double score,
                       bt_token_kind kind, bool in_model)
{
    if (!bt_spec_reserve(s, (size_t)id + 1)) return false;
    size_t at = s->text.len;
    bt_buf_add(&s->text, text, n);
    s->piece[id] = (bt_spec_piece){(uint32_t)at, (uint32_t)n, score, (uint8_t)kind, in_model};
    return !s->text.failed;
}

bool bt_spec_add_merge(bt_spec *s, int32_t left, int32_t right, int32_t both)
{
    if (!grow(&s->merge, &s->cap_merges, s->n_merges, BT_SPEC_MERGES_MAX, sizeof *s->merge))
        return false;
    s->merge[s->n_merges++] = (bt_spec_merge){left, right, both};
    return true;
}

bool bt_spec_string(bt_spec *s, const char *text, size_t n, bt_str *out)
{
    char *copy = bt_arena_alloc(&s->arena, n + 1);
    if (!copy) return false;
    if (n) memcpy(copy, text, n);
    *out = (bt_str){copy, n};
    return true;
}

bool bt_spec_add_token(bt_spec *s, const bt_added *token)
{
    bt_added copy = *token;
    if (!grow(&s->added, &s->cap_added, s->n_added, BT_SPEC_ADDED_MAX, sizeof *s->added))
        return false;
    if (!bt_spec_string(s, token->content.s, token->content.n, &copy.content)) return false;
    s->added[s->n_added++] = copy;
    return true;
}

bt_normal_step *bt_spec_add_normal(bt_spec *s, bt_normal_kind kind)
{
    if (s->n_normal == BT_SPEC_STEPS_MAX) return NULL;
    s->normal[s->n_normal] = (bt_normal_step){.kind = kind};
    return &s->normal[s->n_normal++];
}

bt_split_step *bt_spec_add_split(bt_spec *s, bt_split_kind kind)
{
    if (s->n_split == BT_SPEC_STEPS_MAX) return NULL;
    s->split[s->n_split] = (bt_split_step){.kind = kind, .behavior = BT_SPLIT_ISOLATED};
    return &s->split[s->n_split++];
}

bt_chain_step *bt_spec_add_chain(bt_spec *s, bt_chain_kind kind)
{
    if (s->n_chain == BT_CHAIN_STEPS_MAX) return NULL;
    s->chain[s->n_chain] = (bt_chain_step){.kind = kind, .pattern = {"", 0}, .content = {"", 0}};
    return &s->chain[s->n_chain++];
}

bool bt_spec_add_template(bt_spec *s, bt_str name, bt_str text)
{
    if (text.n > BT_SPEC_TEMPLATE_BYTES_MAX || memchr(text.s, 0, text.n)) return false;
    size_t at = 0;
    while (at < s->n_templates && !(s->template_name[at].n == name.n &&
                                    memcmp(s->template_name[at].s, name.s, name.n) == 0))
        at++;
    if (at == BT_SPEC_TEMPLATES_MAX) return false;
    if (!bt_spec_string(s, name.s, name.n, &s->template_name[at])) return false;
    if (!bt_spec_string(s, text.s, text.n, &s->template_text[at])) return false;
    s->n_templates = BT_MAX(s->n_templates, at + 1);
    return true;
}

static size_t find_named(const bt_spec *s, const char *name)
{
    size_t at = 0;
    while (at < s->n_named && !bt_str_is(s->named_name[at], name)) at++;
    return at;
}

bool bt_spec_add_named(bt_spec *s, const char *name, bt_str text)
{
    bool list = strcmp(name, "additional_special_tokens") == 0;
    size_t at = list ? s->n_named : find_named(s, name);
    for (size_t i = 0; list && i < s->n_named; i++)
        if (bt_str_is(s->named_name[i], name) && s->named_text[i].n == text.n &&
            memcmp(s->named_text[i].s, text.s, text.n) == 0)
            return true;
    if (text.n == 0 || text.n > BT_VOCAB_PIECE_BYTES_MAX || memchr(text.s, 0, text.n)) return true;
    if (at == BT_SPEC_NAMED_MAX) return true; // no template has use for more
    if (!bt_spec_string(s, name, strlen(name), &s->named_name[at])) return false;
    if (!bt_spec_string(s, text.s, text.n, &s->named_text[at])) return false;
    s->n_named = BT_MAX(s->n_named, at + 1);
    return true;
}

bool bt_spec_name_id(bt_spec *s, const char *name, int32_t id)
{
    if (id < 0 || (size_t)id >= s->n_pieces || find_named(s, name) < s->n_named) return true;
    return bt_spec_add_named(s, name, bt_spec_text(s, id));
}

void bt_spec_add_eos(bt_spec *s, int32_t id)
{
    int32_t at = 0;
    while (at < s->n_eos && s->eos[at] < id) at++;
    if (id < 0 || (at < s->n_eos && s->eos[at] == id) || s->n_eos == BT_VOCAB_EOS_MAX) return;
    memmove(s->eos + at + 1, s->eos + at, (size_t)(s->n_eos - at) * sizeof *s->eos);
    s->eos[at] = id;
    s->n_eos++;
}

static void remove_eos(bt_spec *s, int32_t id)
{
    int32_t at = 0;
    while (at < s->n_eos && s->eos[at] != id) at++;
    if (at == s->n_eos) return;
    s->n_eos--;
    memmove(s->eos + at, s->eos + at + 1, (size_t)(s->n_eos - at) * sizeof *s->eos);
}

bt_str bt_spec_text(const bt_spec *s, int32_t id)
{
    const bt_spec_piece *p = &s->piece[id];
    return (bt_str){p->n ? s->text.data + p->at : "", p->n};
}

/* The slot of this spelling, or the free one where it would go. Most spellings are short and are
 * in the slot itself, which saves looking elsewhere. */
static size_t slot_of(const bt_spec *s, const char *text, size_t n, uint64_t *key)
{
    uint64_t hash = bt_hash(text, n, 0);
    bool here = n <= sizeof *key;
    *key = here ? 0 : hash >> 32 << 32;
    if (here) memcpy(key, text, n);
    size_t i = (size_t)hash & s->mask;
    for (; s->slot[i].id >= 0; i = (i + 1) & s->mask) {
        const struct bt_spec_slot *x = &s->slot[i];
        if (x->n != n || (here ? x->key : x->key >> 32 << 32) != *key) continue;
        if (here || memcmp(s->text.data + (uint32_t)x->key, text, n) == 0) break;
    }
    return i;
}

static void index_piece(bt_spec *s, int32_t id)
{
    uint64_t key;
    bt_str text = bt_spec_text(s, id);
    size_t i = slot_of(s, text.s, text.n, &key);
    if (text.n > sizeof key) key |= s->piece[id].at;
    if (s->slot[i].id < 0) s->slot[i] = (struct bt_spec_slot){key, (uint32_t)text.n, id};
}

bool bt_spec_index(bt_spec *s)
{
    size_t cap = 16;
    while (cap < 2 * s->n_pieces + 1024) cap *= 2;
    bt_free(s->slot);
    s->slot = bt_malloc(cap * sizeof *s->slot);
    if (!s->slot) return false;
    s->mask = cap - 1;
    for (size_t i = 0; i < cap; i++) s->slot[i].id = -1;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < s->n_pieces; i++)
            if (s->piece[i].kind && s->piece[i].in_model == (pass == 0)) index_piece(s, (int32_t)i);
    return true;
}

bool bt_spec_index_from(bt_spec *s, size_t first)
{
    if (!s->slot || s->mask + 1 < 2 * s->n_pieces) return bt_spec_index(s);
    for (size_t i = first; i < s->n_pieces; i++)
        if (s->piece[i].kind) index_piece(s, (int32_t)i);
    return true;
}

int32_t bt_spec_find(const bt_spec *s, const char *text, size_t n)
{
    uint64_t key;
    BT_ASSERT(s->slot);
    return s->slot[slot_of(s, text, n, &key)].id;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int bt_spec_byte_of(bt_str piece)
{
    if (piece.n != 6 || memcmp(piece.s, "<0x", 3) != 0 || piece.s[5] != '>') return -1;
    int hi = hex_digit(piece.s[3]), lo = hex_digit(piece.s[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* "<...>" and "[...]", as control tokens are spelled. */
static bool is_mark(bt_str piece)
{
    return piece.n >= 3 && (piece.s[0] == '<' || piece.s[0] == '[') &&
           (piece.s[piece.n - 1] == '>' || piece.s[piece.n - 1] == ']');
}

void bt_spec_mark(bt_spec *s, int32_t id)
{
    if (id < 0) return;
    bt_spec_piece *p = &s->piece[id];
    if ((p->kind == BT_TOKEN_NORMAL || p->kind == BT_TOKEN_USER) && is_mark(bt_spec_text(s, id)))
        p->kind = BT_TOKEN_CONTROL;
}

static bool has_piece(const bt_spec *s, const char *name)
{
    return bt_spec_find(s, name, strlen(name)) >= 0;
}

/* "</s>" is not among them: it is a tag of HTML, and an ordinary token of some vocabularies. */
static const struct mark {
    const char *name;
    bool ends;  // an answer
    bool typed; // its kind is the file's: prompts spell it on purpose
} marks[] = {
    {"<|eot_id|>", true, false},
    {"<|eom_id|>", true, false},
    {"<|im_end|>", true, false},
    {"<|end|>", true, false},
    {"<|return|>", true, false},
    {"<|call|>", true, false},
    {"<|calls|>", true, false},
    {"<|flush|>", true, false},
    {"<|eot|>", true, false},
    {"<|eom|>", true, false},
    {"<|endoftext|>", true, false},
    {"<|end_of_text|>", true, false},
    {"<|end_of_turn|>", true, false},
    {"<|endofturn|>", true, false},
    {"[|endofturn|]", true, false},
    {"<|turn_end|>", true, false},
    {"<|END_OF_TURN_TOKEN|>", true, false},
    {"<end_of_turn>", true, false},
    {"<turn|>", true, false},
    {"<|tool_response>", true, false},
    {"<end_of_utterance>", true, false},
    {"<EOT>", true, false},
    {"_<EOT>", true, false},
    {"\xE2\x96\x81<EOT>", true, false},
    {"[EOT]", true, false},
    {"[EOS]", true, false},
    {"<eos>", true, false},
    {"[e~[", true, false},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     true, false},
    /* Where the middle that was asked for ends, and another file begins. */
    {"<|fim_pad|>", true, true},
    {"<fim-pad>", true, true},
    {"<fim_pad>", true, true},
    {"<PAD>", true, true},
    {"[PAD]", true, true},
    {"<|fim_repo|>", true, true},
    {"<|repo_name|>", true, true},
    {"<fim-repo>", true, true},
    {"<REPO>", true, true},
    {"<reponame>", true, true},
    {"<|file_sep|>", true, true},
    /* What begins a turn, or names whose it is. */
    {"<|im_start|>", false, false},
    {"<|start_header_id|>", false, false},
    {"<|end_header_id|>", false, false},
    {"<|header_start|>", false, false},
    {"<|header_end|>", false, false},
    {"<|start_of_role|>", false, false},
    {"<|end_of_role|>", false, false},
    {"<|START_OF_TURN_TOKEN|>", false, false},
    {"<|begin_of_text|>", false, false},
    {"<start_of_turn>", false, false},
    {"<|turn>", false, false},
    {"<|system|>", false, false},
    {"<|user|>", false, false},
    {"<|assistant|>", false, false},
    {"<|observation|>", false, false},
    {"<\xEF\xBD\x9C"
     "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     false, false},
    {"<\xEF\xBD\x9CUser\xEF\xBD\x9C>", false, false},
    {"<\xEF\xBD\x9C"
     "Assistant\xEF\xBD\x9C>",
     false, false},
};

void bt_spec_mark_by_name(bt_spec *s)
{
    /* Where these end an answer, <|end|> only ends one message of it. */
    bool messages = has_piece(s, "<|return|>") || has_piece(s, "<|flush|>");
    for (size_t i = 0; i < BT_COUNT(marks); i++) {
        int32_t id = bt_spec_find(s, marks[i].name, strlen(marks[i].name));
        if (id < 0 || s->piece[id].kind == BT_TOKEN_BYTE) continue;
        if (!marks[i].typed && s->piece[id].kind != BT_TOKEN_UNKNOWN)
            s->piece[id].kind = BT_TOKEN_CONTROL;
        bool part = messages && strcmp(marks[i].name, "<|end|>") == 0;
        if (part) remove_eos(s, id);
        if (marks[i].ends && !part) bt_spec_add_eos(s, id);
    }
}
