# SPDX-License-Identifier: Apache-2.0
"""Compiles a CUDA source for one SM with nvcc, warnings being errors, and refuses spills.

    compile.py [--expect-spills] SM SOURCE INCLUDE_DIR...        SM: 80, 89, 90a, ...

Ends with 77 (a skip, said aloud) where there is no nvcc. nvcc is $NVCC, the one on PATH, or
/usr/local/cuda/bin/nvcc.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile


def find_nvcc():
    for path in (os.environ.get("NVCC"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if path and os.access(path, os.X_OK):
            return path
    return None


def main():
    arguments = sys.argv[1:]
    expect_spills = arguments[:1] == ["--expect-spills"]
    if expect_spills:
        del arguments[0]
    if len(arguments) < 2:
        sys.exit(__doc__)
    sm, source, includes = arguments[0], arguments[1], arguments[2:]
    nvcc = find_nvcc()
    if nvcc is None:
        print("not run: no nvcc in $NVCC, on PATH or in /usr/local/cuda/bin")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", "-cubin", f"-arch=sm_{sm}", "-Werror", "all-warnings",
                   "-Xptxas=-v", "-o", os.path.join(folder, "out.cubin"), source]
        command += [f"-I{i}" for i in includes]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="")
    if done.returncode != 0:
        sys.exit(f"{source} does not compile for sm_{sm}")
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stdout)]
    if not spills:
        sys.exit("ptxas printed no resource usage: no kernel was compiled")
    if any(spills) != expect_spills:
        sys.exit(f"{source} {'spills' if any(spills) else 'does not spill'} registers on sm_{sm}")


main()
