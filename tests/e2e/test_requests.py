# SPDX-License-Identifier: Apache-2.0
"""What a request may ask for: what cannot be done is a 400 that names the field, before the status line."""

import json

import pytest
from conftest import sse

VOCAB = 512  # of stories260K
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"prompt": "Once upon a time"}


def post(server, path, body, key="key-pro"):
    with server.client(key) as c:
        return c.post(path, json=body)


def refused(server, path, body, field):
    """The same 400 whether the answer would have been a stream or not."""
    for stream in (False, True):
        r = post(server, path, {**body, "stream": stream})
        assert r.status_code == 400, (body, r.text)
        error = r.json()["error"]
        assert error["type"] == "invalid_request_error" and error["param"] == field, (body, error)
        assert error["message"]
    return error["message"]


@pytest.mark.parametrize(
    "path, body, field",
    [
        ("/v1/completions", {**TEXT, "logit_bias": {str(VOCAB): 5}}, "logit_bias"),
        ("/v1/completions", {**TEXT, "logit_bias": {"7": 1, "2147483647": 5}}, "logit_bias"),
        ("/v1/chat/completions", {**CHAT, "logit_bias": {str(VOCAB): -100}}, "logit_bias"),
        ("/v1/completions", {"prompt": [1, VOCAB]}, "prompt"),
        ("/v1/completions", {"prompt": [[1, 2], [VOCAB, 1]]}, "prompt"),
        ("/v1/completions", {**TEXT, "n": 9}, "n"),
        ("/v1/chat/completions", {**CHAT, "n": 9}, "n"),
        ("/v1/completions", {**TEXT, "stop": ["x" * 300]}, "stop"),
        ("/v1/completions", {**TEXT, "temperature": -1}, "temperature"),
        ("/v1/completions", {"prompt": "Once " * 3000}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Once " * 3000}]}, "messages"),
    ],
)
def test_what_an_engine_would_refuse_is_a_400_that_names_the_field(server, path, body, field):
    refused(server, path, body, field)
    metrics = server.metrics()
    assert metrics['baton_requests_total{finish="device_fault"}'] == 0


def test_bias_of_every_id_is_taken(server):
    """The ids at both ends, and values at both ends."""
    body = {**TEXT, "max_tokens": 2, "logit_bias": {"0": -100, str(VOCAB - 1): 100}, "temperature": 0}
    r = post(server, "/v1/completions", {**body, "logprobs": 0})
    assert r.status_code == 200 and r.json()["usage"]["completion_tokens"] == 2
    assert server.metrics()['baton_requests_total{finish="device_fault"}'] == 0


@pytest.mark.parametrize("temperature", [0, 1e-45, 1e-38, 1e-5, 2])
def test_extremes_of_sampling_are_no_device_fault(server, temperature):
    """Values at the ends of their ranges, together."""
    ends = {
        "top_p": [0, 1e-30, 1],
        "min_p": [0, 1e-30, 1],
        "top_k": [0, 1, 10**9],
        "repeat_penalty": [0.01, 1, 100],
        "frequency_penalty": [-2, 0, 2],
        "presence_penalty": [-2, 2, 0],
        "logit_bias": [{}, {str(i): 100 for i in range(VOCAB)}, {str(i): -100 for i in range(VOCAB)}],
        "min_tokens": [0, 4, 0],
    }
    with server.client() as c:
        for i in range(27):
            body = {name: v[(i // 3 ** (k % 3) + k // 3) % 3] for k, (name, v) in enumerate(ends.items())}
            r = c.post("/v1/completions", json={**TEXT, "max_tokens": 4, "temperature": temperature, **body})
            assert r.status_code == 200, (body, r.text)
    assert server.metrics()['baton_requests_total{finish="device_fault"}'] == 0


def top_of(server, **body):
    """Likeliest tokens and their logprobs at each place of a greedy answer."""
    r = post(server, "/v1/completions", {**TEXT, "max_tokens": 12, "temperature": 0, "logprobs": 20, **body})
    assert r.status_code == 200, r.text
    logprobs = r.json()["choices"][0]["logprobs"]
    return logprobs["tokens"], logprobs["top_logprobs"]


def shifts(plain, other):
    """By how much each token's logit fell, from what the tokens that both list tell; the most common shift is 0."""
    moved = {t: other[t] - plain[t] for t in plain.keys() & other.keys()}
    still = max(moved.values(), key=lambda v: sum(abs(v - w) < 1e-3 for w in moved.values()))
    return {t: v - still for t, v in moved.items()}


def test_frequency_and_presence_count_what_was_generated(server):
    """Nothing of the prompt, everything of the answer; with penalties too small to change the answer."""
    tokens, plain = top_of(server)
    _, same = top_of(server, frequency_penalty=2, presence_penalty=-2, max_tokens=1)
    assert same[0] == plain[0]  # nothing is generated yet, and the prompt does not count
    for window in ({}, {"repeat_last_n": 1}):  # which is the repetition penalty's alone
        got, top = top_of(server, frequency_penalty=0.02, presence_penalty=0.03, **window)
        assert got == tokens
        for i in range(len(tokens)):
            for token, shift in shifts(plain[i], top[i]).items():
                n = tokens[:i].count(token)
                assert shift == pytest.approx(-(0.02 * n + 0.03 * (n > 0)), abs=1e-3), (i, token)


def test_repetition_counts_prompt_and_answer(server):
    """repeat_penalty in its window, repetition_penalty everywhere; repeat_last_n is where both change it."""
    prompt = "He was to play" + " the sun and a big dog" * 12  # over 64 tokens: the first are out of a window of 64
    ask = {"prompt": prompt, "max_tokens": 1}
    _, plain = top_of(server, **ask)

    def touched(**body):
        _, top = top_of(server, **ask, **body)
        return {t for t, v in shifts(plain[0], top[0]).items() if abs(v) > 1e-3}

    assert touched(repeat_penalty=1.01, repeat_last_n=0) == set()
    window, everywhere = touched(repeat_penalty=1.01), touched(repetition_penalty=1.01)
    assert window and window < everywhere
    assert touched(repetition_penalty=1.01, repeat_last_n=64) == window
    assert touched(repeat_penalty=1.01, repeat_last_n=-1) == everywhere


def offsets_fit(choice):
    """Every token stands where its text_offset says, in the text that was returned."""
    text, logprobs = choice["text"], choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["text_offset"])
    for i, (token, at) in enumerate(zip(logprobs["tokens"], logprobs["text_offset"])):
        if token.startswith("bytes:"):
            raw = bytes.fromhex(token[6:].replace("\\x", ""))
            assert raw in text[at : at + 3].encode(), (i, token, at)
        else:
            shown = token if text.startswith(token, at) else token.removeprefix(" ")
            assert text.startswith(shown, at) or at + len(shown) > len(text), (i, token, at, text)
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])


def streamed(server, path, body):
    """A streamed completion's text and logprobs, put together."""
    whole = {"text": "", "logprobs": {"tokens": [], "text_offset": []}}
    with server.client() as c, c.stream("POST", path, json={**body, "stream": True}) as r:
        assert r.status_code == 200
        for _, data in sse(r):
            if not data or data == "[DONE]":
                continue
            for choice in json.loads(data)["choices"]:
                whole["text"] += choice["text"]
                for key in whole["logprobs"]:
                    whole["logprobs"][key] += (choice["logprobs"] or {}).get(key, [])
    return whole


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize(
    "prompt", ["Once upon a time", " Tom's café – 你好 🙂 said", "x  y\n\n z", [1, 403, 407, 261, 378], "é"]
)
def test_text_offsets_are_places_in_the_text(server, prompt, echo):
    """Also of the space that SentencePiece puts in front, of the bytes of a character, in streams, with stops."""
    byte = {str(3 + b): 100 for b in "你好é🙂".encode()}  # the answer, too, is spelled in bytes now and then
    for more in ({}, {"stop": ["little girl"]}, {"logit_bias": byte, "temperature": 2, "seed": 5}):
        body = {"prompt": prompt, "echo": echo, "logprobs": 0, "max_tokens": 24, "temperature": 0, **more}
        r = post(server, "/v1/completions", body)
        assert r.status_code == 200, r.text
        choice = r.json()["choices"][0]
        if "logit_bias" not in more:  # which bytes come is chance, and many are no characters
            offsets_fit(choice)
        assert choice["logprobs"]["text_offset"][0] == 0
        again = streamed(server, "/v1/completions", body)
        assert again["text"] == choice["text"]
        assert again["logprobs"]["text_offset"] == choice["logprobs"]["text_offset"]
        if not echo:
            continue
        bare = post(server, "/v1/completions", {**body, "echo": False}).json()["choices"][0]
        n = len(choice["text"]) - len(bare["text"])
        prompt_tokens = r.json()["usage"]["prompt_tokens"]
        assert choice["logprobs"]["text_offset"][prompt_tokens] == n  # the answer begins where the prompt ends


def test_control_tokens_of_a_prompt_stand_where_they_are_spelled(server):
    """With parse_special by their names, and what follows them behind these; else they are text like any other."""
    body = {"prompt": "a</s>hi<s>x", "parse_special": True, "echo": True}
    body |= {"logprobs": 1, "max_tokens": 2, "temperature": 0}
    choice = post(server, "/v1/completions", body).json()["choices"][0]
    assert choice["logprobs"]["tokens"][:8] == ["", " a", "</s>", " h", "i", "<s>", " ", "x"]
    assert choice["logprobs"]["text_offset"][:8] == [0, 0, 1, 5, 6, 7, 10, 10]
    again = streamed(server, "/v1/completions", body)
    assert again["logprobs"]["text_offset"] == choice["logprobs"]["text_offset"]
    for prompt in ("a</s>hi<s>x", "</s></s>é</s> x </s>", "<s>hi</s>"):
        for special in (True, False):
            r = post(server, "/v1/completions", {**body, "prompt": prompt, "parse_special": special})
            offsets_fit(r.json()["choices"][0])
            shown = "".join(r.json()["choices"][0]["logprobs"]["tokens"])
            assert shown.count("</s>") == prompt.count("</s>"), shown


UNSUPPORTED = {
    "functions": [{"name": "f", "parameters": {}}],
    "function_call": {"name": "f"},
    "tool_choice": "required",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "grammar": 'root ::= "a"',
    "json_schema": {"type": "object"},
    "guided_json": {"type": "object"},
    "guided_regex": "a+",
    "guided_choice": ["a", "b"],
    "guided_grammar": 'root ::= "a"',
    "response_format": {"type": "json_object"},
    "suffix": "x",
    "n_probs": 3,
    "stop_token_ids": [2],
}
HARMLESS = {  # says what is done anyway, or is ignored on purpose
    "functions": [],
    "function_call": "auto",
    "tool_choice": "auto",
    "modalities": ["text"],
    "audio": None,
    "grammar": "",
    "guided_json": None,
    "guided_decoding_backend": "xgrammar",
    "guided_whitespace_pattern": "[ ]?",
    "response_format": {"type": "text"},
    "suffix": "",
    "n_probs": 0,
    "user": "u",
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "parallel_tool_calls": True,
    "prediction": None,
}


@pytest.mark.parametrize("path, body", [("/v1/completions", TEXT), ("/v1/chat/completions", CHAT)])
def test_what_is_not_done_is_refused_by_name(server, path, body):
    for field, value in UNSUPPORTED.items():
        assert field in refused(server, path, {**body, field: value}, field) or field == "response_format"
    named = {"type": "function", "function": {"name": "f"}}
    refused(server, path, {**body, "tool_choice": named}, "tool_choice")
    r = post(server, path, {**body, "max_tokens": 1, **HARMLESS})
    assert r.status_code == 200, r.text


CALL = {"function": {"name": "f", "arguments": "not json"}}


@pytest.mark.parametrize(
    "more, field",
    [
        ({"documents": [{"title": "t", "text": "the sky is green"}]}, "documents"),
        ({"messages": [*CHAT["messages"], {"role": "assistant", "tool_calls": [CALL]}]}, "messages[1].tool_calls"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": [{"role": "foo", "content": "x"}]}, "messages[0].role"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    ],
)
def test_what_a_chat_format_has_no_place_for_is_refused_by_name(server, more, field):
    """The plain format here; nothing of a conversation is dropped in silence."""
    assert refused(server, "/v1/chat/completions", {**CHAT, **more}, field)
    r = post(server, "/apply-template", {**CHAT, **more})
    assert r.status_code == 400 and r.json()["error"]["param"] == field, r.text


def test_nothing_of_them_is_fine(server):
    body = {**CHAT, "documents": [], "tools": [], "max_tokens": 1}
    body["messages"] = [*CHAT["messages"], {"role": "assistant", "content": "x", "tool_calls": []}]
    assert post(server, "/v1/chat/completions", body).status_code == 200


@pytest.mark.parametrize("prompt, which", [(["a", "b", 7], 2), (["a", None], 1), ([[]], 0)])
def test_a_wrong_prompt_of_several_is_named(server, prompt, which):
    assert f"'prompt[{which}]'" in refused(server, "/v1/completions", {"prompt": prompt}, "prompt")


def test_ids_outside_the_vocabulary_are_no_tokens(server):
    for path, field in (("/tokenize", "content"), ("/detokenize", "tokens")):
        for wrong in (VOCAB, 2147483647, -1, 0.5):
            r = post(server, path, {field: [1, wrong]})
            assert r.status_code == 400 and r.json()["error"]["param"] == field, (path, wrong, r.text)
        assert post(server, path, {field: [0, VOCAB - 1]}).status_code == 200
