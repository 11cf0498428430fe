# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_verify.sh itself, on the emulated device: what it runs, writes, and says with its exit code."""

import csv
import os
import shutil
import subprocess

import pytest

from conftest import BIN, ROOT

BUILD = BIN.parent
PROGRAMS = ("bench-gpu", "test-kernels-test_cuda_norm", "test-kernels-test_cuda_embed")
pytestmark = pytest.mark.skipif("emu" not in BUILD.name, reason="needs the emulated device")


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def archive(tmp_path):
    """What scripts/gpu_prebuilt.sh packs, with a quick program in place of the long device test."""
    (tmp_path / "bin").mkdir()
    for p in PROGRAMS:
        os.symlink(BUILD / p, tmp_path / "bin" / p)
    script(tmp_path / "bin" / "test-device-test_cuda", "echo 1 checks, 0 failed\n")
    shutil.copy(ROOT / "scripts" / "gpu_verify.sh", tmp_path)
    return tmp_path


def verify(archive, *args):
    command = ["bash", archive / "gpu_verify.sh", "--out", archive / "out", "--device", "emulated", "--quick", *args]
    r = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    return r.returncode, (archive / "out" / "summary.md").read_text()


def rows(archive, name):
    with open(archive / "out" / name) as f:
        return list(csv.DictReader(f))


def test_everything_is_run_and_written(archive):
    code, summary = verify(archive, "--minutes", "1.5")
    assert code == 0, summary
    assert "all passed" in summary and "Emulated" in summary
    tests = {r["program"]: r["result"] for r in rows(archive, "tests.csv")}
    assert tests["test-device-test_cuda"] == "passed"
    assert tests["test-kernels-test_cuda_norm"] == "passed" and tests["test-kernels-test_cuda_embed"] == "passed"
    assert {r["n_gen"] for r in rows(archive, "model.csv")} == {"0", "2"}
    assert [r["pl"] for r in rows(archive, "batch.csv")] == ["1", "2"]
    assert float(rows(archive, "residency.csv")[0]["wake_s"]) > 0
    ops = rows(archive, "ops.csv")
    assert {"read", "copy"} <= {r["kernel"] for r in ops if r["result"] == "ceiling"}
    assert any(r["kernel"] == "gemv" and float(r["bound_us"]) > 0 for r in ops)


FAULTS = (
    ("exit 1", "FAILED (1)"),
    ("exit 77", "did not run"),
    ("kill -SEGV $$", "FAILED (139)"),
    ("sleep 60", "out of time"),
)


@pytest.mark.parametrize("program, told", FAULTS)
def test_what_fails_is_told_and_costs_nothing_else(archive, program, told):
    script(archive / "bin" / "test-device-test_cuda", program + "\n")
    real = BUILD / "bench-gpu"
    (archive / "bin" / "bench-gpu").unlink()
    script(archive / "bin" / "bench-gpu", f'[ "$1" = info ] && exec {real} info\necho "measured $1"\n')
    code, summary = verify(archive, "--minutes", "0.4")
    assert code == 1 and told in summary
    assert all(f"measured {what}" in summary for what in ("model", "batch", "residency", "ops"))
    assert "FAILED after" in summary
