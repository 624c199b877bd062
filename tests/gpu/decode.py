#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decode steps on the GPU, whose launches are recorded and run again, against whole passes: the tokens that `run` chooses one
by one must be the largest logits of one pass over all of them.   decode.py PLUQ MODEL [DEVICE]"""
import json
import subprocess
import sys
import tempfile

import numpy as np

pluq, model = sys.argv[1:3]
device = sys.argv[3] if len(sys.argv) > 3 else 'cuda'


def run(*args):
    done = subprocess.run([pluq, *args], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'{args}: exit {done.returncode}: {done.stderr[:500]}')
    return done.stdout


answer = json.loads(run('run', model, '-p', 'Twelve zebras cross a wide river', '-n', '12', '--temperature', '0', '--json', '--quiet', '--device', device))
prompt, chosen = answer['prompt_ids'], answer['output_ids']
if len(chosen) < 3:
    sys.exit(f'{len(chosen)} tokens are too few to tell')
with tempfile.NamedTemporaryFile(suffix='.npy') as out:
    run('logits', model, '--ids', ','.join(map(str, prompt + chosen)), '--out', out.name, '--quiet', '--device', device)
    logits = np.load(out.name).astype(np.float64)
bad = 0
for i, token in enumerate(chosen):
    row = logits[len(prompt) - 1 + i]
    bad += row.max() - row[token] > 0.02 * row.std()
print(f'{len(chosen)} steps, {bad} differ')
sys.exit(1 if bad else 0)
