# SPDX-License-Identifier: Apache-2.0
"""The books add up: after a storm, and whoever is killed when."""

import collections
import os
import random
import signal
import threading
import time

import pytest

import storm
from conftest import SLOW, Server

TINY = 6  # accounts with 50 ms of device time each
KEYS = (
    "\n".join(
        [
            "key-pro alice pro",
            "key-free bob free",
            "key-slow dave slow",
            *(f"key-tiny{i} tiny{i} tiny" for i in range(TINY)),
        ]
    )
    + "\n"
)
TIERS = {
    "anonymous": {
        "gpu_seconds": 600,
        "class": "low",
        "weight": 1,
        "lease_max_s": 60,
        "slots": 4,
        "queue": 256,
    },
    "free": {"gpu_seconds": 600, "class": "medium", "weight": 1, "lease_max_s": 60, "slots": 4, "queue": 16},
    "pro": {
        "gpu_seconds": 1500,
        "class": "highest",
        "weight": 2,
        "lease_max_s": 120,
        "slots": 8,
        "queue": 512,
    },
    "slow": {"gpu_seconds": 600, "class": "medium", "weight": 1, "lease_max_s": 1, "slots": 8, "queue": 512},
    "tiny": {"gpu_seconds": 0.05, "class": "medium", "weight": 1, "lease_max_s": 60, "slots": 4, "queue": 64},
}
WHO = [("key-pro", 8), ("key-free", 3), ("key-slow", 4), ("", 2), *((f"key-tiny{i}", 1) for i in range(TINY))]


def mixed(seed, **kw):
    rng = random.Random(seed)
    while True:
        yield storm.make_job(rng, WHO, **kw)


def number(request_id):
    return int(request_id, 16)


def check_reported(books, outcomes):
    """Each answer that told its cost told what the ledger has."""
    for o in outcomes:
        if not o.books:
            continue
        kind, device, charged, account = books.of[number(o.books["request_id"])]
        assert o.books["account"] == account
        assert (device, charged) == (o.books["device_us"], o.books["charged_us"]), o
    return sum(o.books["device_us"] for o in outcomes if o.books)


def check_answers(outcomes):
    """Whoever stayed got a whole answer: text and books, or an error that says what to do."""
    for o in outcomes:
        if o.hung_up:
            continue
        assert o.whole, o
        if o.status == 200:
            assert o.done and o.books and not o.error, o
            assert len(o.finish) == o.job.body["n"] and set(o.finish) <= {"stop", "length"}, o
            if o.job.streams:
                assert o.headers["content-type"].startswith("text/event-stream")
        else:
            assert o.status == 429 and o.error["code"] in ("quota_exhausted", "queue_full"), o
            assert o.error["message"] and (o.status != 429 or "retry-after" in o.headers), o


def storm_and_check(server, n, seed):
    started = time.monotonic()
    jobs = mixed(seed)
    outcomes = storm.run(server.url, (next(jobs) for _ in range(n)), 64)
    wall = time.monotonic() - started
    m = server.wait_idle()
    time.sleep(1.1)  # the engine's own time is booked once a second
    m = server.metrics()
    assert server.stop() == 0, server.log[-3000:]
    books = server.books().check()
    kinds = collections.Counter(o.kind for o in outcomes)

    check_answers(outcomes)
    reported = check_reported(books, outcomes)
    assert reported <= books.accounts_us

    by_finish = {k.split('"')[1]: v for k, v in m.items() if k.startswith("baton_requests_total")}
    assert sum(by_finish.values()) == m["baton_http_generations_total"], "each request ends once"
    assert m['baton_attributed_microseconds_total{to="accounts"}'] == books.accounts_us
    assert m["baton_charged_microseconds_total"] == books.charged
    assert m["baton_device_busy_microseconds_total"] == books.busy_us
    assert m['baton_attributed_microseconds_total{to="house"}'] == books.house_us
    assert m["baton_step_microseconds_total"] + books.house_us == books.busy_us, "steps, and the warm-up"

    over = {name: used - limit for name, limit, used, _ in books.windows if used > limit}
    in_flight = TIERS["tiny"]["slots"] * m["baton_step_longest_microseconds"]
    assert all(o <= in_flight for o in over.values()), (over, in_flight)
    print(
        f"\n{storm.report(outcomes, wall)}\n  accounts {books.accounts_us} us + house {books.house_us} us = busy "
        f"{books.busy_us} us; reported to clients {reported} us\n  over quota: {over} us; longest step "
        f"{m['baton_step_longest_microseconds']:.0f} us"
    )
    return kinds


