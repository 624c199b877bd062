#!/usr/bin/env python3
"""Doxygen's input filter: turns this project's plain comments into ones that Doxygen attaches to declarations.
A comment on lines of its own documents what follows, one after code on the same line what stands before it; one above
several #define lines documents each that has no comment of its own, and so does one of `int64_t m, n;`. struct_size and
reserved mean the same everywhere. filter.py FILE"""
import re
import sys

ALWAYS = {
    'struct_size': 'Size of this struct in bytes, as its producer was compiled; see convention 1 of abi.h.',
    'reserved': 'Zero; not read.',
}
# `int64_t m, n = 1;`: indent, type, declarators, comment.
FIELDS = re.compile(r'^(\s+)((?:const\s+)?[\w:]+(?:<[^;()]*>)?(?:\s+const)?)\s+((?:\**\w+(?:\[\w+\])?(?:\s*=\s*[^,;]+)?,\s*)*'
                    r'\**\w+(?:\[\w+\])?(?:\s*=\s*[^,;]+)?);(.*)$')
NOT_A_TYPE = {'return', 'throw', 'using', 'namespace', 'typedef', 'delete', 'goto', 'else', 'case'}


def safe(text):
    """Doxygen reads <x>, @x, \\x and #x as markup; ours is plain text."""
    return re.sub(r'([<>@\\#&])', r'\\\1', text)


def comment_at(lines, i, start):
    """The comment that begins at column `start` of line i: (text lines, next line). Continuation lines of // count when
    nothing else stands on them and they begin at the same column."""
    line = lines[i]
    if line.startswith('//', start):
        text = [line[start:].lstrip('/').strip()]
        while i + 1 < len(lines) and re.match(r'^\s{%d}//' % start, lines[i + 1]):
            i += 1
            text.append(lines[i].strip().lstrip('/').strip())
        return text, i + 1
    text = [line[start + 2:]]
    while '*/' not in text[-1]:
        i += 1
        text.append(re.sub(r'^\s*\*(?!/) ?', '', lines[i]))
    text[-1] = text[-1][:text[-1].index('*/')]
    return [t.strip() if n == 0 else t.rstrip() for n, t in enumerate(text)], i + 1


def code_and_comment(line):
    """Column of a trailing comment outside of strings, or -1."""
    quoted = False
    for column in range(len(line) - 1):
        if line[column] == '"' and line[column - 1] != '\\':
            quoted = not quoted
        if not quoted and line[column:column + 2] in ('//', '/*'):
            return column
    return -1


def block(text, indent=''):
    body = [safe(t) for t in text]
    return indent + '/** ' + ('\n' + indent + ' * ').join(body) + ' */'


def of_file(text):
    """A comment on the whole file; its numbered points become a list."""
    body = [t if t == '@details' else re.sub(r'^(\s*)\d+\. ', r'\1-# ', t) for t in text]
    return '/** @file\n * ' + '\n * '.join(b if b == '@details' else safe(b).replace('-\\#', '-#') for b in body) + ' */'


def filtered(source):
    # The inline namespace of the SDK is not part of any name.
    source = re.sub(r'^inline namespace \w+ .*\{$|^\}  // namespace (\)|sdk_\w+)$', '', source, flags=re.M)
    lines = source.split('\n')
    out, doc, shared = [], [], []  # doc: for the next declaration; shared: for the rest of a run of #define
    i = 0
    while i < len(lines):
        line = lines[i]
        start = code_and_comment(line)
        if start >= 0 and not line[:start].strip():  # a comment on lines of its own
            text, i = comment_at(lines, i, start)
            if text[0].startswith('SPDX'):
                while i < len(lines) and lines[i].startswith(('//', '/* Host extension')):
                    more, i = comment_at(lines, i, 0)
                    text += more
                out.append(of_file(text[1:]))
            elif '-----' in text[0]:
                out.append(of_file(['@details'] + text[1:]) if len(text) > 1 else '')
            else:
                doc, shared = text, []
            continue
        after = []
        i += 1
        if start >= 0:
            after, i = comment_at(lines, i - 1, start)
            line = line[:start].rstrip()
        if not line.strip():
            if doc:
                out.append(block(doc))
            out.append('')
            doc, shared = [], []
            continue
        struct = re.match(r'^(?:typedef )?(?:struct|class|enum class) (\w+).*\{$', line.strip())
        forward = re.match(r'^typedef struct (\w+) \1;$', line)
        fields = FIELDS.match(line)
        if line.startswith('#define'):
            # The value of a macro may stand on the next line, with the comment.
            while line.endswith('\\') and i < len(lines):
                tail, column = lines[i], code_and_comment(lines[i])
                i += 1
                if column >= 0:
                    after, i = comment_at(lines, i - 1, column)
                    tail = tail[:column].rstrip()
                line = line[:-1].rstrip() + ' ' + tail.strip()
            shared = doc or shared
            out.append(block(after or shared) if after or shared else '')
            out.append(line)
        elif forward and re.search(r'^struct %s \{' % forward.group(1), source, re.M):
            pass
        elif struct:
            text = doc or shared
            text = text + after
            if text:
                out.append(block(text))
            out.append(line)
            shared = []
        elif fields and fields.group(2).split()[0] not in NOT_A_TYPE:
            for name in re.split(r',\s*', fields.group(3)):
                text = after or doc or [ALWAYS[name]] if name in ALWAYS else doc + after
                if text:
                    out.append(block(text, fields.group(1)))
                out.append(f'{fields.group(1)}{fields.group(2)} {name};')
            shared = []
        else:
            if doc:
                out.append(block(doc))
            # A parameter's or an argument's comment is not the declaration's.
            out.append(line + (' /**< ' + safe(' '.join(after)) + ' */' if after and line.endswith((';', '}')) else ''))
            shared = []
        doc = []
    return '\n'.join(out)


print(filtered(open(sys.argv[1], encoding='utf-8').read()))
