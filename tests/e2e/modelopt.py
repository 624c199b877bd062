#!/usr/bin/env python3
"""Checkpoints in NVIDIA ModelOpt's names give the bits of the same codes in the names pluq writes; global scales of nvfp4 are
shared by what engines fuse; KV scales by ModelOpt's config.
    modelopt.py PLUQ SOURCE_DIR"""
import json
import os
import shutil
import struct
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from program import check, finish, run, work
tiny = f'{source}/tests/data/tiny'


def read(model):
    """{name: [dtype, shape, bytes]} and config.json of a model directory."""
    data = open(f'{model}/model.safetensors', 'rb').read()
    size = struct.unpack('<Q', data[:8])[0]
    tensors = {name: [t['dtype'], t['shape'], data[8 + size + t['data_offsets'][0]:8 + size + t['data_offsets'][1]]]
               for name, t in json.loads(data[8:8 + size]).items() if name != '__metadata__'}
    return tensors, json.load(open(f'{model}/config.json'))


def write(name, tensors, config, side=None):
    out = f'{work}/{name}'
    shutil.copytree(tiny, out)
    header, body = {}, b''
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {'dtype': dtype, 'shape': shape, 'data_offsets': [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    open(f'{out}/model.safetensors', 'wb').write(struct.pack('<Q', len(text)) + text + body)
    json.dump(config, open(f'{out}/config.json', 'w'))
    if side is not None:
        json.dump(side, open(f'{out}/hf_quant_config.json', 'w'))
    return out


def f32(value):
    return ['F32', [], struct.pack('<f', value)]


def logits(model, *flags):
    r = run('logits', model, '--ids', '3,5,200,9,17,90', '--out', f'{work}/l.npy', *flags)
    return (np.load(f'{work}/l.npy') if r.returncode == 0 else None), r


def close(a, b, bound):
    return a is not None and b is not None and float(np.sqrt(((a - b) ** 2).mean()) / b.std()) < bound


def quantize(format, *settings):
    out = f'{work}/{format}-q'
    r = run('quantize', tiny, '-o', out, '--format', format, *[x for s in settings for x in ('--set', s)])
    check(f'{format}: quantize', r.returncode == 0, r.stderr)
    return out


# nvfp4: one global scale for q, k, v and one for gate, up, as engines that fuse them need.
made = quantize('nvfp4')
tensors, config = read(made)
scale = {k: struct.unpack('<f', v[2])[0] for k, v in tensors.items() if k.endswith('weight_global_scale')}
for layer in (0, 1):
    p = f'model.layers.{layer}.'
    for part, names in (('self_attn', ('q_proj', 'k_proj', 'v_proj')), ('mlp', ('gate_proj', 'up_proj'))):
        got = {scale[f'{p}{part}.{n}.weight_global_scale'] for n in names}
        check(f'nvfp4: layer {layer}, {part} shares its global scale', len(got) == 1, got)
check('nvfp4: others have their own', len(set(scale.values())) > 4, scale)

renamed = {}
for name, t in tensors.items():
    if name.endswith('.weight_global_scale'):
        renamed[name.replace('weight_global_scale', 'weight_scale_2')] = f32(1 / struct.unpack('<f', t[2])[0])
        renamed[name.replace('weight_global_scale', 'input_scale')] = f32(0.01)
    else:
        renamed[name.replace('.weight_packed', '.weight')] = t
plain = {k: v for k, v in config.items() if k != 'quantization_config'}


def side(algo, **more):
    return {'producer': {'name': 'modelopt'}, 'quantization': {'quant_algo': algo, 'exclude_modules': ['lm_head'], **more}}


ours, _ = logits(made, '--compute', 'exact')
weights = {k: v for k, v in renamed.items() if not k.endswith('.input_scale')}
model = write('nvfp4-weights', weights, plain, side('NVFP4', group_size=16))
got, r = logits(model, '--compute', 'exact')
check('nvfp4: ModelOpt names, hf_quant_config.json', close(got, ours, 1e-5), r.stderr)
found = json.loads(run('inspect', model, '--json').stdout or '{}')
check('nvfp4: all tensors used', found.get('tensors_unused') == [] and sum(l['format'] == 'nvfp4' for l in found['layers']) == 14, found)
model = write('nvfp4-inputs', renamed, {**plain, 'quantization_config': {'quant_method': 'modelopt', 'quant_algo': 'NVFP4', 'ignore': ['lm_head']}})
got, r = logits(model, '--compute', 'exact')
check('nvfp4: rounded activations are refused', r.returncode == 3 and 'rounds activations to 4-bit floats' in r.stderr and '--activations float' in r.stderr, r.stderr)
got, r = logits(model, '--compute', 'exact', '--activations', 'float')
check('nvfp4: config.json, float activations', close(got, ours, 1e-5), r.stderr)
got, r = logits(write('nvfp4-wrong', weights, plain, side('FP8')))
check('nvfp4: another algorithm is named', r.returncode == 3 and "the tensors are nvfp4, but quant_algo is 'FP8'" in r.stderr, r.stderr)
got, r = logits(write('nvfp4-none', weights, {**plain, 'quantization_config': {'quant_method': 'modelopt'}}))
check('nvfp4: no algorithm', r.returncode != 0 and "'quant_algo' is missing" in r.stderr, r.stderr)

# fp8: static activations as quant_method fp8 has them.
tensors, config = read(quantize('fp8', 'scheme=tensor'))
for name in [n for n in tensors if n.endswith('.weight_scale')]:
    tensors[name.replace('weight_scale', 'input_scale')] = f32(0.02)
config['quantization_config']['activation_scheme'] = 'static'
want, r = logits(write('fp8-static', tensors, config))
check('fp8: static', want is not None, r.stderr)
plain = {k: v for k, v in config.items() if k != 'quantization_config'}
got, r = logits(write('fp8-modelopt', tensors, plain, side('FP8', kv_cache_quant_algo=None)))
check('fp8: ModelOpt gives the same bits', got is not None and (got == want).all(), r.stderr)
mixed = {'quantization': {'quant_algo': 'MIXED_PRECISION',
                          'quantized_layers': {n[:-len('.weight_scale')]: {'quant_algo': 'FP8'} for n in tensors if n.endswith('.weight_scale')}}}
got, r = logits(write('fp8-mixed', tensors, plain, mixed))
check('fp8: algorithms by layer', got is not None and (got == want).all(), r.stderr)
got, r = logits(write('fp8-unknown', tensors, plain, side('W4A8_AWQ')))
check('fp8: another algorithm is named', r.returncode == 3 and "quant_algo is 'W4A8_AWQ'" in r.stderr, r.stderr)

# The KV cache by ModelOpt's names.
for layer in (0, 1):
    for x in 'kv':
        tensors[f'model.layers.{layer}.self_attn.{x}_proj.{x}_scale'] = f32(0.05)
model = write('fp8-kv', tensors, plain, side('FP8', kv_cache_quant_algo='FP8'))
found = json.loads(run('inspect', model, '--json').stdout or '{}')
check('fp8: KV scales', found.get('kv_cache', {}).get('type') == 'fp8_e4m3:tensor' and found.get('tensors_unused') == [], found.get('kv_cache'))
a, r = logits(model)
check('fp8: KV scales change the result a little', a is not None and not (a == want).all() and close(a, want, 0.1) and 'KV cache' not in r.stderr, r.stderr)
del tensors['model.layers.1.self_attn.k_proj.k_scale'], tensors['model.layers.1.self_attn.v_proj.v_scale']
a, r = logits(write('fp8-kv-missing', tensors, plain, side('FP8', kv_cache_quant_algo='FP8')))
check('fp8: missing KV scales are named', r.returncode == 0 and 'KV scales are missing for model.layers.1.self_attn' in r.stderr, r.stderr)
a, r = logits(write('fp8-kv4', tensors, plain, side('FP8', kv_cache_quant_algo='NVFP4')))
check('fp8: a KV cache that is not built', r.returncode == 3 and "a KV cache of 'NVFP4'" in r.stderr and '--kv-cache DTYPE' in r.stderr, r.stderr)
finish()
