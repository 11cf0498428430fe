#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files under tests/data/model/ and tests/data/gguf/ (see README.md there).

Needs torch, transformers, gguf and numpy; the C program and its tests need none of them.

    scripts/make_golden.py            writes the files
    scripts/make_golden.py --check    makes them again in memory and compares with what is there
"""

import argparse
import os
import struct
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(ROOT, "tests", "data", "model")
STORIES = os.path.join(ROOT, "models", "stories260K.gguf")
VOCAB = 128
N_PROMPT = 24
COMMON = dict(
    vocab_size=VOCAB,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    attn_implementation="eager",
)

MODELS = {
    # One key head a query head, linear rope scaling, head = embedding. Also in F16, Q8_0, Q4_0.
    "llama-tied": LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=96,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        rope_scaling=dict(rope_type="linear", factor=2.0),
        **COMMON,
    ),
    # Biases on q, k and v, half-split rope.
    "qwen2": Qwen2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        rope_theta=1000000.0,
        tie_word_embeddings=True,
        **COMMON,
    ),
}
# The smallest sound files, for tests that cut, flip and fuzz them.
TINY_DATA = os.path.join(ROOT, "tests", "data", "gguf")
TINY_VOCAB = 8
TINY = {
    "tiny-llama": LlamaConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=8,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        **{**COMMON, "vocab_size": TINY_VOCAB, "max_position_embeddings": 16},
    ),
    "tiny-qwen2": Qwen2Config(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=8,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        **{**COMMON, "vocab_size": TINY_VOCAB, "max_position_embeddings": 16},
    ),
}
QUANTS = {
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
}


def pieces():
    """128 pieces: three controls, the space, single characters, and merges of two and three."""
    out = ["<unk>", "<s>", "</s>", "\u2581"]
    out += [chr(c) for c in range(ord("a"), ord("z") + 1)]
    out += [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    out += list("0123456789.,!?'-\n")
    for second in "etaoinshrdlu":
        out.append("\u2581" + second)
    for pair in (
        "th he in er an re nd on en at ou ed ha to or it is hi es ng the and ing her "
        "was you \u2581the \u2581and \u2581to \u2581in \u2581was"
    ).split(" "):
        if pair not in out:
            out.append(pair)
    n = 0
    while len(out) < VOCAB:
        pair = "aeiou"[n % 5] + "lmnrstv"[n // 5]
        n += 1
        if pair not in out:
            out.append(pair)
    return out[:VOCAB]


def random_model(name, config):
    """Weights wide enough that logits tell a right forward pass from a wrong one."""
    torch.manual_seed(sum(name.encode()))
    model = (Qwen2ForCausalLM if config.model_type == "qwen2" else LlamaForCausalLM)(config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith("norm.weight"):
                p.copy_(1.0 + 0.3 * torch.randn_like(p))
            elif key.endswith(".bias"):
                p.copy_(0.5 * torch.randn_like(p))
            elif "embed_tokens" in key:
                p.copy_((0.35 if config.tie_word_embeddings else 1.0) * torch.randn_like(p))
            elif "lm_head" in key:
                p.copy_(0.35 * torch.randn_like(p))
            else:
                p.copy_(1.5 / p.shape[1] ** 0.5 * torch.randn_like(p))
    return model.eval()


def permute(w, heads, back=False):
    """Rows of q and k: halves of each head (transformers) to adjacent pairs (GGUF arch llama)."""
    shape = (heads, -1, 2) if back else (heads, 2, -1)
    return w.reshape(*shape, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def tensor_names(config):
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not config.tie_word_embeddings:
        names["lm_head.weight"] = "output.weight"
    per_layer = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for n in range(config.num_hidden_layers):
        for hf, ours in per_layer.items():
            names[f"model.layers.{n}.{hf}.weight"] = f"blk.{n}.{ours}.weight"
            qkv = config.model_type == "qwen2" and hf[-6:] in ("q_proj", "k_proj", "v_proj")
            if qkv:
                names[f"model.layers.{n}.{hf}.bias"] = f"blk.{n}.{ours}.bias"
    return names


def permute_heads(config, hf_name):
    if config.model_type != "llama":
        return 0
    if ".q_proj." in hf_name:
        return config.num_attention_heads
    return config.num_key_value_heads if ".k_proj." in hf_name else 0


def write_keys(w, config, name):
    w.add_name(name)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(config.rope_theta)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    w.add_rope_dimension_count(head_dim)
    if head_dim * config.num_attention_heads != config.hidden_size:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    w.add_vocab_size(config.vocab_size)
    if (config.rope_scaling or {}).get("rope_type") == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(config.rope_scaling["factor"])
    tokens = pieces()[: config.vocab_size]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([0.0, 0.0, 0.0] + [-float(i) for i in range(len(tokens) - 3)])
    w.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)


def write_gguf(path, model, name, quant=None):
    config = model.config
    w = gguf.GGUFWriter(path, config.model_type)
    write_keys(w, config, name)
    state = model.state_dict()
    for hf, ours in tensor_names(config).items():
        x = state[hf].numpy().astype(np.float32)
        heads = permute_heads(config, hf)
        x = np.ascontiguousarray(permute(x, heads) if heads else x)
        if quant is not None and x.ndim == 2:
            w.add_tensor(ours, gguf.quants.quantize(x, quant), raw_dtype=quant)
        else:
            w.add_tensor(ours, x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def model_from_gguf(path, config):
    """The model as transformers sees it, with the file's (dequantized) weights."""
    model = (Qwen2ForCausalLM if config.model_type == "qwen2" else LlamaForCausalLM)(config).eval()
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    state = model.state_dict()
    with torch.no_grad():
        for key in state:
            if key.endswith(".bias"):
                state[key].zero_()
    for hf, ours in tensor_names(config).items():
        t = tensors[ours]
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        heads = permute_heads(config, hf)
        x = permute(x, heads, back=True) if heads else x
        state[hf].copy_(torch.from_numpy(np.array(x)).reshape(state[hf].shape))
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()


