# SPDX-License-Identifier: Apache-2.0
"""A client that hangs up, at any point: its lease ends at once and it pays for what was used, no more."""

import json
import socket
import time

import pytest

import storm
from conftest import OWNER, SLOW, Server

LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 1, "n": 4}
MANY_WORDS = " ".join(["word"] * 110)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, slow_model):
    """Small steps of a slow model, so that there is a middle to hang up in; 8 slots."""
    s = Server(
        tmp_path_factory.mktemp("data"),
        ["--step-tokens", "16", "--slots", "8", "--threads", "1"],
        model=slow_model,
    )
    yield s
    assert s.stop() == 0, s.log[-3000:]
    assert "Sanitizer" not in s.log and "runtime error" not in s.log, s.log
    s.books().check()


class Client:
    """A raw socket with one request on it."""

    def __init__(self, server, body, path="/v1/completions", key="key-pro"):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20 * SLOW)
        self.socket.sendall(storm.request_bytes(storm.Job(path, body, key), "127.0.0.1"))
        self.data = b""

    def read_until(self, text):
        while text not in self.data:
            part = self.socket.recv(65536)
            assert part, self.data
            self.data += part
        return self

    def close(self):
        self.socket.close()
        return time.monotonic()


def used_by(server, account="alice"):
    """posted, held"""
    with server.client(OWNER) as c:
        rows = {a["account"]: a for a in c.get("/v1/accounts").json()["accounts"]}
    name = next((n for n in rows if n.endswith(account)), None)
    return (rows[name]["used_us"], rows[name]["held_us"]) if name else (0, 0)


def running(server):
    with server.client(OWNER) as c:
        return c.get("/v1/queue").json()["running"]


def hang_up(server, clients, cancelled):
    """Closes all and waits until so many more are counted as cancelled and nothing runs; seconds it took."""
    before = server.ended("cancelled")
    start = [c.close() for c in clients][0]
    server.wait_for(
        lambda m: m['baton_requests_total{finish="cancelled"}'] - before == cancelled
        and m["baton_leases_active"] == 0
        and m["baton_queue_depth"] == 0,
        5,
        "the cancelling",
    )
    return time.monotonic() - start


@pytest.mark.parametrize("stream", [True, False])
def test_running(narrow, stream):
    """Decoding: streaming or not, the lease is gone and the account pays for what ran."""
    used = used_by(narrow)[0]
    tokens = narrow.metrics()['baton_tokens_total{kind="completion"}']
    c = Client(narrow, {"prompt": "Once upon a time", "stream": stream, **LONG})
    if stream:
        c.read_until(b'"text"')
    else:
        narrow.wait_for(lambda m: m["baton_leases_active"] == 1, 5, "the lease")
        time.sleep(0.03)
    seen = next(iter(running(narrow)), {"device_us": 0})["device_us"]
    assert hang_up(narrow, [c], 1) < 1 * SLOW
    m = narrow.wait_idle()
    posted, held = used_by(narrow)
    assert posted - used >= seen and held == 0
    assert posted - used == m["baton_charged_microseconds_total"] - used  # nobody else runs here
    assert m['baton_tokens_total{kind="completion"}'] - tokens < 4 * 480


def test_queued(narrow):
    """More requests than slots: those that wait vanish from the queue and cost nothing."""
    head = Client(narrow, {"prompt": "Tom", "stream": True, **LONG, "n": 8}).read_until(b'"text"')
    waiting = [Client(narrow, {"prompt": "Lily", "stream": i % 2 == 0, **LONG, "n": 8}) for i in range(6)]
    narrow.wait_for(lambda m: m["baton_queue_depth"] == 6, 5, "the queue")
    used = used_by(narrow)[0]
    before = narrow.ended("cancelled")
    for c in waiting:
        c.close()
    m = narrow.wait_for(
        lambda m: m['baton_requests_total{finish="cancelled"}'] == before + 6, 2, "the cancelling"
    )
    assert m["baton_queue_depth"] == 0
    assert m["baton_leases_active"] == 1 and m["baton_holds_open"] == 1, "the head was disturbed"
    assert used_by(narrow)[0] == used
    assert hang_up(narrow, [head], 1) < 1 * SLOW


@pytest.mark.parametrize("stream", [True, False])
def test_mid_prefill(narrow, stream):
    """Long prompts, sixteen tokens a step: the rest of the prompt is not computed."""
    narrow.wait_idle()
    used, cancelled = used_by(narrow)[0], narrow.ended("cancelled")
    m = narrow.metrics()
    rows, ttft = m["baton_step_rows_total"], m["baton_time_to_first_token_seconds_count"]
    bodies = [
        {"prompt": f"{'abcdefgh'[i]} {MANY_WORDS}", "max_tokens": 8, "stream": stream} for i in range(8)
    ]
    clients = [Client(narrow, b) for b in bodies]
    if stream:
        clients[0].read_until(b": prefill done=16 ")
    else:
        narrow.wait_for(lambda m: m["baton_step_rows_total"] > rows, 5, "a step")
    for c in clients:
        c.close()
    narrow.wait_idle(5)
    m = narrow.metrics()
    ended = m['baton_requests_total{finish="cancelled"}'] - cancelled
    assert ended >= 4, "most of 8 x 440 tokens were still to do"
    assert m["baton_step_rows_total"] - rows < 8 * 440
    assert used_by(narrow) == (m["baton_charged_microseconds_total"], 0)
    assert used_by(narrow)[0] >= used


