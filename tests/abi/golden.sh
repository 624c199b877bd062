#!/usr/bin/env bash
# The binaries of tests/abi/golden on this host: their hashes, the conformance kit, a model quantized and run with each.
# Usage: golden.sh SOURCE_DIR BUILD_DIR MODEL
set -euo pipefail
golden=$1/tests/abi/golden pluq=$2/bin/pluq model=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache  # verdicts of trials
cd "$golden"
sha256sum --quiet -c SHA256SUMS
listed=$(awk '{print $2}' SHA256SUMS | sort)
[ "$listed" = "$(ls */*.so | sort)" ] || { echo "SHA256SUMS does not list what is there"; exit 1; }
for so in $listed; do
  name=$(basename "$so" .so)
  plugins=$work/$(dirname "$so")-$name
  mkdir -m 755 "$plugins"
  install -m 644 "$so" "$plugins/"
  for group in file.manifest load metadata config weights quantizer numerics embedding memory lifetime; do
    "$pluq" plugins check "$plugins/$name.so" --quiet --only $group --out "$work/report.json" > "$work/log" 2>&1 ||
      { echo "$so:"; cat "$work/log"; exit 1; }
  done
  "$pluq" plugins list --plugins "$plugins" --json > "$work/list"
  grep -q "\"abi\":\"$(dirname "$so")\"" "$work/list" || { echo "$so is not told as ABI $(dirname "$so")"; exit 1; }
  "$pluq" quantize "$model" -o "$work/out-$name" --format "$name" --plugins "$plugins" --quiet > /dev/null
  "$pluq" inspect "$work/out-$name" --plugins "$plugins" > "$work/layers"
  grep -q "$name" "$work/layers" || { echo "$so: no layer of the model is served by it"; cat "$work/layers"; exit 1; }
  "$pluq" logits "$work/out-$name" --ids 1,5,9,200 --compute exact --plugins "$plugins" --quiet --out "$work/a.npy" > /dev/null
  "$pluq" run "$work/out-$name" -p "In the beginning God" -n 8 --temperature 0 --plugins "$plugins" --json --quiet > "$work/run"
  grep -q '"stop_reason"' "$work/run" || { cat "$work/run"; exit 1; }
  echo "$so: as it was built, conforms, quantizes and runs"
done
