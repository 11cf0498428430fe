# SPDX-License-Identifier: Apache-2.0
"""What a release build and its engine process keep from somebody who has found a bug."""

import os
import re
import subprocess

import pytest

from conftest import BIN, SLOW


def readelf(*args):
    return subprocess.run(
        ["readelf", "-W", *args, str(BIN)], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.skipif(SLOW > 1, reason="a sanitizer build has its own guards")
def test_release_program_is_hardened():
    head, segments, dynamic, symbols = (readelf(a) for a in ("-h", "-l", "-d", "--dyn-syms"))
    assert re.search(r"Type:\s+DYN \(Position-Independent Executable", head), head
    assert "GNU_RELRO" in segments, segments
    assert re.search(r"GNU_STACK\s+.*\sRW\s", segments), segments  # not executable
    assert not re.search(r"LOAD\s.*RWE", segments), segments
    assert "BIND_NOW" in dynamic or re.search(r"FLAGS_1.*\bNOW\b", dynamic), dynamic
    assert "__stack_chk_fail" in symbols
    checked = set(re.findall(r"__(\w+)_chk@", symbols))
    assert {"memcpy", "snprintf", "vsnprintf"} <= checked, checked


def test_engine_process_gets_no_secrets(start):
    secrets = {
        "BATON_API_KEY": "sk-secret-0123456789",
        "HF_TOKEN": "hf_secret",
        "SPACE_ID": "somebody/space",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "MY_PASSWORD": "secret",
    }
    wanted = {"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "2", "LC_ALL": "C.UTF-8"}
    read, write = os.pipe()  # what a careless parent leaves open
    os.set_inheritable(write, True)
    s = start(env={**secrets, **wanted}, pass_fds=(write,))
    proc = f"/proc/{s.engine_pid()}"
    with open(f"{proc}/environ", "rb") as f:
        env = dict(v.split("=", 1) for v in f.read().decode().split("\0") if v)
    assert not secrets.keys() & env.keys(), env
    assert not any("secret" in v for v in env.values()), env
    assert wanted.items() <= env.items() and env["PATH"] == os.environ["PATH"]
    with open(f"{proc}/status") as f:
        assert re.search(r"^NoNewPrivs:\s+1$", f.read(), re.M)
    fds = {int(fd): os.readlink(f"{proc}/fd/{fd}") for fd in os.listdir(f"{proc}/fd")}
    for fd, path in fds.items():
        own = fd <= 2 or path.startswith(("socket:", "anon_inode:")) or "/usage/" in path or path.endswith(".gguf")
        assert own, fds
    assert sum(path.startswith("socket:") for fd, path in fds.items() if fd > 2) == 1, fds
    os.close(read)
    os.close(write)
    assert s.complete(max_tokens=4).status_code == 200
