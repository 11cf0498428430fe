/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* test_tokenizer_json.c - tokenizer.json of every kind gives the ids and texts of the `tokenizers`
 * library; what is not understood is refused by name; damage does no harm. */
#include "base/json_read.h"
#include "text_fixture.h"

#define DATA BATON_SOURCE_DIR "/tests/data/tokenizer/"
enum { IDS_MAX = 4096, TEXTS_MAX = 512 };

typedef struct texts {
    char *all;
    size_t n;
    const char *text[TEXTS_MAX];
    size_t len[TEXTS_MAX];
} texts;

static void texts_open(texts *t, const char *path)
{
    size_t n, from = 0, mark = strlen(MARKER);
    t->all = slurp(path, &n);
    t->n = 0;
    for (size_t i = 0; i + mark <= n; i++) {
        if (memcmp(t->all + i, MARKER, mark) != 0) continue;
        REQUIRE(t->n < TEXTS_MAX);
        t->text[t->n] = t->all + from;
        t->len[t->n++] = i - from;
        from = i + mark;
        i = from - 1;
    }
}

static void show(const char *name, size_t row, const int32_t *got, size_t n, const char *want)
{
    fprintf(stderr, "%s row %zu: got", name, row);
    for (size_t i = 0; i < n; i++) fprintf(stderr, " %d", got[i]);
    fprintf(stderr, "\n  want %.400s\n", want);
}

/* One line: ids, a tab, the decoded text as JSON; "-": the library has no answer. */
static void check_row(fixture *f, const char *name, const texts *t, size_t row, const char *line,
                      size_t n_line)
{
    int32_t want[IDS_MAX], got[IDS_MAX];
    const int32_t *ids;
    size_t n_want = 0, n_back, n_text;
    const char *tab = memchr(line, '\t', n_line), *text;
    char *back;
    if (n_line == 1 && line[0] == '-') return;
    REQUIRE(tab);
    for (const char *p = line; p < tab;) {
        char *after;
        want[n_want++] = (int32_t)strtol(p, &after, 10);
        REQUIRE(after > p && n_want < IDS_MAX);
        p = after + (*after == ' ');
    }
    size_t n = fixture_encode(f, t->text[row], t->len[row], true, true, &ids);
    REQUIRE(n < IDS_MAX);
    if (n) memcpy(got, ids, n * sizeof *got);
    bool same = n == n_want && (n == 0 || memcmp(got, want, n * sizeof *got) == 0);
    CHECK(same);
    if (!same) {
        show(name, row, got, n, line);
        return;
    }
    bt_json_reader r;
    bt_json_reader_init(&r, tab + 1, n_line - (size_t)(tab + 1 - line), 0);
    REQUIRE(bt_json_read_string(&r, &text, &n_text));
    REQUIRE(bt_decode(f->vocab, got, n, true, &back, &n_back, NULL) == BT_OK);
    bool equal = n_back == n_text && memcmp(back, text, n_text) == 0;
    CHECK(equal);
    if (!equal) fprintf(stderr, "%s row %zu decodes to \"%.200s\"\n", name, row, back);
    bt_free(back);
    bt_json_reader_release(&r);
}

static size_t line_end(const char *s, size_t n, size_t at)
{
    const char *p = memchr(s + at, '\n', n - at);
    REQUIRE(p);
    return (size_t)(p - s);
}

/* A file of tokenizers, each with a row for every text; returns how many there are. */
static size_t check_cases(const char *cases_path, const char *texts_path)
{
    static texts t;
    size_t n, cases = 0;
    char *all = slurp(cases_path, &n);
    texts_open(&t, texts_path);
    for (size_t at = 0; at < n; cases++) {
        char name[64];
        size_t end = line_end(all, n, at), from = end + 1;
        snprintf(name, sizeof name, "%.*s", (int)(end - at - 2), all + at + 2);
        end = line_end(all, n, from);
        fixture f = fixture_json(all + from, end - from);
        for (size_t row = 0; row < t.n; row++) {
            from = end + 1;
            end = line_end(all, n, from);
            check_row(&f, name, &t, row, all + from, end - from);
        }
        at = end + 1;
        fixture_close(&f);
    }
    free(all);
    free(t.all);
    return cases;
}

