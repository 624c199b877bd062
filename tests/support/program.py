# SPDX-License-Identifier: Apache-2.0
"""What tests of the whole program share: running it (its path is the first argument), a folder to work in, and counted
checks. A script ends with finish()."""
import os
import shutil
import subprocess
import sys
import tempfile

pluq = sys.argv[1]
work = tempfile.mkdtemp()
_failed, _passed = [], 0


def run(*args, env=None):
    return subprocess.run([pluq, *map(str, args)], capture_output=True, text=True, env={**os.environ, **(env or {})})


def check(name, ok, detail=''):
    global _passed
    if ok:
        _passed += 1
    else:
        _failed.append(name)
        print(f'FAILED {name}: {detail}', flush=True)


def instruction_sets():
    """Those of this machine, as PLUQ_ISA names them; says which are skipped."""
    all_sets = ('portable', 'avx2', 'avx512')
    here = [i for i in all_sets if run('doctor', env={'PLUQ_ISA': i}).returncode == 0]
    print('instruction sets here:', ' '.join(here), '; skipped:', ' '.join(i for i in all_sets if i not in here) or 'none')
    return here


def finish():
    shutil.rmtree(work)
    print(f'{_passed} passed, {len(_failed)} failed')
    sys.exit(bool(_failed))
