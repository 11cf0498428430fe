#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is the device shared fairly, as users on the outside see it?

`share`: five accounts of one tier with unequal requests, each with more of them waiting than it may run. Device time
by account, running requests included, is summed over spans of busy time; Jain's index of each span says how equal it
is (1 = equal, 1/5 = one has all).
`flood`: four people chat while a fifth account of their tier floods. Their time to the first token, with and
without it.

    bench/fairness.py [share|flood] [--program build/baton] [--model M] [--seconds S] [--span S]
"""
import argparse
import json
import multiprocessing
import random
import threading
import time

import served

WORDS = "once upon a time there was a little girl named lily who loved to play outside in the park with her dog".split()


def prompt_of(words, rng):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def jain(shares):
    square = sum(s * s for s in shares)
    return sum(shares) ** 2 / (len(shares) * square) if square else 0.0


# ---- share

# words of prompt, tokens of answer: five habits that cost the device very different amounts
HABITS = {"asker": (10, 20), "chatter": (30, 60), "reader": (120, 8), "writer": (10, 240), "both": (100, 120)}


class Usage:
    """Device time by request, as last seen: in the queue while it runs, in the answer at its end."""

    def __init__(self):
        self.lock, self.seen, self.requests = threading.Lock(), {}, {}

    def note(self, request, account, device_us, ended=False):
        account = account.split(":")[-1]
        with self.lock:
            self.seen[request] = (account, max(device_us, self.seen.get(request, (account, 0))[1]))
            if ended:
                self.requests[account] = self.requests.get(account, 0) + 1

    def by_account(self, names):
        total = dict.fromkeys(names, 0)
        with self.lock:
            for account, us in self.seen.values():
                total[account] += us
        return total


def keep_asking(server, name, habit, usage, stop, seed):
    rng, wire = random.Random(seed), served.Wire(server.port)
    words, tokens = habit
    while not stop.is_set():
        body = {"prompt": prompt_of(max(1, int(words * rng.uniform(0.7, 1.3))), rng), "ignore_eos": True,
                "max_tokens": max(1, int(tokens * rng.uniform(0.7, 1.3))), "cache_prompt": False}
        status, answer = wire.ask("/v1/completions", body, f"key-{name}")
        if status != 200:
            raise RuntimeError(f"{name}: {status} {answer}")
        books = answer["baton"]
        usage.note(books["request_id"], books["account"], books["device_us"], ended=True)
    wire.close()


def share(program, model, seconds=30, span_s=10, outstanding=8, args=("--slots", "8", "--ctx", "512"), scale=1.0,
          habits=None, accounts=None):
    """Runs until `seconds` of device time are used, or 3 x that of wall time. Returns a dict of what was seen.
    An account may run 4 at once: with fewer it is this cap and not its share that holds back one with long answers,
    since a sequence that only generates costs the device less in a step than one whose prompt is read."""
    habits = {n: (max(1, int(w * scale)), max(1, int(t * scale))) for n, (w, t) in (habits or HABITS).items()}
    usage, stop = Usage(), threading.Event()
    with served.Served(program, model, args, accounts or list(habits)) as server:
        threads = [threading.Thread(target=keep_asking, args=(server, n, h, usage, stop, i * 100 + k), daemon=True)
                   for i, (n, h) in enumerate(habits.items()) for k in range(outstanding)]
        for t in threads:
            t.start()
        marks, spans, deadline = [dict.fromkeys(habits, 0)], [], time.monotonic() + 3 * seconds
        while time.monotonic() < deadline and len(spans) * span_s < seconds:
            for e in server.get("/v1/queue")["running"]:
                usage.note(e["request_id"], e["account"], e["device_us"])
            total = usage.by_account(habits)
            if sum(total.values()) - sum(marks[-1].values()) >= span_s * 1e6:
                spans.append({n: total[n] - marks[-1][n] for n in total})
                marks.append(total)
            time.sleep(0.05)
        stop.set()
        for t in threads:
            t.join(60)
    return {"spans": spans, "jain": [jain(list(s.values())) for s in spans], "requests": usage.requests,
            "habits": habits}


def report_share(r):
    print("share: five accounts of one tier, always more waiting than may run")
    print(f"  {'span':<8}" + "".join(f"{n + ' ' + str(h[0]) + '+' + str(h[1]):>17}" for n, h in r["habits"].items())
          + f"{'Jain':>9}")
    for i, (s, j) in enumerate(zip(r["spans"], r["jain"])):
        print(f"  {i + 1:<8}" + "".join(f"{us / 1e6:>15.3f} s" for us in s.values()) + f"{j:>9.4f}")
    print(f"  {'requests':<8}" + "".join(f"{r['requests'].get(n, 0):>17}" for n in r["habits"]))
    print(f"  lowest Jain index of a span: {min(r['jain'], default=0):.4f} (mark: >= 0.98)")


# ---- flood

def first_token(wire, body, key):
    """Seconds from the request's first byte to its first token, and the raw answer."""
    started, first, raw = time.perf_counter(), None, b""
    for piece in wire.stream("/v1/completions", body, key):
        raw += piece
        if first is None and b"data: {" in raw:
            first = time.perf_counter() - started
    return first, raw


