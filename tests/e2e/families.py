#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every model family, on the small models of tests/data/families: logits against transformers' float32 forward on each instruction
set, equality over threads and between decode and prefill, older spellings of config.json, other tensor names, quantized weights,
and checkpoints that must be refused.
    families.py PLUQ SOURCE_DIR [NAME...]"""
import json
import os
import shutil
import struct
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from program import check, finish, instruction_sets, run, work
data = f'{source}/tests/data/families'
names = sys.argv[3:] or sorted(d for d in os.listdir(data) if os.path.isdir(f'{data}/{d}'))
ids = [int(i) for i in open(f'{data}/ids.txt').read().split(',')]
# dynamic rotations depend on the length that is planned for; the reference ran all ids.
CONTEXT = {'llama-dynamic': ['--context', len(ids)]}
PROMPT = 'Twelve zebras cross a wide river'  # longer than every window and than one block of the KV cache


def relative(a, b):
    return float(np.sqrt(((a.astype(np.float64) - b) ** 2).mean()) / b.std())


def read(path):
    """Tensors of a safetensors file: {name: (dtype, shape, bytes)}."""
    raw = open(path, 'rb').read()
    size = struct.unpack('<Q', raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop('__metadata__', None)
    return {n: (t['dtype'], t['shape'], raw[8 + size:][slice(*t['data_offsets'])]) for n, t in header.items()}


def write(path, tensors):
    header, at = {}, 0
    for n, (dtype, shape, raw) in tensors.items():
        header[n] = dict(dtype=dtype, shape=list(shape), data_offsets=[at, at + len(raw)])
        at += len(raw)
    text = json.dumps(header).encode()
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(raw for _, _, raw in tensors.values()))


def floats(tensor):
    dtype, shape, raw = tensor
    if dtype == 'BF16':
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return np.frombuffer(raw, {'F32': np.float32, 'F16': np.float16}[dtype]).astype(np.float32).reshape(shape)


def model(name, label, config=None, tensors=None):
    """A directory that holds the model, with its config or tensors changed in place by the given functions."""
    out = f'{work}/{name}-{label}'
    os.makedirs(out)
    c = json.load(open(f'{data}/{name}/config.json'))
    c = config and config(c) or c
    json.dump(c, open(f'{out}/config.json', 'w'))
    shutil.copy(f'{data}/tokenizer.json', out)
    if tensors:
        t = read(f'{data}/{name}/model.safetensors')
        write(f'{out}/model.safetensors', tensors(t) or t)
    else:
        shutil.copy(f'{data}/{name}/model.safetensors', out)
    return out


def logits(directory, ids, *flags, env=None):
    r = run('logits', directory, '--ids', ','.join(map(str, ids)), '--out', f'{work}/l.npy', '--quiet', *flags, env=env)
    if r.returncode != 0:
        print(f'{directory}: exit {r.returncode}: {r.stderr[:800]}', flush=True)
        return None
    return np.load(f'{work}/l.npy')


def equal(a, b):
    return a is not None and b is not None and a.shape == b.shape and (a == b).all()


def near(a, want, bound):
    return a is not None and relative(a[-len(want):], want) < bound


def typical(a, want):
    """The median over rows: rounding may move single tokens of a mixture to another expert."""
    return float(np.median(np.sqrt(((a.astype(np.float64) - want) ** 2).mean(axis=1)) / want.std()))


def distance(a, want):
    return 'no logits' if a is None else relative(a[-len(want):], want)


levels = instruction_sets()


def test_forward(name):
    """Logits, threads, decode, inspect."""
    directory, want = model(name, 'as-saved'), np.load(f'{data}/{name}/expected.npy')
    context = CONTEXT.get(name, [])
    for isa in levels:
        env = {'PLUQ_ISA': isa}
        exact = logits(directory, ids, '--compute', 'exact', *context, env=env)
        check(f'{name} {isa}: exact', near(exact, want, 1e-4), distance(exact, want))
        fast = logits(directory, ids, '--compute', 'fast', *context, env=env)
        check(f'{name} {isa}: fast', near(fast, want, 2e-2), distance(fast, want))
        for threads in (1, 2, 3):
            for compute, all_threads in (('exact', exact), ('fast', fast)):
                again = logits(directory, ids, '--compute', compute, '--threads', threads, *context, env=env)
                check(f'{name} {isa}: {compute} bits with {threads} threads', equal(again, all_threads))
    if os.path.exists(f'{data}/{name}/short.npy'):
        short, want = logits(directory, ids[:20], '--compute', 'exact', '--context', 24), np.load(f'{data}/{name}/short.npy')
        check(f'{name}: short context', near(short, want, 1e-4), distance(short, want))
    for compute in ('exact', 'fast'):
        r = run('run', directory, '-p', PROMPT, '-n', 8, '--temperature', 0, '--compute', compute, '--json', '--quiet', *context)
        check(f'{name}: run {compute}', r.returncode == 0, r.stderr)
        if r.returncode != 0:
            continue
        o = json.loads(r.stdout)
        whole = logits(directory, (o['prompt_ids'] + o['output_ids'])[:-1], '--compute', compute, *context)
        best = whole.argmax(-1)[len(o['prompt_ids']) - 1:].tolist()
        check(f'{name}: {compute} decode is prefill', o['prompt_ids'] == list(PROMPT.encode()) and len(o['output_ids']) == 8
              and best == o['output_ids'], (best, o))
    found = run('inspect', directory, '--json')
    report = json.loads(found.stdout) if found.returncode == 0 else {}
    architecture = json.load(open(f'{directory}/config.json'))['architectures'][0]
    check(f'{name}: inspect', report.get('architecture') == architecture and report['tensors_unused'] == []
          and all(l['format'] == 'dense' for l in report['layers']), found.stderr or found.stdout[:500])
    return directory, logits(directory, ids, '--compute', 'exact', *context)


def old_spelling(name):
    """config.json as transformers 4 wrote it: rope_theta and rope_scaling, torch_dtype, patterns instead of layer_types."""
    def change(c):
        text = c.get('text_config', c)
        for where in (c, text):
            if 'dtype' in where:
                where['torch_dtype'] = where.pop('dtype')
        rope = text.pop('rope_parameters')
        if 'full_attention' in rope:
            text['rope_local_base_freq'] = rope['sliding_attention']['rope_theta']
            rope = rope['full_attention']
        text['rope_theta'] = rope.pop('rope_theta')
        if 'partial_rotary_factor' in rope:
            text['partial_rotary_factor'] = rope.pop('partial_rotary_factor')
        if name == 'phi3':
            del rope['original_max_position_embeddings']  # Phi-3 has it beside rope_scaling
        kind = rope.pop('rope_type')
        text['rope_scaling'] = None if kind == 'default' else {'type' if name in ('phi3', 'llama-linear', 'llama-dynamic') else 'rope_type': kind} | rope
        types = text.pop('layer_types', None)
        if name.startswith('gemma3'):
            text.pop('_sliding_window_pattern')
            text['sliding_window_pattern'] = types.index('full_attention') + 1
        if name == 'gemma':
            text['hidden_act'], text['hidden_activation'] = 'gelu', None
        if name.startswith('qwen3_moe'):
            text['num_experts'] = text.pop('num_local_experts')
        return c
    return change


def test_spellings(name, exact):
    again = logits(model(name, 'old', old_spelling(name)), ids, '--compute', 'exact', *CONTEXT.get(name, []))
    check(f'{name}: transformers 4 spelling of config.json', equal(again, exact), again is not None and relative(again, exact))
    if name == 'smollm3':  # the interval in place of the list
        def interval(c):
            del c['no_rope_layers']
            c['no_rope_layer_interval'] = 2
        check(f'{name}: no_rope_layer_interval', equal(logits(model(name, 'interval', interval), ids, '--compute', 'exact'), exact))
    if name == 'gemma3-vision':  # names as transformers 5 has them in memory, and an untied copy of the head
        def rename(t):
            t = {'model.' + n.replace('language_model.model.', 'language_model.'): v for n, v in t.items()}
            return t | {'lm_head.weight': t['model.language_model.embed_tokens.weight']}
        other = model(name, 'renamed', tensors=rename)
        check(f'{name}: other prefix', equal(logits(other, ids, '--compute', 'exact'), exact))
        check(f'{name}: other prefix, all tensors known', json.loads(run('inspect', other, '--json').stdout or '{}').get('tensors_unused') == [])


def fuse(t):
    """q, k, v and gate, up as one tensor each, as some exporters save any family."""
    for n in [n for n in t if '.q_proj.' in n]:
        parts = [t.pop(n.replace('q_proj', p + '_proj')) for p in 'qkv']
        t[n.replace('q_proj', 'qkv_proj')] = (parts[0][0], [sum(p[1][0] for p in parts), *parts[0][1][1:]], b''.join(p[2] for p in parts))
    for n in [n for n in t if '.gate_proj.' in n]:
        parts = [t.pop(n.replace('gate_proj', p + '_proj')) for p in ('gate', 'up')]
        t[n.replace('gate_proj', 'gate_up_proj')] = (parts[0][0], [2 * parts[0][1][0], *parts[0][1][1:]], parts[0][2] + parts[1][2])


def test_fused(name, exact):
    fused = model(name, 'fused', tensors=fuse)
    again = logits(fused, ids, '--compute', 'exact')
    check(f'{name}: fused on disk', near(again, exact, 1e-6), distance(again, exact))
    check(f'{name}: fused on disk, all tensors known', json.loads(run('inspect', fused, '--json').stdout or '{}').get('tensors_unused') == [])


def test_quantized(name, directory, exact):
    """Each format on the family's linears: the logits are those of the dense model made of the dequantized weights."""
    plain = read(f'{directory}/model.safetensors')
    for form, settings in {'gptq': ['group_size=32'], 'awq': ['group_size=32'], 'fp8': ['scheme=block'], 'w8a8': []}.items():
        out = f'{work}/{name}-{form}'
        r = run('quantize', directory, '-o', out, '--format', form, '--json', '--quiet', *[x for s in settings for x in ('--set', s)])
        check(f'{name} {form}: quantize', r.returncode == 0, r.stderr)
        if r.returncode != 0:
            continue
        expected = {n[:-7] for n, t in plain.items() if len(t[1]) == 2 and '_proj.' in n or '.w1.' in n or '.w2.' in n or '.w3.' in n}
        expected = {n for n in expected if n + '.weight' in plain}
        inspected = json.loads(run('inspect', out, '--json').stdout or '{"layers": [], "tensors_unused": ["?"]}')
        by = {l['name']: l['format'] for l in inspected['layers']}
        done = {n for n, f in by.items() if f == form}
        check(f'{name} {form}: exactly the linears', done == expected and inspected['tensors_unused'] == [], (done ^ expected, inspected['tensors_unused']))
        dense = {n: ('F32', t[1], floats(t).tobytes()) for n, t in plain.items()}
        for layer in sorted(done):
            k = plain[layer + '.weight'][1][1]
            np.save(f'{work}/x.npy', np.zeros((1, k), np.float32))
            r = run('layer', out, layer, '--x', f'{work}/x.npy', '--out', f'{work}/y.npy', '--dequantize', f'{work}/w.npy', '--quiet')
            w = np.load(f'{work}/w.npy') if r.returncode == 0 else None
            if w is None or relative(w, floats(plain[layer + '.weight'])) > 0.2:
                check(f'{name} {form}: dequantize {layer}', False, r.stderr or relative(w, floats(plain[layer + '.weight'])))
                continue
            dense[layer + '.weight'] = ('F32', list(w.shape), w.astype(np.float32).tobytes())
        twin = model(name, form + '-twin', tensors=lambda t: dense)
        want = logits(twin, ids, '--compute', 'exact')
        got = logits(out, ids, '--compute', 'exact', '--activations', 'float')
        check(f'{name} {form}: logits of the dequantized weights', want is not None and near(got, want, 1e-5), distance(got, want))
        check(f'{name} {form}: the weights did change', want is not None and relative(want, exact) > 1e-3)
        one = logits(out, ids, '--compute', 'exact', '--threads', 1)
        check(f'{name} {form}: bits with 3 threads', equal(one, logits(out, ids, '--compute', 'exact', '--threads', 3)))
        if form in ('fp8', 'w8a8'):  # as the checkpoint says
            moved = distance(one, want)
            check(f'{name} {form}: activations are rounded', 1e-3 < moved < 0.2, moved)
        else:
            check(f'{name} {form}: activations are not rounded', equal(one, got))
        fast = logits(out, ids)
        check(f'{name} {form}: fast', fast is not None and one is not None and typical(fast, one) < 0.05, distance(fast, one))
        r = run('run', out, '-p', PROMPT, '-n', 8, '--temperature', 0, '--json', '--quiet')
        o = json.loads(r.stdout or '{"prompt_ids": [0], "output_ids": [0]}')
        best = logits(out, (o['prompt_ids'] + o['output_ids'])[:-1]).argmax(-1)[len(o['prompt_ids']) - 1:].tolist()
        check(f'{name} {form}: decode is prefill', r.returncode == 0 and best == o['output_ids'], r.stderr or (best, o))