def test_small_storm(start):
    s = start(keys=KEYS, tiers=TIERS)
    kinds = storm_and_check(s, 150, 7)
    assert kinds["length"] and kinds["hung up"]


@pytest.mark.slow
def test_storm(start):
    """Two thousand requests, a fifth of them hanging up, over nine accounts and anonymous ones."""
    s = start("--slots", "16", "--threads", "1", keys=KEYS, tiers=TIERS)
    kinds = storm_and_check(s, 2000, 1)
    for kind in ("length", "lease_expired", "quota_exhausted", "429 quota_exhausted", "hung up"):
        assert kinds[kind], kinds


def test_price(start):
    """Charged is device time times the price; limits are in charge."""
    s = start("--price", "2.5", keys=KEYS, tiers=TIERS)
    r = s.complete().json()["baton"]
    assert r["charged_us"] == pytest.approx(2.5 * r["device_us"], abs=1)
    outcomes = storm.run(
        s.url,
        [
            storm.Job(
                "/v1/completions",
                {"prompt": "Once", "max_tokens": 480, "n": 4, "ignore_eos": True},
                "key-tiny0",
            )
        ]
        * 3,
        1,
    )
    assert outcomes[-1].status == 429 and "quota_exhausted" in [o.kind for o in outcomes]
    used = {name: used for name, _, used, _ in stop_and_check(s).windows}
    assert used[outcomes[0].books["account"]] >= 50000


def stop_and_check(s):
    assert s.stop() == 0, s.log[-3000:]
    return s.books().check()


def test_restart_remembers(start, tmp_path):
    """What was used is still used after a restart, and a quota that is gone stays gone."""
    s = start(data=tmp_path / "kept", keys=KEYS, tiers=TIERS)
    job = storm.Job(
        "/v1/completions", {"prompt": "Once", "max_tokens": 480, "n": 4, "ignore_eos": True}, "key-tiny1"
    )
    assert [o.status for o in storm.run(s.url, [job] * 4, 1)][-1] == 429
    with s.client("key-tiny1") as c:
        before = c.get("/v1/quota").json()
    assert s.stop() == 0
    s = start(data=tmp_path / "kept", keys=KEYS, tiers=TIERS)
    with s.client("key-tiny1") as c:
        assert c.get("/v1/quota").json() == before
        r = c.post("/v1/completions", json=job.body)
        assert r.status_code == 429 and r.headers["x-should-retry"] == "false"
        assert int(r.headers["retry-after"]) > 80000
        assert r.json()["error"]["code"] == "quota_exhausted" and r.json()["error"]["resets_at"]
    stop_and_check(s)


# ---- kill -9


class Load:
    """A storm in a thread, until told to stop."""

    def __init__(self, server, seed, concurrency=12, **kw):
        self.outcomes, self.stopped = [], False

        def body():
            jobs = mixed(seed, **kw)
            self.outcomes = storm.run(server.url, jobs, concurrency, stop=lambda: self.stopped)

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()

    def end(self):
        self.stopped = True
        self.thread.join(60 * SLOW)
        assert not self.thread.is_alive(), "a client hangs"
        return self.outcomes


def kill(server, whom):
    engine = server.engine_pid()
    if whom in ("engine", "both"):
        os.kill(engine, signal.SIGKILL)
    if whom in ("front", "both"):
        server.process.kill()
        server.process.wait()


def check_killed(books, outcomes):
    """Nothing used is lost: what an answer told is booked as told, what a broken stream showed is booked too."""
    check_reported(books, outcomes)
    for o in outcomes:
        if o.books or not o.chunks:
            continue
        kind, device, _, _ = books.of[number(o.request_id)]
        assert kind == books.POST and device > 0, o


def check_engine_kill(server, outcomes):
    """Front lived: broken streams say so, and the next request is served."""
    for o in outcomes:
        if o.hung_up or o.status == 0:
            continue
        assert o.whole, o
        if not o.error or o.error["code"] != "device_fault":
            continue
        if o.job.streams:
            assert o.status == 200 and not o.done, o
        else:
            assert o.status == 503 and "retry-after" in o.headers, o
    r = server.complete(max_tokens=4)
    assert r.status_code == 200, r.text
    assert server.metrics()["baton_ready"] == 1


