#!/usr/bin/env python3
"""Makes the tiny model of this folder: a random 2-layer Llama (hidden 64, 4 query and 2 key/value heads of 16, intermediate
128, vocabulary 4096, tied embeddings, bf16, llama3 rope) and expected.npy, the logits of the ids in expected_ids.txt by a
forward pass in float64 written here, independent of pluq. tokenizer.json is given: make.py TOKENIZER.json"""
import json
import os
import shutil
import struct
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)
H, HEADS, KV, D, I, V, LAYERS, EPS = 64, 4, 2, 16, 128, 4096, 2, 1e-5
ROPE = dict(rope_type='llama3', rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)


def bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def wide(h):
    return (h.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


shapes = {'model.embed_tokens.weight': (V, H), 'model.norm.weight': (H,)}
for l in range(LAYERS):
    p = f'model.layers.{l}.'
    shapes |= {p + 'input_layernorm.weight': (H,), p + 'post_attention_layernorm.weight': (H,),
               p + 'self_attn.q_proj.weight': (HEADS * D, H), p + 'self_attn.k_proj.weight': (KV * D, H),
               p + 'self_attn.v_proj.weight': (KV * D, H), p + 'self_attn.o_proj.weight': (H, HEADS * D),
               p + 'mlp.gate_proj.weight': (I, H), p + 'mlp.up_proj.weight': (I, H), p + 'mlp.down_proj.weight': (H, I)}
tensors = {n: bf16(1 + 0.1 * rng.standard_normal(s) if len(s) == 1 else rng.standard_normal(s) * (s[-1] ** -0.5)) for n, s in shapes.items()}

header, at = {'__metadata__': {'format': 'pt'}}, 0
for n, t in tensors.items():
    header[n] = {'dtype': 'BF16', 'shape': list(t.shape), 'data_offsets': [at, at + t.nbytes]}
    at += t.nbytes
text = json.dumps(header, separators=(',', ':')).encode()
text += b' ' * (-len(text) % 8)
with open(f'{here}/model.safetensors', 'wb') as f:
    f.write(struct.pack('<Q', len(text)) + text + b''.join(t.tobytes() for t in tensors.values()))
json.dump({'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': H, 'intermediate_size': I, 'num_hidden_layers': LAYERS,
           'num_attention_heads': HEADS, 'num_key_value_heads': KV, 'head_dim': D, 'vocab_size': V, 'rms_norm_eps': EPS, 'hidden_act': 'silu',
           'tie_word_embeddings': True, 'max_position_embeddings': 256, 'rope_parameters': ROPE, 'bos_token_id': 0, 'eos_token_id': 1,
           'dtype': 'bfloat16'}, open(f'{here}/config.json', 'w'), indent=1)
shutil.copyfile(sys.argv[1], f'{here}/tokenizer.json')

w = {n: wide(t) for n, t in tensors.items()}
freq = ROPE['rope_theta'] ** (-np.arange(0, D, 2) / D)
wave = 2 * np.pi / freq
smooth = (64 / wave - 1) / 3
freq = np.where(wave > 64, freq / 4, np.where(wave < 16, freq, (1 - smooth) * freq / 4 + smooth * freq))
ids = rng.integers(2, V, 48)
angle = np.arange(len(ids))[:, None] * freq[None]
cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def rotate(x):
    a, b = x[..., :D // 2], x[..., D // 2:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


x = w['model.embed_tokens.weight'][ids]
mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
for l in range(LAYERS):
    p = f'model.layers.{l}.'
    h = norm(x, w[p + 'input_layernorm.weight'])
    q = rotate((h @ w[p + 'self_attn.q_proj.weight'].T).reshape(-1, HEADS, D))
    k = rotate((h @ w[p + 'self_attn.k_proj.weight'].T).reshape(-1, KV, D)).repeat(HEADS // KV, 1)
    v = (h @ w[p + 'self_attn.v_proj.weight'].T).reshape(-1, KV, D).repeat(HEADS // KV, 1)
    s = np.einsum('thd,shd->hts', q, k) / np.sqrt(D) + mask
    s = np.exp(s - s.max(-1, keepdims=True))
    a = np.einsum('hts,shd->thd', s / s.sum(-1, keepdims=True), v).reshape(len(ids), -1)
    x = x + a @ w[p + 'self_attn.o_proj.weight'].T
    h = norm(x, w[p + 'post_attention_layernorm.weight'])
    g = h @ w[p + 'mlp.gate_proj.weight'].T
    x = x + (g / (1 + np.exp(-g)) * (h @ w[p + 'mlp.up_proj.weight'].T)) @ w[p + 'mlp.down_proj.weight'].T
logits = norm(x, w['model.norm.weight']) @ w['model.embed_tokens.weight'].T
np.save(f'{here}/expected.npy', logits[-8:].astype(np.float32))  # of the last 8 positions
open(f'{here}/expected_ids.txt', 'w').write(','.join(map(str, ids)) + '\n')
