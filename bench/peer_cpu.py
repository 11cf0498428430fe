#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU speed side by side with llama.cpp on the same GGUF files, interleaved, medians and ratios.

usage: bench/peer_cpu.py --peer DIR --baton build/baton FILE.gguf [FILE.gguf ...] [-t 2] [-r 3] [--csv OUT]
DIR holds llama-bench and llama-batched-bench. Prints decode and prefill tokens per second, then generation
throughput with 1, 4 and 16 streams, each with Baton's share of the peer's figure.
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys


def out(cmd):
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(map(str, cmd))}: {r.stderr[-2000:]}")
    return r.stdout


def model_rows(cmd, runs):
    """(test name, tokens a second) of one llama-bench-like run."""
    rows = json.loads(out(cmd + ["-o", "json", "-r", str(runs)]))
    return {("pp%d" % r["n_prompt"]) if r["n_prompt"] else ("tg%d" % r["n_gen"]): r["avg_ts"] for r in rows}


def batched_peer(peer, model, args, streams):
    text = out(
        [
            f"{peer}/llama-batched-bench",
            "-m",
            model,
            "-c",
            "8192",
            "-b",
            "512",
            "-ub",
            "512",
            "-npp",
            str(args.bpp),
            "-ntg",
            str(args.btg),
            "-npl",
            streams,
            "-t",
            str(args.t),
            "-ngl",
            "0",
        ]
    )
    rows = {}
    for line in text.splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) > 9 and cells[1].isdigit():
            rows[int(cells[3])] = float(cells[8])
    return rows


def batched_baton(baton, model, args, streams):
    text = out(
        [
            baton,
            "bench",
            "batch",
            "-m",
            model,
            "-t",
            str(args.t),
            "--n-prompt",
            str(args.bpp),
            "--n-gen",
            str(args.btg),
            "--streams",
            streams,
            "-r",
            "1",
            "-np",
            "16",
            "-c",
            "512",
            "-o",
            "jsonl",
        ]
    )
    return {r["pl"]: r["speed_tg"] for r in map(json.loads, text.splitlines())}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+")
    p.add_argument("--peer", required=True)
    p.add_argument("--baton", default="build/baton")
    p.add_argument("-t", type=int, default=2)
    p.add_argument("-r", type=int, default=3, help="interleaved rounds")
    p.add_argument("--pp", type=int, default=256)
    p.add_argument("--tg", type=int, default=32)
    p.add_argument("--bpp", type=int, default=32)
    p.add_argument("--btg", type=int, default=32)
    p.add_argument("--streams", default="1,4,16")
    p.add_argument("--csv")
    a = p.parse_args()
    table = []
    for model in a.models:
        name = re.sub(r"\.gguf$", "", os.path.basename(model))
        ours, peers = {}, {}
        for _ in range(a.r):
            for store, cmd in (
                (
                    peers,
                    [
                        f"{a.peer}/llama-bench",
                        "-m",
                        model,
                        "-t",
                        str(a.t),
                        "-p",
                        str(a.pp),
                        "-n",
                        str(a.tg),
                        "-ngl",
                        "0",
                    ],
                ),
                (
                    ours,
                    [
                        a.baton,
                        "bench",
                        "model",
                        "-m",
                        model,
                        "-t",
                        str(a.t),
                        "-p",
                        str(a.pp),
                        "-n",
                        str(a.tg),
                    ],
                ),
            ):
                for test, ts in model_rows(cmd, 1).items():
                    store.setdefault(test, []).append(ts)
            for store, rows in (
                (peers, batched_peer(a.peer, model, a, a.streams)),
                (ours, batched_baton(a.baton, model, a, a.streams)),
            ):
                for n, ts in rows.items():
                    store.setdefault(f"{n} streams", []).append(ts)
        for test in peers:
            if test in ours:
                o, q = statistics.median(ours[test]), statistics.median(peers[test])
                ratio = statistics.median(x / y for x, y in zip(ours[test], peers[test]))
                table.append((name, test, o, q, ratio))
    print("| model | test | Baton t/s | llama.cpp t/s | ratio |\n|---|---|---:|---:|---:|")
    for row in table:
        print("| %s | %s | %.1f | %.1f | %.2f |" % row)
    if a.csv:
        with open(a.csv, "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["model", "test", "baton_ts", "llama_cpp_ts", "ratio"])
            w.writerows(table)


main()
