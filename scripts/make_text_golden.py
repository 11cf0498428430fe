#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/tokenizer/: small tokenizers of every kind and what PyPI `tokenizers` makes of some texts.

    scripts/make_text_golden.py                  ids anew for the tokenizers that are there
    scripts/make_text_golden.py --check          the same in memory, compared with what is there
    scripts/make_text_golden.py --train CORPUS   tokenizers and texts anew; CORPUS: a few thousand lines of English

cases.txt: a line "# name", the tokenizer.json on one line, then a line for each text of texts.inp: ids with special
tokens, a tab, the decoded text (special tokens left out) as JSON; "-" where the library itself panics.

rare.txt and rare.inp: the same for what no known model does, found with random tokenizers; made anew each time.
"""

import json
import os
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(ROOT, "tests", "data", "tokenizer")
MARKER = "\n__ggml_vocab_test__\n"
BEHAVIORS = ["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
PATTERNS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*"
    rf"{CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}&&[^\p{{Han}}]]*[{LOWER}&&[^\p{{Han}}]]+|\p{{N}}{{1,3}}|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\w+|[^\w\s]+",
    r"\b",
    r"(?=(\d{3})+(?!\d))",
    r"\s+$",
    r"^.",
    r"[[:alpha:]]+|[[:punct:]]",
    r"\h+|\d",
    r"\p{N}{1,3}+",
    r"a{,2}b",
    r"[a-z&&[^aeiou]]+",
    r"(?i)straße|[^\S\n]+",
    r"[\s\S]{2}?",
    r"x*",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"\p{Hiragana}|\p{Latin}+",
    r"[^\p{L}&&[^\d]]+",
    r"(?m:a.b)|\.",
    r"\p{^L}",
    r"[\]\[]",
    r"[]a]+",
    r"\u0041|[\x{42}-\x{44}]",
    r"[[:^space:][ ]]{3}",
    r"(a|b)\1",
    r"[[:lower:]]|[[:upper:]]{2}|[[:cntrl:]]|[[:blank:]]|[[:alnum:]]{5}",
    r"\W|\D\D",
    r"(?<=a)b|(?<!c)d",
    r"(?>a+)b?",
    r"$",
    r"\p{Alphabetic}+",
    r"\p{Uppercase}",
    r"a(?i)b|C",
]
COMMON = list("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 \t\n\r.,!?'-_<>|[](){}/\\\"#$%&*+=@^~`")
ODD = list("\u00a0\u2003\u3000\u200b\u180e\u0085\u2028\u1680ſKİıßﬁÅé가각中日あアー")
ODD += list("½²Ⅷ①٣\u0301\u0323\ufffdﾞǅ…“—▁Ġ\u0600\ufeffﷺ\u0344ᾳ")
ODD += ["e\u0301", "क्षि", "👨‍👩‍👧", "🇩🇪", "''s", "'LL", "'ſ", "\u093c"]
OWN_TEXTS = [
    "", " ", "   ", "\n", "Hello world", " Hello  world ", "<|a|>  hi", "x  <|b|>  y", "a <|c|> b<|c|>",
    " <|a|>   <|b|>  foo foobar foo. _foo fooé foo", "[X] [X]a <s>[X]", "    a b  ab ABC ABCab",
    "Hello HELLO hello WÖRLD wörld RAW raw xy xyz x xy.", "a\n\n\n b \n\n", "<s>Hi</s> <unk>", "foo", "<|a|>",
    "<|a|> <|a|>  <|b|>", "Don't you'LL we've I'M he'd", "1234567 1,234,567.89 ½²Ⅷ ①٣", "straße STRASSE",
    "price: $5 < €6 = 7", "日本語 中文 한국어 ภาษาไทย العربية हिन्दी", "Ångström Å Å ﬁ ﬀ ① ﷺ é e\u0301 가 가",
    "İstanbul ǅ Σίσυφος ΣΑΣ", "a\u0000b", "\u180e\u200b\ufeff\u00a0x\u3000y\u2028z\u0085", "👨‍👩‍👧 🇩🇪 🏳️‍🌈",
    "    int main(void)\n{\n\treturn 0;   // ok\r\n}\r\n", "aaaaaaaaab bbb abab", "..., ... !? [] ()", "▁a ▁▁b Ġc",
]  # fmt: skip


def byte_alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled, extra = {}, 0
    for b in range(256):
        spelled[b] = chr(b if b in plain else 256 + extra)
        extra += b not in plain
    return {spelled[b]: b for b in range(256)}


def byte_tokenizer(normalizer=None, pre=None):
    """Ids are bytes: what a normalizer does, and (by a space in front of each piece) where a text is cut."""
    t = Tokenizer(models.BPE(byte_alphabet(), []))
    if normalizer:
        t.normalizer = normalizer
    steps = [pre] if pre else []
    last = pre_tokenizers.ByteLevel(add_prefix_space=bool(pre), use_regex=False)
    t.pre_tokenizer = pre_tokenizers.Sequence(steps + [last])
    t.decoder = decoders.ByteLevel()
    return t


def step_cases():
    n, p = normalizers, pre_tokenizers
    for kind in "NFC NFD NFKC NFKD Lowercase StripAccents Nmt Strip BertNormalizer ByteLevel".split():
        yield "normalizer-" + kind, byte_tokenizer(getattr(n, kind)())
    yield "normalizer-sequence", byte_tokenizer(n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase(), n.Strip()]))
    yield "normalizer-bert-cased", byte_tokenizer(
        n.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=False)
    )
    yield "normalizer-prepend", byte_tokenizer(n.Prepend("_x"))
    yield "normalizer-replace", byte_tokenizer(n.Replace("a", "bb"))
    yield "normalizer-replace-regex", byte_tokenizer(n.Replace(Regex(r"\s+|[aeiou]{2,}"), "<>"))
    yield "normalizer-replace-empty", byte_tokenizer(n.Replace(Regex("x*"), "-"))
    yield "normalizer-strip-left", byte_tokenizer(n.Strip(left=True, right=False))
    for i, pattern in enumerate(PATTERNS):
        split = p.Split(Regex(pattern), BEHAVIORS[i % 5], invert=bool(i & 1))
        yield f"split-{i:02d}", byte_tokenizer(pre=split)
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", byte_tokenizer(pre=p.Split(Regex("[aeiou ]"), behavior, invert=invert))
            yield f"split-string-{behavior}-{invert}", byte_tokenizer(pre=p.Split("a", behavior, invert=invert))
        yield "punctuation-" + behavior, byte_tokenizer(pre=p.Punctuation(behavior))
    yield "bert-pre-tokenizer", byte_tokenizer(pre=p.BertPreTokenizer())
    yield "whitespace", byte_tokenizer(pre=p.Whitespace())
    yield "whitespace-split", byte_tokenizer(pre=p.WhitespaceSplit())
    yield "digits", byte_tokenizer(pre=p.Digits(True))
    yield "digits-contiguous", byte_tokenizer(pre=p.Digits(False))
    yield "char-delimiter", byte_tokenizer(pre=p.CharDelimiterSplit("e"))
    yield "unicode-scripts", byte_tokenizer(pre=p.UnicodeScripts())
    yield "fixed-length", byte_tokenizer(pre=p.FixedLength(3))
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            yield f"metaspace-{scheme}-{split}", byte_tokenizer(pre=p.Metaspace(prepend_scheme=scheme, split=split))
    falcon = byte_tokenizer()
    falcon.pre_tokenizer = p.Sequence(
        [
            p.Punctuation("contiguous"),
            p.ByteLevel(add_prefix_space=False),
            p.Digits(False),
            p.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ]
    )
    yield "falcon", falcon


def model_cases(corpus):
    n, p, d = normalizers, pre_tokenizers, decoders
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair=None, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    spm = n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")])

    def train(model, trainer, **parts):
        t = Tokenizer(model)
        for name, part in parts.items():
            if name != "post_processor":
                setattr(t, name, part)
        t.train_from_iterator(corpus, trainer)
        if "post_processor" in parts:
            t.post_processor = parts["post_processor"]
        return t

    def bpe(size, **kw):
        return trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False, **kw)

    yield "bpe-byte-level", train(
        models.BPE(),
        bpe(600, initial_alphabet=p.ByteLevel.alphabet()),
        pre_tokenizer=p.ByteLevel(add_prefix_space=False),
        decoder=d.ByteLevel(),
        post_processor=template,
    )
    yield "bpe-unk", train(models.BPE(unk_token="<unk>"), bpe(400, limit_alphabet=70), pre_tokenizer=p.Whitespace())
    fused = train(models.BPE(unk_token="<unk>", fuse_unk=True), bpe(400, limit_alphabet=70), normalizer=spm)
    yield "bpe-unk-fused", fused
    yield "bpe-no-unk", train(models.BPE(), bpe(400, limit_alphabet=70), pre_tokenizer=p.WhitespaceSplit())
    yield "bpe-suffix", train(
        models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
        bpe(500, end_of_word_suffix="</w>"),
        normalizer=n.Lowercase(),
        pre_tokenizer=p.WhitespaceSplit(),
        decoder=d.BPEDecoder(),
    )
    yield "bpe-prefix", train(
        models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
        bpe(500, continuing_subword_prefix="##"),
        pre_tokenizer=p.Whitespace(),
    )
    fallback = json.loads(fused.to_str())
    fallback["model"]["byte_fallback"] = True
    vocab = fallback["model"]["vocab"]
    vocab.update({f"<0x{i:02X}>": len(vocab) + i for i in range(256)})
    fallback["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    yield "bpe-byte-fallback", Tokenizer.from_str(json.dumps(fallback))
    fallback["model"]["ignore_merges"] = True
    yield "bpe-ignore-merges", Tokenizer.from_str(json.dumps(fallback))
    wordpiece = train(
        models.WordPiece(unk_token="<unk>"),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False),
        normalizer=n.BertNormalizer(),
        pre_tokenizer=p.BertPreTokenizer(),
        decoder=d.WordPiece(),
        post_processor=processors.BertProcessing(("</s>", 2), ("<s>", 1)),
    )
    yield "wordpiece", wordpiece
    yield "wordlevel", train(
        models.WordLevel(unk_token="<unk>"),
        trainers.WordLevelTrainer(vocab_size=500, special_tokens=special, show_progress=False),
        pre_tokenizer=p.Whitespace(),
        post_processor=processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
    )
    yield "unigram", train(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token="<unk>", show_progress=False),
        normalizer=n.NFKC(),
        pre_tokenizer=p.Metaspace(),
        decoder=d.Metaspace(),
        post_processor=processors.Sequence([processors.ByteLevel(), template]),
    )
    t = Tokenizer.from_str(fused.to_str())
    t.add_special_tokens(
        [
            AddedToken("<|a|>", rstrip=True),
            AddedToken("<|b|>", lstrip=True),
            AddedToken("<|c|>", lstrip=True, rstrip=True),
            AddedToken("[X]", normalized=True, special=True),
        ]
    )
    t.add_tokens(
        [
            AddedToken("foo", single_word=True),
            AddedToken("  ", normalized=True),
            AddedToken("ab"),
            AddedToken("ABC", normalized=False),
            AddedToken("a b", normalized=True),
            AddedToken("   ", normalized=False),
            AddedToken("\n\n", normalized=False, lstrip=True),
        ]
    )
    yield "added-tokens", t
    t = Tokenizer.from_str(wordpiece.to_str())
    t.add_tokens(
        [
            AddedToken("Hello"),
            AddedToken("Wörld", normalized=True),
            AddedToken("RAW", normalized=False),
            AddedToken("xy", single_word=True, normalized=True),
        ]
    )
    yield "added-tokens-lowercased", t


RARE_TEXTS = [
    "", "a", "ab abc", "abab  ab", " ", "   a", "\t\ta", "x\t\t12", "é", "aé", "éaé bé", "ÅÄÃ Ã", "5,5 ½", "A",
    "aAb", "日本", "日a日日", "a日5日", "c", "cab", "zc z", "<0x41>A", "abcabc ccab", "a\u00a0b", "foo\t", "b5日日ab",
    "aab", "aaa", "\x01ab", "\u0301ab", "bab", "bcd b", "\x00A",
]  # fmt: skip


def rare_cases():
    """What a part does at its edges: each is a tokenizer.json of the parts that matter."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    bytes_of = [f"<0x{i:02X}>" for i in range(256)]
    level = list(byte_alphabet())
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    words = {"type": "WhitespaceSplit"}

    def ids(pieces):
        return {p: i for i, p in enumerate(pieces)}

    def bpe(pieces, merges=(), **kw):
        vocab = ids([*pieces, *("".join(m) for m in merges if "".join(m) not in pieces)])
        return {"type": "BPE", "vocab": vocab, "merges": [list(m) for m in merges], **kw}

    def added(*tokens):
        return [{**flags, **t} for t in tokens]

    def make(model, tokens=(), **parts):
        none = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
        return json.dumps({"version": "1.0", "added_tokens": list(tokens), **none, **parts, "model": model})

    pieces = ["[U]", "a", "b", "##a", "##b"]
    piece = {"type": "WordPiece", "vocab": ids(pieces), "unk_token": "[U]", "continuing_subword_prefix": "##"}
    yield "wordpiece-no-chars", make({**piece, "max_input_chars_per_word": 0}, pre_tokenizer=words)
    yield "wordpiece-unk-missing", make(
        {**piece, "unk_token": "[V]", "max_input_chars_per_word": 9}, pre_tokenizer=words
    )
    ends = {"unk_token": "<u>", "continuing_subword_prefix": "_", "end_of_word_suffix": "</w>", "byte_fallback": True}
    affix = bpe(["<u>", "a", "_b", "_b</w>", *bytes_of], [("a", "_b</w>")], **ends)
    affix["vocab"]["ab</w>"] = affix["vocab"].pop("a_b</w>")
    yield "bpe-affix-bytes", make(affix, pre_tokenizer=words)
    merges = [("<0xC3>", "<0xA9>"), ("a", "<0xC3><0xA9>"), ("<0xC3><0xA9>", "b")]
    yield "bpe-byte-merges", make(bpe(["<u>", "a", "b", *bytes_of], merges, unk_token="<u>", byte_fallback=True))
    for fuse in (True, False):
        part = bpe(["<u>", "a", "b", "<0x35>"], [("a", "b")], unk_token="<u>", byte_fallback=True, fuse_unk=fuse)
        yield f"bpe-some-bytes-{fuse}", make(part)
        unk = bpe([" ", "a", "b", "c"], [("a", "b")], unk_token=" ", fuse_unk=fuse)
        yield f"bpe-unk-space-{fuse}", make(unk)
        unk = bpe([" ", *(c for c in level if c not in "Aa"), "a"], [], unk_token="a", fuse_unk=fuse)
        yield f"bpe-unk-byte-{fuse}", make(unk, pre_tokenizer=byte_level, decoder=byte_level)
    stands = bpe(["<u>", "a", "b"], [("<u>", "a"), ("b", "<u>a")], unk_token="<u>")
    yield "bpe-unk-merges", make(stands)
    latin = bpe([" ", "日", *level], [("Ã", "ħ"), ("Ã", "©")], ignore_merges=True)
    tokens = added(
        {"id": latin["vocab"]["Ã"], "content": "Ã", "normalized": True},
        {"id": len(latin["vocab"]), "content": "foo", "rstrip": True},
        {"id": len(latin["vocab"]) + 1, "content": "\t", "lstrip": True, "rstrip": True, "special": True},
    )
    yield "bpe-latin", make(latin, tokens, pre_tokenizer=byte_level, decoder=byte_level)
    both = {"type": "Sequence", "decoders": [byte_level, {"type": "ByteFallback"}]}
    yield "decoder-bytes-twice", make(bpe(["a", "b", *bytes_of], byte_fallback=True), decoder=both)
    scores = [["ab", -1.0], ["a", -3.0], ["b", -20.0], ["bc", -1.0], ["abc", -2.5], ["z", -4.0], [" ", -2.0]]
    yield "unigram-no-unk", make({"type": "Unigram", "unk_id": None, "vocab": scores, "byte_fallback": False})
    scores = [["<u>", 0.0], ["a", 2.0], ["b", 3.0], ["ab", 4.5]]
    yield "unigram-byte-added", make(
        {"type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": True},
        added({"id": 4, "content": "<0x41>", "single_word": True}, {"id": 5, "content": "c", "lstrip": True}),
    )
    first = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": False}
    chars = bpe(["_", *"abcAé5 "])
    normal = [{"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Nmt"}, {"type": "StripAccents"}]
    edits = (("a+", "b"), ("ab", "c"), ("b", ""))
    normal += [{"type": "Replace", "pattern": {"Regex": p}, "content": c} for p, c in edits]
    normal.append({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False, "lowercase": False})
    for i, n in enumerate(normal):
        yield f"metaspace-first-{i}", make(chars, normalizer={"strip_accents": None, **n}, pre_tokenizer=first)
    cls = {"type": "BertProcessing", "cls": ["a", 1], "sep": ["b", 2]}
    item = {"SpecialToken": {"id": "a", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    around = {"type": "TemplateProcessing", "single": [item, text, item], "pair": [item, text, item, text]}
    around["special_tokens"] = {"a": {"id": "a", "ids": [1, 3], "tokens": ["a", "##a"]}}
    piece["max_input_chars_per_word"] = 2
    yield "post-bert-template", make(piece, post_processor={"type": "Sequence", "processors": [cls, around]})


def make_texts():
    random.seed(7)
    assigned = [c for c in map(chr, range(1, 0x30000)) if unicodedata.category(c) not in ("Cs", "Cn")]
    out = list(OWN_TEXTS)
    for i in range(40):
        weights = [6, 2.5, 1.5] if i % 3 else [1, 6, 3]
        choices = random.choices([COMMON, ODD, assigned], weights, k=random.randint(2, 28))
        out.append("".join(random.choice(c) for c in choices))
    return out


def rows(tokenizer, texts):
    for text in texts:
        try:
            ids = tokenizer.encode(text).ids
        except BaseException as e:  # the library panics on what its normalizers leave nothing of
            if isinstance(e, KeyboardInterrupt):
                raise
            yield "-"
            continue
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        yield " ".join(map(str, ids)) + "\t" + json.dumps(decoded)


def cases_text(cases, texts):
    out = ""
    for name, text in cases:
        compact = json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))
        out += f"# {name}\n{compact}\n" + "".join(r + "\n" for r in rows(Tokenizer.from_str(text), texts))
    return out


