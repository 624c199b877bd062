#!/usr/bin/env bash
# Fuzzes for hours: builds the targets with AddressSanitizer, UndefinedBehaviorSanitizer and coverage (clang), and gives each the
# same share of the time, one after the other or JOBS side by side. What is interesting is kept in build/fuzz/corpus and is where
# the next run goes on; what fails is left as build/fuzz/found-TARGET-*.
# Usage: tests/fuzz/run.sh HOURS [TARGET...]    JOBS=2 tests/fuzz/run.sh 8
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
hours=${1:?how many hours, for example 8 or 0.5}
shift
cd "$root"
cmake --preset fuzz > /dev/null
[ $# -gt 0 ] || set -- $(sed -n 's/^pluq_add_fuzz(\([a-z_]*\) .*/\1/p' tests/fuzz/CMakeLists.txt)
seconds=$(awk "BEGIN {print int($hours * 3600 * ${JOBS:-1} / $#)}")
[ "$seconds" -ge 1 ] || { echo "$hours hours are less than a second for each of $# targets" >&2; exit 2; }
cmake --build build/fuzz --target $(printf 'fuzz_%s ' "$@")

one() {
  local target=$1 seconds=$2 out=build/fuzz
  mkdir -p "$out/corpus/$target"
  local directories=("$out/corpus/$target" "$out/tests/fuzz/seeds/$target")
  [ ! -d "tests/fuzz/found/$target" ] || directories+=("tests/fuzz/found/$target")
  "$out/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=131072 \
    -artifact_prefix="$out/found-$target-" -print_final_stats=1 "${directories[@]}" > "$out/$target.log" 2>&1 ||
    { echo "$target: FOUND something, see $out/$target.log"; return 1; }
  echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log") inputs, nothing found"
}
export -f one
printf '%s\n' "$@" | xargs -P "${JOBS:-1}" -I{} bash -c 'one {} '"$seconds"
