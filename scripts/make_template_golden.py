# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/templates/{units,conversations}.jsonl with transformers' own template environment.

    pip install transformers jinja2
    python scripts/make_template_golden.py

units.jsonl: the small templates of unit_sources.jsonl and unit.json (whose own outputs are another engine's),
with what Python prints or raises. conversations.jsonl: four
conversations for each template of templates.json. strftime_now shows 2024-07-26 15:04:05.
"""

import datetime
import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

DATA = pathlib.Path(__file__).resolve().parents[1] / "tests/data/templates"
NOW = datetime.datetime(2024, 7, 26, 15, 4, 5)
KEEP = 700  # bytes of head and of tail kept of a long output

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": 'A city, e.g. "Zürich"'},
        "days": {"type": "integer", "minimum": 1, "default": 3},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "where": {
            "type": "object",
            "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
        },
    },
    "required": ["city", "days"],
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "forecast", "description": "Weather for a city.", "parameters": CITY},
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def call(id_, name, arguments):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "tools": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the weather in Zürich & Genève?"},
            {
                "role": "assistant",
                "content": "I look it up.",
                "tool_calls": [
                    call(
                        "abc123def",
                        "forecast",
                        {"city": "Zürich", "days": 2, "where": {"lat": 47.37, "tags": ["a", "b\n"]}},
                    ),
                    call("xyz987uvw", "now", {}),
                ],
            },
            {
                "role": "tool",
                "name": "forecast",
                "tool_call_id": "abc123def",
                "content": '{"sky": "clear", "t": -0.5}',
            },
            {"role": "tool", "name": "now", "tool_call_id": "xyz987uvw", "content": "15:04"},
            {"role": "assistant", "content": "Clear, -0.5 °C."},
            {"role": "user", "content": "Thanks! 😀"},
        ],
        "tools": TOOLS,
        "add_generation_prompt": True,
    },
    "parts": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "You see images."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "First, "},
                    {"type": "image"},
                    {"type": "text", "text": "then <|im_end|>."},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": " Two parts. "}]},
            {"role": "user", "content": [{"type": "text", "text": "And 'quotes' \"too\"?\n"}]},
        ],
        "tools": None,
        "add_generation_prompt": False,
    },
    "thinking": {
        "messages": [
            {"role": "user", "content": "  17 * 23?\n"},
            {
                "role": "assistant",
                "content": "<think>\n17*20+17*3\n</think>\n\n391",
                "reasoning_content": "17*20+17*3",
                "thinking": "17*20+17*3",
            },
            {"role": "user", "content": "Sure? <|endoftext|></s>"},
        ],
        "add_generation_prompt": True,
        "enable_thinking": True,
        "reasoning_effort": "high",
        "documents": [{"title": "Tables", "text": "17 x 23 = 391", "doc_id": 1}],
    },
    "nulls": {
        "messages": [
            {"role": "user", "content": "The time?"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Check.\n",
                "tool_calls": [call("call00001", "now", {"zone": None, "n": 1e22})],
            },
            {
                "role": "tool",
                "name": "now",
                "tool_call_id": "call00001",
                "content": [{"type": "text", "text": "noon"}],
            },
        ],
        "tools": TOOLS[1:],
        "add_generation_prompt": True,
    },
}


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def render(source, context):
    """The output, or the error as (kind, message)."""
    try:
        compiled = _compile_jinja_template(source)
        compiled.environment.globals["strftime_now"] = lambda f: NOW.strftime(f)
        compiled.globals["strftime_now"] = compiled.environment.globals["strftime_now"]
        text = compiled.render(**context)
        text.encode()
        return text, None
    except Exception as e:
        return None, [type(e).__name__, str(e)]


def write(name, rows):
    with open(DATA / name, "w") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(name, len(rows), "rows,", sum("err" in r for r in rows), "errors")


def units():
    rows = []
    stored = json.loads((DATA / "unit.json").read_text())
    # str.replace takes count by name from Python 3.13 on only
    pairs = [(u["template"], u["context"]) for u in stored if not u["fn"] and "count=1" not in u["template"]]
    own = (DATA / "unit_sources.jsonl").read_text().splitlines()
    pairs += [(u["template"], u["context"]) for u in map(json.loads, own)]
    for template, context in pairs:
        out, err = render(template, context)
        rows.append(
            {"template": template, "context": json.dumps(context), **({"err": err} if err else {"out": out})}
        )
    return rows


def conversations():
    rows = []
    for t in json.loads((DATA / "templates.json").read_text())["templates"]:
        for name, context in CONVERSATIONS.items():
            out, err = render(t["template"], {**context, "bos_token": "<s>", "eos_token": "</s>"})
            row = {"id": t["id"], "ctx": name}
            if err:
                row["err"] = err
            else:
                data = out.encode()
                row |= {"len": len(data), "fnv": fnv(data)}
                if len(data) <= 2 * KEEP:
                    row["out"] = out
                else:
                    row["head"] = data[:KEEP].decode(errors="ignore")
                    row["tail"] = data[-KEEP:].decode(errors="ignore")
            rows.append(row)
    return rows


if __name__ == "__main__":
    (DATA / "conversations.json").write_text(json.dumps(CONVERSATIONS, ensure_ascii=False, indent=1) + "\n")
    write("units.jsonl", units())
    write("conversations.jsonl", conversations())