def write(name, text):
    with open(os.path.join(DATA, name), "w", encoding="utf-8", newline="") as f:
        f.write(text)


def is_same(name, text):
    with open(os.path.join(DATA, name), encoding="utf-8", newline="") as f:
        same = f.read() == text
    print(name, "is equal" if same else "differs")
    return same


def main():
    texts_path, cases_path = os.path.join(DATA, "texts.inp"), os.path.join(DATA, "cases.txt")
    if "--train" in sys.argv:
        with open(sys.argv[sys.argv.index("--train") + 1], encoding="utf-8") as f:
            corpus = f.read().split("\n")[:6000]
        texts = make_texts()
        cases = [(name, t.to_str()) for name, t in [*step_cases(), *model_cases(corpus + texts)]]
    else:
        with open(texts_path, encoding="utf-8", newline="") as f:
            texts = f.read().split(MARKER)[:-1]
        with open(cases_path, encoding="utf-8", newline="\n") as f:
            lines = f.read().split("\n")
        cases = [(line[2:], lines[i + 1]) for i, line in enumerate(lines) if line.startswith("# ")]
    out = {
        "cases.txt": cases_text(cases, texts),
        "texts.inp": "".join(t + MARKER for t in texts),
        "rare.txt": cases_text(rare_cases(), RARE_TEXTS),
        "rare.inp": "".join(t + MARKER for t in RARE_TEXTS),
    }
    if "--check" in sys.argv:
        return 0 if all([is_same(name, text) for name, text in out.items()]) else 1
    for name, text in out.items():
        write(name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
