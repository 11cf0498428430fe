#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files under tests/data/arch/: a tiny model of random weights for each architecture, as GGUF, and
the logits that transformers computes for it in float32 (see README.md there).

Needs torch, transformers, gguf and numpy, and llama.cpp's convert_hf_to_gguf.py, which makes the GGUF files as users
have them. The C program and its tests need none of them.

    scripts/make_arch_golden.py LLAMA_CPP_FOLDER [NAME ...]
"""

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as tf

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data" / "arch"
VOCAB, N_PROMPT = 48, 24
BASE = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
)


def rope(theta=10000.0, **more):
    return dict(rope_parameters=dict(rope_theta=theta, **{"rope_type": "default", **more}))


NARROW = dict(BASE, num_attention_heads=2, num_key_value_heads=1)  # heads of 8
LLAMA = dict(BASE, head_dim=8, rms_norm_eps=1e-5)
FALCON = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    parallel_attn=True,
    bias=False,
    alibi=False,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
)
# Kept as save_pretrained writes them too.
FOLDERS = ("gpt2", "gpt_neox", "phi3")
# Keys of the models' own configurations that transformers has dropped and the converter reads.
OLD_KEYS = {"gpt_neox": {"rotary_pct": 0.5}, "cohere2": {"rotary_pct": 1.0}}


def cfg(cls, **values):
    """A configuration to be, so that one that this transformers cannot make stops no other."""
    return lambda: cls(**values)


# Name: model class, configuration.
MODELS = {
    "llama3": (
        tf.LlamaForCausalLM,
        cfg(
            tf.LlamaConfig,
            **LLAMA,
            **rope(
                rope_type="llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
        ),
    ),
    "llama-yarn": (
        tf.LlamaForCausalLM,
        cfg(tf.LlamaConfig, **LLAMA, **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)),
    ),
    "llama-bias": (
        tf.LlamaForCausalLM,
        cfg(tf.LlamaConfig, **{**BASE, "rms_norm_eps": 1e-5}, attention_bias=True, mlp_bias=True, **rope()),
    ),
    "mistral": (tf.MistralForCausalLM, cfg(tf.MistralConfig, **LLAMA, sliding_window=None, **rope())),
    "qwen3": (tf.Qwen3ForCausalLM, cfg(tf.Qwen3Config, **{**LLAMA, "tie_word_embeddings": True}, **rope(1e6))),
    "gemma": (
        tf.GemmaForCausalLM,
        cfg(tf.GemmaConfig, **{**LLAMA, "tie_word_embeddings": True}, hidden_act="gelu_pytorch_tanh", **rope()),
    ),
    "gemma2": (
        tf.Gemma2ForCausalLM,
        cfg(
            tf.Gemma2Config,
            **{**LLAMA, "tie_word_embeddings": True},
            query_pre_attn_scalar=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            sliding_window=8,
            **rope(),
        ),
    ),
    "gemma3": (
        tf.Gemma3ForCausalLM,
        cfg(
            tf.Gemma3TextConfig,
            **{**NARROW, "tie_word_embeddings": True, "num_hidden_layers": 7},
            head_dim=8,
            rms_norm_eps=1e-5,
            query_pre_attn_scalar=8,
            sliding_window=8,
            rope_parameters={
                "full_attention": dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                "sliding_attention": dict(rope_type="default", rope_theta=1e4),
            },
        ),
    ),
    "phi3": (tf.Phi3ForCausalLM, cfg(tf.Phi3Config, **BASE, rms_norm_eps=1e-5, sliding_window=8, **rope())),
    "phi3-longrope": (
        tf.Phi3ForCausalLM,
        cfg(
            tf.Phi3Config,
            **{**NARROW, "num_key_value_heads": 2},
            rms_norm_eps=1e-5,
            sliding_window=None,
            original_max_position_embeddings=16,
            rope_parameters=dict(
                rope_type="longrope",
                rope_theta=10000.0,
                short_factor=[1.0, 1.1, 1.2, 1.3],
                long_factor=[1.0, 1.5, 2.5, 4.0],
                original_max_position_embeddings=16,
                factor=4.0,
            ),
        ),
    ),
    "smollm3": (
        tf.SmolLM3ForCausalLM,
        cfg(
            tf.SmolLM3Config,
            **{**BASE, "num_hidden_layers": 4},
            rms_norm_eps=1e-5,
            use_sliding_window=False,
            **rope(5e6),
        ),
    ),
    "granite": (
        tf.GraniteForCausalLM,
        cfg(
            tf.GraniteConfig,
            **BASE,
            rms_norm_eps=1e-5,
            embedding_multiplier=3.0,
            attention_multiplier=0.3,
            residual_multiplier=0.4,
            logits_scaling=2.0,
            **rope(),
        ),
    ),
    "olmo2": (tf.Olmo2ForCausalLM, cfg(tf.Olmo2Config, **BASE, rms_norm_eps=1e-5, **rope())),
    "olmo3": (
        tf.Olmo3ForCausalLM,
        cfg(tf.Olmo3Config, **{**BASE, "num_hidden_layers": 4}, rms_norm_eps=1e-5, sliding_window=8, **rope()),
    ),
    "glm4": (
        tf.Glm4ForCausalLM,
        cfg(
            tf.Glm4Config,
            **LLAMA,
            attention_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5),
        ),
    ),
    "exaone4": (
        tf.Exaone4ForCausalLM,
        cfg(
            tf.Exaone4Config,
            **{**NARROW, "num_hidden_layers": 4},
            head_dim=8,
            sliding_window=8,
            sliding_window_pattern=4,
            **rope(1e6),
        ),
    ),
    "cohere": (
        tf.CohereForCausalLM,
        cfg(
            tf.CohereConfig,
            **{**BASE, "tie_word_embeddings": True},
            layer_norm_eps=1e-5,
            logit_scale=0.5,
            use_qk_norm=False,
            **rope(),
        ),
    ),
    "cohere2": (
        tf.Cohere2ForCausalLM,
        cfg(
            tf.Cohere2Config,
            **{**NARROW, "tie_word_embeddings": True, "num_hidden_layers": 4},
            head_dim=8,
            layer_norm_eps=1e-5,
            logit_scale=0.5,
            sliding_window=8,
            sliding_window_pattern=4,
            **rope(),
        ),
    ),
    "starcoder2": (
        tf.Starcoder2ForCausalLM,
        cfg(
            tf.Starcoder2Config,
            **{**BASE, "tie_word_embeddings": True},
            norm_epsilon=1e-5,
            hidden_act="gelu_pytorch_tanh",
            sliding_window=None,
            use_bias=True,
            **rope(),
        ),
    ),
    "stablelm": (
        tf.StableLmForCausalLM,
        cfg(
            tf.StableLmConfig,
            **NARROW,
            layer_norm_eps=1e-5,
            use_qkv_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.25),
        ),
    ),
    "gpt2": (
        tf.GPT2LMHeadModel,
        cfg(
            tf.GPT2Config,
            vocab_size=VOCAB,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=64,
            n_ctx=64,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    "gpt_neox": (
        tf.GPTNeoXForCausalLM,
        cfg(
            tf.GPTNeoXConfig,
            **NARROW,
            layer_norm_eps=1e-5,
            use_parallel_residual=True,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5),
        ),
    ),
    "phi2": (
        tf.PhiForCausalLM,
        cfg(
            tf.PhiConfig,
            **{**NARROW, "num_key_value_heads": 2, "intermediate_size": 64},
            layer_norm_eps=1e-5,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5),
        ),
    ),
    "falcon": (
        tf.FalconForCausalLM,
        cfg(tf.FalconConfig, **FALCON, multi_query=True, num_kv_heads=1, **rope()),
    ),
    "falcon-two-norms": (
        tf.FalconForCausalLM,
        cfg(tf.FalconConfig, **FALCON, new_decoder_architecture=True, num_kv_heads=2, **rope()),
    ),
    "nemotron": (
        tf.NemotronForCausalLM,
        cfg(
            tf.NemotronConfig,
            **NARROW,
            norm_eps=1e-5,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5),
        ),
    ),
    "hunyuan": (tf.HunYuanDenseV1ForCausalLM, cfg(tf.HunYuanDenseV1Config, **LLAMA, **rope())),
    "arcee": (tf.ArceeForCausalLM, cfg(tf.ArceeConfig, **LLAMA, **rope())),
    "olmo": (tf.OlmoForCausalLM, cfg(tf.OlmoConfig, **BASE, clip_qkv=1.5, **rope())),
    "bloom": (
        tf.BloomForCausalLM,
        cfg(
            tf.BloomConfig,
            vocab_size=VOCAB,
            hidden_size=24,
            n_layer=2,
            n_head=3,
            seq_length=64,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    "mpt": (
        tf.MptForCausalLM,
        cfg(
            tf.MptConfig,
            vocab_size=VOCAB,
            d_model=16,
            n_layers=2,
            n_heads=2,
            max_seq_len=64,
            attn_config=dict(alibi=True, clip_qkv=2.0),
            no_bias=True,
        ),
    ),
    "apertus": (tf.ApertusForCausalLM, cfg(tf.ApertusConfig, **LLAMA, **rope())),
    "ministral3": (
        tf.Ministral3ForCausalLM,
        cfg(
            tf.Ministral3Config,
            **LLAMA,
            sliding_window=None,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=1e6,
                factor=4.0,
                original_max_position_embeddings=16,
                beta_fast=32.0,
                beta_slow=1.0,
                mscale=1.0,
                mscale_all_dim=1.0,
                llama_4_scaling_beta=0.1,
            ),
        ),
    ),
    "seed_oss": (
        tf.SeedOssForCausalLM,
        cfg(tf.SeedOssConfig, **LLAMA, attention_bias=True, attention_out_bias=False, mlp_bias=False, **rope()),
    ),
    "ernie4_5": (tf.Ernie4_5ForCausalLM, cfg(tf.Ernie4_5Config, **LLAMA, use_bias=False, **rope())),
}


def random_model(name, cls, config):
    """Weights wide enough that logits tell a right forward pass from a wrong one, each an exact F16."""
    torch.manual_seed(sum(name.encode()))
    config._attn_implementation = "eager"
    model = cls(config).float().eval()
    one_plus = name.startswith(("gemma", "nemotron"))  # their norms multiply by 1 + weight
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith(".bias"):
                p.copy_(0.3 * torch.randn_like(p))
            elif p.dim() == 1:
                p.copy_((0.0 if one_plus else 1.0) + 0.3 * torch.randn_like(p))
            elif "embed" in key or "wte" in key or "wpe" in key or "word_embeddings" in key:
                p.copy_((0.35 if model.config.tie_word_embeddings else 1.0) * torch.randn_like(p))
            else:
                p.copy_(1.5 / p.shape[-1] ** 0.5 * torch.randn_like(p))
            p.copy_(p.half().float())
    return model


def convert(folder, out, llama_cpp):
    """As convert_hf_to_gguf.py does it, but for the vocabulary, which these models have none of."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import conversion as c
    import gguf

    hparams = c.ModelBase.load_hparams(Path(folder), False)
    hparams.update(OLD_KEYS.get(Path(out).stem, {}))
    kind = c.get_model_architecture(hparams, c.ModelType.TEXT).replace("Mpt", "MPT")
    base = c.get_model_class(kind)
    base = getattr(base, "Ministral3Model", base)
    cls = type(base.__name__, (base,), {"set_vocab": lambda self: None, "model_arch": base.model_arch})
    with torch.inference_mode():
        cls(Path(folder), gguf.LlamaFileType.MOSTLY_F16, Path(out), hparams=hparams).write()