static void every_kind_of_tokenizer(void)
{
    CHECK_INT(check_cases(DATA "cases.txt", DATA "texts.inp"), 106);
}

static void what_no_known_model_does(void)
{
    CHECK_INT(check_cases(DATA "rare.txt", DATA "rare.inp"), 23);
}

static void a_real_folder(void)
{
    static texts t;
    size_t n_lines;
    static int32_t want[IDS_MAX];
    char *lines = slurp(DATA "llama-2.ids", &n_lines);
    const char *line = lines;
    const int32_t *ids;
    int32_t n_eos;
    texts_open(&t, VOCAB_DIR "fuzz.inp");
    fixture f = fixture_text(DATA "llama-2");
    CHECK_INT(bt_vocab_bos(f.vocab), 1);
    CHECK_INT(bt_vocab_eos_token(f.vocab), 2);
    CHECK_INT(bt_vocab_eos(f.vocab, &n_eos)[0], 2);
    CHECK_INT(n_eos, 1);
    CHECK(adds_bos(f.vocab) && !adds_eos(f.vocab));
    for (size_t row = 0; row < t.n; row++) {
        const char *start = line;
        size_t n_want = read_ids(&line, want, IDS_MAX);
        size_t n = fixture_encode(&f, t.text[row], t.len[row], true, true, &ids);
        bool same = n == n_want && memcmp(ids, want, n * sizeof *ids) == 0;
        CHECK(same);
        if (!same) show("llama-2", row, ids, n, start);
    }
    CHECK_INT(t.n, 263);
    fixture_close(&f);
    free(lines);
    free(t.all);
}

/* The same model as SentencePiece and GGUF files have it. */
static void sources_agree(void)
{
    static texts t;
    texts_open(&t, VOCAB_DIR "fuzz.inp");
    fixture a = fixture_text(DATA "llama-2/tokenizer.json"), b = fixture_vocab("llama-spm");
    for (size_t row = 0; row < t.n; row++) {
        static int32_t first[IDS_MAX];
        const int32_t *ids;
        size_t n = fixture_encode(&a, t.text[row], t.len[row], true, false, &ids);
        REQUIRE(n <= IDS_MAX);
        memcpy(first, ids, n * sizeof *ids);
        CHECK_INT(fixture_encode(&b, t.text[row], t.len[row], true, false, &ids), n);
        CHECK(memcmp(first, ids, n * sizeof *ids) == 0);
    }
    fixture_close(&a);
    fixture_close(&b);
    free(t.all);
}

/* ---- A small file whose parts a test replaces. */

typedef struct small {
    const char *model, *added, *normalizer, *pre, *post, *decoder;
} small;

static const char small_model[] =
    "{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,"
    "\"</s>\":2,\"a\":3,\"b\":4,\"ab\":5,\"\\u2581\":6,\"\\u2581ab\":7,\"\\u2581a\":8},"
    "\"merges\":[\"a b\",[\"\\u2581\",\"ab\"],\"\\u2581 a\"]}";
static const char small_added[] =
    "[{\"id\":0,\"content\":\"<unk>\",\"special\":true},"
    "{\"id\":1,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
    "{\"id\":2,\"content\":\"</s>\",\"special\":true,\"normalized\":false},"
    "{\"id\":9,\"content\":\"<tool>\",\"special\":false,\"normalized\":false}]";
static const char small_normalizer[] =
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]}";
static const char small_post[] =
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
    "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[1]}}}";

/* In an allocation of exactly its size. */
static char *small_text(const small *o, size_t *n)
{
    bt_buf b = BT_BUF_INIT;
    bt_buf_addf(&b,
                "{\"version\":\"1.0\",\"truncation\":{\"max_length\":2},\"padding\":null,"
                "\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,"
                "\"post_processor\":%s,\"decoder\":%s,\"model\":%s}",
                o->added ? o->added : small_added, o->normalizer ? o->normalizer : small_normalizer,
                o->pre ? o->pre : "null", o->post ? o->post : small_post,
                o->decoder ? o->decoder : "{\"type\":\"Fuse\"}", o->model ? o->model : small_model);
    REQUIRE(!b.failed);
    *n = b.len;
    char *text = malloc(b.len);
    REQUIRE(text);
    memcpy(text, b.data, b.len);
    bt_buf_release(&b);
    return text;
}

