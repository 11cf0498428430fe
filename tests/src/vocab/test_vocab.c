/* SPDX-License-Identifier: Apache-2.0 */
/* LINK token */
/* test_vocab.c - what a vocabulary says, what it refuses and with which words, and that damage does
 * no harm. */
#include "base/clock.h"
#include "base/log.h"
#include "src/token/text_fixture.h"

enum { SLOW = TEST_SANITIZED ? 20 : 1 }; // a sanitizer's share of the time

static void facts_of_real_files(void)
{
    static const struct row {
        const char *name;
        bt_vocab_kind kind;
        int32_t size, bos, eos[3], n_eos, unk;
        bool add_bos;
    } row[] = {
        {"llama-spm", BT_VOCAB_SPM, 32000, 1, {2}, 1, 0, true},
        {"llama-bpe", BT_VOCAB_BPE, 10063, 9807, {9808, 9816}, 2, -1, true},
        {"qwen2", BT_VOCAB_BPE, 10248, 10245, {10245, 10247}, 2, -1, false},
        {"gpt-2", BT_VOCAB_BPE, 50257, 50256, {50256}, 1, -1, false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        fixture f = fixture_vocab(row[i].name);
        int32_t n = 0;
        const int32_t *eos = bt_vocab_eos(f.vocab, &n);
        CHECK_INT(bt_vocab_kind_of(f.vocab), row[i].kind);
        CHECK_INT(bt_vocab_size(f.vocab), row[i].size);
        CHECK_INT(bt_vocab_bos(f.vocab), row[i].bos);
        CHECK_INT(bt_vocab_unk(f.vocab), row[i].unk);
        CHECK_INT(n, row[i].n_eos);
        CHECK(n == row[i].n_eos && memcmp(eos, row[i].eos, (size_t)n * sizeof *eos) == 0);
        CHECK_INT(adds_bos(f.vocab), row[i].add_bos);
        CHECK(bt_vocab_is_eos(f.vocab, eos[0]));
        CHECK(!bt_vocab_is_eos(f.vocab, 5));
        CHECK(!bt_vocab_is_eos(f.vocab, -1));
        CHECK((default_template(f.vocab) != NULL) == (strcmp(row[i].name, "qwen2") == 0));
        fixture_close(&f);
    }
}

static void expect_bytes(const bt_vocab *v, int32_t id, const char *want, size_t want_n)
{
    size_t n;
    const char *s = bt_vocab_bytes(v, id, &n);
    CHECK_INT(n, want_n);
    CHECK(s && n == want_n && memcmp(s, want, n) == 0);
}

static void bytes_and_pieces(void)
{
    size_t n;
    fixture f = fixture_vocab("llama-spm");
    expect_bytes(f.vocab, 3 + 0x0A, "\n", 1);  // <0x0A>
    expect_bytes(f.vocab, 3, "\0", 1);         // <0x00>
    expect_bytes(f.vocab, 259, "  ", 2);       // two U+2581
    expect_bytes(f.vocab, 1, "", 0);           // <s>
    expect_bytes(f.vocab, 0, "", 0);           // <unk>
    expect_bytes(f.vocab, 15043, " Hello", 6); // the piece is one U+2581 and a word
    CHECK(memcmp(bt_vocab_piece(f.vocab, 15043, &n), "\xE2\x96\x81Hello", 8) == 0);
    CHECK_INT(n, 8);
    CHECK_INT(bt_vocab_token_kind(f.vocab, 1), BT_TOKEN_CONTROL);
    CHECK_INT(bt_vocab_token_kind(f.vocab, 3), BT_TOKEN_BYTE);
    CHECK(bt_vocab_bytes(f.vocab, 32000, &n) == NULL);
    CHECK(bt_vocab_bytes(f.vocab, -1, &n) == NULL);
    CHECK(bt_vocab_piece(f.vocab, INT32_MAX, &n) == NULL);
    CHECK_INT(bt_vocab_find(f.vocab, "</s>", BT_TOKEN_CONTROL), 2);
    CHECK_INT(bt_vocab_find(f.vocab, "</s>", BT_TOKEN_NORMAL), -1);
    fixture_close(&f);
    f = fixture_vocab("gpt-2");
    for (int byte = 0; byte < 256; byte++) { // some token stands for each byte
        int found = 0;
        for (int32_t id = 0; id < 256; id++) {
            const char *s = bt_vocab_bytes(f.vocab, id, &n);
            found += n == 1 && (unsigned char)s[0] == byte;
        }
        CHECK_INT(found, 1);
    }
    expect_bytes(f.vocab, 15496, "Hello", 5);
    expect_bytes(f.vocab, 995, " world", 6);
    expect_bytes(f.vocab, 50256, "", 0);
    fixture_close(&f);
}

/* A small byte-level vocabulary as a file; what a test changes is in the options. */
typedef struct made {
    const char *model, *pre; // NULL: key left out
    const char *merge;       // one more merge
    const char *piece;       // spelling of token 260
    int32_t type;            // its type
    uint32_t eos;
    size_t n_types;
    bool no_types, no_merges;
    const char *const *names; // tokens from 262 on, NULL-terminated
    int32_t names_type;
    const char *key; // one more key, and its number
    uint32_t value;
    const int32_t *ends; // tokenizer.ggml.eos_token_ids
    size_t n_ends;
    const char *template;
} made;

enum { MADE_TOKENS = 262, MADE_MAX = MADE_TOKENS + 100 };

static char *made_file(const made *o, size_t *bytes)
{
    static char text[MADE_TOKENS][8];
    const char *token[MADE_MAX];
    int32_t type[MADE_MAX];
    maker m = {0};
    int extra = 0;
    size_t n_tokens = MADE_TOKENS;
    for (int i = 0; i < 256; i++) { // every byte in byte-level spelling, in order
        int printable = (i > 32 && i < 127) || (i > 160 && i < 173) || i > 173;
        size_t n = bt_utf8_encode(printable ? (uint32_t)i : 256u + (uint32_t)extra++, text[i]);
        text[i][n] = 0;
        token[i] = text[i];
        type[i] = BT_TOKEN_NORMAL;
    }
    static const char *const more[] = {"he", "ll", "hell", "<|eot_id|>", "xx", "<|end|>"};
    for (int i = 0; i < 6; i++) token[256 + i] = more[i];
    for (int i = 256; i < MADE_TOKENS; i++) type[i] = BT_TOKEN_NORMAL;
    type[259] = type[261] = BT_TOKEN_CONTROL;
    if (o->piece) token[260] = o->piece;
    if (o->type) type[260] = o->type;
    for (const char *const *name = o->names; name && *name; name++, n_tokens++) {
        REQUIRE(n_tokens < MADE_MAX);
        token[n_tokens] = *name;
        type[n_tokens] = o->names_type;
    }
    if (o->model) maker_string(&m, "tokenizer.ggml.model", o->model);
    if (o->pre) maker_string(&m, "tokenizer.ggml.pre", o->pre);
    maker_strings(&m, "tokenizer.ggml.tokens", token, n_tokens);
    if (!o->no_types)
        maker_i32s(&m, "tokenizer.ggml.token_type", type, o->n_types ? o->n_types : n_tokens);
    const char *merges[] = {"h e", "l l", "he ll", o->merge};
    if (!o->no_merges) maker_strings(&m, "tokenizer.ggml.merges", merges, o->merge ? 4 : 3);
    maker_int(&m, "tokenizer.ggml.eos_token_id", o->eos);
    if (o->key) maker_int(&m, o->key, o->value);
    if (o->ends) maker_i32s(&m, "tokenizer.ggml.eos_token_ids", o->ends, o->n_ends);
    if (o->template) maker_string(&m, "tokenizer.chat_template", o->template);
    maker_bool(&m, "tokenizer.ggml.add_eos_token", true);
    return maker_finish(&m, bytes);
}

static bt_status open_all(const char *data, size_t n, bt_err *err)
{
    bt_gguf *g = NULL;
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_encoder *e = NULL;
    bt_encode_options opt = {.add_special = true, .parse_special = true};
    const int32_t *ids;
    size_t n_ids;
    bt_status st = bt_gguf_open_memory(data, n, "made.gguf", &g, err);
    if (!st) st = bt_vocab_open(g, &v, err);
    if (!st) st = bt_tokenizer_open(g, v, &t, err);
    if (!st) st = bt_encoder_open(t, &e, err);
    if (!st) st = bt_encode(e, "hello<|eot_id|> xx\n", 19, &opt, 0, &ids, &n_ids, err);
    bt_encoder_close(e);
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    bt_gguf_close(g);
    return st;
}

static void made_file_works(void)
{
    size_t n, n_ids;
    char *data = made_file(&(made){.model = "gpt2", .pre = "gpt-2", .eos = 261}, &n);
    bt_gguf *g;
    fixture f = {0};
    REQUIRE(bt_gguf_open_memory(data, n, "made.gguf", &g, NULL) == BT_OK);
    REQUIRE(bt_vocab_open(g, &f.vocab, NULL) == BT_OK);
    REQUIRE(bt_tokenizer_open(g, f.vocab, &f.tokenizer, NULL) == BT_OK);
    bt_gguf_close(g); // nothing of it is needed any more
    free(data);
    REQUIRE(bt_encoder_open(f.tokenizer, &f.encoder, NULL) == BT_OK);
    const int32_t *ids;
    static const int32_t want[] = {258, 'o', 259, 261};
    n_ids = fixture_encode(&f, "hello<|eot_id|>", 15, true, true, &ids);
    CHECK_INT(n_ids, 4);
    CHECK(n_ids == 4 && memcmp(ids, want, sizeof want) == 0);
    int32_t n_eos;
    const int32_t *eos = bt_vocab_eos(f.vocab, &n_eos);
    CHECK_INT(n_eos, 2);
    CHECK_INT(eos[0], 259);
    CHECK_INT(eos[1], 261);
    CHECK_INT(bt_vocab_eos_token(f.vocab), 261);
    fixture_close(&f);
}

static void expect_refusal(const made *o, bt_status code, const char *word)
{
    size_t n;
    bt_err err = {0};
    char *data = made_file(o, &n);
    CHECK_INT(open_all(data, n, &err), code);
    if (!strstr(err.msg, word)) fprintf(stderr, "message: %s\n", err.msg);
    CHECK(strstr(err.msg, word) != NULL);
    free(data);
}

static void refusals_say_what(void)
{
    const made good = {.model = "gpt2", .pre = "qwen2", .eos = 259};
    made o = good;
    o.model = NULL;
    expect_refusal(&o, BT_EFORMAT, "tokenizer.ggml.model");
    o.model = "wordpiece";
    expect_refusal(&o, BT_EUNSUPPORTED, "'wordpiece' is not supported; known are llama, gpt2");
    o = good;
    o.pre = "spl\nit";
    expect_refusal(&o, BT_EUNSUPPORTED, "pre-tokenizer 'spl?it' is not known");
    o = good;
    o.n_types = 200;
    expect_refusal(&o, BT_EFORMAT, "token_type has 200 entries, but there are 262 tokens");
    o = good;
    o.no_merges = true;
    expect_refusal(&o, BT_EFORMAT, "tokenizer.ggml.merges is missing");
}

static fixture open_made(const made *o)
{
    size_t n;
    bt_err err = {0};
    char *data = made_file(o, &n);
    fixture f = {0};
    bt_gguf *g;
    REQUIRE(bt_gguf_open_memory(data, n, "made.gguf", &g, NULL) == BT_OK);
    if (bt_vocab_open(g, &f.vocab, &err) || bt_tokenizer_open(g, f.vocab, &f.tokenizer, &err) ||
        bt_encoder_open(f.tokenizer, &f.encoder, &err)) {
        fprintf(stderr, "made.gguf: %s\n", err.msg);
        exit(1);
    }
    bt_gguf_close(g);
    free(data);
    return f;
}

static void expect_ids(fixture *f, const char *text, bool parse, const int32_t *want, size_t n_want)
{
    const int32_t *ids;
    size_t n = fixture_encode(f, text, strlen(text), false, parse, &ids);
    CHECK_INT(n, n_want);
    CHECK(n == n_want && memcmp(ids, want, n * sizeof *ids) == 0);
}

/* What many converters write: loaded, and the rest of the file means what it says. */
static void odd_files_open(void)
{
    static const char *const key[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.bos_token_id",
                                      "tokenizer.ggml.unknown_token_id",
                                      "tokenizer.ggml.seperator_token_id",
                                      "tokenizer.ggml.padding_token_id"};
    static const int32_t hello[] = {258, 'o'}, xx[] = {'x', 'x'};
    const made good = {.model = "gpt2", .pre = "gpt-2", .eos = 259};
    made o;
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) { // ids that are no token's
        o = good;
        if (i)
            o.key = key[i], o.value = UINT32_MAX;
        else
            o.eos = MADE_TOKENS;
        fixture f = open_made(&o);
        expect_ids(&f, "hello", false, hello, 2);
        CHECK(bt_vocab_is_eos(f.vocab, 259)); // by its name
        CHECK_INT(bt_vocab_bos(f.vocab), -1);
        CHECK_INT(bt_vocab_unk(f.vocab), -1);
        fixture_close(&f);
    }
    for (int32_t type = 0; type < 3; type++) { // types that there are not
        o = good;
        o.names = (const char *const[]){"odd", NULL};
        o.names_type = (const int32_t[]){0, 7, -1}[type];
        fixture f = open_made(&o);
        CHECK_INT(bt_vocab_token_kind(f.vocab, MADE_TOKENS), BT_TOKEN_NORMAL);
        fixture_close(&f);
    }
    o = good;
    o.piece = "x\xFF"; // bytes are kept, and no text is cut so
    fixture f = open_made(&o);
    expect_bytes(f.vocab, 260, "x\xFF", 2);
    expect_ids(&f, "xx", true, xx, 2);
    char *text;
    size_t n;
    CHECK_INT(bt_decode(f.vocab, &(int32_t){260}, 1, false, &text, &n, NULL), BT_OK);
    CHECK(n == 4 && memcmp(text, "x\xEF\xBF\xBD", 4) == 0);
    bt_free(text);
    fixture_close(&f);
    static const char *const merge[] = {"h q", "hell", "h \xE4\xBD\xA0"}; // of nothing
    for (size_t i = 0; i < 3; i++) {
        o = good;
        o.merge = merge[i];
        f = open_made(&o);
        expect_ids(&f, "hello", false, hello, 2);
        fixture_close(&f);
    }
    o = good;
    o.pre = NULL; // punctuation and digits by threes, as llama.cpp splits such files
    f = open_made(&o);
    expect_ids(&f, "hello", false, hello, 2);
    fixture_close(&f);
    o = good;
    o.template = ""; // none
    f = open_made(&o);
    CHECK_INT(bt_vocab_n_templates(f.vocab), 0);
    CHECK(default_template(f.vocab) == NULL);
    fixture_close(&f);
}

