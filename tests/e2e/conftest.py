# SPDX-License-Identifier: Apache-2.0
"""A real server on a free port with a data directory of its own, and what tests need to poke at it."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # bench/storm.py
BIN = ROOT / os.environ.get("BATON_BIN", "build/baton")
MODEL = ROOT / "models" / "stories260K.gguf"
OWNER = "owner-secret-for-tests"
SLOW = 5 if "san" in str(BIN) or "emu" in str(BIN) else 1  # sanitizers slow everything down

KEYS = """\
# KEY ACCOUNT TIER
key-pro alice pro
key-free bob free
key-tiny carol tiny
key-slow dave slow
"""
TIERS = {
    "anonymous": {
        "gpu_seconds": 120,
        "class": "low",
        "weight": 1,
        "lease_max_s": 60,
        "slots": 4,
        "queue": 64,
    },
    "free": {"gpu_seconds": 210, "class": "medium", "weight": 1, "lease_max_s": 60, "slots": 4, "queue": 64},
    "pro": {
        "gpu_seconds": 1500,
        "class": "highest",
        "weight": 1,
        "lease_max_s": 120,
        "slots": 8,
        "queue": 512,
    },
    "tiny": {"gpu_seconds": 0.05, "class": "medium", "weight": 1, "lease_max_s": 60, "slots": 4, "queue": 64},
    "slow": {"gpu_seconds": 600, "class": "medium", "weight": 1, "lease_max_s": 1, "slots": 8, "queue": 512},
}


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: storms and kill loops; release build only")
    config.addinivalue_line("markers", "timing: asserts on time; release build only")


class Server:
    """One `baton serve`. `log` holds its stderr. wrap: a command that runs it."""

    def __init__(
        self,
        data,
        args=(),
        env=None,
        keys=KEYS,
        tiers=TIERS,
        model=MODEL,
        port=0,
        wait=True,
        wrap=(),
        pass_fds=(),
        owner_file=True,
    ):
        self.data = pathlib.Path(data)
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "keys").write_text(keys)
        (self.data / "keys").chmod(0o600)
        (self.data / "tiers.json").write_text(json.dumps(tiers))
        (self.data / "owner").write_text(OWNER + "\n")
        (self.data / "owner").chmod(0o600)
        command = [
            *wrap,
            BIN,
            "serve",
            "--model",
            model,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--data",
            self.data,
            "--api-keys",
            self.data / "keys",
            "--tiers",
            self.data / "tiers.json",
            *(("--owner-token-file", self.data / "owner") if owner_file else ()),
            *args,
        ]
        self.lines, self.port, self.scraper = [], None, None
        self.listening, self.ready = threading.Event(), threading.Event()
        self.process = subprocess.Popen(
            [str(c) for c in command],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
        )
        threading.Thread(target=self._read, daemon=True).start()
        if wait:
            self.wait_ready()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            found = re.match(r"listening on http://\S+:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.listening.set()
            if "engine.ready" in line:
                self.ready.set()
        self.listening.set()

    @property
    def log(self):
        return "\n".join(self.lines)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, seconds=20):
        assert self.listening.wait(seconds * SLOW) and self.port, f"does not listen:\n{self.log}"
        deadline = time.time() + seconds * SLOW
        while time.time() < deadline:
            try:
                if httpx.get(self.url + "/health", timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, f"ended early:\n{self.log}"
            time.sleep(0.02)
        raise AssertionError(f"not ready:\n{self.log}")

    def client(self, key="key-pro", **kw):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=kw.pop("timeout", 60 * SLOW), **kw)

    def complete(self, prompt="Once upon a time", key="key-pro", **body):
        with self.client(key) as c:
            return c.post(
                "/v1/completions", json={"prompt": prompt, "max_tokens": 16, "temperature": 0, **body}
            )

    def metrics(self):
        if not self.scraper:  # one connection: a new client costs more than the scrape
            self.scraper = httpx.Client(base_url=self.url, timeout=20 * SLOW)
        text = self.scraper.get("/metrics").text
        return {
            m[0]: float(m[1]) for m in re.findall(r"^(baton_\S+(?:\{[^}]*\})?) ([-+.\deE]+)$", text, re.M)
        }

    def children(self):
        out = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout
        return [int(p) for p in out.split()]

    def engine_pid(self):
        pids = self.children()
        assert len(pids) == 1, f"engines: {pids}\n{self.log}"
        return pids[0]

    def wait_idle(self, seconds=30):
        deadline = time.time() + seconds * SLOW
        while time.time() < deadline:
            m = self.metrics()
            if m["baton_queue_depth"] == 0 and m["baton_leases_active"] == 0 and m["baton_holds_open"] == 0:
                return m
            time.sleep(0.05)
        raise AssertionError(f"does not become idle: {m}\n{self.log[-3000:]}")

    def stop(self, sig=signal.SIGTERM, seconds=30):
        if self.scraper:
            self.scraper.close()
            self.scraper = None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"does not stop:\n{self.log[-3000:]}")

    def ended(self, finish):
        return self.metrics()[f'baton_requests_total{{finish="{finish}"}}']

    def wait_for(self, done, seconds=10, what="it"):
        """Polls until done(metrics) holds; the metrics then."""
        deadline = time.time() + seconds * SLOW
        while time.time() < deadline:
            m = self.metrics()
            if done(m):
                return m
            time.sleep(0.01)
        raise AssertionError(f"{what} did not happen: {m}\n{self.log[-3000:]}")

    def books(self):
        return Books(self.data)


class Books:
    """What the ledger on disk says, read from a copy: the server, if it lives, has the file to itself."""

    POST, VOID, HOUSE, BUSY, ADJUST = 1, 2, 3, 4, 5

    def __init__(self, data):
        with tempfile.TemporaryDirectory() as tmp:
            for name in ("ledger.db", "ledger.db-wal", "ledger.db-journal"):
                if (data / name).exists():
                    shutil.copy(data / name, tmp)
            db = sqlite3.connect(pathlib.Path(tmp) / "ledger.db")
            self.device = dict(db.execute("SELECT kind, sum(device_us) FROM entries GROUP BY kind"))
            self.charged = db.execute(
                "SELECT coalesce(sum(charged_us), 0) FROM entries WHERE kind = 1"
            ).fetchone()[0]
            self.sums = dict(db.execute("SELECT kind, device_us FROM sums"))
            self.boots = db.execute(
                "SELECT coalesce(sum(busy_us), 0), coalesce(sum(house_us), 0) FROM boots"
            ).fetchone()
            self.holds = db.execute("SELECT request, boot FROM holds").fetchall()
            self.held = db.execute("SELECT coalesce(sum(held_us), 0) FROM windows").fetchone()[0]
            self.windows = db.execute(
                "SELECT a.name, a.tier_limit_us, w.used_us, (SELECT coalesce(sum(e.charged_us), 0) FROM entries e "
                "WHERE e.window = w.id) FROM windows w JOIN accounts a ON a.id = w.account"
            ).fetchall()
            self.of = {
                r: (kind, device, charged, account)
                for r, kind, device, charged, account in db.execute(
                    "SELECT e.request, e.kind, e.device_us, e.charged_us, a.name FROM entries e JOIN accounts a "
                    "ON a.id = e.account WHERE e.request IS NOT NULL"
                )
            }
            db.close()

    @property
    def accounts_us(self):
        return self.device.get(self.POST, 0)

    @property
    def house_us(self):
        return self.device.get(self.HOUSE, 0)

    @property
    def busy_us(self):
        return self.device.get(self.BUSY, 0)

    def check(self):
        """What must hold of a stopped server, to the microsecond."""
        assert self.accounts_us + self.house_us == self.busy_us
        assert {k: v for k, v in self.sums.items() if v} == {k: v for k, v in self.device.items() if v}
        assert self.boots == (self.busy_us, self.house_us)
        assert self.holds == [] and self.held == 0
        for name, _, used, entries in self.windows:
            assert used == entries, name
        return self


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_parse(source):
    """Of a GGUF file's bytes: [(key, kind, value's bytes)], the tensor table's bytes, where its data begins."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def string_end(at):
        return at + 8 + struct.unpack_from("<Q", source, at)[0]

    def value_end(kind, at):
        if kind == 8:
            return string_end(at)
        if kind != 9:
            return at + sizes[kind]
        kind, count = struct.unpack_from("<IQ", source, at)
        at += 12
        for _ in range(count):
            at = value_end(kind, at)
        return at

    at, keys = 24, []
    tensors, count = struct.unpack_from("<QQ", source, 8)
    for _ in range(count):
        start, at = at + 8, string_end(at)
        kind = struct.unpack_from("<I", source, at)[0]
        end = value_end(kind, at + 4)
        keys.append((source[start:at].decode(), kind, source[at + 4 : end]))
        at = end
    start = at
    for _ in range(tensors):
        at = string_end(at)
        at += 4 + 8 * struct.unpack_from("<I", source, at)[0] + 12
    return keys, source[start:at], (at + 31) // 32 * 32


