/* SPDX-License-Identifier: Apache-2.0 */
/* test_encode_rules.c - one rule at a time, on vocabularies small enough to work out by hand. */
#include "text_fixture.h"

enum { UNK, BOS, EOS, SPACE, A, B, AB, SPACE_A, B_SPACE_A, SPACE_AB, X, XY, NL, N_SPM };

typedef struct spm {
    bool inner_space; // "b a" is a piece, and the likeliest
    bool no_prefix;   // add_space_prefix false
    bool bytes;       // all byte tokens follow
    bool add_eos;
} spm;

static fixture spm_open(const spm *o)
{
    const char *token[N_SPM + 256] = {"<unk>",
                                      "<s>",
                                      "</s>",
                                      "\xE2\x96\x81",
                                      "a",
                                      "b",
                                      "ab",
                                      "\xE2\x96\x81"
                                      "a",
                                      "zzz",
                                      "\xE2\x96\x81"
                                      "ab",
                                      "<x>",
                                      "<x><y>",
                                      "\n"};
    int32_t type[N_SPM + 256] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 4, 4, 1};
    float score[N_SPM + 256] = {0, 0, 0, -9, -9, -9, -4, -3, -1, -2, 0, 0, -9};
    static char name[256][8];
    size_t n = N_SPM, bytes;
    maker m = {0};
    if (o->inner_space)
        token[B_SPACE_A] = "b\xE2\x96\x81"
                           "a";
    for (int i = 0; o->bytes && i < 256; i++, n++) {
        snprintf(name[i], sizeof name[i], "<0x%02X>", (unsigned)i);
        token[n] = name[i];
        type[n] = BT_TOKEN_BYTE;
        score[n] = 0;
    }
    maker_string(&m, "tokenizer.ggml.model", "llama");
    maker_strings(&m, "tokenizer.ggml.tokens", token, n);
    maker_f32s(&m, "tokenizer.ggml.scores", score, n);
    maker_i32s(&m, "tokenizer.ggml.token_type", type, n);
    if (o->no_prefix) maker_bool(&m, "tokenizer.ggml.add_space_prefix", false);
    if (o->add_eos) maker_bool(&m, "tokenizer.ggml.add_eos_token", true);
    char *file = maker_finish(&m, &bytes);
    fixture f = {0};
    bt_gguf *g;
    bt_err err = {0};
    if (bt_gguf_open_memory(file, bytes, "spm.gguf", &g, &err) ||
        bt_vocab_open(g, &f.vocab, &err) || bt_tokenizer_open(g, f.vocab, &f.tokenizer, &err) ||
        bt_encoder_open(f.tokenizer, &f.encoder, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    bt_gguf_close(g);
    free(file);
    return f;
}

/* want ends with -1. */
static void expect(fixture *f, const char *text, bool add, bool parse, const int32_t *want)
{
    const int32_t *ids;
    size_t n_want = 0, n = fixture_encode(f, text, strlen(text), add, parse, &ids);
    while (want[n_want] >= 0) n_want++;
    bool same = n == n_want && (n == 0 || memcmp(ids, want, n * sizeof *ids) == 0);
    CHECK(same);
    if (same) return;
    fprintf(stderr, "'%s' gave", text);
    for (size_t i = 0; i < n; i++) fprintf(stderr, " %d", ids[i]);
    fprintf(stderr, "\n");
}

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void spm_merges_the_likeliest_first(void)
{
    fixture f = spm_open(&(spm){0});
    expect(&f, "ab ab", false, false, IDS(SPACE_AB, SPACE_AB));
    expect(&f, "a b", false, false, IDS(SPACE_A, SPACE, B));
    expect(&f, "aab", false, false, IDS(SPACE_A, AB));
    expect(&f, "  ab", false, false, IDS(SPACE, SPACE, SPACE_AB));
    expect(&f,
           "\xE2\x96\x81"
           "ab",
           false, false, IDS(SPACE, SPACE_AB)); // U+2581 is a space
    expect(&f, "a\nb", false, false, IDS(SPACE_A, NL, B));
    fixture_close(&f);
}

/* A piece that goes on across a space forbids cutting the text into words. */
static void spm_pieces_may_span_words(void)
{
    fixture f = spm_open(&(spm){.inner_space = true});
    expect(&f, "b a", false, false, IDS(SPACE, B_SPACE_A));
    expect(&f, "ab ab", false, false, IDS(SPACE_AB, SPACE_AB)); // "ab" was whole before
    fixture_close(&f);
}

static void spm_unknown_and_bytes(void)
{
    fixture f = spm_open(&(spm){0});
    expect(&f, "aqq\xC3\xA9 b", false, false, IDS(SPACE_A, UNK, SPACE, B)); // a run of them is one
    expect(&f, "qbq", false, false, IDS(SPACE, UNK, B, UNK));
    fixture_close(&f);
    f = spm_open(&(spm){.bytes = true});
    expect(&f, "aq\xC3\xA9", false, false, IDS(SPACE_A, N_SPM + 'q', N_SPM + 0xC3, N_SPM + 0xA9));
    expect(
        &f, "<0x41>", false, false,
        IDS(SPACE, N_SPM + '<', N_SPM + '0', N_SPM + 'x', N_SPM + '4', N_SPM + '1', N_SPM + '>'));
    fixture_close(&f);
}

static void spm_ends_and_prefix(void)
{
    fixture f = spm_open(&(spm){.no_prefix = true, .add_eos = true});
    expect(&f, "ab a", true, false, IDS(BOS, AB, SPACE_A, EOS)); // ids found by their names
    expect(&f, "", true, false, IDS(BOS, EOS));
    CHECK(bt_vocab_is_eos(f.vocab, EOS));
    fixture_close(&f);
}

static void added_tokens_leftmost_and_longest(void)
{
    fixture f = spm_open(&(spm){0});
    expect(&f, "ab<x><y>b<x>", false, false, IDS(SPACE_AB, XY, SPACE, B, X));
    expect(&f, "<x>ab", false, false, IDS(X, SPACE_AB)); // each piece of text has its space
    expect(&f, "<x><x><y>", false, false, IDS(X, XY));
    expect(&f, "<s>ab</s>", false, true, IDS(BOS, SPACE_AB, EOS));
    expect(&f, "<unk>", false, true, IDS(UNK));
    expect(&f, "a</s", false, true, IDS(SPACE_A, UNK)); // not whole: plain text
    expect(&f, "</s>", false, false, IDS(SPACE, UNK));
    fixture_close(&f);
}

static void llama3_takes_whole_words_first(void)
{
    fixture f = fixture_vocab("llama-bpe");
    size_t n;
    int32_t one = 0, all = 0;
    for (int32_t id = 256; id < bt_vocab_bos(f.vocab); id += 7) {
        // words of letters only are never cut up
        const char *s = bt_vocab_bytes(f.vocab, id, &n);
        bool letters = n > 1;
        for (size_t i = 0; i < n; i++)
            letters = letters && ((s[i] >= 'a' && s[i] <= 'z') || (i == 0 && s[i] == ' '));
        if (!letters) continue;
        const int32_t *ids;
        all++;
        one += fixture_encode(&f, s, n, false, false, &ids) == 1 && ids[0] == id;
    }
    CHECK(all > 300);
    CHECK_INT(one, all);
    fixture_close(&f);
}

int main(void)
{
    RUN(spm_merges_the_likeliest_first);
    RUN(spm_pieces_may_span_words);
    RUN(spm_unknown_and_bytes);
    RUN(spm_ends_and_prefix);
    RUN(added_tokens_leftmost_and_longest);
    RUN(llama3_takes_whole_words_first);
    return TEST_END();
}
