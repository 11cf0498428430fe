# SPDX-License-Identifier: Apache-2.0
"""A model that gives its device back: level 2 here, and level 1 where the device has it (--device emulated)."""

import concurrent.futures
import os
import re
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BIN, OWNER, SLOW, Server

EMULATED = "emu" in str(BIN)  # a build whose CUDA device is emulated
DEVICE = ("--device", "emulated") if EMULATED else ("--device", "cpu")
MODEL = "/v1/engines/stories260K"


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path / "d", DEVICE)
    yield s
    s.stop()


def engine(server):
    with server.client(OWNER) as c:
        (one,) = c.get("/v1/engines").json()["data"]
    return one


def wait_state(server, state, seconds=20):
    deadline = time.time() + seconds * SLOW
    while time.time() < deadline:
        e = engine(server)
        if e["state"] == state:
            return e
        time.sleep(0.02)
    raise AssertionError(f"{state} was not reached: {e}\n{server.log[-2000:]}")


def ask(server, verb, **body):
    with server.client(OWNER) as c:
        return c.post(f"{MODEL}/{verb}", json=body) if body else c.post(f"{MODEL}/{verb}")


def text_of(response):
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def test_asleep_has_no_process_and_a_request_wakes_it(server):
    before = text_of(server.complete())
    pid = server.engine_pid()
    assert engine(server)["state"] == "running" and engine(server)["level"] == 0
    for _ in range(3):
        r = ask(server, "park", level=2)
        assert r.status_code == 202, r.text
        wait_state(server, "asleep")
        assert server.children() == []
        assert not os.path.exists(f"/proc/{pid}")
        health = httpx.get(server.url + "/health").json()
        assert health["ready"] and health["residency"] == 2  # and asking did not wake it
        assert server.children() == []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(lambda _: text_of(server.complete()), range(4)))
        assert texts == [before] * 4
        pid = server.engine_pid()
        assert wait_state(server, "running")["level"] == 0
        server.wait_idle()
    assert engine(server)["restarts"] == 0
    server.stop()
    server.books().check()


def test_the_owner_wakes_it(server):
    ask(server, "park", level=2)
    wait_state(server, "asleep")
    assert ask(server, "wake").status_code == 202
    wait_state(server, "running")
    assert ask(server, "wake").status_code == 202  # the awake stay awake
    assert wait_state(server, "running")["level"] == 0


def test_idle_time_parks(tmp_path):
    s = Server(tmp_path / "d", (*DEVICE, "--park-after", "1"))
    try:
        before = text_of(s.complete())
        wait_state(s, "parked" if EMULATED else "asleep")
        assert text_of(s.complete()) == before
        wait_state(s, "parked" if EMULATED else "asleep")
    finally:
        s.stop()
    s.books().check()


def test_a_streaming_client_sees_the_wait(server):
    ask(server, "park", level=2)
    wait_state(server, "asleep")
    with server.client() as c:
        with c.stream(
            "POST", "/v1/completions", json={"prompt": "Once", "max_tokens": 4, "stream": True}
        ) as r:
            assert r.status_code == 200
            lines = [line for line in r.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


@pytest.mark.skipif(not EMULATED, reason="needs a device with memory of its own")
@pytest.mark.parametrize("returns", (True, False))
def test_the_driver_is_asked_whether_memory_came_back(tmp_path, returns):
    doctor = subprocess.run([BIN, "doctor"], capture_output=True, text=True, check=False)
    device = re.search(r"GPU-[0-9a-f-]{36}", doctor.stdout + doctor.stderr).group()
    driver = tmp_path / "nvml"

    def used(gib):
        (tmp_path / "new").write_text(f"{device} {16 << 30} {(16 - gib) << 30} {gib << 30}\n")
        (tmp_path / "new").rename(driver)

    used(5)
    library = BIN.parent / "fake-nvml"
    s = Server(tmp_path / "d", DEVICE, env={"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(driver)})
    try:
        text_of(s.complete())
        if returns:
            threading.Timer(0.3, used, [4]).start()
        ask(s, "park", level=2)
        wait_state(s, "asleep")
        word = "engine.memory_returned" if returns else "engine.memory_not_returned"
        deadline = time.time() + 10 * SLOW
        while word not in s.log and time.time() < deadline:
            time.sleep(0.05)
        assert word in s.log
        assert engine(s)["device_free_bytes"] == (12 if returns else 11) << 30
        text_of(s.complete())  # and it wakes
    finally:
        s.stop()


def test_busy_is_not_parked(server):
    with server.client() as c:
        body = {"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "n": 4, "stream": True}
        with c.stream("POST", "/v1/completions", json=body) as r:
            lines = r.iter_lines()
            next(lines)
            refused = ask(server, "park", level=2)
            for _ in lines:
                pass
    if refused.status_code == 202:
        pytest.skip("the generation was over before it could be parked")
    assert refused.status_code == 429
    assert "idle" in refused.json()["error"]["message"]


def test_refusals(server):
    with server.client() as c:  # a paying user is not the owner
        assert c.get("/v1/engines").status_code == 403
        assert c.post(f"{MODEL}/park").status_code == 403
    with server.client(OWNER) as c:
        assert c.post("/v1/engines/other/park").status_code == 404
        assert c.post(f"{MODEL}/explode").status_code == 404
        assert c.post(MODEL).status_code == 404
        assert c.post(f"{MODEL}/park", json={"level": 3}).status_code == 400
        assert c.post(f"{MODEL}/park", content=b"[1]").status_code == 400
    level_1 = ask(server, "park", level=1)
    if EMULATED:
        assert level_1.status_code == 202
        e = wait_state(server, "parked")
        assert e["device"].startswith("cuda0") and e["device_free_bytes"] > 0
        assert len(server.children()) == 1  # the context stays
    else:
        assert level_1.status_code == 501
        assert "level 2" in level_1.json()["error"]["message"]
