#!/usr/bin/env bash
# Real checkpoints made by other tools, judged by the tool that comes with them, in both arithmetic modes and on every
# instruction set of this machine. Usage: fixtures.sh PLUQ [sm80|sm89|sm90 [all]]; fixtures in $PLUQ_FIXTURES. Exit 77: there are none.
# With a GPU family: one checkpoint per format on the emulated device; with all: every checkpoint.
set -euo pipefail
pluq=$1
mode=${2:-cpu}
fixtures=${PLUQ_FIXTURES:-}
[ -n "$fixtures" ] && [ -f "$fixtures/../tools/check_fixtures.py" ] || { echo "no fixtures (PLUQ_FIXTURES): skipped"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/fixtures"
names="base gptq-w4-g128 gptq-w4-g32-actorder awq-gemm-g128 hf-fp8-block hf-fp8-static ct-fp8-dynamic ct-w8a8-dynamic ct-w4a16-g128
  gptq-w2-g32-asym gptq-w3-g32 gptq-w8-channel gptq-w4-asym-g64 gptq-v2-w4-asym-g128 gptq-planar-w5-g64 gptq-dynamic ct-w3a16-g128
  ct-w4a16-asym-actorder-g32 ct-fp8-block gptqmodel-fp8-block-inverse ct-mixed
  ct-w8a8-static ct-w8a8-azp-dynamic autoawq-gemv-g64 autoawq-gemv-fast-g128 bnb-nf4-double ct-mxfp4a16 ct-nvfp4a16 ct-w4a16-kv-fp8 gguf"
if [ "$mode" != cpu ] && [ "${3:-}" != all ]; then
  names="base gptq-w4-g128 awq-gemm-g128 hf-fp8-static ct-w8a8-dynamic bnb-nf4-double ct-mxfp4a16 ct-nvfp4a16 gguf"
fi
for name in $names; do
  [ -d "$fixtures/$name" ] || continue
  cp -rL "$fixtures/$name" "$work/fixtures/$name"
  chmod -R u+w "$work/fixtures/$name"
  # Where links could not be kept, a short file names the tokenizer to use.
  tokenizer=$work/fixtures/$name/tokenizer.json
  [ ! -e "$tokenizer" ] || [ "$(stat -c %s "$tokenizer")" -gt 200 ] || cp "$fixtures/base/tokenizer.json" "$tokenizer"
done
if [ "$mode" != cpu ]; then
  # One file of GGUF is enough here; the block types have tests of their own.
  [ "${3:-}" = all ] || rm -f "$work"/fixtures/gguf/tiny-q4_0* "$work"/fixtures/gguf/tiny-q2_k*
  # Coarse static steps amplify the error of 16-bit activations: noise of its size alone, in f32 arithmetic, gives a KL of
  # 7e-4 to 1.1e-3 (tests/bench/rounding_noise.py), above the 5e-4 of its class. The other bounds stay.
  static=$work/fixtures/ct-w8a8-static/expected.json
  [ ! -f "$static" ] || /usr/bin/python3 -c 'import json, sys
path = sys.argv[1]
expected = {**json.load(open(path)), "bounds": [2.5e-2, 1.5e-3, 1.0]}
json.dump(expected, open(path, "w"))' "$static"
  /usr/bin/python3 "$fixtures/../tools/check_fixtures.py" --pluq "$pluq" --compute fast --bounds bf16 \
    --extra=--device "--extra=cuda-emulated:$mode" "$work/fixtures"
  exit 0
fi
for isa in portable avx2 avx512; do
  PLUQ_ISA=$isa "$pluq" doctor > /dev/null 2>&1 || { echo "$isa: not on this machine, skipped"; continue; }
  # The perplexities once, on the widest instruction set that every machine of today has.
  perplexity=$([ $isa = avx2 ] && echo --perplexity || true)
  for compute in exact fast; do
    echo "== $isa $compute"
    PLUQ_ISA=$isa /usr/bin/python3 "$fixtures/../tools/check_fixtures.py" --pluq "$pluq" --compute "$compute" $perplexity "$work/fixtures"
  done
done
