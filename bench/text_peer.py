#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Text speed beside the PyPI package `tokenizers`: both encode and decode the same documents, in turn, one thread,
in processor time.

    bench/text_peer.py BENCH_TEXT TEXT [--rounds N] [--only NAME]

BENCH_TEXT is the program of bench/text.c (`ninja -C build bench-text`), TEXT a text file of a few megabytes. The
tokenizers are those of tests/data/vocab, written as tokenizer.json for both programs (T5's kind: Llama-2's pieces with
scores by rank). Prints a Markdown table: medians over the rounds, ratios of neighbouring runs.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENT = 4096


def parity_maker():
    path = os.path.join(ROOT, "tests", "data", "text-parity", "make.py")
    spec = importlib.util.spec_from_file_location("parity_make", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unigram_of(make, path):
    """A T5-like tokenizer of Llama-2's pieces."""
    tokens = make.gguf_fields(path)("tokens")
    plain = [t for t in tokens if not t.startswith("<")]
    vocab = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocab += [[t, -math.log(i + 10.0) - 1.0] for i, t in enumerate(plain)]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": vocab[i][0], **special} for i in range(3)]
    model = {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False}
    pre = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    post = make.template("$A </s>", [("</s>", 1)])
    table = normalizers.Precompiled(make.sentencepiece_map())
    return make.file_of(model, added, table, pre, decoders.Metaspace(prepend_scheme="always"), post)


def documents(text):
    """As bench/text.c cuts them."""
    raw, at, out = text.encode(), 0, []
    while at < len(raw):
        end = len(raw) if len(raw) - at <= DOCUMENT else raw.find(b"\n", at + DOCUMENT) + 1 or len(raw)
        out.append(raw[at:end].decode())
        at = end
    return out


def library_pass(t, docs):
    start = time.process_time()
    encoded = [t.encode(d) for d in docs]
    middle = time.process_time()
    ids = [e.ids for e in encoded]
    before = time.process_time()
    for i in ids:
        t.decode(i)
    return middle - start, time.process_time() - before, sum(map(len, ids))


def measure(path, args, docs):
    t = Tokenizer.from_file(path)
    library_pass(t, docs[:50])
    rows = []
    for _ in range(args.rounds):
        done = subprocess.run([args.bench, path, args.text, "0.3"], capture_output=True, text=True, check=True)
        ours = json.loads(done.stdout)
        encode_s, decode_s, tokens = library_pass(t, docs)
        start = time.process_time()
        Tokenizer.from_file(path)
        load_s = time.process_time() - start
        assert tokens == ours["tokens"], f"{tokens} and {ours['tokens']} tokens: not the same work"
        ours.update(encode_x=encode_s / ours["encode_s"], decode_x=decode_s / ours["decode_s"])
        ours["load_x"] = load_s / ours["load_s"]
        rows.append(ours)
    return {key: statistics.median(r[key] for r in rows) for key in rows[0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only")
    args = parser.parse_args()
    make = parity_maker()
    with open(args.text, encoding="utf-8") as f:
        docs = documents(f.read())
    kinds = {"Llama-3": "llama-bpe", "Qwen2": "qwen2", "GPT-2": "gpt-2", "Llama-2": "llama-spm"}
    kinds.update({"T5 (Unigram)": "llama-spm", "BERT": "bert-bge"})
    print("| tokenizer | load s | load × | peak MiB | encode MB/s | encode × | decode M tokens/s | decode × |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, file in kinds.items():
            if args.only and args.only not in name:
                continue
            source = os.path.join(ROOT, "tests", "data", "vocab", file + ".gguf")
            t = unigram_of(make, source) if "Unigram" in name else make.tokenizer_of_gguf(source)
            path = os.path.join(folder, file + ".json")
            t.save(path)
            r = measure(path, args, docs)
            print(
                f"| {name} | {r['load_s']:.3f} | {r['load_x']:.1f} | {r['peak_mib']:.0f} "
                f"| {r['bytes'] / r['encode_s'] / 1e6:.1f} | {r['encode_x']:.1f} "
                f"| {r['tokens'] / r['decode_s'] / 1e6:.1f} | {r['decode_x']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
