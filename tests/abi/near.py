#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether two files of logits (float32 .npy) are near: the rms of the difference is at most BOUND of the first one's own rms.
    near.py WANT.npy GOT.npy BOUND"""
import array
import math
import sys


def read(path):
    data = open(path, 'rb').read()
    assert data[:6] == b'\x93NUMPY' and data[6] == 1, f'{path} is not a .npy file of version 1'
    start = 10 + int.from_bytes(data[8:10], 'little')
    assert b"'<f4'" in data[:start], f'{path} is not float32'
    return array.array('f', data[start:])


want, got = read(sys.argv[1]), read(sys.argv[2])
assert len(want) == len(got) > 0, f'{len(want)} values against {len(got)}'
error = math.sqrt(sum((a - b) ** 2 for a, b in zip(want, got)) / sum(a * a for a in want))
print(f'{error:.2e}')
sys.exit(0 if error <= float(sys.argv[3]) else f'the logits differ by {error:.2e} of their rms, allowed are {sys.argv[3]}')
