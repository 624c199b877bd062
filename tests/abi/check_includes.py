#!/usr/bin/env python3
"""The include direction: sdk includes nothing of ours, plugins only the sdk and themselves, a room of core only the sdk,
itself and the rooms to its left. ISA files (by name) include no C++ standard header.
    check_includes.py SOURCE_DIR"""
import os
import re
import sys

ROOMS = 'base checkpoint tokenizer config device plugin model engine quantize evaluate server cli'.split()
ISA_FILE = re.compile(r'(_(portable|avx2|avx512\w*)\.(cc|inl))$|(vec_\w+\.h)$')
top = sys.argv[1]
bad, seen = [], 0


def includes(path):
    for number, line in enumerate(open(path, encoding='utf-8'), 1):
        found = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if found:
            yield number, found.group(1), found.group(2)


for area in ('sdk/include', 'sdk/cmake', 'plugins', 'core'):
    for folder, _, names in os.walk(os.path.join(top, area)):
        for name in names:
            if not name.endswith(('.h', '.hpp', '.cc', '.c', '.inl')):
                continue
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, top)
            seen += 1
            for number, quote, target in includes(path):
                first = target.split('/')[0]
                where = f'{relative}:{number}: includes {target}'
                if area == 'sdk/include' and quote == '"' and first != 'pluq':
                    bad.append(where + ', the SDK may include only itself')
                if area == 'plugins' and quote == '"' and first not in ('pluq', relative.split('/')[1]):
                    bad.append(where + ', a plugin may include only the SDK and itself')
                if area == 'core' and quote == '"' and first != 'pluq' and relative.count('/') > 1:
                    room = relative.split('/')[1]
                    if room == 'cli' and first == 'conformance':
                        continue  # the kit of sdk/conformance, built over the rooms
                    if first not in ROOMS or ROOMS.index(first) > ROOMS.index(room):
                        bad.append(where + f', room {room} may include only itself and rooms to its left')
                if ISA_FILE.search(name) and quote == '<' and target not in ('immintrin.h', 'stdint.h', 'stddef.h', 'string.h', 'math.h'):
                    bad.append(where + ', an ISA file may include only intrinsics and C headers')
for folder, _, names in os.walk(top):
    if '/build' in folder or '/.git' in folder:
        continue
    for name in names:
        if name.endswith(('.h', '.hpp', '.cc')) and '<regex>' in open(os.path.join(folder, name), encoding='utf-8').read():
            bad.append(f'{os.path.join(folder, name)}: std::regex recurses per character and is not used here')
print('\n'.join(bad) or f'{seen} files follow the include direction')
sys.exit(bool(bad) or seen < 100)
