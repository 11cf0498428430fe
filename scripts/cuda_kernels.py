#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Registers, static shared memory and spills of every CUDA kernel, from the compiler's own reports.

A build with BATON_CUDA=on leaves what ptxas said beside each object (BUILD/cuda/*.o.ptxas). This script puts it in a
table, one row a kernel, one column an architecture: "40" is 40 registers, "40+1024" with 1,024 bytes of static shared
memory, "40+1024!16" with 16 bytes of spills. docs/gpu-kernels.csv is that table; tests/tree/test_cuda_build.py compares
the two, so that a change of a kernel's needs shows in review.

    scripts/cuda_kernels.py BUILD             prints the table
    scripts/cuda_kernels.py BUILD --write     writes docs/gpu-kernels.csv (a build for all architectures)
"""
import argparse
import csv
import io
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "gpu-kernels.csv"
ARCHS = ["75", "80", "86", "89", "90"]
ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    plain = [re.sub(r"^void |\(anonymous namespace\)::", "", t) for t in text.splitlines()]
    # Parameters say nothing that the name does not; template arguments do.
    return [re.sub(r"\((?![^<]*>).*\)$", "", t).replace(", ", " ").replace(",", " ") for t in plain]


def read_log(path):
    """{(mangled, arch): {"regs", "shared", "spill"}} of one log."""
    out, entry, spill = {}, None, 0
    for line in path.read_text(errors="replace").splitlines():
        if found := ENTRY.search(line):
            entry, spill = found.groups(), 0
        elif found := SPILL.search(line):
            spill = max(spill, int(found[2]) + int(found[3]))
        elif (found := USED.search(line)) and entry:
            shared = SHARED.search(line)
            out[entry] = {"regs": int(found[1]), "shared": int(shared[1]) if shared else 0, "spill": spill}
            entry = None
    return out


def cell(use):
    text = str(use["regs"])
    if use["shared"] or use["spill"]:
        text += f"+{use['shared']}"
    return text + (f"!{use['spill']}" if use["spill"] else "")


def read_build(build):
    """{(source, kernel): {arch: cell}} of all logs under BUILD/cuda."""
    table = {}
    for log in sorted((pathlib.Path(build) / "cuda").glob("*.o.ptxas")):
        uses = read_log(log)
        names = dict(zip([k[0] for k in uses], demangle([k[0] for k in uses])))
        for (mangled, arch), use in uses.items():
            key = (log.name.removesuffix(".o.ptxas") + ".cu", names[mangled])
            table.setdefault(key, {})[arch] = cell(use)
    return table


def read_table(path=TABLE):
    """The committed table and the toolkit it was made with."""
    lines = path.read_text().splitlines()
    toolkit = lines[0].removeprefix("# CUDA ")
    rows = csv.DictReader(lines[1:])
    return toolkit, {
        (r["source"], r["kernel"]): {a: r[f"sm_{a}"] for a in ARCHS if r[f"sm_{a}"]} for r in rows
    }


def toolkit_of(build):
    """The version of the nvcc that made this build, as 13.0."""
    nvcc = "nvcc"
    for line in (pathlib.Path(build) / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("BATON_NVCC:"):
            nvcc = line.split("=", 1)[1]
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release ([\d.]+)", text)[1]


def write(table, toolkit):
    out = io.StringIO()
    out.write(f"# CUDA {toolkit}\n")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["source", "kernel"] + [f"sm_{a}" for a in ARCHS])
    for (source, kernel), uses in sorted(table.items()):
        rows.writerow([source, kernel] + [uses.get(a, "") for a in ARCHS])
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--write", action="store_true", help="write docs/gpu-kernels.csv")
    args = parser.parse_args()
    table = read_build(args.build)
    if not table:
        raise SystemExit(f"no compiler reports under {args.build}/cuda; build with -DBATON_CUDA=on")
    text = write(table, toolkit_of(args.build))
    if not args.write:
        print(text, end="")
        return
    missing = [k for k, uses in table.items() if set(uses) != set(ARCHS)]
    if missing:
        raise SystemExit(f"not for all architectures (-DBATON_CUDA_ARCHS=all): {missing[:3]}")
    TABLE.write_text(text)
    print(f"{TABLE.relative_to(ROOT)}: {len(table)} kernels")


if __name__ == "__main__":
    main()
