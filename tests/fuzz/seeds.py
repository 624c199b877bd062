#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small inputs for the fuzz targets, from tests/data and from the layouts themselves: OUT/TARGET/FILE.
    seeds.py SOURCE_DIR OUT PLUGIN.so"""
import json
import os
import shutil
import struct
import sys

source, out, plugin = sys.argv[1:4]
sys.path.insert(0, f'{source}/tests/support')
from models import write_gguf

data = f'{source}/tests/data'


def seed(target, name, content):
    os.makedirs(f'{out}/{target}', exist_ok=True)
    with open(f'{out}/{target}/{name}', 'wb') as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def safetensors(tensors, metadata=None):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, body = {'__metadata__': metadata} if metadata else {}, b''
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + body


seed('safetensors', 'empty', safetensors({}))
seed('safetensors', 'two', safetensors({'a.weight': ('BF16', [2, 3], bytes(12)), 'a.bias': ('F32', [3], bytes(12))}, {'format': 'pt'}))
seed('safetensors', 'ranks', safetensors({'scalar': ('I64', [], bytes(8)), 'none': ('U8', [0, 5], b''), 'four': ('F8_E4M3', [1, 2, 1, 2], bytes(4))}))

seed('index', 'one', json.dumps({'metadata': {'total_size': 8}, 'weight_map': {'w': 'a.safetensors'}}))
seed('index', 'absent', json.dumps({'weight_map': {'w': 'a.safetensors', 'v': 'b.safetensors'}}))
seed('index', 'outside', json.dumps({'weight_map': {'w': '../a.safetensors'}}))

names = ['<unk>', '<s>', '</s>', 'a', 'b', 'ab', ' a', '\u2581a']
keys = {'general.architecture': 'llama', 'llama.block_count': 1, 'llama.embedding_length': 8, 'llama.feed_forward_length': 8,
        'llama.attention.head_count': 2, 'llama.attention.head_count_kv': 1, 'llama.context_length': 16, 'llama.vocab_size': len(names),
        'llama.attention.layer_norm_rms_epsilon': 1e-5, 'llama.rope.freq_base': 1e4, 'tokenizer.ggml.model': 'llama',
        'tokenizer.ggml.tokens': names, 'tokenizer.ggml.scores': [0.0] * len(names), 'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2}


def f32(*shape):
    n = 4
    for s in shape:
        n *= s
    return (0, list(shape), bytes(n))


block = {'attn_q': (8, 8), 'attn_k': (4, 8), 'attn_v': (4, 8), 'attn_output': (8, 8), 'ffn_gate': (8, 8), 'ffn_up': (8, 8), 'ffn_down': (8, 8),
         'attn_norm': (8,), 'ffn_norm': (8,)}
tensors = {'token_embd.weight': f32(len(names), 8), 'output_norm.weight': f32(8), 'output.weight': f32(len(names), 8),
           **{f'blk.0.{n}.weight': f32(*s) for n, s in block.items()}}
os.makedirs(f'{out}/gguf', exist_ok=True)
write_gguf(f'{out}/gguf/llama', keys, tensors)
write_gguf(f'{out}/gguf/keys', {k: v for k, v in keys.items() if k.startswith('general')}, {})
write_gguf(f'{out}/gguf/q8', keys, {**tensors, 'output.weight': (8, [4, 32], bytes(4 * 34))})

for family in sorted(os.listdir(f'{data}/families')):
    config = f'{data}/families/{family}/config.json'
    if os.path.exists(config):
        seed('model_config', family, open(config, 'rb').read())
seed('model_config', 'tiny', open(f'{data}/tiny/config.json', 'rb').read())

for name in ('mixed-formats.yaml', 'quickstart.yaml'):
    seed('run_config', name, open(f'{source}/configs/{name}', 'rb').read())
seed('run_config', 'all', '''model: ./m
device: cuda-emulated:sm80
compute: exact
activations: float
context: 64
threads: 2
kv_cache: {dtype: fp8_e4m3, scale: head}
plugins:
  paths: [./p, "/q"]
  allow: a.sha256
  prefer: {gptq: ./p/gptq.so}
formats:
  w4: {type: gptq, bits: 4, group_size: 32}
layers:
  - {match: "re:.*\\\\.v_proj", format: w4}
  - {match: "*", format: w4}
generation: {temperature: 0.5, top_k: 3, stop: ["a", "\\n"]}
''')

components = json.load(open(f'{data}/tokenizers/components.json'))
for i, case in enumerate(components['cases']):
    document = dict(case['tokenizer'])
    document['model'] = components['models'][document['model']]
    seed('tokenizer_json', f'{i:02}', json.dumps(document, ensure_ascii=False))
for i, text in enumerate(components['texts'][:60]):
    seed('encode', f'{i:02}', text if isinstance(text, str) else json.dumps(text))

for name in sorted(os.listdir(f'{data}/chat/templates')):
    seed('chat_template', name, open(f'{data}/chat/templates/{name}', 'rb').read())

header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
header += ' ' * (-(len(header) + 11) % 64) + '\n'
seed('npy', 'v1', b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode() + bytes(24))
seed('npy', 'v2', b'\x93NUMPY\x02\x00' + struct.pack('<I', len(header)) + header.encode() + bytes(24))

os.makedirs(f'{out}/plugin_file', exist_ok=True)
shutil.copy(plugin, f'{out}/plugin_file/plugin')

scheme = {'num_bits': 4, 'type': 'int', 'symmetric': True, 'strategy': 'group', 'group_size': 128, 'actorder': None}
tokens = {'num_bits': 8, 'type': 'int', 'symmetric': True, 'strategy': 'token', 'dynamic': True}
for name, config in {
        'gptq': {'quant_method': 'gptq', 'bits': 4, 'group_size': 128, 'desc_act': False, 'sym': True, 'checkpoint_format': 'gptq',
                 'dynamic': {'-:.*down_proj': {}, '+:.*up_proj': {'bits': 8}}},
        'awq': {'quant_method': 'awq', 'bits': 4, 'group_size': 128, 'zero_point': True, 'version': 'gemm', 'modules_to_not_convert': ['lm_head']},
        'fp8': {'quant_method': 'fp8', 'activation_scheme': 'dynamic', 'weight_block_size': [128, 128], 'modules_to_not_convert': ['lm_head']},
        'packed': {'quant_method': 'compressed-tensors', 'format': 'pack-quantized', 'ignore': ['lm_head', 're:.*gate'],
                   'config_groups': {'group_0': {'targets': ['Linear'], 'weights': scheme, 'input_activations': None}}},
        'w8a8': {'quant_method': 'compressed-tensors', 'format': 'int-quantized', 'ignore': ['lm_head'],
                 'config_groups': {'group_0': {'targets': ['re:.*proj'], 'weights': {**scheme, 'num_bits': 8, 'strategy': 'channel', 'group_size': None},
                                               'input_activations': tokens}}, 'kv_cache_scheme': {'num_bits': 8, 'type': 'float', 'strategy': 'tensor'}},
        'bnb': {'quant_method': 'bitsandbytes', 'load_in_4bit': True, 'bnb_4bit_quant_type': 'nf4', 'bnb_4bit_use_double_quant': True},
        'modelopt': {'quant_method': 'modelopt', 'quant_algo': 'NVFP4', 'group_size': 16, 'exclude_modules': ['lm_head'], 'kv_cache_quant_algo': 'FP8'},
}.items():
    seed('quantization_config', name, json.dumps(config))
