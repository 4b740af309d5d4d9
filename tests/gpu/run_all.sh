#!/usr/bin/env bash
# All that needs an NVIDIA GPU: tests, tuning, benchmarks. Prints one table last.
#
#   tests/gpu/run_all.sh [WHEELS]
#
# WHEELS is the folder that make_wheels.sh filled for this machine's Python; without it pip fetches
# what is missing. torch, triton and cuda.core are used where they are installed. What comes out lies
# in $OUT, or in gpu-results/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
out=${OUT:-gpu-results}
wheels=${1:-}
budget=${BUDGET:-20s}
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=()

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }
run() { # name, command...: its output is kept, and a failure ends nothing
  local name=$1
  shift
  "$@" 2>&1 | tee "$out/$name.log" | tail -n 25
  if [ "${PIPESTATUS[0]}" != 0 ]; then failed+=("$name"); fi
}

step "machine"
nvidia-smi || { echo "there is no NVIDIA driver: nothing was run"; exit 2; }
"$python" --version

step "install"
# In a folder of its own, before what the machine has; its torch and triton stay visible.
site=$out/site
if [ -n "$wheels" ]; then
  "$python" -m pip install -q --no-index --no-deps --upgrade --target "$site" "$wheels"/*.whl
else
  "$python" -m pip install -q --upgrade --target "$site" ".[test]" cuda-core nvidia-cuda-nvrtc
fi || { echo "the installation failed: nothing was run"; exit 2; }
# Our packages come from $site alone: the checkout's folders have no compiled modules.
export PYTHONPATH=$site HWKIT_DB=$out/tuning.db
cd "$out" || exit 2
root=$OLDPWD
run devices "$python" -m hwkit devices
run doctor "$python" -m hwkit doctor

step "tests"
for library in pycuda cuda.core; do
  HWKIT_CUDA_DRIVER=$library run "tests-$library" "$python" -m pytest -q -m gpu \
    -c "$root/pyproject.toml" --rootdir "$root" "$root/tests/gpu"
done

step "tuning"
lists=("$root"/tuning_db/shortlists/*.jsonl)
from=()
[ -e "${lists[0]}" ] && from=(--shortlist "${lists[0]}")
(cd "$root/asv_bench" && "$python" -c 'from benchmarks.gpu import PROBLEMS; print(*PROBLEMS, sep="\n")') \
  >"$out/problems.txt"
run tune "$python" -m hwkit tune --device cuda:0 --problems "$out/problems.txt" --budget "$budget" \
  ${from[@]+"${from[@]}"}
run export "$python" -m hwkit db export "$out/records.jsonl"

step "benchmarks"
(cd "$root/asv_bench" && "$python" -m benchmarks.gpu "$out/benchmarks.json") >"$out/table.txt" 2>&1 ||
  failed+=(benchmarks)

step "results in $out"
if [ ${#failed[@]} -gt 0 ]; then echo "failed: ${failed[*]}"; fi
cat "$out/table.txt"
[ ${#failed[@]} -eq 0 ]
