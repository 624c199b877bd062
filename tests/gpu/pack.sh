#!/usr/bin/env bash
# Makes what tests/gpu/run.sh needs on a machine with a GPU but without packages, fixtures or network: pluq installed with
# the shared libraries it uses, the kernels' tests, the benchmark, and a few checkpoints, as build-gpu-pack/pack.tar.xz (ignored
# by git).
# Usage: pack.sh [BUILD_DIR]   a configured build tree; default build-gpu, made with PLUQ_GPU_SM (default 90a)
# Environment: PLUQ_FIXTURES (real checkpoints; without them the end-to-end part is left out), PLUQ_GPU_PACK (folder of the
# archive), PLUQ_GPU_PACK_MIB (its limit, default 55: what travels to a lent machine may have 64 with this tree).
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=${PLUQ_GPU_PACK:-$source/build-gpu-pack}
limit=${PLUQ_GPU_PACK_MIB:-55}
pack=$(mktemp -d)
trap 'rm -rf "$pack"' EXIT
build=${1:-}
if [ -z "$build" ]; then
  build=$source/build-gpu
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPLUQ_TESTS=ON -DPLUQ_CUDA=ON \
    "-DPLUQ_CUDA_SM=${PLUQ_GPU_SM:-90a}"
fi
tests="cuda_engine_ops_test cuda_sampling_test cuda_byte_gemm_test cuda_block_linear_test cuda_load_test cuda_weight_only_test"
formats=$(cd "$source/plugins" && for d in */CMakeLists.txt; do echo "${d%/*}"; done)
# shellcheck disable=SC2086
ninja -C "$build" pluq pluq_cuda $formats $tests gpu_linear_bench gpu_attention_bench
grep -q '^PLUQ_CUDA_SM' "$build/CMakeCache.txt" || { echo "pack.sh: $build was configured without CUDA" >&2; exit 1; }

mkdir -p "$pack/bin" "$pack/lib/pluq/plugins" "$pack/tests" "$pack/fixtures"
cp "$build/bin/pluq" "$pack/bin/"
cp "$build/lib/libpluq_cuda.so" "$pack/lib/"
for format in $formats; do cp "$build/lib/pluq/plugins/$format.so" "$pack/lib/pluq/plugins/"; done
for program in $tests gpu_linear_bench gpu_attention_bench; do cp "$build/tests/$program" "$pack/tests/"; done
strip "$pack"/bin/pluq "$pack"/lib/*.so* "$pack"/lib/pluq/plugins/*.so "$pack"/tests/*

# Whatever is not the C library comes along; the loader finds it through LD_LIBRARY_PATH, which run.sh sets.
# cuBLASLt belongs to the toolkit of the machine with the GPU.
for program in "$pack"/bin/pluq "$pack"/lib/*.so* "$pack"/tests/*; do
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | while read -r library; do
  case $(basename "$library") in
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libresolv.so.* | ld-linux* | libcublas* | libcuda.so* | libpluq*) ;;
    *) cp -L "$library" "$pack/lib/" ;;
  esac
done
# The newest version of glibc that anything here asks for.
for program in "$pack"/bin/pluq "$pack"/lib/*.so* "$pack"/lib/pluq/plugins/*.so "$pack"/tests/*; do
  objdump -T "$program" 2> /dev/null | grep -o 'GLIBC_2\.[0-9]*' || true
done | sort -Vu | tail -1 > "$pack/glibc"

fixtures=${PLUQ_FIXTURES:-}
if [ -n "$fixtures" ] && [ -f "$fixtures/../tools/check_fixtures.py" ]; then
  cp "$fixtures/../tools/check_fixtures.py" "$pack/"
  for name in gptq-w4-g128 awq-gemm-g128 hf-fp8-static ct-w8a8-dynamic bnb-nf4-double ct-mxfp4a16 ct-nvfp4a16; do
    [ -d "$fixtures/$name" ] || continue
    cp -rL "$fixtures/$name" "$pack/fixtures/"
    chmod -R u+w "$pack/fixtures/$name"
    tokenizer=$pack/fixtures/$name/tokenizer.json
    # Where links could not be kept, a short file names the tokenizer to use.
    [ ! -e "$tokenizer" ] || [ "$(stat -c %s "$tokenizer")" -gt 200 ] || cp "$fixtures/base/tokenizer.json" "$tokenizer"
  done
else
  echo "pack.sh: no fixtures (PLUQ_FIXTURES): the end-to-end part is left out"
fi
cp -rL "$source/tests/data/families/llama" "$pack/tiny-llama"
cp "$source/tests/data/families/tokenizer.json" "$pack/tiny-llama/"
mkdir -p "$folder"
tar -C "$pack" -cf - . | xz -T0 -6 > "$folder/pack.tar.xz"
size=$(($(stat -c %s "$folder/pack.tar.xz") / 1048576 + 1))
echo "$folder/pack.tar.xz: $size MiB, $(cat "$pack/glibc") or newer, GPU code for $(grep -o '^PLUQ_CUDA_SM:[A-Z]*=.*' "$build/CMakeCache.txt" | cut -d= -f2)"
if [ "$size" -gt "$limit" ]; then
  echo "pack.sh: more than the $limit MiB that may travel (PLUQ_GPU_PACK_MIB); before compression:" >&2
  (cd "$pack" && du -sm -- * fixtures/* lib/pluq/plugins/* | sort -n | tail -12) >&2
  exit 1
fi
