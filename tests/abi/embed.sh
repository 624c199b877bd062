#!/usr/bin/env bash
# The examples of embedding, built against libpluq by every C compiler here and run over a dense and a quantized layer;
# and what libpluq answers to wrong use.
# Usage: embed.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$source/tests/data/tiny
plugins=$build/lib/pluq/plugins
layer=model.layers.0.mlp.up_proj
"$build/bin/pluq" quantize "$model" -o "$work/w4" --format gptq --set group_size=32 --quiet > /dev/null
for compiler in gcc clang-19; do
  command -v "$compiler" > /dev/null || { echo "no $compiler here: not tried"; continue; }
  "$compiler" -std=c11 -Wall -Wextra -Wshadow -Wpedantic -Werror "$source/sdk/examples/embed/linear.c" -I "$source/sdk/include" \
    -L "$build/lib" -Wl,-rpath,"$build/lib" -lpluq -lpthread -lm -o "$work/linear"
  for m in "$model" "$work/w4"; do "$work/linear" "$plugins" "$m" "$layer"; done
  "$compiler" -std=c11 -Wall -Wextra -Wshadow -Wpedantic -Werror "$source/tests/abi/embed_misuse.c" -I "$source/sdk/include" \
    -L "$build/lib" -Wl,-rpath,"$build/lib" -lpluq -lpthread -o "$work/misuse"
  for m in "$model" "$work/w4"; do "$work/misuse" "$plugins" "$m" "$layer" model.layers.0.self_attn.q_proj; done
done
python3 "$source/sdk/examples/embed/linear.py" "$build/lib/libpluq.so" "$work/w4" "$layer" "$plugins"
# Without a directory the plugins beside the library are found.
python3 "$source/sdk/examples/embed/linear.py" "$build/lib/libpluq.so" "$model" "$layer" > /dev/null
# A checkpoint that is not there is an error with a sentence, never a crash.
if "$work/linear" "$plugins" "$work/none" "$layer" 2> "$work/error"; then echo "accepted a missing checkpoint"; exit 1; fi
grep -q "error 1: .*none" "$work/error" || { cat "$work/error"; exit 1; }
