#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/model/configs.jsonl: published config.json files, and the numbers that transformers' AutoConfig
reads from them (transformers 5; no torch needed).

    scripts/make_config_golden.py [--all] FOLDER...     every config.json below these folders

A line is {"file": ..., "config": {...}, "want": {...}}; want is null where AutoConfig does not know the type. Lists and
members that say nothing of the recipe are cut. Without --all one file is kept of each type and rope scaling, if it is
short.
"""

import json
import os
import sys

from transformers import AutoConfig

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "tests", "data", "model", "configs.jsonl")
KEPT_LISTS = ("layer_types", "no_rope_layers")
EMPTIED = ("vision_config", "audio_config", "config_groups", "sound_config")
LEFT_OUT = (
    "id2label label2id auto_map quantized_layers quantization dtypes architectures transformers_version "
    "initializer_range use_cache attention_dropout _name_or_path torch_dtype dtype modules_to_not_convert "
    "ignore exclude_modules bos_token_id eos_token_id pad_token_id aux_loss_alpha router_aux_loss_coef "
    "seq_aux output_router_logits pretraining_tp vision_start_token_id vision_end_token_id image_token_id "
    "video_token_id ep_size activation_scheme fmt kv_cache_scheme"
).split()


def files(folders):
    for folder in folders:
        for at, _, names in sorted(os.walk(folder)):
            for name in sorted(names):
                if name.endswith("config.json") and not name.startswith(("tokenizer_", "generation_", "original_")):
                    if "hf_quant" not in name:
                        yield os.path.join(at, name)


def shorten(value, key=""):
    if isinstance(value, dict):
        if key in EMPTIED:
            return {}
        return {k: shorten(v, k) for k, v in value.items() if k not in LEFT_OUT}
    if isinstance(value, list) and (key not in KEPT_LISTS or len(set(map(str, value))) > 2):
        return [shorten(v) for v in value[:2]]
    return value


def kind(config):
    """Of equal ones one is kept."""
    text = config.get("text_config") or config
    rope = text.get("rope_scaling") or {}
    return text.get("model_type"), rope.get("rope_type", rope.get("type"))


def first(config, *names):
    return next((v for v in (getattr(config, n, None) for n in names) if v is not None), None)


def wanted(path):
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    text = config.get_text_config()
    heads = text.num_attention_heads
    want = {
        "layers": text.num_hidden_layers,
        "hidden": text.hidden_size,
        "heads": heads,
        "kv_heads": getattr(text, "num_key_value_heads", None) or heads,
        "head_dim": getattr(text, "head_dim", None) or text.hidden_size // heads,
        "ffn": first(text, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * text.hidden_size,
        "vocab": text.vocab_size,
        "ctx": text.max_position_embeddings,
        "eps": first(text, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
        "tied": any(getattr(c, "tie_word_embeddings", False) for c in (config, text)),
        "window": getattr(text, "sliding_window", None) or 0,
    }
    rope = dict(getattr(text, "rope_parameters", None) or {})
    want["local_theta"] = rope.get("sliding_attention", {}).get("rope_theta")
    rope = rope.get("full_attention", rope)
    for key in ("rope_type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor"):
        want[key] = rope.get(key)
    want["orig_ctx"] = rope.get("original_max_position_embeddings")
    types = getattr(text, "layer_types", None) or []
    want["windows"] = "".join("s" if t == "sliding_attention" else "f" for t in types)
    return {k: v for k, v in want.items() if v is not None}


def main():
    all_of_them = "--all" in sys.argv
    seen, lines = set(), []
    for path in files(a for a in sys.argv[1:] if a != "--all"):
        with open(path) as f:
            config = json.load(f)
        short = shorten(config)
        if not all_of_them and (kind(config) in seen or len(json.dumps(short)) > 1500):
            continue
        seen.add(kind(config))
        try:
            want = wanted(path)
        except Exception as why:  # a type of its own code, or a broken file
            print(f"{os.path.basename(path)}: {str(why).splitlines()[0][:100]}", file=sys.stderr)
            want = None
        name = os.path.basename(os.path.dirname(path)) if path.endswith("/config.json") else os.path.basename(path)
        lines.append(json.dumps({"file": name, "want": want, "config": short}, separators=(",", ":")))
    with open(OUT, "w") as f:
        f.write("\n".join(lines) + "\n")
    print(f"{len(lines)} configurations, {os.path.getsize(OUT)} bytes")


if __name__ == "__main__":
    main()
