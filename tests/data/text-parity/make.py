#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of this folder with the PyPI package `tokenizers` (0.22): what it makes of 5,000 random
strings for each of many tokenizers. tests/src/token/test_parity.c makes the same strings and compares.

    make.py                        parity.txt anew (and strings.json, the alphabet of the strings, if it is not there)
    make.py --check [NAME ...]     the same in memory, compared with what is there
    make.py --train CORPUS         families.txt anew: small tokenizers of each well-known kind; CORPUS: a text file
    make.py --more OUT PATH ...    OUT/parity.txt for tokenizers that are too large to be kept here: a tokenizer.json,
                                   NAME.gguf, NAME.tiktoken, SentencePiece NAME.model, or a folder with vocab.json and
                                   merges.txt
    make.py --diff NAME FILE       FILE: what `test-token-test_parity --dump NAME` printed; shows what differs

parity.txt holds for each tokenizer its added tokens, how many ids it has, which questions the library has no answer
for (strings, then 5,000 + the number of a sequence of ids), how many sample lines, a sum over each 50 strings
of four things, the same for random ids decoded, and the ids of a sample of the strings.
"""

import hashlib
import json
import os
import struct
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.dirname(HERE)
STRINGS, GROUP, RANDOM_IDS = 5000, 50, 500
MASK = (1 << 64) - 1

# ---- The strings; parity_strings.h does the same in C.


def mix(x):
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


class Draws:
    def __init__(self, seed):
        self.key, self.at = mix(seed + 0x9E3779B97F4A7C15 & MASK), 0

    def __call__(self, n):
        draw = mix(self.key + self.at * 0x9E3779B97F4A7C15 & MASK)
        self.at += 1
        return draw % n


def alphabet():
    """Everything that strings are made of; ranges: assigned characters, as pairs first, last."""
    ranges, start = [], None
    for c in range(0x20, 0x110001):
        last = c > 0x10FFFF
        name = "" if last else unicodedata.category(chr(c))
        use = not last and name not in ("Cn", "Cs", "Co") and not (0x3400 <= c < 0xAC00 and c % 256 > 31)
        use = use and not (0xAC20 <= c < 0xD700) and not (0x20000 <= c and c % 4096 > 15)
        if use and start is None:
            start = c
        elif start is not None and (not use or c - start > 60):
            ranges.append([start, c - 1])
            start = c if use else None
    words = "the of and Hello world don't I'll we've naïve Straße Пьер князь ĳssel ǆ test_case fooBar HTTPServer x y "
    words += "in "
    words += "is was said to him; it's café Ångström 日本語 中文字 한국어 ภาษา हिन्दी עברית العربية ελληνικά Σίσυφος İstanbul"
    return {
        "words": words.split(),
        "spaces": list(" \u00a0\u3000\u2003\u0085\u2028\u1680\u202f\u200b\u180e\ufeff\t\n\r\x0b\x0c")
        + ["\r\n", " \n", "  "],
        "punctuation": list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("…—“”‘’«»¡¿、。，！？·•§¶†‰€£"),
        "digits": list("01234567890123456789½²Ⅷ①٣४"),
        "bases": list("aeionczAEé가가ककאبקก日"),
        "marks": list("\u0300\u0301\u0302\u0308\u0323\u0327\u0345\u093c\u094d\u064b"
                      "\u0651\u05b7\u0e31\u3099\u20dd\ufe0f\u200d\u0315"),
        "odd": ["'s", "'LL", "'ſ", "▁", "▁▁", "Ġ", "<0x41>", "<0xE2>", "##", "##ing", "\ufffd", "\ufffd\ufffd",
                "<", "<|", "|>",
                "</", "[", "👨‍👩‍👧", "🇩🇪", "🏳️‍🌈", "👍🏽", "ﬁ", "ﷺ", "ſ", "K", "Å", "ᾳ", "ΐ", "ﾞ", "ｶﾞ", "각", "각",
                "``", "''",
                "http://a.b/c?d=e&f", "a.b", "e.g.", "3.14", "1,234", "$5", "\\n", "{\"a\": 1}", 
                "if (x) {\n\treturn;\n}", "    ",
                "\u0600", "\U000e0001", "\u2066", "\u00ad", "\u0130", "\u1e9e",
                "\u01c5", "\uff21", "Ⅷ", "क्षि", "\u0344", "\u0f73"],
        "ranges": [x for pair in ranges for x in pair],
    }  # fmt: skip


class Strings:
    def __init__(self):
        with open(os.path.join(HERE, "strings.json"), encoding="utf-8") as f:
            self.a = json.load(f)
        self.n_ranges = len(self.a["ranges"]) // 2
        self.last = (None, [])

    def pick(self, r, name):
        return self.a[name][r(len(self.a[name]))]

    def of_range(self, r, i):
        first, last = self.a["ranges"][2 * i], self.a["ranges"][2 * i + 1]
        return chr(first + r(last - first + 1))

    def segment(self, r, added):
        kind = r(20)
        if kind < 5:
            return "".join((" " if r(2) else "") + self.pick(r, "words") for _ in range(1 + r(3)))
        if kind == 5:
            return self.pick(r, "spaces") * (1 + r(6))
        if kind == 6:
            return "".join(self.pick(r, "punctuation") for _ in range(1 + r(5)))
        if kind == 7:
            return "".join(self.pick(r, "digits") for _ in range(1 + r(8)))
        if kind < 12:
            i = r(self.n_ranges)
            return "".join(self.of_range(r, i) for _ in range(1 + r(10)))
        if kind == 12:
            base = self.pick(r, "bases")
            return base + "".join(self.pick(r, "marks") for _ in range(1 + r(4)))
        if kind == 13:
            return "".join(self.pick(r, "odd") for _ in range(1 + r(2)))
        if kind == 14:
            c = r(64)
            return chr(c if c < 32 else c + 95)
        if kind < 17:
            around = ["", " ", "  ", "a", "\n", "\u00a0", ".", "_"]
            before = around[r(8)]
            token = added[r(len(added))] if added else self.pick(r, "words")
            return before + token + around[r(8)]
        if kind == 17:
            return "".join(self.of_range(r, r(self.n_ranges)) for _ in range(1 + r(6)))
        if kind == 18:
            return " " * r(2) + "".join(chr(65 + r(26) + 32 * r(2)) for _ in range(1 + r(12)))
        unit = self.pick(r, ["words", "spaces", "punctuation", "odd"][r(4)])
        return unit * (100 + r(400) if r(16) == 0 else 2 + r(12))

    def make(self, i, added):
        r = Draws(i + 1000)
        return "".join(self.segment(r, added) for _ in range(1 + r(6)))


    def all(self, added):
        """Those of the tokenizer before are kept: many have no added tokens."""
        if self.last[0] != added:
            self.last = (added, [self.make(i, added) for i in range(STRINGS)])
        return self.last[1]


def random_ids(k, size):
    r = Draws(k + 1000000)
    return [r(min(size, 300) if r(2) else size) for _ in range(1 + r(40))]


# ---- Sums.


class Sum:
    def __init__(self):
        self.h = hashlib.sha256()

    def ids(self, ids):
        self.h.update(struct.pack(f"<I{len(ids)}I", len(ids), *ids))

    def text(self, text):
        raw = text.encode()
        self.h.update(struct.pack("<I", len(raw)) + raw)

    def __str__(self):
        return self.h.hexdigest()[:8]


def asked(question):
    """None where the library panics or refuses: its normalizers do on what they leave nothing of, its Strip decoder
    on tokens shorter than what it takes away."""
    try:
        return question()
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return None


def spelled_bytes(t):
    """Added tokens that the library's ByteLevel decoder takes for bytes (DeepSeek-Coder's "ö" becomes an invalid 0xF6):
    id -> the ids of their own UTF-8, which is what Baton gives. They are the one difference that is wanted."""
    spell, decoder = byte_characters(), t.decoder
    if decoder is None or b"ByteLevel" not in decoder.__getstate__():
        return {}
    out = {}
    for i, a in t.get_added_tokens_decoder().items():
        if not a.special and not a.content.isascii() and set(a.content) <= set(spell.values()):
            out[i] = [t.token_to_id(spell[b]) for b in a.content.encode()]
    return out


def decoded(t, ids, spelled):
    ids = [j for i in ids for j in spelled.get(i, [i])]
    return asked(lambda: (t.decode(ids), t.decode(ids, skip_special_tokens=False)))


def answer(t, text, spelled):
    got = asked(lambda: (t.encode(text).ids, t.encode(text, add_special_tokens=False).ids))
    texts = decoded(t, got[0], spelled) if got else None
    return (*got, *texts) if texts else None


def block(name, source, t, strings, sample):
    """A tokenizer's part of parity.txt."""
    t.no_truncation()
    t.no_padding()
    added = [a.content for _, a in sorted(t.get_added_tokens_decoder().items())]
    size = max(t.get_vocab().values()) + 1
    texts, skipped, lines, rows = strings.all(added), [], [], []
    spelled = spelled_bytes(t)
    for first in range(0, STRINGS, GROUP):
        sums = [Sum() for _ in range(4)]
        for i in range(first, first + GROUP):
            got = answer(t, texts[i], spelled)
            if got is None:
                skipped.append(str(i))
                continue
            sums[0].ids(got[0])
            sums[1].ids(got[1])
            sums[2].text(got[2])
            sums[3].text(got[3])
            if i % sample == 0:
                rows.append(" ".join(map(str, [i, *got[0]])))
        lines.append(" ".join(map(str, sums)))
    for first in range(0, RANDOM_IDS, GROUP):
        sums = [Sum(), Sum()]
        for k in range(first, first + GROUP):
            got = decoded(t, random_ids(k, size), spelled)
            if got is None:
                skipped.append(str(STRINGS + k))
                continue
            sums[0].text(got[0])
            sums[1].text(got[1])
        lines.append(" ".join(map(str, sums)))
    head = [f"# {name}\t{source}", json.dumps(added, ensure_ascii=True), f"{size}"]
    head += ["- " + " ".join(skipped), f"{len(rows)}"]
    return "\n".join(head + lines + rows) + "\n"


