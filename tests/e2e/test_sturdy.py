# SPDX-License-Identifier: Apache-2.0
"""What used to go wrong in silence: damaged weights, books cut short, deleted or not writable, weak secrets."""

import os
import shutil
import struct
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BIN, MODEL, OWNER, ROOT, SLOW, gguf_parse
from test_faults import refused

LONG = {"max_tokens": 150, "ignore_eos": True, "temperature": 1, "n": 2}


def usage_file(server):
    files = list((server.data / "usage").glob("*.use"))
    assert len(files) == 1, files
    return files[0]


def test_usage_file_cut_short(start, slow_model):
    """Neither front nor the engine dies, and what runs is charged in full."""
    s = start(model=slow_model)
    pid, answers = s.engine_pid(), []
    thread = threading.Thread(target=lambda: answers.append(s.complete(**LONG)))
    thread.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 1, what="a lease")
    for size in (0, 3, 40, 9000):
        os.truncate(usage_file(s), size)
        time.sleep(0.3)
    time.sleep(1.2)  # front looks once a second
    thread.join(60 * SLOW)
    assert s.process.poll() is None and s.engine_pid() == pid, s.log
    assert answers[0].status_code == 200, answers[0].text
    used = answers[0].json()["baton"]["device_us"]
    assert used > 0
    assert "was cut short" in s.log and s.log.count("cut short") < 4, s.log
    assert s.complete(max_tokens=4).status_code == 200
    s.wait_idle()
    assert s.stop() == 0, s.log
    s.books().check()


# ---- weights that are no numbers


def nan_model(path):
    """One matrix is all NaN: norms are looked at when a model is loaded, matrices are not."""
    data = bytearray(MODEL.read_bytes())
    table, begin = gguf_parse(bytes(data))[1:]
    tensors = struct.unpack_from("<Q", data, 8)[0]
    offset, at = {}, 0
    for _ in range(tensors):
        n = struct.unpack_from("<Q", table, at)[0]
        name, at = table[at + 8 : at + 8 + n].decode(), at + 8 + n
        at += 4 + 8 * struct.unpack_from("<I", table, at)[0] + 4
        offset[name], at = struct.unpack_from("<Q", table, at)[0], at + 8
    first = offset["blk.2.ffn_down.weight"]
    behind = min([o for o in offset.values() if o > first], default=len(data) - begin)
    data[begin + first : begin + behind] = b"\xff" * (behind - first)
    path.write_bytes(data)
    return path


def test_model_that_is_not_finite(tmp_path, start):
    s = start(model=nan_model(tmp_path / "nan.gguf"))
    with s.client(None) as c:
        assert c.get("/health/ready").status_code == 200
        for _ in range(3):
            r = s.complete()
            e = r.json()["error"]
            assert r.status_code == 500 and e["code"] == "model_fault", r.text  # asking again does not help
            assert "not finite" in e["message"], e
        r = s.complete(stream=True)
        assert "not finite" in r.text and "[DONE]" not in r.text, r.text
        assert s.complete(key="key-free").status_code == 500
        m = s.wait_idle()
        assert m["baton_not_finite_total"] == 5 and m["baton_charged_microseconds_total"] == 0
        assert s.log.count("model.not_finite") == 1, s.log
        r = c.get("/health/ready")
        assert r.status_code == 503 and "not finite" in r.json()["message"], r.text
        assert c.get("/health").status_code == 200


# ---- the data directory


def test_data_deleted_while_serving(tmp_path, start):
    """Noticed, said, told by readiness; nobody is admitted whose charge would be lost; no second books begin."""
    s = start(data=tmp_path / "data")
    assert s.complete().status_code == 200
    kept = tmp_path / "kept"
    with s.client(None) as c:

        def ready(want):
            deadline = time.time() + 4 * SLOW
            while (r := c.get("/health/ready")).status_code != want:
                assert time.time() < deadline, s.log
                time.sleep(0.05)
            return r

        s.data.rename(kept)
        r = ready(503)
        assert "ledger" in r.json()["message"] and str(tmp_path) not in r.text, r.text
        r = s.complete()
        assert r.status_code == 503 and r.json()["error"]["code"] == "storage_unavailable", r.text
        assert s.log.count("ledger.gone") == 1 and str(s.data) in s.log, s.log
        said = refused("-m", MODEL, "--data", s.data)
        assert "another server" in said and str(s.process.pid) in said, said
        shutil.rmtree(s.data)
        kept.rename(s.data)  # put back: all is as before
        ready(200)
        assert s.complete().status_code == 200
        shutil.rmtree(s.data)
        ready(503)
        assert c.get("/health").status_code == 200
    assert s.stop() == 0, s.log


