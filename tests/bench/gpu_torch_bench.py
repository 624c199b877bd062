#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own products on the shapes of gpu_linear_bench, for comparison: F.linear in bf16, int4 (tinygemm), fp8 and int8.
Prints one JSON document. Weights rotate through more than 200 MB; a CUDA graph holds the calls; medians of 7."""
import json
import statistics
import sys

import torch

shapes = {'qkv': (6144, 4096), 'o': (4096, 4096), 'gate_up': (28672, 4096), 'down': (4096, 14336)}
rows = (1, 16, 64, 128, 512, 2048)


def time_of(call, copies):
    for i in range(min(copies, 3)):
        call(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(copies):
            call(i)
    times = []
    for _ in range(7):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / copies)
    return statistics.median(times)


def bf16(n, k, m, copies):
    w = torch.randn(copies, n, k, device='cuda', dtype=torch.bfloat16)
    x = torch.randn(m, k, device='cuda', dtype=torch.bfloat16)
    return lambda i: torch.nn.functional.linear(x, w[i])


def int4(n, k, m, copies):
    x = torch.randn(m, k, device='cuda', dtype=torch.bfloat16)
    packed = [torch._convert_weight_to_int4pack(torch.randint(0, 255, (n, k // 2), device='cuda', dtype=torch.uint8), 8) for _ in range(copies)]
    scales = torch.rand(k // 128, n, 2, device='cuda', dtype=torch.bfloat16)
    return lambda i: torch._weight_int4pack_mm(x, packed[i], 128, scales)


def fp8(n, k, m, copies):
    w = torch.randn(copies, n, k, device='cuda').to(torch.float8_e4m3fn)
    x = torch.randn(m, k, device='cuda', dtype=torch.bfloat16)
    ws = torch.rand(1, n, device='cuda')

    def call(i):
        s = x.abs().amax(dim=1, keepdim=True).float() / 448
        return torch._scaled_mm((x / s).to(torch.float8_e4m3fn), w[i].t(), scale_a=s, scale_b=ws, out_dtype=torch.bfloat16)
    return call


def int8(n, k, m, copies):
    w = torch.randint(-127, 127, (copies, n, k), device='cuda', dtype=torch.int8)
    x = torch.randn(max(m, 32), k, device='cuda', dtype=torch.bfloat16)  # it wants more than 16 rows
    ws = torch.rand(1, n, device='cuda')

    def call(i):
        s = x.abs().amax(dim=1, keepdim=True).float() / 127
        return (torch._int_mm((x / s).round().to(torch.int8), w[i].t()) * s * ws).to(torch.bfloat16)
    return call


results = []
kinds = {'F.linear bf16': (bf16, 2), '_weight_int4pack_mm': (int4, 0.5), '_scaled_mm, rounding included': (fp8, 1), '_int_mm, rounding included': (int8, 1)}
for layer, (n, k) in shapes.items():
    for m in rows:
        base = None
        for kind, (prepare, width) in kinds.items():
            copies = max(1, min(24, int((200 << 20) / (n * k * width)) + 1))
            try:
                us = time_of(prepare(n, k, m, copies), copies)
            except Exception as error:  # an operator that this PyTorch or GPU lacks
                print(f'{kind} {layer} {m}: {error}', file=sys.stderr)
                continue
            finally:
                torch.cuda.empty_cache()
            base = base or us
            results.append({'layer': layer, 'n': n, 'k': k, 'm': m, 'kind': kind, 'us': us, 'over_bf16': base / us})
print(json.dumps({'version': torch.__version__, 'results': results}))
