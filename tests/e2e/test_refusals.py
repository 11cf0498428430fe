# SPDX-License-Identifier: Apache-2.0
"""What people give where a model is wanted, and settings that cannot be: one sentence that says what to do, the same
from `serve`, `run` and `doctor`."""

import os
import re
import struct
import subprocess

import pytest
from conftest import BIN, MODEL, ROOT, SLOW, gguf_head, gguf_parse, gguf_string, with_template

VOCAB = ROOT / "tests/data/vocab"


def says(tmp_path, *args):
    """What the three say of it, which has to be the same sentence."""
    commands = {
        "serve": ("serve", "--host", "127.0.0.1", "--port", "0", "--data", tmp_path / "d"),
        "run": ("run", "-p", "Once", "-n", "1", "-q"),
        "doctor": ("doctor", "--data", tmp_path / "d"),
    }
    found = {}
    for name, command in commands.items():
        r = subprocess.run(
            [str(a) for a in (BIN, *command, *args)], cwd=ROOT, capture_output=True, text=True, timeout=30 * SLOW
        )
        assert r.returncode in (1, 2, 3), (name, r.returncode, r.stdout, r.stderr)
        lines = r.stdout.splitlines() if name == "doctor" else r.stderr.splitlines()
        mark = "FAIL" if name == "doctor" else "baton: "
        said = [line.removeprefix(mark).strip() for line in lines if line.startswith(mark)]
        assert len(said) == 1, (name, r.stdout, r.stderr)
        found[name] = said[0].split(": ", 1)[1] if name == "doctor" else said[0]
        assert "Sanitizer" not in r.stderr, r.stderr
    same = {re.sub(r"[\d.]+ [KMG]iB", "N", text) for text in found.values()}  # free memory moves
    assert len(same) == 1, found
    return found["serve"]


