#!/usr/bin/env bash
# All that needs an NVIDIA GPU: tests, tuning, benchmarks. Prints one table last.
#
#   tests/gpu/run_all.sh [WHEELS]
#
# WHEELS is the folder that make_wheels.sh filled for this machine's Python; without it pip fetches
# what is missing. torch, triton and cuda.core are used where they are installed. Results lie in $OUT,
# or in gpu-results/: log.txt, the database and its records, the benchmarks and their table. All else
# is in build/gpu/. Each part has a time limit of its own (MINUTES_TESTS for each driver library,
# MINUTES_TUNE with BUDGET for each problem, MINUTES_BENCH; fractions are fine), and what it did until
# then is kept: records one by one, the table row by row.
#
# Where the GPU is lent for a short time only, PARTS says what is done: some of tests, tune and
# benchmarks. RECORDS is the records.jsonl of an earlier call, from which tuning goes on and by which
# the benchmarks choose. PROBLEMS is a pattern (grep -E) of the problems to tune; the host takes some
# ten seconds for the inputs and the answer of one of size 8192, which BUDGET must hold as well:
#
#   PARTS=tests MINUTES_TESTS=4 tests/gpu/run_all.sh WHEELS
#   PARTS=tune PROBLEMS='=8192 n=8192' MINUTES_TUNE=3 BUDGET=45s tests/gpu/run_all.sh WHEELS
#   PARTS=benchmarks RECORDS=records.jsonl MINUTES_BENCH=9 tests/gpu/run_all.sh WHEELS
#
# With DRY_RUN=1 it runs on a mock of the driver, which computes nothing: every line is executed, the
# parts that check answers fail, and no figure means anything. It needs gcc, and is for this script.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
wheels=
if [ $# -gt 0 ]; then
  wheels=$(cd "$1" 2>/dev/null && ls ./*.whl >/dev/null 2>&1 && pwd) ||
    { echo "$1 has no wheels: fill it by tests/gpu/make_wheels.sh"; exit 2; }
fi
budget=${BUDGET:-20s}
dry=${DRY_RUN:-}
parts=${PARTS:-tests tune benchmarks}
for name in $parts; do
  case $name in
    tests | tune | benchmarks) ;;
    *) echo "PARTS=$parts: $name is none of tests, tune and benchmarks"; exit 2 ;;
  esac
done
known=
if [ -n "${RECORDS:-}" ]; then
  [ -r "$RECORDS" ] || { echo "$RECORDS is no file of records: see RECORDS in $0"; exit 2; }
  known=$(cd "$(dirname "$RECORDS")" && pwd)/$(basename "$RECORDS")
fi
mkdir -p "${OUT:-$root/gpu-results}" "$root/build/gpu"
out=$(cd "${OUT:-$root/gpu-results}" && pwd)
# Thousands of files that are no results: they must not be fetched from where the GPU is.
work=$root/build/gpu
cd "$root" || exit 2
failed=()

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS" | tee -a "$out/log.txt"; }
wanted() { [[ " $parts " == *" $1 "* ]]; }
part() { # name, minutes, command...: the output is shown and kept; neither failure nor delay ends the rest
  local name=$1 minutes=$2
  shift 2
  echo "-- $name, $minutes minutes at most" | tee -a "$out/log.txt"
  # INT first: hwkit tune and pytest then say what they have.
  PYTHONUNBUFFERED=1 timeout --signal=INT --kill-after=60 "${minutes}m" "$@" 2>&1 |
    tee "$work/$name.log" | tee -a "$out/log.txt"
  case ${PIPESTATUS[0]} in
    0) ;;
    124 | 137) failed+=("$name (over $minutes minutes)") ;;
    *) failed+=("$name") ;;
  esac
}

step "machine"
if [ -n "$dry" ]; then
  mkdir -p "$work/mock"
  "$python" "$root/tests/gpu/dry_run.py" "$work/mock" || exit 2
  export PATH=$work/mock:$PATH LD_LIBRARY_PATH=$work/mock
fi
nvidia-smi || { echo "there is no NVIDIA driver: nothing was run"; exit 2; }
"$python" --version

step "install"
# In a folder of its own, before what the machine has; its torch and triton stay visible.
site=$work/site
if [ -n "$wheels" ]; then
  "$python" -m pip install -q --no-index --no-deps --upgrade --target "$site" "$wheels"/*.whl
elif [ -n "$dry" ]; then
  "$python" -m pip install -q --no-build-isolation --no-deps --upgrade --target "$site" .
else
  "$python" -m pip install -q --upgrade --target "$site" ".[test]" cuda-core nvidia-cuda-nvrtc
fi || { echo "the installation failed: nothing was run"; exit 2; }
# Our packages come from $site alone: the checkout's folders have no compiled modules.
export PYTHONPATH=$site HWKIT_DB=$out/tuning.db
cd "$out" || exit 2
part devices 2 "$python" -m hwkit devices
part doctor 2 "$python" -m hwkit doctor

if [ -n "$known" ]; then
  part import 2 "$python" -m hwkit db import "$known"
fi

if wanted tests; then
  step "tests"
  # Most of the time goes into a thousand small kernels that are compiled, each by one process.
  several=$("$python" -c 'import os, xdist; print("-n", min(8, os.cpu_count() or 1))' 2>/dev/null)
  for library in pycuda cuda.core; do
    export HWKIT_CUDA_DRIVER=$library
    # Warnings of that machine's torch are not ours.
    # shellcheck disable=SC2086
    part "tests-$library" "${MINUTES_TESTS:-20}" "$python" -m pytest -q --tb=short -m gpu $several -W default \
      -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider "$root/tests/gpu"
    # Tests that are all skipped have failed here: the reasons are in the log.
    grep -q '[0-9] passed' "$work/tests-$library.log" || failed+=("tests-$library (no test passed)")
  done
  unset HWKIT_CUDA_DRIVER
fi

export PYTHONPATH=$site:$root/asv_bench
if wanted tune; then
  step "tuning"
  lists=("$root"/tuning_db/shortlists/*.jsonl)
  from=()
  [ -e "${lists[0]}" ] && from=(--shortlist "${lists[0]}")
  "$python" -c 'from benchmarks.gpu import PROBLEMS; print(*PROBLEMS, sep="\n")' |
    grep -E -e "${PROBLEMS:-.}" >"$work/problems.txt"
  part tune "${MINUTES_TUNE:-60}" "$python" -m hwkit tune --device cuda:0 \
    --problems "$work/problems.txt" --budget "$budget" ${from[@]+"${from[@]}"}
  part export 2 "$python" -m hwkit db export "$out/records.jsonl"
fi

if wanted benchmarks; then
  step "benchmarks"
  part benchmarks "${MINUTES_BENCH:-45}" "$python" -m benchmarks.gpu "$out/benchmarks.json"
fi

step "results in $out"
if [ ${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "${failed[@]}"; fi
if [ -n "$dry" ]; then echo "DRY RUN on a mock of the driver: no figure below means anything"; fi
if wanted benchmarks; then "$python" -m gpu.table "$out/benchmarks.json" | tee "$out/table.txt"; fi
[ ${#failed[@]} -eq 0 ]
