#!/usr/bin/env python3
"""Makes the small random models of this folder, one per family and variant, with the logits that transformers' float32 eager
forward gives for 40 ids: config.json, model.safetensors (bf16), expected.npy [40, vocab] float32. The ids are in ids.txt.
Needs torch and transformers; nothing else in pluq does: make.py [NAME...]"""
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers as t

here = os.path.dirname(os.path.abspath(__file__))
VOCAB, LENGTH = 128, 40
ids = np.random.default_rng(3).integers(2, VOCAB, LENGTH)
common = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              head_dim=16, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=0, attention_dropout=0.0)
full, sliding = 'full_attention', 'sliding_attention'


def rope(kind, **more):
    return {'rope_type': kind, 'rope_theta': 10000.0, **more}


models = {
    'llama-biases': (t.LlamaConfig, dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
    'llama-linear': (t.LlamaConfig, dict(rope_parameters=rope('linear', factor=4.0))),
    'llama-dynamic': (t.LlamaConfig, dict(rope_parameters=rope('dynamic', factor=2.0), max_position_embeddings=32)),
    'llama-yarn': (t.LlamaConfig, dict(rope_parameters=rope('yarn', factor=4.0, original_max_position_embeddings=16))),
    'llama-gelu': (t.LlamaConfig, dict(hidden_act='gelu', tie_word_embeddings=True)),
    'mistral': (t.MistralConfig, dict(sliding_window=8)),
    'qwen2': (t.Qwen2Config, dict(use_sliding_window=True, sliding_window=8, max_window_layers=1, tie_word_embeddings=True)),
    'qwen3': (t.Qwen3Config, dict(tie_word_embeddings=False)),
    'phi3': (t.Phi3Config, dict(num_attention_heads=2, num_key_value_heads=1, sliding_window=16, partial_rotary_factor=0.75, original_max_position_embeddings=64,
                                rope_parameters=rope('longrope', short_factor=[1.0, 1.1, 1.2, 1.3, 1.5, 2.0],
                                                     long_factor=[1.0, 2.0, 3.0, 4.0, 6.0, 8.0]))),
    'phi3-long': (t.Phi3Config, dict(num_attention_heads=2, num_key_value_heads=1, sliding_window=None, original_max_position_embeddings=16,
                                     rope_parameters=rope('longrope', short_factor=[1.0] * 8, long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0]))),
    'smollm3': (t.SmolLM3Config, dict(num_hidden_layers=4, no_rope_layers=[1, 1, 0, 1], use_sliding_window=False)),
    'granite': (t.GraniteConfig, dict(embedding_multiplier=6.0, attention_multiplier=0.1, residual_multiplier=0.3, logits_scaling=4.0)),
    'olmo2': (t.Olmo2Config, dict()),
    'gemma': (t.GemmaConfig, dict()),
    'gemma2': (t.Gemma2Config, dict(num_hidden_layers=4, sliding_window=8, query_pre_attn_scalar=24, attn_logit_softcapping=3.0,
                                    final_logit_softcapping=4.0)),
    'gemma3': (t.Gemma3TextConfig, dict(num_hidden_layers=4, sliding_window=8, query_pre_attn_scalar=24, layer_types=[sliding, sliding, full, sliding],
                                        rope_parameters={full: rope('linear', factor=8.0, rope_theta=1e6), sliding: rope('default')})),
    'mixtral': (t.MixtralConfig, dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    'qwen3-moe': (t.Qwen3MoeConfig, dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True, mlp_only_layers=[1],
                                         decoder_sparse_step=1)),
    'olmoe': (t.OlmoeConfig, dict(num_attention_heads=2, num_key_value_heads=1, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False)),
}


def make(name, config_class, settings):
    arguments = {**common, **settings}
    config = config_class(**arguments)
    torch.manual_seed(sum(map(ord, name)))
    model = t.AutoModelForCausalLM.from_config(config, attn_implementation='eager', dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim == 1 and key.endswith('bias'):
                p.normal_(0, 0.3)
            elif p.ndim == 1:
                p.normal_(0 if name.startswith('gemma') else 1, 0.2)
            else:
                p.normal_(0, 1.5 * p.shape[-1] ** -0.5)
            p.copy_(p.to(torch.bfloat16).float())
        logits = model(torch.tensor(ids)[None]).logits[0].numpy()
    out = f'{here}/{name}'
    shutil.rmtree(out, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(out)
    np.save(f'{out}/expected.npy', logits.astype(np.float32))
    if os.path.exists(f'{out}/generation_config.json'):
        os.remove(f'{out}/generation_config.json')
    print(name, logits.std(), sorted(os.listdir(out)))


chosen = sys.argv[1:] or models
for name in chosen:
    make(name, *models[name])
open(f'{here}/ids.txt', 'w').write(','.join(map(str, ids)) + '\n')
