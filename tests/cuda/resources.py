# SPDX-License-Identifier: Apache-2.0
"""Registers, stack (where spills go), shared memory, occupancy and instruction mix of all CUDA
kernels of a build.

    resources.py LIMITS BUILD_DIR [--table FILE] [--mix]

Reads every *.cu.o and *.so under BUILD_DIR that carries CUDA code with cuobjdump, checks each
kernel against the first line of LIMITS whose pattern matches its name, and fails when a kernel has
no line, exceeds it, or uses a stack. Ends with 77 (a skip, said aloud) where there is no cuobjdump
or no CUDA code. cuobjdump is $CUOBJDUMP, the one on PATH, the toolkit's, or that of PyPI's
nvidia-cuda-cuobjdump. --mix adds the instruction mix, which takes long and needs nvdisasm beside it
(nvidia-cuda-nvdisasm); with it, loads and stores of local memory count as spills.
"""
import glob
import os
import re
import shutil
import subprocess
import sys

# Registers, threads and shared memory of a multiprocessor and the largest number of its blocks (CUDA
# C++ Programming Guide, "Technical Specifications per Compute Capability").
SM_FACTS = {80: (65536, 2048, 164, 32), 86: (65536, 1536, 100, 16), 89: (65536, 1536, 100, 24),
            90: (65536, 2048, 228, 32)}


def find_cuobjdump():
    paths = [os.environ.get("CUOBJDUMP"), shutil.which("cuobjdump"), "/usr/local/cuda/bin/cuobjdump"]
    for root in sys.path:
        paths += glob.glob(os.path.join(root, "nvidia", "*", "bin", "cuobjdump"))
    for path in paths:
        if path and os.access(path, os.X_OK):
            return path
    return None


def cuda_files(build):
    objects = glob.glob(os.path.join(build, "**", "*.cu.o"), recursive=True)
    libraries = [] if objects else glob.glob(os.path.join(build, "**", "*.so"), recursive=True)
    found = []
    for path in sorted(objects + libraries):
        with open(path, "rb") as f:
            if b".nv_fatbin" in f.read():
                found.append(path)
    return found


def demangle(names):
    tool = shutil.which("c++filt") or shutil.which("llvm-cxxfilt")
    if tool is None or not names:
        return dict(zip(names, names))
    done = subprocess.run([tool], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(names, done.stdout.splitlines()))


def usage(cuobjdump, path):
    """Yields (sm, mangled name, registers, stack bytes, static shared bytes)."""
    done = subprocess.run([cuobjdump, "-res-usage", path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"cuobjdump -res-usage {path}: {done.stdout.strip()}")
    sm, name = None, None
    for line in done.stdout.splitlines():
        if m := re.match(r"arch = sm_(\d+)", line):
            sm = int(m[1])
        elif m := re.match(r"\s*Function (\S+):", line):
            name = m[1]
        elif (m := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line)) and name:
            yield sm, name, int(m[1]), int(m[2]), int(m[3])
            name = None


# Columns of the instruction mix: opcodes that begin like this, as instructions in the code.
MIX = {"mma": ("HMMA", "IMMA", "QMMA", "HGMMA", "IGMMA", "QGMMA"), "ldmatrix": ("LDSM",),
       "async": ("LDGSTS", "UBLKCP"), "global": ("LDG", "STG"), "shared": ("LDS", "STS"),
       "convert": ("F2F", "I2F", "F2I", "I2IP", "F2FP"), "half": ("HFMA2", "HADD2", "HMUL2"),
       "logic": ("LOP3", "PRMT", "SHF"), "float": ("FFMA", "FADD", "FMUL"), "local": ("LDL", "STL")}


