# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of this folder with the PyPI packages tokenizers and sentencepiece.

Usage: make.py TEXT   (a large plain text to train the small models on)
"""
import io
import random
import sys

import sentencepiece as spm
from tokenizers import decoders, models, normalizers

RNG = random.Random(7)


def is_scalar(c):
    return not 0xD800 <= c <= 0xDFFF


def hexed(s):
    return s.encode().hex() or "-"


def fnv(items):
    h = 0xCBF29CE484222325
    for s in items:
        for b in s.encode() + b"\xff":
            h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


# Characters that normalizers and cluster rules look at, and others between them.
POOL = (
    list("ab XYZ.,'\t\r\n\0\x7f~")
    + [chr(c) for c in range(0x300, 0x310)]
    + list("éÀİΣßŁ©®ªº½¼ﬁﬃ①㎏㍿ｱﾞＡ株式漢字仮名がギ한각각각ส่ก็คำनमस्तेक्षिক্ষ")
    + [chr(c) for c in (0x200B, 0x200C, 0x200D, 0x2028, 0x3000, 0xA0, 0xFEFF, 0xFFFD, 0x2581, 0xAD)]
    + [chr(c) for c in (0x600, 0x605, 0x6DD, 0x94D, 0x9CD, 0xD4E, 0x1F1E6, 0x1F1E7, 0x1F600, 0x1F3FB)]
    + [chr(c) for c in (0x302E, 0x1D165, 0x1D16D, 0x1D167, 0x11938, 0x16FF0, 0x231A, 0x2764, 0xFE0F)]
    + [chr(c) for c in (0x8D3, 0x1ABF, 0x334, 0x345, 0x316, 0x1D400, 0x2F800, 0xF900, 0x110BD)]
)


def random_string(most=12):
    out = []
    for _ in range(RNG.randrange(1, most)):
        if RNG.random() < 0.9:
            out.append(RNG.choice(POOL))
        else:
            c = RNG.randrange(0x110000)
            out.append(chr(c) if is_scalar(c) else "x")
    return "".join(out)


def write(name, lines):
    with open(name, "w") as f:
        f.write("\n".join(lines) + "\n")


def train(text, name, **options):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, num_threads=1, minloglevel=2, **options
    )
    with open(name, "wb") as f:
        f.write(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def spm_goldens(sp, name):
    """Every piece, and the ids the library answers for its own questions."""
    lines = [
        f"ids {sp.unk_id()} {sp.bos_id()} {sp.eos_id()} {sp.pad_id()} {sp.get_piece_size()}"
    ]
    for i in range(sp.get_piece_size()):
        kind = (
            2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i)
            else 5 if sp.is_unused(i) else 1
        )
        lines.append(f"{hexed(sp.id_to_piece(i))} {sp.get_score(i):.9g} {kind}")
    write(name, lines)


def sample_texts(text):
    out = [RNG.choice(text)[: RNG.randrange(1, 120)].replace(" ", "▁") for _ in range(150)]
    out += [random_string(20).replace("\0", "") for _ in range(200)]
    out += ["<unk>", "x<unk>é", "<s>ab", "日本<sep>語", "<0x41>", "<sep><sep>the", "▁▁▁▁", "ﬁ", "aa" * 40]
    return [s for s in out if s]


def unigram(text, sp):
    pieces = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    texts = sample_texts(text)
    for fallback in (False, True):
        m = models.Unigram(pieces, unk_id=sp.unk_id(), byte_fallback=fallback)
        lines = []
        for s in texts:
            lines.append(" ".join([hexed(s)] + [str(t.id) for t in m.tokenize(s)]))
        write(f"unigram-{'bytes' if fallback else 'plain'}.out", lines)
    # Equal sums, positive scores, an unknown run that spells a piece.
    odd = [("<unk>", 0.0), ("a", 1.0), ("b", 1.0), ("ab", 2.0), ("abc", 0.5), ("é", -1.0),
           ("xy", -40.0), ("aa", 2.0), ("ba", 2.0), ("z", 3.0)]
    m = models.Unigram(odd, unk_id=0, byte_fallback=False)
    lines = []
    for _ in range(300):
        s = "".join(RNG.choice("abcxyzé") for _ in range(RNG.randrange(1, 14)))
        lines.append(" ".join([hexed(s)] + [str(t.id) for t in m.tokenize(s)]))
    write("unigram-odd.out", lines)
    lines = []
    for s in texts:  # the library would itself make a mark of each space
        if " " not in s:
            lines.append(" ".join([hexed(s)] + [str(i) for i in sp.encode(s)]))
    write("unigram-library.out", lines)


def wordpiece(text):
    words = sorted({w.strip(".,;:!?\"'()").lower() for line in text for w in line.split()} - {""})
    parts = {"[UNK]": 0}
    for w in RNG.sample(words, 150):
        k = RNG.randrange(1, len(w) + 1)
        parts.setdefault(w[:k], len(parts))
        if w[k:]:
            parts.setdefault("##" + w[k:], len(parts))
    for c in "abcdefghijklmnopqrstuvwxyzé日":
        parts.setdefault(c, len(parts))
        if c not in "qx":
            parts.setdefault("##" + c, len(parts))
    write("wordpiece.vocab", [hexed(p) for p in parts])
    m = models.WordPiece(parts, unk_token="[UNK]", max_input_chars_per_word=20)
    level = models.WordLevel(parts, unk_token="[UNK]")
    tests = RNG.sample(words, 400) + ["aaaaaaaaaaaaaaaaaaaa", "a" * 21, "日é日", "é" * 20, "é" * 21,
                                      "qx", "aq", "##a", "#", "[UNK]", "a##b", "日本", "\u00c3"]
    write("wordpiece.out", [
        " ".join([hexed(s)] + [str(t.id) for t in m.tokenize(s)]
                 + ["/"] + [str(t.id) for t in level.tokenize(s)]) for s in tests])


def charsmap(sp_normalize, blob):
    pre = normalizers.Precompiled(blob)
    lines = []
    for _ in range(1500):
        s = random_string().replace("\0", "")
        if s:
            lines.append(f"{hexed(s)} {hexed(pre.normalize_str(s))} {hexed(sp_normalize(s))}")
    write("charsmap.out", lines)
    lines = []
    for start in range(0, 0x110000, 4096):
        block = [c for c in range(start, start + 4096) if is_scalar(c) and c]
        one = fnv(pre.normalize_str(f"a{chr(c)}b") for c in block)
        two = fnv(pre.normalize_str(f"½{chr(c)}\u0301") for c in block)
        lines.append(f"{one:016x} {two:016x}")
    write("charsmap.sums", lines)


def charsmap_of(model):
    """The bytes field behind the normalizer's name."""
    mark = b"\x0a\x08nmt_nfkc\x12"
    at = model.index(mark) + len(mark)
    size = shift = 0
    while True:
        size |= (model[at] & 0x7F) << shift
        shift += 7
        at += 1
        if model[at - 1] < 0x80:
            return model[at : at + size]


