# SPDX-License-Identifier: Apache-2.0
"""The unmodified `openai` client against a real server: sync, async, streaming."""

import asyncio
import concurrent.futures
import json
import math

import openai
import pytest

from conftest import SLOW, sse

STORY = ", there was a little girl named Lily. She loved to play outside in the park."


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="key-pro", timeout=60 * SLOW, max_retries=0) as c:
        yield c


def test_models(client):
    models = client.models.list().data
    assert [m.id for m in models] == ["stories260K"]
    assert client.models.retrieve("stories260K").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_greedy_text(client):
    r = client.completions.create(
        model="stories260K", prompt="Once upon a time", max_tokens=40, temperature=0
    )
    assert r.choices[0].text.startswith(STORY)
    assert r.usage.prompt_tokens == 5 and r.usage.completion_tokens == 40 and r.usage.total_tokens == 45
    assert r.choices[0].finish_reason == "length"
    books = r.model_extra["baton"]
    assert books["account"] == "alice" or books["account"].endswith("alice")
    assert books["tier"] == "pro" and books["finish_detail"] == "length"
    assert books["device_us"] > 0 and books["charged_us"] == books["device_us"]
    assert books["remaining_us"] <= 1500e6 - books["charged_us"] and books["resets_at"]
    timings = r.model_extra["timings"]
    assert timings["predicted_n"] == 40 and timings["predicted_per_second"] > 0


def test_stream_equals_whole(client):
    whole = client.completions.create(model="stories260K", prompt="Tom had a", max_tokens=50, temperature=0)
    stream = client.completions.create(
        model="stories260K",
        prompt="Tom had a",
        max_tokens=50,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert len(chunks) > 10
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 50
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens >= 0


def test_chat_and_stream(client):
    ask = dict(
        model="stories260K",
        messages=[
            {"role": "system", "content": "Tell a story."},
            {"role": "user", "content": [{"type": "text", "text": "About a dog"}]},
        ],
        max_tokens=24,
        temperature=0,
    )
    r = client.chat.completions.create(**ask)
    assert r.object == "chat.completion" and r.choices[0].message.role == "assistant"
    assert r.choices[0].message.content
    chunks = list(client.chat.completions.create(**ask, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == r.choices[0].message.content
    )
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        r.choices[0].finish_reason
    ]


def test_async_crowd_is_bit_identical(server):
    """Greedy text is the same alone and in a crowd of mixed requests."""

    async def crowd():
        async with openai.AsyncOpenAI(
            base_url=server.url + "/v1", api_key="key-pro", timeout=60 * SLOW, max_retries=0
        ) as c:

            async def one(i):
                if i % 3 == 0:
                    r = await c.completions.create(
                        model="stories260K", prompt="Once upon a time", max_tokens=60, temperature=0
                    )
                    return r.choices[0].text
                await c.completions.create(
                    model="stories260K",
                    prompt="The cat " * (1 + i),
                    max_tokens=10 + i,
                    temperature=0.9,
                    seed=i,
                )

            return [t for t in await asyncio.gather(*(one(i) for i in range(24))) if t is not None]

    texts = asyncio.run(crowd())
    assert len(texts) == 8 and len(set(texts)) == 1 and texts[0].startswith(STORY)


def test_seed_and_n(client):
    def run(seed):
        r = client.completions.create(
            model="stories260K", prompt="One day", max_tokens=30, temperature=1, seed=seed, n=3
        )
        assert [c.index for c in r.choices] == [0, 1, 2]
        return [c.text for c in r.choices]

    first = run(7)
    assert len(set(first)) == 3
    assert run(7) == first and run(8) != first


def test_stop_string_across_tokens(client):
    r = client.completions.create(
        model="stories260K",
        prompt="Once upon a time",
        max_tokens=60,
        temperature=0,
        stop=["She loved to pl", "never said"],
    )
    assert r.choices[0].text == ", there was a little girl named Lily. "
    assert r.choices[0].finish_reason == "stop"


def test_logprobs(client):
    r = client.completions.create(
        model="stories260K", prompt="Once upon a time, there was a", max_tokens=1, temperature=0, logprobs=5
    )
    top = r.choices[0].logprobs.top_logprobs[0]
    expected = [0.61019, 0.07377, 0.06599, 0.03000, 0.02868]
    assert [math.exp(v) for v in sorted(top.values(), reverse=True)[:5]] == pytest.approx(expected, abs=2e-3)
    c = client.chat.completions.create(
        model="stories260K",
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=4,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    )
    content = c.choices[0].logprobs.content
    assert len(content) == 4 and all(len(t.top_logprobs) == 3 for t in content)
    assert all(t.logprob == pytest.approx(t.top_logprobs[0].logprob) for t in content)


def test_echo_with_logprobs(client):
    r = client.completions.create(
        model="stories260K", prompt="Once upon a time", max_tokens=1, temperature=0, echo=True, logprobs=1
    )
    lp = r.choices[0].logprobs
    assert r.choices[0].text.lstrip().startswith("Once upon a time,")
    assert lp.token_logprobs[0] is None and all(v <= 0 for v in lp.token_logprobs[1:])
    assert len(lp.tokens) == len(lp.token_logprobs) == 6


def test_prefix_reuse_changes_nothing(client):
    prompt = "Lily and Tom went to the park to play with a big red ball. " * 4
    runs = [
        client.completions.create(model="stories260K", prompt=prompt, max_tokens=20, temperature=0)
        for _ in range(2)
    ]
    assert runs[0].choices[0].text == runs[1].choices[0].text
    assert runs[1].usage.prompt_tokens_details.cached_tokens >= 16


def test_penalties_bias_and_lengths(client):
    base = dict(model="stories260K", prompt="Once upon a time", temperature=0)
    plain = client.completions.create(**base, max_tokens=60).choices[0].text
    bent = (
        client.completions.create(**base, max_tokens=60, frequency_penalty=1.5, presence_penalty=1.0)
        .choices[0]
        .text
    )
    assert bent != plain
    biased = client.completions.create(**base, max_tokens=3, logit_bias={"426": 100}).choices[0].text
    assert biased != plain[: len(biased)]
    many = client.completions.create(**base, max_tokens=300, extra_body={"ignore_eos": True})
    assert many.usage.completion_tokens == 300
    least = client.completions.create(**base, max_tokens=300, extra_body={"min_tokens": 250})
    assert least.usage.completion_tokens >= 250


def test_errors_have_openais_shape(client, server):
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="stories260K", prompt="x", temperature="hot")
    assert e.value.param == "temperature" or "temperature" in str(e.value)
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="stories260K", prompt="word " * 5000, max_tokens=5)
    assert "context" in str(e.value)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(
            base_url=server.url + "/v1", api_key="wrong", max_retries=0
        ).models.list() and openai.OpenAI(
            base_url=server.url + "/v1", api_key="wrong", max_retries=0
        ).completions.create(
            model="stories260K", prompt="x"
        )
    with pytest.raises(openai.NotFoundError) as e:
        client.completions.create(model="gpt-99", prompt="x")
    assert e.value.code == "model_not_found"


