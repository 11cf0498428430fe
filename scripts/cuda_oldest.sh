#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Do the sources still compile with the oldest CUDA toolkit that is promised? usage: scripts/cuda_oldest.sh [FOLDER]
# A whole toolkit 12.4 is not on PyPI (its nvcc wheel holds ptxas, libnvvm and headers, no front end), so this checks
# what that toolkit decides: the host code and every .cu against its headers, by the host's compiler as in the emulated
# build; and its ptxas on the PTX that this machine's nvcc makes of every .cu. FOLDER (default build-gpu/toolkit-12.4)
# keeps the wheels. ARCHS: which architectures to assemble for (default "75 80 90").
set -euo pipefail
cd "$(dirname "$0")/.."
version=12.4 ptx=8.4
folder=$(realpath -m "${1:-build-gpu/toolkit-$version}")
mkdir -p "$folder"
if [ ! -x "$folder/bin/ptxas" ]; then
    python3 -m pip download -q --no-deps -d "$folder/wheels" nvidia-cuda-nvcc-cu12==$version.* \
        nvidia-cuda-runtime-cu12==$version.* nvidia-cuda-cccl-cu12==$version.*
    for w in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$w" "$folder/unpacked"; done
    mkdir -p "$folder/include" "$folder/bin"
    for part in cuda_runtime cuda_nvcc cuda_cccl; do
        cp -r "$folder/unpacked/nvidia/$part/include/." "$folder/include/"
    done
    install "$folder/unpacked/nvidia/cuda_nvcc/bin/ptxas" "$folder/bin/ptxas"
    rm -rf "$folder/unpacked"
fi
"$folder/bin/ptxas" --version | tail -2 | head -1
common=(-fsyntax-only -Wall -Wextra -DBATON_CUDA -DBATON_VERSION='""' -Iinclude -Isrc -I. -isystem "$folder/include")
for f in src/device/cuda/*.c src/bench/*cuda*.c kernels/*/*cuda*.c; do
    gcc -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Werror "${common[@]}" "$f"
done
echo "host code: compiles with CUDA $version's headers"
for f in kernels/*.cu kernels/*/*.cu; do
    g++ -x c++ -std=c++17 -fno-exceptions -fno-rtti -DBT_EMULATED -Itests/emu "${common[@]}" -Wno-unknown-pragmas "$f"
done
echo "kernels: compile with CUDA $version's headers"
command -v nvcc >/dev/null || { echo "no nvcc here: its ptxas is not tried"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in ${ARCHS:-75 80 90}; do
    for f in kernels/*.cu kernels/*/*.cu; do
        nvcc -std=c++17 -O3 --expt-relaxed-constexpr -I. -Iinclude -Isrc -arch="compute_$arch" -ptx "$f" \
            -o "$work/x.ptx"
        # The newer compiler names the newest PTX version; the instructions are what must be known.
        sed -i "s/^\.version .*/.version $ptx/" "$work/x.ptx"
        "$folder/bin/ptxas" -arch="sm_$arch" -v "$work/x.ptx" -o "$work/x.cubin" 2>"$work/log" ||
            { cat "$work/log" >&2; exit 1; }
        if grep -E ' [1-9][0-9]* bytes spill' "$work/log"; then echo "note: $f spills on sm_$arch"; fi
    done
    echo "sm_$arch: CUDA $version's ptxas takes every kernel"
done