def file(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def model(path, **changed):
    """The bundled model with string or int keys changed, added or (None) left out, "." spelled "__"."""
    source = MODEL.read_bytes()
    keys, table, data = gguf_parse(source)
    wanted = {name.replace("__", "."): value for name, value in changed.items()}
    keys = [k for k in keys if k[0] not in wanted]
    for name, value in wanted.items():
        if isinstance(value, str):
            keys.append((name, 8, gguf_string(value)))
        elif value is not None:
            keys.append((name, 4, struct.pack("<I", value)))
    head = gguf_head(keys, struct.unpack_from("<Q", source, 8)[0]) + table
    return file(path, head + bytes(-len(head) % 32) + source[data:])


def split(folder, parts=3, name="small"):
    """The bundled model as llama.cpp's gguf-split leaves it: keys in the first part, tensors in all of them."""
    source = MODEL.read_bytes()
    keys, table, data = gguf_parse(source)
    tensors, at = [], 0
    while at < len(table):
        start = at
        at += 8 + struct.unpack_from("<Q", table, at)[0]
        at += 4 + 8 * struct.unpack_from("<I", table, at)[0] + 4
        offset = struct.unpack_from("<Q", table, at)[0]
        at += 8
        tensors.append((table[start : at - 8], offset))
    ends = sorted(o for _, o in tensors) + [len(source) - data]
    paths = []
    for i in range(parts):
        mine = tensors[i * len(tensors) // parts : (i + 1) * len(tensors) // parts]
        blob, rows = b"", b""
        for row, offset in mine:
            rows += row + struct.pack("<Q", len(blob))
            blob += source[data + offset : data + ends[ends.index(offset) + 1]]
            blob += bytes(-len(blob) % 32)
        here = [("split.no", 2, struct.pack("<H", i)), ("split.count", 2, struct.pack("<H", parts))]
        here += [("split.tensors.count", 5, struct.pack("<i", len(tensors)))]
        head = gguf_head((keys if i == 0 else []) + here, len(mine)) + rows
        paths.append(
            file(folder / f"{name}-{i + 1:05d}-of-{parts:05d}.gguf", head + bytes(-len(head) % 32) + blob)
        )
    return paths


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("page.gguf", "\n<!DOCTYPE html><html>Log in</html>", ("web page", "downloaded")),
        ("gone.gguf", "Entry not found", ('"Entry not found"', "downloaded", "again")),
        ("error.gguf", '{"error":"Repository not found"}', ("Repository not found", "again")),
        ("lfs.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", ("git lfs pull",)),
        ("model.zip", b"PK\x03\x04" + bytes(64), ("zip archive", "unpack")),
        ("pytorch_model.bin", b"PK\x03\x04" + bytes(64), ("PyTorch", "convert")),
        ("old.pt", b"\x80\x02}q" + bytes(64), ("pickle", "GGUF")),
        ("model.onnx", b"\x08\x07\x12\x07pytorch" + bytes(64), ("ONNX", "GGUF")),
        ("model.gguf.gz", b"\x1f\x8b\x08" + bytes(64), ("gzip", "unpack")),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), ("Keras", "GGUF")),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}" + bytes(64), ("no config.json beside", "get it")),
        ("weights", struct.pack("<Q", 2) + b"{}" + bytes(64), ("safetensors", "ending .safetensors", "config.json")),
        ("config.json", '{"architectures": ["LlamaForCausalLM"]}', ("no weights", ".safetensors files")),
        ("params.json", '{"dim": 4096}', ("JSON", "GGUF and safetensors")),
        ("old.gguf", b"GGUF" + struct.pack("<I", 1) + bytes(64), ("version 1", "convert")),
        ("sparc.gguf", b"GGUF" + struct.pack(">I", 3) + bytes(64), ("big-endian", "little-endian")),
        ("imatrix.dat", struct.pack("<I", 3) + bytes(64), ("importance matrix", "give the model")),
        ("noise.bin", bytes(range(1, 99)), ("not a GGUF file",)),
        ("empty.gguf", b"", ("is empty",)),
    ],
)
def test_files_that_are_no_model(tmp_path, name, data, words):
    said = says(tmp_path, "-m", file(tmp_path / name, data))
    assert name in said and all(w in said for w in words), said


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"general__type": "adapter"}, ("LoRA adapter", "give the model")),
        ({"general__type": "mmproj", "general__architecture": "clip"}, ("mmproj", "language model")),
        ({"general__architecture": "clip"}, ("mmproj", "language model")),
        ({"general__type": "imatrix", "general__architecture": None}, ("importance matrix", "give the model")),
        ({"general__architecture": "nomic-bert"}, ("embedding model", "docs/models.md")),
        ({"general__architecture": "t5encoder"}, ("embedding model", "docs/models.md")),
        ({"general__architecture": "mamba"}, ("'mamba' is not known", "docs/models.md")),
    ],
)
def test_gguf_files_of_another_kind(tmp_path, keys, words):
    said = says(tmp_path, "-m", model(tmp_path / "other.gguf", **keys))
    assert "other.gguf" in said and all(w in said for w in words), said


def test_a_vocabulary_alone(tmp_path):
    assert "baton tokenize" in says(tmp_path, "-m", VOCAB / "qwen2.gguf")
    assert "embedding model" in says(tmp_path, "-m", VOCAB / "bert-bge.gguf")


def test_a_cut_download_says_how_much_is_missing(tmp_path):
    whole = MODEL.read_bytes()
    for missing in (1, 4096, 1_000_000):
        said = says(tmp_path, "-m", file(tmp_path / "cut.gguf", whole[:-missing]))
        assert f"{missing} bytes are missing" in said and "incomplete" in said, said


