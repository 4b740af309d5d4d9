#!/usr/bin/env bash
# Wheels for a GPU machine that reaches no package index: hwkit, pycuda and what they need.
#
#   tests/gpu/make_wheels.sh PYTHON FOLDER
#
# PYTHON is an interpreter of the version that the GPU machine has. Neither a driver nor a toolkit is
# needed: see pycuda_wheel.sh. NVRTC=no leaves out its wheel, larger than all others together: where
# torch is installed for CUDA, it is there.
set -euo pipefail
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip)
"${pip[@]}" wheel -q --no-deps -w "$folder" .
tests/gpu/pycuda_wheel.sh "$work/venv/bin/python" "$folder"
"${pip[@]}" download -q --only-binary=:all: --no-deps -d "$folder" \
  pytools platformdirs mako markupsafe siphash24 typing_extensions pluggy click rich markdown-it-py \
  mdurl pygments ml_dtypes pytest pytest-timeout pytest-xdist execnet iniconfig packaging hypothesis \
  sortedcontainers
[ "${NVRTC:-yes}" = no ] ||
  "${pip[@]}" download -q --only-binary=:all: --no-deps -d "$folder" nvidia-cuda-nvrtc
ls -l "$folder"
