/* SPDX-License-Identifier: Apache-2.0 */
/* spec_pre.c - the table of pre-tokenizers. Each row is what the tokenizer.json of the model that
 * the name comes from says; names that no such file is known for are left out, because a wrong
 * pre-tokenizer costs quality silently. */
#include "text/spec_pre.h"
#include "base/assert.h"
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TRAILING "\\s+(?!\\S)|\\s+"
#define WORDS_OF(letters, others, numbers)                                                         \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?" letters "+|" numbers "| ?" others                       \
                 "+[\\r\\n]*|\\s*[\\r\\n]+|" TRAILING
#define PLAIN(numbers) WORDS_OF("\\p{L}", "[^\\s\\p{L}\\p{N}]", numbers)
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED(upper, lower, ending, numbers)                                                       \
    "[^\\r\\n\\p{L}\\p{N}]?[" upper "]*[" lower "]+" ending "|[^\\r\\n\\p{L}\\p{N}]?[" upper       \
    "]+[" lower "]*" ending "|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|" TRAILING
#define NO_HAN "&&[^\\p{Han}]"

const char bt__pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" TRAILING;
const char bt__pattern_llama3[] = PLAIN("\\p{N}{1,3}");
const char bt__pattern_cl100k[] = PLAIN("\\p{N}{1,3}");
const char bt__pattern_qwen2[] = PLAIN("\\p{N}");
const char bt__pattern_o200k[] = CASED(UPPER, LOWER, CONTRACTIONS "?", "\\p{N}{1,3}");
const char bt__pattern_tekken[] = CASED(UPPER, LOWER, "", "\\p{N}");
const char bt__pattern_kimi[] =
    "[\\p{Han}]+|" CASED(UPPER NO_HAN, LOWER NO_HAN, CONTRACTIONS "?", "\\p{N}{1,3}");

#define QWEN35 WORDS_OF("[\\p{L}\\p{M}]", "[^\\s\\p{L}\\p{M}\\p{N}]", "\\p{N}")
#define SEED                                                                                       \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|"           \
                 "\\s*[\\r\\n]+|" TRAILING
#define BAILING                                                                                    \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|" \
    "\\s*[\\r\\n]|" TRAILING
#define BLOOM                                                                                      \
    " ?[^(\\s|[.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C])" \
    "]+"
#define CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"
#define CODER_CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"           \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|" TRAILING

/* The steps before ByteLevel. */
typedef struct pipeline {
    bool nfc;
    bool words; // ByteLevel cuts by GPT-2's pattern
    bool falcon;
    bool digits; // each digit alone, first
    bool digits_last;
    const char *split[4]; // patterns, isolated
} pipeline;

static const pipeline gpt2 = {.words = true}, gpt2_nfc = {.words = true, .nfc = true},
                      digits = {.words = true, .digits = true},
                      digits_nfc = {.words = true, .digits = true, .nfc = true},
                      falcon = {.falcon = true}, llama3 = {.split = {bt__pattern_llama3}},
                      qwen2 = {.split = {bt__pattern_qwen2}},
                      qwen2_nfc = {.split = {bt__pattern_qwen2}, .nfc = true},
                      qwen35 = {.split = {QWEN35}, .nfc = true},
                      o200k = {.split = {bt__pattern_o200k}},
                      tekken = {.split = {bt__pattern_tekken}},
                      kimi = {.split = {bt__pattern_kimi}}, seed = {.split = {SEED}},
                      bailing = {.split = {BAILING}}, bloom = {.split = {BLOOM}},
                      superbpe = {.split = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
                      deepseek3 = {.split = {"\\p{N}{1,3}", CJK, DEEPSEEK3}},
                      coder = {.split = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CODER_CJK},
                               .digits_last = true};

