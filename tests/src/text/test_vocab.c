/* SPDX-License-Identifier: Apache-2.0 */
/* test_vocab.c - what a vocabulary says, what it refuses and with which words, and that damage does
 * no harm. */
#include "base/clock.h"
#include "text_fixture.h"

enum { SLOW = TEST_SANITIZED ? 20 : 1 }; // a sanitizer's share of the time

static void facts_of_real_files(void)
{
    static const struct row {
        const char *name;
        bt_vocab_kind kind;
        int32_t size, bos, eos[3], n_eos, unk;
        bool add_bos, strip;
    } row[] = {
        {"llama-spm", BT_VOCAB_SPM, 32000, 1, {2}, 1, 0, true, true},
        {"llama-bpe", BT_VOCAB_BPE, 10063, 9807, {9808, 9816}, 2, -1, true, false},
        {"qwen2", BT_VOCAB_BPE, 10248, 10245, {10245, 10247}, 2, -1, false, false},
        {"gpt-2", BT_VOCAB_BPE, 50257, 50256, {50256}, 1, -1, false, false},
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
        CHECK_INT(bt_vocab_add_bos(f.vocab), row[i].add_bos);
        CHECK_INT(bt_vocab_strip_space(f.vocab), row[i].strip);
        CHECK(bt_vocab_is_eos(f.vocab, eos[0]));
        CHECK(!bt_vocab_is_eos(f.vocab, 5));
        CHECK(!bt_vocab_is_eos(f.vocab, -1));
        CHECK((bt_vocab_chat_template(f.vocab) != NULL) == (strcmp(row[i].name, "qwen2") == 0));
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
} made;

enum { MADE_TOKENS = 262 };

static char *made_file(const made *o, size_t *bytes)
{
    static char text[MADE_TOKENS][8];
    const char *token[MADE_TOKENS];
    int32_t type[MADE_TOKENS];
    maker m = {0};
    int extra = 0;
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
    if (o->model) maker_string(&m, "tokenizer.ggml.model", o->model);
    if (o->pre) maker_string(&m, "tokenizer.ggml.pre", o->pre);
    maker_strings(&m, "tokenizer.ggml.tokens", token, MADE_TOKENS);
    if (!o->no_types)
        maker_i32s(&m, "tokenizer.ggml.token_type", type, o->n_types ? o->n_types : MADE_TOKENS);
    const char *merges[] = {"h e", "l l", "he ll", o->merge};
    if (!o->no_merges) maker_strings(&m, "tokenizer.ggml.merges", merges, o->merge ? 4 : 3);
    maker_int(&m, "tokenizer.ggml.eos_token_id", o->eos);
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
    o.pre = NULL;
    expect_refusal(&o, BT_EUNSUPPORTED, "tokenizer.ggml.pre is missing");
    o.pre = "spl\nit";
    expect_refusal(&o, BT_EUNSUPPORTED, "pre-tokenizer 'spl?it' is not supported");
    o = good;
    o.eos = MADE_TOKENS;
    expect_refusal(&o, BT_EFORMAT, "eos_token_id");
    o = good;
    o.type = 7;
    expect_refusal(&o, BT_EFORMAT, "token 260 has type 7");
    o = good;
    o.n_types = 200;
    expect_refusal(&o, BT_EFORMAT, "token_type has 200 entries, but there are 262 tokens");
    o = good;
    o.piece = "x\xFF";
    expect_refusal(&o, BT_EFORMAT, "token 260 of tokenizer.ggml.tokens is not UTF-8");
    o = good;
    o.no_merges = true;
    expect_refusal(&o, BT_EFORMAT, "tokenizer.ggml.merges is missing");
    o = good;
    o.merge = "h q";
    expect_refusal(&o, BT_EFORMAT, "entry 3 of tokenizer.ggml.merges");
    o.merge = "hell";
    expect_refusal(&o, BT_EFORMAT, "entry 3 of tokenizer.ggml.merges");
    o.merge = "h \xE4\xBD\xA0";
    expect_refusal(&o, BT_EFORMAT, "entry 3 of tokenizer.ggml.merges names a piece");
    o = good;
    o.model = "llama"; // the same file without scores
    expect_refusal(&o, BT_EFORMAT, "tokenizer.ggml.scores is missing");
    o.no_types = true;
    expect_refusal(&o, BT_EFORMAT, "tokenizer.ggml.token_type is missing");
    o = good;
    o.piece = "x";
    o.type = BT_TOKEN_BYTE;
    o.model = "llama";
    expect_refusal(&o, BT_EFORMAT, "token 260 ('x') is marked as a byte");
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
    expect_bytes(v, 261, "<|end|>", 7);
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

/* Walks the trie as a mask would: every node once, every token found at its own bytes. */
static size_t walk_trie(const bt_vocab *v, const bt_vocab_node *node, uint32_t at, char *path,
                        size_t depth)
{
    size_t tokens = 0, n;
    for (int32_t id = node[at].token; id >= 0; id = bt_vocab_same(v, id), tokens++) {
        const char *bytes = bt_vocab_bytes(v, id, &n);
        CHECK(n == depth && memcmp(bytes, path, n) == 0);
    }
    uint32_t end = at + (node[at].skip_byte >> 8);
    for (uint32_t c = at + 1; c < end; c += node[c].skip_byte >> 8) {
        path[depth] = (char)(node[c].skip_byte & 0xFF);
        tokens += walk_trie(v, node, c, path, depth + 1);
    }
    return tokens;
}

static void trie_holds_every_token(void)
{
    static const char *const name[] = {"llama-spm", "gpt-2", "qwen2", "bert-bge"};
    for (size_t i = 0; i < 4; i++) {
        fixture f = fixture_vocab(name[i]);
        char path[BT_VOCAB_PIECE_BYTES_MAX + 2];
        uint32_t n_nodes;
        size_t n, with_bytes = 0;
        const bt_vocab_node *node = bt_vocab_trie(f.vocab, &n_nodes);
        for (int32_t id = 0; id < bt_vocab_size(f.vocab); id++) {
            const char *bytes = bt_vocab_bytes(f.vocab, id, &n);
            if (n == 0) continue;
            with_bytes++;
            int32_t found = bt_vocab_token_of(f.vocab, bytes, n);
            while (found >= 0 && found != id) found = bt_vocab_same(f.vocab, found);
            CHECK_INT(found, id);
        }
        CHECK_INT(walk_trie(f.vocab, node, 0, path, 0), with_bytes);
        CHECK_INT(bt_vocab_token_of(f.vocab, "\xFF\xFF\xFF\xFF\xFF", 5), -1);
        CHECK_INT(bt_vocab_trie_step(f.vocab, 0, 0xFF) > n_nodes, 0);
        fixture_close(&f);
    }
}

/* As another process would see it: other memory, the same answers. */
static void blocks_open_elsewhere(void)
{
    static const char *const name[] = {"qwen2", "phi-3", "bert-bge"};
    for (size_t i = 0; i < 3; i++) {
        fixture f = fixture_vocab(name[i]);
        size_t n, a, b;
        const void *block = bt_vocab_block(f.vocab, &n);
        void *copy = malloc(n);
        bt_vocab *v;
        REQUIRE(copy);
        memcpy(copy, block, n);
        REQUIRE(bt_vocab_map(copy, n, &v, NULL) == BT_OK);
        CHECK_INT(bt_vocab_size(v), bt_vocab_size(f.vocab));
        CHECK_INT(bt_vocab_eos_token(v), bt_vocab_eos_token(f.vocab));
        CHECK_INT(bt_vocab_strip_space(v), bt_vocab_strip_space(f.vocab));
        for (int32_t id = 0; id < bt_vocab_size(v); id += 7) {
            const char *x = bt_vocab_chain_token(v, id, &a);
            const char *y = bt_vocab_chain_token(f.vocab, id, &b);
            CHECK(a == b && memcmp(x, y, a) == 0);
        }
        const char *t = bt_vocab_chat_template(v), *u = bt_vocab_chat_template(f.vocab);
        CHECK((t == NULL) == (u == NULL));
        if (t) CHECK_STR(t, u);
        bt_vocab_close(v);
        free(copy);
        fixture_close(&f);
    }
}

/* A block from a stranger: cut short or changed, it is refused or harmless. */
static void damaged_blocks_do_no_harm(void)
{
    size_t n, n_block, refused = 0, tried = 0;
    char *data = made_file(&(made){.model = "gpt2", .pre = "gpt-2", .eos = 259}, &n);
    bt_gguf *g;
    bt_vocab *v, *w;
    bt_err err = {0};
    REQUIRE(bt_gguf_open_memory(data, n, "made.gguf", &g, NULL) == BT_OK);
    REQUIRE(bt_vocab_open(g, &v, NULL) == BT_OK);
    const char *block = bt_vocab_block(v, &n_block);
    for (size_t k = 0; k < n_block; k++) {
        char *copy = malloc(n_block);
        REQUIRE(copy);
        memcpy(copy, block, n_block);
        copy[k] = (char)(copy[k] ^ (1 << k % 8));
        tried++;
        if (bt_vocab_map(copy, n_block, &w, &err) == BT_OK) {
            uint32_t n_nodes;
            int32_t ids[] = {0, 100, 256, 258, 261};
            char *text;
            size_t len;
            bt_vocab_trie(w, &n_nodes);
            for (int32_t id = 0; id < bt_vocab_size(w); id++) bt_vocab_bytes(w, id, &len);
            if (bt_decode(w, ids, 5, false, &text, &len, NULL) == BT_OK) bt_free(text);
            bt_vocab_close(w);
        } else {
            CHECK_INT(err.code == BT_EFORMAT || err.code == BT_EINVAL ||
                          err.code == BT_EUNSUPPORTED || err.code == BT_ENOMEM,
                      1);
            refused++;
        }
        free(copy);
    }
    CHECK(refused > tried / 4);
    for (size_t k = 0; k < n_block; k += k < 600 ? 1 : 97) {
        char *copy = malloc(k + !k);
        REQUIRE(copy);
        memcpy(copy, block, k);
        CHECK_INT(bt_vocab_map(copy, k, &w, &err), BT_EFORMAT);
        free(copy);
    }
    bt_vocab_close(v);
    bt_gguf_close(g);
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
    RUN(facts_of_real_files);
    RUN(bytes_and_pieces);
    RUN(made_file_works);
    RUN(refusals_say_what);
    RUN(files_without_types_keep_their_special_ids);
    RUN(truncated_files_are_refused);
    RUN(damaged_files_do_no_harm);
    RUN(every_allocation_may_fail);
    RUN(trie_holds_every_token);
    RUN(blocks_open_elsewhere);
    RUN(damaged_blocks_do_no_harm);
    RUN(loading_is_quick);
    return TEST_END();
}
