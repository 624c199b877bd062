# SPDX-License-Identifier: Apache-2.0
"""What nvcc made of the CUDA kernels of a build, against stated limits.

    resources.py LIMITS OBJECTS DYNAMIC [--mix REGEX] [--table FILE] [--document FILE]

OBJECTS is a file with a path of an object per line (tests/cuda/CMakeLists.txt writes it), DYNAMIC
the program dynamic_shared of the same build. For each kernel and SM: registers, stack (where spills
go), static and dynamic shared memory, threads of a block, and from these the warps that a
multiprocessor holds; with --mix, for objects whose path matches REGEX, also the instruction mix.
Each kernel is checked against the first line of LIMITS whose pattern matches its name. Fails when a
kernel has no line, exceeds it, does not fit into a multiprocessor, or lacks an instruction that its
line asks for; with --mix also when it touches local memory, or shared memory that nobody counted.

Code for 8.0 also runs on 8.9 where there is none for 8.9: such rows are marked "89 (80)".
Ends with 77 (a skip, said aloud) where there is no cuobjdump (or, for --mix, nvdisasm) or no CUDA
code. cuobjdump is $CUOBJDUMP, the one on PATH, the toolkit's, or that of PyPI's
nvidia-cuda-cuobjdump; nvdisasm lies on PATH or beside it (nvidia-cuda-nvdisasm).
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor

# A multiprocessor's threads, blocks and KiB of shared memory, of which a block gets 1 KiB less (CUDA
# C++ Programming Guide, "Technical Specifications per Compute Capability"). All have 65536 registers.
SM_FACTS = {80: (2048, 32, 164), 86: (1536, 16, 100), 87: (1536, 16, 164), 89: (1536, 24, 100),
            90: (2048, 32, 228), 100: (2048, 32, 228), 120: (1536, 24, 100)}
REGISTERS = 65536
RESERVED = 1024  # bytes of shared memory that the system keeps of every block

# Columns of the instruction mix: opcodes, as instructions in the code.
MIX = {"mma": ("HMMA", "IMMA", "QMMA", "OMMA", "HGMMA", "IGMMA", "QGMMA"), "ldmatrix": ("LDSM",),
       "async": ("LDGSTS", "UBLKCP"), "global": ("LDG", "STG"), "shared": ("LDS", "STS"),
       "convert": ("F2F", "I2F", "I2FP", "F2I", "I2IP", "F2FP"),
       "half": ("HFMA2", "HADD2", "HMUL2"), "logic": ("LOP3", "PRMT", "SHF"),
       "float": ("FFMA", "FADD", "FMUL"), "local": ("LDL", "STL")}
USES_SHARED = ("ldmatrix", "async", "shared")

Usage = namedtuple("Usage", "registers stack static")
# mix: {column: count}, None where it was not asked for.
Kernel = namedtuple("Kernel", "usage dynamic threads mix")
Limit = namedtuple("Limit", "pattern registers stack static needs")


def find_cuobjdump():
    paths = [os.environ.get("CUOBJDUMP"), shutil.which("cuobjdump"), "/usr/local/cuda/bin/cuobjdump"]
    for root in sys.path:
        paths += glob.glob(os.path.join(root, "nvidia", "*", "bin", "cuobjdump"))
    for path in paths:
        if path and os.access(path, os.X_OK):
            return path
    return None


def skip(why):
    print(f"not run: {why}")
    sys.exit(77)


class Dumper:
    """cuobjdump, with nvdisasm found beside it."""

    def __init__(self, path):
        self.path = path
        self.environment = dict(os.environ)
        self.environment["PATH"] = os.path.dirname(path) + os.pathsep + self.environment.get("PATH", "")

    def has_nvdisasm(self):
        return shutil.which("nvdisasm", path=self.environment["PATH"]) is not None

    def text(self, option, path):
        done = subprocess.run([self.path, option, path], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=self.environment)
        if done.returncode != 0:
            sys.exit(f"cuobjdump {option} {path}: {done.stdout.strip()[-500:]}")
        return done.stdout

    def usage(self, path):
        """{(sm, mangled name): Usage}"""
        found, sm, name = {}, None, None
        for line in self.text("-res-usage", path).splitlines():
            if m := re.match(r"arch = sm_(\d+)", line):
                sm = int(m[1])
            elif m := re.match(r"\s*Function (\S+):", line):
                name = m[1]
            elif (m := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line)) and name:
                found[sm, name] = Usage(int(m[1]), int(m[2]), int(m[3]))
                name = None
        return found

    def threads(self, path):
        """{(sm, mangled name): threads of a block, at most}, from __launch_bounds__."""
        found, sm, name, wanted = {}, None, None, False
        for line in self.text("-elf", path).splitlines():
            if m := re.match(r"arch = sm_(\d+)", line):
                sm = int(m[1])
            elif m := re.match(r"\.nv\.info\.(\S+)", line):
                name = m[1]
            elif "EIATTR_MAX_THREADS" in line:
                wanted = True
            elif wanted and (m := re.match(r"\s*Value:\s+(0x\w+) (0x\w+) (0x\w+)", line)):
                found[sm, name] = int(m[1], 16) * int(m[2], 16) * int(m[3], 16)
                wanted = False
        return found

    def mix(self, path):
        """{(sm, mangled name): {column: count}}"""
        found, sm = {}, None
        # "arch = sm_80", or a function up to the next of either.
        parts = re.split(r"^\s*(arch = |Function : )", self.text("-sass", path), flags=re.MULTILINE)
        opcode = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", re.MULTILINE)
        for kind, part in zip(parts[1::2], parts[2::2]):
            first = part.split(None, 1)[0]
            if kind == "arch = ":
                sm = int(re.match(r"sm_(\d+)", first)[1])
                continue
            counts = Counter(opcode.findall(part))
            found[sm, first] = {column: sum(counts[x] for x in heads) for column, heads in MIX.items()}
            found[sm, first]["all"] = sum(counts.values()) - counts["NOP"]
        return found


def short_name(name):
    """The demangled name without its parameters and the namespaces of its own."""
    depth = 0
    for i, c in enumerate(name):
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0 and i > 0:
            name = name[:i]
            break
    return name.removeprefix("void ").replace("pluq::", "").replace("cuda::device::", "")


def short_names(mangled):
    tool = shutil.which("c++filt") or shutil.which("llvm-cxxfilt")
    if tool is None:
        skip("no c++filt (binutils)")
    done = subprocess.run([tool], input="\n".join(mangled), stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(mangled, map(short_name, done.stdout.splitlines())))


def read_limits(path):
    limits = []
    with open(path) as f:
        for number, line in enumerate(f, 1):
            fields = line.split("#")[0].split()
            if not fields:
                continue
            if len(fields) not in (4, 5) or not all(x.isdigit() for x in fields[1:4]):
                sys.exit(f"{path}:{number}: expected PATTERN REGISTERS STACK STATIC_SHARED [NEEDS]")
            needs = []
            for need in fields[4].split(",") if len(fields) == 5 else []:
                column, _, sm = need.partition("@")
                if column not in MIX:
                    sys.exit(f"{path}:{number}: {column} is no column of the mix: {', '.join(MIX)}")
                needs.append((column, int(sm or 0)))
            limits.append(Limit(re.compile(fields[0]), *map(int, fields[1:4]), needs))
    return limits


def read_dynamic(program):
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True)
    return {name: int(n) for name, n in (line.split("\t") for line in done.stdout.splitlines())}


def occupancy(device, kernel, code):
    """(warps of a multiprocessor of `device`, what allows no more); as NVIDIA's occupancy calculator:
    registers are given to a warp in units of 256, and warps in fours."""
    most_threads, most_blocks, kib = SM_FACTS[device]
    warps = (kernel.threads + 31) // 32
    per_warp = (kernel.usage.registers * 32 + 255) // 256 * 256
    shared = (block_shared(kernel, code) + RESERVED + 127) // 128 * 128
    blocks = {"threads": most_threads // 32 // warps, "blocks": most_blocks,
              "registers": REGISTERS // per_warp // 4 * 4 // warps, "shared": kib * 1024 // shared}
    least = min(blocks, key=blocks.get)
    return blocks[least] * warps, least


def block_shared(kernel, code):
    """Bytes that a block asks for; code for 9.0 and newer already counts what the system keeps."""
    return max(kernel.usage.static - (RESERVED if code >= 90 else 0), 0) + kernel.dynamic


def devices(code, all_code):
    """SMs of a build that run code for SM `code`: its own, and 8.9 where it has nothing newer."""
    yield code
    if code == 80 and 89 not in all_code:
        yield 89


def check(limits, path, name, sm, kernel):
    """Sentences about what is wrong with a kernel."""
    limit = next((x for x in limits if x.pattern.search(name)), None)
    if limit is None:
        yield f"no line of {path} matches it"
        return
    for what, value, most in (("registers", kernel.usage.registers, limit.registers),
                              ("bytes of stack", kernel.usage.stack, limit.stack),
                              ("bytes of static shared memory", kernel.usage.static, limit.static)):
        if value > most:
            yield f"{value} {what}, the limit is {most}"
    if kernel.mix is None:
        return
    if kernel.mix["local"] > 0 and limit.stack == 0:
        yield f"{kernel.mix['local']} loads and stores of local memory"
    for column, since in limit.needs:
        if sm >= since and kernel.mix[column] == 0:
            yield f"no instruction of {', '.join(MIX[column])}"
    if block_shared(kernel, sm) == 0 and any(kernel.mix[c] for c in USES_SHARED):
        yield "shared memory is used, but neither static nor listed by dynamic_shared"


def nvcc_version():
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not os.access(nvcc, os.X_OK):
        return "unknown"
    done = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True)
    m = re.search(r"release \S+ (V\S+)", done.stdout)
    return m[1] if m else "unknown"


DOCUMENT = """# Compiled facts of the CUDA kernels

