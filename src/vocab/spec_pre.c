/* SPDX-License-Identifier: Apache-2.0 */
/* spec_pre.c - the table of pre-tokenizers, by the names that converters write into GGUF files. A
 * row is what the tokenizer.json of the model that the name comes from says, where that is known,
 * else what llama.cpp takes the name for; docs/text.md tells which is which. A name that is in
 * neither is refused, because a wrong pre-tokenizer costs quality silently. */
#include "vocab/spec_pre.h"
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
/* DeepSeek LLM's letters: those with case, as Unicode had them, without two scripts. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}"        \
    "\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}"         \
    "\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"                 \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                  \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                 \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"               \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"         \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define DEEPSEEK_MARKS                                                                             \
    "!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}"
#define CODER_CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"

#define ASCII_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define DEEPSEEK3                                                                                  \
    ASCII_WORD "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"          \
               "\\s*[\\r\\n]+|" TRAILING
#define SPARK                                                                                      \
    ASCII_WORD "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|" TRAILING
#define JAIS2                                                                                      \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"      \
                 "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|"   \
                 "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s"
#define EXAONE_MOE                                                                                 \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"            \
                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" TRAILING
#define UFAKZEKA                                                                                   \
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" TRAILING
#define YOUTU                                                                                      \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}"     \
    "\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|"       \
    "[\\x{3105}-\\x{312F}]+|" CJK
#define ASIAN                                                                                      \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{30FF}"                \
    "\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{EFF}\\x{1780}-\\x{17FF}"                   \
    "\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}"                 \
    "\\x{1100}-\\x{11FF}]+"
/* Digits by threes from the right: first the run, then what its length leaves over. */
#define LEFT_OVER(digit) "\\A" digit "{1,2}(?=(?:" digit "{3})+\\z)"

/* The steps before ByteLevel. */
typedef struct pipeline {
    bool nfc;
    bool words; // ByteLevel cuts by GPT-2's pattern
    bool falcon;
    bool digits; // each digit alone, first
    bool digits_last;
    const char *split[5]; // patterns, isolated
} pipeline;

static const pipeline gpt2 = {.words = true}, gpt2_nfc = {.words = true, .nfc = true};
static const pipeline digits = {.words = true, .digits = true},
                      digits_nfc = {.words = true, .digits = true, .nfc = true};
static const pipeline falcon = {.falcon = true};
static const pipeline llama3 = {.split = {bt__pattern_llama3}};
static const pipeline jais2 = {.split = {JAIS2}};
static const pipeline minicpm5 = {.split = {"\\p{N}{1,3}", PLAIN("\\p{N}+")}};
static const pipeline qwen2 = {.split = {bt__pattern_qwen2}},
                      qwen2_nfc = {.split = {bt__pattern_qwen2}, .nfc = true};
static const pipeline qwen35 = {.split = {QWEN35}, .nfc = true};
static const pipeline laguna = {.split = {"[^\\n]+|\\n+", bt__pattern_qwen2}};
static const pipeline ufakzeka = {.split = {UFAKZEKA}};
static const pipeline exaone_moe = {.split = {EXAONE_MOE}};
static const pipeline seed = {.split = {SEED}};
static const pipeline bailing = {.split = {BAILING}};
static const pipeline o200k = {.split = {bt__pattern_o200k}};
static const pipeline tekken = {.split = {bt__pattern_tekken}};
static const pipeline kimi = {.split = {bt__pattern_kimi}};
static const pipeline youtu = {.split = {YOUTU, CASED(UPPER, LOWER, CONTRACTIONS "?", "\\p{N}")}};
static const pipeline tiny_aya = {
    .split = {"(?<!\\d)\\d+\\b", LEFT_OVER("\\d"), "\\d{3}", bt__pattern_o200k}};
static const pipeline deepseek3 = {.split = {"\\p{N}{1,3}", CJK, DEEPSEEK3}};
static const pipeline spark = {.split = {"\\p{N}{1,3}", CJK, SPARK, "\\p{N}"}};
static const pipeline afmoe = {
    .split = {"\\p{N}+", LEFT_OVER("\\p{N}"), "\\p{N}{3}", ASIAN, DEEPSEEK3}};
static const pipeline deepseek_llm = {.split = {"[\\r\\n]", "\\s?[" CASED_LETTERS "]+",
                                                "\\s?[" DEEPSEEK_MARKS "]+", "\\s+$", CODER_CJK},
                                      .digits_last = true};
