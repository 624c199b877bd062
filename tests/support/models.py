# SPDX-License-Identifier: Apache-2.0
"""Writers of small checkpoints for tests: GGUF files and model directories."""
import json
import os
import struct

F32 = 0  # ggml's number of the type


def _text(s):
    data = s.encode()
    return struct.pack('<Q', len(data)) + data


def _value(v):
    if isinstance(v, str):
        return struct.pack('<I', 8) + _text(v)
    if isinstance(v, bool):
        return struct.pack('<I?', 7, v)
    if isinstance(v, float):
        return struct.pack('<If', 6, v)
    if isinstance(v, list):  # of one type
        raw = [_value(e) for e in v]
        return struct.pack('<I', 9) + raw[0][:4] + struct.pack('<Q', len(v)) + b''.join(r[4:] for r in raw)
    return struct.pack('<II', 4, v)


def write_gguf(path, keys, tensors):
    """keys: {name: value}, those of None left out; tensors: {name: (ggml type, row-major shape, bytes)}."""
    keys = {k: v for k, v in keys.items() if v is not None}
    head, data = b'GGUF' + struct.pack('<IQQ', 3, len(tensors), len(keys)), b''
    for k, v in keys.items():
        head += _text(k) + _value(v)
    for name, (type_id, shape, raw) in tensors.items():
        head += _text(name) + struct.pack('<I', len(shape)) + struct.pack(f'<{len(shape)}Q', *reversed(shape)) + struct.pack('<IQ', type_id, len(data))
        data += raw + bytes(-len(raw) % 32)
    open(path, 'wb').write(head + bytes(-len(head) % 32) + data)


def write_directory(path, config, tensors):
    """A directory in HF layout; tensors: {name: array}, written as float32."""
    import numpy as np  # here, so that writing GGUF files needs none
    os.makedirs(path, exist_ok=True)
    header, at = {}, 0
    for name, a in tensors.items():
        header[name] = {'dtype': 'F32', 'shape': list(a.shape), 'data_offsets': [at, at + 4 * a.size]}
        at += 4 * a.size
    head = json.dumps(header).encode()
    with open(f'{path}/model.safetensors', 'wb') as f:
        f.write(struct.pack('<Q', len(head)) + head + b''.join(np.ascontiguousarray(a, np.float32).tobytes() for a in tensors.values()))
    json.dump(config, open(f'{path}/config.json', 'w'))


def interleave(a, heads):
    """Rows of each head as llama.cpp stores them: the first and the second half by turns."""
    half = a.shape[0] // heads // 2
    return a.reshape(heads, 2, half, *a.shape[1:]).swapaxes(1, 2).reshape(a.shape)
