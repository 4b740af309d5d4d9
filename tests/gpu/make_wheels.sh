#!/usr/bin/env bash
# Wheels for a GPU machine that reaches no package index: hwkit, pycuda and what they need.
#
#   tests/gpu/make_wheels.sh PYTHON FOLDER
#
# PYTHON is an interpreter of the version that the GPU machine has. pycuda is built without cuRAND,
# against the CUDA toolkit of this machine (CUDA_ROOT, /usr/local/cuda by default); a driver is not
# needed: what the linker asks for is an empty library of the driver's name.
set -euo pipefail
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cuda=${CUDA_ROOT:-/usr/local/cuda}
[ -f "$cuda/include/cuda.h" ] || { echo "$cuda has no include/cuda.h: set CUDA_ROOT"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/stub"
echo 'int cuInit(unsigned flags) { (void)flags; return 100; }' >"$work/stub.c"
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/stub/libcuda.so" "$work/stub.c"

"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip)
"${pip[@]}" wheel -q --no-deps -w "$folder" .
# pip keeps what it built with these settings and would hand it to others: no cache.
PATH="$cuda/bin:$PATH" CUDA_ROOT="$cuda" LIBRARY_PATH="$work/stub" CFLAGS="-g0" CXXFLAGS="-g0" LDFLAGS="-s" \
  "${pip[@]}" wheel -q --no-deps --no-cache-dir -w "$folder" \
  --config-settings="--build-option=--conf:CUDA_ENABLE_CURAND=False" "${PYCUDA:-pycuda}"
"${pip[@]}" download -q --only-binary=:all: --no-deps -d "$folder" \
  pytools platformdirs mako markupsafe siphash24 typing_extensions pluggy click rich markdown-it-py \
  mdurl pygments ml_dtypes pytest pytest-timeout iniconfig packaging hypothesis sortedcontainers \
  nvidia-cuda-nvrtc
ls -l "$folder"