def test_engine_killed(start, slow_model):
    """The stream in hand ends with an error object and no [DONE]; others get 503; a retry works, front lives on."""
    s = start("--slots", "4", "--threads", "1", keys=KEYS, tiers=TIERS, model=slow_model)
    long = {"prompt": "Once", "max_tokens": 480, "ignore_eos": True, "n": 4, "temperature": 1}
    running = storm.Job("/v1/completions", {**long, "n": 2, "stream": True}, "key-pro")
    whole = storm.Job("/v1/completions", {**long, "n": 2}, "key-slow")
    waiting = storm.Job("/v1/completions", {**long, "max_tokens": 4}, "key-free")
    seen = {}

    def go(name, job):
        seen[name] = storm.run(s.url, [job], 1)[0]

    threads = [threading.Thread(target=go, args=a) for a in (("running", running), ("whole", whole))]
    for t in threads:
        t.start()
    s.wait_for(lambda m: m["baton_leases_active"] == 2, 5, "two leases")
    threads.append(threading.Thread(target=go, args=("waiting", waiting)))
    threads[-1].start()
    s.wait_for(lambda m: m["baton_queue_depth"] == 1, 5, "one waiting")
    front = s.process.pid
    kill(s, "engine")
    for t in threads:
        t.join(30 * SLOW)
    o = seen["running"]
    assert o.status == 200 and o.whole and not o.done and o.error["code"] == "device_fault", o
    assert "again" in o.error["message"]
    o = seen["whole"]
    assert o.status == 503 and o.error["code"] == "device_fault" and "retry-after" in o.headers, o
    assert seen["waiting"].kind == "length", "who only waited does not notice"
    running.body["max_tokens"] = 8
    assert storm.run(s.url, [running], 1)[0].kind == "length"
    m = s.wait_idle()
    assert s.process.pid == front and m["baton_engine_restarts_total"] == 1
    assert m['baton_requests_total{finish="device_fault"}'] == 2
    check_killed(stop_and_check(s), seen.values())


def kill_cycles(tmp_path, n, seed):
    """One data directory through n kills."""
    rng, outcomes, kinds = random.Random(seed), [], collections.Counter()
    s = None
    for i in range(n):
        whom = rng.choice(["front", "engine", "both"])
        s = Server(tmp_path / "kept", ["--price", "1.5", "--threads", "1"], keys=KEYS, tiers=TIERS)
        m = s.metrics()
        assert m["baton_holds_open"] == 0, f"held by the dead:\n{s.log}"
        load = Load(s, seed * 1000 + i, hangups=0.1)
        time.sleep(rng.uniform(0.02, 0.5))
        kill(s, whom)
        if whom == "engine":
            time.sleep(rng.uniform(0, 0.2))
            seen = load.end()
            check_engine_kill(s, seen)
            s.process.kill()
            s.process.wait()
        else:
            seen = load.end()
        kinds[whom] += 1
        outcomes += seen
        books = s.books()
        assert all(number(o.books["request_id"]) in books.of for o in seen if o.books), "a post was lost"
    s = Server(tmp_path / "kept", ["--price", "1.5", "--threads", "1"], keys=KEYS, tiers=TIERS)
    assert s.complete().status_code == 200
    s.wait_idle()
    assert s.stop() == 0
    books = s.books().check()
    assert not list((tmp_path / "kept" / "usage").iterdir())
    check_killed(books, outcomes)
    return books, outcomes, kinds


def test_a_few_kills(tmp_path):
    kill_cycles(tmp_path, 3, 3)


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    """Front, engine or both, at random instants, and the books still add up to the microsecond."""
    books, outcomes, kinds = kill_cycles(tmp_path, 50, 11)
    seen = collections.Counter(o.kind for o in outcomes)
    posts = [v for v in books.of.values() if v[0] == books.POST]
    print(
        f"\n{sum(kinds.values())} kills {dict(kinds)}; {len(outcomes)} requests: {dict(seen)}\n"
        f"  {len(posts)} posted {books.accounts_us} us + house {books.house_us} us = busy {books.busy_us} us; "
        f"reported {sum(o.books['device_us'] for o in outcomes if o.books)} us"
    )
    assert len(kinds) == 3


def test_no_scrape_attributes_more_than_was_busy(server):
    """Both are of one moment: also in the midst of a crowd, and as soon as a request has its answer."""

    def times():
        m = server.metrics()
        given = sum(m[f'baton_attributed_microseconds_total{{to="{to}"}}'] for to in ("accounts", "house"))
        return given, m["baton_device_busy_microseconds_total"]

    for n in range(10):
        before = times()[0]
        used = server.complete(max_tokens=8, n=1 + n % 3).json()["baton"]["device_us"]
        given, busy = times()
        assert given <= busy and given - before >= used, (given - busy, given - before, used)
    crowd = [threading.Thread(target=lambda: server.complete(max_tokens=60, n=2)) for _ in range(12)]
    for t in crowd:
        t.start()
    while any(t.is_alive() for t in crowd):
        given, busy = times()
        assert given <= busy, given - busy
    for t in crowd:
        t.join()
    given, busy = times()
    assert given == busy