def gguf_head(keys, tensors):
    """The head of a GGUF file up to the tensor table."""
    body = b"".join(gguf_string(key) + struct.pack("<I", kind) + value for key, kind, value in keys)
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys)) + body


CONTROL = {510: "<|im_start|>", 511: "<|im_end|>"}


def with_template(path, template, *, control=CONTROL, kinds=3, **named):
    """The bundled model with a chat template (and named ones), and two of its tokens renamed to control tokens."""
    source = MODEL.read_bytes()
    keys, table, data = gguf_parse(source)
    for i, (key, kind, value) in enumerate(keys):
        if key == "tokenizer.ggml.tokens":
            pieces, at = [], 12
            while at < len(value):
                n = struct.unpack_from("<Q", value, at)[0]
                pieces.append(value[at + 8 : at + 8 + n].decode())
                at += 8 + n
            for token, name in control.items():
                pieces[token] = name
            keys[i] = (key, kind, value[:12] + b"".join(map(gguf_string, pieces)))
        if key == "tokenizer.ggml.token_type":
            types = list(struct.unpack(f"<{(len(value) - 12) // 4}i", value[12:]))
            for token in control:
                types[token] = kinds
            keys[i] = (key, kind, value[:12] + struct.pack(f"<{len(types)}i", *types))
    keys.append(("tokenizer.chat_template", 8, gguf_string(template)))
    keys += [(f"tokenizer.chat_template.{name}", 8, gguf_string(text)) for name, text in named.items()]
    head = gguf_head(keys, struct.unpack_from("<Q", source, 8)[0]) + table
    path.write_bytes(head + bytes(-len(head) % 32) + source[data:])
    return path


