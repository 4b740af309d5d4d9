#!/usr/bin/env bash
# A wheel of unmodified pycuda, which its authors publish as source only.
#
#   tests/gpu/pycuda_wheel.sh PYTHON FOLDER
#
# PYTHON is an interpreter, with pip, of the version that the wheel is for. The headers are those of
# the CUDA toolkit (CUDA_ROOT, /usr/local/cuda by default) or, where there is none, of NVIDIA's
# packages on PyPI. Neither a GPU nor a driver is needed: what the linker asks for is an empty
# library of the driver's name. cuRAND is left out. CFLAGS holds more options for the compiler.
set -euo pipefail
pip=("$1" -m pip)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

include=${CUDA_ROOT:-/usr/local/cuda}/include
if [ ! -f "$include/cuda.h" ]; then
  "${pip[@]}" install -q --no-deps --target "$work/headers" \
    nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-profiler-api
  include=$(dirname "$(find "$work/headers" -name cuda.h | head -n 1)")
fi
mkdir "$work/stub"
echo 'int cuInit(unsigned flags) { (void)flags; return 100; }' >"$work/stub.c"
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/stub/libcuda.so" "$work/stub.c"

# pip keeps what it built with these settings and would hand it to others: no cache.
flags="-g0 ${CFLAGS:-}"
CPLUS_INCLUDE_PATH=$include LIBRARY_PATH=$work/stub CFLAGS=$flags CXXFLAGS=$flags LDFLAGS=-s \
  "${pip[@]}" wheel -q --no-deps --no-cache-dir -w "$2" \
  --config-settings="--build-option=--conf:CUDA_ENABLE_CURAND=False" "${PYCUDA:-pycuda}"
