# SPDX-License-Identifier: Apache-2.0
"""As PID 1 of a container: reaps orphans, drains on SIGTERM. Needs the right to make a PID namespace."""
import os
import signal
import subprocess
import time

import httpx
import pytest

from conftest import BIN, MODEL, ROOT, SLOW, free_port


def states(parent):
    """(pid, state) of a process's children."""
    out = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [tuple(line.split()) for line in out.splitlines()]


@pytest.fixture
def pid1(tmp_path):
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("no right to make a PID namespace")
    port = free_port()
    outer = subprocess.Popen(["unshare", "--pid", "--fork", BIN, "serve", "-m", MODEL, "--host", "127.0.0.1",
                              "--port", str(port), "--data", tmp_path / "data"], cwd=ROOT, stderr=subprocess.PIPE)
    url, deadline = f"http://127.0.0.1:{port}", time.time() + 20 * SLOW
    while time.time() < deadline:
        try:
            if httpx.get(url + "/health").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.05)
    inner = int(states(outer.pid)[0][0])
    yield outer, inner, url
    if outer.poll() is None:
        os.kill(inner, signal.SIGKILL)
        outer.wait()


def test_pid1_reaps_orphans_and_drains(pid1):
    outer, inner, url = pid1
    for _ in range(5):  # each leaves an orphan behind that ends a moment later
        subprocess.run(["nsenter", "-t", str(inner), "-p", "sh", "-c", "(sleep 0.1 &) ; exit 0"], check=True)
    deadline = time.time() + 10 * SLOW
    while time.time() < deadline and (any(s.startswith("Z") for _, s in states(inner)) or len(states(inner)) > 1):
        time.sleep(0.1)
    assert len(states(inner)) == 1, f"the engine alone should be left: {states(inner)}"
    r = httpx.post(url + "/v1/completions", json={"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0})
    assert r.status_code == 200
    os.kill(inner, signal.SIGTERM)
    assert outer.wait(20 * SLOW) == 0
