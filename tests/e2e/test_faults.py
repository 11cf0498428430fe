# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a server, and what it then says: files, bodies, clients, disks, signals."""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import storm
from conftest import BIN, MODEL, OWNER, ROOT, SLOW, Server, zero_model

LONG = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "temperature": 1, "n": 4}


# ---- what cannot start


def refused(*args, code=1, seconds=10):
    """Runs `baton serve`, which must end soon with one sentence; that sentence."""
    p = subprocess.run(
        [str(a) for a in (BIN, "serve", "--host", "127.0.0.1", "--port", "0", *args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds * SLOW,
    )
    said = [line for line in p.stderr.splitlines() if line.startswith("baton: ")]
    assert p.returncode == code, (p.returncode, p.stderr)
    assert len(said) == 1 and len(said[0]) > 20, p.stderr
    assert "Sanitizer" not in p.stderr and "runtime error" not in p.stderr, p.stderr
    return said[0]


def patched(path, edit):
    data = bytearray(MODEL.read_bytes())
    changed = edit(data)
    path.write_bytes(data if changed is None else changed)
    return path


@pytest.mark.parametrize("size", [0, 3, 20, 1000, 15000, 600_000, 1_185_535])
def test_truncated_model(tmp_path, size):
    said = refused("-m", patched(tmp_path / "cut.gguf", lambda d: d[:size]), "--data", tmp_path / "d")
    assert "cut.gguf" in said


def test_corrupt_model(tmp_path):
    def magic(d):
        d[:4] = b"GGUX"

    def version(d):
        d[4:8] = struct.pack("<I", 99)

    def tensors(d):
        d[8:16] = struct.pack("<Q", 1 << 60)

    def architecture(d):
        return d.replace(
            b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama",
            b"general.architecture" + struct.pack("<IQ", 8, 5) + b"zebra",
        )

    for edit, word in ((magic, "GGUF"), (version, "99"), (tensors, "tensor"), (architecture, "zebra")):
        assert word in refused("-m", patched(tmp_path / f"{word}.gguf", edit), "--data", tmp_path / "d"), word


def test_wrong_model_path(tmp_path):
    assert "directory" in refused("-m", tmp_path, "--data", tmp_path / "d")
    assert "nowhere.gguf" in refused("-m", tmp_path / "nowhere.gguf", "--data", tmp_path / "d")
    assert "--model" in refused("--data", tmp_path / "d", code=2)
    assert "README.md" in refused("-m", "models/README.md", "--data", tmp_path / "d")


def test_absurd_options(tmp_path):
    d = ("--data", tmp_path / "d")
    for args, word in (
        (("--ctx", "1000000000"), "--ctx"),
        (("--ctx", "-3"), "--ctx"),
        (("--slots", "many"), "--slots"),
        (("--bogus",), "--bogus"),
        (("--price", "0"), "--price"),
        (("--log-level", "loud"), "--log-level"),
        (("--host", "1.2.3.4:5"), "1.2.3.4:5"),
        (("--kv-type", "q1"), "--kv-type"),
    ):
        assert word in refused("-m", MODEL, *d, *args, code=2), args
    assert "/nope" in refused("-m", MODEL, *d, "--api-keys", "/nope")
    assert "tier" in refused("-m", MODEL, *d, "--tiers", MODEL)


def test_engine_that_cannot_load(tmp_path):
    """Found out behind the scenes, told as if it were not."""
    assert "memory" in refused("-m", MODEL, "--data", tmp_path / "d", "--kv-tokens", "200000000")
    assert "CUDA" in refused("-m", MODEL, "--data", tmp_path / "d", "--device", "cuda", code=3)


def test_data_directories(tmp_path, start):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "a" / "b"):
        assert f"data directory {path}" in refused("-m", MODEL, "--data", path)
    fresh = tmp_path / "fresh"
    s = subprocess.Popen(
        [BIN, "serve", "-m", MODEL, "--port", "0", "--host", "127.0.0.1", "--data", fresh],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert any(line.startswith("listening on") for line in s.stderr)
    s.terminate()
    assert s.wait(15 * SLOW) == 0
    assert (fresh / "ledger.db").exists() and (fresh / "owner-token").stat().st_mode & 0o777 == 0o600


def test_damaged_ledger(tmp_path):
    data = tmp_path / "d"
    data.mkdir()
    garbage = os.urandom(20000)
    (data / "ledger.db").write_bytes(garbage)
    assert "ledger.db is damaged" in refused("-m", MODEL, "--data", data)
    assert (data / "ledger.db").read_bytes() == garbage
    s = Server(tmp_path / "e")
    assert s.complete().status_code == 200
    assert s.stop() == 0
    whole = bytearray((tmp_path / "e" / "ledger.db").read_bytes())
    for at in range(4096 + 8, len(whole), 4096):
        whole[at : at + 64] = b"\xa5" * 64
    (tmp_path / "e" / "ledger.db").write_bytes(whole)
    assert "damaged" in refused("-m", MODEL, "--data", tmp_path / "e")
    assert (tmp_path / "e" / "ledger.db").read_bytes() == whole


def test_two_servers(server, tmp_path):
    said = refused("-m", MODEL, "--data", tmp_path / "other", "--port", server.port, code=1)
    assert str(server.port) in said and "--port" in said
    said = refused("-m", MODEL, "--data", server.data)
    assert str(server.data) in said and str(server.process.pid) in said
    assert server.complete().status_code == 200


# ---- what a request can do wrong


def error(r, status, code=None):
    assert r.status_code == status, r.text
    e = r.json()["error"]
    assert e["message"] and e["type"], r.text
    assert code is None or e["code"] == code, r.text
    return e


def test_long_prompts(server):
    e = error(server.complete(prompt="word " * 3000), 400, "context_length_exceeded")
    assert "512" in e["message"]
    error(server.complete(prompt=[1] * 512), 400, "context_length_exceeded")
    assert server.complete(prompt=[1] * 511, max_tokens=5).json()["usage"]["completion_tokens"] == 1
    error(server.complete(prompt=[1, 100000]), 400)
    error(server.complete(prompt=[]), 400)


@pytest.mark.parametrize(
    "field,value",
    [
        ("temperature", "hot"),
        ("temperature", -1),
        ("temperature", [1]),
        ("max_tokens", "many"),
        ("max_tokens", 1.5),
        ("max_tokens", -2),
        ("n", 0),
        ("n", 1000),
        ("n", "two"),
        ("top_p", 2),
        ("stop", 5),
        ("stop", [1]),
        ("stream", "yes"),
        ("logit_bias", [1]),
        ("logit_bias", {"x": 1}),
        ("seed", "s"),
        ("prompt", 5),
        ("prompt", [["a"]]),
        ("prompt", [1.5]),
        ("prompt", None),
        ("lease_seconds", -1),
        ("lease_seconds", "long"),
        ("model", 3),
        ("logprobs", 1000),
    ],
)
def test_wrong_values(server, field, value):
    e = error(server.complete(**{field: value}), 400)
    assert field in e["message"]


def test_wrong_bodies(server):
    with server.client() as c:

        def post(body, path="/v1/completions", **headers):
            return c.post(path, content=body, headers={"Content-Type": "application/json", **headers})

        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"5",
            b'"x"',
            b'{"prompt":',
            b"\0",
            b'{"prompt":"x"}trailing',
            b'{"prompt":"\xff\xfe"}',
            b'{"prompt":"\xed\xa0\x80"}',
            b'{"prompt":"\\ud800"}',
            b"[" * 100000,
            b'{"a":' * 50000 + b"1" + b"}" * 50000,
            b'{"prompt":"x","n":' + b"9" * 400 + b"}",
        ):
            error(post(body), 400)
        error(post(b'{"messages":' + b"[" * 2000 + b"]" * 2000 + b"}", "/v1/chat/completions"), 400)
        for messages in (
            [],
            [{}],
            [{"role": "user"}],
            [{"role": "king", "content": "x"}],
            "x",
            [{"role": "user", "content": [{"type": "image_url"}]}],
        ):
            error(c.post("/v1/chat/completions", json={"messages": messages}), 400)
        ok = post(json.dumps({"prompt": "Caf\u00e9 \U0001f600", "max_tokens": 2}).encode())
        assert ok.status_code == 200
        error(post(b'{"prompt":"' + b"x" * (9 << 20) + b'"}'), 413)
        error(c.post("/v1/completions", json={"prompt": "x"}, headers={"X-Baton-Lease": "soon"}), 400)


def test_oversize_without_a_length(server):
    """Chunked, so that only counting finds out."""

    def body():
        yield b'{"prompt":"'
        for _ in range(160):
            yield b"x" * 65536

    with server.client() as c:
        try:
            error(c.post("/v1/completions", content=body()), 413)
        except OSError:
            pass  # closed while we still sent
        except Exception as e:
            assert "Write" in type(e).__name__ or "Remote" in type(e).__name__, e
        assert c.get("/health").status_code == 200


def test_routes(server):
    with server.client() as c:
        error(c.get("/v1/nothing"), 404)
        error(c.get("/v1/models/none"), 404, "model_not_found")
        r = c.get("/v1/completions")
        error(r, 405)
        assert "POST" in r.headers["allow"]
        error(c.delete("/health"), 405)
        assert c.options("/v1/completions").status_code == 204
        assert c.head("/health").status_code == 200
        error(c.get("/" + "x" * 3000), 404)


def test_identity(server):
    for key in ("wrong", "key-pro2", "key-pr", OWNER[:-1]):
        with server.client(key) as c:
            r = c.post("/v1/completions", json={"prompt": "x"})
            error(r, 401)
            assert "Bearer" in r.headers["www-authenticate"]
    with server.client() as c:
        error(c.get("/v1/accounts"), 403)
        error(c.post("/v1/accounts/key:bob", json={"reset": True}), 403)
    with server.client(OWNER) as c:
        assert c.get("/v1/accounts").status_code == 200
    with server.client(None) as c:
        assert c.post("/v1/completions", json={"prompt": "x", "max_tokens": 2}).status_code == 200
        error(c.get("/v1/accounts"), 403)


# ---- clients that are slow or silent


def test_slow_reader(server):
    """A stream that nobody reads ends; nobody else waits for it."""
    before = server.metrics()
    body = {
        "messages": [{"role": "user", "content": "Lily"}],
        **LONG,
        "n": 8,
        "stream": True,
        "logprobs": True,
        "top_logprobs": 20,
    }
    del body["prompt"]
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", server.port))
    s.sendall(storm.request_bytes(storm.Job("/v1/chat/completions", body, "key-pro"), "127.0.0.1"))
    assert s.recv(16).startswith(b"HTTP/1.1 200")
    waits = []
    for _ in range(5):
        started = time.monotonic()
        assert server.complete(max_tokens=4, key="key-free").status_code == 200
        waits.append(time.monotonic() - started)
    server.wait_for(
        lambda m: m["baton_slow_readers_total"] == before["baton_slow_readers_total"] + 1, 20, "the ending"
    )
    m = server.wait_for(lambda m: m["baton_leases_active"] == 0, 5, "the lease's end")
    assert (
        m['baton_requests_total{finish="cancelled"}']
        == before['baton_requests_total{finish="cancelled"}'] + 1
    )
    assert m["baton_holds_open"] == 0 and max(waits) < 10 * SLOW
    s.close()


def test_silent_and_half_requests(server):
    """200 sockets that send nothing, or half a head, or half a body: others are served."""
    parts = (
        b"",
        b"GET",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le",
        b'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"prompt"',
        b"\r\n",
    )
    sockets = []
    for i in range(200):
        s = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        s.sendall(parts[i % len(parts)])
        sockets.append(s)
    started = time.monotonic()
    for _ in range(5):
        assert server.complete(max_tokens=2).status_code == 200
    assert time.monotonic() - started < 10 * SLOW
    assert server.metrics()["baton_http_connections"] > 150
    for s in sockets:
        s.close()
    server.wait_for(lambda m: m["baton_http_connections"] < 20, 10, "closing")


def test_slow_upload(server):
    """A byte at a time is fine, and in nobody's way."""
    raw = storm.request_bytes(
        storm.Job("/v1/completions", {"prompt": "Once upon", "max_tokens": 3}, "key-pro"), "x"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30 * SLOW) as s:
        for i, byte in enumerate(raw):
            s.sendall(bytes([byte]))
            if i % 40 == 0:
                assert server.metrics()["baton_ready"] == 1
        answer = b""
        while part := s.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b"finish_detail" in answer


def test_garbage_on_the_wire(server):
    for junk in (
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\x9c\0\xff\r\n" * 60,
        b"A" * 100_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5 * SLOW) as s:
            try:
                s.sendall(junk)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            except OSError:
                pass  # reset while we sent is an answer too
    assert server.complete(max_tokens=2).status_code == 200


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "baton-test", where], capture_output=True
    ).returncode:
        pytest.skip("SKIP: only root may mount the small file system that this needs")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def fill(where):
    with open(where / "filler", "ab", buffering=0) as f:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    f.write(b"\xaa" * size)
            except OSError:
                pass


