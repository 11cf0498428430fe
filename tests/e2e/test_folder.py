# SPDX-License-Identifier: Apache-2.0
"""`-m FOLDER`: the bundled model as transformers saves it, through every command, with the GGUF file's answers."""

import json
import struct
import subprocess

import pytest
from conftest import BIN, MODEL, ROOT, SLOW, gguf_parse

HIDDEN, HEADS, KV_HEADS, LAYERS = 64, 8, 4, 5
CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 172,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tensors():
    """Name, dimensions (fastest first) and bytes of each tensor of the bundled file; all are F32."""
    source = MODEL.read_bytes()
    _, table, data = gguf_parse(source)
    at = 0
    while at < len(table):
        n = struct.unpack_from("<Q", table, at)[0]
        name = table[at + 8 : at + 8 + n].decode()
        at += 8 + n
        dims = struct.unpack_from(f"<{struct.unpack_from('<I', table, at)[0]}Q", table, at + 4)
        at += 4 + 8 * len(dims)
        kind, offset = struct.unpack_from("<IQ", table, at)
        at += 12
        size = 4
        for d in dims:
            size *= d
        assert kind == 0
        yield name, dims, source[data + offset : data + offset + size]


def halves(raw, heads):
    """Rows of q and k: adjacent pairs of each head to halves."""
    rows = [raw[i : i + 4 * HIDDEN] for i in range(0, len(raw), 4 * HIDDEN)]
    size = len(rows) // heads
    return b"".join(
        rows[h * size + 2 * i + odd] for h in range(heads) for odd in (0, 1) for i in range(size // 2)
    )


def safetensors(path, entries):
    header, blob = {"__metadata__": {"format": "pt"}}, b""
    for name, shape, raw in entries:
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


def tokenizer():
    """tokenizer.json of the bundled vocabulary: merges are all cuts of a piece into two, the best score first."""
    keys = {k[0]: k for k in gguf_parse(MODEL.read_bytes())[0]}
    raw = keys["tokenizer.ggml.tokens"][2]
    pieces, at = [], 12
    while at < len(raw):
        n = struct.unpack_from("<Q", raw, at)[0]
        pieces.append(raw[at + 8 : at + 8 + n].decode())
        at += 8 + n
    score = dict(zip(pieces, struct.unpack_from(f"<{len(pieces)}f", keys["tokenizer.ggml.scores"][2], 12)))
    merges = [
        (-score[p], -len(p[:i]), [p[:i], p[i:]])
        for p in pieces[259:]
        for i in range(1, len(p))
        if p[:i] in score and p[i:] in score
    ]
    special = [{"id": i, "content": p, "special": True} for i, p in enumerate(pieces[:3])]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens": [{**t, **plain} for t in special],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {p: i for i, p in enumerate(pieces)},
            "merges": [m for _, _, m in sorted(merges, key=lambda m: m[:2])],
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """In two parts, with an index."""
    path = tmp_path_factory.mktemp("hub") / "tiny-stories"
    path.mkdir()
    parts, weight_map = ([], []), {}
    for name, dims, raw in tensors():
        words = name.split(".")
        layer, base = (words[1], words[2]) if words[0] == "blk" else (None, words[0])
        new = (f"model.layers.{layer}." if layer else "") + NAMES[base] + ".weight"
        if base in ("attn_q", "attn_k"):
            raw = halves(raw, HEADS if base == "attn_q" else KV_HEADS)
        part = 0 if layer and int(layer) < 3 else 1
        parts[part].append((new, list(reversed(dims)), raw))
        weight_map[new] = f"model-0000{part + 1}-of-00002.safetensors"
    for i, entries in enumerate(parts):
        safetensors(path / f"model-0000{i + 1}-of-00002.safetensors", entries)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    (path / "generation_config.json").write_text(json.dumps({"temperature": 0.0, "eos_token_id": [2, 1]}))
    return path


def run(*args):
    command = [str(a) for a in (BIN, *args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30 * SLOW)


def test_run_writes_what_the_gguf_file_writes(folder):
    ask = ("-p", "Once upon a time", "-n", "60", "--temp", "0", "-q")
    want = run("run", "-m", MODEL, *ask)
    assert want.returncode == 0 and "Lily" in want.stdout
    for path in (folder, f"{folder}/", folder / "model-00001-of-00002.safetensors", folder / "config.json"):
        got = run("run", "-m", path, *ask)
        assert (got.returncode, got.stdout) == (0, want.stdout), (path, got.stderr)
    greedy = run("run", "-m", folder, "-p", "Once upon a time", "-n", "60", "-q")  # its generation_config says so
    assert greedy.stdout == want.stdout


def test_doctor_and_bench(folder):
    r = run("doctor", "-m", folder, "--data", folder.parent / "d")
    assert r.returncode == 0, r.stdout
    assert "model: tiny-stories, llama, 5 layers of 64, context 512" in r.stdout and "512 tokens" in r.stdout
    r = run("bench", "model", "-m", folder, "--n-prompt", "8", "--n-gen", "4", "--repeat", "1", "-o", "json")
    assert r.returncode == 0 and json.loads(r.stdout)[0]["model_type"] == "tiny-stories"


def test_serve(folder, start):
    ask = {"prompt": "Once upon a time", "max_tokens": 30}
    with start(model=folder).client() as c:

        def text(**more):
            return c.post("/v1/completions", json={**ask, **more}).json()["choices"][0]["text"]

        assert c.get("/v1/models").json()["data"][0]["id"] == "tiny-stories"
        assert "Lily" in text() and text() == text()  # temperature 0 is the model's own default
        assert "Lily" not in text(temperature=1.5, seed=1)
        chat = {"model": "tiny-stories", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 5}
        assert c.post("/v1/chat/completions", json=chat).status_code == 200
    with start("--temp", "1.5", "--alias", "warm", model=folder).client() as c:
        assert c.get("/v1/models").json()["data"][0]["id"] == "warm"
        assert len({text() for _ in range(3)}) > 1, "the owner's word counts more than the model's"