/* Names that nothing else here tries: their patterns compile, and hold back no text. */
static void every_pre_tokenizer_opens(void)
{
    static const char *const pre[] = {
        "a.x-4.0",   "mellum",     "exaone4",    "trillion",     "exaone",   "mellum2",
        "pixtral",   "midm-2.0",   "glm5",       "jais-2",       "minicpm5", "f2llmv2",
        "kormo",     "solar-open", "laguna",     "ufakzeka",     "talkie",   "exaone-moe",
        "kanana2",   "tiny_aya",   "cohere2moe", "youtu",        "hy_v4",    "afmoe",
        "joyai-llm", "spark2_5",   "chameleon",  "deepseek-llm", "viking",   "default"};
    static const char text[] = "hello,  It's 1234567 caf\xC3\xA9\n\n \xE4\xBD\xA0! ";
    for (size_t i = 0; i < sizeof pre / sizeof *pre; i++) {
        fixture f = open_made(&(made){.model = "gpt2", .pre = pre[i], .eos = 259});
        const int32_t *ids;
        char *back;
        size_t n = fixture_encode(&f, text, sizeof text - 1, false, false, &ids), n_back;
        CHECK_INT(bt_decode(f.vocab, ids, n, false, &back, &n_back, NULL), BT_OK);
        CHECK(n_back == sizeof text - 1 && memcmp(back, text, n_back) == 0);
        bt_free(back);
        fixture_close(&f);
    }
}

