#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels reach the hardware only through the primitives of sdk/include/pluq/cuda/, and each primitive is used by
all_primitives.cu (nvcc compiles it) and by a test of its host twin.
    check_primitives.py SOURCE_DIR"""
import os
import re
import sys

top = sys.argv[1]
cuda = 'sdk/include/pluq/cuda'
PRIMITIVES = ['platform.hpp', 'memory.hpp', 'async.hpp', 'barrier.hpp', 'warp.hpp', 'mma.hpp', 'convert.hpp', 'hopper.hpp']
BELOW = PRIMITIVES + ['wgmma_ptx.hpp', 'launch.hpp']  # what may speak CUDA C++ and PTX
RAW = re.compile(r'\b(threadIdx|blockIdx|blockDim|gridDim|warpSize|asm|__asm__|__shared__|__constant__|__device__|__global__|'
                 r'__launch_bounds__|__ldg|__ldcg|__ldcs|__CUDA_ARCH__|nvcuda|cooperative_groups|half2|uint[234]|float2|make_float4|'
                 r'__shfl\w*|__sync\w*|__ballot\w*|__any\w*|__all\w*|__threadfence\w*|__half\w*|__nv_\w+|__float2\w+|__\w+2float\w*|'
                 r'atomic(?:Add|Max|Min|CAS|Exch|Or|And)|cuda_fp(?:8|16)\.h\w*|cuda_bf16\w*)\b|<<<')
SOURCES = ('.h', '.hpp', '.cuh', '.cu', '.cc', '.c', '.inl')


def text_of(path):
    """Without comments, with as many lines."""
    text = open(os.path.join(top, path), encoding='utf-8').read()
    text = re.sub(r'/\*.*?\*/', lambda m: '\n' * m.group(0).count('\n'), text, flags=re.S)
    return re.sub(r'//[^\n]*', '', text)


def files(*areas):
    for area in areas:
        for folder, _, names in os.walk(os.path.join(top, area)):
            for name in sorted(names):
                if name.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(folder, name), top)


bad, seen = [], 0
allowed = {f'{cuda}/{name}' for name in BELOW}
for path in files(cuda, 'core/device/cuda', 'plugins', 'sdk/examples', 'sdk/template'):
    if path in allowed:
        continue
    seen += 1
    for number, line in enumerate(text_of(path).split('\n'), 1):
        if '"pluq/' not in line and (found := RAW.search(line)):
            bad.append(f'{path}:{number}: {found.group(0)}: only the primitives of {cuda} may use it')

# What nvcc's side of a primitive header declares.
primitives = set()
for name in PRIMITIVES:
    text = text_of(f'{cuda}/{name}')
    primitives |= set(re.findall(r'PLUQ_(?:HOST_)?DEVICE\s+(?!explicit)[\w:<>]+\s*[*&]?\s+[*&]?(\w+)\(', text))
    for kind in re.findall(r'PLUQ_WGMMA_CALL\((\w+), k', text):
        primitives |= {f'wgmma_{kind}', f'wgmma_{kind}_rs'}
INNER = {'linear_thread', 'max_of', 'get', 'address', 'bool', 'matrix_desc_bits', 'wgmma_'}  # what primitives are made of
primitives = {p for p in primitives - INNER if not p.startswith('wgmma_##')}


def words(*paths):
    return {w for path in paths for w in re.findall(r'\w+', text_of(path))}


by_nvcc = words('tests/cuda/all_primitives.cu')
by_host = words(*files('tests/unit/cuda'))
bad += [f'tests/cuda/all_primitives.cu does not use {p}' for p in sorted(primitives - by_nvcc)]
bad += [f'no test in tests/unit/cuda uses {p}' for p in sorted(primitives - by_host)]
print('\n'.join(bad) or f'{seen} files use no CUDA but the primitives; all {len(primitives)} primitives are compiled and tested')
sys.exit(bool(bad) or seen < 40 or len(primitives) < 80)