static bt_status use(const char *text, size_t n, const bt_spec_files *files, bt_err *err)
{
    static const char sample[] = " ab<s> b\xC3\xA9<tool>a  b</s>\n";
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_encoder *e = NULL;
    bt_encode_options opt = {.add_special = true, .parse_special = true};
    const int32_t *ids;
    size_t n_ids, n_back;
    char *back = NULL;
    bt_status st = bt_text_open_json(text, n, files, "made.json", &v, &t, err);
    if (!st) st = bt_encoder_open(t, &e, err);
    if (!st) st = bt_encode(e, sample, sizeof sample - 1, &opt, 0, &ids, &n_ids, err);
    if (!st) st = bt_decode(v, ids, n_ids, true, &back, &n_back, err);
    bt_free(back);
    bt_encoder_close(e);
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    return st;
}

static void expect_ids(fixture *f, const char *text, const bt_encode_options *opt,
                       const int32_t *want)
{
    const int32_t *ids;
    size_t n = 0, n_want = 0;
    while (want[n_want] >= 0) n_want++;
    REQUIRE(bt_encode(f->encoder, text, strlen(text), opt, 0, &ids, &n, NULL) == BT_OK);
    bool same = n == n_want && (n == 0 || memcmp(ids, want, n * sizeof *ids) == 0);
    CHECK(same);
    if (!same) show(text, 0, ids, n, "");
}
#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void special_tokens_and_who_wrote_them(void)
{
    size_t n;
    char *text = small_text(&(small){0}, &n);
    fixture f = fixture_json(text, n);
    free(text);
    bt_encode_options opt = {.parse_special = true};
    expect_ids(&f, "ab</s>", &opt, IDS(7, 2));
    expect_ids(&f, "<tool>a", &opt, IDS(9, 8));
    opt.parse_special = false;
    expect_ids(&f, "<tool>a</s>", &opt, IDS(9, 8, 0)); // user-defined tokens always
    opt = (bt_encode_options){.parse_special = true, .add_special = true};
    expect_ids(&f, "a", &opt, IDS(1, 8));
    expect_ids(&f, "", &opt, IDS(1));
    /* "<s>" is the template's, the second one is a user's */
    opt = (bt_encode_options){
        .parse_special = true, .user = (const bt_encode_range[]){{4, 9}}, .n_user = 1};
    expect_ids(&f, "<s>a<s>ab</s>", &opt, IDS(1, 8, 0, 5, 2));
    opt.user = (const bt_encode_range[]){{0, 2}, {5, 6}}; // each cuts into one
    opt.n_user = 2;
    expect_ids(&f, "<s>a<s>a</s>", &opt, IDS(6, 0, 3, 0, 3, 2));
    fixture_close(&f);
}

static void expect_refusal(const small *o, bt_status code, const char *word)
{
    size_t n;
    bt_err err = {0};
    char *text = small_text(o, &n);
    CHECK_INT(use(text, n, NULL, &err), code);
    if (!strstr(err.msg, word)) fprintf(stderr, "message: %s\n", err.msg);
    CHECK(strstr(err.msg, word) != NULL);
    free(text);
}