def instruction_mix(cuobjdump, path):
    """Returns {(sm, mangled name): {column: count}}, or None without nvdisasm."""
    environment = dict(os.environ)
    environment["PATH"] = os.path.dirname(cuobjdump) + os.pathsep + environment.get("PATH", "")
    if shutil.which("nvdisasm", path=environment["PATH"]) is None:
        return None
    done = subprocess.run([cuobjdump, "-sass", path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"cuobjdump -sass {path}: {done.stdout.strip()[-500:]}")
    mix, counts, sm = {}, None, None
    for line in done.stdout.splitlines():
        if m := re.match(r"arch = sm_(\d+)", line):
            sm = int(m[1])
        elif m := re.match(r"\s*Function : (\S+)", line):
            counts = mix.setdefault((sm, m[1]), dict.fromkeys(MIX, 0) | {"all": 0})
        elif counts is not None and (m := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", line)):
            opcode = m[1]
            counts["all"] += opcode != "NOP"
            for column, heads in MIX.items():
                counts[column] += opcode in heads
    return mix


def read_limits(path):
    limits = []
    with open(path) as f:
        for number, line in enumerate(f, 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            fields = line.split()
            if len(fields) != 4 or not all(x.isdigit() for x in fields[1:]):
                sys.exit(f"{path}:{number}: expected PATTERN REGISTERS STACK STATIC_SHARED, got {line!r}")
            limits.append((re.compile(fields[0]), *map(int, fields[1:])))
    return limits


def warps_by_registers(sm, registers):
    """Warps per multiprocessor that registers allow (a warp's are given in units of 256)."""
    total, threads, _, _ = SM_FACTS.get(sm, SM_FACTS[90])
    per_warp = (registers * 32 + 255) // 256 * 256
    return min(threads // 32, total // per_warp) if per_warp else threads // 32


def short_name(name):
    """The demangled name without its parameters and the namespaces of its own."""
    depth = 0
    for i, c in enumerate(name):
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0 and i > 0:
            name = name[:i]
            break
    return name.removeprefix("void ").replace("pluq::", "").replace("cuda::device::", "")


def main():
    arguments = sys.argv[1:]
    table, with_mix = None, "--mix" in arguments
    if with_mix:
        arguments.remove("--mix")
    if "--table" in arguments:
        at = arguments.index("--table")
        table = arguments[at + 1]
        del arguments[at:at + 2]
    if len(arguments) != 2:
        sys.exit(__doc__)
    limits = read_limits(arguments[0])
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("not run: no cuobjdump (pip install nvidia-cuda-cuobjdump, or a CUDA toolkit)")
        sys.exit(77)
    files = cuda_files(arguments[1])
    rows = sorted({row for path in files for row in usage(cuobjdump, path)})
    mix = {} if with_mix else None
    for path in files if with_mix else []:
        found = instruction_mix(cuobjdump, path)
        if found is None:
            sys.exit("--mix: no nvdisasm on PATH or beside cuobjdump (pip install nvidia-cuda-nvdisasm)")
        mix.update(found)
    if not rows:
        print(f"not run: no CUDA code under {arguments[1]} (PLUQ_CUDA=OFF, or no nvcc)")
        sys.exit(77)
    names = demangle([r[1] for r in rows])
    columns = ["kernel", "SM", "registers", "stack", "static shared", "warps/SM"]
    if mix is not None:
        columns += ["instructions", *MIX]
    bad, lines = [], ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for sm, mangled, registers, stack, shared in rows:
        name = names[mangled]
        short = short_name(name)
        cells = [short, sm, registers, stack, shared, warps_by_registers(sm, registers)]
        if mix is not None:
            counts = mix.get((sm, mangled), {"all": 0} | dict.fromkeys(MIX, 0))
            cells += [counts["all"], *(counts[column] for column in MIX)]
            if counts["local"] > 0:
                bad.append(f"{short} (sm_{sm}): {counts['local']} loads and stores of local memory")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        limit = next((x for x in limits if x[0].search(name)), None)
        if limit is None:
            bad.append(f"{short} (sm_{sm}): no line of {arguments[0]} matches it")
            continue
        for what, value, most in zip(("registers", "bytes of stack", "bytes of static shared memory"),
                                     (registers, stack, shared), limit[1:]):
            if value > most:
                bad.append(f"{short} (sm_{sm}): {value} {what}, the limit is {most}")
    print("\n".join(lines))
    if table:
        with open(table, "w") as f:
            f.write("\n".join(lines) + "\n")
    if bad:
        sys.exit("\n".join(bad))


main()
