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
