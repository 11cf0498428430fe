#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What does it cost to be there: to start, to answer over HTTP, to keep a thousand waiting?

`start`: from exec of `baton serve` to the first streamed token, and of `baton run` to its first byte.
`front`: wall time of a request of one token, less what the engine says it took.
`crowd`: memory and descriptors of the front process while a thousand streams wait in the queue, and after they left.
`speed`: tokens per second over HTTP beside the same engine in-process (`baton bench batch`), at 1 and 8 streams, alone
and with a hundred more streams waiting in the queue.

    bench/cost.py [start|front|crowd|speed ...] [--program build/baton] [--model M]
"""
import argparse
import json
import multiprocessing
import os
import re
import select
import socket
import subprocess
import threading
import time

import served

# ---- start


def first_token_s(program, model, args):
    """Seconds from exec to the first token received by a client that knocks until the port answers, and to the port."""
    port = served.free_port()
    with served.Served(program, model, args, port=port, wait=False) as server:
        deadline = server.started_s + 60
        while time.perf_counter() < deadline:
            try:
                wire = served.Wire(port)
                break
            except OSError:
                time.sleep(0.001)
        listened = time.perf_counter() - server.started_s
        body = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        raw = b""
        for piece in wire.stream("/v1/completions", body, "key-one"):
            raw += piece
            if b"data: {" in raw:
                break
        took = time.perf_counter() - server.started_s
        wire.close()
        if b" 200 " not in raw.split(b"\r\n", 1)[0]:
            raise RuntimeError(raw.decode())
        return took, listened


def first_byte_s(program, model):
    started = time.perf_counter()
    command = [str(program), "run", "--model", str(model), "-p", "Once upon a time", "-n", "8", "--temp", "0", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=served.ROOT)
    got = os.read(process.stdout.fileno(), 1)
    took = time.perf_counter() - started
    process.stdout.read()
    process.stdout.close()
    if process.wait() or not got:
        raise RuntimeError("`baton run` failed")
    return took


def start(program, model, repeat=10, args=()):
    both = [first_token_s(program, model, args) for _ in range(repeat)]
    return {"serve_s": [b[0] for b in both], "listen_s": [b[1] for b in both],
            "run_s": [first_byte_s(program, model) for _ in range(repeat)]}


def report_start(r):
    print("start: exec to")
    for name, what in (("listen_s", "the port answers"), ("serve_s", "first token over HTTP"),
                       ("run_s", "first byte of `baton run`")):
        v = r[name]
        print(f"  {what:<27} median {served.median(v) * 1e3:7.1f} ms   min {min(v) * 1e3:7.1f}"
              f"   max {max(v) * 1e3:7.1f}")
    print(f"  mark: first token over HTTP <= 150 ms: {served.median(r['serve_s']) * 1e3:.1f} ms")


# ---- front


def front(program, model, n=200, args=()):
    added, walls = [], []
    with served.Served(program, model, args) as server:
        wire = served.Wire(server.port)
        for i in range(n + 10):
            started = time.perf_counter()
            status, answer = wire.ask("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 1}, "key-one")
            wall = time.perf_counter() - started
            if status != 200:
                raise RuntimeError(f"{status} {answer}")
            t = answer["timings"]
            if i >= 10:
                walls.append(wall)
                added.append(wall - (t["prompt_ms"] + t["predicted_ms"]) / 1e3)
        wire.close()
    return {"added_s": added, "wall_s": walls}


def report_front(r):
    print("front: a request of one token, one after the other")
    for name, what in (("wall_s", "whole request"), ("added_s", "less the engine's time")):
        v = r[name]
        print(f"  {what:<24} median {served.median(v) * 1e3:6.3f} ms   p90 {served.percentile(v, .9) * 1e3:6.3f}"
              f"   p99 {served.percentile(v, .99) * 1e3:6.3f}")
    print(f"  mark: what front adds < 1 ms: {served.median(r['added_s']) * 1e3:.3f} ms")


# ---- crowd


class Waiter:
    """A stream of the crowd: what of its answer has come."""

    def __init__(self, port, body, key):
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.sendall(served.request_bytes("/v1/completions", {**body, "stream": True}, key))
        self.sock.setblocking(False)
        self.raw = b""

    def read(self):
        self.raw += self.sock.recv(1 << 16)

    @property
    def waits(self):
        return b"\r\n\r\n" in self.raw and b": queue position=" in self.raw


def read_until(waiters, done, seconds):
    """Reads whatever comes to any of them until done(); False if it took longer."""
    poll, by_fd = select.epoll(), {w.sock.fileno(): w for w in waiters}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        for fd, _ in poll.poll(0.1):
            by_fd[fd].read()
    poll.close()
    return done()


def settle(check, seconds):
    """Waits until check() holds; False if it does not within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))


