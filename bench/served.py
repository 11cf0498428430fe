# SPDX-License-Identifier: Apache-2.0
"""A `baton serve` of a bench's own on a free port, and a client over plain sockets that costs next to nothing."""
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "stories260K.gguf"
OWNER = "owner-of-the-bench"
TIER = {"gpu_seconds": 1e6, "class": "medium", "weight": 1, "lease_max_s": 600, "slots": 4, "queue": 4096}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def median(values):
    return statistics.median(values) if values else float("nan")


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))] if values else float("nan")


def request_bytes(path, body=None, key=None):
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: bench\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    data = b"" if body is None else json.dumps(body).encode()
    if data:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


class Wire:
    """One keep-alive connection, one request at a time."""

    def __init__(self, port, timeout=120):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.sock.close()

    def ask(self, path, body=None, key=None):
        """(status, parsed or raw body) of an answer with a Content-Length."""
        self.sock.sendall(request_bytes(path, body, key))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some()
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head).group(1))
        while len(rest) < length:
            rest += self._some()
        try:
            return int(head[9:12]), json.loads(rest)
        except ValueError:
            return int(head[9:12]), rest.decode()

    def stream(self, path, body, key=None):
        """Sends a streamed request; yields pieces of the raw answer until its end."""
        self.sock.sendall(request_bytes(path, {**body, "stream": True}, key))
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            piece = self._some()
            tail = (tail + piece)[-7:]
            yield piece

    def _some(self):
        piece = self.sock.recv(1 << 16)
        if not piece:
            raise ConnectionError("the server closed the connection")
        return piece


def final_object(raw):
    """The chunk of a raw streamed answer that carries `baton`; None if there is none."""
    found = None
    for line in raw.split(b"\n"):
        if line.startswith(b"data: {") and b'"baton"' in line:
            found = json.loads(line[6:])
    return found


class Served:
    """Use as a context manager. accounts: names, each with a key `key-NAME`; as a dict, with what its tier has of its
    own (TIER has the rest)."""

    def __init__(self, program, model=MODEL, args=(), accounts=("one",), port=0, wait=True):
        self.folder = tempfile.TemporaryDirectory(prefix="baton-bench-")
        data = pathlib.Path(self.folder.name)
        own = dict(accounts) if isinstance(accounts, dict) else dict.fromkeys(accounts, {})
        distinct = [t for i, t in enumerate(own.values()) if t not in list(own.values())[:i]]
        tiers = {f"tier{i}": {**TIER, **t} for i, t in enumerate(distinct)}
        keys = "".join(f"key-{name} {name} tier{distinct.index(t)}\n" for name, t in own.items())
        for name, text in (("keys", keys), ("owner", OWNER + "\n"), ("tiers.json", json.dumps(tiers))):
            (data / name).write_text(text)
            (data / name).chmod(0o600)
        self.command = [str(c) for c in (
            program, "serve", "--model", model, "--host", "127.0.0.1", "--port", port, "--data", data,
            "--api-keys", data / "keys", "--tiers", data / "tiers.json", "--default-tier", "tier0",
            "--owner-token-file", data / "owner", *args)]
        self.port, self.log = port or None, []
        self.listening = threading.Event()
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        threading.Thread(target=self._read, daemon=True).start()
        if wait:
            self.wait_ready()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            found = re.match(r"listening on http://\S+:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.listening.set()
        self.listening.set()

    def wait_ready(self, seconds=120):
        if not self.listening.wait(seconds) or not self.port:
            raise RuntimeError("does not listen:\n" + "\n".join(self.log))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            wire = Wire(self.port)
            status, _ = wire.ask("/health")
            wire.close()
            if status == 200:
                return
            time.sleep(0.01)
        raise RuntimeError("does not become ready:\n" + "\n".join(self.log))

    def get(self, path, key=OWNER):
        wire = Wire(self.port)
        try:
            return wire.ask(path, key=key)[1]
        finally:
            wire.close()

    def metrics(self):
        found = re.findall(r"^(baton_\S+(?:\{[^}]*\})?) ([-+.\deE]+)$", self.get("/metrics"), re.M)
        return {name: float(value) for name, value in found}

    def status(self, field):
        """A line of the front process's /proc/PID/status, as a number (KiB for memory)."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1))

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
