#!/usr/bin/env python3
"""The command line as a user meets it, on the tiny model of tests/data/tiny: results against an independent float64 forward,
equality over threads, chunks and formats' own decoding, and the message and exit code of every wrong use.
    cli.py PLUQ SOURCE_DIR"""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np

source = sys.argv[2]
sys.path.insert(0, f'{source}/tests/support')
from program import check, finish, instruction_sets, pluq, run, work
tiny = f'{source}/tests/data/tiny'


def logits(model, *flags, env=None):
    r = run('logits', model, '--ids-file', f'{tiny}/expected_ids.txt', '--out', f'{work}/l.npy', *flags, env=env)
    assert r.returncode == 0, r.stderr
    return np.load(f'{work}/l.npy')


def relative(a, b):
    return float(np.sqrt(((a - b) ** 2).mean()) / b.std())


levels = instruction_sets()
want = np.load(f'{tiny}/expected.npy')
for isa in levels:
    env = {'PLUQ_ISA': isa}
    exact = logits(tiny, '--compute', 'exact', env=env)
    check(f'{isa}: exact logits', relative(exact[-8:], want) < 1e-5, relative(exact[-8:], want))
    check(f'{isa}: fast logits', relative(logits(tiny, env=env)[-8:], want) < 5e-3)
    for threads in (1, 2, 3, 5):
        check(f'{isa}: bits with {threads} threads', (logits(tiny, '--compute', 'exact', '--threads', threads, env=env) == exact).all())

# Every format: what is quantized loads, its layers compute what they decode to, and its logits equal those of the dense model
# made of the decoded weights.
formats = {'gptq': ['group_size=32'], 'awq': ['group_size=32'], 'fp8': ['scheme=block'], 'w8a8': [], 'dense': ['dtype=f32']}
for name, settings in formats.items():
    out = f'{work}/{name}'
    r = run('quantize', tiny, '-o', out, '--format', name, '--json', *[x for s in settings for x in ('--set', s)])
    check(f'{name}: quantize', r.returncode == 0, r.stderr)
    report = json.loads(r.stdout)
    check(f'{name}: all layers', len(report['layers']) == 14 and all('skipped' not in l for l in report['layers']), r.stdout[:300])
    check(f'{name}: error', all(l['error'] < (0.2 if name in ('gptq', 'awq') else 0.05) for l in report['layers']))
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    np.save(f'{work}/x.npy', x)
    layer = 'model.layers.1.mlp.up_proj'
    r = run('layer', out, layer, '--x', f'{work}/x.npy', '--out', f'{work}/y.npy', '--dequantize', f'{work}/w.npy', '--compute', 'exact', '--activations', 'float', '--json')
    check(f'{name}: layer', r.returncode == 0 and json.loads(r.stdout)['format'] == name, r.stderr)
    y, w = np.load(f'{work}/y.npy'), np.load(f'{work}/w.npy').astype(np.float64)
    check(f'{name}: apply is dequantize', relative(y, x @ w.T) < 1e-5, relative(y, x @ w.T))
    found = json.loads(run('inspect', out, '--json').stdout)
    check(f'{name}: inspect', found['tensors_unused'] == [] and all(l['format'] == name for l in found['layers'] if l['kind'] == 'linear' or name == 'dense'))
    a = logits(out, '--compute', 'exact')
    check(f'{name}: decode equals prefill', (logits(out, '--compute', 'exact', '--threads', 1) == a).all())
    moved = logits(out, '--compute', 'exact', '--activations', 'float')
    if name in ('fp8', 'w8a8'):
        check(f'{name}: activations are rounded', 1e-4 < relative(a, moved) < 0.2, relative(a, moved))
    else:
        check(f'{name}: activations are not rounded', (a == moved).all())

