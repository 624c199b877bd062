#!/usr/bin/env bash
# The generated reference: no warning, and every function and struct of the C headers has a page entry.
# Usage: reference.sh SOURCE_DIR. Exit code 77: doxygen is not here.
set -euo pipefail
command -v doxygen > /dev/null || { echo "doxygen is not installed: not run"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$1"
PLUQ_REFERENCE_OUT=$work doxygen sdk/reference/Doxyfile > "$work/out" 2> "$work/warnings"
[ ! -s "$work/warnings" ] || { cat "$work/warnings"; exit 1; }
python3 - "$work/html" <<'PY'
import html, os, re, sys
pages = ' '.join(html.unescape(open(os.path.join(sys.argv[1], n), encoding='utf-8').read()) for n in os.listdir(sys.argv[1]) if n.endswith('.html'))
wanted = set()
for header in ('abi.h', 'pluq.h'):
    text = open('sdk/include/pluq/' + header).read()
    wanted |= set(re.findall(r'^} (pluq_\w+);', text, re.M)) | set(re.findall(r'\b(pluq_\w+)\(', text)) | set(re.findall(r'\(\*(\w+)\)\(', text))
missing = sorted(w for w in wanted if not re.search(r'\b' + w + r'\b', pages))
print(f'{len(wanted)} structs and calls in the reference' if not missing else 'not in the reference: ' + ', '.join(missing))
sys.exit(bool(missing) or len(wanted) < 60)
PY
