#!/usr/bin/env python3
"""Random blocks of each GGUF type and their values by the PyPI package `gguf` (pip install gguf numpy): blocks.bin holds
1024 elements of each type in the order below, values.bin their f32 values."""
import os
import numpy as np
import gguf
from gguf.quants import dequantize

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(1)
blocks, values = b'', b''
for name, halves in [('Q4_0', [0]), ('Q4_1', [0, 2]), ('Q5_0', [0]), ('Q5_1', [0, 2]), ('Q8_0', [0]), ('Q2_K', [80, 82]),
                     ('Q3_K', [108]), ('Q4_K', [0, 2]), ('Q5_K', [0, 2]), ('Q6_K', [208])]:
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (1024 // elements, size), dtype=np.uint8)
    for at in halves:  # finite scales
        data[:, at:at + 2] = (rng.standard_normal((len(data), 1)) * 0.1).astype(np.float16).view(np.uint8)
    blocks += data.tobytes()
    values += dequantize(data, kind).astype(np.float32).tobytes()
half = (rng.standard_normal(1024) * np.exp(rng.uniform(-18, 8, 1024))).astype(np.float16)
blocks += half.tobytes()
values += half.astype(np.float32).tobytes()
wide = (rng.standard_normal(1024) * 3).astype(np.float32).view(np.uint32) & 0xffff0000
blocks += (wide >> 16).astype(np.uint16).tobytes()
values += wide.view(np.float32).tobytes()
open(os.path.join(here, 'blocks.bin'), 'wb').write(blocks)
open(os.path.join(here, 'values.bin'), 'wb').write(values)
