#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Is this GPU computed on correctly, and how fast? Every device test, then the benchmarks, in under nine minutes on any
# machine with an NVIDIA driver. usage: scripts/gpu_verify.sh [--prebuilt FOLDER] [--out FOLDER] [--minutes N]
#                                       [--device cuda:N] [--quick]
#   --prebuilt FOLDER  programs made elsewhere by scripts/gpu_prebuilt.sh (the default where this script lies beside
#                      its own bin/); without it they are built here, which takes nvcc, gcc and cmake
#   --out FOLDER       where results go (default $OUT, else bench/results/GPU-DATE)
#   --minutes N        all of it, without building (default 8.5): tests get half of that at most, then the benchmarks
#   --quick            fewer cases; --device emulated checks the script itself on an emulated build
# Results are written as they come, so a run that is stopped leaves what it had: summary.md (tables), tests.csv,
# ops.csv, model.csv, batch.csv, residency.csv, device.txt, and a log a step. Exit 0: every test ran and passed and all
# results of the benchmarks agreed with their references; 1: not; 3: there is no device. It takes bash and coreutils.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
prebuilt='' out=${OUT:-} minutes=8.5 device=cuda:0 quick=''
while [ $# -gt 0 ]; do
    case $1 in
    --prebuilt) prebuilt=$2; shift ;;
    --out) out=$2; shift ;;
    --minutes) minutes=$2; shift ;;
    --device) device=$2; shift ;;
    --quick) quick=--quick ;;
    *) sed -n '3,16s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ -n "$prebuilt" ] || { [ -d "$here/bin" ] && prebuilt=$here; }

# ---- programs
if [ -n "$prebuilt" ]; then
    bin=$(cd "$prebuilt" && pwd)/bin
    root=$here
else
    root=$(cd "$here/.." && pwd)
    cap=$(timeout 30 nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
    [ -n "$cap" ] || { echo "gpu_verify: nvidia-smi shows no device" >&2; exit 3; }
    "$root/scripts/gpu_prebuilt.sh" "$cap" "$root/build-gpu" || exit 1
    bin=$root/build-gpu/baton-gpu-sm$cap/bin
fi
begun=$(date +%s)
about=$(timeout -k 5 60 "$bin/bench-gpu" info 2>&1)
rc=$?
[ "$rc" != 124 ] && [ "$rc" != 137 ] || about+=$'\ngpu_verify: the driver did not answer within 60 s'
[ "$rc" = 0 ] || { echo "$about" >&2; exit 3; }
name=$(sed -n 's/^cuda:[0-9]* \([^,]*\),.*/\1/p' <<<"$about" | head -1 | tr -cs 'A-Za-z0-9\n' - | sed 's/-*$//')
[ -n "$out" ] || out=$root/bench/results/${name:-unknown}-$(date +%F)
mkdir -p "$out" || exit 1
echo "$about" >"$out/device.txt"
command -v nvidia-smi >/dev/null && timeout 20 nvidia-smi >>"$out/device.txt" 2>&1

# ---- time: each step gets at most its share, and never more than what is left
tenths=${minutes#*.}
[ "$tenths" != "$minutes" ] || tenths=0
budget=$((${minutes%%.*} * 60 + ${tenths:0:1} * 6))
end=$((begun + budget)) tests_end=$((begun + budget / 2)) engine_end=$((end - budget / 5)) # the rest is the kernels'
left() { local l=$((${1:-$end} - $(date +%s))); echo $((l > 1 ? l : 1)); }
share() { local l; l=$(left "$2"); echo $((l < $1 ? l : $1)); }
summary=$out/summary.md
failed=0
say() { tee -a "$summary"; }
{
    echo "# $(sed -n 's/^\(cuda:[0-9]* .*\)/\1/p' "$out/device.txt" | head -1)"
    echo
    head -2 "$out/device.txt"
    echo "$(date -u '+%F %H:%M UTC')"
} >"$summary"

# ---- tests
echo "program,result,seconds" >"$out/tests.csv"
run_test() { # run_test NAME SECONDS COMMAND...
    local label=$1 limit started rc result
    limit=$(share "$2" "$tests_end")
    shift 2
    started=$(date +%s)
    (cd "$root" && exec timeout -k 5 "$limit" "$@") >"$out/$label.log" 2>&1
    rc=$?
    case $rc in
    0) result=passed ;;
    77) result="did not run" failed=1 ;; # there is a device: see the log for why the test found none
    124 | 137) # under a sanitizer that says nothing of the device
        result="out of time"
        [[ $label == *check-* ]] || failed=1
        ;;
    *) result="FAILED ($rc)" failed=1 ;;
    esac
    echo "$label,$result,$(($(date +%s) - started))" >>"$out/tests.csv"
    echo "| $label | $result | $(($(date +%s) - started)) |" | say
    [ "$rc" = 0 ] || grep -v '^ok ' "$out/$label.log" | tail -15
}
printf '\n## Tests\n\n| program | result | s |\n|---|---|---:|\n' | say
for t in "$bin"/test-kernels-test_cuda_*; do run_test "$(basename "$t")" 60 "$t"; done
for t in "$bin"/test-device-test_cuda* "$bin"/test-bench-test_cuda*; do
    [ ! -x "$t" ] || run_test "$(basename "$t")" 90 "$t"