static const struct row {
    const char *name;
    const pipeline *steps;
    bt__pre pre;
} rows[] = {
    {"gpt-2", &gpt2, {0}},
    {"phi-2", &gpt2, {0}},
    {"jais", &gpt2, {0}},
    {"gigachat", &gpt2, {0}},
    {"granite-docling", &gpt2, {0}},
    {"jina-es", &gpt2, {.sentence = true}},
    {"jina-de", &gpt2, {.sentence = true}},
    {"jina-v2-es", &gpt2, {.sentence = true}},
    {"jina-v2-de", &gpt2, {.sentence = true}},
    {"jina-v1-en", &gpt2, {.sentence = true}},
    {"jina-v2-code", &gpt2, {.sentence = true}},
    {"roberta-bpe", &gpt2, {.sentence = true}},
    {"modern-bert", &gpt2_nfc, {.sentence = true}},
    {"mpt", &gpt2_nfc, {0}},
    {"olmo", &gpt2_nfc, {0}},
    {"falcon", &falcon, {0}},
    {"starcoder", &digits, {0}},
    {"refact", &digits, {0}},
    {"smollm", &digits, {0}},
    {"codeshell", &digits, {0}},
    {"minerva-7b", &digits, {0}},
    {"command-r", &digits_nfc, {0}},
    {"llama-bpe", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"llama3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"llama-v3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"falcon3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"falcon-h1", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"lfm2", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"dbrx", &llama3, {0}},
    {"smaug-bpe", &llama3, {0}},
    {"chatglm-bpe", &llama3, {0}},
    {"glm4", &llama3, {.ignore_merges = true}},
    {"qwen2", &qwen2_nfc, {0}},
    {"deepseek-r1-qwen", &qwen2_nfc, {0}},
    {"megrez", &qwen2_nfc, {0}},
    {"qwen35", &qwen35, {0}},
    {"stablelm2", &qwen2, {0}},
    {"hunyuan", &qwen2, {0}},
    {"grok-2", &qwen2, {0}},
    {"gpt-4o", &o200k, {0}},
    {"llama4", &o200k, {0}},
    {"minimax-m2", &o200k, {0}},
    {"tekken", &tekken, {.ignore_merges = true, .add_bos = true}},
    {"kimi-k2", &kimi, {0}},
    {"deepseek-v3", &deepseek3, {0}},
    {"hunyuan-dense", &deepseek3, {0}},
    {"deepseek-coder", &coder, {0}},
    {"seed-coder", &seed, {0}},
    {"bailingmoe", &bailing, {0}},
    {"bailingmoe2", &bailing, {0}},
    {"llada-moe", &bailing, {0}},
    {"bloom", &bloom, {0}},
    {"gpt3-finnish", &bloom, {0}},
    {"poro-chat", &bloom, {0}},
    {"superbpe", &superbpe, {0}},
};

static bool add_pattern(bt_spec *s, const char *pattern)
{
    bt_split_step *step = bt_spec_add_split(s, BT_SPLIT_PATTERN);
    if (!step) return false;
    step->pattern = (bt_str){pattern, strlen(pattern)};
    step->regex = true;
    return true;
}

static bool add_digits(bt_spec *s, bt_split_behavior behavior)
{
    bt_split_step *step = bt_spec_add_split(s, BT_SPLIT_DIGITS);
    if (step) step->behavior = behavior;
    return step != NULL;
}

static bool add_byte_level(bt_spec *s, bool words)
{
    bt_split_step *step = bt_spec_add_split(s, BT_SPLIT_BYTE_LEVEL);
    if (step) step->use_regex = words;
    return step != NULL;
}

static bool add_falcon(bt_spec *s)
{
    bt_split_step *step = bt_spec_add_split(s, BT_SPLIT_PUNCTUATION);
    if (step) step->behavior = BT_SPLIT_CONTIGUOUS;
    return step && add_byte_level(s, true) && add_digits(s, BT_SPLIT_CONTIGUOUS) &&
           add_pattern(s, "[0-9][0-9][0-9]");
}

static bool add_steps(bt_spec *s, const pipeline *p)
{
    if (p->nfc && !bt_spec_add_normal(s, BT_NORMAL_NFC)) return false;
    if (p->falcon) return add_falcon(s);
    if (p->digits && !add_digits(s, BT_SPLIT_ISOLATED)) return false;
    for (size_t i = 0; i < BT_COUNT(p->split) && p->split[i]; i++)
        if (!add_pattern(s, p->split[i])) return false;
    if (p->digits_last && !add_digits(s, BT_SPLIT_ISOLATED)) return false;
    return add_byte_level(s, p->words);
}

bool bt__pre_find(bt_str name, bt_spec *s, bt__pre *out, bool *full)
{
    for (size_t i = 0; i < BT_COUNT(rows); i++) {
        if (!bt_str_is(name, rows[i].name)) continue;
        *out = rows[i].pre;
        *full = add_steps(s, rows[i].steps);
        return true;
    }
    return false;
}
