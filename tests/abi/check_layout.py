#!/usr/bin/env python3
"""Compares the ABI's layout with the committed snapshot.
    check_layout.py PRINTER SNAPSHOT CHANGELOG ABI_H
While the major is 0 a difference is allowed only together with a newest entry of CHANGELOG that carries the SHA-256 (first
12 digits) of the new layout, and the snapshot must be replaced in the same change. From major 1 on the old layout must be
an exact prefix of the new one: same structs, same fields at the same places, growth only at the end of a struct."""
import hashlib
import re
import subprocess
import sys


def structs(text):
    out, current = {}, None
    for line in text.splitlines():
        if ' size ' in line:
            current = out.setdefault(line.split(' size ')[0], [])
        else:
            current.append(line)
    return out


def prefix_violations(old, new):
    bad = []
    for name, fields in structs(old).items():
        found = structs(new).get(name)
        if found is None:
            bad.append(f'struct {name} is gone')
        elif found[:len(fields)] != fields:
            bad += [f'{name}: was "{a}", is "{b}"' for a, b in zip(fields, found + ['(gone)'] * len(fields)) if a != b]
    return bad


def self_test():
    old = 'a size 8\na.x 0 4\na.y 4 4\n'
    assert prefix_violations(old, 'a size 16\na.x 0 4\na.y 4 4\na.z 8 8\n') == []
    assert prefix_violations(old, 'a size 8\na.y 0 4\na.x 4 4\n')
    assert prefix_violations(old, 'a size 4\na.x 0 4\n')
    assert prefix_violations(old, 'b size 4\nb.x 0 4\n')


def main():
    self_test()
    printer, snapshot, changelog, header = sys.argv[1:5]
    new = subprocess.run([printer], capture_output=True, text=True, check=True).stdout
    old = open(snapshot).read()
    digest = hashlib.sha256(new.encode()).hexdigest()[:12]
    newest = open(changelog).read().split('\n## ')[1]
    major = int(re.search(r'PLUQ_ABI_MAJOR (\d+)u', open(header).read()).group(1))
    problems = []
    if old != new:
        problems.append('the layout differs from the snapshot:')
        problems += ['  ' + line for line in sorted(set(old.splitlines()) ^ set(new.splitlines()))]
        problems.append(f'raise PLUQ_ABI_MINOR, write {snapshot} anew with `{printer} > {snapshot}` and describe it in {changelog}')
        if major > 0:
            problems += prefix_violations(old, new)
    if digest not in newest:
        problems.append(f'the newest entry of {changelog} does not carry the hash of this layout, {digest}')
    print('\n'.join(problems) or f'layout {digest}: as in the snapshot, {len(structs(new))} structs')
    sys.exit(bool(problems))


main()