static void refusals_say_what(void)
{
#define TYPE(t) "{\"type\":\"" t "\"}"
    expect_refusal(&(small){.normalizer = TYPE("Shout")}, BT_EUNSUPPORTED, "normalizer 'Shout'");
    expect_refusal(&(small){.pre = TYPE("Guess")}, BT_EUNSUPPORTED, "pre-tokenizer 'Guess'");
    expect_refusal(&(small){.post = TYPE("Wrap")}, BT_EUNSUPPORTED, "post-processor 'Wrap'");
    expect_refusal(&(small){.decoder = TYPE("Say")}, BT_EUNSUPPORTED, "decoder 'Say'");
    expect_refusal(&(small){.model = "{\"type\":\"RWKV\",\"vocab\":{\"a\":0}}"}, BT_EUNSUPPORTED,
                   "model 'RWKV'");
    expect_refusal(&(small){.model = "{\"type\":\"BPE\"}"}, BT_EFORMAT, "no 'vocab'");
    expect_refusal(&(small){.model = "null"}, BT_EFORMAT, "no 'model'");
    expect_refusal(&(small){.model = "{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}"}, BT_EFORMAT,
                   "two tokens have id 0");
    expect_refusal(&(small){.model = "{\"vocab\":{\"a\":-1},\"merges\":[]}"}, BT_EFORMAT, "id -1");
    expect_refusal(&(small){.model = "{\"vocab\":{\"a\":1e3},\"merges\":[]}"}, BT_EFORMAT,
                   "whole number");
    expect_refusal(&(small){.model = "{\"vocab\":{},\"merges\":[]}"}, BT_EFORMAT, "empty");
    expect_refusal(&(small){.model = "{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}", .added = "[]"},
                   BT_EFORMAT, "merge 0 names a piece");
    expect_refusal(&(small){.model = "{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}", .added = "[]"},
                   BT_EFORMAT, "not of two pieces");
    expect_refusal(&(small){.model = "{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}"}, BT_EFORMAT,
                   "not one of this kind");
    expect_refusal(&(small){.added = "[{\"id\":3,\"content\":\"zz\",\"special\":true}]"},
                   BT_EFORMAT, "'zz' has id 3, which is another token's");
    expect_refusal(&(small){.pre = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?~a)\"},"
                                   "\"behavior\":\"Isolated\",\"invert\":false}"},
                   BT_EUNSUPPORTED, "option of a group");
    expect_refusal(&(small){.pre = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
                                   "\"behavior\":\"Torn\",\"invert\":false}"},
                   BT_EUNSUPPORTED, "behavior 'Torn'");
    expect_refusal(&(small){.decoder = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},"
                                       "\"content\":\"\"}"},
                   BT_EUNSUPPORTED, "Regex is not supported");
    expect_refusal(&(small){.post = "{\"type\":\"TemplateProcessing\",\"single\":["
                                    "{\"SpecialToken\":{\"id\":\"<x>\"}}],\"special_tokens\":{}}"},
                   BT_EFORMAT, "ids of '<x>'");
    expect_refusal(&(small){.normalizer = "{\"type\":\"Precompiled\","
                                          "\"precompiled_charsmap\":\"?\"}"},
                   BT_EFORMAT, "not base64");
    expect_refusal(&(small){.pre = "{\"type\":\"\\ud800\"}"}, BT_EFORMAT, "lone surrogate");
}

static void old_files(void)
{
    size_t n;
    /* No type, "a b" merges, null where newer files have "": as BERT's, T5's and RoBERTa's. */
    char *text = small_text(
        &(small){.model = "{\"vocab\":{\"<unk>\":0,\"a\":1,\"##b\":2,\"ab\":3},\"unk_token\":"
                          "\"<unk>\",\"continuing_subword_prefix\":\"##\","
                          "\"max_input_chars_per_word\":100}",
                 .added = "[]",
                 .normalizer = "null",
                 .post = "null",
                 .pre = "{\"type\":\"Whitespace\"}",
                 .decoder = "{\"type\":\"WordPiece\"}"},
        &n);
    fixture f = fixture_json(text, n);
    CHECK_INT(bt_vocab_kind_of(f.vocab), BT_VOCAB_WORDPIECE);
    expect_ids(&f, "ab abb b", &(bt_encode_options){0}, IDS(3, 3, 2, 0));
    fixture_close(&f);
    free(text);
    text = small_text(&(small){.model = "{\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1.5],"
                                        "[\"aa\",-2]]}",
                               .added = "[]",
                               .normalizer = "null",
                               .post = "null"},
                      &n);
    f = fixture_json(text, n);
    CHECK_INT(bt_vocab_kind_of(f.vocab), BT_VOCAB_UNIGRAM);
    expect_ids(&f, "aaabb", &(bt_encode_options){0}, IDS(1, 2, 0));
    fixture_close(&f);
    free(text);
    text = small_text(&(small){.model = "{\"vocab\":{\"a\":0,\"b\":1},\"unk_token\":\"a\"}",
                               .added = "[]",
                               .normalizer = "null",
                               .post = "null",
                               .pre = "{\"type\":\"WhitespaceSplit\"}"},
                      &n);
    f = fixture_json(text, n);
    CHECK_INT(bt_vocab_kind_of(f.vocab), BT_VOCAB_WORDLEVEL);
    expect_ids(&f, "b c", &(bt_encode_options){0}, IDS(1, 0));
    fixture_close(&f);
    free(text);
}