r = run('run', tiny, '-p', 'In the beginning', '-n', 12, '--temperature', 0, '--json', '--compute', 'exact')
o = json.loads(r.stdout)
check('run: keys', set(o) == {'prompt_ids', 'output_ids', 'text', 'stop_reason', 'prefill', 'decode'}, o)
ids = (o['prompt_ids'] + o['output_ids'])[:-1]
run('logits', tiny, '--ids', ','.join(map(str, ids)), '--out', f'{work}/g.npy', '--compute', 'exact')
again = np.load(f'{work}/g.npy').argmax(-1)[len(o['prompt_ids']) - 1:].tolist()
check('run: greedy ids are the argmax of logits', again[:len(o['output_ids'])] == o['output_ids'], (again, o['output_ids']))
a, b = (json.loads(run('run', tiny, '-p', 'x', '-n', 10, '--temperature', 1, '--seed', 3, '--json').stdout) for _ in range(2))
check('run: equal seeds, equal texts', a['output_ids'] == b['output_ids'])
stop = o['text'][len(o['text']) // 2:][:2]
s = json.loads(run('run', tiny, '-p', 'In the beginning', '-n', 12, '--temperature', 0, '--json', '--compute', 'exact', '--stop', stop).stdout)
check('run: stop string', s['stop_reason'] == 'stop' and stop not in s['text'] and o['text'].startswith(s['text']), s)
t = json.loads(run('tokenize', tiny, '-p', 'Hello world', '--json').stdout)['ids']
check('tokenize: there and back', json.loads(run('tokenize', tiny, '--decode', '--ids', ','.join(map(str, t)), '--no-special', '--json').stdout)['text'] == 'Hello world')
for shell in ('bash', 'zsh', 'fish'):
    r = run('completion', shell)
    check(f'completion {shell}', r.returncode == 0 and 'quantize' in r.stdout)
subprocess.run(['bash', '-n', '/dev/stdin'], input=run('completion', 'bash').stdout, text=True, check=True)

# YAML: formats per layer, and quantizing while loading.
yaml = f'{work}/run.yaml'
open(yaml, 'w').write(f'model: {tiny}\nformats:\n  w4: {{type: gptq, group_size: 32}}\nlayers:\n  - {{match: "*.v_proj", format: dense}}\n'
                      '  - {match: "re:.*layers\\\\.0\\\\..*", format: w4}\n  - {match: "*.down_proj", format: w8a8}\n')
r = run('inspect', '--config', yaml, '--json')
by = {l['name']: l['format'] for l in json.loads(r.stdout)['layers']} if r.returncode == 0 else {}
check('yaml: rules', by.get('model.layers.0.self_attn.q_proj') == 'gptq' and by.get('model.layers.0.self_attn.v_proj') == 'dense' and
      by.get('model.layers.1.mlp.down_proj') == 'w8a8' and by.get('model.layers.1.mlp.up_proj') == 'dense', r.stderr or by)
r = run('run', '--config', yaml, '-p', 'x', '-n', 3, '--json')
check('yaml: runs', r.returncode == 0, r.stderr)
q = logits(f'{work}/gptq', '--compute', 'exact')
open(f'{work}/all.yaml', 'w').write(f'model: {tiny}\nformats:\n  w4: {{type: gptq, group_size: 32}}\nlayers:\n  - {{match: lm_head, format: dense}}\n  - {{match: "*", format: w4}}\n')
r = run('logits', '--config', f'{work}/all.yaml', '--ids-file', f'{tiny}/expected_ids.txt', '--out', f'{work}/l.npy', '--compute', 'exact')
check('yaml: quantized while loading equals quantized on disk', r.returncode == 0 and (np.load(f'{work}/l.npy') == q).all(), r.stderr)

# eval: perplexity and divergence equal those computed here from the logits of each window.
text = f'{work}/eval.txt'
words = open(f'{source}/README.md', encoding='utf8').read()
with open(text, 'w', encoding='utf8') as f:
    f.write(words[:3000])
ids = json.loads(run('tokenize', tiny, '-f', text, '--no-special', '--json').stdout)['ids']
bos = json.load(open(f'{tiny}/config.json'))['bos_token_id']


def window_logits(model, window, *flags):
    r = run('logits', model, '--ids', ','.join(map(str, window)), '--out', f'{work}/w.npy', *flags)
    assert r.returncode == 0, r.stderr
    z = np.load(f'{work}/w.npy').astype(np.float64)
    return z - np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) - z.max(axis=1, keepdims=True)


