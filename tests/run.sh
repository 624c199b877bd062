#!/usr/bin/env bash
# Passes all tests on a fresh Debian 12 machine: installs packages, builds the release preset with warnings as errors,
# and runs every test. Usage: tests/run.sh [--full] [-j N]
#   --full   also ASan + UBSan and gcc builds with their tests (up to 75 minutes on 2 cores)
# Fixtures are looked for in $PLUQ_FIXTURES, else in ../shared/fixtures beside the checkout; without them the tests
# that need them are skipped and counted.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
full=0
jobs=$(nproc)
while [ $# -gt 0 ]; do
  case "$1" in
    --full) full=1 ;;
    -j) shift; jobs=$1 ;;
    *) echo "tests/run.sh: unknown argument '$1'; accepted: --full, -j N" >&2; exit 2 ;;
  esac
  shift
done
bash "$root/tests/install_packages.sh"
if [ -z "${PLUQ_FIXTURES:-}" ] && [ -d "$root/../shared/fixtures" ]; then
  PLUQ_FIXTURES=$(cd "$root/../shared/fixtures" && pwd)
fi
export PLUQ_FIXTURES=${PLUQ_FIXTURES:-}
[ -n "$PLUQ_FIXTURES" ] || echo "no fixtures found (set PLUQ_FIXTURES): tests that need them are skipped"

# What reads compiled CUDA code, where nvcc came without it: from PyPI, into the build folder. Without it those tests are skipped.
if command -v nvcc > /dev/null && ! command -v cuobjdump > /dev/null && [ -z "${CUOBJDUMP:-}" ]; then
  tools=$root/build/cuda-tools
  cuobjdump() { find "$tools" -name cuobjdump -type f 2> /dev/null | head -1; }
  [ -n "$(cuobjdump)" ] || timeout 300 /usr/bin/python3 -m pip install -q --disable-pip-version-check --root-user-action ignore \
    --target "$tools" nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm || echo "no cuobjdump: tests of compiled CUDA code are skipped"
  export CUOBJDUMP=$(cuobjdump)
fi

# one PRESET SMS: configure (CUDA kernels, where nvcc is, for these GPU architectures), build, test; the tests' closing lines end up in the output.
one() {
  echo "== $1"
  (cd "$root" && cmake --preset "$1" -DPLUQ_WERROR=ON -DPLUQ_CUDA_SM="$2" > /dev/null)
  cmake --build "$root/build/$1" -j "$jobs"
  (cd "$root/build/$1" && ctest -j "$jobs" --output-on-failure --timeout 900)
}
one release 80
if [ "$full" -eq 1 ]; then
  one asan 80
  one gcc "80;89;90a"
fi
