# SPDX-License-Identifier: Apache-2.0
"""The device is shared fairly, seen from outside: the measurements are bench/fairness.py's, the limits are here.

Each is taken a second time if it fails: a neighbour's burst on the same cores can spoil one, unfairness spoils both."""
import sys

import pytest

from conftest import BIN, MODEL, ROOT

sys.path.insert(0, str(ROOT / "bench"))

import fairness  # noqa: E402
import served  # noqa: E402

pytestmark = [pytest.mark.timing, pytest.mark.slow]


def twice(measure, good):
    """The first result that is good, or the second."""
    result = measure()
    return result if good(result) else measure()


def test_backlogged_accounts_share_the_device_equally():
    """Five accounts whose requests cost very different amounts get the same device time in each 10 s of it."""
    r = twice(lambda: fairness.share(BIN, MODEL, seconds=20, span_s=10), lambda r: r["jain"] and min(r["jain"]) >= 0.98)
    assert r["spans"], "10 s of device time were not used: the accounts were not backlogged"
    assert min(r["jain"]) >= 0.98, r["spans"]
    # They asked for different things, or equal shares would be no achievement.
    assert max(r["requests"].values()) > 3 * min(r["requests"].values()), r["requests"]


def test_weights_are_kept():
    """Of two tiers of one class, the one with three times the weight gets three times the device."""
    def measure():
        accounts = {"one": {"slots": 8}, "three": {"slots": 8, "weight": 3}}
        return fairness.share(BIN, MODEL, seconds=5, span_s=5, outstanding=16, accounts=accounts,
                              habits={n: (20, 60) for n in accounts})

    def ratio(r):
        return r["spans"][0]["three"] / r["spans"][0]["one"] if r["spans"] else 0
    r = twice(measure, lambda r: 2.7 <= ratio(r) <= 3.3)
    assert 2.7 <= ratio(r) <= 3.3, r


def test_a_flood_does_not_drown_the_others():
    """Four people chat; a fifth account of their tier keeps 300 requests going. Theirs are hardly slower for it."""
    def limit(r):
        return 3 * served.percentile(r["alone"], 0.99) + max(0.25, r["longest_step_s"])
    r = twice(lambda: fairness.flood(BIN, MODEL), lambda r: served.percentile(r["beside"], 0.99) <= limit(r))
    assert r["depth"] > 250, "the flood was not one"
    assert r["flood_tokens_s"] > 0, "the flooder's share is small, not nothing"
    assert len(r["beside"]) == len(r["alone"]) == 240
    assert served.percentile(r["beside"], 0.99) <= limit(r), sorted(r["beside"])[-5:]
    # The bound above forgives a machine's hiccups; most answers must be prompt.
    assert served.median(r["beside"]) <= 0.1