for protocol, size, lead in (('bos-64', 63, [bos]), ('raw-50', 50, [])):
    loss, kl, top = [], [], []
    for w in range(3):
        window = lead + ids[w * size:(w + 1) * size]
        q = window_logits(f'{work}/w8a8', window, '--compute', 'exact')[:-1]
        p = window_logits(tiny, window, '--compute', 'exact')[:-1]
        loss += [-row[i] for row, i in zip(q, window[1:])]
        kl += list((np.exp(p) * (p - q)).sum(axis=1))
        top += list(p.argmax(axis=1) == q.argmax(axis=1))
    r = run('eval', f'{work}/w8a8', '--base', tiny, '--text', text, '--protocol', protocol, '--windows', 3, '--compute', 'exact', '--json')
    got = json.loads(r.stdout or '{}')
    check(f'eval {protocol}', r.returncode == 0 and abs(got['perplexity'] / np.exp(np.mean(loss)) - 1) < 1e-5
          and abs(got['kl_mean'] - np.mean(kl)) < 1e-6 and abs(got['top1_agreement'] - np.mean(top)) < 1e-9
          and got['tokens'] == len(loss) and got['protocol'] == protocol, r.stderr + r.stdout)
    check(f'eval {protocol}: p99', sorted(kl)[int(0.99 * (len(kl) - 1))] - got['kl_p99'] < 1e-6)
same = json.loads(run('eval', tiny, '--base', tiny, '--text', text, '--protocol', 'bos-64', '--json').stdout)
check('eval: no distance to itself', same['kl_mean'] == 0 and same['top1_agreement'] == 1 and same['perplexity'] == same['base_perplexity'])
check('eval: hash of the text', same['text_sha256'] == hashlib.sha256(open(text, 'rb').read()).hexdigest())


