# SPDX-License-Identifier: Apache-2.0
"""`baton bench` without a model file: random weights of a known shape, and the table of kernels."""
import csv
import json
import subprocess

from conftest import BIN, ROOT, SLOW


def bench(*args):
    command = [BIN, "bench", *map(str, args), "--device", "cpu", "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120 * SLOW, cwd=ROOT)


def test_model_of_a_shape():
    r = bench("model", "--shape", "tiny", "--quant", "q4_k_m", "-p", "16,32", "-n", "4", "-r", "2", "-o", "jsonl")
    assert r.returncode == 0, r.stderr
    rows = [json.loads(line) for line in r.stdout.splitlines()]
    assert [(x["n_prompt"], x["n_gen"]) for x in rows] == [(16, 0), (32, 0), (0, 4)]
    assert all(x["backends"] == "CPU" and x["model_type"] == "tiny q4_k_m" and x["avg_ts"] > 0 for x in rows)


def test_batch_as_csv():
    lengths = ("--n-prompt", 8, "--n-gen", 4, "--streams", "1,3")
    r = bench("batch", "--shape", "tiny", "--quant", "f16", *lengths, "-o", "csv")
    assert r.returncode == 0, r.stderr
    rows = list(csv.DictReader(r.stdout.splitlines()))
    assert [(x["pl"], x["n_kv"]) for x in rows] == [("1", "12"), ("3", "36")]
    assert all(float(x["speed_tg"]) > 0 for x in rows)


def test_kernels_beside_their_bounds():
    r = bench("ops", "--shape", "tiny", "--quick", "-o", "csv")
    assert r.returncode == 0, r.stderr
    rows = list(csv.DictReader(r.stdout.splitlines()))
    kernels = {x["kernel"] for x in rows if x["result"] == "ok"}
    assert {"norm", "embed", "gemv", "gemm", "attention", "prefill", "sample"} <= kernels
    assert {"read", "fma f32"} <= {x["kernel"] for x in rows if x["result"] == "ceiling"}
    for x in rows:
        assert float(x["us"]) > 0 and x["result"] != "WRONG"
        assert (float(x["bound_us"]) > 0) == (x["result"] == "ok")
    some = bench("ops", "--shape", "tiny", "--quick", "--quant", "q4_k_m", "--only", "ge", "-o", "csv")
    rows = list(csv.DictReader(some.stdout.splitlines()))
    assert {x["format"] for x in rows if x["kernel"] in ("gemv", "gemm")} == {"Q4_K", "Q6_K"}
    only = bench("ops", "--shape", "tiny", "--quick", "--only", "norm", "-o", "jsonl")
    assert {json.loads(line)["kernel"] for line in only.stdout.splitlines()} >= {"norm"}
    assert "gemv" not in only.stdout


def test_refusals_say_what_is_known():
    r = bench("model", "--shape", "gpt-9")
    assert r.returncode == 2 and "llama-3-8b" in r.stderr
    r = bench("model", "--shape", "tiny", "--quant", "q9")
    assert r.returncode == 2 and "q4_k_m" in r.stderr
    r = bench("ops", "--shape", "tiny", "--quant", "q9")
    assert r.returncode == 2 and "q4_k_m" in r.stderr
    r = bench("residency", "--shape", "tiny")
    assert r.returncode == 1 and "cannot be parked" in r.stderr
    r = bench("ops", "-o", "xml")
    assert r.returncode == 2 and "md, csv, json or jsonl" in r.stderr