def save(name, model):
    """The same model as a folder: those that fuse or turn their matrices."""
    model.half().save_pretrained(DATA / name)
    (DATA / name / "generation_config.json").unlink()


def make(name, llama_cpp):
    cls, config = MODELS[name][0], MODELS[name][1]()
    model = random_model(name, cls, config)
    ids = torch.randint(3, VOCAB, (1, N_PROMPT), generator=torch.Generator().manual_seed(len(name)))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0].float().numpy()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, safe_serialization=True)
        vocab = {"model": {"vocab": {str(i): i for i in range(VOCAB)}}, "added_tokens": []}
        (Path(folder) / "tokenizer.json").write_text(json.dumps(vocab))  # gemma3 counts it
        convert(folder, DATA / f"{name}.gguf", llama_cpp)
    if name in FOLDERS:
        save(name, model)
    with open(DATA / f"{name}.bin", "wb") as f:
        f.write(struct.pack("<2i", N_PROMPT, VOCAB))
        f.write(ids[0].numpy().astype("<i4").tobytes())
        f.write(logits.astype("<f4").tobytes())
    print(name, os.path.getsize(DATA / f"{name}.gguf"), float(np.std(logits)))


def main():
    llama_cpp, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    DATA.mkdir(exist_ok=True)
    failed = []
    for name in names:
        try:
            make(name, llama_cpp)
        except Exception as e:  # say all that fail
            failed.append(f"{name}: {type(e).__name__}: {e}")
    sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
