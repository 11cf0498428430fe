# SPDX-License-Identifier: Apache-2.0
"""What the CUDA compiler made of the kernels: no spills, the committed table of registers holds, programs stay small.

The reports are those of builds that are there: build/, build-cuda/, build-gpu/*/, or $BATON_CUDA_BUILD. Without any,
what needs them is skipped.
"""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import cuda_kernels  # noqa: E402

PROGRAM_BYTES_MAX = 150 << 20


def spills(table):
    """Kernels that spill."""
    return sorted(
        f"{source} {kernel} sm_{arch}: {use}"
        for (source, kernel), uses in table.items()
        for arch, use in uses.items()
        if "!" in use
    )


def builds():
    named = os.environ.get("BATON_CUDA_BUILD")
    usual = [ROOT / "build", ROOT / "build-cuda", *sorted(ROOT.glob("build-gpu/build-sm*"))]
    found = [pathlib.Path(named)] if named else usual
    return [b for b in found if any((b / "cuda").glob("*.o.ptxas"))]


BUILDS = builds()
needs_build = pytest.mark.skipif(not BUILDS, reason="no build with BATON_CUDA=on is there")


def fresh(build):
    """The build's table without the sources that changed after they were compiled."""
    table = {}
    for (source, kernel), uses in cuda_kernels.read_build(build).items():
        log = build / "cuda" / (pathlib.Path(source).stem + ".o.ptxas")
        path = next((ROOT / "kernels").rglob(source))
        if path.exists() and path.stat().st_mtime <= log.stat().st_mtime:
            table[source, kernel] = uses
    return table


@needs_build
@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
def test_no_kernel_spills(build):
    wrong = spills(fresh(build))
    assert not wrong, "\n".join(wrong)


@needs_build
@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
def test_the_committed_table_holds(build):
    toolkit, table = cuda_kernels.read_table()
    if cuda_kernels.toolkit_of(build) != toolkit:
        pytest.skip(f"the table is CUDA {toolkit}'s, the build is CUDA {cuda_kernels.toolkit_of(build)}'s")
    wrong = []
    for key, uses in fresh(build).items():
        for arch, use in uses.items():
            was = table.get(key, {}).get(arch)
            if was != use:
                wrong.append(f"{key[0]} {key[1]} sm_{arch}: {use}, the table has {was}")
    assert not wrong, "build with -DBATON_CUDA_ARCHS=all, then scripts/cuda_kernels.py BUILD --write\n" + "\n".join(
        sorted(wrong)[:40]
    )


def test_the_committed_table_is_whole():
    toolkit, table = cuda_kernels.read_table()
    assert toolkit and table
    for (source, kernel), uses in table.items():
        assert any((ROOT / "kernels").rglob(source)), f"{source} is gone; make the table anew"
        assert set(uses) == set(cuda_kernels.ARCHS), kernel
    assert not spills(table)


@needs_build
def test_programs_stay_small():
    for build in BUILDS:
        for name in ("baton", "bench-gpu"):
            program = build / name
            if program.exists():
                assert program.stat().st_size < PROGRAM_BYTES_MAX, f"{program} is over 150 MB"


def test_a_spill_is_seen(tmp_path):
    """The reader itself, on a report with a spill and static shared memory."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "x.o.ptxas").write_text(
        "ptxas info    : Compiling entry function '_Z3addPfi' for 'sm_75'\n"
        "ptxas info    : Function properties for _Z3addPfi\n"
        "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem, 368 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function '_Z3addPfi' for 'sm_90'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 12 registers, used 0 barriers\n"
    )
    table = cuda_kernels.read_build(tmp_path)
    assert table == {("x.cu", "add"): {"75": "40+1024!16", "90": "12"}}
    assert spills(table) == ["x.cu add sm_75: 40+1024!16"]
