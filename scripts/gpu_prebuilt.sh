#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packs what scripts/gpu_verify.sh needs on a machine that has a driver and nothing else: the benchmark and the
# device tests for one architecture, and the script itself.
# usage: scripts/gpu_prebuilt.sh ARCH [FOLDER]    ARCH: 75 T4, 80 A100, 86 A10G, 89 L4 and L40S, 90 H100 and H200
# Leaves FOLDER/baton-gpu-smARCH.tar.xz (default build-gpu/), below 40 MB. There: tar xf it, then
# baton-gpu-smARCH/gpu_verify.sh. BATON_JOBS: parallel compilations (default: all cores).
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:?usage: scripts/gpu_prebuilt.sh 75|80|86|89|90 [FOLDER]}
out=${2:-build-gpu}
case $arch in 75 | 80 | 86 | 89 | 90) ;; *) echo "gpu_prebuilt: no such architecture: $arch" >&2; exit 2 ;; esac
build=$out/build-sm$arch name=baton-gpu-sm$arch
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
mkdir -p "$out" "$build/static"
# Where only this one lies the linker takes it: the C++ runtime goes into the programs.
ln -sf "$(gcc -print-file-name=libstdc++.a)" "$build/static/libstdc++.a"
link="-static-libgcc -L$(realpath "$build/static") -Wl,--as-needed -Wl,--gc-sections"
cmake "${generator[@]}" -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DBATON_ENGINE_ONLY=ON -DBATON_CUDA=on \
    -DBATON_CUDA_ARCHS="$arch" -DCMAKE_EXE_LINKER_FLAGS="$link" >"$out/configure.log" 2>&1 ||
    { cat "$out/configure.log" >&2; exit 1; }
targets=(bench-gpu test-device-test_cuda)
for t in tests/kernels/*/test_cuda_*.c; do targets+=("test-kernels-$(basename "$t" .c)"); done
for t in tests/src/device/cuda/test_cuda_*.c; do [ -e "$t" ] && targets+=("test-device-$(basename "$t" .c)"); done
for t in tests/src/bench/test_cuda_*.c; do targets+=("test-bench-$(basename "$t" .c)"); done
cmake --build "$build" -j "${BATON_JOBS:-$(nproc)}" --target "${targets[@]}" >"$out/build.log" 2>&1 ||
    { tail -40 "$out/build.log" >&2; exit 1; }

rm -rf "${out:?}/$name"
mkdir -p "$out/$name/bin"
for t in "${targets[@]}"; do
    strip -o "$out/$name/bin/$t" "$build/$t"
    needed=$(readelf -d "$out/$name/bin/$t" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    for lib in $needed; do
        case $lib in
        libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux*) ;;
        *) echo "gpu_prebuilt: $t needs $lib, which a bare machine may lack" >&2; exit 1 ;;
        esac
    done
done
cp scripts/gpu_verify.sh "$out/$name/"
version=$({ "$out/$name/bin/bench-gpu" info 2>/dev/null || true; } | sed -n '1s/baton \([^,]*\),.*/\1/p')
libc=$(readelf -V "$out/$name"/bin/* | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 | tr '_' ' ')
nvcc=$(sed -n 's/^BATON_NVCC:FILEPATH=//p' "$build/CMakeCache.txt")
{
    echo "Baton $version, device checks for sm_$arch, built with CUDA" \
        "$("$nvcc" --version | sed -n 's/.*release \([^,]*\),.*/\1/p')."
    echo "Run ./gpu_verify.sh; results go to the folder it names. Needs an NVIDIA driver and $libc or later."
} >"$out/$name/README"
# The programs share most of their kernels: a window that spans them all keeps those once.
tar -C "$out" -cf - "$name" | xz --lzma2=preset=3,dict=128MiB >"$out/$name.tar.xz"
bytes=$(stat -c %s "$out/$name.tar.xz")
cat "$out/$name/README"
echo "$out/$name.tar.xz: $((bytes / 1000000)) MB"
[ "$bytes" -lt 40000000 ] || { echo "gpu_prebuilt: over 40 MB" >&2; exit 1; }
