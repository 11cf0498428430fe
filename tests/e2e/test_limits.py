# SPDX-License-Identifier: Apache-2.0
"""What a stranger, a terminal or a small machine can take from the server, and what it keeps."""

import os
import resource
import signal
import socket
import subprocess
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