def test_full_disk(small_disk, start, slow_model):
    """Refused with a clear error while full; what ran is charged; all is well when there is space again."""
    s = start("--threads", "1", data=small_disk / "data", model=slow_model)
    assert s.complete().status_code == 200
    seen, ended = [], []
    job = storm.Job("/v1/completions", {**LONG, "n": 8, "max_tokens": 100, "stream": True}, "key-pro")
    runner = threading.Thread(target=lambda: ended.append(storm.run(s.url, [job], 1)[0]))
    runner.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 1, 5, "the lease")
    fill(small_disk)
    short = storm.Job("/v1/completions", {"prompt": "Once", "max_tokens": 2}, "key-free")
    for _ in range(400):  # the log of the database still has room for some
        seen += storm.run(s.url, [short], 1)
        if seen[-1].status != 200:
            break
    assert seen[-1].status == 503 and "ledger" in seen[-1].error["message"], seen[-1]
    assert s.metrics()["baton_ready"] == 1
    with s.client(OWNER) as owner, s.client(None) as stranger:
        r = stranger.get("/health/ready")
        assert r.status_code == 503 and not r.json()["ready"], r.text
        assert "ledger" in r.json()["message"] and str(small_disk) not in r.text, r.text
        assert "full" in owner.get("/health/ready").json()["message"]
        up = stranger.get("/health")  # restarting it would help nobody
        assert up.status_code == 200 and not up.json()["ready"], up.text
        assert s.metrics()["baton_ledger_writable"] == 0
        (small_disk / "filler").unlink()
        deadline = time.time() + 5 * SLOW  # by itself: a balancer sends nothing meanwhile
        while stranger.get("/health/ready").status_code != 200:
            assert time.time() < deadline, s.log
            time.sleep(0.05)
    assert s.metrics()["baton_ledger_writable"] == 1
    runner.join(30 * SLOW)
    assert ended and ended[0].done and ended[0].books, "what ran while it was full ends as ever"
    deadline = time.time() + 5 * SLOW
    while (r := storm.run(s.url, [short], 1)[0]).status != 200:
        assert time.time() < deadline, r
    seen += [r, *ended]
    s.wait_idle()
    assert s.stop() == 0, s.log
    books = s.books().check()
    for o in seen:
        if o.books:
            assert books.of[int(o.books["request_id"], 16)][1] == o.books["device_us"]
    fill(small_disk)
    said = refused("-m", MODEL, "--data", small_disk / "data")
    assert "full" in said or "space" in said, said


