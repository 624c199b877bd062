#!/usr/bin/env python3
"""Each plugin exports exactly the entry symbol, needs only the C library, and has no RUNPATH and no executable stack.
    check_plugin.py FILE.so..."""
import subprocess
import sys

ALLOWED = {'libc.so.6', 'libm.so.6', 'ld-linux-x86-64.so.2', 'libpthread.so.0', 'libdl.so.2', 'librt.so.1'}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


bad = []
for path in sys.argv[1:]:
    exports = [line.split()[-1] for line in run('nm', '-D', '--defined-only', path).splitlines()]
    if exports != ['pluq_plugin_entry_v1']:
        bad.append(f'{path}: exports {exports}')
    dynamic = run('readelf', '-dW', path)
    needed = {line.split('[')[1].rstrip(']') for line in dynamic.splitlines() if '(NEEDED)' in line}
    if needed - ALLOWED:
        bad.append(f'{path}: needs {sorted(needed - ALLOWED)}')
    if 'RUNPATH' in dynamic or 'RPATH' in dynamic or 'TEXTREL' in dynamic:
        bad.append(f'{path}: RUNPATH, RPATH or TEXTREL')
    stack = [line for line in run('readelf', '-lW', path).splitlines() if 'GNU_STACK' in line]
    if not stack or 'RWE' in stack[0]:
        bad.append(f'{path}: executable stack')
print('\n'.join(bad) or f'{len(sys.argv) - 1} plugins checked')
sys.exit(bool(bad) or len(sys.argv) < 2)
