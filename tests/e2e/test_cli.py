# SPDX-License-Identifier: Apache-2.0
"""The commands as a person types them."""
import json
import os
import pty
import re
import subprocess

import httpx
import pytest

from conftest import BIN, MODEL, ROOT, SLOW

VOCAB = ROOT / "tests/data/vocab"


def baton(*args, stdin="", env=None, timeout=60):
    return subprocess.run(
        [BIN, *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout * SLOW,
        env={**os.environ, **(env or {})},
    )


def test_run_completes():
    r = baton("run", "-m", MODEL, "-p", "Once upon a time", "-n", 24, "--temp", 0)
    assert r.returncode == 0, r.stderr
    assert r.stdout.startswith("Once upon a time, there was a little girl named Lily. She loved to play")
    assert re.search(r"prompt 5 tokens.*generated 24.*ended: length", r.stderr)


def test_run_reads_standard_input_and_is_quiet():
    r = baton("run", "-m", MODEL, "-n", 3, "--temp", 0, "-q", stdin="Once upon a time")
    assert r.returncode == 0 and r.stdout == "Once upon a time, there was\n" and r.stderr == ""


def test_run_chats_on_a_terminal():
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(BIN, [str(BIN), "run", "-m", str(MODEL), "-n", "8", "--temp", "0"])
    os.write(fd, b"Once upon a time\nand then\n\n")
    seen = b""
    while True:
        try:
            piece = os.read(fd, 4096)
        except OSError:  # the terminal is gone with its program
            break
        if not piece:
            break
        seen += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seen.count(b"generated 8") == 2 and seen.count(b"> ") == 3, seen


def test_run_seed_repeats():
    runs = [baton("run", "-m", MODEL, "-p", "One day", "-n", 20, "--seed", s, "-q").stdout for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_tokenize():
    assert baton("tokenize", "-m", MODEL, "--ids", stdin="Once upon a time").stdout == "1 403 407 261 378\n"
    assert baton("tokenize", "-m", MODEL, "--ids", "--no-special", stdin="Once").stdout == "403\n"
    pieces = baton("tokenize", "-m", VOCAB / "llama-bpe.gguf", "--no-special", stdin="Hello world").stdout
    assert pieces == "'Hello' 'Ġworld'\n"
    ids = baton("tokenize", "-m", VOCAB / "qwen2.gguf", "--ids", "--no-special", stdin="Hello world").stdout
    assert ids == "6553 1879\n"


def test_bench_rows_have_llama_benchs_names():
    r = baton("bench", "model", "-m", MODEL, "-p", "16,32", "-n", 8, "-r", 2, "-o", "json")
    assert r.returncode == 0, r.stderr
    rows = json.loads(r.stdout)
    assert [(x["n_prompt"], x["n_gen"]) for x in rows] == [(16, 0), (32, 0), (0, 8)]
    for row in rows:
        assert row["avg_ts"] > 0 and row["stddev_ts"] >= 0 and len(row["samples_ns"]) == 2
        assert {"n_threads", "model_filename", "type_k", "avg_ns", "samples_ts", "test_time"} <= row.keys()
    table = baton("bench", "model", "-m", MODEL, "-p", 16, "-n", 0, "-r", 1).stdout
    assert "| model " in table and "pp16" in table
    batch = baton("bench", "batch", "-m", MODEL, "--n-prompt", 16, "--n-gen", 8, "--streams", "1,4", "-r", 1)
    assert batch.returncode == 0 and batch.stdout.count("\n") == 4


def test_doctor():
    r = baton("doctor", "-m", MODEL)
    assert r.returncode == 0 and "stories260K" in r.stdout and "all well" in r.stdout
    r = baton("doctor", "-m", ROOT / "README.md")
    assert r.returncode == 1 and "FAIL" in r.stdout


def test_help_version_and_usage_errors():
    assert re.fullmatch(r"baton \d+\.\d+\.\d+\n", baton("version").stdout)
    for command in ("serve", "run", "tokenize", "bench", "quota", "doctor"):
        r = baton(command, "--help")
        assert r.returncode == 0 and r.stdout.startswith(f"usage: baton {command}"), command
    assert "--queue-wait" in baton("serve", "--help").stdout
    for args, why in (
        ((), "usage"),
        (("swim",), "unknown command 'swim'"),
        (("serve", "--prot", "1"), "unknown option '--prot'"),
        (("serve", "--port", "70000", "-m", "x"), "--port must be between 0 and 65535"),
        (("serve",), "no model was given"),
        (("run", "-m", MODEL, "--kv-type", "q3"), "--kv-type must be"),
        (("bench", "-m", MODEL), "baton bench model"),
    ):
        r = baton(*args)
        assert r.returncode == 2 and why in r.stderr, (args, r.stderr)
    r = baton("run", "-m", "/no/such.gguf", "-p", "x")
    assert r.returncode == 1 and "/no/such.gguf" in r.stderr and r.stderr.count("\n") == 1


def test_environment_and_file(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps({"model": str(MODEL), "predict": 2, "temp": 0, "quiet": True}))
    out = baton("run", "-p", "Once upon a time", "--config", tmp_path / "b.json").stdout
    assert out == "Once upon a time, there\n"
    out = baton("run", "-p", "Once upon a time", "--config", tmp_path / "b.json", env={"BATON_PREDICT": "3"}).stdout
    assert out == "Once upon a time, there was\n"
    (tmp_path / "b.json").write_text('{"modle": "x"}')
    r = baton("run", "-p", "x", "--config", tmp_path / "b.json")
    assert r.returncode == 2 and "'modle'" in r.stderr


def test_quota_shows_and_edits_through_the_server(server):
    where = ["--url", server.url, "--owner-token-file", server.data / "owner"]
    before = server.complete(key="key-free").json()["baton"]
    r = baton("quota", *where, "-o", "json")
    assert r.returncode == 0, r.stderr
    rows = {x["account"]: x for x in json.loads(r.stdout)}
    account = before["account"]
    assert rows[account]["used_us"] >= before["charged_us"] and rows[account]["limit_us"] == 210e6
    assert account in baton("quota", "show", *where).stdout
    assert baton("quota", "set", account, "0", *where).returncode == 0
    refused = server.complete(key="key-free")
    assert refused.status_code == 429 and refused.headers["x-should-retry"] == "false"
    assert baton("quota", "set", account, "tier", *where).returncode == 0
    assert server.complete(key="key-free").status_code == 200
    assert baton("quota", "reset", account, *where).returncode == 0
    with server.client("key-free") as c:
        assert c.get("/v1/quota").json()["used_us"] == 0
    (server.data / "wrong").write_text("not-the-owner\n")
    r = baton("quota", "--url", server.url, "--owner-token-file", server.data / "wrong")
    assert r.returncode == 1 and "the server says (40" in r.stderr
    r = baton("quota", "--url", "http://127.0.0.1:1", "--owner-token-file", server.data / "owner")
    assert r.returncode == 1 and "is `baton serve` running?" in r.stderr


def test_what_a_spent_account_is_told(server):
    """The limit as it was set, and of a limit of 0 nothing about a window that would change it."""
    where = ["--url", server.url, "--owner-token-file", server.data / "owner"]
    baton("quota", "reset", "key:bob", *where)
    for limit, said in (("0.000001", "has used its 1e-06 s"), ("0.05", "has used its 0.05 s"), ("0", "limit to 0")):
        assert baton("quota", "set", "key:bob", limit, *where).returncode == 0
        for _ in range(200):
            r = server.complete(key="key-free", max_tokens=64, ignore_eos=True)
            if r.status_code == 429:
                break
        message = r.json()["error"]["message"]
        assert r.status_code == 429 and said in message and ("resets" in message) == (limit != "0"), message
    baton("quota", "set", "key:bob", "tier", *where)
    baton("quota", "reset", "key:bob", *where)


def test_quota_of_accounts_that_are_not_there(server):
    """A typing error makes no account; who may come yet can have a limit before."""
    where = ["--url", server.url, "--owner-token-file", server.data / "owner"]
    keys = (server.data / "keys").read_text().splitlines()
    names = [line.split()[1] for line in keys if line[:1] not in ("", "#")]
    listed = lambda: {x["account"] for x in json.loads(baton("quota", *where, "-o", "json").stdout)}
    before = listed()
    for name, why in (
        (names[0], f"did you mean key:{names[0]}?"),
        ("nosuch", "key:NAME"),
        ("a b/../c", "key:NAME"),
        ("ip:::1", "did you mean ip:127.0.0.1?"),
        ("192.0.2.9", "did you mean ip:192.0.2.9?"),
    ):
        for args in (("set", name, "5"), ("set", name, "tier"), ("reset", name)):
            r = baton("quota", *args, *where)
            assert r.returncode == 1 and "the server says (404)" in r.stderr and why in r.stderr, (args, r.stderr)
    assert listed() == before
    for name in ("ip:192.0.2.9", "ip:2001:db8::/64", f"key:{names[-1]}"):
        assert baton("quota", "set", name, "5", *where).returncode == 0
        assert baton("quota", "set", name, "tier", *where).returncode == 0
        assert name in listed()


def test_health_command(server):
    assert baton("doctor", "--health", "--url", server.url).returncode == 0
    assert baton("doctor", "--health", "--url", "http://127.0.0.1:1").returncode == 1


@pytest.mark.parametrize(
    "host, printed, stored",
    [
        ("::1", "[::1]", "[::1]"),
        ("[::1]", "[::1]", "[::1]"),
        ("::", "[::]", "[::1]"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
    ],
)
def test_addresses_of_ipv6_have_brackets(start, host, printed, stored):
    s = start("--host", host, wait=False)
    assert s.listening.wait(20 * SLOW)
    assert f"listening on http://{printed}:{s.port}" in s.lines
    assert (s.data / "server").read_text() == f"http://{stored}:{s.port}\n"
    assert httpx.get(f"http://{stored}:{s.port}/health/live").status_code == 200
    where = ["--data", s.data, "--owner-token-file", s.data / "owner"]
    for given in ([], ["--url", f"http://{stored}:{s.port}"], ["--url", f"http://{stored}:{s.port}/"]):
        r = baton("quota", *where, *given)
        assert r.returncode == 0, r.stderr
