#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Fails when a hot loop keeps accumulators on the stack, that is, stores more than one vector register there for every
# six multiplications: check_spills.py OBJDUMP OBJECT...
# A hot loop is an innermost loop with at least four multiply-accumulate instructions; write_panel, which runs once per
# 32 outputs and keeps a line of them on the stack, is none.
import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
TARGET = re.compile(r"<(\S+)>:$")
MULTIPLY = re.compile(r"^v?(?:pmaddubsw|pmaddwd|pdpbusds?|dpbf16ps|fn?madd\d*ps|mulps)$")
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


def hot_loops(body):
    """Address ranges [target, backward jump] of innermost loops that multiply."""
    loops = []
    for address, op, operands in body:
        if op.startswith("j"):
            target = re.match(r"(?:0x)?([0-9a-f]+)", operands)
            if target and int(target.group(1), 16) <= address:
                loops.append((int(target.group(1), 16), address))
    inner = [l for l in loops if not any(m != l and l[0] <= m[0] and m[1] <= l[1] for m in loops)]
    return [l for l in inner if sum(l[0] <= a <= l[1] and bool(MULTIPLY.match(op)) for a, op, _ in body) >= 4]


def spills(body, loops):
    """Stores of vector registers to the stack in the loops that have too many."""
    frame = any(op == "mov" and operands.replace(" ", "") == "%rsp,%rbp" for _, op, operands in body)
    store = re.compile(r"^%[xyz]mm\d+,-?(0x)?[0-9a-f]*\((%rsp|%rbp)" if frame else r"^%[xyz]mm\d+,-?(0x)?[0-9a-f]*\((%rsp)")
    found = []
    for low, high in loops:
        inside = [line for line in body if low <= line[0] <= high]
        stores = [line for line in inside if store.search(line[2])]
        if 6 * len(stores) > sum(bool(MULTIPLY.match(op)) for _, op, _ in inside):
            found += stores
    return found


def main():
    objdump, objects = sys.argv[1], sys.argv[2:]
    checked = bad = 0
    for path in objects:
        if "emulated" in path:  # plain C++: not meant to be fast
            continue
        for name, body in functions(objdump, path):
            loops = [] if "write_panel" in name else hot_loops(body)
            checked += len(loops)
            found = spills(body, loops)
            if found:
                bad += 1
                print(f"{path}: {name}: {len(found)} vectors stored on the stack in a loop, first {found[0]}")
    print(f"{checked} hot loops checked, {bad} functions with spills")
    if checked < 20:
        print("too few functions found: has the kernel been renamed or inlined?")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