/* SentencePiece's kinds without scores or types: all alike, and by their spelling. */
static void pieces_without_scores_or_types_open(void)
{
    static const char *const model[] = {"llama", "t5"};
    for (size_t kind = 0; kind < 2; kind++) {
        static char byte[256][8];
        const char *token[262] = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a", "b\xFF"};
        maker m = {0};
        size_t n;
        for (int i = 0; i < 256; i++) {
            snprintf(byte[i], sizeof byte[i], "<0x%02X>", (unsigned)i);
            token[6 + i] = byte[i];
        }
        maker_string(&m, "tokenizer.ggml.model", model[kind]);
        maker_strings(&m, "tokenizer.ggml.tokens", token, 262);
        char *data = maker_finish(&m, &n);
        bt_gguf *g;
        fixture f = {0};
        bt_err err = {0};
        REQUIRE(bt_gguf_open_memory(data, n, "made.gguf", &g, NULL) == BT_OK);
        if (bt_vocab_open(g, &f.vocab, &err) || bt_tokenizer_open(g, f.vocab, &f.tokenizer, &err))
            fprintf(stderr, "%s: %s\n", model[kind], err.msg);
        REQUIRE(f.tokenizer && bt_encoder_open(f.tokenizer, &f.encoder, NULL) == BT_OK);
        bt_gguf_close(g);
        free(data);
        CHECK_INT(bt_vocab_unk(f.vocab), 0);
        CHECK_INT(bt_vocab_eos_token(f.vocab), 2);
        expect_bytes(f.vocab, 6 + 0x41, "A", 1);
        static const int32_t want[] = {3, 4, 6 + 0xE4, 6 + 0xBD, 6 + 0xA0};
        expect_ids(&f, "a\xE4\xBD\xA0", false, want, 5); // a character that is no piece
        char *text;
        CHECK_INT(bt_decode(f.vocab, want, 5, false, &text, &n, NULL), BT_OK);
        CHECK(n == 4 && memcmp(text, "a\xE4\xBD\xA0", 4) == 0);
        bt_free(text);
        CHECK_INT(bt_decode(f.vocab, (int32_t[]){3, 5}, 2, false, &text, &n, NULL), BT_OK);
        CHECK(n == 4 && memcmp(text, "b\xEF\xBF\xBD", 4) == 0);
        bt_free(text);
        fixture_close(&f);
    }
}