# ---- Where tokenizers come from.

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s+(?!\S)|\s+"
GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{TAIL}"
ENDS = rf"[\r\n]*|\s*[\r\n]+|{TAIL}"
LLAMA3 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+{ENDS}"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+{ENDS}"
)
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(ending, numbers, tail):
    words = rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{ending}|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{ending}"
    return rf"{words}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{tail}]*|\s*[\r\n]+|{TAIL}"


O200K = cased(CONTRACTIONS + "?", r"\p{N}{1,3}", "/")
TEKKEN = cased("", r"\p{N}", "/")
CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    rf"|\s*[\r\n]+|{TAIL}"
)
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
N, P, D, Q = normalizers, pre_tokenizers, decoders, processors


def splits(*patterns, digits=False):
    steps = [P.Split(Regex(p), "isolated") for p in patterns]
    steps += [P.Digits(True)] if digits else []
    return P.Sequence(steps + [P.ByteLevel(add_prefix_space=False, use_regex=False)])


def template(single, special):
    return Q.TemplateProcessing(single=single, pair=None, special_tokens=special)


def special_token(content, **flags):
    return AddedToken(content, **{"normalized": False, "special": True, **flags})


def plain_token(content, **flags):
    return AddedToken(content, **{"normalized": True, **flags})


def spm_decoder(strip=True):
    steps = [D.Replace("▁", " "), D.ByteFallback(), D.Fuse()]
    return D.Sequence(steps + ([D.Strip(" ", 1, 0)] if strip else []))