def test_folders(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "a directory without a model" in says(tmp_path, "-m", empty)
    hf = tmp_path / "hf"
    hf.mkdir()
    file(hf / "model-00001-of-00002.safetensors", b"x")
    file(hf / "config.json", "{}")
    file(hf / "tokenizer.json", "{}")
    assert "config.json but no weights" in says(tmp_path, "-m", hf)
    file(hf / "b.gguf", b"x")
    file(hf / "a.Q4_K_M.gguf", b"x")
    said = says(tmp_path, "-m", hf)
    assert "2 GGUF models" in said and said.endswith("/a.Q4_K_M.gguf"), said
    file(hf / "model.safetensors", struct.pack("<Q", 2) + b"{}")
    assert "lacks 'model_type'" in says(tmp_path, "-m", hf)
    file(hf / "config.json", '{"model_type": "mixtral", "num_local_experts": 8}')
    assert "'mixtral' (a mixture of experts) is not supported" in says(tmp_path, "-m", hf)
    file(hf / "config.json", '{"model_type": "llama"}')
    assert "lacks the tensor 'model.layers.0.self_attn.q_proj.weight'" in says(tmp_path, "-m", hf)


def test_names_of_repositories(tmp_path):
    for flag, name in (("-hf", "some-org/Some-Model-GGUF:Q4_K_M"), ("--model", "org/name")):
        said = says(tmp_path, flag, name)
        assert "downloads nothing" in said and f"hf download {name.split(':')[0]} " in said, said
        assert "--model models/NAME.gguf" in said
    said = says(tmp_path, "-m", "https://example.org/m.gguf")
    assert "is an address" in said and "downloads nothing" in said
    assert "No such file" in says(tmp_path, "-m", "models/slip")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = file(tmp_path / "mine.gguf", MODEL.read_bytes())
    path.chmod(0)
    assert "Permission denied" in says(tmp_path, "-m", path)


def test_split_models(tmp_path):
    def run(path):
        return subprocess.run(
            [BIN, "run", "-m", path, "-p", "Once upon a time", "-n", "8", "--temp", "0", "-q"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30 * SLOW,
        )

    first, second, third = split(tmp_path)
    whole = run(MODEL)
    joined = run(first)
    assert joined.returncode == 0 and joined.stdout == whole.stdout, joined.stderr
    said = says(tmp_path, "-m", second)
    assert "part 2 of 3" in said and "small-00001-of-00003.gguf" in said and "one folder" in said, said
    strange = file(tmp_path / "renamed.gguf", first.read_bytes())
    said = says(tmp_path, "-m", strange)
    assert "part 1 of 3" in said and "-00001-of-00003.gguf" in said, said
    third.write_bytes(second.read_bytes())
    assert "small-00003-of-00003.gguf is not part 3 of 3" in says(tmp_path, "-m", first)
    third.unlink()
    said = says(tmp_path, "-m", first)
    assert "part 3 of 3 is missing" in said and "one folder" in said, said


# ---- the model is one, and yet cannot be served so


def test_settings_that_do_not_fit(tmp_path):
    said = says(tmp_path, "-m", MODEL, "--kv-tokens", 200_000_000)
    assert "are missing" in said
    said = says(tmp_path, "-m", MODEL, "--device", "cuda:77")
    assert "CUDA" in said or "cuda" in said
    assert "unknown device 'tpu'" in says(tmp_path, "-m", MODEL, "--device", "tpu")
    assert "--quant must be" in says(tmp_path, "-m", MODEL, "--quant", "int3")
    assert "--kv-type must be" in says(tmp_path, "-m", MODEL, "--kv-type", "q3")


def test_formats_without_a_kernel(tmp_path):
    """Rows of 64 numbers in Q8_1: known by name, and no kernel."""
    source = MODEL.read_bytes()
    keys, table, data = gguf_parse(source)
    name = struct.pack("<Q", len("blk.0.attn_output.weight")) + b"blk.0.attn_output.weight"
    at = table.index(name) + len(name) + 4 + 16
    table = table[:at] + struct.pack("<I", 9) + table[at + 4 :]
    head = gguf_head(keys, struct.unpack_from("<Q", source, 8)[0]) + table
    path = file(tmp_path / "q8_1.gguf", head + bytes(-len(head) % 32) + source[data:])
    said = says(tmp_path, "-m", path)
    assert "blk.0.attn_output.weight is Q8_1" in said and "use a file in" in said, said


def doctor(*args):
    return subprocess.run(
        [str(a) for a in (BIN, "doctor", *args)], cwd=ROOT, capture_output=True, text=True, timeout=30 * SLOW
    )


def test_doctor_takes_what_serve_takes(tmp_path):
    """Its settings, and its refusals of them."""
    r = doctor("-m", MODEL, "--port", 0, "--queue", 9, "--tiers", "2026", "--data", tmp_path / "d")
    assert r.returncode == 0 and "8 slots of up to 512 tokens" in r.stdout, r.stdout + r.stderr
    r = doctor("-m", MODEL, "--ctx", 64, "--slots", 2, "--kv-type", "int8", "--quant", "int8")
    assert r.returncode == 0 and "2 slots of up to 64 tokens, 128 in the KV cache" in r.stdout, r.stdout
    for args, why in (
        (("--tiers", file(tmp_path / "tiers", "{")), "tiers"),
        (("--api-keys", tmp_path / "none"), "none"),
        (("--default-tier", "royal"), "royal"),
        (("--data", file(tmp_path / "file", "x")), "file"),
        (("--chat-template", "{% if %}"), "Expected an expression"),
        (("--log-level", "loud"), "--log-level must be"),
    ):
        r = doctor("-m", MODEL, *args)
        failed = [line for line in r.stdout.splitlines() if line.startswith("FAIL")]
        assert r.returncode == 1 and len(failed) == 1 and why in failed[0], (args, r.stdout, r.stderr)
        serve = subprocess.run(
            [str(a) for a in (BIN, "serve", "--port", 0, "-m", MODEL, "--data", tmp_path / "d", *args)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30 * SLOW,
        )
        assert serve.returncode in (1, 2), args
        assert serve.stderr.splitlines()[-1].removeprefix("baton: ") in failed[0], (serve.stderr, failed)


@pytest.mark.parametrize(
    "template, mark, words",
    [
        (" ", "FAIL", "leaves out what the user says in a user's message"),
        ("{{ raise_exception('not today') }}", "FAIL", "refuses a user's message: not today"),
        ("{% for m in messages %}{{ m.content }}", "FAIL", "Unexpected end of template"),
        (
            "{% if messages|length > 2 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[-1].content }}",
            "warn",
            "refuses a conversation: one turn only",
        ),
    ],
)
def test_templates_that_cannot_be_used(tmp_path, template, mark, words):
    """The doctor says what a server says at its start."""
    path = with_template(tmp_path / "t.gguf", template)
    r = doctor("-m", path, "--data", tmp_path / "d")
    line = [x for x in r.stdout.splitlines() if "chat template: " in x]
    assert r.returncode == (mark == "FAIL") and len(line) == 1 and line[0].startswith(mark), r.stdout
    assert words in line[0], line
    why = line[0].split("chat template: ", 1)[1]
    p = subprocess.Popen(
        [str(a) for a in (BIN, "serve", "--port", 0, "-m", path, "--host", "127.0.0.1", "--data", tmp_path / "d")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        for text in p.stderr:
            said += text
            if "listening" in text:
                break
    finally:
        p.terminate()
        p.wait(20 * SLOW)
    assert f'error="{why}"' in said, said


# ---- the owner's secret


def serve_and_doctor(*args, env=None):
    """What both say of it, which has to be the same sentence."""
    found = []
    for command in (("serve", "--host", "127.0.0.1", "--port", "0"), ("doctor",)):
        r = subprocess.run(
            [str(a) for a in (BIN, *command, "-m", MODEL, *args)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30 * SLOW,
            env={**os.environ, **(env or {})},
        )
        mark = "FAIL  owner: " if command[0] == "doctor" else "baton: "
        said = [line for line in (r.stdout + r.stderr).splitlines() if line.startswith(mark)]
        assert len(said) == 1 and r.returncode == (1 if command[0] == "doctor" else 2), (command, r)
        found.append(said[0].removeprefix(mark))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    "text, mode, why",
    [
        ("abcde\n", 0o600, "has 5 characters and needs 16"),
        ("abc" + " " * 20 + "\n", 0o600, "has 3 characters"),  # the server cuts the blanks off what clients send
        ("x" * 127, 0o600, "longer than 126"),
        ("x" * 5000, 0o600, "longer than 126"),
        ("a-good-token-of-one-line\nand-another-line\n", 0o600, "not one word"),
        ("a token of several words\n", 0o600, "not one word"),
        ("\ufeffa-token-with-a-mark-before-it\n", 0o600, "not one word"),
        ("a-token-with\0-zero-bytes-in-it\n", 0o600, "not one word"),
        ("a-good-token-of-one-line\n", 0o644, "chmod 600"),
    ],
)
def test_owner_token_that_is_none(tmp_path, text, mode, why):
    data = tmp_path / "d"
    data.mkdir()
    for path, where in ((data / "owner-token", ()), (tmp_path / "t", ("--owner-token-file", tmp_path / "t"))):
        file(path, text).chmod(mode)
        said = serve_and_doctor("--data", data, *where)
        assert why in said and str(path) in said and "a-good" not in said, said
        path.unlink()
    if mode == 0o600 and "\0" not in text:
        assert why in serve_and_doctor("--data", data, env={"BATON_OWNER_TOKEN": text})


def test_owner_token_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none", file(tmp_path / "empty", ""), file(tmp_path / "blank", " \n\n")):
        assert "is missing or empty" in serve_and_doctor("--data", tmp_path / "d", "--owner-token-file", path)


def test_the_tier_file_of_the_docs(tmp_path):
    """What docs/api.md shows is taken, and the help names every key of it."""
    shown = re.search(r"^    (\{.*gpu_seconds.*\})$", (ROOT / "docs/api.md").read_text(), re.M)[1]
    r = doctor("-m", MODEL, "--data", tmp_path / "d", "--tiers", file(tmp_path / "t", shown), "--default-tier", "lab")
    assert r.returncode == 0, r.stdout
    told = subprocess.run([BIN, "serve", "--help"], capture_output=True, text=True, timeout=30).stdout
    for key in set(re.findall(r'"(\w+)":', shown)) - {"free", "lab"}:
        assert key in re.search(r"--tiers .*", told)[0], key


def test_keys_that_let_nobody_in(tmp_path, start):
    """Allowed, and said by both; the advice is one that works here."""
    empty = file(tmp_path / "keys", "# nobody yet\n")
    empty.chmod(0o600)
    for args, why in (
        (("--require-key",), "nobody but the owner gets in"),
        (("--api-keys", empty, "--require-key"), "nobody but the owner gets in"),
        (("--api-keys", empty), "holds no key"),
    ):
        r = doctor("-m", MODEL, "--data", tmp_path / "d", *args)
        said = [line for line in r.stdout.splitlines() if line.startswith("warn")]
        assert r.returncode == 0 and len(said) == 1 and why in said[0], (args, r.stdout)
        s = start("--api-keys", empty, *args)  # the last one counts
        assert s.log.count("accounts.doubt") == 1 and why in s.log, s.log
        r = s.complete(key="sk-wrong")
        assert r.status_code == 401 and ("send none" in r.text) == ("--require-key" not in args), r.text
        assert (s.complete(key=None).status_code == 401) == ("--require-key" in args)
        assert s.stop() == 0


def test_empty_model_is_none(tmp_path):
    assert "no model was given" in says(tmp_path, "-m", "")
    r = subprocess.run([BIN, "tokenize", "-m", ""], cwd=ROOT, capture_output=True, text=True, timeout=30 * SLOW)
    assert r.returncode == 2 and "no model was given" in r.stderr, r.stderr
