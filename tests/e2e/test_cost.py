# SPDX-License-Identifier: Apache-2.0
"""What it costs to be there: the measurements are bench/cost.py's, the limits are here.

A failed one is taken again once: a neighbour's burst on the same cores can spoil a measurement."""
import sys

import pytest

from conftest import BIN, MODEL, ROOT

sys.path.insert(0, str(ROOT / "bench"))

import cost  # noqa: E402
import served  # noqa: E402

timing = pytest.mark.timing


def twice(measure, good):
    """The first result that is good, or the second."""
    result = measure()
    return result if good(result) else measure()


@timing
def test_start_to_first_token():
    """A sleeping Space is woken by a request: from exec to the first token over HTTP in 0.15 s."""
    r = twice(lambda: cost.start(BIN, MODEL, 10), lambda r: served.median(r["serve_s"]) <= 0.15)
    assert served.median(r["serve_s"]) <= 0.15, r
    assert served.median(r["run_s"]) <= 0.1, r


@timing
def test_front_adds_less_than_a_millisecond():
    r = twice(lambda: cost.front(BIN, MODEL, 200), lambda r: served.median(r["added_s"]) < 0.001)
    assert served.median(r["added_s"]) < 0.001, sorted(r["added_s"])
    assert min(r["added_s"]) > 0, "the engine cannot have taken longer than the whole request"


@timing
def test_a_small_step_wakes_nobody():
    """Five tokens of the bundled model are tens of microseconds of work; waking threads for it takes longer."""
    def prefill_ms():
        with served.Served(BIN, MODEL, ("--threads", "2")) as server:
            wire, took = served.Wire(server.port), []
            for _ in range(50):
                _, answer = wire.ask("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 1,
                                                         "cache_prompt": False}, "key-one")
                took.append(answer["timings"]["prompt_ms"])
            wire.close()
            return served.median(took)
    assert twice(prefill_ms, lambda ms: ms < 0.5) < 0.5


@pytest.mark.slow
def test_a_thousand_wait_in_little_memory():
    """1,000 streams wait: each has its headers and knows its place; front stays small, and all is given back."""
    r = cost.crowd(BIN, MODEL, 1000)
    assert r["statuses"] == ["200"] and r["all_wait"], r
    assert r["depth"] >= 1000 and r["files"] >= 1000 + r["files_before"], r
    assert r["empty_s"] < 10 and r["holds_open"] == 0, r
    assert r["files_after"] <= r["files_before"] + 1 and r["files_back_s"] < 10, r
    assert r["peak_kib"] < 64 * 1024, r


@timing
def test_http_keeps_the_pace_of_the_engine():
    """One stream over HTTP beside the same engine in-process, on a model whose tokens cost 30 us: so little that the
    limit is on what a token's way out costs, not on a ratio."""
    def per_token_us():
        row = cost.speed(BIN, MODEL, n_gen=400, repeat=3, streams=(1,))["rows"][0]
        inside, outside = (1e6 / served.median(row[k]) for k in ("in_process", "http"))
        return outside - inside
    assert twice(per_token_us, lambda us: us < 100) < 100
