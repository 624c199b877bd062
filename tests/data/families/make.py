#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the folder's models: one small random model per family and variant, as transformers saves it, with logits by
transformers' own float32 forward (eager attention) for the ids of ids.txt. A model.safetensors that is a link has the weights
of another folder. Needs torch and transformers >= 5 (numbers here were made with 5.23): make.py [NAME...]

expected.npy: float32 logits [24, 128] of the last 24 ids. short.npy, where a family treats short sequences in another way: of
the first 20 ids, [20, 128].

Two things are made sure of here, so that the tests mean something: every setting listed with a model moves its logits by more
than 1 % when it is changed, and no token's choice of experts hangs on a near tie."""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, TOKENS, KEPT = 128, 48, 24
IDS = np.random.default_rng(3).integers(0, VOCAB - 8, TOKENS)  # beyond: the image tokens of gemma3-vision
SIZES = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
             eos_token_id=None, pad_token_id=None)
S, F = 'sliding_attention', 'full_attention'


def rope(theta=10000.0, **more):
    return dict(rope_parameters=dict(rope_type='default', rope_theta=theta) | more)


LLAMA = dict(intermediate_size=96, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)
GEMMA3 = dict(num_hidden_layers=3, layer_types=[S, S, F], sliding_window=8, query_pre_attn_scalar=24,
              rope_parameters={F: dict(rope_type='linear', factor=4.0, rope_theta=100000.0), S: dict(rope_type='default', rope_theta=1000.0)})
LONGROPE = dict(rope_type='longrope', rope_theta=10000.0, partial_rotary_factor=0.75, original_max_position_embeddings=24,
                short_factor=[1.0, 1.1, 1.3, 1.6, 2.0, 2.5], long_factor=[1.0, 1.5, 2.5, 4.0, 6.0, 9.0])

