# SPDX-License-Identifier: Apache-2.0
"""What a stranger, a terminal or a small machine can take from the server, and what it keeps."""

import os
import resource
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BIN, MODEL, OWNER, ROOT, SLOW


class Mute:
    """A server whose stderr is a full pipe that nobody reads."""

    def __init__(self, data):
        data.mkdir()
        (data / "owner-token").write_text(OWNER + "\n")
        (data / "owner-token").chmod(0o600)
        self.data = data
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, b".\n" * 2048)
        os.set_blocking(writer, True)
        command = [BIN, "serve", "-m", MODEL, "--host", "127.0.0.1", "--port", "0", "--data", data]
        self.process = subprocess.Popen(
            [str(c) for c in [*command, "--log-level", "debug"]], stderr=writer, cwd=ROOT
        )
        os.close(writer)

    def url(self, seconds=20):
        deadline = time.time() + seconds * SLOW
        while time.time() < deadline:
            if (self.data / "server").exists():
                url = (self.data / "server").read_text().strip()
                if url and httpx.get(url + "/health").status_code == 200:
                    return url
            time.sleep(0.05)
        raise AssertionError("it does not serve")

    def drain(self, seconds):
        """What came out of the pipe within a time."""
        os.set_blocking(self.reader, False)
        text, deadline = b"", time.time() + seconds
        while time.time() < deadline:
            try:
                text += os.read(self.reader, 1 << 20)
            except BlockingIOError:
                time.sleep(0.02)
        return text.decode()


@pytest.fixture
def mute(tmp_path):
    server = Mute(tmp_path / "data")
    yield server
    server.process.kill()
    server.process.wait()
    os.close(server.reader)


def test_a_blocked_stderr_holds_up_nothing(mute):
    url = mute.url()
    with httpx.Client(base_url=url, timeout=20 * SLOW) as c:
        before = c.get("/metrics").text
        engine = int(
            subprocess.check_output(["pgrep", "-P", str(mute.process.pid)], text=True).split()[0]
        )
        for _ in range(2):  # with an engine that ends, both processes have much to say
            body = {"prompt": "Once", "max_tokens": 8}
            assert c.post("/v1/completions", json=body).status_code == 200
            os.kill(engine, signal.SIGKILL)
            deadline = time.time() + 20 * SLOW
            while c.get("/health").status_code == 200 and time.time() < deadline:
                time.sleep(0.01)
            while c.get("/health").status_code != 200 and time.time() < deadline:
                time.sleep(0.05)
            engine = int(
                subprocess.check_output(["pgrep", "-P", str(mute.process.pid)], text=True).split()[0]
            )
        assert "baton_log_dropped_total" in before
    mute.process.send_signal(signal.SIGTERM)
    assert mute.process.wait(20 * SLOW) == 0


def test_lines_come_once_stderr_is_read_again(mute):
    mute.url()
    text = mute.drain(1)
    assert "listening on http://" in text and "engine.ready" in text


def test_a_hang_up_ends_nothing(start):
    s = start()
    engine = s.engine_pid()
    with s.client() as c:
        with c.stream("POST", "/v1/completions", json={"prompt": "Once", "max_tokens": 200, "stream": True}) as r:
            lines = r.iter_lines()
            next(lines)
            s.process.send_signal(signal.SIGHUP)
            os.kill(engine, signal.SIGHUP)
            assert any("[DONE]" in line for line in lines)
    assert s.complete().status_code == 200
    assert s.engine_pid() == engine and "server.hup" in s.log
    assert s.stop() == 0


def files(n):
    """A command that runs another with at most n open files."""
    return ("sh", "-c", f'ulimit -n {n} && exec "$@"', "sh")


def test_few_descriptors_leave_room_for_the_engine(start):
    s = start(wrap=files(64))
    taken = []
    for _ in range(100):
        try:
            taken.append(socket.create_connection(("127.0.0.1", s.port), timeout=5))
        except OSError:
            break
    assert "http.files connections=" in s.log
    for _ in range(2):
        before = s.log.count("engine.ready")
        os.kill(s.engine_pid(), signal.SIGKILL)
        deadline = time.time() + 20 * SLOW
        while s.log.count("engine.ready") == before and time.time() < deadline:
            time.sleep(0.05)
        assert s.log.count("engine.ready") == before + 1, s.log
    for c in taken:
        c.close()
    assert s.complete().status_code == 200
    assert s.stop() == 0
    s.books().check()


def test_too_few_descriptors_are_refused_with_a_sentence(start):
    s = start(wrap=files(24), wait=False)
    assert s.process.wait(20 * SLOW) == 2
    s.listening.wait(5)
    assert "the limit on open files (ulimit -n) is 24, and serving needs" in s.log