static bt_str str(const char *s)
{
    return (bt_str){s, strlen(s)};
}

static void files_beside(void)
{
    size_t n;
    int32_t n_eos;
    bt_vocab *v;
    bt_tokenizer *t;
    const char *name;
    bt_spec_files files = {0};
    char *text = small_text(&(small){0}, &n);
    files.text[BT_BESIDE_TOKENIZER_CONFIG] =
        str("{\"tokenizer_class\":\"LlamaTokenizerFast\",\"add_bos_token\":false,"
            "\"add_eos_token\":true,\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\","
            "\"odd\":\"\\ud83c\",\"huge\":Infinity,\"added_tokens_decoder\":{\"11\":{\"content\":"
            "\"<|im_end|>\",\"special\":true},\"2\":{\"content\":\"</s>\",\"special\":true}},"
            "\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},"
            "{\"name\":\"default\",\"template\":\"D\"}]}");
    files.text[BT_BESIDE_GENERATION_CONFIG] = str("{\"eos_token_id\":[2,5,99]}");
    files.text[BT_BESIDE_CONFIG] = str("{\"eos_token_id\":7,\"bos_token_id\":[1,2]}");
    REQUIRE(bt_text_open_json(text, n, &files, "made.json", &v, &t, NULL) == BT_OK);
    CHECK_INT(bt_vocab_size(v), 12); // the hole at 10 is a token that does not exist
    CHECK_INT(bt_vocab_token_kind(v, 10), BT_TOKEN_UNUSED);
    CHECK_INT(bt_vocab_find(v, "<|im_end|>", BT_TOKEN_CONTROL), 11);
    const int32_t *eos = bt_vocab_eos(v, &n_eos);
    CHECK_INT(n_eos, 3); // 99 is no token, and generation_config says what ends an answer
    CHECK(n_eos == 3 && eos[0] == 2 && eos[1] == 5 && eos[2] == 7);
    CHECK(!adds_bos(v) && adds_eos(v));
    CHECK_STR(default_template(v), "D");
    CHECK_INT(bt_vocab_n_templates(v), 2);
    CHECK_STR(bt_vocab_template_at(v, 1, &name), "T");
    CHECK_STR(name, "tool_use");
    bt_tokenizer_close(t);
    bt_vocab_close(v);
    /* A file of its own supersedes; without a generation_config names of turn ends count. */
    files.text[BT_BESIDE_GENERATION_CONFIG] = (bt_str){0};
    files.text[BT_BESIDE_TEMPLATE_JINJA] = str("J");
    REQUIRE(bt_text_open_json(text, n, &files, "made.json", &v, NULL, NULL) == BT_OK);
    CHECK_STR(default_template(v), "J");
    CHECK(bt_vocab_is_eos(v, 11));
    bt_vocab_close(v);
    bt_err err = {0};
    files.text[BT_BESIDE_CONFIG] = str("{\"eos_token_id\":\"x\"}");
    CHECK_INT(use(text, n, &files, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "eos_token_id") != NULL);
    free(text);
}