# ---- what strangers are told


def test_health_shows_no_path(tmp_path, start):
    """The model's file goes and the engine ends: the owner is told which, strangers that something is wrong."""
    model = tmp_path / "model.gguf"
    shutil.copy(MODEL, model)
    s = start(model=model)
    model.unlink()
    os.kill(s.engine_pid(), 9)
    texts = []
    with s.client(None) as c, s.client(OWNER) as owner:
        deadline = time.time() + 10 * SLOW
        while str(model) not in owner.get("/health").text:
            texts += [c.get(path).text for path in ("/health", "/health/ready", "/metrics", "/v1/models")]
            assert time.time() < deadline, s.log
        r = c.get("/health")
        assert r.status_code == 503 and r.json()["message"], r.text
        assert not any(str(tmp_path) in text for text in [r.text, *texts]), texts
        shutil.copy(MODEL, model)
        s.wait_ready()


# ---- the owner's secret


def serve_once(tmp_path, *args, env=None):
    """Starts a server and stops it as soon as it listens; its stderr."""
    p = subprocess.Popen(
        [BIN, "serve", "-m", MODEL, "--host", "127.0.0.1", "--port", "0", "--data", tmp_path / "d", *args],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    lines = []
    for line in p.stderr:
        lines.append(line)
        if line.startswith(("listening", "baton:")):
            break
    p.terminate()
    return "".join(lines) + p.stderr.read()


def test_weak_owner_tokens_are_refused(tmp_path):
    token = tmp_path / "token"
    where = ("--owner-token-file", token)

    def put(text, mode):
        token.write_text(text)
        token.chmod(mode)

    put("abcde\n", 0o600)
    assert "has 5 characters and needs 16" in refused("-m", MODEL, "--data", tmp_path / "d", *where, code=2)
    put("x" * 300, 0o600)
    assert "longer" in refused("-m", MODEL, "--data", tmp_path / "d", *where, code=2)
    for mode in (0o644, 0o640, 0o604, 0o660):
        put(OWNER + "\n", mode)
        said = refused("-m", MODEL, "--data", tmp_path / "d", *where, code=2)
        assert "chmod 600" in said and f"{mode:04o}" in said and OWNER not in said, said
    put(f"  {OWNER} \r\n\n", 0o400)  # blanks around it are not the token's
    assert "listening" in serve_once(tmp_path, *where)
    if os.getuid() == 0:  # as a container mounts a secret: another's, and not ours to change
        put(OWNER + "\n", 0o644)
        os.chown(token, 1234, 1234)
        said = serve_once(tmp_path, *where)
        assert "listening" in said and "owner_token.readable" in said and OWNER not in said, said


def test_owner_token_from_the_environment(tmp_path, start):
    """A Space's secrets are environment variables."""
    said = serve_once(tmp_path, env={"BATON_OWNER_TOKEN": "short"})
    assert "BATON_OWNER_TOKEN has 5 characters" in said, said
    secret = "a-secret-of-the-space"
    s = start(owner_file=False, env={"BATON_OWNER_TOKEN": secret})
    with s.client(secret) as c:
        assert c.get("/v1/accounts").status_code == 200
    out = subprocess.run(
        [BIN, "quota", "--url", s.url],
        capture_output=True,
        text=True,
        env={**os.environ, "BATON_OWNER_TOKEN": secret},
        timeout=20,
    )
    assert out.returncode == 0, out.stderr
    assert not (s.data / "owner-token").exists()
