#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The engine on the emulated CUDA device, without fixtures: model families of tests/data/families against transformers' logits,
every type of KV cache, mixtures of experts, chunks of a prompt against single tokens, a quantized layer of each format that can
quantize, and what is refused.
    cuda_emulated.py PLUQ SOURCE_DIR [NAME...]"""
import json
import os
import shutil
import subprocess
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from models import write_directory
from program import check, finish, run, work
data = f'{source}/tests/data/families'
names = sys.argv[3:] or sorted(name for name in os.listdir(data) if os.path.isdir(f'{data}/{name}'))
ids = [int(i) for i in open(f'{data}/ids.txt').read().split(',')]


def logits(model, *flags, device='cuda-emulated', tokens=ids):
    r = run('logits', model, '--ids', ','.join(map(str, tokens)), '--out', f'{work}/l.npy', '--quiet', '--device', device, *flags)
    check(f'{model} on {device} {flags}', r.returncode == 0, r.stderr[:600])
    return np.load(f'{work}/l.npy') if r.returncode == 0 else None


def distance(a, b):
    """The median over rows of the relative error: rounding may move single tokens of a mixture to another expert."""
    if a is None or b is None or a.shape != b.shape:
        return np.inf
    return float(np.median(np.sqrt(((a.astype(np.float64) - b) ** 2).mean(axis=1)) / b.std()))


for name in names:
    want = np.load(f'{data}/{name}/expected.npy')
    # The reference ran 48 tokens: dynamic rotations depend on the length that is planned for.
    got = logits(f'{data}/{name}', *(['--context', '48'] if name == 'llama-dynamic' else []))
    found = distance(None if got is None else got[-len(want):], want)
    check(f'{name}: near transformers', found < 3e-2, found)

model = f'{data}/llama'
want = logits(model, '--compute', 'exact', device='cpu')
# The error of the type plus that of 16-bit activations (8e-3 with bf16).
for kv, bound in (('f32', 2e-2), ('f16', 2e-2), ('bf16', 2e-2), ('fp8_e4m3:token', 8e-2), ('fp8_e5m2:token', 1.5e-1), ('int8:token', 3e-2)):
    found = distance(logits(model, '--kv-cache', kv), want)
    check(f'KV cache {kv}', found < bound, found)
again = logits(model)
check('the same bits every time', np.array_equal(again, logits(model)))
check('the same on each family of GPUs', all(distance(logits(model, device=f'cuda-emulated:sm{sm}'), want) < 2e-2 for sm in (80, 89, 90)))

r = run('logits', model, '--ids', ','.join(map(str, ids)), '--out', f'{work}/all.npy', '--quiet', '--device', 'cuda-emulated', env={'PLUQ_CUDA_CHECKS': 'all'})
check('every detector is silent', r.returncode == 0 and np.array_equal(np.load(f'{work}/all.npy'), again), r.stderr[:600])
r = run('logits', model, '--ids', '1', '--out', f'{work}/all.npy', '--device', 'cuda-emulated', env={'PLUQ_CUDA_CHECKS': 'some'})
check('PLUQ_CUDA_CHECKS=some', r.returncode == 2 and 'accepted are bounds, all' in r.stderr, r.stderr)

x = np.random.default_rng(2).standard_normal((5, 64)).astype(np.float32)
np.save(f'{work}/x.npy', x)
for name in ('model.layers.0.mlp.up_proj', 'lm_head'):
    y = []
    for d in ('cpu', 'cuda-emulated'):
        r = run('layer', model, name, '--x', f'{work}/x.npy', '--out', f'{work}/y.npy', '--device', d, *(['--compute', 'exact'] if d == 'cpu' else []))
        check(f'layer {name} on {d}', r.returncode == 0, r.stderr)
        y.append(np.load(f'{work}/y.npy') if r.returncode == 0 else None)
    check(f'layer {name}: near the CPU', distance(*y) < 1e-2, distance(*y))

whole = f'{work}/whole'
shutil.copytree(model, whole)
shutil.copy(f'{data}/tokenizer.json', whole)
prompt = ['-p', 'Twelve zebras cross a wide river', '--temperature', '0', '-n', '6', '--json', '--quiet']
r = [run('run', whole, *prompt, '--device', d) for d in ('cpu', 'cuda-emulated')]
check('run', all(x.returncode == 0 for x in r), r[1].stderr)
check('run: tokens', r[1].returncode == 0 and len(json.loads(r[1].stdout)['output_ids']) > 0)

# Decode steps, recorded the second time and run again after that, choose what one pass over all tokens would.
r = subprocess.run([sys.executable, f'{source}/tests/gpu/decode.py', sys.argv[1], whole, 'cuda-emulated'], capture_output=True, text=True)
check('recorded decode steps', r.returncode == 0, r.stdout + r.stderr)

# More than 64 rows take other kernels (wgmma at 9.0), and 130 leave a ragged tile.
long = [(i * 37 + 5) % json.load(open(f'{model}/config.json'))['vocab_size'] for i in range(130)]
for kind in ('gptq', 'awq', 'fp8', 'w8a8', 'nf4', 'mxfp4', 'nvfp4'):
    out = f'{work}/{kind}'
    r = run('quantize', model, '-o', out, '--format', kind, '--algorithm', 'rtn', *(['--set', 'group_size=32'] if kind in ('gptq', 'awq') else []))
    if r.returncode != 0:
        check(f'quantize {kind}', False, r.stderr)
        continue
    found = distance(logits(out), logits(out, '--compute', 'exact', device='cpu'))
    # Where activations are rounded to 8 bits, those of 16 bits flip some roundings.
    check(f'{kind}: near the CPU', found < (1e-1 if kind in ('fp8', 'w8a8') else 4e-2), found)
    exact = logits(out, '--compute', 'exact', device='cpu', tokens=long)
    for sm in (80, 89, 90):
        found = distance(logits(out, device=f'cuda-emulated:sm{sm}', tokens=long), exact)
        check(f'{kind}: {len(long)} rows on sm{sm}', found < (1e-1 if kind in ('fp8', 'w8a8') else 4e-2), found)
    layers = json.loads(run('inspect', out, '--json', '--device', 'cuda-emulated').stdout)['layers']
    if kind == 'gptq':
        check('gptq: on the tensor cores', any(l['kernel'] == 'cuda_int4_mma' for l in layers), layers[1])
    check(f'{kind}: its own kernels', any(l['format'] == kind and 'by the host' not in l['kernel'] for l in layers), layers[1])

# Blocks of 128 x 128 in rows longer than one: a layer of random weights, wider than those of the families.
config = {**json.load(open(f'{model}/config.json')), 'hidden_size': 320, 'intermediate_size': 208, 'num_attention_heads': 5, 'num_key_value_heads': 1,
          'head_dim': 64, 'num_hidden_layers': 1, 'attention_bias': False, 'mlp_bias': False, 'tie_word_embeddings': True}
rng = np.random.default_rng(3)
shapes = {'self_attn.q_proj': (320, 320), 'self_attn.k_proj': (64, 320), 'self_attn.v_proj': (64, 320), 'self_attn.o_proj': (320, 320),
          'mlp.gate_proj': (208, 320), 'mlp.up_proj': (208, 320), 'mlp.down_proj': (320, 208)}
tensors = {f'model.layers.0.{name}.weight': rng.standard_normal(shape) / np.sqrt(shape[1]) for name, shape in shapes.items()}
tensors |= {'model.embed_tokens.weight': rng.standard_normal((config['vocab_size'], 320)), 'model.norm.weight': np.ones(320),
            'model.layers.0.input_layernorm.weight': np.ones(320), 'model.layers.0.post_attention_layernorm.weight': np.ones(320)}
write_directory(f'{work}/wide', config, tensors)
r = run('quantize', f'{work}/wide', '-o', f'{work}/wide-fp8', '--format', 'fp8', '--algorithm', 'rtn', '--set', 'scheme=block')
check('quantize fp8 in blocks', r.returncode == 0, r.stderr)
exact = logits(f'{work}/wide-fp8', '--compute', 'exact', device='cpu', tokens=long)
for sm in (89, 90):
    found = distance(logits(f'{work}/wide-fp8', device=f'cuda-emulated:sm{sm}', tokens=long), exact)
    check(f'fp8 in blocks: {len(long)} rows on sm{sm}', found < 1e-1, found)

# Where the layers take it, the engine rounds activations in the kernel that makes them: the same bits as when each layer
# rounds its own, in whole passes, in a mixture of experts, and in recorded decode steps.
for kind, source_model, flags in (('experts', f'{data}/mixtral', ('w8a8',)), ('fp8-block', model, ('fp8', '--set', 'scheme=block')),
                                  ('w8a8-asym', model, ('w8a8', '--set', 'activations=token_asym'))):
    r = run('quantize', source_model, '-o', f'{work}/{kind}', '--algorithm', 'rtn', '--format', *flags)
    check(f'quantize {kind}', r.returncode == 0, r.stderr)
for kind in ('fp8', 'fp8-block', 'w8a8', 'w8a8-asym', 'experts'):
    makers = ['with the norm', 'with the activation', 'after attention'] + ['while rows are gathered'] * (kind == 'experts')
    out, got, said = f'{work}/{kind}', [], []
    for who in ('engine', 'methods'):
        r = run('logits', out, '--ids', ','.join(map(str, ids)), '--out', f'{work}/r.npy', '--device', 'cuda-emulated:sm90', '--log-level', 'info',
                env={'PLUQ_CUDA_ROUNDING': who, 'PLUQ_CUDA_CHECKS': 'all'})
        check(f'{kind}: rounding by the {who}', r.returncode == 0, r.stderr[-600:])
        got.append(np.load(f'{work}/r.npy') if r.returncode == 0 else None)
        said.append([m for m in makers if f'x is rounded {m}' in r.stderr])
    check(f'{kind}: the same bits by whoever rounds', got[0] is not None and np.array_equal(got[0], got[1]), distance(*got))
    check(f'{kind}: the log says who rounds', said == [makers, []], said)
shutil.copy(f'{data}/tokenizer.json', f'{work}/fp8')
r = [run('run', f'{work}/fp8', *prompt, '--device', 'cuda-emulated:sm90', env={'PLUQ_CUDA_ROUNDING': who}) for who in ('engine', 'methods')]
check('fp8: recorded steps', all(x.returncode == 0 for x in r) and json.loads(r[0].stdout)['output_ids'] == json.loads(r[1].stdout)['output_ids'], r[0].stderr + r[1].stderr)
r = run('logits', f'{work}/fp8', '--ids', '1', '--out', f'{work}/n.npy', '--device', 'cuda-emulated', env={'PLUQ_CUDA_ROUNDING': 'host'})
check('PLUQ_CUDA_ROUNDING=host', r.returncode == 2 and 'accepted are engine, methods' in r.stderr, r.stderr)

for flags, said in ((['--device', 'cuda-emulated:sm75'], 'cuda-emulated[:sm80|sm89|sm90]'), (['--device', 'gpu'], 'accepted are cpu'),
                    (['--device', 'cuda-emulated', '--compute', 'exact'], 'use --compute fast')):
    r = run('logits', model, '--ids', '1', '--out', f'{work}/n.npy', *flags)
    check(f'refused {flags}', r.returncode == 2 and said in r.stderr, r.stderr)

# More memory than any machine has is asked for before anything is allocated, with the numbers.
r = run('logits', model, '--ids', '1', '--out', f'{work}/n.npy', '--device', 'cuda-emulated', '--context', '1000000000', '--kv-cache', 'f32')
check('out of memory', r.returncode == 1 and 'KV cache of 1000000000 tokens needs about' in r.stderr and 'MiB free; a smaller --context' in r.stderr, r.stderr)

finish()