/* A file that uses many parts, small enough to fail at each allocation and be cut at each byte. */
static char *rich_text(size_t *n)
{
    static const small rich = {
        .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},"
                      "{\"type\":\"Lowercase\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
                      "\"[x[yz]]+|a{1,2}+\"},\"content\":\"a\"},{\"type\":\"Strip\"},"
                      "{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}]}",
        .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\"},"
               "{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},\"behavior\":\"Contiguous\","
               "\"invert\":true},{\"type\":\"Digits\",\"individual_digits\":true}]}",
        .decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
                   "{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
                   "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
                   "\"stop\":0}]}"};
    return small_text(&rich, n);
}

static void truncated_files_are_refused(void)
{
    size_t n;
    bt_err err;
    char *text = rich_text(&n);
    CHECK_INT(use(text, n, NULL, &err), BT_OK);
    for (size_t k = 0; k < n; k++) {
        char *part = malloc(k + !k);
        REQUIRE(part);
        memcpy(part, text, k);
        CHECK_INT(use(part, k, NULL, &err), BT_EFORMAT);
        free(part);
    }
    char *more = malloc(n + 1);
    REQUIRE(more);
    memcpy(more, text, n);
    more[n] = '}';
    CHECK_INT(use(more, n + 1, NULL, &err), BT_EFORMAT);
    free(more);
    free(text);
}

static void damaged_files_do_no_harm(void)
{
    size_t n, refused = 0;
    bt_err err;
    char *text = rich_text(&n);
    for (size_t k = 0; k < n; k++)
        for (int bit = 0; bit < 8; bit += 3) {
            char was = text[k];
            text[k] = (char)(was ^ (1 << (bit + k % 2)));
            refused += use(text, n, NULL, &err) != BT_OK;
            text[k] = was;
        }
    CHECK(refused > n);
    free(text);
}

static void every_allocation_may_fail(void)
{
    size_t n;
    bt_err err;
    char *text = rich_text(&n);
    long k = 1;
    for (;; k++) {
        bt_mem_fail_at(k);
        bt_status st = use(text, n, NULL, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) {
            CHECK_INT(st, BT_OK);
            break;
        }
        CHECK(st == BT_OK || st == BT_ENOMEM);
        if (st != BT_OK && st != BT_ENOMEM) fprintf(stderr, "allocation %ld: %s\n", k, err.msg);
        REQUIRE(k < 10000);
    }
    CHECK(k > 60);
    free(text);
}

/* A text that is declared twice is special if either says so: what users spell stays text. */
static void declared_twice(void)
{
    static const char *const added[] = {"{\"id\":2,\"content\":\"</s>\",\"special\":true},"
                                        "{\"id\":2,\"content\":\"</s>\",\"special\":false}",
                                        "{\"id\":2,\"content\":\"</s>\",\"special\":false},"
                                        "{\"id\":2,\"content\":\"</s>\",\"special\":true}"};
    for (size_t i = 0; i < 2; i++) {
        char json[512];
        int n = snprintf(json, sizeof json,
                         "{\"added_tokens\":[%s],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
                         "\"<\":1,\"</s>\":2,\"/\":3,\"s\":4,\">\":5},\"merges\":[]}}",
                         added[i]);
        fixture f = fixture_json(json, (size_t)n);
        const int32_t *ids;
        CHECK_INT(fixture_encode(&f, "a</s>", 5, false, true, &ids), 2);
        CHECK_INT(ids[1], 2);
        CHECK_INT(bt_vocab_token_kind(f.vocab, 2), BT_TOKEN_CONTROL);
        CHECK_INT(fixture_encode(&f, "a</s>", 5, false, false, &ids), 5);
        for (int k = 1; k < 5; k++) CHECK(ids[k] != 2);
        fixture_close(&f);
    }
}

int main(void)
{
    RUN(every_kind_of_tokenizer);
    RUN(what_no_known_model_does);
    RUN(a_real_folder);
    RUN(sources_agree);
    RUN(special_tokens_and_who_wrote_them);
    RUN(refusals_say_what);
    RUN(old_files);
    RUN(files_beside);
    RUN(truncated_files_are_refused);
    RUN(damaged_files_do_no_harm);
    RUN(every_allocation_may_fail);
    RUN(declared_twice);
    return TEST_END();
}
