#!/usr/bin/env python3
"""Writes golden.json: what jinja2, set up as transformers sets it up, makes of the templates in templates/ and of the
expressions below. Needs jinja2.   make.py"""
import datetime
import glob
import json
import os

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

here = os.path.dirname(os.path.abspath(__file__))
now = datetime.datetime(2025, 3, 9, 12, 0, 0)


class Generation(Extension):
    """The tag {% generation %} of transformers, without what it records."""
    tags = {'generation'}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
        return nodes.CallBlock(self.call_method('_body'), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def refuse(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters['tojson'] = tojson
env.globals['raise_exception'] = refuse
env.globals['strftime_now'] = lambda f: now.strftime(f)

weather = {'type': 'function', 'function': {'name': 'weather', 'description': 'Tells the weather — "now" & <here>', 'parameters': {
    'type': 'object', 'properties': {'city': {'type': 'string', 'enum': ['Zürich', '東京']}, 'days': {'type': 'integer'}}, 'required': ['city']}}}
user, answer = {'role': 'user', 'content': ' Hello!  '}, {'role': 'assistant', 'content': ' Hi, what can I do?\n'}
call = {'role': 'assistant', 'content': '', 'tool_calls': [{'id': 'call_123456789abc', 'type': 'function', 'function': {
    'name': 'weather', 'arguments': {'city': '東京', 'days': 2, 'exact': 1.5, 'more': None, 'sure': True}}}]}
talks = {
    'one': {'messages': [user]},
    'system': {'messages': [{'role': 'system', 'content': 'Be brief.'}, user]},
    'turns': {'messages': [user, answer, {'role': 'user', 'content': 'Übung 🙂 ｆｕｌｌ\n\tÀ la carte'}, {'role': 'assistant', 'content': '<think>\nhm\n</think>\n\nJa.'}, {'role': 'user', 'content': 'x'}]},
    'done': {'messages': [user, answer], 'add_generation_prompt': False},
    'tools': {'messages': [{'role': 'system', 'content': 'Use tools.'}, {'role': 'user', 'content': 'Weather?'}, call, {'role': 'tool', 'content': '{"t": 21}'}], 'tools': [weather]},
    'tools-first': {'messages': [{'role': 'user', 'content': 'Weather?'}], 'tools': [weather, weather], 'enable_thinking': False, 'controls': {'length': 'short'}},
    'wrong': {'messages': [answer, answer]},
}
data = {'s': 'Grüße, wörld\n two  lines', 'e': '', 'n': 7, 'f': 2.5, 'b': True, 'z': None, 'l': [3, 1, 2], 'w': ['b', 'A', 'c', 'a'], 'd': {'y': 1, 'x': [1, 'q'], 'items': 5},
        'o': [{'k': 'u', 'v': 1}, {'k': 'a', 'v': 2}, {'k': 'u', 'v': None}, {'v': 4}]}
lines = r'''
{{ s }}|{{ e }}|{{ n }}|{{ f }}|{{ b }}|{{ z }}|{{ l }}|{{ d }}|{{ missing }}
{{ 1 + 2 * 3 ** 2 - -4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2.0 * 3 }} {{ 1e20 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 100000.0 * 1e10 }}
{{ 'a' ~ 1 ~ none ~ true ~ [1, 'x'] ~ {'k': 2.0} ~ (1,) ~ (1, 2) }}
{{ "it's" }} {{ ["it's", 'a"b', "a\nb\\"] }} {{ 'é\u00e9\x41' }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' in 'cat' }} {{ 'a' not in ['a'] }} {{ 'y' in d }} {{ 1 == 1.0 }} {{ true == 1 }} {{ [1, 2] == [1, 2] }} {{ not n }}
{{ n if b else 'no' }}{{ 'x' if e }}{{ 'p' if e else 'q' if z else 'r' }} {{ e or 'other' }} {{ n and f }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ s[2:5] }} {{ s[-4:] }} {{ s[::-1] }} {{ s[::3] }} {{ l[5] }} {{ d['x'][1] }} {{ d.y }} {{ d['items'] }} {{ 'abc'[1] }} {{ l[-100:100] }}
{{ s|upper }} {{ s|lower }} {{ s|title }} {{ s|capitalize }} {{ s.title() }} {{ s.upper() }} {{ 'straße'.upper() }} {{ 'ÀB'.lower() }}
{{ '  a b '|trim }}| {{ 'xxaxx'|trim('x') }} {{ ' a '.strip() }}| {{ 'xaxb'.lstrip('x') }} {{ 'ab\n\n'.rstrip('\n') }}|
{{ s|length }} {{ l|count }} {{ d|length }} {{ l|first }} {{ l|last }} {{ s|first }} {{ [] | first }} {{ l|reverse|list }} {{ s|reverse }}
{{ l|join(', ') }} {{ o|map(attribute='k')|list }} {{ o|map(attribute='k', default='-')|join('/') }} {{ w|map('upper')|join }} {{ o|join(',', attribute='v') }}
{{ l|sort }} {{ w|sort }} {{ w|sort(case_sensitive=true) }} {{ l|sort(reverse=true) }} {{ o[:2]|sort(attribute='k')|tojson }} {{ w|unique|list }} {{ w|min }} {{ l|max }} {{ l|sum }} {{ o[:2]|sum(attribute='v') }}
{{ o|selectattr('k', 'defined')|list|length }} {{ o|selectattr('k', 'equalto', 'u')|map(attribute='v')|list }} {{ o|rejectattr('v')|list }} {{ l|select('odd')|list }} {{ l|reject('gt', 1)|list }} {{ ['', 'a']|select|list }} {{ o|selectattr('v', 'in', [1, 4])|list|length }}
{{ missing|default('d') }} {{ e|default('d') }} {{ e|default('d', true) }} {{ z|default('d') }} {{ z|d('d', boolean=True) }}
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ s|tojson }} {{ 'é\x01"\\/'|tojson }} {{ 'é🙂'|tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ []|tojson(indent=2) }} {{ [1.0, 1e22, none, true]|tojson(separators=(',', ':')) }}
{{ '12'|int }} {{ '12.7'|int }} {{ 'x'|int }} {{ 'x'|int(-1) }} {{ 3.9|int }} {{ 'ff'|int(base=16) }} {{ '1.5'|float }} {{ 'x'|float }} {{ n|string|length }} {{ 'abc'|list }} {{ d|list }} {{ d|items|list }}
{{ 42.55|round }} {{ 42.55|round(1) }} {{ 2.5|round }} {{ 2.1|round(method='ceil') }} {{ 42.59|round(1, 'floor') }} {{ -3|abs }} {{ -2.5|abs }} {{ 42|round|int }}
{{ 'a\nb\n\nc'|indent }} {{ 'a\nb'|indent(2, true) }} {{ 'a\n\nb'|indent('> ', blank=true) }}
{{ 'aXbXc'|replace('X', '-') }} {{ 'aXbXc'|replace('X', '-', 1) }} {{ 'aXbXc'.replace('X', '') }} {{ 'ab'.replace('', '.') }}
{{ '%s is %d and %.2f%%'|format('x', 3, 1.5) }} {{ '%s-%s' % (1, 'b') }} {{ '%05.1f' % f }}
{{ 'a,b,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb\r\nc'.splitlines() }} {{ '-'.join(['a', 'b']) }} {{ 'a b c d'.rsplit(None, 2) }} {{ ''.split(',') }} {{ ' a b '.split(none, 1) }}
{{ s.startswith('Gr') }} {{ s.endswith(('x', 'lines')) }} {{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'aXa'.count('a') }} {{ '12'.isdigit() }} {{ 'ab1'.isalpha() }} {{ 'prefix'.removeprefix('pre') }}
{{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.get('y') }} {{ d.get('q') }} {{ d.get('q', 'no') }} {{ {}.items()|list }} {{ d|dictsort }}
{{ n is defined }} {{ q is defined }} {{ q is undefined }} {{ z is none }} {{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ s is iterable }} {{ (n is iterable) }} {{ n is number }} {{ f is number }} {{ b is boolean }} {{ b is true }} {{ n is integer }} {{ b is integer }} {{ f is float }} {{ l is sequence }} {{ d is sequence }}
{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(3) }} {{ 'a' is in 'abc' }} {{ n is not none }} {{ n is eq 7 }} {{ n is ge(8) }} {{ 'a' is lower }} {{ range is callable }} {{ n is sameas n }} {{ not q is defined }} {{ n is not eq 7 or b }}
{% for i in range(3) %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{{ loop.cycle('a', 'b') }}{{ loop.revindex }}{{ loop.first }}{% endfor %} {{ range(10, 0, -3)|list }} {{ range(0)|list }}
{% for x in l if x > 1 %}{{ loop.index }}={{ x }}{{ loop.previtem }}{{ loop.nextitem }};{% else %}none{% endfor %} {% for x in [] %}x{% else %}empty{% endfor %} {% for x in missing %}x{% endfor %}
{% for k, v in d.items() %}{{ k }}:{{ v }} {% endfor %}{% for k in d %}{{ k }}{% endfor %} {% for c in 'añ' %}{{ c }}.{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}
{% for a in [[1, [2, [3]]], [4]] recursive %}{{ loop.depth }}{% if a is iterable %}({{ loop(a) if true }}){% else %}{{ a }}{% endif %}{% endfor %}
{% set x = 1 %}{% for i in range(2) %}{% set x = 5 %}{{ x }}{% endfor %}{{ x }} {% set a, b2 = 1, 2 %}{{ a }}{{ b2 }} {% set ns = namespace(v=0) %}{% for i in l %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }} {% if true %}{% set y = 3 %}{% endif %}{{ y }}
{% set body %}  hi {{ n }} {% endset %}[{{ body }}] {% set up | upper | trim %} shout {% endset %}[{{ up }}] {% filter upper %}abc {{ s }}{% endfilter %} {% with p = 1, q2 = n %}{{ p }}{{ q2 }}{% endwith %}{{ p }}
{% macro m(a, b='z', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=2, a=1) }} {% macro box(t) %}[{{ t }}:{{ caller(4) }}]{% endmacro %}{% call(v) box('k') %}in {{ v }}{% endcall %} {% macro fact(k) %}{{ k * fact(k - 1)|int if k > 1 else 1 }}{% endmacro %}{{ fact(10) }}
A{# comment #}B {%- if true %} c {%- endif %} D {%+ if true %}e{% endif +%} {{- ' f ' -}} G
{% raw %}{{ not }} {% this %}{% endraw %} {{ '{{' }} {{ '%}' }} {{ {'a': {'b': 1}} }}
{{ 'a' 'b' }} {{ (1, 2)|list }} {{ [1, 2,] }} {{ {'a': 1,} }} {{ true }} {{ True }} {{ None }} {{ -n|abs }} {{ n|string ~ 'x' }} {{ l|length > 2 }} {{ 'x' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ l.0 }}
{{ (missing.attr is defined) if missing is defined else 'guarded' }} {{ z.attr is defined }} {{ s.nothing is defined }} {{ d.nope is defined }} {{ dict(a=1, b=2) }} {{ 'A<b>&'|e }} {{ 'x'|safe }} {{ strftime_now('%Y-%m-%d') }}
{{ '﻿' }}{{ ' x '|trim }} {{ 'ﬀ'|length }} {{ 'İ'|length }} {{ 'ǆ'.title() }} {{ 'ab-cd ef(gh'|title }} {{ "o'neil x2y"|title }} {{ "o'neil x2y".title() }}
'''.strip('\n').split('\n')
blocks = ['  {% if true %}\n  x\n  {% endif %}\ny', 'a\n\n  {%- if true -%}\n\n  b\n {%- endif %}\n\nc\n', '{% if true %}\n\n  two\n{% endif %}\n', ' {{ 1 }}\n  {# c #}\n  t\r\nu\r\n\n',
          '{% for i in range(2) %}\n  {{ i }}\n    {% if i %}\n  y\n    {% endif %}\n{% endfor %}', 'x {% if true %}\ny {% endif %} \nz', '{% set x = 1 %}\n\n{{ x }}\n\n', '\n{%+ if true %}\n a\n {%+ endif %}\n',
          '{% if true %} \n q{% endif %}', '{{ 1 -}}\n  {% if true %}\nr\n{% endif %}', '{#- a -#}  \n  b {#- c #}\n d', ' {% raw %} \n {{ x }} {% endraw %} \n e', '{% raw -%}\n a {%- endraw %}\nb',
          '{%- for m in o -%}\n{{ m.v }}\n{%- endfor -%}\n', '{% if false %}a{% elif true %}\nb\n{% else %}c{% endif %}\n\nd']


def render(source, variables):
    try:
        return {'text': env.from_string(source).render(**variables)}
    except TemplateError as e:
        return {'error': str(e)}


golden = {'now': int(now.timestamp()), 'data': data, 'talks': talks, 'templates': {}, 'lines': []}
for path in sorted(glob.glob(f'{here}/templates/*.jinja')):
    source = open(path, encoding='utf8').read()
    golden['templates'][os.path.basename(path)] = {name: render(source, {'bos_token': '<s>', 'eos_token': '</s>', 'add_generation_prompt': True, **talk}) for name, talk in talks.items()}
for source in lines + blocks:
    golden['lines'].append({'source': source, **render(source, data)})
with open(f'{here}/golden.json', 'w', encoding='utf8') as f:
    json.dump(golden, f, ensure_ascii=False, indent=1)
for g in golden['lines']:
    if 'error' in g:
        print('error:', g['source'][:60], g['error'])
