#!/usr/bin/env bash
# The generated reference: no warning, every declaration documented, every function and struct of the C headers and the
# rules at the end of abi.h in it. A field without a comment must make it fail.
# Usage: reference.sh SOURCE_DIR. Exit code 77: doxygen is not here.
set -euo pipefail
command -v doxygen > /dev/null || { echo "doxygen is not installed: not run"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$1"
PLUQ_REFERENCE_OUT=$work doxygen sdk/reference/Doxyfile > "$work/out" 2> "$work/warnings"
[ ! -s "$work/warnings" ] || { cat "$work/warnings"; exit 1; }
# The same settings over a header with an undocumented field.
mkdir -p "$work/bad"
printf '/* A struct. */\ntypedef struct pluq_bad {\n  int fine; /* has a comment */\n  int silent;\n} pluq_bad;\n' > "$work/bad/bad.h"
{ cat sdk/reference/Doxyfile; echo "INPUT = $work/bad/bad.h"; } > "$work/bad/Doxyfile"
PLUQ_REFERENCE_OUT=$work/bad doxygen "$work/bad/Doxyfile" 2> "$work/warnings" > "$work/out"
grep -q silent "$work/warnings" && ! grep -q fine "$work/warnings" || { echo "an undocumented field is not noticed"; cat "$work/warnings"; exit 1; }
python3 - "$work/html" <<'PY'
import html, os, re, sys
pages = ' '.join(html.unescape(open(os.path.join(sys.argv[1], n), encoding='utf-8').read()) for n in os.listdir(sys.argv[1]) if n.endswith('.html'))
wanted = {'DEVICES', 'NUMBERS', 'FROZEN', 'CONVENTIONS'}
for header in ('abi.h', 'pluq.h', 'ext/samples.h', 'ext/kv_cache.h', 'ext/gemm.h', 'ext/cuda_emulator.h'):
    text = open('sdk/include/pluq/' + header).read()
    wanted |= set(re.findall(r'^} (pluq_\w+);', text, re.M)) | set(re.findall(r'\b(pluq_\w+)\(', text)) | set(re.findall(r'\(\*(\w+)\)\(', text))
missing = sorted(w for w in wanted if not re.search(r'\b' + w + r'\b', pages))
print(f'{len(wanted)} structs and calls in the reference' if not missing else 'not in the reference: ' + ', '.join(missing))
sys.exit(bool(missing) or len(wanted) < 60)
PY
