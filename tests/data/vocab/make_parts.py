#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the parts of large vocabularies that the rows here need, and the rows themselves in the parts' numbers.

A BPE merge only ever makes a piece of the text. So a vocabulary cut down to the tokens that occur in the tests' texts,
their merges, its bytes and control tokens, all in their old order, gives the same tokens for those texts; ids are
counted anew. Parts that random strings are tried on keep their first 6,000 tokens too.
usage: make_parts.py SHARED (a folder with ggml-vocab, golden and tokenizers; needs PyPI gguf, tokenizers)
"""

import importlib.util
import json
import pathlib
import sys
import unicodedata

from gguf import GGUFReader, GGUFValueType, GGUFWriter

HERE = pathlib.Path(__file__).parent
SHARED = pathlib.Path(sys.argv[1])
MARKER = "\n__ggml_vocab_test__\n"
KEPT_TYPES = {2, 3, 6}  # unknown, control, byte; the others only where a text has them

spec = importlib.util.spec_from_file_location("make", HERE.parent / "text-parity" / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def texts(name):
    return (HERE / name).read_bytes().decode().split(MARKER)[:-1]


def rows_of_transformers_js():
    """(model there, text, ids, decoded) of the goldens whose vocabulary is at hand."""
    golden = json.loads((SHARED / "golden/transformers.js/golden.json").read_text())
    at_hand = {
        "openai-community/gpt2": "gpt-2",
        "tiiuae/falcon-rw-1b": "gpt-2",
        "Xenova/llama3-tokenizer": "llama-bpe",
        "Xenova/distilbert-base-uncased-finetuned-sst-2-english": "bert-bge",
        "Xenova/gpt-4o": "gpt-4o",
    }
    for model, vocab in at_hand.items():
        for row in golden[model].values():
            if "\0" not in row["text"]:  # JSON's reader refuses it; fuzz.inp has one
                yield model, vocab, row


def kept(tokens, types, spell, first=0):
    """Old ids of the part, in order."""
    every = texts("texts.inp") + texts("fuzz.inp") + [row["text"] for _, _, row in rows_of_transformers_js()]
    every = "\0".join(map(spell, every))
    byte_level = 6 not in types
    return [
        i
        for i, (token, kind) in enumerate(zip(tokens, types))
        if i < first or kind in KEPT_TYPES or (byte_level and len(token) == 1) or (token and token in every)
    ]


def merges_of(part, merges):
    left_right = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]
    return [m for m in left_right if m[0] in part and m[1] in part and m[0] + m[1] in part]


def part_of_gguf(name, spell, first=0, template=False):
    """Returns the new ids by the old."""
    reader = GGUFReader(SHARED / f"ggml-vocab/ggml-vocab-{name}.gguf")
    get = {k: f.contents() for k, f in reader.fields.items() if k.startswith(("tokenizer.", "general.arch"))}
    tokens, types = get["tokenizer.ggml.tokens"], get["tokenizer.ggml.token_type"]
    ids = kept(tokens, types, spell, first)
    new = {old: i for i, old in enumerate(ids)}
    part = {tokens[i] for i in ids}
    out = GGUFWriter(HERE / f"{name}.gguf", get.pop("general.architecture"))
    for key, value in get.items():
        if key.endswith(".merges"):
            out.add_array(key, [" ".join(m) for m in merges_of(part, value)])
        elif key.endswith((".tokens", ".scores", ".token_type")):
            out.add_array(key, [value[i] for i in ids])
        elif key.endswith("_id"):
            out.add_uint32(key, new[value])
        elif template or not key.endswith("chat_template"):
            kind = {bool: GGUFValueType.BOOL, str: GGUFValueType.STRING}[type(value)]
            out.add_key_value(key, value, kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.close()
    rows = (SHARED / f"ggml-vocab/ggml-vocab-{name}.gguf.out").read_text().splitlines()
    rows = [[int(i) for i in row.split()] for row in rows]
    fuzz = [json.loads(x) for x in (SHARED / f"golden/tokenizer-fuzz/{name}.jsonl").read_text().splitlines()]
    line = lambda row: "".join(f" {new[i]}" for i in row) + "\n"
    (HERE / f"{name}.out").write_text("".join(map(line, rows)))
    # Where the two that made the rows differ llama.cpp is right (in Digits), but of Qwen2 the other (see README.md).
    hf = name == "qwen2"
    plain = lambda row: row["hfjs"] if hf and "hfjs" in row and "lcpp_special" not in row else row["lcpp"]
    (HERE / f"fuzz-{name}.out").write_text("".join(line(plain(row)) for row in fuzz))
    special = HERE / "fuzz-special.out"
    others = [x for x in special.read_text().splitlines(True) if not x.startswith(name + " ")]
    controls = lambda row: row["hfjs"] if hf and "hfjs" in row else row["lcpp_special"]
    mine = [f"{name} {row['i']}" + line(controls(row)) for row in fuzz if "lcpp_special" in row]
    special.write_text("".join(others + mine))
    return new


def part_of_ranks(name, path):
    """A tiktoken file becomes a tokenizer.json; returns the new ids by the old."""
    whole = json.loads(make.tokenizer_of_ranks(path).to_str())
    vocab = whole["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    spell = make.byte_characters()
    ids = kept(tokens, [1] * len(tokens), lambda text: "".join(spell[b] for b in text.encode()))
    part = {tokens[old]: i for i, old in enumerate(ids)}
    whole["model"]["vocab"] = part
    whole["model"]["merges"] = merges_of(part, whole["model"]["merges"])
    whole["added_tokens"] = []
    (HERE / f"{name}.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")
    return {vocab[tokens[old]]: i for i, old in enumerate(ids)}


level = make.byte_characters()
spelled = lambda text: "".join(level[b] for b in text.encode())
part_of_gguf("gemma-4", lambda text: text.replace(" ", "▁"))
part_of_gguf("starcoder", spelled)
part_of_gguf("deepseek-coder", spelled, 6000)
part_of_gguf("qwen2", lambda text: spelled(unicodedata.normalize("NFC", text)), 6000, template=True)
new = {"llama-bpe": part_of_gguf("llama-bpe", spelled, 6000)}
new |= {"gpt-4o": part_of_ranks("gpt-4o", SHARED / "tokenizers/tiktoken/o200k_base.tiktoken")}
with open(HERE / "transformers-js.jsonl", "w") as f:
    for model, vocab, row in rows_of_transformers_js():
        ids = [new[vocab][i] for i in row["ids"]] if vocab in new else row["ids"]
        row = {"model": model, "vocab": vocab, "text": row["text"], "ids": ids, "decoded": row["decoded"]}
        print(json.dumps(row, ensure_ascii=False), file=f)
