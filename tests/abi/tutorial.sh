#!/usr/bin/env bash
# The tutorial of sdk/README.md, step by step with the code that is printed there: a format from `pluq sdk new` passes
# the kit, gets the AVX2 kernel of step 4, passes again, and is then several times as fast by bench-linear.
# Usage: tutorial.sh SOURCE_DIR BUILD_DIR MODEL. Exit code 77: no AVX2 here.
set -euo pipefail
source=$1 build=$2 model=$3
grep -q avx2 /proc/cpuinfo || { echo "no AVX2 here: not run"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
cmake --install "$build" --prefix "$work/pluq" > /dev/null
export PATH=$work/pluq/bin:$PATH
cmp "$source/sdk/README.md" "$work/pluq/share/pluq/sdk/README.md"
[ -f "$work/pluq/share/pluq/sdk/examples/int3_group/int3_group.cc" ] || { echo "the examples are not installed"; exit 1; }

cd "$work"
pluq sdk new my_format > /dev/null
cd my_format
plugins=$work/my_format/build/lib/pluq/plugins
make_it() {
  cmake -S . -B build -DCMAKE_PREFIX_PATH="$work/pluq" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Wshadow -Wpedantic -Werror" > "$work/log" &&
    cmake --build build >> "$work/log" 2>&1 || { cat "$work/log"; return 1; }
  ! grep -q "CUDA compiler" "$work/log" || { echo "nvcc is looked for by a format without CUDA"; return 1; }
  pluq plugins check "$plugins/my_format.so" --quiet --out "$work/conformance.json" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
}
# Microseconds of one product with one row of x.
measure() {
  pluq bench-linear --format my_format --plugins "$plugins" --n 2048 --k 4096 --m 1 --repeat 3 --quiet --json > "$work/bench"
  python3 -c "import json, sys; row = json.load(open(sys.argv[1]))['rows'][0]; print(row['kernel'], row['seconds'] * 1e6)" "$work/bench"
}
make_it
read -r kernel before <<< "$(measure)"
[ "$kernel" = dequantize ]

python3 - "$source/sdk/README.md" <<'PY'
import re, sys
tutorial = open(sys.argv[1], encoding='utf-8').read().split('\n## ')[1]
header, kernel, members = re.findall(r'```cpp\n(.*?)```\n', tutorial, re.S)
open('kernel.h', 'w').write(header)
open('kernel_avx2.cc', 'w').write(kernel)

def edit(path, *pairs):
    text = open(path).read()
    for old, new in pairs:
        assert text.count(old) == 1, f'{path}: {text.count(old)} times {old!r}'
        text = text.replace(old, new)
    open(path, 'w').write(text)

edit('CMakeLists.txt', ('SOURCES my_format.cc', 'SOURCES my_format.cc kernel_avx2.cc'))
describe = re.search(r'`(info\.kernel = [^`]*;)`', tutorial).group(1)
made = re.search(r'`(std::make_unique<Method>\(layer, device\))`', tutorial).group(1)
edit('my_format.cc', ('#include "pluq/plugin.hpp"', '#include "kernel.h"\n#include "pluq/plugin.hpp"'),
     ('  using LinearMethod::LinearMethod;\n', members), ('info.kernel = "dequantize";', describe),
     ('const pluq::Device&) override', 'const pluq::Device& device) override'), ('std::make_unique<Method>(layer)', made))
PY
make_it
read -r kernel after <<< "$(measure)"
[ "$kernel" = my_format_avx2 ]
python3 -c "import sys; gain = float(sys.argv[1]) / float(sys.argv[2]); print(f'one row of x: {gain:.1f} times as fast'); sys.exit(gain < 4)" "$before" "$after"
# Without AVX2 the same file falls back to the SDK's apply.
PLUQ_ISA=portable measure | grep -q "^dequantize "

pluq quantize "$model" -o "$work/out" --format my_format --plugins "$plugins" --quiet > /dev/null
pluq run "$work/out" -p "In the beginning" -n 4 --temperature 0 --plugins "$plugins" --quiet > /dev/null
pluq inspect "$work/out" --plugins "$plugins" | grep -q my_format_avx2
for _ in 1 2 3 4 5 6 7 8; do echo "In the beginning God created the heaven and the earth."; done > "$work/text"
pluq eval "$work/out" --base "$model" --text "$work/text" --protocol bos-16 --plugins "$plugins" --quiet > /dev/null
# Step 7: a directory of the user's and an allow list, in YAML.
mkdir -m 755 "$work/mine"
cp "$plugins/my_format.so" "$work/mine/"
sha256sum "$work/pluq"/lib/pluq/plugins/*.so "$work/mine"/*.so > "$work/mine/allow.txt"
cat > "$work/run.yaml" <<YAML
model: $model
plugins: {paths: [$work/mine], allow: $work/mine/allow.txt}
formats:
  mine: {type: my_format}
layers:
  - {match: "*.mlp.*", format: mine}
YAML
pluq run --config "$work/run.yaml" -p "In the beginning" -n 4 --temperature 0 --quiet > /dev/null
echo >> "$work/mine/my_format.so"
! pluq run --config "$work/run.yaml" -p x -n 1 --quiet 2> "$work/log" || { echo "a changed file was loaded"; exit 1; }
grep -q "is not in $work/mine/allow.txt" "$work/log" || { cat "$work/log"; exit 1; }
