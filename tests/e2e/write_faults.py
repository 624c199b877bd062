#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or broken: whatever writes is run with its first, second, middle and last call of each kind failing
(tests/support/fail_writes.c). Each time: exit 1, one sentence that names the file and the reason, nothing left of the output, and
an old output untouched.
    write_faults.py PLUQ SOURCE_DIR FAIL_WRITES.so"""
import errno
import os
import shutil
import sys

import numpy as np

source, shim = sys.argv[2], sys.argv[3]
sys.path.insert(0, f'{source}/tests/support')
from models import F32, write_gguf
from program import check, finish, run, work

tiny = f'{source}/tests/data/tiny'
KINDS = [('write', errno.ENOSPC, '0'), ('write', errno.ENOSPC, '1'), ('open', errno.EACCES, '0'), ('fsync', errno.EIO, '0'),
         ('rename', errno.EIO, '0'), ('close', errno.EIO, '0')]


def gguf(path):
    """A model of one small layer."""
    def t(*shape):
        return F32, list(shape), np.ones(shape, np.float32).tobytes()
    names = ['<unk>', '<s>', '</s>', 'a', 'b', 'ab', ' a', '\u2581a']
    block = {'attn_q': (8, 8), 'attn_k': (4, 8), 'attn_v': (4, 8), 'attn_output': (8, 8), 'ffn_gate': (8, 8), 'ffn_up': (8, 8),
             'ffn_down': (8, 8), 'attn_norm': (8,), 'ffn_norm': (8,)}
    write_gguf(path, {'general.architecture': 'llama', 'llama.block_count': 1, 'llama.embedding_length': 8, 'llama.feed_forward_length': 8,
                      'llama.attention.head_count': 2, 'llama.attention.head_count_kv': 1, 'llama.context_length': 16,
                      'llama.vocab_size': len(names), 'llama.attention.layer_norm_rms_epsilon': 1e-5, 'llama.rope.freq_base': 1e4,
                      'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': names, 'tokenizer.ggml.scores': [0.0] * len(names),
                      'tokenizer.ggml.token_type': [2, 3, 3, 1, 1, 1, 1, 1], 'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2},
               {'token_embd.weight': t(len(names), 8), 'output_norm.weight': t(8), 'output.weight': t(len(names), 8),
                **{f'blk.0.{n}.weight': t(*s) for n, s in block.items()}})


def faults(what, verb, out, old=None):
    """verb: arguments that write `out`. old: bytes that are there before and must stay, or None: nothing may be left."""
    for kind, number, short in KINDS:
        env = {'LD_PRELOAD': shim, 'FAIL_UNDER': out, 'FAIL_CALL': kind, 'FAIL_ERRNO': str(number), 'FAIL_COUNT': f'{work}/count'}
        reset(out, old)
        r = run(*verb, env={**env, 'FAIL_NTH': '0'})
        calls = int(open(f'{work}/count').read()) if r.returncode == 0 else 0
        if not check_ran(what, kind, r, calls):
            continue
        for nth in sorted({1, 2, (calls + 1) // 2, calls} & set(range(1, calls + 1))):
            reset(out, old)
            r = run(*verb, env={**env, 'FAIL_NTH': str(nth), 'FAIL_SHORT': short})
            said = [line for line in r.stderr.splitlines() if line.startswith('pluq: ')]
            name = f'{what}: {kind} {nth} of {calls} fails{" halfway" if short == "1" else ""}'
            check(name, r.returncode == 1 and len(said) == 1 and out in said[0] and os.strerror(number) in said[0],
                  f'exit {r.returncode}: {r.stderr[:600]}')
            if old is None:
                left = os.listdir(out) if os.path.isdir(out) else os.path.exists(out)
                check(f'{name}: nothing is left', not os.path.exists(out), left)
            else:
                check(f'{name}: the old file stays', open(out, 'rb').read() == old and siblings(out) == 1, siblings(out))


def siblings(out):
    return len([f for f in os.listdir(os.path.dirname(out)) if f.startswith(os.path.basename(out))])


def reset(out, old):
    if os.path.isdir(out):
        shutil.rmtree(out)
    elif os.path.exists(out):
        os.remove(out)
    if old is not None:
        open(out, 'wb').write(old)


def check_ran(what, kind, r, calls):
    check(f'{what}: runs, and calls {kind}', r.returncode == 0 and calls > 0, f'{calls} calls; {r.stderr[:600]}')
    return r.returncode == 0 and calls > 0


gguf(f'{work}/m.gguf')
np.save(f'{work}/x.npy', np.ones((3, 64), np.float32))
layer = 'model.layers.0.mlp.up_proj'
os.makedirs(f'{work}/o')
faults('quantize', ['quantize', tiny, '-o', f'{work}/q', '--format', 'gptq', '--set', 'group_size=32', '--quiet'], f'{work}/q')
faults('import', ['import', f'{work}/m.gguf', '-o', f'{work}/i', '--quiet'], f'{work}/i')
faults('sdk new', ['sdk', 'new', 'my_format', '--cuda', '--dir', f'{work}/s', '--quiet'], f'{work}/s')
for old in (None, b'an older result'):
    faults('logits --out', ['logits', tiny, '--ids', '1,2', '--out', f'{work}/o/l.npy', '--quiet'], f'{work}/o/l.npy', old)
faults('layer --out', ['layer', tiny, layer, '--x', f'{work}/x.npy', '--out', f'{work}/o/y.npy', '--quiet'], f'{work}/o/y.npy')
faults('layer --dequantize', ['layer', tiny, layer, '--dequantize', f'{work}/o/w.npy', '--quiet'], f'{work}/o/w.npy')
finish()
