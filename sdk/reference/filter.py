#!/usr/bin/env python3
"""Doxygen's input filter: turns this project's plain comments into ones that Doxygen attaches to what follows (or, after
code on the same line, to what stands before). filter.py FILE"""
import re
import sys

text = open(sys.argv[1], encoding='utf-8').read()


def safe(comment):
    """Doxygen reads <x>, @x, \\x and #x as markup; ours is plain text."""
    return re.sub(r'([<>@\\#&])', r'\\\1', comment)


out, seen_code = [], False
for line in text.split('\n'):
    if line.startswith('// SPDX') or line.startswith('/* SPDX'):
        out.append('/** @file' if line.startswith('/*') and '*/' not in line else '/// @file')
        continue
    if re.match(r'\s*//(?!/)', line):
        line = re.sub(r'^(\s*)//(.*)$', lambda m: m.group(1) + '///' + safe(m.group(2)), line)
    elif re.match(r'\s*/\*(?!\*)', line) and '-----' in line:
        line = ''
    elif re.match(r'\s*/\*(?!\*)', line):
        line = re.sub(r'^(\s*)/\*(.*?)(\*/)?$', lambda m: m.group(1) + '/**' + safe(m.group(2)) + (m.group(3) or ''), line)
    elif re.match(r'\s*\*', line):
        line = re.sub(r'^(\s*\*)(.*?)(\*/)?$', lambda m: m.group(1) + (m.group(2) if m.group(2).strip() in ('', '/') else safe(m.group(2))) + (m.group(3) or ''), line)
    else:
        line = re.sub(r'^(.*\S\s+)/\* (.*?)(\*/)?$', lambda m: m.group(1) + '/**< ' + safe(m.group(2)) + (m.group(3) or ''), line)
    out.append(line)
print('\n'.join(out))
