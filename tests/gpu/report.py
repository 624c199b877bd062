#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the results of run.sh together.   report.py WORK GPU COMMIT OUT: writes OUT.json and OUT.md."""
import json
import os
import sys

work, gpu, commit, out = sys.argv[1:]


def load(name):
    try:
        with open(os.path.join(work, name)) as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


steps = [dict(zip(('step', 'result', 'seconds', 'note'), line.rstrip('\n').split('\t'))) for line in open(os.path.join(work, 'steps'))]
bench, attention, torch = load('bench.json'), load('attention.json'), load('torch.json')
with open(out + '.json', 'w') as f:
    json.dump({'gpu': gpu, 'commit': commit, 'steps': steps, 'pluq': bench, 'attention': attention, 'pytorch': torch}, f, indent=1)

lines = [f'# {gpu.split(",")[0]}', '', f'`tests/gpu/run.sh` at {commit} on {gpu} (name, driver, highest clock, memory).', '',
         '| step | result | seconds | note |', '|---|---|---|---|']
lines += [f'| {s["step"]} | {s["result"]} | {s["seconds"]} | {s["note"].replace("|", "/")} |' for s in steps]


def table(title, results, base):
    kinds = list(dict.fromkeys(r['kind'] for r in results))
    lines.extend(['', f'## {title}', '', 'Microseconds, and the ratio to ' + base + ' (above 1: faster).', '',
                  '| layer | M | ' + ' | '.join(kinds) + ' |', '|---' * (len(kinds) + 2) + '|'])
    for layer, m in dict.fromkeys((r['layer'], r['m']) for r in results):
        row = {r['kind']: r for r in results if (r['layer'], r['m']) == (layer, m)}
        cells = [f'{row[k]["us"]:.1f} ({row[k]["over_bf16"]:.2f})' if k in row else '-' for k in kinds]
        lines.append(f'| {layer} | {m} | ' + ' | '.join(cells) + ' |')


if bench:
    lines += ['', f'Copy bandwidth of this run: {bench["copy_gb_s"]:.0f} GB/s.']
    table('Linear layers', bench['results'], 'bf16 by cuBLASLt')
    lines += ['', '## Bandwidth at M = 1', '', '| layer | kind | GB/s of weights | of the copy |', '|---|---|---|---|']
    lines += [f'| {r["layer"]} | {r["kind"]} | {r["gb_s"]:.0f} | {100 * r["of_copy"]:.0f} % |' for r in bench['results'] if r['m'] == 1]
if attention:
    lines += ['', '## Attention of one decode step', '', 'One layer, 32 query and 8 KV heads of 128; GB/s of K and V read, and the time over that of a bf16 cache (below 1: faster).', '',
              '| keys | sequences | cache | microseconds | GB/s | of the copy | of bf16 |', '|---' * 7 + '|']
    for r in attention['results']:
        of_copy = f'{100 * r["gb_s"] / bench["copy_gb_s"]:.0f} %' if bench else '-'
        lines.append(f'| {r["context"]} | {r["batch"]} | {r["kv"]} | {r["us"]:.1f} | {r["gb_s"]:.0f} | {of_copy} | {r["of_bf16"]:.2f} |')
if torch:
    table('PyTorch ' + torch['version'], torch['results'], 'F.linear in bf16')
with open(out + '.md', 'w') as f:
    f.write('\n'.join(lines) + '\n')