def test_sse_comments_and_final_books(server):
    with server.client() as c, c.stream(
        "POST",
        "/v1/completions",
        json={
            "prompt": "Once upon a time",
            "max_tokens": 12,
            "temperature": 0,
            "stream": True,
            "lease_seconds": 5,
        },
    ) as r:
        assert r.headers["content-type"].startswith("text/event-stream")
        assert r.headers["x-accel-buffering"] == "no" and "x-request-id" in r.headers
        assert float(r.headers["x-ratelimit-limit-gpu-ms"]) == 1500e3
        data = [d for _, d in sse(r) if d]
    assert data[-1] == "[DONE]"
    last = json.loads(data[-2])
    assert last["baton"]["lease_s"] == 5 and last["baton"]["queue_us"] >= 0 and last["baton"]["request_id"]


def strict_events(response, comments):
    """As OpenAI's Go client read them up to 3.42: every blank line is an event, and every event is JSON."""
    data = ""
    for line in response.iter_lines():
        name, _, value = line.partition(":")
        if line == "":
            if data == "[DONE]\n":
                return
            yield json.loads(data)
            data = ""
        elif name == "data":
            data += value.removeprefix(" ") + "\n"
        elif name == "":
            comments.add(value.split()[0])
    raise AssertionError("the stream ended without [DONE]")


def test_a_strict_reader_reads_streams_that_wait(start, slow_model):
    s = start("--slots", "1", model=slow_model)
    ask = {"max_tokens": 60, "temperature": 0, "stream": True, "ignore_eos": True}
    comments = set()

    def one(i):
        with s.client() as c, c.stream("POST", "/v1/completions", json={"prompt": f"{i} Lily", **ask}) as r:
            return list(strict_events(r, comments))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for chunks in pool.map(one, range(4)):
            assert chunks[-1]["baton"]["finish_detail"] == "length"
            assert chunks[-1]["usage"]["completion_tokens"] == 60
    assert comments >= {"queue", "prefill"}
