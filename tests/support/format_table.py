#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page plugins/KERNELS.md: for every format and variant the test that covers it, and for each instruction set of this machine
the kernel that serves it and its error against the oracle. The numbers come from the tests themselves (PLUQ_FORMAT_TABLE makes
those of tests/unit/formats write them down) and, for formats that are tested through the program, from `pluq layer`.
    format_table.py PLUQ SOURCE_DIR TEST_PROGRAM...            prints the page
    format_table.py PLUQ SOURCE_DIR TEST_PROGRAM... --check    compares it with the committed one, but for digits and for
                                                               instruction sets that either machine lacks"""
import contextlib
import io
import json
import os
import re
import subprocess
import sys

import numpy as np

check_only = '--check' in sys.argv
source, programs = sys.argv[2], [a for a in sys.argv[3:] if a != '--check']
sys.path.insert(0, f'{source}/tests/support')
from models import write_gguf
from program import finish, instruction_sets, run, work

ISAS = ('portable', 'avx2', 'avx512')
ORDER = ('dense', 'gptq', 'awq', 'fp8', 'w8a8', 'nf4', 'mxfp4', 'nvfp4', 'gguf')
tiny = f'{source}/tests/data/tiny'
rows = {}  # (format, scheme, test) -> {isa: {arithmetic: [kernel, worst error]}}


def add(format, scheme, test, isa, arithmetic, kernel, error):
    cell = rows.setdefault((format, scheme, test), {}).setdefault(isa, {})
    old = cell.get(arithmetic, [kernel, 0.0])
    cell[arithmetic] = [kernel, max(old[1], error)]


def from_tests():
    path = f'{work}/table.tsv'
    for program in programs:
        r = subprocess.run([program, '--gtest_brief=1'], capture_output=True, text=True, env={**os.environ, 'PLUQ_FORMAT_TABLE': path})
        if r.returncode != 0:
            sys.exit(f'{program} fails:\n{r.stdout[-2000:]}')
    for line in open(path):
        format, scheme, test, isa, arithmetic, kernel, error, _ = line.rstrip('\n').split('\t')
        add(format, scheme, test, isa, arithmetic, kernel, float(error))


def from_layer(model, layer, test, isas):
    for isa in isas:
        for arithmetic in ('exact', 'fast'):
            r = run('layer', model, layer, '--x', f'{work}/x.npy', '--out', f'{work}/y.npy', '--dequantize', f'{work}/w.npy', '--compute', arithmetic,
                    '--json', env={'PLUQ_ISA': isa})
            if r.returncode != 0:
                sys.exit(f'{model}: {r.stderr}')
            said = json.loads(r.stdout)
            want = np.load(f'{work}/x.npy').astype(np.float64) @ np.load(f'{work}/w.npy').astype(np.float64).T
            off = np.sqrt(((np.load(f'{work}/y.npy') - want) ** 2).sum(1) / (want ** 2).sum(1)).max()
            add(said['format'], said['scheme'], test, isa, arithmetic, said['kernel'], float(off))


def from_program(isas):
    """nf4, mxfp4 and nvfp4 as pluq quantizes them, and GGUF's blocks as tests/data/gguf has them."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((17, 64)).astype(np.float32)
    np.save(f'{work}/x.npy', x)
    made = (('nf4', ['type=nf4', 'double_quant=false']), ('nf4', ['type=nf4', 'double_quant=true']), ('nf4', ['type=fp4', 'double_quant=false']),
            ('mxfp4', []), ('nvfp4', []))
    for i, (format, settings) in enumerate(made):
        out = f'{work}/{format}-{i}'
        r = run('quantize', tiny, '-o', out, '--format', format, *[a for s in settings for a in ('--set', s)])
        if r.returncode != 0:
            sys.exit(f'quantize {format} {settings}: {r.stderr}')
        from_layer(out, 'model.layers.1.mlp.up_proj', 'formats.blocks', isas)
    types = [('Q4_0', 2, 32, 18), ('Q4_1', 3, 32, 20), ('Q5_0', 6, 32, 22), ('Q5_1', 7, 32, 24), ('Q8_0', 8, 32, 34), ('Q2_K', 10, 256, 84),
             ('Q3_K', 11, 256, 110), ('Q4_K', 12, 256, 144), ('Q5_K', 13, 256, 176), ('Q6_K', 14, 256, 210)]
    blocks, at = open(f'{source}/tests/data/gguf/blocks.bin', 'rb').read(), 0
    keys = {'general.architecture': 'llama', 'llama.context_length': 128, 'llama.embedding_length': 256, 'llama.block_count': 1, 'llama.feed_forward_length': 512,
            'llama.attention.head_count': 4, 'llama.attention.layer_norm_rms_epsilon': 1e-5}
    shapes = {'attn_q': (256, 256), 'attn_k': (256, 256), 'attn_v': (256, 256), 'attn_output': (256, 256), 'ffn_gate': (512, 256), 'ffn_up': (512, 256),
              'ffn_down': (256, 512)}
    np.save(f'{work}/x.npy', rng.standard_normal((17, 256)).astype(np.float32))
    for name, type_id, elements, size in types:
        count = 1024 // elements
        raw = np.frombuffer(blocks[at:at + count * size], np.uint8).reshape(count, size)
        at += count * size
        ones = (0, (256,), np.ones(256, np.float32).tobytes())
        stored = {'token_embd.weight': (0, (96, 256), bytes(96 * 256 * 4)), 'output_norm.weight': ones, 'blk.0.attn_norm.weight': ones, 'blk.0.ffn_norm.weight': ones}
        for short, shape in shapes.items():
            stored[f'blk.0.{short}.weight'] = (type_id, shape, raw[rng.integers(0, count, (shape[0], shape[1] // elements))].tobytes())
        write_gguf(f'{work}/{name}.gguf', keys, stored)
        from_layer(f'{work}/{name}.gguf', 'model.layers.0.mlp.up_proj', 'formats.gguf', isas)


def page(isas):
    lacking = [i for i in ISAS if i not in isas]
    out = ['# Formats, variants and kernels', '',
           'Made by `tests/support/format_table.py` (the test `formats.table` keeps its rows true, `ninja format_table` writes it anew): each variant with',
           'the test that covers it, and for each instruction set the kernel that serves it. The two numbers are the largest relative L2 error of a row',
           'of `apply`, over all cases of the test, against the product in double of the decoded weights and the inputs, rounded where the checkpoint',
           'rounds them: asked for `exact`, and asked for `fast`. One kernel is named where both are served by it.', '',
           'Not on the machine that made this page: ' + (', '.join(lacking) + '.' if lacking else 'nothing.'), '',
           '| format | variant | test | ' + ' | '.join(isas) + ' |', '|---' * (3 + len(isas)) + '|']
    known = sorted(rows, key=lambda r: (ORDER.index(r[0]) if r[0] in ORDER else len(ORDER), r))
    for key in known:
        cells = []
        for isa in isas:
            cell = rows[key].get(isa, {})
            kernels = list(dict.fromkeys(cell[a][0] for a in ('exact', 'fast') if a in cell))
            cells.append(f"`{'`, `'.join(kernels)}` {' / '.join(f'{cell[a][1]:.0e}' for a in ('exact', 'fast') if a in cell)}" if cell else 'none')
        out.append(f'| {key[0]} | {key[1]} | {key[2]} | ' + ' | '.join(cells) + ' |')
    return out


def comparable(lines, isas):
    """The rows without digits of errors, and with the columns of these instruction sets alone."""
    header, found = [], set()
    for line in lines:
        cells = [c.strip() for c in line.strip().strip('|').split('|')]
        if cells[0] == 'format':
            header = cells
        elif header and len(cells) == len(header) and not cells[0].startswith('-'):
            keep = cells[:3] + [c for name, c in zip(header[3:], cells[3:]) if name in isas]
            found.add(' | '.join(re.sub(r'\d\.?\d*e[-+]\d+', 'E', re.sub(r'(?<= )0e\+00', '1e-08', c)) for c in keep))
    return header[3:], found


with contextlib.redirect_stdout(io.StringIO()):
    here = instruction_sets()
from_tests()
from_program(here)
text = page(here)
if not check_only:
    print('\n'.join(text))
    sys.exit(0)
committed = open(f'{source}/plugins/KERNELS.md').read().splitlines()
there, _ = comparable(committed, ISAS)
both = [i for i in here if i in there]
_, want = comparable(committed, both)
_, got = comparable(text, both)
for line in sorted(got - want):
    print('not on the page: ', line)
for line in sorted(want - got):
    print('on the page only:', line)
print(f'{len(got)} rows; compared: {", ".join(both)}')
if got != want:
    print('plugins/KERNELS.md is not up to date: ninja format_table writes it anew')
    sys.exit(1)