def bert():
    def b(**k):
        o = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
        o.update(k)
        return normalizers.BertNormalizer(**o)

    kinds = [
        ("lowercase", normalizers.Lowercase()),
        ("strip-accents", normalizers.StripAccents()),
        ("nmt", normalizers.Nmt()),
        ("bert-clean", b(clean_text=True)),
        ("bert-chinese", b(handle_chinese_chars=True)),
        ("bert-strip", b(strip_accents=True)),
        ("bert-lower", b(lowercase=True)),
        ("bert", normalizers.BertNormalizer()),
    ]
    lines = []
    for name, n in kinds:
        for start in range(0, 0x110000, 4096):
            block = (c for c in range(start, start + 4096) if is_scalar(c))
            lines.append(f"{name} {start:x} {fnv(n.normalize_str(f'a{chr(c)}b') for c in block):016x}")
    write("normalize.sums", lines)
    lines = []
    for i in range(1600):
        name, n = kinds[i % len(kinds)]
        s = random_string()
        lines.append(f"{name} {hexed(s)} {hexed(n.normalize_str(s))}")
    write("normalize.out", lines)


def chains():
    d = decoders
    kinds = [
        ("byte-level", d.ByteLevel()),
        ("wordpiece", d.WordPiece("##", True)),
        ("wordpiece-raw", d.WordPiece("##", False)),
        ("metaspace", d.Metaspace()),
        ("metaspace-never", d.Metaspace(prepend_scheme="never")),
        ("bpe", d.BPEDecoder("</w>")),
        ("ctc", d.CTC("<pad>", "|", True)),
        ("ctc-raw", d.CTC("<pad>", "|", False)),
        ("fallback", d.ByteFallback()),
        ("llama", d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])),
        ("gemma", d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse()])),
        ("strip", d.Sequence([d.Fuse(), d.Strip("a", 2, 3)])),
        ("strip-tokens", d.Strip("a", 1, 1)),
        ("replace-fused", d.Sequence([d.Fuse(), d.Replace("aba", "éx"), d.Replace("é", "")])),
        ("fused-wordpiece", d.Sequence([d.Fuse(), d.WordPiece("##", True)])),
        ("byte-level-then", d.Sequence([d.ByteLevel(), d.Replace("�", "?"), d.Strip("a", 1, 0)])),
        ("fallback-wordpiece", d.Sequence([d.ByteFallback(), d.WordPiece("##", False)])),
        ("ctc-bpe", d.Sequence([d.CTC("<pad>", "|", False), d.BPEDecoder("</w>")])),
    ]
    tokens = (["a", "b", "aa", "aba", "ab", "##ing", "##", "é", "日本", "▁", "▁the", "▁▁", "x▁y", "."]
              + ["n't", "'s", "don", "do", "not", "'", ",", "!", "</w>", "low</w>", "a</w>b</w>", "<pad>"]
              + ["|", "a|b", "Ġhello", "Ċ", "Ã", "©", "ð", "Ł", "ĺ", "Ģ", "Ã©", "\u20ac", "x y", " do not x"]
              + ["<0xE6>", "<0x97>", "<0xA5>", "<0x41>", "<0xff>", "<0xC3>", "<0xA9>", "<0x+5>", "<0xG1>"]
              + ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0x", "<0x411>", "I 'm", " ' ", "xaaa", "aaax"])
    lines = []
    for i in range(1800):
        name, chain = kinds[i % len(kinds)]
        pool = RNG.sample(tokens, RNG.randrange(2, 14)) if RNG.random() < 0.8 else tokens
        ids = [RNG.choice(pool) for _ in range(RNG.randrange(1, 16))]
        try:
            out = chain.decode(ids)
        except BaseException:  # the library panics where a strip takes more than there is
            continue
        lines.append(" ".join([name, hexed(out)] + [hexed(t) for t in ids]))
    write("chains.out", lines)


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        text = [line.strip() for line in f][:6000]
    text = [line for line in text if line]
    nmt = train(text + ["日本語の文字 株式会社 half ½ ﬁne"] * 3, "nmt-nfkc.model", vocab_size=420,
                model_type="unigram", normalization_rule_name="nmt_nfkc", character_coverage=0.999)
    spm_goldens(nmt, "nmt-nfkc.out")
    plain = train(text, "unigram.model", vocab_size=900, model_type="unigram", byte_fallback=True,
                  normalization_rule_name="identity", add_dummy_prefix=False,
                  remove_extra_whitespaces=False, user_defined_symbols=["<sep>", "th"],
                  control_symbols=["<ctl>"], pad_id=3)
    spm_goldens(plain, "unigram.out")
    bpe = train(text, "bpe.model", vocab_size=400, model_type="bpe", byte_fallback=True,
                normalization_rule_name="identity", treat_whitespace_as_suffix=True, bos_id=-1)
    spm_goldens(bpe, "bpe.out")
    unigram(text, plain)
    wordpiece(text)
    with open("nmt-nfkc.model", "rb") as f:
        blob = charsmap_of(f.read())
    n = spm.SentencePieceNormalizer(rule_name="nmt_nfkc", add_dummy_prefix=False,
                                    escape_whitespaces=False, remove_extra_whitespaces=False)
    charsmap(n.normalize, blob)
    bert()
    chains()


main()