def put(**values):
    return lambda c: c.update(values)


def rope(**values):
    return lambda c: c['rope_parameters'].update(values)


def drop(tensor):
    def change(t):
        del t[tensor]
    return change


def reshape(tensor, shape):
    def change(t):
        t[tensor] = (t[tensor][0], shape, t[tensor][2])
    return change


P = 'model.layers.1.'
REFUSED = [  # name, config change, tensor change, what the message must say
    ('qwen3', None, drop(P + 'self_attn.q_norm.weight'), [P + 'self_attn.q_norm.weight', 'missing']),
    ('qwen3', None, reshape(P + 'self_attn.k_norm.weight', [2, 16]), [P + 'self_attn.k_norm.weight']),
    ('gemma2', None, drop(P + 'pre_feedforward_layernorm.weight'), [P + 'pre_feedforward_layernorm.weight', 'missing']),
    ('phi3', None, drop(P + 'mlp.gate_up_proj.weight'), [P + 'mlp.ga']),
    ('phi3', None, drop(P + 'self_attn.qkv_proj.weight'), [P + 'self_attn.q']),
    ('phi3', put(intermediate_size=64), None, ['mlp.gate_up_proj', '[192, 64]', '[128, 64]']),
    ('phi3', rope(long_factor=[1.0, 2.0]), None, ['long_factor', '2']),
    ('phi3', rope(long_factor=[1.0] * 5 + [0.0]), None, ['long_factor', '0']),
    ('phi3', rope(partial_rotary_factor=1.5), None, ['partial_rotary_factor', '1.5']),
    ('mixtral', None, drop(P + 'block_sparse_moe.gate.weight'), [P + 'block_sparse_moe.gate']),
    ('mixtral', None, drop(P + 'block_sparse_moe.experts.3.w3.weight'), [P + 'block_sparse_moe.experts.3.w3']),
    ('mixtral', put(num_local_experts=5), None, ['block_sparse_moe']),
    ('mixtral', put(num_experts_per_tok=5), None, ['4', '5', 'config.json']),
    ('mixtral', put(num_experts_per_tok=0), None, ['num_experts_per_tok', '0']),
    ('mixtral', put(sliding_window=-8), None, ['sliding_window', '-8']),
    ('mixtral', put(sliding_window='8'), None, ['sliding_window', '"8"']),
    ('qwen2', put(layer_types=['full_attention']), None, ['layer_types', '1', '2']),
    ('qwen2', put(layer_types=['full_attention', 'linear_attention']), None, ['linear_attention', 'full_attention', 'sliding_attention']),
    ('qwen2', put(layer_types=['full_attention', 7]), None, ['layer_types']),
    ('qwen3_moe', put(decoder_sparse_step=-1), None, ['decoder_sparse_step', '-1']),
    ('qwen3_moe', put(mlp_only_layers='0'), None, ['mlp_only_layers']),
    ('olmoe', put(clip_qkv=-8.0), None, ['clip_qkv', '-8']),
    ('mixtral', put(clip_qkv=8.0), None, ['clip_qkv', '8', 'clips no activations']),
    ('gemma3', put(use_bidirectional_attention=True), None, ['use_bidirectional_attention']),
    ('gemma2', put(attn_logit_softcapping=-3.0), None, ['attn_logit_softcapping', '-3']),
    ('gemma2', put(hidden_activation='relu2'), None, ['relu2', 'gelu']),
    ('smollm3', put(no_rope_layers=[1]), None, ['no_rope_layers', '1', '2']),
    ('granite', put(logits_scaling=0), None, ['logits_scaling', '0']),
    ('llama', rope(rope_type='mrope'), None, ['mrope', 'default', 'longrope']),
    ('gemma3-vision', put(text_config=3), None, ['text_config']),
    ('gemma3-vision', None, lambda t: t.update({'stray.weight': t['language_model.model.norm.weight']}), None),
]


def test_refused():
    for at, (name, config, tensors, says) in enumerate(REFUSED):
        if name not in names:
            continue
        directory = model(name, f'refused-{at}', config, tensors)
        if says is None:  # not an error, but told
            found = json.loads(run('inspect', directory, '--json').stdout or '{}').get('tensors_unused')
            check(f'{name}: a stray tensor is told', found == ['stray.weight'], found)
            continue
        out = f'{directory}/refused.npy'
        r = run('logits', directory, '--ids', '1,2,3', '--out', out, '--compute', 'exact')
        check(f'{name} refused for {says[0]}', r.returncode == 3 and all(s in r.stderr for s in says) and not os.path.exists(out),
              f'exit {r.returncode}: want {says}: {r.stderr[:500]}')


for name in names:
    directory, exact = test_forward(name)
    test_spellings(name, exact)
    if name in ('llama', 'qwen3', 'gemma2'):
        test_fused(name, exact)
    if name in ('llama', 'qwen3', 'phi3', 'mixtral'):
        test_quantized(name, directory, exact)
test_refused()
finish()