def test_parts_of_one_request(narrow):
    """A prompt list is several requests inside: all of them end."""
    c = Client(
        narrow,
        {"prompt": [f"{w} and" for w in ("Tom", "Lily", "Mom", "Dad")], "stream": True, **LONG, "n": 2},
    ).read_until(b'"text"')
    assert hang_up(narrow, [c], 4) < 1 * SLOW


def test_half_closed_is_gone(narrow):
    """A client that shuts its sending side has left, as real clients' hang-ups look on the wire."""
    c = Client(narrow, {"prompt": "Sue", "stream": True, **LONG}).read_until(b'"text"')
    before = narrow.ended("cancelled")
    c.socket.shutdown(socket.SHUT_WR)
    narrow.wait_for(
        lambda m: m['baton_requests_total{finish="cancelled"}'] == before + 1, 2, "the cancelling"
    )
    c.close()


def test_reset(narrow):
    """SO_LINGER 0: a reset instead of an orderly end."""
    c = Client(narrow, {"prompt": "Ben", "stream": True, **LONG}).read_until(b'"text"')
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert hang_up(narrow, [c], 1) < 1 * SLOW


def test_before_the_body_is_there(narrow):
    """Half a request, then gone: nothing was submitted, nothing is charged."""
    before = narrow.metrics()["baton_http_generations_total"]
    for cut in (1, 20, 80, 150):
        raw = storm.request_bytes(storm.Job("/v1/completions", {"prompt": "x" * 200}, "key-pro"), "127.0.0.1")
        with socket.create_connection(("127.0.0.1", narrow.port)) as s:
            s.sendall(raw[:cut])
    assert narrow.complete().status_code == 200
    assert narrow.metrics()["baton_http_generations_total"] == before + 1


def test_hangup_while_the_ledger_answers(narrow):
    """Gone at once after sending: whatever it was caught in, it ends once and holds nothing."""
    before = narrow.wait_idle()
    for i in range(40):
        Client(narrow, {"prompt": "Once", "stream": i % 2 == 0, **LONG}).close()
    time.sleep(0.3)  # between the loop's count and the scheduler a request is in no gauge yet
    cancelled, begun = 'baton_requests_total{finish="cancelled"}', "baton_http_generations_total"
    narrow.wait_for(lambda m: m[cancelled] - before[cancelled] == m[begun] - before[begun], 10, "all ends")
    after = narrow.wait_idle(10)
    assert after[cancelled] - before[cancelled] == after[begun] - before[begun] <= 40
    assert after['baton_requests_total{finish="refused"}'] == before['baton_requests_total{finish="refused"}']


def test_others_do_not_notice(server):
    """A stream beside forty hang-ups is complete and as it would be alone."""
    body = {"prompt": "Once upon a time", "max_tokens": 200, "ignore_eos": True, "temperature": 0}
    alone = server.complete(**body).json()["choices"][0]["text"]
    mine = Client(server, {**body, "stream": True}, key="key-free")
    for i in range(40):
        c = Client(server, {"prompt": "Tom", "stream": True, **LONG, "n": 2})
        if i % 4 == 0:
            c.read_until(b"HTTP/1.1 200")
        c.close()
    mine.read_until(b"[DONE]")
    o = storm.Outcome(storm.Job("", {"stream": True}))
    storm.read_answer(o, mine.data)
    assert o.books["finish_detail"] == "length"
    texts = [
        json.loads(e[6:])
        for e in storm.dechunk(mine.data.partition(b"\r\n\r\n")[2])[0].decode().split("\n")
        if e.startswith("data: {")
    ]
    assert "".join(t["choices"][0]["text"] for t in texts if t["choices"]) == alone
    mine.close()


@pytest.mark.timing
def test_latency(narrow, record_property):
    """From close() to cancelled, as /metrics shows it: half within 100 ms."""
    took = []
    for i in range(20):
        c = Client(narrow, {"prompt": f"{i} Lily", "stream": i % 2 == 0, **LONG, "n": 8})
        narrow.wait_for(lambda m: m["baton_leases_active"] == 1, 5, "the lease")
        took.append(hang_up(narrow, [c], 1))
    p50, worst = storm.percentile(took, 0.5), max(took)
    record_property("hangup_p50_ms", p50 * 1e3)
    print(f"\nclose() to cancelled: p50 {p50 * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms of {len(took)}")
    assert p50 < 0.1 and worst < 1


@pytest.mark.parametrize("pause", [0, 0.1])
@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Content-Length: 100\r\n\r\n",
        b"Content-Length: 300000\r\n\r\n" + b" " * 100_000,
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"Content-Le",
    ],
)
def test_an_end_in_the_midst_of_a_request(server, sent, pause):
    """Nothing more can come: the connection ends at once, not when the time for a body is over."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5 * SLOW) as c:
        more = 0 if pause else socket.MSG_MORE  # the end comes in one packet with the last bytes
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n" + sent, more)
        time.sleep(pause)
        c.shutdown(socket.SHUT_WR)
        assert c.recv(4096) == b""


def test_a_whole_request_and_then_an_end(server):
    """What is answered at once is answered; what has to be waited for has nobody left who waits."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5 * SLOW) as c:
        c.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        c.shutdown(socket.SHUT_WR)
        assert c.recv(4096).startswith(b"HTTP/1.1 200")
    c = Client(server, LONG | {"prompt": "Once"})
    c.socket.shutdown(socket.SHUT_WR)
    assert c.socket.recv(4096) == b""
