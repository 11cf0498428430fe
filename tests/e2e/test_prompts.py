# SPDX-License-Identifier: Apache-2.0
"""Arrays of prompts: one place in the queue whatever their number, and never refused by themselves."""

import os
import signal
import threading
import time

import openai
import pytest

from conftest import SLOW, TIERS

KEYS = "key-pro alice pro\nkey-eve eve pro\n"
PROMPTS = ["Once upon a time", "Tom had a", "The cat", "One day", "Lily", "A dog"]


def prompts(n):
    return [PROMPTS[i % len(PROMPTS)] for i in range(n)]


def client(server, key=""):
    return openai.OpenAI(
        base_url=server.url + "/v1",
        api_key=key or "none",
        timeout=120 * SLOW,
        max_retries=0,
        default_headers={} if key else {"Authorization": ""},
    )


def ask(c, prompt, **body):
    body = {"model": "stories260K", "max_tokens": 6, "temperature": 0, **body}
    return c.completions.create(prompt=prompt, **body)


def texts_of(chunks, n):
    """Of a stream: the texts and finish reasons by choice, and its last chunk."""
    texts, finish, last = [""] * n, [None] * n, None
    for chunk in chunks:
        last = chunk
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            finish[choice.index] = choice.finish_reason or finish[choice.index]
    return texts, finish, last


@pytest.fixture(scope="module")
def alone(server):
    """What each prompt is answered by itself."""
    with client(server, "key-pro") as c:
        return {p: ask(c, p).choices[0].text for p in PROMPTS}


@pytest.mark.parametrize("key", ["", "key-pro"])
def test_any_number_on_an_idle_server(start, alone, key):
    """The tiers of the guide: an anonymous visitor has one slot and two places."""
    server = start(tiers={}, keys=KEYS)
    charged = asked = 0
    with client(server, key) as c:
        for n in (1, 3, 4, 20, 128):
            want = [alone[p] for p in prompts(n)]
            r = ask(c, prompts(n))
            assert [x.text for x in r.choices] == want
            assert [x.index for x in r.choices] == list(range(n))
            assert {x.finish_reason for x in r.choices} == {"length"}
            assert r.usage.completion_tokens == 6 * n
            books = r.model_extra["baton"]
            assert books["charged_us"] == books["device_us"] > 0 and books["tier"] == ("pro" if key else "anonymous")
            texts, finish, last = texts_of(ask(c, prompts(n), stream=True), n)
            assert texts == want and finish == ["length"] * n
            charged += books["charged_us"] + last.model_extra["baton"]["charged_us"]
            asked += 2 * n
        with pytest.raises(openai.BadRequestError) as e:
            ask(c, prompts(129))
        assert e.value.param == "prompt" and "1 to 128" in e.value.message
    server.wait_idle()
    server.stop()
    books = server.books().check()
    assert books.charged == charged
    assert [kind for kind, *_ in books.of.values()] == [books.POST] * asked


def test_n_echo_and_tokens(server, alone):
    with client(server, "key-pro") as c:
        r = ask(c, prompts(20), n=2, echo=True)
        assert [x.text for x in r.choices] == [p + alone[p] for p in prompts(20) for _ in range(2)]
        texts, finish, _ = texts_of(ask(c, prompts(5), n=2, echo=True, stream=True), 10)
        assert texts == [p + alone[p] for p in prompts(5) for _ in range(2)] and finish == ["length"] * 10
        r = ask(c, [[1, 403], [1, 403, 407]] * 10, echo=True, logprobs=1, max_tokens=0)
        assert len(r.choices) == 20 and all(x.logprobs for x in r.choices)
        assert len(ask(c, prompts(128), n=2, max_tokens=1).choices) == 256


def test_what_is_wrong_with_one_is_said_before_any_runs(start):
    server = start()
    with client(server, "key-pro") as c:
        for good, bad, words in (
            ("Once", "word " * 4000, "prompt 7 of 20: the prompt is longer than"),
            ([1, 403], [1, 99999], "token 99999"),
        ):
            for stream in (False, True):
                with pytest.raises(openai.BadRequestError) as e:
                    list(ask(c, [*[good] * 6, bad, *[good] * 13], stream=stream))
                assert e.value.param == "prompt" and words in e.value.message
        with pytest.raises(openai.BadRequestError) as e:
            ask(c, prompts(20), n=16)
        assert "prompt 1 of 20" in e.value.message or "'n'" in e.value.message
    server.wait_idle()
    server.stop()
    assert server.books().check().of == {}