def hold(port, n):
    """A process of its own, until terminated: n that keep the only slot busy in turn; their class goes first."""
    body = {"prompt": "Once", "max_tokens": 500, "ignore_eos": True}

    def one():
        wire = served.Wire(port)
        while True:
            for _ in wire.stream("/v1/completions", body, "key-holder"):
                pass
    threads = [threading.Thread(target=one, daemon=True) for _ in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def crowd(program, model, n=1000):
    """n streams wait for the only slot. After 20 s a waiter ages past the holders' class; all is seen before that."""
    args = ("--slots", "1", "--queue", str(2 * n))
    accounts = {"holder": {"class": "highest"}, "crowd": {"class": "low", "queue": 2 * n}}
    with served.Served(program, model, args, accounts) as s:
        settle(lambda: s.metrics()["baton_http_connections"] <= 1, 5)
        r = {"n": n, "files_before": s.files(), "rss_before_kib": s.status("VmRSS")}
        holder = multiprocessing.Process(target=hold, args=(s.port, 8), daemon=True)
        holder.start()
        settle(lambda: s.get("/v1/queue")["depth"] >= 6, 10)
        started = time.monotonic()
        body = {"prompt": "Tom and the dog went to the park and played", "max_tokens": 400, "ignore_eos": True}
        waiters = [Waiter(s.port, body, "key-crowd") for _ in range(n)]
        r["all_wait"] = read_until(waiters, lambda: all(w.waits for w in waiters), 18)
        r["all_wait_s"] = time.monotonic() - started
        r["told"] = sum(w.waits for w in waiters)
        r["statuses"] = sorted({w.raw[9:12].decode() for w in waiters})
        r["rss_kib"], r["pss_kib"] = s.status("VmRSS"), pss_kib(s.process.pid)
        r["files"], r["depth"] = s.files(), s.get("/v1/queue")["depth"]
        for w in waiters:
            w.sock.close()
        left = time.monotonic()
        holder.terminate()
        holder.join()
        settle(lambda: s.metrics()["baton_queue_depth"] + s.metrics()["baton_holds_open"] == 0, 30)
        r["empty_s"] = time.monotonic() - left
        settle(lambda: s.files() <= r["files_before"] + 1, 30)
        r["files_back_s"], r["files_after"] = time.monotonic() - left, s.files()
        r["rss_after_kib"], r["peak_kib"] = s.status("VmRSS"), s.status("VmHWM")
        r["holds_open"] = s.metrics()["baton_holds_open"]
    return r


def report_crowd(r):
    before, with_them, pss, peak, after = (
        r[k] / 1024 for k in ("rss_before_kib", "rss_kib", "pss_kib", "peak_kib", "rss_after_kib"))
    print(f"crowd: {r['n']} streams in the queue (statuses {', '.join(r['statuses'])}; {r['told']} have headers and a "
          f"queue comment after {r['all_wait_s']:.1f} s; depth {r['depth']})")
    print(f"  front's memory: VmRSS {before:.1f} MiB before, {with_them:.1f} MiB with them (Pss {pss:.1f}, peak "
          f"{peak:.1f}), {after:.1f} MiB after; {(with_them - before) * 1024 / r['n']:.1f} KiB a stream")
    print(f"  descriptors: {r['files_before']} before, {r['files']} with them, {r['files_after']} after "
          f"(after {r['files_back_s']:.2f} s); queue and books empty after {r['empty_s']:.2f} s; "
          f"holds open {r['holds_open']:.0f}")
    print(f"  mark: peak VmRSS of front < 64 MiB: {peak:.1f} MiB")


# ---- speed


def in_process(program, model, n_prompt, n_gen, streams):
    command = [str(c) for c in (program, "bench", "batch", "-m", model, "-p", n_prompt, "-n", n_gen, "-npl", streams,
                                "-r", 1, "--slots", streams, "-o", "jsonl")]
    line = subprocess.run(command, capture_output=True, text=True, check=True, cwd=served.ROOT).stdout.splitlines()[-1]
    return json.loads(line)["speed_tg"]


def over_http(server, prompt, n_gen, streams, crowd_size=0):
    """Tokens a second from the last stream's first token to the last one's end; the clients only count bytes.
    crowd_size streams of another account join the queue at the first token and stay until the end."""
    first, ends, tokens = [None] * streams, [None] * streams, [0] * streams

    def one(i):
        wire, raw = served.Wire(server.port), []
        body = {"prompt": [p + i for p in prompt], "max_tokens": n_gen + 1, "ignore_eos": True, "temperature": 0,
                "cache_prompt": False}
        for piece in wire.stream("/v1/completions", body, "key-one"):
            if first[i] is None and b"data: {" in piece:
                first[i] = time.perf_counter()
            raw.append(piece)
        ends[i] = time.perf_counter()
        wire.close()
        tokens[i] = served.final_object(b"".join(raw))["timings"]["predicted_n"]
    threads = [threading.Thread(target=one, args=(i,)) for i in range(streams)]
    for t in threads:
        t.start()
    if crowd_size:
        settle(lambda: all(first), 60)
    body = {"prompt": "Tom", "max_tokens": 64, "ignore_eos": True}
    waiters = [Waiter(server.port, body, "key-idle") for _ in range(crowd_size)]
    for t in threads:
        t.join()
    for w in waiters:
        w.sock.close()
    settle(lambda: server.metrics()["baton_leases_active"] == 0, 30)
    return (sum(tokens) - streams) / (max(ends) - max(first))


def speed(program, model, n_prompt=16, n_gen=64, repeat=3, streams=(1, 8)):
    """In turn, so that a neighbour's load falls on all alike."""
    prompt, rows = list(range(100, 100 + n_prompt)), []
    accounts = {"one": {"class": "highest", "slots": 8}, "idle": {"class": "low"}}
    for n in streams:
        row = {"streams": n, "in_process": [], "http": [], "http_crowd": []}
        with served.Served(program, model, ("--slots", n), accounts) as server:
            over_http(server, prompt, 8, n)
            for _ in range(repeat):
                row["in_process"].append(in_process(program, model, n_prompt, n_gen, n))
                row["http"].append(over_http(server, prompt, n_gen, n))
                row["http_crowd"].append(over_http(server, prompt, n_gen, n, 100))
        rows.append(row)
    return {"rows": rows}


def report_speed(r):
    print("speed: tokens/s, medians, and the median ratio of neighbouring runs; mark: over HTTP >= 0.9 x in-process")
    for row in r["rows"]:
        a, b, c = (row[k] for k in ("in_process", "http", "http_crowd"))
        ratio = [served.median([x / y for x, y in zip(k, a)]) for k in (b, c)]
        print(f"  {row['streams']} streams: in-process {served.median(a):.1f}, over HTTP {served.median(b):.1f} "
              f"({ratio[0]:.2f} x), with 100 more streams in the queue {served.median(c):.1f} ({ratio[1]:.2f} x)")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", nargs="*", help="start, front, crowd, speed; all if none is named")
    p.add_argument("--program", default=served.ROOT / "build" / "baton")
    p.add_argument("--model", default=served.MODEL)
    p.add_argument("--repeat", type=int, default=0, help="runs (start: 10, speed: 3)")
    p.add_argument("-n", type=int, default=1000, help="crowd: streams")
    p.add_argument("--gen", type=int, default=64, help="speed: tokens of an answer")
    a = p.parse_args()
    for what in a.what or ["start", "front", "crowd", "speed"]:
        if what == "start":
            report_start(start(a.program, a.model, a.repeat or 10))
        elif what == "front":
            report_front(front(a.program, a.model))
        elif what == "crowd":
            report_crowd(crowd(a.program, a.model, a.n))
        elif what == "speed":
            report_speed(speed(a.program, a.model, n_gen=a.gen, repeat=a.repeat or 3))
        else:
            p.error(f"there is no '{what}'; say start, front, crowd or speed")


if __name__ == "__main__":
    main()