def pack(ids, logits):
    head = struct.pack("<2i", len(ids), logits.shape[1])
    return head + np.array(ids, "<i4").tobytes() + logits.astype("<f4").tobytes()


def prompt():
    rng = np.random.default_rng(7)
    return [1] + [int(x) for x in rng.integers(3, VOCAB, N_PROMPT - 1)]


def stories_golden():
    """The trained model of models/: its prompt and 60 greedy tokens, logits of all positions."""
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=172,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = model_from_gguf(STORIES, config)
    ids = [1, 403, 407, 261, 378]
    for _ in range(60):
        ids.append(int(logits_of(model, ids)[-1].argmax()))
    return pack(ids, logits_of(model, ids))


def make(folder, tiny_folder):
    """Writes everything; returns the paths."""
    made = []
    for name, config in TINY.items():
        made.append(os.path.join(tiny_folder, name + ".gguf"))
        write_gguf(made[-1], random_model(name, config), name)
    for name, config in MODELS.items():
        model = random_model(name, config)
        variants = [(name, None)]
        if name == "llama-tied":
            variants += [(f"{name}-{q}", t) for q, t in QUANTS.items()]
        for stem, quant in variants:
            path = os.path.join(folder, stem + ".gguf")
            write_gguf(path, model, stem, quant)
            logits = logits_of(model_from_gguf(path, config), prompt())
            if quant is None:
                assert np.abs(logits - logits_of(model, prompt())).max() < 1e-5
            with open(os.path.join(folder, stem + ".bin"), "wb") as f:
                f.write(pack(prompt(), logits))
            made += [path, f.name]
            print(f"{stem}: logits std {logits.std():.2f}, largest {np.abs(logits).max():.2f}")
    with open(os.path.join(folder, "stories260K.bin"), "wb") as f:
        f.write(stories_golden())
    return made + [f.name]


def same(a, b, name):
    if name.endswith(".gguf"):
        return a == b
    n, vocab = struct.unpack_from("<2i", a)
    at = 8 + 4 * n
    if a[:at] != b[:at] or len(a) != len(b):
        return False
    return np.abs(np.frombuffer(a[at:], "<f4") - np.frombuffer(b[at:], "<f4")).max() < 1e-3


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--check", action="store_true", help="compare with the committed files")
    args = args.parse_args()
    torch.set_num_threads(1)
    if not args.check:
        make(DATA, TINY_DATA)
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tiny_folder:
        for path in make(folder, tiny_folder):
            committed = TINY_DATA if path.startswith(tiny_folder) else DATA
            name = os.path.basename(path)
            with open(path, "rb") as a, open(os.path.join(committed, name), "rb") as b:
                if not same(a.read(), b.read(), name):
                    print(f"{name} differs from the committed file", file=sys.stderr)
                    wrong += 1
    print("all equal" if not wrong else f"{wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