# ---- signals


def test_terminated_while_streaming(start, slow_model):
    """Running streams end as ever, queued ones are told, new ones refused; exit code 0."""
    s = start("--slots", "4", "--threads", "1", model=slow_model)
    results = {}

    def go(name, job):
        results[name] = storm.run(s.url, [job], 1)[0]

    jobs = {
        "stream": storm.Job("/v1/completions", {**LONG, "n": 2, "stream": True}, "key-pro"),
        "whole": storm.Job("/v1/completions", {**LONG, "n": 2}, "key-pro"),
    }
    threads = [threading.Thread(target=go, args=a) for a in jobs.items()]
    for t in threads:
        t.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 2, 5, "two leases")
    for name, stream in (("queued", False), ("queued stream", True)):
        threads.append(
            threading.Thread(
                target=go, args=(name, storm.Job("/v1/completions", {**LONG, "stream": stream}, "key-slow"))
            )
        )
        threads[-1].start()
    s.wait_for(lambda m: m["baton_queue_depth"] == 2, 5, "the queue")
    started = time.monotonic()
    assert s.stop() == 0, s.log
    assert time.monotonic() - started < 15 * SLOW
    for t in threads:
        t.join(5)
    for name in jobs:
        assert results[name].done, results[name]
        assert results[name].kind == "length" or SLOW > 1, results[name]  # too slow: cancelled after the grace
    assert results["queued"].status == 503 and results["queued"].error["code"] == "shutting_down", results[
        "queued"
    ]
    o = results["queued stream"]
    assert o.status == 200 and o.whole and not o.done and o.error["code"] == "shutting_down", o
    s.books().check()


