#!/usr/bin/env bash
# Everything that needs a GPU, in one command of at most 9 minutes: the kernels' tests, compute-sanitizer, checkpoints end
# to end, and benchmarks. It installs nothing; tests/gpu/pack.sh makes what it needs, on another machine if need be.
# Usage: run.sh      Environment: PLUQ_GPU_PACK (default build-gpu-pack), OUT (a copy of the results goes there),
# PLUQ_GPU_SECONDS (default 525).
# Writes tests/bench/results/GPU-DATE.{json,md}. A step that cannot run here is "not run" with its reason, never passed.
# Exit 0: no step failed; 1: one did; 77: nothing could run.
set -uo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
archive=${PLUQ_GPU_PACK:-$source/build-gpu-pack}/pack.tar.xz
limit=${PLUQ_GPU_SECONDS:-525}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
: > "$work/steps"
ran=0 failed=0 skipped=0

left() { echo $((limit - SECONDS)); }
note() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >> "$work/steps"; printf '%-34s %-8s %4ss  %s\n' "$1" "$2" "$3" "$4"; }
skip() { skipped=$((skipped + 1)); note "$1" "not run" 0 "$2"; }
# step NAME SECONDS COMMAND...: its last line of output is the note. Exit 77 of the command: not run.
step() {
  local name=$1 most=$2 begin=$SECONDS code=0 said
  shift 2
  [ "$most" -le "$(left)" ] || most=$(left)
  [ "$most" -ge 5 ] || { skip "$name" "no time left"; return; }
  { echo "==== $name: $*"; timeout -k 5 "$most" "$@"; } > "$work/step" 2>&1 || code=$?
  cat "$work/step" >> "$log"
  said=$(grep -v '^[[:space:]]*$' "$work/step" | tail -1 | tr '\t' ' ' | cut -c1-160)
  if [ $code = 77 ]; then skip "$name" "$said"; return; fi
  ran=$((ran + 1))
  if [ $code = 0 ]; then note "$name" passed $((SECONDS - begin)) "$said"; return; fi
  failed=$((failed + 1))
  [ $code != 124 ] && [ $code != 137 ] || said="stopped after $most s; $said"
  note "$name" FAILED $((SECONDS - begin)) "exit $code: $said"
  grep -v '^\[ *\(RUN\|OK\)' "$work/step" | tail -25 | sed 's/^/    /'
}

gpu=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader 2> /dev/null | head -1)
if [ -z "$gpu" ]; then why="no GPU: nvidia-smi says nothing"; elif [ ! -f "$archive" ]; then why="no $archive: run tests/gpu/pack.sh first"; else why=; fi
tests="engine_ops sampling byte_gemm block_linear load weight_only"
if [ -n "$why" ]; then
  for t in $tests; do skip "kernels $t" "$why"; done
  for t in memcheck racecheck initcheck synccheck; do skip "sanitizer $t" "$why"; done
  skip "checkpoints" "$why"
  skip "benchmark" "$why"
  echo "0 run, 0 failed, $skipped not run: $why"
  exit 77
fi
pack=$work/pack
mkdir "$pack" && tar -C "$pack" -xJf "$archive" || { echo "cannot unpack $archive"; exit 1; }
need=$(sed 's/GLIBC_//' "$pack/glibc") have=$(ldd --version | head -1 | grep -oE '[0-9]+\.[0-9]+$')
[ "$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -1)" = "$need" ] ||
  { echo "0 run: the pack needs glibc $need, this machine has $have; run pack.sh on a distribution no newer than this one"; exit 77; }
# cuBLASLt: the toolkit's, or the one that PyTorch brings along.
cublas=$(ls -d /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib \
  "$(python3 -c 'import nvidia.cu13 as m; print(list(m.__path__)[0])' 2> /dev/null)/lib" \
  "$(python3 -c 'import nvidia.cublas as m; print(list(m.__path__)[0])' 2> /dev/null)/lib" 2> /dev/null | paste -sd:)
export LD_LIBRARY_PATH="$pack/lib:$cublas:${LD_LIBRARY_PATH:-}"
export PLUQ_TEST_DEVICE=cuda
cd "$pack" || exit 1
step "what is there" 20 bash -c "bin/pluq doctor 2>&1 | grep -i cuda"
for t in $tests; do step "kernels $t" 60 "tests/cuda_${t}_test"; done