def chat(server, name, n, pause_s, tokens, seed, out):
    """A person: asks, reads, thinks, asks again; the pauses are random, so four of them fall out of step."""
    rng, wire = random.Random(seed), served.Wire(server.port)
    for _ in range(n):
        time.sleep(rng.uniform(0.5, 1.5) * pause_s)
        body = {"prompt": prompt_of(8, rng), "max_tokens": tokens, "ignore_eos": True}
        first, raw = first_token(wire, body, f"key-{name}")
        if first is None:
            raise RuntimeError(f"{name}: no token came: {raw[:300]}")
        out.append(first)
    wire.close()


def chat_all(server, n, pause_s, tokens, seed):
    out = []
    threads = [threading.Thread(target=chat, args=(server, f"light{i}", n, pause_s, tokens, seed + i, out))
               for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def flooder(port, n, tokens, done):
    """A process of its own, so that its work is not in the way of the measuring one: n requests at once, each on a
    connection of its own; as one ends the next is sent, until it is terminated. done: tokens it got."""
    def one(i):
        rng, wire = random.Random(1000 + i), served.Wire(port)
        while True:
            body = {"prompt": prompt_of(20, rng), "max_tokens": tokens, "ignore_eos": True, "cache_prompt": False}
            status, answer = wire.ask("/v1/completions", body, "key-flood")
            if status == 200:
                with done.get_lock():
                    done.value += answer["usage"]["completion_tokens"]
    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def flood(program, model, n_flood=300, n_light=60, pause_s=0.08, tokens=16, flood_tokens=400, tier_slots=2,
          args=("--slots", "8", "--ctx", "512")):
    accounts = dict.fromkeys(["flood", *(f"light{i}" for i in range(4))], {"slots": tier_slots})
    with served.Served(program, model, args, accounts) as server:
        chat_all(server, 3, 0.01, tokens, 1)  # the first of all pays for cold code
        alone = chat_all(server, n_light, pause_s, tokens, 2)
        done = multiprocessing.Value("q", 0)
        process = multiprocessing.Process(target=flooder, args=(server.port, n_flood, flood_tokens, done), daemon=True)
        process.start()
        deadline = time.monotonic() + 30
        while server.get("/v1/queue")["depth"] < n_flood * 0.9 and time.monotonic() < deadline:
            time.sleep(0.02)
        before, began, had = server.metrics(), time.monotonic(), done.value
        beside = chat_all(server, n_light, pause_s, tokens, 3)
        lasted, tokens_done = time.monotonic() - began, done.value - had
        depth, after = server.get("/v1/queue")["depth"], server.metrics()
        process.terminate()
        process.join()
    steps = after["baton_steps_total"] - before["baton_steps_total"]
    return {"alone": alone, "beside": beside, "depth": depth, "flood_tokens_s": tokens_done / lasted,
            "longest_step_s": after["baton_step_longest_microseconds"] / 1e6, "steps": steps / lasted}


def report_flood(r):
    def line(name, v):
        print(f"  {name:<22} n {len(v):>4}   p50 {served.median(v) * 1e3:8.2f} ms"
              f"   p90 {served.percentile(v, 0.9) * 1e3:8.2f} ms   p99 {served.percentile(v, 0.99) * 1e3:8.2f} ms"
              f"   max {max(v) * 1e3:8.2f} ms")
    print("flood: four people chat, a fifth account of their tier keeps 300 requests waiting")
    line("first token, alone", r["alone"])
    line("first token, beside it", r["beside"])
    limit = 3 * served.percentile(r["alone"], 0.99) + r["longest_step_s"]
    print(f"  the flooder meanwhile: {r['flood_tokens_s']:.0f} tokens/s in {r['steps']:.0f} steps/s, "
          f"{r['depth']} of its requests waiting at the end")
    print(f"  longest step {r['longest_step_s'] * 1e3:.1f} ms; mark: p99 beside it <= 3 x p99 alone + one step = "
          f"{limit * 1e3:.2f} ms")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", nargs="*", help="share, flood; both if none is named")
    p.add_argument("--program", default=served.ROOT / "build" / "baton")
    p.add_argument("--model", default=served.MODEL)
    p.add_argument("--seconds", type=float, default=30, help="share: device time to use")
    p.add_argument("--span", type=float, default=10, help="share: device time of one span")
    p.add_argument("--scale", type=float, default=1, help="share: lengths of prompts and answers x this")
    p.add_argument("--light", type=int, default=60, help="flood: requests of each light account, per phase")
    p.add_argument("--pause", type=float, default=0.08, help="flood: seconds between them")
    p.add_argument("--tokens", type=int, default=16, help="flood: tokens of a light answer")
    p.add_argument("--flood-tokens", type=int, default=400, help="flood: tokens of a flooder's answer")
    p.add_argument("--tier-slots", type=int, default=2, help="flood: sequences an account may run at once, of 8")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    for what in a.what or ["share", "flood"]:
        if what == "share":
            r = share(a.program, a.model, a.seconds, a.span, scale=a.scale)
        elif what != "flood":
            p.error(f"there is no '{what}'; say share or flood")
        else:
            r = flood(a.program, a.model, n_light=a.light, pause_s=a.pause, tokens=a.tokens,
                      flood_tokens=a.flood_tokens, tier_slots=a.tier_slots)
        if a.json:
            print(json.dumps({what: r}))
        else:
            (report_share if what == "share" else report_flood)(r)


if __name__ == "__main__":
    main()
