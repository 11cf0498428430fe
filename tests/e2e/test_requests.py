# SPDX-License-Identifier: Apache-2.0
"""What a request may ask for: what cannot be done is a 400 that names the field, before the status line."""

import pytest

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
        assert r.status_code == 400 and r.headers["content-type"].startswith("application/json"), (body, r.text)
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