def train(corpus, model, trainer, **parts):
    t = Tokenizer(model)
    for name, part in parts.items():
        if name != "post_processor":
            setattr(t, name, part)
    t.train_from_iterator(corpus, trainer)
    if "post_processor" in parts:
        t.post_processor = parts["post_processor"]
    return t


def byte_families(corpus):
    special = ["<|endoftext|>", "<s>", "</s>", "<pad>", "<mask>"]
    bos = template("<s> $A", [("<s>", 1)])

    def bpe(size=700):
        return trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, show_progress=False, initial_alphabet=P.ByteLevel.alphabet()
        )

    def level(pre, normalizer=None, post=None, **model):
        parts = {"pre_tokenizer": pre, "decoder": D.ByteLevel()}
        if normalizer:
            parts["normalizer"] = normalizer
        t = train(corpus, models.BPE(**model), bpe(), **parts)
        if post:
            t.post_processor = post
        return t

    plain = P.ByteLevel(add_prefix_space=False)
    yield "gpt-2", level(plain, post=Q.ByteLevel(trim_offsets=False))
    yield "llama-3", level(splits(LLAMA3), post=Q.Sequence([Q.ByteLevel(), bos]), ignore_merges=True)
    t = level(splits(QWEN2), N.NFC(), Q.ByteLevel(trim_offsets=False))
    t.add_special_tokens([special_token("<|im_start|>"), special_token("<|im_end|>")])
    t.add_tokens([AddedToken(x, normalized=False) for x in ("<think>", "</think>", "<tool_call>", "</tool_call>")])
    yield "qwen2", t
    yield "qwen3.5", level(splits(QWEN35), N.NFC())
    t = level(plain, N.NFC(), bos)
    t.add_tokens([plain_token(" " * n) for n in range(2, 25)])
    yield "gpt-neox", t
    t = level(plain)
    t.add_tokens([plain_token(" " * n) for n in range(31, 1, -1)] + [plain_token("\t" * n) for n in range(9, 1, -1)])
    yield "phi-2", t
    yield "starcoder", level(P.Sequence([P.Digits(True), plain]))
    yield "command-r", level(P.Sequence([P.Digits(True), plain]), N.NFC(), bos)
    falcon = [P.Punctuation("contiguous"), plain, P.Digits(False), P.Split(Regex("[0-9][0-9][0-9]"), "isolated")]
    yield "falcon", level(P.Sequence(falcon))
    yield "gpt-4o", level(splits(O200K), post=Q.ByteLevel())
    yield "mistral-tekken", level(splits(TEKKEN), post=bos, ignore_merges=True)
    yield "deepseek-v3", level(splits(r"\p{N}{1,3}", CJK, DEEPSEEK3), post=bos)
    coder = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]
    yield "deepseek-coder", level(splits(*coder, digits=True), post=bos)
    yield "bloom", level(splits(BLOOM))
    yield "cl100k-port", level(
        P.Sequence(
            [P.Split(Regex(LLAMA3), "removed", invert=True), P.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    )
    t = level(P.ByteLevel(add_prefix_space=True), post=Q.RobertaProcessing(("</s>", 2), ("<s>", 1)))
    t.add_special_tokens([special_token("<mask>", lstrip=True)])
    yield "roberta", t
    yield "byte-level-normalizer", level(P.Split(Regex("Ġ?[^Ġ]+"), "isolated"), N.Sequence([N.NFKC(), N.ByteLevel()]))


def character_families(corpus):
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    spm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    bos = template("<s> $A", [("<s>", 1)])

    def bpe(normalizer=None, pre=None, decoder=None, post=bos, byte_fallback=True, size=600, **trainer):
        """With byte tokens behind the special ones, as SentencePiece has them."""
        tokens = special + ([f"<0x{i:02X}>" for i in range(256)] if byte_fallback else [])
        parts = {"normalizer": normalizer, "pre_tokenizer": pre, "decoder": decoder}
        how = trainers.BpeTrainer(
            vocab_size=size + len(tokens), special_tokens=tokens, limit_alphabet=90, show_progress=False, **trainer
        )
        model = models.BPE(unk_token="<unk>", fuse_unk=True, **trainer)
        t = train(corpus, model, how, **{k: v for k, v in parts.items() if v})
        j = json.loads(t.to_str())
        j["model"]["byte_fallback"] = byte_fallback
        j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
        t = Tokenizer.from_str(json.dumps(j))
        if post:
            t.post_processor = post
        return t

    words = P.Metaspace(prepend_scheme="always")  # only while training: so that pieces stay inside of words

    def without_words(t):
        j = json.loads(t.to_str())
        j["pre_tokenizer"] = None
        return Tokenizer.from_str(json.dumps(j))

    yield "llama-2", without_words(bpe(spm, words, spm_decoder()))
    t = without_words(bpe(spm, words, spm_decoder()))
    t.add_special_tokens([special_token(x, rstrip=True) for x in ("<|endoftext|>", "<|user|>", "<|end|>", "</s>")])
    yield "phi-3", t
    t = bpe(None, P.Metaspace(prepend_scheme="first", split=False), spm_decoder())
    t.add_special_tokens([special_token("[INST]"), special_token("[/INST]")])
    yield "llama-2-metaspace", t
    t = bpe(N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), spm_decoder(False))
    t.add_special_tokens([special_token("<start_of_turn>"), special_token("<end_of_turn>")])
    t.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(2, 9)] + [AddedToken("▁▁▁", normalized=False)])
    yield "gemma", t
    t = without_words(bpe(spm, words, spm_decoder()))
    j = json.loads(t.to_str())
    for a in j["added_tokens"]:
        a["normalized"] = True
    yield "llama-2-normalized-added", Tokenizer.from_str(json.dumps(j))
    yield "gpt-1", bpe(
        N.BertNormalizer(), P.BertPreTokenizer(), D.BPEDecoder(), None, False, end_of_word_suffix="</w>"
    )
    for name, decoder in {
        "decoder-none": None,
        "decoder-metaspace-always": D.Metaspace(prepend_scheme="always"),
        "decoder-metaspace-never": D.Metaspace(prepend_scheme="never"),
        "decoder-ctc": D.CTC(pad_token="<pad>", word_delimiter_token="▁"),
        "decoder-ctc-plain": D.CTC(pad_token="e", word_delimiter_token="t", cleanup=False),
        "decoder-wordpiece": D.WordPiece(prefix="▁", cleanup=True),
        "decoder-wordpiece-plain": D.WordPiece(prefix="e", cleanup=False),
        "decoder-strip-replace": D.Sequence([D.Replace("▁", " "), D.Strip(" ", 0, 1), D.Replace("e", "3")]),
        "decoder-fallback-only": D.ByteFallback(),
        "decoder-fuse-strip": D.Sequence([D.ByteFallback(), D.Metaspace(), D.Fuse(), D.Strip("▁", 2, 0)]),
    }.items():
        t = without_words(bpe(spm, words, spm_decoder(), size=300))
        j = json.loads(t.to_str())
        j["decoder"] = json.loads(decoder.__getstate__()) if decoder else None
        yield name, Tokenizer.from_str(json.dumps(j))


