#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Fails when a loop of a dot-product function (Dot, DotNibbles, DotBytes ::run) moves a vector register to or from the
# stack: check_spills.py OBJDUMP OBJECT...   Only loops count: the loads of constants before them are harmless.
import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
TARGET = re.compile(r"<(\S+)>:$")
DOT = re.compile(r"(?:Dot|DotNibbles|DotBytes)<.*>::run|3DotI|10DotNibblesI|8DotBytesI")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")


def functions(objdump, path):
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
    name, body = None, []
    for line in text.splitlines():
        head = FUNCTION.match(line)
        if head:
            if name:
                yield name, body
            name, body = head.group(1), []
        else:
            match = LINE.match(line)
            if match:
                body.append((int(match.group(1), 16), match.group(2), match.group(3)))
    if name:
        yield name, body


def spills(body):
    """Stack accesses of vector registers between a backward jump and its target."""
    loops = []
    for address, op, operands in body:
        if op.startswith("j"):
            target = re.match(r"(?:0x)?([0-9a-f]+)", operands)
            if target and int(target.group(1), 16) <= address:
                loops.append((int(target.group(1), 16), address))
    frame = any(op == "mov" and operands.replace(" ", "") == "%rsp,%rbp" for _, op, operands in body)
    stack = re.compile(r"\((%rsp|%rbp)" if frame else r"\((%rsp)")
    return [(a, op, o) for a, op, o in body
            if any(low <= a <= high for low, high in loops) and re.search(r"%[xyz]mm", o) and stack.search(o)]


def main():
    objdump, objects = sys.argv[1], sys.argv[2:]
    checked = bad = 0
    for path in objects:
        if "emulated" in path:  # plain C++: not meant to be fast
            continue
        for name, body in functions(objdump, path):
            if not DOT.search(name):
                continue
            checked += 1
            found = spills(body)
            if found:
                bad += 1
                print(f"{path}: {name}: {len(found)} vector accesses to the stack in a loop, first {found[0]}")
    print(f"{checked} dot-product functions checked, {bad} with spills")
    if checked < 20:
        print("too few functions found: has the kernel been renamed or inlined?")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
