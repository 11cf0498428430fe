/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 300 */
/* test_parity_kinds.c - what every kind of tokenizer promises beside its ids: a warm encoder and a
 * stream do not allocate, threads share one tokenizer, a vocabulary serves from its block, and text
 * does not depend on how it fell into tokens. */
#include "parity_strings.h"
#include <pthread.h>

#define HERE BATON_SOURCE_DIR "/tests/data/text-parity/"
enum { TEXTS = 60 };

static alphabet letters;

typedef void (*kind_fn)(const char *name, fixture *f);

static void each_family(kind_fn fn)
{
    size_t n;
    char *all = slurp(HERE "families.txt", &n);
    int kinds = 0;
    for (char *at = all; *at; kinds++) {
        char *name = at + 2, *json = strchr(at, '\n') + 1, *end = strchr(json, '\n');
        REQUIRE(at[0] == '#' && end);
        json[-1] = 0;
        fixture f = fixture_json(json, (size_t)(end - json));
        fn(name, &f);
        fixture_close(&f);
        at = end + 1;
    }
    CHECK(kinds > 30);
    free(all);
}

static void warm_kind(const char *name, fixture *f)
{
    bt_buf text[TEXTS] = {0};
    string_list none = {0};
    size_t count[TEXTS], wrong = 0;
    const int32_t *ids;
    for (size_t i = 0; i < TEXTS; i++) {
        make_string(&letters, i, &none, &text[i]);
        count[i] = fixture_encode(f, text[i].data, text[i].len, true, true, &ids);
    }
    bt_decoder *d;
    REQUIRE(bt_decoder_open(f->vocab, NULL, 0, true, true, &d, NULL) == BT_OK);
    bt_mem_guard_begin();
    for (size_t i = 0; i < TEXTS; i++) {
        const char *piece;
        size_t n = fixture_encode(f, text[i].data, text[i].len, true, true, &ids), n_piece;
        wrong += n != count[i];
        for (size_t k = 0; k < n; k++) bt_decoder_put(d, ids[k], &piece, &n_piece);
    }
    bt_mem_guard_end();
    CHECK_INT(wrong, 0);
    if (wrong) fprintf(stderr, "%s: a warm encoder counts otherwise\n", name);
    bt_decoder_close(d);
    for (size_t i = 0; i < TEXTS; i++) bt_buf_release(&text[i]);
}

static void warm_encoders_do_not_allocate(void)
{
    each_family(warm_kind);
}

typedef struct shared {
    const bt_tokenizer *tokenizer;
    const bt_vocab *vocab;
    uint64_t hash;
    bool ok;
} shared;

static void *use_shared(void *ud)
{
    shared *s = ud;
    bt_encoder *e = NULL;
    bt_buf text = BT_BUF_INIT;
    string_list none = {0};
    bt_encode_options opt = {.add_special = true, .parse_special = true};
    s->ok = bt_encoder_open(s->tokenizer, &e, NULL) == BT_OK;
    for (size_t i = 0; s->ok && i < TEXTS; i++) {
        const int32_t *ids;
        char *back;
        size_t n, n_back;
        make_string(&letters, i, &none, &text);
        s->ok = bt_encode(e, text.data, text.len, &opt, 0, &ids, &n, NULL) == BT_OK &&
                bt_decode(s->vocab, ids, n, true, &back, &n_back, NULL) == BT_OK;
        if (!s->ok) break;
        s->hash = bt_hash(back, n_back, bt_hash(ids, n * sizeof *ids, s->hash));
        bt_free(back);
    }
    bt_encoder_close(e);
    bt_buf_release(&text);
    return NULL;
}

/* Two threads over one tokenizer and vocabulary. */
static void share_kind(const char *name, fixture *f)
{
    shared s[2] = {{f->tokenizer, f->vocab, 1, false}, {f->tokenizer, f->vocab, 1, false}};
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&thread[i], NULL, use_shared, &s[i]) == 0);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    CHECK(s[0].ok && s[1].ok);
    CHECK(s[0].hash == s[1].hash && s[0].hash != 1);
    if (s[0].hash != s[1].hash) fprintf(stderr, "%s: threads disagree\n", name);
}