# name: (config class, settings, dtype on disk or None: the weights before the dash, settings that must matter)
MODELS = {
    'llama': ('Llama', LLAMA | rope(500.0), 'bfloat16', [rope(1000.0), dict(rms_norm_eps=1.0)]),
    'llama-gelu': ('Llama', LLAMA | dict(hidden_act='gelu') | rope(500.0), None, [dict(hidden_act='silu')]),
    'llama-linear': ('Llama', LLAMA | rope(500.0, rope_type='linear', factor=3.0), None, [rope(500.0)]),
    'llama-dynamic': ('Llama', LLAMA | dict(max_position_embeddings=32) | rope(500.0, rope_type='dynamic', factor=4.0), None,
                      [rope(500.0)]),
    'llama-llama3': ('Llama', LLAMA | rope(500.0, rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                           original_max_position_embeddings=64), None, [rope(500.0)]),
    'llama-yarn': ('Llama', LLAMA | rope(500.0, rope_type='yarn', factor=4.0, original_max_position_embeddings=64), None,
                   [rope(500.0), rope(500.0, rope_type='yarn', factor=4.0, original_max_position_embeddings=64, attention_factor=1.0)]),
    'llama-yarn-mscale': ('Llama', LLAMA | rope(500.0, rope_type='yarn', factor=8.0, original_max_position_embeddings=32, beta_fast=4.0,
                                                beta_slow=0.5, mscale=1.0, mscale_all_dim=0.4, truncate=False), None,
                          [rope(500.0, rope_type='yarn', factor=8.0, original_max_position_embeddings=32, truncate=False)]),
    'mistral': ('Mistral', dict(sliding_window=8) | rope(), 'bfloat16', [dict(sliding_window=None), dict(sliding_window=9)]),
    'qwen2': ('Qwen2', rope(1000000.0), 'bfloat16', [rope(100.0)]),
    'qwen2-window': ('Qwen2', dict(use_sliding_window=True, sliding_window=8, max_window_layers=1) | rope(1000000.0), None,
                     [dict(use_sliding_window=False, layer_types=None), dict(max_window_layers=0, layer_types=None)]),
    'qwen3': ('Qwen3', dict(head_dim=32, intermediate_size=96) | rope(), 'bfloat16', [rope(100.0)]),
    'phi3': ('Phi3', dict(intermediate_size=96, sliding_window=8, tie_word_embeddings=False, rope_parameters=LONGROPE, original_max_position_embeddings=24),
             'bfloat16', [dict(sliding_window=None), dict(rope_parameters=LONGROPE | dict(long_factor=LONGROPE['short_factor'])),
                          dict(rope_parameters=LONGROPE | dict(attention_factor=1.0))]),
    'smollm3': ('SmolLM3', dict(no_rope_layers=[1, 0]) | rope(), 'bfloat16', [dict(no_rope_layers=[1, 1])]),
    'granite': ('Granite', dict(num_key_value_heads=4, embedding_multiplier=3.0, logits_scaling=4.0, residual_multiplier=0.3,
                                attention_multiplier=0.1) | rope(), 'float16',
                [dict(embedding_multiplier=1.0), dict(logits_scaling=1.0), dict(residual_multiplier=1.0), dict(attention_multiplier=0.25)]),
    'olmo2': ('Olmo2', rope(), 'float32', [rope(100.0)]),
    'gemma': ('Gemma', dict(num_key_value_heads=1, head_dim=24) | rope(), 'bfloat16', [rope(100.0)]),
    'gemma2': ('Gemma2', dict(sliding_window=8, attn_logit_softcapping=3.0, final_logit_softcapping=2.0, query_pre_attn_scalar=24)
               | rope(), 'bfloat16', [dict(attn_logit_softcapping=None), dict(final_logit_softcapping=None), dict(query_pre_attn_scalar=16),
                                      dict(layer_types=[F, F]), dict(layer_types=[F, S])]),
    'gemma3': ('Gemma3Text', GEMMA3, 'bfloat16',
               [dict(rope_parameters=GEMMA3['rope_parameters'] | {F: GEMMA3['rope_parameters'][S]}), dict(query_pre_attn_scalar=16),
                dict(rope_parameters=GEMMA3['rope_parameters'] | {S: GEMMA3['rope_parameters'][F]}), dict(layer_types=[S, F, F])]),
    'gemma3-vision': ('Gemma3', GEMMA3 | dict(num_hidden_layers=2, layer_types=[S, F]), 'bfloat16', []),
    'mixtral': ('Mixtral', dict(intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=8) | rope(), 'bfloat16',
                [dict(num_experts_per_tok=1), dict(sliding_window=None)]),
    'qwen3_moe': ('Qwen3Moe', dict(moe_intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, norm_topk_prob=True,
                                   mlp_only_layers=[0]) | rope(), 'bfloat16', [dict(norm_topk_prob=False), dict(num_experts_per_tok=3)]),
    'qwen3_moe-sparse': ('Qwen3Moe', dict(moe_intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, decoder_sparse_step=2,
                                          use_sliding_window=True, sliding_window=8) | rope(), 'bfloat16',
                         [dict(norm_topk_prob=True), dict(use_sliding_window=False)]),
    'olmoe': ('Olmoe', dict(intermediate_size=32, num_experts=5, num_experts_per_tok=3) | rope(), 'bfloat16',
              [dict(norm_topk_prob=True), dict(num_experts_per_tok=2)]),
    'olmoe-clip': ('Olmoe', dict(intermediate_size=32, num_experts=5, num_experts_per_tok=3, clip_qkv=0.9) | rope(), 'bfloat16',
                   [dict(clip_qkv=None)]),
}


def config_of(family, settings):
    cls = getattr(transformers, family + 'Config')
    if family != 'Gemma3':
        return cls(**(SIZES | settings))
    vision = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4)
    return cls(text_config=transformers.Gemma3TextConfig(**(SIZES | settings)), vision_config=vision, mm_tokens_per_image=4,
               tie_word_embeddings=True, image_token_index=127, boi_token_index=126, eoi_token_index=125)


def model_of(family, settings):
    torch.manual_seed(0)
    name = {'Gemma3Text': 'Gemma3ForCausalLM', 'Gemma3': 'Gemma3ForConditionalGeneration'}.get(family, family + 'ForCausalLM')
    config = config_of(family, settings)
    config._attn_implementation = 'eager'
    return getattr(transformers, name)(config).float().eval()


