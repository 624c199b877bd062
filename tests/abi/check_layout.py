#!/usr/bin/env python3
"""Compares the ABI's layout with the committed snapshot.
    check_layout.py PRINTER SNAPSHOT CHANGELOG ABI_H
The snapshot is that of the major's first release (layout-1.0.txt) and never changes: its layout must be an exact prefix of
today's, same structs, same fields at the same places, growth only at the end of structs that carry their size and are not
part of others. Growth needs a newest entry of CHANGELOG with the SHA-256 (first 12 digits) of the new layout and a raised
PLUQ_ABI_MINOR. Structs of drafts may change in any way, with an entry; their extension then has a new id."""
import hashlib
import re
import subprocess
import sys


DRAFTS = ('pluq_quantize_', 'struct pluq_quantize_', 'pluq_quantizer', 'pluq_text_sink')
EMBEDDED = ('pluq_sample', 'pluq_activation_scheme')  # members of other structs, so they can never grow


def structs(text):
    out, sizes, current = {}, {}, None
    for line in text.splitlines():
        if ' size ' in line:
            current = out.setdefault(line.split(' size ')[0], [])
            sizes[line.split(' size ')[0]] = int(line.split(' size ')[1])
        else:
            current.append(line)
    return out, sizes


def prefix_violations(old, new):
    bad = []
    (was, was_size), (now, now_size) = structs(old), structs(new)
    for name, fields in was.items():
        found = now.get(name)
        if name.startswith(DRAFTS):
            continue
        grows = any(f.split(' ')[0] == name + '.struct_size' for f in fields) and name not in EMBEDDED
        if found is None:
            bad.append(f'struct {name} is gone')
        elif not grows and (found, now_size[name]) != (fields, was_size[name]):
            bad.append(f'struct {name} is frozen and was changed: {was_size[name]} bytes, {len(fields)} fields before, '
                       f'{now_size[name]} bytes, {len(found)} fields now')
        elif found[:len(fields)] != fields:
            bad += [f'{name}: was "{a}", is "{b}"' for a, b in zip(fields, found + ['(gone)'] * len(fields)) if a != b]
    return bad


def self_test():
    old = 'a size 8\na.struct_size 0 4\na.y 4 4\n'
    assert prefix_violations(old, old) == []
    assert prefix_violations(old, 'a size 16\na.struct_size 0 4\na.y 4 4\na.z 8 8\n') == []
    assert prefix_violations(old, 'a size 8\na.y 0 4\na.struct_size 4 4\n')
    assert prefix_violations(old, 'a size 4\na.struct_size 0 4\n')
    assert prefix_violations(old, 'b size 4\nb.x 0 4\n')
    assert prefix_violations('f size 4\nf.x 0 4\n', 'f size 8\nf.x 0 4\nf.y 4 4\n'), 'a frozen struct may not grow'
    embedded = 'pluq_sample size 4\npluq_sample.struct_size 0 4\n'
    assert prefix_violations(embedded, embedded.replace('size 4', 'size 8') + 'pluq_sample.y 4 4\n')
    draft = 'pluq_quantizer size 4\npluq_quantizer.x 0 4\n'
    assert prefix_violations(draft, '') == []


def main():
    self_test()
    printer, snapshot, changelog, header = sys.argv[1:5]
    new = subprocess.run([printer], capture_output=True, text=True, check=True).stdout
    old = open(snapshot).read()
    digest = hashlib.sha256(new.encode()).hexdigest()[:12]
    newest = open(changelog).read().split('\n## ')[1]
    major, minor = (int(re.search(rf'PLUQ_ABI_{part} (\d+)u', open(header).read()).group(1)) for part in ('MAJOR', 'MINOR'))
    problems = []
    problems += prefix_violations(old, new)
    if problems:
        problems.append(f'the layout of {snapshot} is promised for all of major {major}; a slot is deprecated, never moved')
    if not newest.startswith(f'{major}.{minor} '):
        problems.append(f'the newest entry of {changelog} is not about {major}.{minor}, the version in {header}')
    if digest not in newest:
        problems.append(f'the newest entry of {changelog} does not carry the hash of this layout, {digest}')
    print('\n'.join(problems) or f'layout {digest}: {len(structs(new)[0])} structs, those of the snapshot at its head')
    sys.exit(bool(problems))


main()
