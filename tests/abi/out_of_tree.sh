#!/usr/bin/env bash
# A format built outside the repository, against the installed SDK only, by gcc and by clang: dropped in beside the others it
# quantizes and runs a model, and nothing of pluq is rebuilt.
# Usage: out_of_tree.sh SOURCE_DIR BUILD_DIR MODEL
set -euo pipefail
source=$1 build=$2 model=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
before=$(sha256sum "$build/bin/pluq" "$build"/lib/pluq/plugins/*.so)
cmake --install "$build" --prefix "$work/pluq" > /dev/null
cp -r "$source/sdk/examples/rowwise_int8" "$work/mine"
pluq=$work/pluq/bin/pluq
"$pluq" plugins list --json | grep -q '"id":"pluq.dense"' || { echo "the install tree does not find its plugins"; exit 1; }
for compiler in g++ clang++-19; do
  command -v "$compiler" > /dev/null || { echo "no $compiler here: not tried"; continue; }
  c=${compiler/++/cc}; c=${c/clangcc/clang}
  cmake -S "$work/mine" -B "$work/b-$compiler" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/pluq" \
    -DCMAKE_C_COMPILER="$c" -DCMAKE_CXX_COMPILER="$compiler" > /dev/null
  cmake --build "$work/b-$compiler" > /dev/null
  python3 "$source/tests/abi/check_plugin.py" "$work/b-$compiler/lib/pluq/plugins/rowwise_int8.so"
  plugins=$work/drop-$compiler
  mkdir -m 755 "$plugins"
  cp "$work/b-$compiler/lib/pluq/plugins/rowwise_int8.so" "$plugins/"
  "$pluq" quantize "$model" -o "$work/out-$compiler" --format rowwise_int8 --plugins "$plugins" --quiet > /dev/null
  text=$("$pluq" run "$work/out-$compiler" -p "In the beginning God" -n 8 --temperature 0 --plugins "$plugins" --json --quiet)
  echo "$compiler: $text" | cut -c1-160
  echo "$text" | grep -q '"stop_reason"'
  # Without the plugin: exit 4 and a sentence that names the method and where was looked.
  set +e
  message=$("$pluq" run "$work/out-$compiler" -p x --quiet 2>&1)
  code=$?
  set -e
  [ "$code" -eq 4 ] || { echo "expected exit 4, got $code: $message"; exit 1; }
  case "$message" in *"quant_method 'rowwise_int8'"*"searched in"*) ;; *) echo "unexpected: $message"; exit 1 ;; esac
done
[ "$before" = "$(sha256sum "$build/bin/pluq" "$build"/lib/pluq/plugins/*.so)" ] || { echo "something of pluq was rebuilt"; exit 1; }
