#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A storm of mixed requests: what do many users see at once?

Streaming and not, chat and completions, n > 1, short and long, several keys, and clients that hang up at any moment.
The client speaks HTTP over plain asyncio sockets, so that a hang-up is a close() at a chosen instant and a broken
answer is seen as it came. Everything random comes from one seed.

    bench/storm.py --url http://127.0.0.1:7860 -n 2000 -c 64 [--key KEY ...] [--hangups 0.2] [--seed 1]
"""

import argparse
import asyncio
import collections
import dataclasses
import json
import random
import time
import urllib.parse

WORDS = (
    "once upon a time there was little girl named Lily she loved to play outside in the park with her dog Tim "
    "one day they saw big red ball under old tree and mom said be kind happy sad rain sun"
).split()


@dataclasses.dataclass
class Job:
    """One request to make. hang_s, hang_bytes: close after so many seconds or bytes of answer; None: stay."""

    path: str
    body: dict
    key: str = ""
    hang_s: float = None
    hang_bytes: int = None

    @property
    def streams(self):
        return bool(self.body.get("stream"))


@dataclasses.dataclass
class Outcome:
    """What the client saw."""

    job: Job
    status: int = 0  # 0: no status line came
    request_id: str = ""
    headers: dict = dataclasses.field(default_factory=dict)
    chunks: int = 0  # stream: chunks that carry a choice
    comments: int = 0
    done: bool = False  # stream: [DONE] came; else the whole body came
    whole: bool = False  # the answer ended as HTTP says it must
    hung_up: bool = False  # by us
    books: dict = None  # the "baton" object of the answer's end
    error: dict = None  # the error object, of a status >= 400 or inside a stream
    finish: list = dataclasses.field(default_factory=list)
    first_s: float = None  # to the first byte of the body
    total_s: float = 0

    @property
    def kind(self):
        if self.hung_up:
            return "hung up"
        if self.status == 0:
            return "no answer"
        if self.error:
            return f"{self.status} {self.error.get('code')}"
        if self.books:
            return self.books["finish_detail"]
        return "broken"


def words(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def make_job(rng, keys, hangups=0.2, long=0.04, leases=(None, None, None, 0.1, 0.2, 5)):
    """One random request. keys: [(key, weight)]; long: share of requests that want all the context has."""
    body = {
        "temperature": rng.choice([0, 0, 0.8, 1.2]),
        "seed": rng.randrange(1 << 30),
        "n": rng.choice([1, 1, 1, 1, 1, 2, 4]),
        "stream": rng.random() < 0.5,
    }
    body["max_tokens"] = rng.choice([1, 2, 4, 8, 12, 16, 32])
    if rng.random() < long:
        body.update(max_tokens=rng.choice([200, 480]), ignore_eos=True)
    lease = rng.choice(leases)
    if lease:
        body["lease_seconds"] = lease
    if body["stream"] and rng.random() < 0.5:
        body["stream_options"] = {"include_usage": True}
    prompt = words(rng, rng.choice([1, 3, 5, 10, 20, 40, 200]))
    if rng.random() < 0.4:
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        path = "/v1/completions"
        body["prompt"] = prompt
    names, weights = zip(*keys)
    job = Job(path, body, rng.choices(names, weights)[0])
    if rng.random() < hangups:
        if job.streams and rng.random() < 0.5:
            job.hang_bytes = rng.choice([1, 400, 2000, 8000])
        else:
            job.hang_s = rng.choice([0, 0.001, 0.01, 0.05, 0.2]) * rng.random()
    return job


def request_bytes(job, host):
    body = json.dumps(job.body).encode()
    auth = f"Authorization: Bearer {job.key}\r\n" if job.key else ""
    return (
        f"POST {job.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{auth}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


def dechunk(data):
    """The bytes of a chunked body, and whether its end came."""
    out, at = [], 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return b"".join(out), False
        size = int(data[at:line].split(b";")[0], 16)
        if size == 0:
            return b"".join(out), True
        out.append(data[line + 2 : line + 2 + size])
        if len(out[-1]) < size:
            return b"".join(out), False
        at = line + 2 + size + 2


def read_stream(o, body):
    """Whole events only: a cut one ends without its empty line."""
    for line in body.decode("utf-8", "replace").rpartition("\n\n")[0].split("\n"):
        if line.startswith(": "):
            o.comments += 1
        elif line == "data: [DONE]":
            o.done = True
        elif line.startswith("data: "):
            chunk = json.loads(line[6:])
            o.error = chunk.get("error", o.error)
            o.books = chunk.get("baton", o.books)
            choices = chunk.get("choices", [])
            o.chunks += len(choices)
            o.finish += [c["finish_reason"] for c in choices if c["finish_reason"]]


def read_answer(o, data):
    head, sep, body = data.partition(b"\r\n\r\n")
    if not sep:
        return
    lines = head.decode("latin-1").split("\r\n")
    o.status = int(lines[0].split()[1])
    o.headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
    o.request_id = o.headers.get("x-request-id", "")
    if o.headers.get("transfer-encoding") == "chunked":
        body, o.whole = dechunk(body)
    else:
        o.whole = len(body) == int(o.headers.get("content-length", -1))
    if o.headers.get("content-type", "").startswith("text/event-stream"):
        read_stream(o, body)
    elif o.whole and body:
        answer = json.loads(body)
        o.done = True
        o.error, o.books = answer.get("error"), answer.get("baton")
        o.finish = [c["finish_reason"] for c in answer.get("choices", [])]


async def read_bytes(o, reader, started, data):
    """Reads to the end, or until the client of this job has had enough."""
    job = o.job
    while True:
        part = await reader.read(1 << 16)
        if not part:
            return
        data += part
        if o.first_s is None:
            o.first_s = time.monotonic() - started
        if job.hang_bytes is not None and len(data) >= job.hang_bytes:
            o.hung_up = True
            return


async def run_job(host, port, job, timeout=120):
    """Makes the request; an Outcome in any case."""
    o, data, started, writer = Outcome(job), bytearray(), time.monotonic(), None
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
        writer.write(request_bytes(job, f"{host}:{port}"))
        await writer.drain()
        limit = timeout if job.hang_s is None else job.hang_s
        await asyncio.wait_for(read_bytes(o, reader, started, data), limit)
    except asyncio.TimeoutError:
        o.hung_up = job.hang_s is not None
    except OSError:
        pass
    finally:
        if writer:
            writer.transport.abort()
    o.total_s = time.monotonic() - started
    read_answer(o, bytes(data))
    return o


def address(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port or 80


async def storm(url, jobs, concurrency=64, timeout=120, stop=None):
    """Runs the jobs (any iterable, endless too) `concurrency` at a time until they end or stop() says so."""
    host, port = address(url)
    jobs, outcomes = iter(jobs), []

    async def worker():
        for job in jobs:
            if stop and stop():
                return
            outcomes.append(await run_job(host, port, job, timeout))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return outcomes


def run(url, jobs, concurrency=64, timeout=120, stop=None):
    return asyncio.run(storm(url, jobs, concurrency, timeout, stop))


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))] if values else float("nan")


def report(outcomes, wall_s):
    kinds = collections.Counter(o.kind for o in outcomes)
    first = [o.first_s for o in outcomes if o.books and o.job.streams]
    lines = [f"{len(outcomes)} requests in {wall_s:.1f} s ({len(outcomes) / wall_s:.0f}/s)"]
    lines += [f"  {count:6d}  {kind}" for kind, count in kinds.most_common()]
    lines.append(
        f"  first byte of a stream: p50 {percentile(first, 0.5) * 1e3:.0f} ms, "
        f"p99 {percentile(first, 0.99) * 1e3:.0f} ms"
    )
    lines.append(
        f"  device time reported: {sum(o.books['device_us'] for o in outcomes if o.books) / 1e6:.3f} s"
    )
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="http://127.0.0.1:7860")
    p.add_argument("-n", type=int, default=2000, help="requests")
    p.add_argument("-c", type=int, default=64, help="at once")
    p.add_argument("--key", action="append", help="API key; may be given again; default: none")
    p.add_argument("--hangups", type=float, default=0.2, help="share of clients that hang up")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    rng = random.Random(a.seed)
    keys = [(k, 1) for k in a.key or [""]]
    started = time.monotonic()
    outcomes = run(a.url, (make_job(rng, keys, a.hangups) for _ in range(a.n)), a.c)
    print(report(outcomes, time.monotonic() - started))


if __name__ == "__main__":
    main()
