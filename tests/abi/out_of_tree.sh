#!/usr/bin/env bash
# Formats built outside the repository, against the installed SDK only, by gcc and by clang: the examples, and what
# `pluq sdk new` writes. Each passes the conformance kit, quantizes a model, serves its layers, runs it and is compared with
# the unquantized model; nothing of pluq is rebuilt.
# Usage: out_of_tree.sh SOURCE_DIR BUILD_DIR MODEL [EXAMPLE...]; PLUQ_COMPILERS: which compilers (default both).
set -euo pipefail
source=$1 build=$2 model=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache  # verdicts of trials
before=$(sha256sum "$build/bin/pluq" "$build"/lib/pluq/plugins/*.so)
cmake --install "$build" --prefix "$work/pluq" > /dev/null
pluq=$work/pluq/bin/pluq
"$pluq" plugins list --json | grep -q '"id":"pluq.dense"' || { echo "the install tree does not find its plugins"; exit 1; }

mkdir "$work/src"
if [ $# -eq 0 ]; then
  for example in "$source"/sdk/examples/*/CMakeLists.txt; do set -- "$@" "$(basename "$(dirname "$example")")"; done
  set -- "$@" my_first_format my_cuda_format
fi
for name in "$@"; do
  case $name in
    my_first_format) (cd "$work/src" && "$pluq" sdk new "$name" > /dev/null) ;;
    my_cuda_format) (cd "$work/src" && "$pluq" sdk new "$name" --cuda > /dev/null) ;;
    *) cp -r "$source/sdk/examples/$name" "$work/src/" ;;
  esac
done

# near_base FILE: an eval against the base whose numbers are those of a quantized model, not of a broken or an equal one.
near_base() {
  python3 - "$1" <<'PY'
import json, math, sys
e = json.load(open(sys.argv[1]))
sys.exit(not (e['tokens'] > 0 and 0 < e['kl_mean'] < 0.5 and abs(math.log(e['perplexity'] / e['base_perplexity'])) < 0.5))
PY
}

# try NAME COMPILER: build, check, quantize, run, and be missed.
try() {
  local name=$1 compiler=$2 c plugins=$work/drop-$1-$2 so text message code
  c=${compiler/++/cc}; c=${c/clangcc/clang}
  # nvcc takes longer than all the rest: it is looked for once. The others are built as on a machine without it.
  local cuda=OFF device=""
  [ "$name-$compiler" != my_cuda_format-g++ ] || cuda=AUTO
  cmake -S "$work/src/$name" -B "$work/b-$name-$compiler" -DCMAKE_BUILD_TYPE=Release -DPLUQ_CUDA=$cuda -DPLUQ_CUDA_SM=80 -DCMAKE_PREFIX_PATH="$work/pluq" \
    -DCMAKE_C_COMPILER="$c" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_C_FLAGS="-Wall -Wextra -Wshadow -Wpedantic -Werror" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Wshadow -Wpedantic -Werror" > /dev/null
  cmake --build "$work/b-$name-$compiler" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
  so=$work/b-$name-$compiler/lib/pluq/plugins/$name.so
  python3 "$source/tests/abi/check_plugin.py" "$so" > /dev/null
  "$pluq" plugins check "$so" --quiet --out "$work/conformance.json" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
  mkdir -m 755 "$plugins"
  cp "$so" "$plugins/"
  "$pluq" quantize "$model" -o "$work/out-$name-$compiler" --format "$name" --plugins "$plugins" --quiet > /dev/null
  text=$("$pluq" run "$work/out-$name-$compiler" -p "In the beginning God" -n 8 --temperature 0 --plugins "$plugins" --json --quiet)
  echo "$text" | grep -q '"stop_reason"'
  for _ in 1 2 3 4 5 6 7 8; do echo "In the beginning God created the heaven and the earth."; done > "$work/text"
  "$pluq" inspect "$work/out-$name-$compiler" --plugins "$plugins" > "$work/log"
  grep -q "^model.layers.0.mlp.up_proj .* $name " "$work/log" || { cat "$work/log"; return 1; }
  local eval=("$pluq" eval "$work/out-$name-$compiler" --base "$model" --text "$work/text" --protocol bos-16 --plugins "$plugins" --quiet --json)
  "${eval[@]}" > "$work/eval" 2> "$work/log" && near_base "$work/eval" || { cat "$work/log" "$work/eval"; return 1; }
  if ls "$work/src/$name"/*.cu.inl > /dev/null 2>&1; then
    # The same on the emulated device, by the plugin's own kernels and with every detector.
    "$pluq" inspect "$work/out-$name-$compiler" --plugins "$plugins" --device cuda-emulated > "$work/log"
    [ "$(grep -c "cuda_${name#cuda_}" "$work/log")" -ge 14 ] || { cat "$work/log"; return 1; }
    local logits=("$pluq" logits "$work/out-$name-$compiler" --ids 1,5,9,200,31,7,8,12,40,41,42,43,44,45,46,47,48 --plugins "$plugins" --quiet)
    "${logits[@]}" --compute exact --out "$work/cpu.npy" > /dev/null
    export PLUQ_CUDA_CHECKS=all
    "${logits[@]}" --device cuda-emulated --out "$work/device.npy" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
    python3 "$source/tests/abi/near.py" "$work/cpu.npy" "$work/device.npy" 0.02
    "$pluq" run "$work/out-$name-$compiler" -p "In the beginning God" -n 8 --temperature 0 --plugins "$plugins" --json --quiet \
      --device cuda-emulated > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
    "${eval[@]}" --device cuda-emulated > "$work/eval" 2> "$work/log" && near_base "$work/eval" ||
      { cat "$work/log" "$work/eval"; return 1; }
    unset PLUQ_CUDA_CHECKS
    device=", emulated too"
    [ $cuda = OFF ] || device="$device, with nvcc where it is"
  fi
  # Without the plugin: exit 4 and a sentence that names the method and where was looked.
  code=0
  message=$("$pluq" run "$work/out-$name-$compiler" -p x --quiet 2>&1) || code=$?
  [ "$code" -eq 4 ] || { echo "$name: expected exit 4, got $code: $message"; return 1; }
  case "$message" in *"quant_method '$name'"*"searched in"*) ;; *) echo "unexpected: $message"; return 1 ;; esac
  echo "$name by $compiler: conforms, quantizes, runs, evaluated$device"
}

for compiler in ${PLUQ_COMPILERS:-g++ clang++-19}; do
  command -v "$compiler" > /dev/null || { echo "no $compiler here: not tried"; continue; }
  for name in "$@"; do try "$name" "$compiler"; done
done
[ "$before" = "$(sha256sum "$build/bin/pluq" "$build"/lib/pluq/plugins/*.so)" ] || { echo "something of pluq was rebuilt"; exit 1; }
