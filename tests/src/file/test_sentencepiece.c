/* SPDX-License-Identifier: Apache-2.0 */
/* test_sentencepiece.c - models of the SentencePiece library as the library itself reads them,
 * every cut of one, and files that a trainer would not write. */
#include "base/assert.h"
#include "base/mem.h"
#include "file/sentencepiece.h"
#include "golden.h"

#define DIR "tests/data/leaves/"

static bool is(bt_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

static bt_spm *open_like_golden(const char *model, const char *path)
{
    static golden g;
    bt_spm *m;
    bt_err err = {0};
    REQUIRE(bt_spm_open(model, &m, &err) == BT_OK);
    golden_open(&g, path);
    REQUIRE(golden_line(&g));
    CHECK_INT(m->unk, golden_int(&g, 1));
    CHECK_INT(m->bos, golden_int(&g, 2));
    CHECK_INT(m->eos, golden_int(&g, 3));
    CHECK_INT(m->pad, golden_int(&g, 4));
    CHECK_INT(m->n_pieces, golden_int(&g, 5));
    for (size_t i = 0; golden_line(&g); i++) {
        size_t n;
        const char *s = golden_hex(&g, 0, &n);
        const bt_spm_piece *p = &m->piece[i];
        REQUIRE(i < m->n_pieces);
        CHECK(p->piece.n == n && memcmp(p->piece.s, s, n) == 0);
        CHECK(p->score == strtof(g.word[1], NULL));
        long type = golden_int(&g, 2); // the library tells normal and user-defined not apart
        CHECK(p->type == type || (type == BT_SPM_NORMAL && p->type == BT_SPM_USER_DEFINED));
    }
    golden_close(&g);
    return m;
}

static void real_models(void)
{
    bt_spm *m = open_like_golden(DIR "nmt-nfkc.model", DIR "nmt-nfkc.out");
    CHECK_INT(m->model, BT_SPM_MODEL_UNIGRAM);
    CHECK(is(m->normalizer_name, "nmt_nfkc") && m->charsmap.n > 200000);
    CHECK(m->add_dummy_prefix && m->remove_extra_whitespaces && m->escape_whitespaces);
    CHECK(!m->byte_fallback && !m->treat_whitespace_as_suffix);
    CHECK_INT(m->byte_id[65], -1);
    bt_spm_close(m);

    m = open_like_golden(DIR "unigram.model", DIR "unigram.out");
    CHECK(m->byte_fallback && !m->add_dummy_prefix && !m->remove_extra_whitespaces);
    CHECK(is(m->normalizer_name, "identity") && m->charsmap.n == 0);
    CHECK(m->byte_id[0] > 0 && m->byte_id[255] == m->byte_id[0] + 255);
    int user = 0;
    for (size_t i = 0; i < m->n_pieces; i++)
        if (m->piece[i].type == BT_SPM_USER_DEFINED) user++;
    CHECK_INT(user, 2);
    bt_spm_close(m);

    m = open_like_golden(DIR "bpe.model", DIR "bpe.out");
    CHECK_INT(m->model, BT_SPM_MODEL_BPE);
    CHECK(m->treat_whitespace_as_suffix);
    CHECK_INT(m->bos, -1);
    bt_spm_close(m);
    bt_spm_close(NULL);
}

static void every_cut(void)
{
    FILE *f = fopen(DIR "bpe.model", "rb");
    static char file[1 << 15];
    REQUIRE(f != NULL);
    size_t n = fread(file, 1, sizeof file, f), good = 0;
    fclose(f);
    REQUIRE(n > 1000 && n < sizeof file);
    for (size_t k = 0; k <= n; k++) {
        bt_spm *m = NULL;
        bt_err err = {0};
        char *copy = malloc(k ? k : 1);
        REQUIRE(copy != NULL);
        memcpy(copy, file, k);
        bt_status st = bt_spm_open_memory(copy, k, "cut", &m, &err);
        CHECK(st == BT_OK || (st == BT_EFORMAT && !m && err.msg[0]));
        good += st == BT_OK;
        bt_spm_close(m);
        free(copy);
    }
    CHECK(good > 1 && good < 600); // cuts between two fields only
    file[n] = 0x0A;                // one byte more: a field that does not end
    bt_spm *m = NULL;
    CHECK_INT(bt_spm_open_memory(file, n + 1, "more", &m, NULL), BT_EFORMAT);
}

#define UNK "\x0A\x09\x0A\x05<unk>\x18\x02"
#define PIECE_A                                                                                    \
    "\x0A\x08\x0A\x01"                                                                             \
    "a\x15\0\0\x80\xBF"

static void check_refused(const char *data, size_t n, const char *sentence)
{
    bt_spm *m = NULL;
    bt_err err = {0};
    CHECK_INT(bt_spm_open_memory(data, n, "x", &m, &err), BT_EFORMAT);
    if (!strstr(err.msg, sentence)) fprintf(stderr, "said: %s\n", err.msg);
    CHECK(strstr(err.msg, sentence) != NULL);
    CHECK(m == NULL);
}
#define REFUSED(literal, sentence) check_refused(literal, sizeof(literal) - 1, sentence)

static void damaged_models(void)
{
    bt_spm *m = NULL;
    REQUIRE(bt_spm_open_memory(UNK PIECE_A, sizeof(UNK PIECE_A) - 1, "x", &m, NULL) == BT_OK);
    CHECK(m->n_pieces == 2 && m->unk == 0 && m->piece[1].score == -1.0f);
    CHECK(m->add_dummy_prefix && m->eos == -1);
    bt_spm_close(m);
    m = NULL;
    REFUSED("", "no pieces");
    REFUSED(PIECE_A, "no piece is the unknown piece");
    REFUSED(UNK UNK, "second unknown");
    REFUSED(UNK PIECE_A PIECE_A, "came before");
    REFUSED("\x0A\x02\x0A\x00", "piece 0 is empty");
    REFUSED("\x0A\x03\x0A\x01\xFF", "UTF-8");
    REFUSED("\x0A\x08\x0A\x01"
            "a\x15\0\0\x80\x7F",
            "not finite");
    REFUSED("\x0A\x05\x0A\x01"
            "a\x18\x07",
            "unknown type");
    REFUSED("\x0A\x05\x0A\x01"
            "a\x18\x06",
            "no piece is the unknown piece");
    REFUSED(UNK "\x0A\x05\x0A\x01"
                "a\x18\x06",
            "<0x0A>");
    REFUSED(UNK "\x12\x03\x98\x02\x01", "0 of 256 byte pieces"); // byte_fallback
    REFUSED(UNK "\x12\x02\x18\x09", "model_type");
    REFUSED(UNK "\x12\x02\x1A\x00", "trainer_spec");
    REFUSED(UNK "\x1A\x02\x08\x00", "normalizer_spec");
    REFUSED("\x08\x01", "not a SentencePiece model");
    REFUSED("\x0B", "damaged"); // a group
    REFUSED("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "damaged");
    REFUSED("version https://git-lfs.github.com/spec/v1", "LFS");
    REFUSED("GGUF\x03", "GGUF");
    bt_err err = {0};
    CHECK_INT(bt_spm_open(DIR "absent.model", &m, &err), BT_ENOTFOUND);
    CHECK(m == NULL);
}

/* Fields that this program does not know are skipped, of whatever type. */
static void unknown_fields(void)
{
    static const char data[] = UNK PIECE_A "\xF8\x07\x05\xF5\x07"
                                           "abcd\xF1\x07"
                                           "abcdefgh\xFA\x07\x02xy";
    bt_spm *m;
    REQUIRE(bt_spm_open_memory(data, sizeof data - 1, "x", &m, NULL) == BT_OK);
    CHECK_INT(m->n_pieces, 2);
    bt_spm_close(m);
}

static void no_memory(void)
{
    bt_err err = {0};
    for (long k = 1;; k++) {
        bt_spm *m = NULL;
        bt_mem_fail_at(k);
        bt_status st = bt_spm_open(DIR "bpe.model", &m, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        bt_spm_close(m);
        if (!failed) break;
        CHECK_INT(st, BT_ENOMEM);
    }
}

int main(void)
{
    RUN(real_models);
    RUN(every_cut);
    RUN(damaged_models);
    RUN(unknown_fields);
    RUN(no_memory);
    return TEST_END();
}