def sentencepiece_map():
    """SentencePiece's nmt_nfkc table: the bytes field behind the normalizer's name."""
    with open(os.path.join(DATA, "leaves", "nmt-nfkc.model"), "rb") as f:
        model = f.read()
    mark = b"\x0a\x08nmt_nfkc\x12"
    at, size, shift = model.index(mark) + len(mark), 0, 0
    while True:
        size |= (model[at] & 0x7F) << shift
        shift += 7
        at += 1
        if model[at - 1] < 0x80:
            return model[at : at + size]


def other_families(corpus):
    table = N.Precompiled(sentencepiece_map())

    def unigram(special, size=900, **parts):
        how = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False, max_piece_length=12
        )
        return train(corpus[:5050], models.Unigram(), how, **parts)

    t5 = unigram(
        ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"],
        normalizer=table,
        pre_tokenizer=P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="always")]),
        decoder=D.Metaspace(prepend_scheme="always"),
        post_processor=template("$A </s>", [("</s>", 1)]),
    )
    yield "t5", t5
    t = unigram(
        ["<s>", "<pad>", "</s>", "<unk>"],
        normalizer=N.Sequence([table, N.Replace(Regex(" {2,}"), " ")]),
        pre_tokenizer=P.Metaspace(prepend_scheme="always"),
        decoder=D.Metaspace(prepend_scheme="always"),
        post_processor=template("<s> $A </s>", [("<s>", 0), ("</s>", 2)]),
    )
    t.add_special_tokens([special_token("<mask>", lstrip=True)])
    yield "xlm-roberta", t
    yield "albert", unigram(
        ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
        normalizer=N.Sequence([N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase()]),
        pre_tokenizer=P.Metaspace(prepend_scheme="always"),
        decoder=D.Metaspace(prepend_scheme="always"),
        post_processor=template("[CLS] $A [SEP]", [("[CLS]", 2), ("[SEP]", 3)]),
    )
    j = json.loads(t5.to_str())
    j["normalizer"] = {"type": "NFKC"}
    size = len(j["model"]["vocab"])
    j["model"]["vocab"] += [[f"<0x{i:02X}>", -20.0] for i in range(256)]
    j["model"]["byte_fallback"] = True
    j["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, j["decoder"]]}
    assert size == t5.get_vocab_size()
    yield "unigram-byte-fallback", Tokenizer.from_str(json.dumps(j))

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ends = template("[CLS] $A [SEP]", [("[CLS]", 2), ("[SEP]", 3)])

    def wordpiece(size=700, **parts):
        how = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=special, limit_alphabet=150, show_progress=False
        )
        return train(corpus, models.WordPiece(unk_token="[UNK]"), how, **parts)

    bert = {"pre_tokenizer": P.BertPreTokenizer(), "decoder": D.WordPiece()}
    yield "bert-uncased", wordpiece(normalizer=N.BertNormalizer(), post_processor=ends, **bert)
    yield "bert-cased", wordpiece(
        normalizer=N.BertNormalizer(lowercase=False),
        post_processor=Q.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
        **bert,
    )
    yield "bert-accents", wordpiece(normalizer=N.BertNormalizer(strip_accents=False), post_processor=ends, **bert)
    t = wordpiece(normalizer=N.Sequence([N.NFC(), N.Lowercase(), N.Strip()]), post_processor=ends, **bert)
    t.add_tokens([plain_token("Hello"), AddedToken("x", single_word=True), plain_token("naïve")])
    yield "wordpiece-added", t
    level = trainers.WordLevelTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    yield "wordlevel", train(
        corpus, models.WordLevel(unk_token="[UNK]"), level, pre_tokenizer=P.Whitespace(), post_processor=ends
    )
    yield "wordlevel-scripts", train(
        corpus,
        models.WordLevel(unk_token="[UNK]"),
        level,
        normalizer=N.Sequence([N.Nmt(), N.NFKD(), N.StripAccents()]),
        pre_tokenizer=P.Sequence([P.UnicodeScripts(), P.WhitespaceSplit(), P.Punctuation("isolated"), P.Digits(False)]),
    )