@pytest.mark.parametrize("stream", [False, True])
def test_quota_that_runs_out_on_the_way(start, stream):
    """What was paid for is answered; the rest is empty, and says why. Afterwards a refusal costs nothing."""
    server = start()
    with client(server, "key-tiny") as c:
        r = ask(c, prompts(128), max_tokens=400, stream=stream, extra_body={"ignore_eos": True})
        if stream:
            texts, finish, last = texts_of(r, 128)
        else:
            texts, finish, last = [x.text for x in r.choices], [x.finish_reason for x in r.choices], r
        books = last.model_extra["baton"]
        assert finish == ["length"] * 128
        assert texts[0] and texts[127] == ""
        assert books["finish_detail"] == "quota_exhausted" and books["remaining_us"] == 0
        assert books["charged_us"] >= 50000
        with pytest.raises(openai.RateLimitError) as e:
            ask(c, prompts(3))
        assert e.value.response.headers["x-should-retry"] == "false"
    server.wait_idle()
    server.stop()
    assert server.books().check().charged == books["charged_us"]


def test_all_of_a_small_quota_is_used(start):
    """Holds of its own parts that run take nothing from those that wait: each hold is a guess, and gives back."""
    tiers = {**TIERS, "tiny": {**TIERS["tiny"], "gpu_seconds": 0.5}}
    server = start(tiers=tiers)
    with client(server, "key-tiny") as c:
        r = ask(c, prompts(40), max_tokens=2)
        assert all(x.text for x in r.choices)
        assert r.model_extra["baton"]["finish_detail"] == "length"


def test_a_hang_up_ends_all_of_them(start, slow_model):
    server = start("--slots", "2", model=slow_model)
    with server.client("key-pro") as c:
        body = {"prompt": prompts(128), "max_tokens": 200, "ignore_eos": True, "stream": True}
        with c.stream("POST", "/v1/completions", json=body) as r:
            for line in r.iter_lines():
                if line.startswith("data: "):
                    break
    server.wait_idle(5)
    m = server.metrics()
    assert m['baton_requests_total{finish="cancelled"}'] == 128
    server.stop()
    assert len(server.books().check().of) <= 6


def test_the_queue_wait_ends_between_parts(start, slow_model):
    """Another account's answer comes between and takes long; the part that waits for it too long stays empty."""
    server = start("--slots", "1", "--queue-wait", "1", model=slow_model, keys=KEYS)
    out = []
    with client(server, "key-pro") as c:
        many = threading.Thread(
            target=lambda: out.append(
                ask(c, prompts(5), model="slow", max_tokens=60, extra_body={"ignore_eos": True})
            )
        )
        many.start()
        server.wait_for(lambda m: m["baton_leases_active"] == 1)
        body = {"prompt": "Once", "max_tokens": 40, "ignore_eos": True, "stream": True}
        with server.client("key-eve") as other, other.stream("POST", "/v1/completions", json=body) as r:
            for line in r.iter_lines():
                if line.startswith("data: "):  # the other has the slot, and keeps it for longer than one may wait
                    os.kill(server.engine_pid(), signal.SIGSTOP)
                    time.sleep(1.5)
                    os.kill(server.engine_pid(), signal.SIGCONT)
                    break
        many.join(60 * SLOW)
    r = out[0]
    assert {x.finish_reason for x in r.choices} == {"length"}
    assert 60 <= r.usage.completion_tokens <= 240
    assert r.model_extra["baton"]["finish_detail"] == "lease_expired"
    assert r.model_extra["baton"]["charged_us"] > 0


def test_others_are_not_pushed_back(start, slow_model):
    """One slot, 128 parts of one account: another account's request waits for one or two of them."""
    server = start("--slots", "1", model=slow_model, keys=KEYS)

    def one():
        began = time.monotonic()
        assert server.complete(key="key-eve", max_tokens=16, ignore_eos=True).status_code == 200
        return time.monotonic() - began

    one()
    alone_s, beside = min(one() for _ in range(3)), []
    body = {"prompt": prompts(128), "max_tokens": 16, "ignore_eos": True, "stream": True}
    with server.client("key-pro") as c, c.stream("POST", "/v1/completions", json=body) as r:
        reader = threading.Thread(target=lambda: [None for _ in r.iter_lines()])
        reader.start()
        beside = [one() for _ in range(5)]
        assert reader.is_alive(), "the many were over too early"
        reader.join(120 * SLOW)
    assert sorted(beside)[2] <= 10 * alone_s + 0.5, (beside, alone_s)  # all 128 take 100 times that
