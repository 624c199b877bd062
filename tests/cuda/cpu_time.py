# SPDX-License-Identifier: Apache-2.0
"""What CUDA compilation costs: a compiler launcher that adds up processor time.

    cmake --preset release -DPLUQ_CUDA_SM="80;89;90a" \
      -DCMAKE_CUDA_COMPILER_LAUNCHER="python3;$PWD/tests/cuda/cpu_time.py;--log;/tmp/cuda.log"
    CCACHE_DISABLE=1 cmake --build build/release
    python3 tests/cuda/cpu_time.py --sum /tmp/cuda.log

--log FILE COMMAND...: runs COMMAND and appends "seconds<tab>object" to FILE: user and system time of
it and its children. --sum FILE: the total, and the dearest objects; of an object compiled twice the
last counts. Unlike wall time it hardly depends on what else the machine does.
"""
import os
import resource
import subprocess
import sys


def log(path, command):
    code = subprocess.run(command).returncode
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code == 0 and "-o" in command:
        with open(path, "a") as f:  # one short write: lines of other jobs stay whole
            f.write(f"{spent.ru_utime + spent.ru_stime:.2f}\t{command[command.index('-o') + 1]}\n")
    return code


def total(path):
    with open(path) as f:
        spent = {name: float(seconds) for seconds, name in (line.rstrip("\n").split("\t") for line in f)}
    everything = sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda x: -x[1]):
        print(f"{seconds:8.1f} s  {os.path.basename(name)}")
    print(f"{everything:8.1f} s of processor time for {len(spent)} objects: {everything / 120:.1f} minutes on 2 cores")
    return 0


if len(sys.argv) == 3 and sys.argv[1] == "--sum":
    sys.exit(total(sys.argv[2]))
if len(sys.argv) > 3 and sys.argv[1] == "--log":
    sys.exit(log(sys.argv[2], sys.argv[3:]))
sys.exit(__doc__)