LARGE = 8 << 20


def connect(server, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10 * SLOW, source_address=(source, 0))


def head(path, length, *headers, method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def status(sock):
    """Of the next answer; 0: there is none."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return 0
            data += more
    except OSError:
        return 0
    return int(data.split()[1])


def health_ms(server, n=100, source="127.0.0.1"):
    """The 99th of a hundred answers of /health, each over a connection of its own."""
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        with connect(server, source) as c:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status(c) == 200
        times.append(1000 * (time.perf_counter() - begun))
    return sorted(times)[n * 99 // 100 - 1]


@pytest.mark.parametrize("path", ["/v1/completions", "/health"])
def test_connections_that_hold_bodies_stop_nobody(start, path):
    s = start()
    held = [connect(s, f"127.0.0.{1 + i % 4}") for i in range(16)]
    for c in held:
        c.sendall(head(path, LARGE, method="POST" if path.startswith("/v1") else "GET") + b"{" * 1000)
    time.sleep(0.2)
    for key in ("key-pro", None):
        for _ in range(5):
            assert s.complete(key=key).status_code == 200
    large = "x " * (LARGE // 2 - 100)
    r = s.complete(prompt=large)  # a large body with a key is read to its end: the prompt is too long
    assert r.status_code in (400, 413) and r.json()["error"]["code"] != "too_many_bodies"
    m = s.metrics()
    assert m["baton_http_body_bytes"] <= 4 * (LARGE + 1)
    refused = sum(status(c) in (413, 429) for c in held[4:])
    assert refused >= len(held) - 5
    for c in held:
        c.close()
    s.wait_for(lambda m: m["baton_http_body_bytes"] == 0, what="giving back")


def test_no_body_is_taken_of_who_has_no_key(start):
    s = start("--require-key")
    held = [connect(s) for _ in range(8)]
    for c in held:
        c.sendall(head("/v1/completions", LARGE))
    assert [status(c) for c in held] == [401] * 8
    for body in (b"x" * LARGE, b"{}"):  # the client hears why, whatever it still sends
        for key in ("wrong", None):
            with s.client(key) as c:
                for _ in range(3):
                    r = c.post("/v1/completions", content=body)
                    assert r.status_code == 401 and r.json()["error"]["type"] == "authentication_error"
    for c in held:
        c.close()
    assert s.metrics()["baton_http_body_bytes"] == 0


def test_a_body_that_is_too_large_is_told_so(server):
    def endless():
        for _ in range(1000):
            yield b" " * 65536

    for content in (b" " * (LARGE + 1), endless()):
        with server.client() as c:
            r = c.post("/v1/completions", content=content)
            assert r.status_code == 413 and str(LARGE) in r.json()["error"]["message"]


@pytest.mark.timing
@pytest.mark.parametrize("kind", ["idle", "head", "body"])
def test_one_address_cannot_take_all_connections(start, kind):
    s = start("--connections", "512")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    send = {"idle": b"", "head": b"GET /health HTTP/1.1\r\nHost: ", "body": head("/v1/completions", 1000)}[kind]
    held, stop = [], threading.Event()

    def attack():
        while not stop.is_set():
            try:
                c = connect(s)
                c.sendall(send)
                held.append(c)
            except OSError:
                pass
            if len(held) > 1500:
                held.pop(0).close()

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        deadline = time.time() + 30
        while len(held) < 1000 and time.time() < deadline:
            time.sleep(0.05)
        own, other = health_ms(s), health_ms(s, source="127.0.0.2")
        assert s.complete().status_code == 200
        assert s.metrics()["baton_http_connections"] <= 512 + 64
    finally:
        stop.set()
        attacker.join()
        for c in held:
            c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(f"{kind}: p99 of /health {own:.1f} ms, of another address {other:.1f} ms")
    assert own < 1000 * SLOW and other < 1000 * SLOW  # bench/attacks.py has the exact times


def test_an_address_with_too_many_streams_is_told_so(start, slow_model):
    s = start("--connections", "64", "--address-connections", "8", model=slow_model)
    body = b'{"prompt":"Once","max_tokens":400,"stream":true,"ignore_eos":true}'
    held = [connect(s) for _ in range(8)]
    for c in held:
        c.sendall(head("/v1/completions", len(body), "Authorization: Bearer key-pro") + body)
    assert [status(c) for c in held] == [200] * 8
    with connect(s) as c:
        assert b"too_many_connections" in c.recv(4096)
    with connect(s, "127.0.0.2") as c:
        c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(c) == 200
    for c in held:
        c.close()
    s.wait_idle()
