#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up everything and runs every test. usage: scripts/test.sh [quick]
#   quick    release build and its tests only, no sanitizers
# BATON_JOBS: parallel builds and tests (default: all cores).
set -euo pipefail
cd "$(dirname "$0")/.."
quick=0
[ "${1:-}" = quick ] && quick=1
jobs=${BATON_JOBS:-$(nproc)}
started=$(date +%s)
passed=0 failed=0 skipped=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
# slow BUILD: takes lines of "seconds program", for the end.
slow() { sed "s|\$| ($1)|" >>"$log/slow"; }
step() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - started)); }

build() { # build PRESET [target]
    cmake --preset "$1" >"$log/configure" 2>&1 || { cat "$log/configure"; exit 1; }
    cmake --build "$(presets_dir "$1")" -j "$jobs" ${2:+--target "$2"} >"$log/build" 2>&1 ||
        { tail -60 "$log/build"; exit 1; }
}
presets_dir() {
    case $1 in
    ci | release) echo build ;;
    engine-only) echo build-engine ;;
    emulated) echo build-emu ;;
    cuda-all) echo build-cuda ;;
    *) echo "build-$1" ;;
    esac
}

run_ctest() { # run_ctest PRESET [arguments]
    local dir
    dir=$(presets_dir "$1")
    shift
    ctest --test-dir "$dir" -j "$jobs" --output-on-failure "$@" >"$log/ctest" 2>&1 || true
    grep -E 'Failed|SKIP|Not Run|\*\*\*' "$log/ctest" || true
    grep -E 'tests passed|Total Test time' "$log/ctest" || { tail -40 "$log/ctest"; exit 1; }
    sed -n 's/.* Test *#[0-9]*: \([^ ]*\) .* \([0-9.]*\) sec$/\2 \1/p' "$log/ctest" | slow "$dir"
    local bad total skip
    total=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\2/p' "$log/ctest")
    bad=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\1/p' "$log/ctest")
    skip=$(grep -c '\*\*\*Skipped' "$log/ctest" || true)
    passed=$((passed + total - bad - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -gt 0 ]; then
        sed -n '/^The following tests FAILED/,$p;/: FAIL\|is false\|expected/p' "$log/ctest" | head -60
    fi
}

run_pytest() { # run_pytest arguments...
    local line n
    .venv/bin/python -m pytest -q -rs --no-header --durations=10 -o cache_dir="$log/cache" "$@" \
        >"$log/pytest" 2>&1 || true
    sed -n 's/^\([0-9.]*\)s \(call\|setup\|teardown\) *\(.*\)$/\1 \3/p' "$log/pytest" |
        slow "$(dirname "${BATON_BIN:-build/baton}")"
    grep -vE '^(=.* slowest .*|[0-9.]+s (call|setup|teardown) .*|\([0-9]* durations .*)$' "$log/pytest" |
        tail -40 || true
    line=$(tail -1 "$log/pytest")
    for kind in passed failed error skipped; do
        n=$(sed -n "s/.*[^0-9]\([0-9][0-9]*\) $kind.*/\1/p;s/^\([0-9][0-9]*\) $kind.*/\1/p" <<<" $line" | head -1)
        case $kind in
        passed) passed=$((passed + ${n:-0})) ;;
        skipped) skipped=$((skipped + ${n:-0})) ;;
        *) failed=$((failed + ${n:-0})) ;;
        esac
    done
    if ! grep -qE '[0-9]+ (passed|failed|error|skipped)' <<<"$line"; then
        echo "pytest did not finish"
        failed=$((failed + 1))
    fi
}

# End to end, several files at once. What fails beside others is tried again alone, and only that counts.
run_e2e() { # run_e2e arguments...
    local before=$failed
    run_pytest -n $((jobs + 1)) --dist loadfile "$@"
    [ "$failed" = "$before" ] && return
    echo "again, alone:"
    failed=$before
    run_pytest --last-failed --last-failed-no-failures none "$@"
}

step "set-up"
scripts/setup.sh
step "build: release, warnings are errors"
build ci
step "tests: unit, sim, fault, fuzz seeds"
run_ctest ci -LE '^ci$' -E '[.]cuda' # those run on the emulated device below, or on a GPU (scripts/gpu_verify.sh)
step "tests: the tree's shape"
run_pytest tests/tree
step "tests: end to end"
run_e2e tests/e2e -m 'not timing'
run_pytest tests/e2e -m timing
if [ $quick = 0 ]; then
    step "build: address and undefined-behaviour sanitizers"
    build asan
    step "tests: under address and undefined-behaviour sanitizers"
    run_ctest asan -LE 'sim|slow|^ci$'
    BATON_BIN=build-asan/baton run_e2e tests/e2e -m 'not slow and not timing'
    step "build: thread sanitizer"
    build tsan
    step "tests: front and its neighbours under the thread sanitizer"
    run_ctest tsan -R '^(base|front|vocab|token|jinja|chat|http|api)\.' -LE '^ci$' -E 'parity|golden'
    BATON_BIN=build-tsan/baton run_e2e tests/e2e/test_{openai,hangup,faults}.py -m 'not slow and not timing'
    step "build: engine only, with nothing but a compiler"
    build engine-only bench-gpu # its tests are built for all architectures below
    if nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null); then
        step "build: the CUDA backend for the emulated device, with sanitizers"
        build emulated
        step "tests: kernels and the CUDA backend on the emulated device"
        run_ctest emulated -R '(^emu|\.cuda)'
        BATON_BIN=build-emu/baton run_e2e tests/e2e/test_residency.py tests/e2e/test_gpu_verify.py
        step "build: CUDA for all architectures ($nvcc)"
        build cuda-all
        BATON_CUDA_BUILD=$PWD/build-cuda run_pytest tests/tree/test_cuda_build.py
    else
        step "CUDA: no nvcc here, so neither its build nor the emulated device is tested"
        skipped=$((skipped + 1))
    fi
fi
echo
echo "the ten slowest programs, in seconds:"
sort -rn "$log/slow" | sed -n 1,10p
echo
echo "took $(($(date +%s) - started)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
