# SPDX-License-Identifier: Apache-2.0
"""`baton template`: the rendering to the byte, and the reason where a template refuses."""

import json
import subprocess

import pytest
from conftest import BIN, ROOT

DATA = ROOT / "tests/data/templates"


def template(tmp_path, source, context, *args, stdin=None):
    (tmp_path / "t.jinja").write_text(source, newline="")
    (tmp_path / "c.json").write_text(json.dumps(context))
    where = "-" if stdin is not None else tmp_path / "c.json"
    return subprocess.run(
        [BIN, "template", "--template", tmp_path / "t.jinja", "--context", where, *args],
        input=stdin.encode() if stdin is not None else b"",
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )


def test_prints_exactly(tmp_path):
    r = template(
        tmp_path,
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}",
        {"messages": [{"role": "user", "content": "  Zürich 😀\t"}]},
    )
    assert (r.returncode, r.stdout, r.stderr) == (0, "<user>  Zürich 😀\t\n".encode(), b"")


def test_reads_context_from_standard_input_without_rounding(tmp_path):
    r = template(
        tmp_path,
        "{{ a }} {{ b }} {{ c|tojson }}",
        {},
        stdin='{"a": 12345678901234567890123, "b": 1e22, "c": {"z": 1, "a": 0.1}}',
    )
    assert r.stdout == b'12345678901234567890123 1e+22 {"z": 1, "a": 0.1}'


def test_time_is_given(tmp_path):
    r = template(tmp_path, "{{ strftime_now('%d %b %Y %H:%M:%S') }}", {}, "--now", "2024-07-26T15:04:05")
    assert r.stdout == b"26 Jul 2024 15:04:05"
    r = template(tmp_path, "{{ strftime_now('%Y') }}", {}, "--now", "yesterday")
    assert r.returncode == 2 and b"--now must look like" in r.stderr


@pytest.mark.parametrize(
    "source, says",
    [
        ("a\n{{ raise_exception('roles must alternate') }}", "baton: roles must alternate\n"),
        ("a\n\n{{ x.y }}", "baton: line 3 of the chat template: 'x' is undefined\n"),
        (
            "{% if a %}",
            "baton: line 1 of the chat template: Unexpected end of template. Jinja was looking for",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels deep\n"),
    ],
)
def test_refusals_have_a_reason(tmp_path, source, says):
    r = template(tmp_path, source, {})
    assert r.returncode == 1 and r.stdout == b"" and says in r.stderr.decode()


def test_wrong_use(tmp_path):
    r = template(tmp_path, "x", [1])
    assert r.returncode == 1 and b"the context must be a JSON object" in r.stderr
    r = subprocess.run([BIN, "template"], capture_output=True, cwd=ROOT, timeout=60)
    assert r.returncode == 2 and b"--template FILE --context FILE" in r.stderr


def test_golden_rows(tmp_path):
    corpus = json.loads((DATA / "templates.json").read_text())
    sources = {t["id"]: t["template"] for t in corpus["templates"]}
    rows = [json.loads(line) for line in (DATA / "golden.jsonl").read_text().split("\n") if line]
    for row in rows[::60]:
        context = {"tools": None, **corpus["contexts"][row["ctx"]], "bos_token": "<s>", "eos_token": "</s>"}
        context["add_generation_prompt"] = row["agp"]
        r = template(tmp_path, sources[row["id"]], context, "--now", "2024-07-26T15:04:05")
        if "out" in row:
            assert r.stdout.decode() == row["out"], (row["id"], row["ctx"])
        else:
            assert r.returncode == 1, (row["id"], row["ctx"])


# ---- a folder as transformers saves it

NAMES = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token image_token".split()
SHOW = (
    "|".join("{{ %s }}" % name for name in NAMES)
    + "|{% for t in additional_special_tokens %}{{ t }},{% endfor %}|"
    + "{{ bos_token is defined }}{{ messages[0].content }}"
)


def folder(path, mark=""):
    pieces = ["<unk>", "<s>", "</s>", "<pad>", "<sep>", "<a>", "<b>", "hi", "<img>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    files = {
        "tokenizer.json": {
            "added_tokens": [{"id": i, "content": p, **plain} for p, i in vocab.items() if p != "hi"],
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
            "pad_token": "<pad>",
            "sep_token": "<sep>",
            "additional_special_tokens": ["<a>", {"__type": "AddedToken", "content": "<b>"}],
            "extra_special_tokens": {"image_token": "<img>"},
            "chat_template": [
                {"name": "default", "template": "config {{ messages[0].content }}"},
                {"name": "rag", "template": "{{ documents[0].title }} {{ messages[0].content }}"},
            ],
        },
        "special_tokens_map.json": {"unk_token": "<unk>", "additional_special_tokens": ["<img>"]},
        "config.json": {"bos_token_id": 1},
    }
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(mark + json.dumps(content))
    return path


def chat(path, context, fails=False, **more):
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    context.write_text(json.dumps(body))
    r = subprocess.run(
        [BIN, "template", "-m", path, "--context", context], capture_output=True, cwd=ROOT, timeout=60, text=True
    )
    assert r.returncode == int(fails), r.stderr
    return r.stderr if fails else r.stdout


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_templates_and_tokens_of_a_folder(tmp_path, mark):
    """As transformers 4.57 gives them to the template; files may begin with a byte order mark."""
    path, context = folder(tmp_path / "m", mark), tmp_path / "c.json"
    tools = [{"type": "function", "function": {"name": "weather"}}]
    assert chat(path, context) == "config hi"
    assert chat(path, context, documents=[{"title": "Doc", "text": "x"}]) == "Doc hi"
    (path / "chat_template.jinja").write_text(mark + SHOW)
    assert chat(path, context) == "|</s>|<unk>|<sep>|<pad>|||<img>|<a>,<b>,<img>,|Falsehi"
    extra = path / "additional_chat_templates"
    extra.mkdir()
    (extra / "tool_use.jinja").write_text("{{ tools[0].function.name }} {{ eos_token }} {{ messages[0].content }}")
    (extra / "notes.txt").write_text("no template")
    assert chat(path, context, tools=tools) == "weather </s> hi"
    assert chat(path, context).startswith("|</s>|")
    # files of their own stand for all that the configuration says
    assert "no place for documents" in chat(path, context, fails=True, documents=[{"title": "Doc", "text": "x"}])