def test_terminated_while_loading(tmp_path):
    """However long a load may take, and whatever state it is in."""
    model = zero_model(tmp_path / "slow.gguf", 6, 1024, 2816)
    s = Server(tmp_path / "d", model=model, wait=False)
    assert s.listening.wait(10 * SLOW)
    with s.client() as c:
        r = c.get("/health")
        assert r.status_code == 503 and r.json()["live"] and not r.json()["ready"], r.text
        assert c.get("/health/live").status_code == 200
    started = time.monotonic()
    assert s.stop(seconds=15) == 0, s.log
    assert time.monotonic() - started < 8 * SLOW
    s.books().check()


def test_terminated_at_once(tmp_path):
    """Before, while or after the engine is started: no moment at which the signal is lost."""
    for i in range(8):
        s = Server(tmp_path / "d", wait=False)
        assert s.listening.wait(10 * SLOW)
        time.sleep(i * 0.004)
        assert s.stop(seconds=8) == 0, s.log


def test_terminated_with_a_stuck_engine(start):
    """An engine that answers nothing any more cannot keep the server from ending."""
    s = start()
    engine = s.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    started = time.monotonic()
    assert s.stop(seconds=15) == 0, s.log
    assert time.monotonic() - started < 15 * SLOW
    assert not pathlib.Path(f"/proc/{engine}").exists()
    s.books().check()