# chat: the answers are those of `run` on the text that the template makes, and only new tokens are run through the model.
talker = f'{work}/talker'
shutil.copytree(tiny, talker)
first = json.loads(run('tokenize', tiny, '-p', 'x', '--json').stdout)['ids'][0]
bos_text = json.loads(run('tokenize', tiny, '--decode', '--ids', first, '--json').stdout)['text']
open(f'{talker}/tokenizer_config.json', 'w').write(json.dumps({'bos_token': {'content': bos_text}, 'chat_template':
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}'}))


def talk(text, *flags):
    return subprocess.run([pluq, 'run', talker, '--chat', '-n', '6', '--temperature', '0', '--compute', 'exact', *flags], input=text, capture_output=True, text=True)


def plain(text):
    return json.loads(run('run', tiny, '-p', text, '-n', 6, '--temperature', 0, '--compute', 'exact', '--json').stdout)['text']


r = talk('hello\n/clear\nhello\n/nosuch\n/exit\nnever\n')
one = plain('[user] hello [assistant]')
check('chat: answers', r.returncode == 0 and r.stdout == f'{one}\n{one}\n', (r.stdout, one, r.stderr))
check('chat: the cache is kept', '[1 tokens read' in r.stderr and "no command '/nosuch'" in r.stderr, r.stderr)
r = talk('', '--system', 'Be brief.', '-p', 'hello')
check('chat: system message', r.stdout == plain('[system] Be brief. [user] hello [assistant]') + '\n', (r.stdout, r.stderr))
open(f'{work}/bad.jinja', 'w').write('{{ messages[0].content }}\n{{ missing.x }}')
r = talk('hello\n', '--chat-template', f'{work}/bad.jinja')
check('chat: a wrong template', r.returncode == 3 and "bad.jinja: line 2: 'missing' is undefined" in r.stderr, r.stderr)

open(f'{work}/explain.yaml', 'w').write(f'model: {tiny}\nlayers:\n  - {{match: "*.v_proj", format: dense}}\n')
r = run('explain', '--config', f'{work}/explain.yaml', '--threads', 1, '--json')
e = json.loads(r.stdout or '{}')
said = {s['name']: s for s in e.get('settings', [])}
why = {l['name']: l['decided_by'] for l in e.get('layers', [])}
check('explain: settings', said.get('threads', {}).get('source') == '--threads' and said.get('compute', {}).get('value') == 'fast' and said.get('kv_cache', {}).get('value') in ('f16', 'f32'), r.stderr)
check('explain: rules', 'explain.yaml:3:' in why.get('model.layers.0.self_attn.v_proj', '') and 'the tensors in the file' in why.get('model.layers.1.mlp.up_proj', ''), r.stderr or why)
answers = {l['name']: {a['format']: a for a in l['answers']} for l in e.get('layers', [])}
v, up = answers.get('model.layers.0.self_attn.v_proj', {}), answers.get('model.layers.1.mlp.up_proj', {})
check('explain: the answer to a rule', v.get('dense by rule', {}).get('answer') == 'serves it', v)
check('explain: scores', up.get('dense', {}).get('answer') == 'serves it' and up['dense']['score'] > 0, up)
check('explain: why formats decline', all(up.get(f, {}).get('answer') == 'declines' and 'no quantization config' in up[f]['reason'] for f in ('gptq', 'fp8', 'w8a8')), up)
r = run('explain', tiny)
check('explain: as text', 'dense serves it with score ' in r.stdout and 'w8a8 declines: the checkpoint has no quantization config' in r.stdout, r.stdout[:2000])

# The KV cache in 8 bits: close to f32, the same bits for any number of threads, a sequence longer than blocks.
ids = ','.join(str(7 * i % 250) for i in range(75))
def kv_logits(kind, *flags):
    r = run('logits', tiny, '--ids', ids, '--out', f'{work}/kv.npy', '--compute', 'exact', '--kv-cache', kind, *flags)
    assert r.returncode == 0, r.stderr
    return np.load(f'{work}/kv.npy'), r.stderr
full = kv_logits('f32')[0]
for kind, bound in (('fp8_e4m3', 0.1), ('fp8_e5m2', 0.2), ('int8', 0.03)):
    a, said = kv_logits(kind)
    check(f'kv {kind}: near f32', 0 < relative(a, full) < bound, relative(a, full))
    check(f'kv {kind}: threads', (kv_logits(kind, '--threads', 1)[0] == a).all())
    check(f'kv {kind}: no words', 'KV' not in said, said)
    b, said = kv_logits(kind + ':head')
    check(f'kv {kind}: no scales', (a == b).all() and 'the checkpoint has no KV scales; scales are computed for each head and token instead' in said, said)
r = json.loads(run('inspect', tiny, '--kv-cache', 'int8', '--json').stdout or '{}')
check('kv: inspect', r.get('kv_cache', {}).get('type') == 'int8:token', r.get('kv_cache'))


def model(name, change=None, config=None, base=tiny):
    """A copy of a model with its safetensors header or config changed."""
    out = f'{work}/bad-{name}'
    shutil.copytree(base, out)
    path = f'{out}/model.safetensors'
    if change:
        data = open(path, 'rb').read()
        size = struct.unpack('<Q', data[:8])[0]
        header = json.loads(data[8:8 + size])
        data = change(header, data[8 + size:]) or data[8 + size:]
        text = json.dumps(header).encode()
        open(path, 'wb').write(struct.pack('<Q', len(text)) + text + data)
    if config:
        c = json.load(open(f'{out}/config.json'))
        config(c)
        json.dump(c, open(f'{out}/config.json', 'w'))
    return out


def drop(name):
    def change(h, data):
        begin, end = h.pop(name)['data_offsets']
        for v in h.values():
            if 'data_offsets' in v and v['data_offsets'][0] >= end:
                v['data_offsets'] = [x - (end - begin) for x in v['data_offsets']]
        return data[:begin] + data[end:]
    return change


def reshape(h, data):
    h['model.layers.0.mlp.up_proj.weight']['shape'] = [64, 128]


def retype(name, dtype):
    def change(h, data):
        h[name]['dtype'] = dtype
    return change


def overlap(h, data):
    h['model.norm.weight']['data_offsets'] = [0, 128]


gptq = f'{work}/gptq'
truncated = model('truncated')
with open(f'{truncated}/model.safetensors', 'r+b') as f:
    f.truncate(os.path.getsize(f.name) - 100)
empty = f'{work}/no-plugins'
os.makedirs(empty)
only = f'{work}/dense-only'
os.makedirs(f'{only}/bin')
os.makedirs(f'{only}/lib/pluq/plugins')
shutil.copy(pluq, f'{only}/bin/pluq')
shutil.copy(f'{os.path.dirname(pluq)}/../lib/pluq/plugins/dense.so', f'{only}/lib/pluq/plugins/')
yamls = {'key': 'modle: x\n', 'format': f'model: {tiny}\nlayers: [{{match: "*", format: nosuch}}]\n', 'type': f'model: {tiny}\nformats: {{w: {{type: nosuch}}}}\nlayers: [{{match: "*", format: w}}]\n', 'option': f'model: {tiny}\nformats: {{w: {{type: gptq, bitz: 4}}}}\nlayers: [{{match: "*", format: w}}]\n',
         'mismatch': f'model: {gptq}\nlayers: [{{match: "*.q_proj", format: awq}}]\n'}
for k, v in yamls.items():
    open(f'{work}/{k}.yaml', 'w').write(v)
open(f'{work}/short.txt', 'w').write('hello')
logit = ('--ids', '0', '--out', f'{work}/x.npy.out')
dense_so = f'{os.path.dirname(pluq)}/../lib/pluq/plugins/dense.so'
wrong = [
    (3, ['run', f'{work}/none', '-p', 'x'], ['none']),
    (3, ['logits', truncated, *logit], ['model.safetensors', 'outside']),
    (3, ['logits', model('overlap', overlap), *logit], ['model.safetensors', 'an overlap']),
    (3, ['logits', model('missing', drop('model.layers.0.mlp.up_proj.weight')), *logit], ['model.layers.0.mlp.up_proj', 'no tensors']),
    (3, ['logits', model('norm', drop('model.norm.weight')), *logit], ['model.norm.weight', 'missing']),
    (3, ['logits', model('shape', reshape), *logit], ['model.layers.0.mlp.up_proj', 'shape [64, 128]', 'expected [128, 64]']),
    (3, ['logits', model('dtype', retype('model.norm.weight', 'I16')), *logit], ['model.norm.weight', 'I16']),
    (3, ['logits', model('scales', drop('model.layers.0.mlp.up_proj.scales'), base=gptq), *logit], ['model.layers.0.mlp.up_proj', "tensor 'scales' is missing"]),
    (3, ['logits', model('bits', config=lambda c: c['quantization_config'].update(bits=9), base=gptq), *logit], ["'bits' is 9"]),
    (3, ['logits', model('format', config=lambda c: c['quantization_config'].update(checkpoint_format='marlin'), base=gptq), *logit], ["checkpoint_format 'marlin' is not built"]),
    (4, ['logits', model('method', config=lambda c: c['quantization_config'].update(quant_method='exl9'), base=gptq), *logit], ["quant_method 'exl9'", 'model.layers.0.self_attn.q_proj', 'qweight I32', 'searched in', 'gptq:']),
    (3, ['logits', model('family', config=lambda c: c.update(architectures=['Foo'])), *logit], ["'Foo' is not supported", 'LlamaForCausalLM']),
    (3, ['logits', tiny, '--ids', '0,99999', '--out', f'{work}/o'], ['99999', '4096']),
    (2, ['logits', tiny, '--ids', '0,x', '--out', f'{work}/o'], ["'x'"]),
    (3, ['run', tiny, '-p', 'x ' * 400], ['tokens', 'context']),
    (2, ['run', tiny], ['-p TEXT']),
    (2, ['run', tiny, '-p', 'x', '--compute', 'quick'], ['compute']),
    (2, ['run', tiny, '-p', 'x', '--device', 'cuda:99'], ['--device cuda']),
    (2, ['run', tiny, '-p', 'x', '--device', 'tpu'], ['accepted are cpu']),
    (2, ['run', tiny, '-p', 'x', '--kv-cache', 'fp8'], ["'fp8' is not a KV cache type", 'fp8_e4m3, fp8_e5m2, int8']),
    (2, ['run', tiny, '-p', 'x', '--kv-cache', 'f16:head'], ['a KV cache of f16 has no scales']),
    (2, ['run', tiny, '-p', 'x', '--kv-cache', 'int8:row'], ["'row'", 'accepted are tensor, head, token']),
    (3, ['run', tiny, '-p', 'x', '--chat'], ['no chat template', 'chat_template.jinja', '--chat-template']),
    (2, ['run', tiny, '-p', 'x', '--chat', '--json'], ['--json']),
    (2, ['run', tiny, '-p', 'x', '--system', 'y'], ['--chat']),
    (2, ['eval', tiny], ['--text is required']),
    (2, ['eval', tiny, '--text', text, '--protocol', 'bos-1'], ["'bos-1'", 'bos-N', 'raw-N']),
    (3, ['eval', tiny, '--text', f'{work}/short.txt', '--protocol', 'bos-128'], ['fewer than one window']),
    (3, ['eval', tiny, '--text', text, '--protocol', 'bos-64', '--context', 32], ['64 tokens', 'context of 32']),
    (3, ['eval', tiny, '--text', f'{work}/none'], ['none']),
    (2, ['nosuch'], ['nosuch']),
    (2, [], []),
    (2, ['run', '--config', f'{work}/key.yaml', '-p', 'x'], ['key.yaml:1:8', "unknown key 'modle'", 'model']),
    (3, ['run', '--config', f'{work}/format.yaml', '-p', 'x'], ["format 'nosuch'", 'there are']),
    (4, ['run', '--config', f'{work}/type.yaml', '-p', 'x'], ['type.yaml:2:', "format 'nosuch'", 'there are']),
    (2, ['run', '--config', f'{work}/option.yaml', '-p', 'x'], ["no option 'bitz'", 'bits']),
    (3, ['run', '--config', f'{work}/mismatch.yaml', '-p', 'x'], ['mismatch.yaml:2', "format 'awq'", 'qweight']),
    (2, ['quantize', tiny, '-o', f'{work}/q1', '--format', 'gptq', '--set', 'bits=5'], ["'bits'", '2|3|4|8']),
    (2, ['quantize', tiny, '-o', f'{work}/q1', '--format', 'gptq', '--algorithm', 'magic'], ['magic', 'rtn']),
    (4, ['quantize', tiny, '-o', f'{work}/q1', '--format', 'nosuch'], ["format 'nosuch'", 'gptq']),
    (2, ['quantize', tiny, '-o', tiny, '--format', 'gptq'], ['output is the input']),
    (3, ['quantize', gptq, '-o', f'{work}/q1', '--format', 'gptq'], ['quantized already']),
    (3, ['layer', tiny, 'model.layers.9.mlp.up_proj', '--x', f'{work}/x.npy', '--out', f'{work}/y'], ['similar names']),
    (3, ['layer', tiny, 'model.layers.0.mlp.down_proj', '--x', f'{work}/x.npy', '--out', f'{work}/y'], ['[5, 64]', '[M, 128]']),
    (3, ['import', f'{tiny}/config.json', '-o', f'{work}/i'], ['not a GGUF file']),
    (4, ['plugins', 'info', 'nosuch'], ['nosuch']),
    (3, ['plugins', 'check', f'{work}/none.so', '--out', f'{work}/c.json'], ['none.so']),
    (1, ['plugins', 'check', f'{work}/short.txt', '--out', f'{work}/c.json'], ['is not an ELF file', 'does not conform']),
    (2, ['plugins', 'check', dense_so, '--only', 'nosuch', '--out', f'{work}/c.json'], ["--only nosuch: no test"]),
    (2, ['sdk', 'new', 'Bad-Name', '--dir', f'{work}/i'], ["'Bad-Name' cannot name a format", 'a-z']),
    (2, ['sdk', 'new', 'test', '--dir', f'{work}/i'], ["'test' cannot name a format", 'CMake']),
    (2, ['sdk', 'new', 'gptq', '--dir', f'{work}/i'], ["'gptq' is a format of", 'gptq.so', 'another name']),
    (1, ['sdk', 'new', 'x', '--dir', '/proc/none/x'], ['/proc/none/x: cannot be created']),
    (3, ['layer', tiny, '', '--dequantize', f'{work}/y'], ["no linear layer ''"]),
    (2, ['sdk', 'new', 'x', '--dir', work], ['exists and is not an empty directory']),
    (2, ['sdk', 'new', 'x', '--dir', work, '--cuda'], ['exists and is not an empty directory']),
    (2, ['bench-linear', '--format', 'gptq', '--device', 'cuda-emulated'], ['measures the CPU', 'cuda-emulated']),
    (2, ['layer', tiny, 'lm_head', '--dequantize', f'{work}/y', '--device', 'cuda-emulated', '--compute', 'exact'], ['use --compute fast']),
    (2, ['bench-linear', '--format', 'gptq', '--n', '64', '--k', '64', '--set', 'x'], ['key=value']),
]
for code, args, parts in wrong:
    r = run(*args)
    said = r.stderr + r.stdout
    check('wrong: ' + ' '.join(map(str, args[:2])), r.returncode == code and all(p in said for p in parts), f'exit {r.returncode} (want {code}), want {parts}: {said[:600]}')
check('wrong: nothing is left', not os.path.exists(f'{work}/q1') and not os.path.exists(f'{work}/i'))
r = run('doctor', env={'PLUQ_ISA': 'mmx'})
check('PLUQ_ISA', r.returncode == 2 and 'accepted are auto, portable' in r.stderr, r.stderr)
r = subprocess.run([f'{only}/bin/pluq', 'logits', gptq, *logit], capture_output=True, text=True)
check('a removed plugin', r.returncode == 4 and "quant_method 'gptq'" in r.stderr and f'{only}/lib/pluq/plugins' in r.stderr, r.stderr)
r = subprocess.run([f'{only}/bin/pluq', 'logits', tiny, *logit], capture_output=True, text=True)
check('a removed plugin changes nothing else', r.returncode == 0, r.stderr)
for verb in 'run logits layer tokenize eval inspect explain quantize import plugins bench bench-linear doctor completion'.split():
    r = run(verb, '--help')
    check(f'{verb} --help', r.returncode == 0 and 'Example' in r.stdout and 'not built' not in r.stdout)
b = run('bench-linear', '--format', 'gptq', '--n', 256, '--k', 256, '--m', '1,4', '--group', 64, '--repeat', 1, '--json')
check('bench-linear', b.returncode == 0 and set(json.loads(b.stdout)['rows'][0]) == {'m', 'seconds', 'gops', 'gb_per_s', 'share_of_bandwidth', 'share_of_peak', 'kernel'}, b.stderr)
b = run('bench', tiny, '--prefill', 16, '--decode', 4, '--repeat', 1, '--json')
check('bench', b.returncode == 0 and set(json.loads(b.stdout)) == {'prefill', 'decode', 'bytes_per_token', 'bandwidth_gb_per_s', 'share_of_bandwidth'}, b.stderr)
finish()