def zero_model(path, layers, width, hidden):
    """A model of any size, all zeros and sparse on disk: as slow as one likes. Keys and vocabulary are the small one's;
    each token is as likely as another."""
    wanted = {
        "llama.embedding_length": width,
        "llama.feed_forward_length": hidden,
        "llama.block_count": layers,
        "llama.attention.head_count": 16,
        "llama.attention.head_count_kv": 16,
        "llama.rope.dimension_count": width // 16,
    }
    keys = [
        (key, kind, struct.pack("<I", wanted[key]) if key in wanted else value)
        for key, kind, value in gguf_parse(MODEL.read_bytes())[0]
    ]
    vocab = 512
    tensors = [
        ("token_embd.weight", (width, vocab)),
        ("output_norm.weight", (width,)),
        ("output.weight", (width, vocab)),
    ]
    for i in range(layers):
        tensors += [
            (f"blk.{i}.{name}.weight", dims)
            for name, dims in (
                ("attn_norm", (width,)),
                ("ffn_norm", (width,)),
                ("attn_q", (width, width)),
                ("attn_k", (width, width)),
                ("attn_v", (width, width)),
                ("attn_output", (width, width)),
                ("ffn_gate", (width, hidden)),
                ("ffn_up", (width, hidden)),
                ("ffn_down", (hidden, width)),
            )
        ]
    out = bytearray(gguf_head(keys, len(tensors)))
    offset = 0
    for name, dims in tensors:
        out += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        out += struct.pack("<IQ", 0, offset)
        bytes_ = 4
        for d in dims:
            bytes_ *= d
        offset += (bytes_ + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(out)
        f.truncate((len(out) + 31) // 32 * 32 + offset)
    return path


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    """13 M parameters: steps of milliseconds, answers of seconds, so that a test can act in the middle of them."""
    return zero_model(tmp_path_factory.mktemp("model") / "slow.gguf", 4, 512, 1408)


@pytest.fixture
def start(tmp_path):
    servers = []

    def start_one(*args, data=None, **kw):
        servers.append(Server(data or tmp_path / f"data{len(servers)}", args, **kw))
        return servers[-1]

    yield start_one
    for s in servers:
        if s.process.poll() is None:
            s.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("data"))
    yield s
    code = s.stop()
    assert code == 0, s.log[-3000:]
    assert (
        "AddressSanitizer" not in s.log and "ThreadSanitizer" not in s.log and "runtime error" not in s.log
    ), s.log


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sse(response):
    """Yields (comment, data) pairs of a streamed answer."""
    for line in response.iter_lines():
        if line.startswith(": "):
            yield line[2:], None
        elif line.startswith("data: "):
            yield None, line[6:]
