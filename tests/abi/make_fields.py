#!/usr/bin/env python3
"""Writes layout_fields.inc from abi.h and dtype.h: one FIELD line per field of each struct, so that no field is forgotten.
    make_fields.py INCLUDE_DIR OUT"""
import re
import sys

include, out = sys.argv[1:3]
text = ''.join(open(f'{include}/pluq/{name}').read() for name in ('dtype.h', 'abi.h'))
text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
lines = []
for match in re.finditer(r'(?:typedef )?struct (\w+) \{(.*?)\n\}(?: (\w+))?;', text, flags=re.S):
    tag, body, alias = match.groups()
    name = alias or f'struct {tag}'
    lines.append(f'  STRUCT({name});')
    for field in body.split(';'):
        field = field.strip()
        if not field:
            continue
        pointer = re.match(r'.*?\(\*(\w+)\)\(', field, flags=re.S)
        if pointer:
            names = [pointer.group(1)]
        else:
            names = [re.match(r'(?:.*[\s*])?(\w+)(?:\[\w+\])?$', part.strip(), flags=re.S).group(1) for part in field.split(',')]
        lines += [f'  FIELD({name}, {n});' for n in names]
open(out, 'w').write('\n'.join(lines) + '\n')