def train_families(path):
    with open(path, encoding="utf-8") as f:
        corpus = [line for line in f.read().split("\n") if line][:5000]
    strings = Strings()
    corpus += [strings.make(i, []) for i in range(STRINGS, STRINGS + 1500)]
    out = ""
    for makers in (byte_families, character_families, other_families):
        for name, t in makers(corpus):
            compact = json.dumps(json.loads(t.to_str()), ensure_ascii=True, separators=(",", ":"))
            out += f"# {name}\n{compact}\n"
            print(name, t.get_vocab_size(), len(compact))
    with open(os.path.join(HERE, "families.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write(out)


# ---- Files of other kinds as tokenizer.json: the pipelines are those of the models' own tokenizer.json files.


def byte_characters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return {b: chr(b if b in plain else next(extra)) for b in range(256)}


def gguf_fields(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def get(key, default=None):
        f = fields.get("tokenizer.ggml." + key) or fields.get(key)
        return default if f is None else f.contents()

    return get


def added_of(tokens, types, rstrip=()):
    out = []
    for i, kind in enumerate(types):
        if kind in (2, 3, 4) and tokens[i]:
            flags = {"single_word": False, "lstrip": False, "rstrip": tokens[i] in rstrip, "normalized": False}
            out.append({"id": i, "content": tokens[i], **flags, "special": kind != 4})
    return out


def file_of(model, added, normalizer=None, pre=None, decoder=None, post=None):
    def part(p):
        return json.loads(p.__getstate__()) if p is not None else None

    j = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": part(normalizer)}
    j.update(pre_tokenizer=part(pre), post_processor=part(post), decoder=part(decoder), model=model)
    return Tokenizer.from_str(json.dumps(j))


def bpe_model(vocab, merges, **flags):
    return {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocab, "merges": merges, **flags}


def scored_merges(pieces, scores):
    """Every cut of a piece into two pieces, best first: how SentencePiece's BPE is written as merges."""
    where, out = {p: i for i, p in enumerate(pieces)}, []
    for p, i in where.items():
        local = []
        for cut in range(1, len(p)):
            if p[:cut] in where and p[cut:] in where:
                local.append((p[:cut], p[cut:], scores[i]))
        local.sort(key=lambda m: (where[m[0]], where[m[1]]))
        out += local
    out.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [[a, b] for a, b, _ in out]


def tokenizer_of_gguf(path):
    get = gguf_fields(path)
    tokens, types = get("tokens"), get("token_type")
    kind, pre = get("model"), get("pre")
    bos, eos = get("bos_token_id"), get("eos_token_id")
    phi = get("general.architecture") == "phi3"
    added = added_of(tokens, types, tokens[32001:] + ["</s>"] if phi else ())
    head = template(f"{tokens[bos]} $A", [(tokens[bos], bos)]) if bos is not None else None
    if kind == "bert":
        words = [
            t if k != 1 or t[0] == "[" and len(t) > 2 else t[1:] if t[0] == "▁" else "##" + t
            for t, k in zip(tokens, types)
        ]
        cls, sep = words.index("[CLS]"), words.index("[SEP]")
        model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        model["max_input_chars_per_word"] = 100
        model["vocab"] = {w: i for i, w in enumerate(words)}
        post = template("[CLS] $A [SEP]", [("[CLS]", cls), ("[SEP]", sep)])
        return file_of(model, added_of(words, types), N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece(), post)
    vocab = {t: i for i, t in enumerate(tokens)}
    if kind in ("llama", "gemma4"):
        unk = tokens[types.index(2)] if 2 in types else "<unk>"
        merges = get("merges") if kind == "gemma4" else None
        if merges is None:
            normal = [t if k in (1, 4) else f"\0{i}\0" for i, (t, k) in enumerate(zip(tokens, types))]
            merges = scored_merges(normal, get("scores"))
        model = bpe_model(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=True)
        if kind == "gemma4":
            return file_of(model, added, N.Replace(" ", "▁"), None, spm_decoder(False), head)
        return file_of(model, added, N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, spm_decoder(), head)
    plain = P.ByteLevel(add_prefix_space=False)
    coder = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]
    steps = {
        "gpt-2": (None, plain, None, False),
        "llama-bpe": (None, splits(LLAMA3), head, True),
        "qwen2": (N.NFC(), splits(QWEN2), None, False),
        "starcoder": (None, P.Sequence([P.Digits(True), plain]), None, False),
        "deepseek-coder": (None, splits(*coder, digits=True), head, False),
    }[pre]
    if get("add_bos_token") is False:
        steps = (*steps[:2], None, steps[3])
    model = bpe_model(vocab, get("merges"), ignore_merges=steps[3])
    return file_of(model, added, steps[0], steps[1], D.ByteLevel(), steps[2])


def tokenizer_of_ranks(path):
    """tiktoken: a line a token, base64 and rank."""
    import base64

    with open(path, "rb") as f:
        ranks = {base64.b64decode(x.split()[0]): int(x.split()[1]) for x in f.read().splitlines() if x}
    spell = byte_characters()
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += sorted(cuts, key=lambda c: (ranks[c[0]], ranks[c[1]]))

    def spelled(raw):
        return "".join(spell[b] for b in raw)

    vocab = {spelled(token): rank for token, rank in ranks.items()}
    names, pattern, post = [], LLAMA3, None
    if len(ranks) == 128000:
        names = [(128000, "<|begin_of_text|>"), (128001, "<|end_of_text|>"), (128006, "<|start_header_id|>")]
        names += [(128007, "<|end_header_id|>"), (128009, "<|eot_id|>")]
        free = [i for i in range(128000, 128256) if i not in dict(names)]
        names += [(i, f"<|reserved_special_token_{n}|>") for n, i in enumerate(free)]
        post = template("<|begin_of_text|> $A", [("<|begin_of_text|>", 128000)])
    elif len(ranks) == 100256:
        names = [(100257, "<|endoftext|>"), (100258, "<|fim_prefix|>"), (100259, "<|fim_middle|>")]
        names += [(100260, "<|fim_suffix|>"), (100276, "<|endofprompt|>")]
    else:
        names, pattern = [(199999, "<|endoftext|>"), (200018, "<|endofprompt|>")], O200K
    holder = dict(names)
    tokens = [holder.get(i, "") for i in range(max(holder) + 1)]
    model = bpe_model(vocab, [[spelled(a), spelled(b)] for a, b in merges], ignore_merges=True)
    # The library numbers added tokens that are not in the vocabulary by itself, so they are put there.
    model["vocab"].update({name: i for i, name in names})
    added = added_of(tokens, [3 if x else 1 for x in tokens])
    return file_of(model, added, None, splits(pattern), D.ByteLevel(), post)


def tokenizer_of_sentencepiece(path):
    import sentencepiece

    m = sentencepiece.SentencePieceProcessor(model_file=path)
    tokens = [m.id_to_piece(i) for i in range(m.vocab_size())]
    scores = [m.get_score(i) for i in range(m.vocab_size())]
    types = [
        2 if m.is_unknown(i) else 3 if m.is_control(i) else 6 if m.is_byte(i) else 1 for i in range(m.vocab_size())
    ]
    normal = [t if k == 1 else f"\0{i}\0" for i, (t, k) in enumerate(zip(tokens, types))]
    vocab = {t: i for i, t in enumerate(tokens)}
    model = bpe_model(vocab, scored_merges(normal, scores), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    head = template("<s> $A", [("<s>", m.bos_id())])
    spm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    return file_of(model, added_of(tokens, types), spm, None, spm_decoder(), head)


def tokenizer_of(source, folder):
    """source: FILE, or FILE#NAME for a file of many."""
    path, _, name = source.partition("#")
    path = os.path.join(folder, path)
    if name:
        with open(path, encoding="utf-8", newline="\n") as f:
            lines = f.read().split("\n")
        return Tokenizer.from_str(lines[lines.index("# " + name) + 1])
    if os.path.isdir(path):
        path = os.path.join(path, "tokenizer.json")
    if path.endswith(".gguf"):
        return tokenizer_of_gguf(path)
    if path.endswith(".tiktoken"):
        return tokenizer_of_ranks(path)
    if path.endswith(".json"):
        return Tokenizer.from_file(path)
    with open(path, "rb") as f:
        return tokenizer_of_ranks(path) if f.read(1).isalnum() else tokenizer_of_sentencepiece(path)


def index():
    for path, label in (("families.txt", "family"), ("../tokenizer/cases.txt", "part")):
        with open(os.path.join(HERE, path), encoding="utf-8", newline="\n") as f:
            for line in f:
                if line.startswith("# "):
                    yield f"{label} {line[2:-1]}", f"{path}#{line[2:-1]}", 100
    for name in "gpt-2 llama-bpe qwen2 deepseek-coder llama-spm phi-3 bert-bge".split():
        yield f"gguf {name}", f"../vocab/{name}.gguf", 25
    yield "json llama-2", "../tokenizer/llama-2", 25


# ---- What a person calls.


def parity(rows, folder, check=None):
    """Writes folder/parity.txt, or with check compares it with the rows; check: names, none for all."""
    path, strings, bad, out = os.path.join(folder, "parity.txt"), Strings(), 0, ""
    have = ""
    if check is not None:
        with open(path, encoding="utf-8", newline="\n") as f:
            have = f.read()
    for name, source, sample in rows:
        if check and not any(c in name for c in check):
            continue
        made = block(name, source, tokenizer_of(source, folder), strings, sample)
        out += made
        if check is not None and made not in have:
            bad += 1
            print(f"{name}: differs")
    if check is None:
        with open(path, "w", encoding="utf-8", newline="\n") as f:
            f.write(out)
    else:
        print("equal" if not bad else f"{bad} differ")
    return 1 if bad else 0


def diff(name, path):
    """Each line of the dump: number of the string, ids, ids without special tokens, text, whole text, as JSON."""
    source = next(s for n, s, _ in index() if n == name)
    t, strings, shown = tokenizer_of(source, HERE), Strings(), 0
    added = [a.content for _, a in sorted(t.get_added_tokens_decoder().items())]
    with open(path, encoding="utf-8") as f:
        for line in f:
            i, *got = json.loads(line)
            want = answer(t, strings.make(i, added), spelled_bytes(t))
            if want is None or list(want) == got:
                continue
            shown += 1
            if shown <= 10:
                print(i, repr(strings.make(i, added)))
                for a, b in zip(got, want):
                    print("   ", "got ", a, "\n    ", "want", b) if a != b else None
    print(f"{shown} of {STRINGS} differ")
    return 1 if shown else 0


def main(args):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    alphabet_path = os.path.join(HERE, "strings.json")
    if not os.path.exists(alphabet_path):
        with open(alphabet_path, "w", encoding="utf-8", newline="\n") as f:
            json.dump(alphabet(), f, ensure_ascii=True, separators=(",", ":"))
            f.write("\n")
    if args[:1] == ["--train"]:
        return train_families(args[1])
    if args[:1] == ["--diff"]:
        return diff(args[1], args[2])
    if args[:1] == ["--more"]:
        rows = [(os.path.basename(os.path.normpath(p)), os.path.abspath(p), 50) for p in args[2:]]
        return parity(rows, args[1])
    return parity(index(), HERE, args[1:] if args[:1] == ["--check"] else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
