#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GGUF files of every architecture that pluq maps: a small random model is written once in HF layout and once with llama.cpp's
names, row order, fused experts and shifted norms; both must give the same logits, and `import` must turn the second into the first.
    gguf_families.py PLUQ SOURCE_DIR
With PLUQ_LLAMA_CPP=1 (PyPI llama-cpp-python) llama.cpp itself runs the same files, which shows that they are what it expects."""
import os
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from models import F32, interleave, write_directory, write_gguf
from program import check, finish, run, work

HIDDEN, INNER, HEADS, KV, DIM, VOCAB, EXPERTS = 64, 96, 4, 2, 16, 128, 4
IDS = [int(i) for i in np.random.default_rng(3).integers(0, VOCAB, 40)]
rng = np.random.default_rng(11)
BLOCK = {'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output',
         'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm', 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up',
         'mlp.down_proj': 'ffn_down', 'self_attn.qkv_proj': 'attn_qkv', 'mlp.gate_up_proj': 'ffn_up', 'mlp.gate': 'ffn_gate_inp',
         'block_sparse_moe.gate': 'ffn_gate_inp'}
BEFORE = {'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'ffn_norm'}
AFTER = {'post_attention_layernorm': 'post_attention_norm', 'post_feedforward_layernorm': 'post_ffw_norm'}
AROUND = {'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'post_attention_norm', 'pre_feedforward_layernorm': 'ffn_norm',
          'post_feedforward_layernorm': 'post_ffw_norm'}


class Family:
    def __init__(self, gguf, hf, model_type, layers=2, norms=BEFORE, interleaved=False, plus_one=False, bias=False, qk_norm=None, fused=False,
                 experts=None, tied=False, kv=KV, config=None, keys=None, tensors=None):
        self.__dict__.update(locals())


GELU = {'hidden_act': 'gelu_pytorch_tanh', 'hidden_activation': 'gelu_pytorch_tanh'}
LLAMA3 = np.array([1, 1, 1.5, 2, 4, 8, 8, 8], np.float32)
SHORT, LONG = np.array([1, 1.1, 1.2, 1.4, 1.7, 2], np.float32), np.array([1, 1.5, 2.5, 4, 6, 9], np.float32)
MIXTRAL = ('block_sparse_moe.experts', 'w1', 'w3', 'w2')
QWEN = ('mlp.experts', 'gate_proj', 'up_proj', 'down_proj')
FAMILIES = [
    Family('llama', 'LlamaForCausalLM', 'llama', interleaved=True),
    Family('llama', 'LlamaForCausalLM', 'llama', interleaved=True, bias=True, tied=True,
           config={'attention_bias': True, 'o_bias': False,
                   'rope_parameters': {'rope_type': 'longrope', 'rope_theta': 10000.0, 'short_factor': LLAMA3.tolist(), 'long_factor': LLAMA3.tolist(),
                                       'attention_factor': 1.0, 'original_max_position_embeddings': 128}},
           tensors={'rope_freqs.weight': LLAMA3}),
    Family('llama', 'MixtralForCausalLM', 'mixtral', interleaved=True, experts=MIXTRAL, config={'num_local_experts': EXPERTS, 'num_experts_per_tok': 2},
           keys={'expert_count': EXPERTS, 'expert_used_count': 2}),
    Family('qwen2', 'Qwen2ForCausalLM', 'qwen2', bias=True, tied=True),
    Family('qwen3', 'Qwen3ForCausalLM', 'qwen3', qk_norm='head'),
    Family('qwen3moe', 'Qwen3MoeForCausalLM', 'qwen3_moe', qk_norm='head', experts=QWEN,
           config={'num_experts': EXPERTS, 'num_experts_per_tok': 2, 'moe_intermediate_size': 32, 'norm_topk_prob': True},
           keys={'expert_count': EXPERTS, 'expert_used_count': 2, 'expert_feed_forward_length': 32}),
    Family('phi3', 'Phi3ForCausalLM', 'phi3', fused=True,
           config={'sliding_window': 64, 'original_max_position_embeddings': 24, 'max_position_embeddings': 128,
                   'rope_parameters': {'rope_type': 'longrope', 'rope_theta': 10000.0, 'partial_rotary_factor': 0.75, 'short_factor': SHORT.tolist(),
                                       'long_factor': LONG.tolist(), 'attention_factor': 1.25, 'original_max_position_embeddings': 24}},
           keys={'rope.dimension_count': 12, 'attention.sliding_window': 64, 'rope.scaling.original_context_length': 24, 'rope.scaling.attn_factor': 1.25},
           tensors={'rope_factors_short.weight': SHORT, 'rope_factors_long.weight': LONG}),
    Family('gemma', 'GemmaForCausalLM', 'gemma', plus_one=True, tied=True, config=GELU),
    Family('gemma2', 'Gemma2ForCausalLM', 'gemma2', plus_one=True, tied=True, norms=AROUND,
           config={**GELU, 'attn_logit_softcapping': 3.0, 'final_logit_softcapping': 2.0, 'query_pre_attn_scalar': DIM, 'sliding_window': 8},
           keys={'attn_logit_softcapping': 3.0, 'final_logit_softcapping': 2.0, 'attention.sliding_window': 8}),
    Family('gemma3', 'Gemma3ForCausalLM', 'gemma3_text', layers=7, plus_one=True, tied=True, norms=AROUND, qk_norm='head',
           config={**GELU, 'query_pre_attn_scalar': DIM, 'sliding_window': 8,
                   'rope_parameters': {'full_attention': {'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 100000.0},
                                       'sliding_attention': {'rope_type': 'default', 'rope_theta': 10000.0}}},
           keys={'attention.sliding_window': 8, 'rope.freq_base': 100000.0, 'rope.scaling.type': 'linear', 'rope.scaling.factor': 4.0}),
    Family('granite', 'GraniteForCausalLM', 'granite', interleaved=True, tied=True,
           config={'embedding_multiplier': 3.0, 'residual_multiplier': 0.5, 'attention_multiplier': 0.125, 'logits_scaling': 4.0},
           keys={'embedding_scale': 3.0, 'residual_scale': 0.5, 'attention.scale': 0.125, 'logit_scale': 4.0}),
    Family('olmo2', 'Olmo2ForCausalLM', 'olmo2', norms=AFTER, qk_norm='whole'),
    Family('olmoe', 'OlmoeForCausalLM', 'olmoe', qk_norm='whole', experts=QWEN, kv=HEADS,
           config={'num_experts': EXPERTS, 'num_experts_per_tok': 2, 'norm_topk_prob': False}, keys={'expert_count': EXPERTS, 'expert_used_count': 2}),
    Family('smollm3', 'SmolLM3ForCausalLM', 'smollm3', layers=4, interleaved=True, tied=True),
]


def weights(f):
    """The model in HF layout: {name: array}."""
    def matrix(rows, columns):
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    def norm(n):
        return (rng.uniform(0.6, 1.4, n) - (1 if f.plus_one else 0)).astype(np.float32)

    w = {'model.embed_tokens.weight': matrix(VOCAB, HIDDEN) * 4, 'model.norm.weight': norm(HIDDEN)}
    if not f.tied:
        w['lm_head.weight'] = matrix(VOCAB, HIDDEN)
    inner = (f.config or {}).get('moe_intermediate_size', INNER)
    for i in range(f.layers):
        at = f'model.layers.{i}.'
        for name in f.norms:
            w[f'{at}{name}.weight'] = norm(HIDDEN)
        q, kv = HEADS * DIM, f.kv * DIM
        if f.fused:
            w[at + 'self_attn.qkv_proj.weight'] = matrix(q + 2 * kv, HIDDEN)
        else:
            for name, rows in (('q', q), ('k', kv), ('v', kv)):
                w[f'{at}self_attn.{name}_proj.weight'] = matrix(rows, HIDDEN)
                if f.bias:
                    w[f'{at}self_attn.{name}_proj.bias'] = matrix(1, rows)[0]
        w[at + 'self_attn.o_proj.weight'] = matrix(HIDDEN, q)
        if f.bias and f.model_type == 'llama':
            w[at + 'self_attn.o_proj.bias'] = matrix(1, HIDDEN)[0]
        if f.qk_norm:
            w[at + 'self_attn.q_norm.weight'] = norm(DIM if f.qk_norm == 'head' else q)
            w[at + 'self_attn.k_norm.weight'] = norm(DIM if f.qk_norm == 'head' else kv)
        if f.experts:
            prefix, gate, up, down = f.experts
            w[f'{at}{prefix.replace("experts", "gate")}.weight'] = matrix(EXPERTS, HIDDEN)
            for e in range(EXPERTS):
                for name, shape in ((gate, (inner, HIDDEN)), (up, (inner, HIDDEN)), (down, (HIDDEN, inner))):
                    w[f'{at}{prefix}.{e}.{name}.weight'] = matrix(*shape)
        elif f.fused:
            w[at + 'mlp.gate_up_proj.weight'], w[at + 'mlp.down_proj.weight'] = matrix(2 * INNER, HIDDEN), matrix(HIDDEN, INNER)
        else:
            for name, shape in (('gate', (INNER, HIDDEN)), ('up', (INNER, HIDDEN)), ('down', (HIDDEN, INNER))):
                w[f'{at}mlp.{name}_proj.weight'] = matrix(*shape)
    return w


def gguf_name(f, name):
    if name in ('model.embed_tokens.weight', 'model.norm.weight', 'lm_head.weight'):
        return {'model.embed_tokens.weight': 'token_embd', 'model.norm.weight': 'output_norm', 'lm_head.weight': 'output'}[name] + '.weight'
    _, _, i, rest = name.split('.', 3)
    stem, tail = rest.rsplit('.', 1)
    return f'blk.{i}.{ {**BLOCK, **f.norms}[stem] }.{tail}'


def gguf_tensors(f, w):
    out = {}
    for name, a in w.items():
        if '.experts.' in name:
            continue
        if f.interleaved and ('.q_proj.' in name or '.k_proj.' in name):
            a = interleave(a, HEADS if '.q_proj.' in name else f.kv)
        if f.plus_one and 'norm' in name:
            a = a + np.float32(1)
        out[gguf_name(f, name)] = a
    if f.experts:
        prefix, gate, up, down = f.experts
        for i in range(f.layers):
            for name, to in ((gate, 'gate'), (up, 'up'), (down, 'down')):
                out[f'blk.{i}.ffn_{to}_exps.weight'] = np.stack([w[f'model.layers.{i}.{prefix}.{e}.{name}.weight'] for e in range(EXPERTS)])
    out.update(f.tensors or {})
    return {n: (F32, a.shape, np.ascontiguousarray(a, np.float32).tobytes()) for n, a in out.items()}


def config(f):
    return {'architectures': [f.hf], 'model_type': f.model_type, 'hidden_size': HIDDEN, 'intermediate_size': INNER, 'num_hidden_layers': f.layers,
            'num_attention_heads': HEADS, 'num_key_value_heads': f.kv, 'head_dim': DIM, 'vocab_size': VOCAB, 'rms_norm_eps': 1e-5, 'hidden_act': 'silu',
            'tie_word_embeddings': f.tied, 'max_position_embeddings': 128, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0}} | (f.config or {})


def keys(f):
    own = {'context_length': 128, 'embedding_length': HIDDEN, 'block_count': f.layers, 'feed_forward_length': INNER, 'attention.head_count': HEADS,
           'attention.head_count_kv': f.kv, 'attention.key_length': DIM, 'attention.value_length': DIM, 'attention.layer_norm_rms_epsilon': 1e-5,
           'rope.freq_base': 10000.0, 'rope.dimension_count': DIM} | (f.keys or {})
    tokens = [f't{i}' for i in range(VOCAB)]
    return {'general.architecture': f.gguf, **{f'{f.gguf}.{k}': v for k, v in own.items()}, 'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2',
            'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.merges': ['t 1', 't 2']}


def logits(model, *flags):
    r = run('logits', model, '--ids', ','.join(map(str, IDS)), '--out', f'{work}/l.npy', '--compute', 'exact', *flags)
    check(f'logits {os.path.basename(model)}', r.returncode == 0, r.stderr)
    return np.load(f'{work}/l.npy') if r.returncode == 0 else None


def relative(a, b):
    return float(np.sqrt(((a - b) ** 2).mean()) / b.std()) if a is not None and b is not None else np.inf


def llama_cpp(path):
    import llama_cpp
    m = llama_cpp.Llama(path, n_ctx=64, logits_all=True, verbose=bool(os.environ.get('VERBOSE')), n_gpu_layers=0)
    m.eval(IDS)
    return np.array(m.scores[:len(IDS)])


for number, f in enumerate(FAMILIES):
    name = f'{number}-{f.gguf}'
    w = weights(f)
    write_directory(f'{work}/{name}', config(f), w)
    write_gguf(f'{work}/{name}.gguf', keys(f), gguf_tensors(f, w))
    want, got = logits(f'{work}/{name}'), logits(f'{work}/{name}.gguf')
    check(f'{name}: logits', relative(got, want) < 1e-5, relative(got, want))
    check(f'{name}: the model says something', want is not None and want.std() > 0.1, want is not None and want.std())
    r = run('import', f'{work}/{name}.gguf', '-o', f'{work}/{name}-hf', '--dtype', 'f32')
    check(f'{name}: import', r.returncode == 0, r.stderr)
    check(f'{name}: imported logits', relative(logits(f'{work}/{name}-hf'), want) < 1e-5)
    if os.environ.get('PLUQ_LLAMA_CPP'):
        other = llama_cpp(f'{work}/{name}.gguf')
        print(name, 'llama.cpp', relative(other, want), flush=True)
        check(f'{name}: llama.cpp', relative(other, want) < 2e-2, relative(other, want))

finish()
