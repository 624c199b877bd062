#!/usr/bin/env python3
"""Tokens per second of SmolLM2-135M by llama.cpp (PyPI package llama-cpp-python, not a dependency of pluq) and by pluq, in turn
in one run: per round each prefills 512 tokens and decodes 64. Medians of the rounds.
    pip install llama-cpp-python
    compare_llama_cpp.py FILE.gguf PLUQ MODEL_DIR... [--rounds R] [--threads T]"""
import argparse
import json
import os
import statistics
import subprocess
import time

from llama_cpp import Llama

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('gguf')
parser.add_argument('pluq')
parser.add_argument('models', nargs='+')
parser.add_argument('--rounds', type=int, default=5)
parser.add_argument('--threads', type=int, default=2)
args = parser.parse_args()
llama = Llama(args.gguf, n_ctx=1024, n_threads=args.threads, n_threads_batch=args.threads, verbose=False)


def by_llama_cpp():
    llama.reset()
    start = time.time()
    llama.eval(list(range(100, 612)))
    prefill = 512 / (time.time() - start)
    start = time.time()
    for i in range(64):
        llama.eval([200 + i])
    return prefill, 64 / (time.time() - start)


def by_pluq(model):
    r = json.loads(subprocess.run([args.pluq, 'bench', model, '--prefill', '512', '--decode', '64', '--repeat', '1', '--threads',
                                   str(args.threads), '--json', '--quiet'], capture_output=True, text=True, check=True).stdout)
    return r['prefill']['tokens_per_second'], r['decode']['tokens_per_second']


rows = {}
for _ in range(args.rounds):
    rows.setdefault('llama.cpp ' + os.path.basename(args.gguf), []).append(by_llama_cpp())
    for model in args.models:
        rows.setdefault('pluq ' + os.path.basename(model.rstrip('/')), []).append(by_pluq(model))
for name, values in rows.items():
    prefill, decode = (statistics.median(v[i] for v in values) for i in (0, 1))
    print(f'{name:40s} prefill {prefill:8.1f}  decode {decode:7.1f}  tokens/s')
