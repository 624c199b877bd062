#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far noise of a given size moves the logits of a fixture whose activations are rounded to 8 bits: embedding and norms of a copy
are multiplied by 1 + EPS * normal, and `pluq logits --compute exact` (f32) is compared with the recorded logits. Shows what an engine
with 16-bit activations (a relative error of about 1e-3 with bf16) can reach at best, whatever its kernels do.
    rounding_noise.py PLUQ FIXTURE [EPS...]"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

pluq, fixture = sys.argv[1:3]
sizes = [float(e) for e in sys.argv[3:]] or [1e-6, 1e-4, 1e-3]


def read(path):
    data = open(path, 'rb').read()
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop('__metadata__', None)
    return {k: (v, data[8 + length + v['data_offsets'][0]:8 + length + v['data_offsets'][1]]) for k, v in header.items()}


def noisy(source, target, eps, seed):
    random, header, blobs, at = np.random.default_rng(seed), {}, [], 0
    for name, (entry, raw) in read(source).items():
        kind = entry['dtype']
        if kind == 'BF16' and ('norm' in name or 'embed' in name):
            wide = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            raw, kind = (wide * (1 + eps * random.standard_normal(wide.shape))).astype(np.float32).tobytes(), 'F32'
        header[name] = dict(dtype=kind, shape=entry['shape'], data_offsets=[at, at + len(raw)])
        blobs.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    with open(target, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(blobs))


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


entry, raw = read(f'{fixture}/expected.safetensors')['logits']
want = np.frombuffer(raw, np.float32).reshape(entry['shape']).astype(np.float64)
ids = ','.join(map(str, json.load(open(f'{fixture}/expected.json'))['logit_tokens']))
with tempfile.TemporaryDirectory() as work:
    for eps in sizes:
        for seed in range(4):
            copy = f'{work}/{eps}-{seed}'
            shutil.copytree(fixture, copy)
            for name in os.listdir(fixture):
                if name.startswith('model') and name.endswith('.safetensors'):
                    noisy(f'{fixture}/{name}', f'{copy}/{name}', eps, seed)
            subprocess.run([pluq, 'logits', copy, '--ids', ids, '--out', f'{work}/l.npy', '--quiet', '--compute', 'exact'], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(copy)
            got = np.load(f'{work}/l.npy').astype(np.float64)
            rms = np.sqrt(((got - want) ** 2).mean()) / want.std()
            a, b = log_softmax(want), log_softmax(got)
            print(f'noise {eps:.0e} seed {seed}: rms {rms:.2e} KL {(np.exp(a) * (a - b)).sum(-1).mean():.2e}', flush=True)