done
if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null); then
    for t in norm rope gemv sample; do
        [ -x "$bin/test-kernels-test_cuda_$t" ] || continue
        run_test "memcheck-$t" 25 "$sanitizer" --tool memcheck --error-exitcode 9 "$bin/test-kernels-test_cuda_$t"
    done
    [ -x "$bin/test-kernels-test_cuda_norm" ] &&
        run_test "racecheck-norm" 25 "$sanitizer" --tool racecheck --error-exitcode 9 "$bin/test-kernels-test_cuda_norm"
else
    echo "| compute-sanitizer | not on this machine | |" | say
fi

# ---- benchmarks
bench() { # bench SECONDS UNTIL LOG ARGUMENTS...
    local limit log=$3 rc
    limit=$(share "$1" "$2")
    shift 3
    [ "$limit" -gt 3 ] || { echo "(no time left for: $*)" | say; return; }
    timeout -k 5 "$limit" "$bin/bench-gpu" "$@" --device "$device" 2>"$out/$log.err" | say
    rc=${PIPESTATUS[0]}
    [ -s "$out/$log.err" ] && tail -2 "$out/$log.err" | say
    case $rc in
    0) ;;
    124 | 137) echo "(stopped after $limit s)" | say ;; # no fault of the device: what came before counts
    *) failed=1; echo "(ended with $rc)" | say ;;
    esac
}
memory=$(sed -n 's/^cuda:0 .* \([0-9]*\)\.[0-9]* GiB,.*/\1/p' "$out/device.txt" | head -1)
memory=${memory:-0}
shape=llama-3-8b models="llama-3.2-1b:q4_k_m llama-3-8b:q4_k_m llama-3-8b:q8_0"
prompt=512,2048 gen=64 each=128 streams=1,8,32,64
[ "$memory" -ge 22 ] && models="$models llama-3-8b:f16"
[ "$memory" -ge 60 ] && models="$models llama-3-70b:q4_k_m"
limits=(-c 4096)
if [ "$device" = emulated ]; then
    shape=tiny models="tiny:q4_k_m" prompt=16 gen=2 each=16 streams=1,2 limits=(-c 64)
fi

printf '\n## The engine\n\n' | say
for m in $models; do
    bench 40 "$engine_end" "model-${m/:/-}" model --shape "${m%:*}" --quant "${m#*:}" -p "$prompt" -n "$gen" -r 3 \
        "${limits[@]}" --csv "$out/model.csv"
    echo | say
done
printf '\n## Many streams\n\n' | say
m=$(echo "$models" | cut -d' ' -f2) # the second, or the only one
bench 60 "$engine_end" batch batch --shape "${m%:*}" --quant "${m#*:}" -p $each -n "$gen" -r 1 --streams $streams \
    "${limits[@]}" --csv "$out/batch.csv"
printf '\n## Residency\n\n' | say
bench 40 "$engine_end" residency residency --shape "${m%:*}" --quant "${m#*:}" -r 2 "${limits[@]}" \
    --csv "$out/residency.csv"
printf '\n## Kernels\n\nThe first rows are what this device can do at most, measured in this run; ' | say
printf 'bound us is the least time by them.\n\n' | say
seconds=$(($(left) - 5))
bench 600 "$end" ops ops --shape $shape $quick --seconds $((seconds > 1 ? seconds : 1)) --csv "$out/ops.csv"

printf '\n%s after %d s\n' "$([ $failed = 0 ] && echo "all passed" || echo "FAILED")" $(($(date +%s) - begun)) | say
echo "results: $out"
exit $failed