Made by `cmake --preset release -DPLUQ_CUDA_SM="{sms}"`, a build, and in `build/release`

    python3 tests/cuda/resources.py tests/cuda/limits.txt build/release/tests/cuda/objects.txt \\
      build/release/tests/dynamic_shared --mix . --document tests/bench/results/cuda_kernels.md

from the repository's root; nvcc {nvcc}. Nothing here was measured on a GPU.

Registers and stack are of a thread, shared memory in bytes of a block, threads the most of a block.
Warps/SM: what a multiprocessor holds, by the column beside it. The rest counts instructions in the
code: mma = tensor cores, async = copies to shared memory that do not pass registers. "89 (80)": code
for 8.0 on 8.9, which has none of its own for that kernel.

"""


def measure(dumper, objects, dynamic, mix_pattern):
    """{(name, sm): Kernel} of all kernels; equal copies count once."""
    usage, threads, mix = {}, {}, {}
    for path in objects:
        found = dumper.usage(path)
        usage.update(found)
        if found:
            threads.update(dumper.threads(path))
    if mix_pattern is not None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for found in pool.map(dumper.mix, filter(mix_pattern.search, objects)):
                mix.update(found)
    names = short_names(sorted({name for _, name in usage}))
    kernels = {}
    for (sm, mangled), used in usage.items():
        name = names[mangled]
        shared = dynamic.get(name, dynamic.get(name.split("<")[0], 0))
        kernels[name, sm] = Kernel(used, shared, threads.get((sm, mangled), 1024), mix.get((sm, mangled)))
    return kernels


def table(kernels, bad):
    """Lines of the table; appends to `bad` the kernels that do not fit into a multiprocessor."""
    columns = ["kernel", "SM", "registers", "stack", "static", "dynamic", "threads", "warps/SM", "by"]
    mixed = any(kernel.mix is not None for kernel in kernels.values())
    if mixed:
        columns += ["instructions", *MIX]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    all_code = {}
    for name, sm in kernels:
        all_code.setdefault(name, set()).add(sm)
    for (name, code), kernel in sorted(kernels.items(), key=lambda x: x[0]):
        for sm in devices(code, all_code[name]):
            warps, by = "?", "?"
            if sm in SM_FACTS:
                warps, by = occupancy(sm, kernel, code)
                if warps == 0 or block_shared(kernel, code) > SM_FACTS[sm][2] * 1024 - RESERVED:
                    bad.append(f"{name} (sm_{sm}): does not fit into a multiprocessor ({by})")
            cells = [name, sm if sm == code else f"{sm} ({code})", *kernel.usage, kernel.dynamic,
                     kernel.threads, warps, by]
            if kernel.mix is not None:
                cells += [kernel.mix["all"], *(kernel.mix[column] for column in MIX)]
            elif mixed:
                cells += [""] * (1 + len(MIX))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("limits")
    parser.add_argument("objects")
    parser.add_argument("dynamic")
    parser.add_argument("--mix", type=re.compile)
    parser.add_argument("--table")
    parser.add_argument("--document")
    return parser.parse_args()


def main():
    args = arguments()
    limits = read_limits(args.limits)
    path = find_cuobjdump()
    if path is None:
        skip("no cuobjdump (pip install nvidia-cuda-cuobjdump, or a CUDA toolkit)")
    dumper = Dumper(path)
    if args.mix is not None and not dumper.has_nvdisasm():
        skip("no nvdisasm on PATH or beside cuobjdump (pip install nvidia-cuda-nvdisasm)")
    with open(args.objects) as f:
        objects = f.read().split()
    if not objects:
        skip("this build has no CUDA code (PLUQ_CUDA=OFF, or no nvcc)")
    missing = [x for x in objects if not os.path.exists(x)]
    if missing:
        sys.exit(f"{len(missing)} objects are not built, among them {missing[0]}")
    kernels = measure(dumper, objects, read_dynamic(args.dynamic), args.mix)
    if args.mix is not None and not any(kernel.mix for kernel in kernels.values()):
        sys.exit(f"--mix {args.mix.pattern}: no object matches")
    bad = []
    text = "\n".join(table(kernels, bad)) + "\n"
    for (name, sm), kernel in sorted(kernels.items(), key=lambda x: x[0]):
        bad += [f"{name} (sm_{sm}): {x}" for x in check(limits, args.limits, name, sm, kernel)]
    print(text)
    if args.table:
        with open(args.table, "w") as f:
            f.write(text)
    if args.document:
        sms = ";".join(f"{sm}a" if sm == 90 else str(sm) for sm in sorted({sm for _, sm in kernels}))
        with open(args.document, "w") as f:
            f.write(DOCUMENT.format(sms=sms, nvcc=nvcc_version()) + text)
    if bad:
        sys.exit("\n".join(bad))


main()
