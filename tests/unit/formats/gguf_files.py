#!/usr/bin/env python3
"""GGUF files run directly. A small model is put together from the blocks of tests/data/gguf, whose values the PyPI package
gguf has given: once as a GGUF file with llama.cpp's names and row order, once as a model directory of those values.
    gguf_files.py PLUQ SOURCE_DIR"""
import json
import os
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from models import interleave, write_directory, write_gguf
from program import check, finish, run, work
rng = np.random.default_rng(5)
HIDDEN, INNER, HEADS, KV, VOCAB = 256, 512, 4, 2, 96
TYPES = [('Q4_0', 2, 32, 18), ('Q4_1', 3, 32, 20), ('Q5_0', 6, 32, 22), ('Q5_1', 7, 32, 24), ('Q8_0', 8, 32, 34), ('Q2_K', 10, 256, 84),
         ('Q3_K', 11, 256, 110), ('Q4_K', 12, 256, 144), ('Q5_K', 13, 256, 176), ('Q6_K', 14, 256, 210)]


KEYS = {'general.architecture': 'llama', 'llama.context_length': 128, 'llama.embedding_length': HIDDEN, 'llama.block_count': 1,
        'llama.feed_forward_length': INNER, 'llama.attention.head_count': HEADS, 'llama.attention.head_count_kv': KV,
        'llama.attention.layer_norm_rms_epsilon': 1e-5, 'llama.rope.freq_base': 10000.0}
CONFIG = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': HIDDEN, 'intermediate_size': INNER, 'num_hidden_layers': 1,
          'num_attention_heads': HEADS, 'num_key_value_heads': KV, 'head_dim': HIDDEN // HEADS, 'vocab_size': VOCAB, 'rms_norm_eps': 1e-5,
          'hidden_act': 'silu', 'tie_word_embeddings': True, 'max_position_embeddings': 128, 'rope_theta': 10000.0}


def logits(model, *flags):
    r = run('logits', model, '--ids', '3,1,4,1,5,92,65,35,89,79', '--out', f'{work}/l.npy', *flags)
    check(f'logits {os.path.basename(model)}', r.returncode == 0, r.stderr)
    return np.load(f'{work}/l.npy') if r.returncode == 0 else np.full((10, VOCAB), np.nan)


def relative(a, b):
    return float(np.sqrt(((a - b) ** 2).mean()) / b.std())


MATRICES = {'attn_q': ('self_attn.q_proj', HIDDEN, HIDDEN, HEADS), 'attn_k': ('self_attn.k_proj', HIDDEN // 2, HIDDEN, KV),
            'attn_v': ('self_attn.v_proj', HIDDEN // 2, HIDDEN, 0), 'attn_output': ('self_attn.o_proj', HIDDEN, HIDDEN, 0),
            'ffn_gate': ('mlp.gate_proj', INNER, HIDDEN, 0), 'ffn_up': ('mlp.up_proj', INNER, HIDDEN, 0), 'ffn_down': ('mlp.down_proj', HIDDEN, INNER, 0)}
blocks = open(f'{source}/tests/data/gguf/blocks.bin', 'rb').read()
values = np.fromfile(f'{source}/tests/data/gguf/values.bin', np.float32)
at = 0
for index, (name, type_id, elements, size) in enumerate(TYPES):
    count = 1024 // elements
    raw = np.frombuffer(blocks[at:at + count * size], np.uint8).reshape(count, size)
    known = values[index * 1024:(index + 1) * 1024].reshape(count, elements)
    at += count * size
    norm = (rng.uniform(0.5, 1.5, HIDDEN) / known.std() * 0.05).astype(np.float32)  # keeps the scores of attention small
    stored, plain = {}, {}

    def matrix(rows, columns):
        chosen = rng.integers(0, count, (rows, columns // elements))
        return chosen, known[chosen].reshape(rows, columns)

    def put(gguf_name, hf_name, rows, columns, heads):
        chosen, plain[f'{hf_name}.weight'] = matrix(rows, columns)
        chosen = interleave(chosen, heads) if heads else chosen
        stored[f'{gguf_name}.weight'] = (type_id, (rows, columns), raw[chosen].tobytes())

    put('token_embd', 'model.embed_tokens', VOCAB, HIDDEN, 0)
    for short, (hf, rows, columns, heads) in MATRICES.items():
        put(f'blk.0.{short}', f'model.layers.0.{hf}', rows, columns, heads)
    for short, hf in (('blk.0.attn_norm', 'model.layers.0.input_layernorm'), ('blk.0.ffn_norm', 'model.layers.0.post_attention_layernorm'),
                      ('output_norm', 'model.norm')):
        plain[f'{hf}.weight'] = norm
        stored[f'{short}.weight'] = (0, (HIDDEN,), norm.tobytes())
    write_gguf(f'{work}/{name}.gguf', KEYS, stored)
    write_directory(f'{work}/{name}', CONFIG, plain)
    want, got = logits(f'{work}/{name}', '--compute', 'exact'), logits(f'{work}/{name}.gguf', '--compute', 'exact')
    check(f'{name}: logits', relative(got, want) < 2e-5, relative(got, want))
    check(f'{name}: fast logits', relative(logits(f'{work}/{name}.gguf'), want) < 3e-2, relative(logits(f'{work}/{name}.gguf'), want))
    layer = 'model.layers.0.self_attn.k_proj'
    r = run('layer', f'{work}/{name}.gguf', layer, '--dequantize', f'{work}/w.npy', '--json')
    check(f'{name}: layer', r.returncode == 0 and json.loads(r.stdout)['scheme'] == name, r.stderr)
    check(f'{name}: decoded bit for bit', (np.load(f'{work}/w.npy') == plain[f'{layer}.weight']).all())
    found = json.loads(run('inspect', f'{work}/{name}.gguf', '--json').stdout or '{}')
    check(f'{name}: inspect', found.get('tensors_unused') == [] and all(l['format'] == 'gguf' for l in found['layers']), found)

# What is wrong is said, with exit code 3.
name, type_id, elements, size = TYPES[0]
infinite = {**stored, 'blk.0.ffn_up.weight': (2, (INNER, HIDDEN), (b'\x00\x7c' + bytes(16)) * (INNER * HIDDEN // 32))}
strange = {**stored, 'blk.0.strange.weight': stored['blk.0.attn_norm.weight']}
factors = {**stored, 'rope_freqs.weight': (0, (5,), np.ones(5, np.float32).tobytes())}
for case, tensors, changes, said in (
        ('architecture', stored, {'general.architecture': 'mamba'}, ["'mamba'", 'supported are llama']),
        ('key', stored, {'llama.block_count': None}, ["'llama.block_count' is missing"]),
        ('heads', stored, {'llama.attention.head_count': 7}, ['attn_q', '7 heads']),
        ('tensor', strange, {}, ["'blk.0.strange.weight'"]),
        ('factors', factors, {}, ['5 and 5 numbers', 'expected 32']),
        ('missing', {k: v for k, v in stored.items() if k != 'output_norm.weight'}, {}, ['model.norm.weight']),
        ('scale', infinite, {}, ['mlp.up_proj', 'row 0, column 0', 'not finite'])):
    write_gguf(f'{work}/{case}.gguf', {**KEYS, **changes}, tensors)
    r = run('logits', f'{work}/{case}.gguf', '--ids', '0', '--out', f'{work}/o.npy')
    check(f'refused {case}', r.returncode == 3 and all(s in r.stderr for s in said), f'exit {r.returncode}: {r.stderr}')

finish()