sanitize() {
  $1 tests/cuda_weight_only_test '--gtest_filter=*TilesShared*:*Repacks*:*Wgmma*' && $1 tests/cuda_engine_ops_test '--gtest_filter=*Paged*/bf16:*Added*/bf16:*SumsAreNormed*/bf16' &&
    $1 tests/cuda_byte_gemm_test '--gtest_filter=*PartsOfK*:*Fp8OnUnits*' && $1 tests/cuda_block_linear_test '--gtest_filter=*FourBit*:*Nf4*' &&
    $1 tests/cuda_sampling_test '--gtest_filter=*EqualLogits*'
}
export -f sanitize
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null)
for tool in memcheck racecheck initcheck synccheck; do
  [ -n "$sanitizer" ] || { skip "sanitizer $tool" "no compute-sanitizer"; continue; }
  # Managed memory, which the tests use, counts as initialised by the host.
  # The smallest shapes of every family of kernels, one program after the other.
  step "sanitizer $tool" 50 bash -c "sanitize '$sanitizer --tool $tool --error-exitcode 9'"
done

# Real checkpoints: logits and tokens against what the tools that made them computed.
if [ -f check_fixtures.py ] && python3 -c 'import numpy' 2> /dev/null; then
  step "checkpoints" 90 python3 check_fixtures.py --pluq bin/pluq --compute fast --bounds bf16 --extra=--device --extra=cuda fixtures
  for sm in 80 89; do
    step "checkpoints as on sm_$sm" 60 env PLUQ_CUDA_SM=$sm python3 check_fixtures.py --pluq bin/pluq --compute fast --bounds bf16 \
      --extra=--device --extra=cuda fixtures
  done
else
  skip "checkpoints" "no check_fixtures.py in the pack, or no numpy"
fi
if python3 -c 'import numpy' 2> /dev/null; then
  step "recorded decode steps" 30 python3 "$source/tests/gpu/decode.py" bin/pluq tiny-llama
else
  skip "recorded decode steps" "no numpy"
fi

# Activations rounded by the engine's kernels and by each layer: the same bits.
same_rounding() {
  local name who
  for name in hf-fp8-static ct-w8a8-dynamic; do
    for who in engine methods; do
      PLUQ_CUDA_ROUNDING=$who bin/pluq logits "fixtures/$name" --ids 5,9,200,31,77,12 --out "$work/$who.npy" --quiet \
        --device "${PLUQ_TEST_DEVICE:-cuda}" || return 1
    done
    cmp "$work/engine.npy" "$work/methods.npy" || return 1
  done
  echo "the same logits by whoever rounds"
}
export -f same_rounding; export work
if [ -d fixtures/hf-fp8-static ] && [ -d fixtures/ct-w8a8-dynamic ]; then
  step "rounding" 30 bash -c same_rounding
else
  skip "rounding" "no checkpoints in the pack"
fi

bench() { tests/gpu_linear_bench --seconds 0.02 > "$work/bench.json" && echo "$(grep -c '"kind"' "$work/bench.json") timings"; }
export -f bench
step "benchmark" 120 bash -c bench
attend() { tests/gpu_attention_bench > "$work/attention.json" && echo "$(grep -c '"kv"' "$work/attention.json") timings"; }
export -f attend
step "benchmark of attention" 40 bash -c attend
if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  step "benchmark of PyTorch" 100 bash -c "python3 '$source/tests/bench/gpu_torch_bench.py' > '$work/torch.json' && echo done"
else
  skip "benchmark of PyTorch" "no PyTorch with CUDA"
fi

cd "$source" || exit 1
mkdir -p tests/bench/results
name=$(echo "${gpu%%,*}" | tr ' /' '--')-$(date +%F)
python3 tests/gpu/report.py "$work" "$gpu" "$(git rev-parse --short HEAD 2> /dev/null)" "tests/bench/results/$name"
if [ -n "${OUT:-}" ]; then mkdir -p "$OUT" && cp "tests/bench/results/$name".* "$OUT/" && tail -c 4000000 "$log" > "$OUT/log.txt"; fi
echo "$ran run, $failed failed, $skipped not run; tests/bench/results/$name.md"
[ $failed = 0 ]