static void threads_share_every_kind(void)
{
    each_family(share_kind);
}

/* The token that is this byte alone; -1 if there is none. */
static int32_t byte_token(const bt_vocab *v, unsigned char byte)
{
    char name[8];
    int32_t id = bt_vocab_size(v);
    while (--id >= 0) {
        size_t n;
        const char *s = bt_vocab_bytes(v, id, &n);
        if (n == 1 && s[0] == (char)byte) break;
    }
    snprintf(name, sizeof name, "<0x%02X>", byte);
    int32_t spelled = bt_vocab_find(v, name, BT_TOKEN_BYTE);
    return spelled >= 0 ? spelled : id;
}

static size_t stream_ids(const bt_vocab *v, const int32_t *ids, size_t n, char *dst)
{
    bt_decoder *d;
    const char *piece;
    size_t n_piece, len = 0;
    REQUIRE(bt_decoder_open(v, NULL, 0, false, true, &d, NULL) == BT_OK);
    for (size_t i = 0; i <= n; i++) {
        if (i < n)
            bt_decoder_put(d, ids[i], &piece, &n_piece);
        else
            bt_decoder_finish(d, &piece, &n_piece);
        CHECK(bt_utf8_valid_prefix(piece, n_piece) == n_piece);
        memcpy(dst + len, piece, n_piece);
        len += n_piece;
    }
    bt_decoder_close(d);
    return len;
}

static int split_kinds;

/* Any of the tokens of a text spelled byte by byte instead: the text stays. */
static void split_kind(const char *name, fixture *f)
{
    enum { MAX = 1 << 16 };
    static const char *const chosen[] = {"gpt-2", "llama-3", "qwen2",  "mistral-tekken",
                                         "phi-2", "falcon",  "gpt-4o", "deepseek-v3"};
    static int32_t byte_id[256], pieces[MAX];
    static char one[4 * MAX], two[4 * MAX];
    bt_buf text = BT_BUF_INIT;
    string_list none = {0};
    bool use = false;
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
        use = use || strcmp(name, chosen[i]) == 0;
    if (!use) return;
    split_kinds++;
    for (int b = 0; b < 256; b++) byte_id[b] = byte_token(f->vocab, (unsigned char)b);
    for (size_t i = 0; i < TEXTS; i++) {
        const int32_t *ids;
        size_t n_pieces = 0;
        make_string(&letters, i, &none, &text);
        size_t n = fixture_encode(f, text.data, text.len, false, true, &ids);
        for (size_t k = 0; k < n; k++) {
            size_t n_bytes;
            const char *bytes = bt_vocab_bytes(f->vocab, ids[k], &n_bytes);
            bool split = bt_rng_u64(i, k) & 1 && n_bytes > 0;
            for (size_t b = 0; split && b < n_bytes; b++)
                pieces[n_pieces++] = byte_id[(unsigned char)bytes[b]];
            if (!split) pieces[n_pieces++] = ids[k];
        }
        size_t n_one = stream_ids(f->vocab, ids, n, one);
        size_t n_two = stream_ids(f->vocab, pieces, n_pieces, two);
        CHECK_INT(n_two, n_one);
        CHECK(n_one == n_two && memcmp(one, two, n_one) == 0);
    }
    bt_buf_release(&text);
}

static void text_does_not_depend_on_tokens(void)
{
    each_family(split_kind);
    CHECK_INT(split_kinds, 8);
}

/* Found by fuzzing: a piece without its score ended the process. */
static void a_piece_needs_a_score(void)
{
    static const char text[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"a\"]]}}";
    bt_vocab *v = NULL;
    bt_err err = {0};
    CHECK_INT(bt_text_open_json(text, sizeof text - 1, NULL, "made.json", &v, NULL, &err),
              BT_EFORMAT);
    CHECK(strstr(err.msg, "a piece is not a text and its score") != NULL);
    CHECK(v == NULL);
}

int main(void)
{
    alphabet_open(&letters, HERE "strings.json");
    RUN(warm_encoders_do_not_allocate);
    RUN(threads_share_every_kind);
    RUN(text_does_not_depend_on_tokens);
    RUN(a_piece_needs_a_score);
    alphabet_close(&letters);
    return TEST_END();
}