def test_stuck_engine(start, slow_model):
    """An engine that stops answering is restarted; who waited for it is told, and the next request is served."""
    s = start("--engine-timeout", "2", "--threads", "1", model=slow_model)
    time.sleep(2.5)  # idle is not stuck, and not remembered as silence
    assert s.complete(max_tokens=300, ignore_eos=True).status_code == 200
    assert s.metrics()["baton_engine_restarts_total"] == 0
    results = []
    job = storm.Job("/v1/completions", {**LONG, "stream": True}, "key-pro")
    t = threading.Thread(target=lambda: results.append(storm.run(s.url, [job], 1)[0]))
    t.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 1, 5, "the lease")
    os.kill(s.engine_pid(), signal.SIGSTOP)
    t.join(10 * SLOW)
    assert results and results[0].error["code"] == "device_fault" and not results[0].done, results
    assert s.complete(max_tokens=4).status_code == 200
    assert s.metrics()["baton_engine_restarts_total"] == 1 and "engine.stuck" in s.log
    assert s.stop() == 0
    s.books().check()


@pytest.mark.slow
def test_terminated_during_a_long_stream(tmp_path):
    """Streams that would take minutes are ended in order: a last chunk, the books, [DONE]; exit 0 within 15 s."""
    model = zero_model(tmp_path / "slow.gguf", 6, 1024, 2816)
    s = Server(tmp_path / "d", ["--threads", "1"], model=model)
    results = []
    job = storm.Job("/v1/completions", {**LONG, "n": 8, "stream": True}, "key-pro")
    t = threading.Thread(target=lambda: results.append(storm.run(s.url, [job], 1)[0]))
    t.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 1, 5, "the lease")
    started = time.monotonic()
    assert s.stop(seconds=15) == 0, s.log
    t.join(5)
    assert time.monotonic() - started < 15 * SLOW
    assert results[0].done and results[0].books["finish_detail"] == "cancelled", results[0]
    books = s.books().check()
    assert books.of[int(results[0].books["request_id"], 16)][1] == results[0].books["device_us"]
