#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attacks at full strength beside a pro key and the owner: what do these two notice?

    bench/attacks.py [--seconds 30] [--only NAME ...] [--model M] [--csv FILE]

For each attack a server of its own: measured alone, under the attack, and until all is as before. Attackers run in
processes of their own that run where nobody else wants a core; what measures is one thread over plain sockets, each
request on a new connection. The row `burner` is no attack: two busy loops of the attackers' priority beside an idle
server, so it shows what this machine's own scheduling costs. Exits 1 if a mark is missed: no refusal, time to first
token p99 at most twice that alone and a step, /health p99 at most 10 ms, all as before within 5 s."""
import argparse
import csv
import json
import multiprocessing
import os
import pathlib
import re
import resource
import select
import socket
import sys
import time

import served

BODY = 8 << 20
HEALTH_MS, BACK_S = 10, 5
ACCOUNTS = {  # as the preset `guide`; the first is for those without a key
    "nobody": {"gpu_seconds": 120, "class": "low", "lease_max_s": 60, "slots": 1, "queue": 2},
    "spent": {"gpu_seconds": 0.001, "class": "low", "lease_max_s": 60, "slots": 2, "queue": 4},
    "pro": {"gpu_seconds": 1500, "class": "highest", "weight": 4, "lease_max_s": 120, "slots": 4, "queue": 16},
}


def connect(port, source="127.0.0.1", timeout=30):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(timeout)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def head(path, length, *more, method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: attack", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


# ---- what attacks: each runs until it is killed


def crowd(port, part, visitors=800):
    """Streams of anonymous visitors, an address each; who is refused or served asks again."""
    wish = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "stream": True}
    body = json.dumps(wish).encode()
    request = head("/v1/completions", len(body), "Content-Type: application/json") + body
    poll, socks, due = select.epoll(), {}, [(0, i) for i in range(visitors)]
    while True:
        while due and due[0][0] <= time.monotonic():
            i = due.pop(0)[1]
            try:
                sock = connect(port, f"127.{1 + part}.{i // 250}.{1 + i % 250}")
                sock.sendall(request)
                sock.setblocking(False)
            except OSError:
                due.append((time.monotonic() + 0.2, i))
                continue
            poll.register(sock, select.EPOLLIN)
            socks[sock.fileno()] = sock, i
        for fd, _ in poll.poll(0.02):
            sock, i = socks[fd]
            try:
                data = sock.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data and b" 429 " not in data[:20] and b" 503 " not in data[:20] and not data.endswith(b"0\r\n\r\n"):
                continue
            poll.unregister(sock)
            del socks[fd]
            sock.close()
            due.append((time.monotonic() + 0.2, i))


def holders(port, part, path, method, count=16, trickle=8):
    """Connections that hold a body which lacks its last byte, and some whose body comes a byte at a time."""
    held, slow = [], []
    while True:
        for list_, wanted, size in ((held, count, BODY - 1), (slow, trickle, 1)):
            while len(list_) < wanted:
                try:
                    sock = connect(port, f"127.{9 + part}.0.{1 + len(list_) % 8}", 5)
                    sock.sendall(head(path, BODY, method=method))
                    sock.sendall(b" " * size)
                except OSError:
                    pass
                list_.append(sock)
        for sock in list(slow):
            try:
                sock.send(b" ")
            except OSError:
                slow.remove(sock)
        gone = select.select(held + slow, [], [], 0.1)[0]  # an answer or an end: once more
        for sock in gone:
            sock.close()
            (held if sock in held else slow).remove(sock)


def texts(port, part, path, key, hang_up):
    """Bodies of 8 MB that are much work, one after another; with hang-ups after 50 ms."""
    if path == "/tokenize":
        body = json.dumps({"content": ["a"] * 1_600_000}, separators=(",", ":")).encode()
    else:
        body = json.dumps({"prompt": "Once upon a time " * (BODY // 18), "max_tokens": 1}).encode()
    request = head(path, len(body), "Content-Type: application/json", *key) + body
    while True:
        try:
            sock = connect(port, f"127.{20 + part}.0.1")
            sock.sendall(request)
            if hang_up:
                time.sleep(0.05)
            else:
                sock.recv(4096)
            sock.close()
        except OSError:
            pass


def connections(port, part, count=4096):
    """As many connections from one address as can be had, every other one with half a head; who ends comes again."""
    held = {}
    poll = select.epoll()
    while True:
        for _ in range(min(256, count - len(held))):
            try:
                sock = connect(port, "127.30.0.1", 1)
                if len(held) % 2:
                    sock.sendall(b"GET /health HTTP/1.1\r\nHost: ")
            except OSError:
                break
            held[sock.fileno()] = sock
            poll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)
        for fd, _ in poll.poll(0.01):
            poll.unregister(fd)
            held.pop(fd).close()


def burner(port, part):
    while True:
        pass


SPENT = ("Authorization: Bearer key-spent",)
ATTACKS = {  # name -> (arguments of the server, attackers)
    "burner": ((), [(burner,), (burner,)]),
    "queue": (("--queue", 1024), [(crowd,), (crowd,)]),
    "bodies": ((), [(holders, "/v1/completions", "POST")]),
    "bodies-key": (("--require-key",), [(holders, "/v1/completions", "POST")]),
    "bodies-get": ((), [(holders, "/health", "GET")]),
    "text": ((), [(texts, "/tokenize", (), False), (texts, "/tokenize", (), True),
                  (texts, "/v1/completions", SPENT, False), (texts, "/v1/completions", SPENT, True)]),
    "connections": ((), [(connections,)]),
}


def attacker(function, port, part, args):
    # Strangers have machines of their own: they run where nobody else wants a core. Where the kernel shares cores out
    # by sessions first, a class counts only within its own, so the session too is the last.
    os.setsid()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.path.exists("/proc/self/autogroup"):
        pathlib.Path("/proc/self/autogroup").write_text("19")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    function(port, part, *args)


# ---- what measures


class Seen:
    """Times in ms, and what was refused."""

    def __init__(self):
        self.first, self.health, self.metrics, self.refused = {"pro": [], "owner": []}, [], [], []
        self.most = dict.fromkeys(("baton_queue_depth", "baton_http_connections"), 0)  # that the attack is there

    def one(self, port, who, key):
        body = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "stream": True}
        begun, data, sock = time.perf_counter(), b"", None
        try:
            sock = connect(port, "127.0.0.9")
            sock.sendall(served.request_bytes("/v1/completions", body, key))
            while b"data: " not in data:
                more = sock.recv(1 << 16)
                if not more or (data + more)[9:12] != b"200":
                    raise ConnectionError((data + more)[:300])
                data += more
            self.first[who].append(1000 * (time.perf_counter() - begun))
            while not data.endswith(b"0\r\n\r\n"):
                more = sock.recv(1 << 16)
                if not more:
                    raise ConnectionError("cut off")
                data += more
            if b'"error"' in data:
                raise ConnectionError(data[-300:])
        except OSError as e:
            self.refused.append(f"{who}: {e}")
        finally:
            if sock:
                sock.close()

    def get(self, port, path, times):
        begun, sock = time.perf_counter(), None
        try:
            sock = connect(port, "127.0.0.9")
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n".encode())
            data = sock.recv(1 << 16)
            times.append(1000 * (time.perf_counter() - begun))
            if not data.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"{path} {data[:200]}")
            while path == "/metrics" and (more := sock.recv(1 << 16)):
                data += more
            for name, value in re.findall(r"^(\w+) ([\d.]+)$", data.decode(), re.M):
                if name in self.most:
                    self.most[name] = max(self.most[name], int(float(value)))
        except OSError as e:
            self.refused.append(f"{path}: {e}")
        finally:
            if sock:
                sock.close()

    def round(self, port):
        for who, key in (("pro", "key-pro"), ("owner", served.OWNER)):
            self.one(port, who, key)
            for _ in range(3):
                self.get(port, "/health", self.health)
            self.get(port, "/metrics", self.metrics)
        time.sleep(0.02)

    def firsts(self):
        return self.first["pro"] + self.first["owner"]


def measure(port, seconds):
    seen, until = Seen(), time.monotonic() + seconds
    while time.monotonic() < until:
        seen.round(port)
    return seen


def until_as_before(s, alone):
    """Seconds until five rounds in a row are as they were alone and nothing of the attack is left; at most 30."""
    begun, good, since = time.monotonic(), 0, None
    limit = 2 * served.percentile(alone.firsts(), 0.99)
    while good < 5 and time.monotonic() - begun < 30:
        seen = Seen()
        seen.round(s.port)
        left = s.metrics()
        calm = not seen.refused and max(seen.firsts()) <= limit and max(seen.health) <= HEALTH_MS
        calm = calm and left["baton_queue_depth"] == 0 and left["baton_http_connections"] < 16
        since = since or time.monotonic() if calm else None
        good = good + 1 if calm else 0
    return since - begun if good == 5 else float("inf")


def run(program, model, name, seconds):
    args, attackers = ATTACKS[name]
    with served.Served(program, model, args, accounts=ACCOUNTS) as s:
        wire = served.Wire(s.port)
        wire.ask("/v1/accounts/key:spent", {"limit_us": 0}, served.OWNER)
        wire.close()
        measure(s.port, 1)
        alone = measure(s.port, max(3, seconds / 3))
        m = s.metrics()
        step_ms = m["baton_step_microseconds_total"] / max(1, m["baton_steps_total"]) / 1000
        fork = multiprocessing.get_context("fork")
        crew = [fork.Process(target=attacker, args=(a[0], s.port, i, a[1:]), daemon=True)
                for i, a in enumerate(attackers)]
        for p in crew:
            p.start()
        time.sleep(1)  # let it come to strength
        under = measure(s.port, seconds)
        for p in crew:
            p.kill()
            p.join()
        back_s = until_as_before(s, alone)
        alive = s.process.poll() is None
    p = served.percentile
    row = {"attack": name, "refused": len(under.refused) + (not alive), "requests": len(under.firsts()),
           "alone_p50": p(alone.firsts(), 0.5), "alone_p99": p(alone.firsts(), 0.99), "step": step_ms,
           "pro_p50": p(under.first["pro"], 0.5), "pro_p99": p(under.first["pro"], 0.99),
           "owner_p50": p(under.first["owner"], 0.5), "owner_p99": p(under.first["owner"], 0.99),
           "health_p50": p(under.health, 0.5), "health_p99": p(under.health, 0.99),
           "metrics_p99": p(under.metrics, 0.99), "depth": under.most["baton_queue_depth"],
           "conns": under.most["baton_http_connections"], "back_s": back_s}
    most = 2 * row["alone_p99"] + step_ms
    row["missed"] = " ".join(mark for mark, bad in (
        ("refused", row["refused"] > 0),
        ("first", not max(row["pro_p99"], row["owner_p99"]) <= most),
        ("health", not row["health_p99"] <= HEALTH_MS),
        ("back", not back_s <= BACK_S)) if bad)
    return row, under.refused[:3]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=served.ROOT / "build" / "baton")
    parser.add_argument("--model", default=served.MODEL)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--csv")
    o = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    rows = []
    for name in o.only:
        row, refused = run(o.program, o.model, name, o.seconds)
        if not rows:
            print(" ".join(f"{key:>11}" for key in row))
        rows.append(row)
        print(" ".join(f"{v:11.2f}" if isinstance(v, float) else f"{v:>11}" for v in row.values()), flush=True)
        for line in refused:
            print(f"    {line}")
    if o.csv:
        with open(o.csv, "w", newline="") as f:
            writer = csv.DictWriter(f, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return any(row["missed"] for row in rows if row["attack"] != "burner")


if __name__ == "__main__":
    sys.exit(main())