static const pipeline coder = {.split = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CODER_CJK},
                               .digits_last = true};
static const pipeline bloom = {.split = {BLOOM}}, viking = {.split = {BLOOM, "\\p{N}"}};
static const pipeline superbpe = {.split = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}};
static const pipeline chameleon = {.words = true,
                                   .split = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z",
                                             "[\\t\\n]|    |  ", "\\p{N}",
                                             "[\\p{P}!-/:-@\\[-`{-~]"}};
static const pipeline unnamed = {
    .split = {"[\\p{P}$+<=>^~|]+", bt__pattern_gpt2, "\\p{N}+", "[0-9][0-9][0-9]"}};

static const struct row {
    const char *name;
    const pipeline *steps;
    bt__pre pre;
} rows[] = {
    {"gpt-2", &gpt2, {0}},
    {"phi-2", &gpt2, {0}},
    {"a.x-4.0", &gpt2, {0}},
    {"mellum", &gpt2, {0}},
    {"exaone4", &gpt2, {0}},
    {"trillion", &gpt2, {0}},
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
    {"exaone", &digits, {0}},
    {"mellum2", &digits, {0}},
    {"command-r", &digits_nfc, {0}},
    {"llama-bpe", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"llama3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"llama-v3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"falcon3", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"falcon-h1", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"lfm2", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"pixtral", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"midm-2.0", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"jina-v5-nano", &llama3, {.ignore_merges = true, .add_bos = true}},
    {"dbrx", &llama3, {0}},
    {"smaug-bpe", &llama3, {0}},
    {"chatglm-bpe", &llama3, {0}},
    {"glm4", &llama3, {.ignore_merges = true}},
    {"glm5", &llama3, {.ignore_merges = true}},
    {"minicpm5", &minicpm5, {.ignore_merges = true}},
    {"jais-2", &jais2, {0}},
    {"qwen2", &qwen2_nfc, {0}},
    {"deepseek-r1-qwen", &qwen2_nfc, {0}},
    {"megrez", &qwen2_nfc, {0}},
    {"f2llmv2", &qwen2_nfc, {0}},
    {"qwen35", &qwen35, {0}},
    {"stablelm2", &qwen2, {0}},
    {"hunyuan", &qwen2, {0}},
    {"grok-2", &qwen2, {0}},
    {"kormo", &qwen2, {0}},
    {"solar-open", &qwen2, {0}},
    {"laguna", &laguna, {0}},
    {"ufakzeka", &ufakzeka, {0}},
    {"exaone-moe", &exaone_moe, {0}},
    {"gpt-4o", &o200k, {0}},
    {"llama4", &o200k, {0}},
    {"minimax-m2", &o200k, {0}},
    {"kanana2", &o200k, {0}},
    {"talkie", &o200k, {0}},
    {"granite-embed-multi-97m", &o200k, {.ignore_merges = true}},
    {"tiny_aya", &tiny_aya, {0}},
    {"cohere2moe", &tiny_aya, {0}},
    {"youtu", &youtu, {.ignore_merges = true}},
    {"tekken", &tekken, {.ignore_merges = true, .add_bos = true}},
    {"kimi-k2", &kimi, {0}},
    {"deepseek-v3", &deepseek3, {0}},
    {"hunyuan-dense", &deepseek3, {0}},
    {"hy_v4", &deepseek3, {0}},
    {"joyai-llm", &deepseek3, {0}},
    {"spark2_5", &spark, {0}},
    {"afmoe", &afmoe, {0}},
    {"deepseek-llm", &deepseek_llm, {0}},
    {"deepseek-coder", &coder, {0}},
    {"seed-coder", &seed, {0}},
    {"bailingmoe", &bailing, {0}},
    {"bailingmoe2", &bailing, {0}},
    {"llada-moe", &bailing, {0}},
    {"bloom", &bloom, {0}},
    {"gpt3-finnish", &bloom, {0}},
    {"poro-chat", &bloom, {0}},
    {"viking", &viking, {0}},
    {"chameleon", &chameleon, {.add_bos = true}},
    {"superbpe", &superbpe, {0}},
    {"default", &unnamed, {0}},
    {"gemma4", NULL, {.characters = true, .add_bos = true}},
    {"granite-embed-multi-311m", NULL, {.characters = true, .add_bos = true}},
    {"sarvam-moe", NULL, {.characters = true}},
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
        *full = !rows[i].steps || add_steps(s, rows[i].steps);
        return true;
    }
    return false;
}