/* Tokens that end a turn by their name, whatever type the file gives them. */
static const char
    *const turn_ends[] = {"<|im_end|>",    "<|eom_id|>",         "<|eot|>",
                          "<|endoftext|>", "<|end_of_text|>",    "<|end_of_turn|>",
                          "<|endofturn|>", "[|endofturn|]",      "<|END_OF_TURN_TOKEN|>",
                          "<|turn_end|>",  "<|call|>",           "<end_of_turn>",
                          "<turn|>",       "<end_of_utterance>", NULL},
           *const more_ends[] = {"<EOT>",
                                 "_<EOT>",
                                 "[EOT]",
                                 "[EOS]",
                                 "<eos>",
                                 "[e~[",
                                 "<|tool_response>",
                                 "<\xEF\xBD\x9C"
                                 "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                 NULL},
           *const turn_begins[] = {"<|im_start|>", "<start_of_turn>", "<|start_header_id|>",
                                   "<|user|>",     "<|assistant|>",   NULL};

static void turn_marks_go_by_name(void)
{
    static const struct {
        const char *const *names;
        bool ends;
    } list[] = {{turn_ends, true}, {more_ends, true}, {turn_begins, false}};
    static const int32_t type[] = {BT_TOKEN_NORMAL, BT_TOKEN_USER, BT_TOKEN_CONTROL, 0};
    for (size_t l = 0; l < 3; l++)
        for (size_t t = 0; t < 4; t++) {
            fixture f = open_made(&(made){.model = "gpt2",
                                          .pre = "gpt-2",
                                          .eos = 261,
                                          .names = list[l].names,
                                          .names_type = type[t]});
            for (int32_t i = 0; list[l].names[i]; i++) {
                const char *name = list[l].names[i];
                int32_t id = MADE_TOKENS + i;
                const int32_t *ids;
                CHECK_INT(bt_vocab_is_eos(f.vocab, id), list[l].ends);
                CHECK_INT(bt_vocab_token_kind(f.vocab, id), BT_TOKEN_CONTROL);
                expect_bytes(f.vocab, id, "", 0);   // never shown as text
                expect_ids(&f, name, true, &id, 1); // a template's own
                size_t n = fixture_encode(&f, name, strlen(name), false, false, &ids); // a user's
                CHECK(n > 1);
                for (size_t k = 0; k < n; k++) CHECK(ids[k] != id);
            }
            fixture_close(&f);
        }
}

static void turn_ends_have_exceptions(void)
{
    /* <|end|> ends one message of an answer where <|return|> ends the answer. */
    made o = {.model = "gpt2", .pre = "gpt-4o", .eos = 259};
    fixture f = open_made(&o);
    CHECK(bt_vocab_is_eos(f.vocab, 261));
    fixture_close(&f);
    o.names = (const char *const[]){"<|return|>", "<|call|>", NULL};
    o.names_type = BT_TOKEN_CONTROL;
    o.key = "tokenizer.ggml.eot_token_id";
    o.value = 261;
    f = open_made(&o);
    CHECK(!bt_vocab_is_eos(f.vocab, 261));
    CHECK_INT(bt_vocab_token_kind(f.vocab, 261), BT_TOKEN_CONTROL);
    CHECK(bt_vocab_is_eos(f.vocab, MADE_TOKENS) && bt_vocab_is_eos(f.vocab, MADE_TOKENS + 1));
    fixture_close(&f);
    /* A tag of HTML is text; so is what a completion's prompt spells on purpose, though it ends. */
    o = (made){.model = "gpt2", .pre = "gpt-2", .eos = 259, .names_type = BT_TOKEN_USER};
    o.names = (const char *const[]){"</s>", "<|file_sep|>", "<|fim_prefix|>", NULL};
    f = open_made(&o);
    CHECK(!bt_vocab_is_eos(f.vocab, MADE_TOKENS));
    expect_bytes(f.vocab, MADE_TOKENS, "</s>", 4);
    CHECK(bt_vocab_is_eos(f.vocab, MADE_TOKENS + 1));
    expect_ids(&f, "<|file_sep|>", false, &(int32_t){MADE_TOKENS + 1}, 1);
    expect_ids(&f, "<|fim_prefix|>", false, &(int32_t){MADE_TOKENS + 2}, 1);
    CHECK(!bt_vocab_is_eos(f.vocab, MADE_TOKENS + 2));
    fixture_close(&f);
    /* Roles by id: several ends, and a spelling that nobody knows. */
    o = (made){.model = "gpt2", .pre = "gpt-2", .eos = 259, .names_type = BT_TOKEN_USER};
    o.names = (const char *const[]){"<my_end>", "<other>", "end", NULL};
    o.ends = (const int32_t[]){MADE_TOKENS, MADE_TOKENS + 2, -5, 1 << 20};
    o.n_ends = 4;
    f = open_made(&o);
    CHECK(bt_vocab_is_eos(f.vocab, 259) && bt_vocab_is_eos(f.vocab, MADE_TOKENS));
    CHECK(bt_vocab_is_eos(f.vocab, MADE_TOKENS + 2) && !bt_vocab_is_eos(f.vocab, MADE_TOKENS + 1));
    CHECK_INT(bt_vocab_eos_token(f.vocab), 259);
    CHECK_INT(bt_vocab_token_kind(f.vocab, MADE_TOKENS), BT_TOKEN_CONTROL);
    CHECK_INT(bt_vocab_token_kind(f.vocab, MADE_TOKENS + 2), BT_TOKEN_USER); // a word
    fixture_close(&f);
}

static void files_without_types_keep_their_special_ids(void)
{
    size_t n;
    char *data =
        made_file(&(made){.model = "gpt2", .pre = "gpt-2", .eos = 259, .no_types = true}, &n);
    bt_gguf *g;
    bt_vocab *v;
    REQUIRE(bt_gguf_open_memory(data, n, "made.gguf", &g, NULL) == BT_OK);
    REQUIRE(bt_vocab_open(g, &v, NULL) == BT_OK);
    CHECK_INT(bt_vocab_token_kind(v, 259), BT_TOKEN_CONTROL);
    expect_bytes(v, 259, "", 0);
    expect_bytes(v, 258, "hell", 4);
    expect_bytes(v, 260, "xx", 2);
    expect_bytes(v, 261, "", 0); // by its name
    bt_vocab_close(v);
    bt_gguf_close(g);
    free(data);
}

/* Each prefix in a buffer of exactly its size: refused, and nothing read beyond. */
static void truncated_files_are_refused(void)
{
    size_t n;
    char *data = made_file(&(made){.model = "gpt2", .pre = "gpt-2", .eos = 259}, &n);
    bt_err err;
    CHECK_INT(open_all(data, n, &err), BT_OK);
    for (size_t k = 0; k < n; k++) {
        char *part = malloc(k + !k);
        REQUIRE(part);
        memcpy(part, data, k);
        CHECK(open_all(part, k, &err) != BT_OK);
        free(part);
    }
    free(data);
}

/* One byte changed anywhere: any answer is fine, as long as it is one. */
static void damaged_files_do_no_harm(void)
{
    size_t n, refused = 0;
    char *data = made_file(&(made){.model = "gpt2", .pre = "llama-bpe", .eos = 259}, &n);
    bt_err err;
    for (size_t k = 0; k < n; k++) {
        char was = data[k];
        data[k] = (char)(was ^ (1 << k % 8));
        refused += open_all(data, n, &err) != BT_OK;
        data[k] = was;
    }
    CHECK(refused > n / 10);
    free(data);
}

static void every_allocation_may_fail(void)
{
    size_t n;
    char *data = made_file(&(made){.model = "gpt2", .pre = "qwen2", .eos = 259}, &n);
    bt_err err;
    long k = 1;
    for (;; k++) {
        bt_mem_fail_at(k);
        bt_status st = open_all(data, n, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) {
            CHECK_INT(st, BT_OK);
            break;
        }
        CHECK(st == BT_OK ||
              st == BT_ENOMEM); // OK: the JIT could not have its memory, the interpreter did
        REQUIRE(k < 10000);
    }
    CHECK(k > 15);
    free(data);
}

static void loading_is_quick(void)
{
    fixture f = fixture_vocab("gpt-2");
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        bt_vocab *v;
        int64_t t0 = bt_now_ns();
        REQUIRE(bt_vocab_open(f.file, &v, NULL) == BT_OK);
        best = fmin(best, (double)(bt_now_ns() - t0) * 1e-6);
        bt_vocab_close(v);
    }
    fprintf(stderr, "     50257 tokens in %.1f ms\n", best);
    CHECK(best < 500 * SLOW); // about 5 ms; the bound is for sanitizers on busy machines
    fixture_close(&f);
}

int main(void)
{
    bt_log_set_level(BT_LOG_ERR); // odd files leave a line each
    RUN(facts_of_real_files);
    RUN(bytes_and_pieces);
    RUN(made_file_works);
    RUN(refusals_say_what);
    RUN(odd_files_open);
    RUN(every_pre_tokenizer_opens);
    RUN(pieces_without_scores_or_types_open);
    RUN(turn_marks_go_by_name);
    RUN(turn_ends_have_exceptions);
    RUN(files_without_types_keep_their_special_ids);
    RUN(truncated_files_are_refused);
    RUN(damaged_files_do_no_harm);
    RUN(every_allocation_may_fail);
    RUN(loading_is_quick);
    return TEST_END();
}