def fill(model, family, dtype, rng):
    """Weights at which every part matters: outputs of linears near 1, uneven norms, attention that prefers some tokens."""
    def drawn(shape, std, mean=0.0):
        return torch.from_numpy((mean + std * rng.standard_normal(tuple(shape))).astype(np.float32))
    plus_one = family.startswith('Gemma')
    for name, p in model.named_parameters():
        last = name.split('.')[-2] if name.endswith(('weight', 'bias')) else name.split('.')[-1]
        if name.endswith('bias'):
            new = drawn(p.shape, 0.3)
        elif 'norm' in last:
            new = drawn(p.shape, 0.25, 0.0 if plus_one else 1.0)
        elif 'embed_tokens' in name or 'lm_head' in name:
            new = drawn(p.shape, 0.125)
        else:
            new = drawn(p.shape, p.shape[-1] ** -0.5)
            if last in ('q_proj', 'k_proj') or last == 'gate':  # sharper attention, and experts of uneven weight
                new *= 1.6
            if last == 'qkv_proj':
                new[:96] *= 1.6
        p.data.copy_(new.to(dtype).float())


def forward(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(map(int, ids))]), use_cache=False).logits[0].float().numpy()


def routing_margin(model, ids):
    """The smallest gap between the last expert chosen and the first one left out, relative to the spread of router logits."""
    margins = []

    def hook(module, inputs, output):
        logits = torch.sort(output[0] if isinstance(output, tuple) else output, dim=-1, descending=True).values
        k = module.top_k
        margins.append(((logits[:, k - 1] - logits[:, k]).min() / logits.std()).item())
    handles = [m.register_forward_hook(hook) for m in model.modules() if type(m).__name__.endswith('TopKRouter')]
    forward(model, ids)
    for h in handles:
        h.remove()
    return min(margins) if margins else None


def relative(a, b):
    return float(np.sqrt(((a - b) ** 2).mean()) / b.std())


def make(name):
    family, settings, disk, matters = MODELS[name]
    out = f'{HERE}/{name}'
    base = name.split('-')[0]
    dtype = getattr(torch, disk or MODELS[base][2])
    model = model_of(family, settings)
    for seed in range(400):
        rng = np.random.default_rng([seed, *(disk and name or base).encode()])
        fill(model, family, dtype, rng)
        margin = routing_margin(model, IDS)
        if margin is None or margin > 0.03:
            break
    else:
        raise SystemExit(f'{name}: no seed without near ties of experts')
    logits = forward(model, IDS)
    short = forward(model, IDS[:20])
    state = model.state_dict()
    for change in matters:
        other = model_of(family, settings | change)
        other.load_state_dict(state)
        moved = relative(forward(other, IDS), logits)
        assert moved > 0.01, f'{name}: {change} moves the logits by {moved} only'
    with tempfile.TemporaryDirectory() as work:
        model.to(dtype).save_pretrained(work)
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        shutil.copy(f'{work}/config.json', out)
        if disk:
            shutil.copyfile(f'{work}/model.safetensors', f'{out}/model.safetensors')
        else:
            os.symlink(f'../{base}/model.safetensors', f'{out}/model.safetensors')
    np.save(f'{out}/expected.npy', logits[-KEPT:])
    if name == 'phi3':
        np.save(f'{out}/short.npy', short)
    print(f'{name}: std {logits.std():.3f}, margin {margin}, seed {seed}', flush=True)


def make_tokenizer():
    """One token per byte below 128: token i is byte i, in the alphabet of byte-level BPE."""
    direct = list(range(33, 127))
    symbols = {b: chr(b) for b in direct} | {b: chr(256 + n) for n, b in enumerate(b for b in range(128) if b not in direct)}
    step = dict(type='ByteLevel', add_prefix_space=False, trim_offsets=True, use_regex=True)
    json.dump(dict(version='1.0', truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=step, post_processor=None,
                   decoder=step, model=dict(type='BPE', dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                                            fuse_unk=False, byte_fallback=False, ignore_merges=False,
                                            vocab={symbols[b]: b for b in range(128)}, merges=[])),
              open(f'{HERE}/tokenizer.json', 'w'), ensure_ascii=False)


if __name__ == '__main__':
    make_tokenizer()
    open(f'{HERE}/ids.txt', 'w').write(','.join(map(str, IDS)) + '\n')
    for name in sys.argv[1:] or MODELS:
        make(name)
