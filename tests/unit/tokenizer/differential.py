# SPDX-License-Identifier: Apache-2.0
"""Compares pluq's tokenizer with the `tokenizers` package on random text. Not part of the tests: it needs the package.

    ninja -C BUILD tokenizer_lines
    python differential.py BUILD/tests/unit/tokenizer/tokenizer_lines TOKENIZER_JSON... [--rounds N] [--seed S]

Strings are random mixtures of code points from many blocks, white space, control characters, pieces of the file's own
vocabulary and its added tokens. Prints each difference and exits 1 when there is one.
"""
import argparse
import json
import random
import subprocess
import sys

from tokenizers import Tokenizer

BLOCKS = [(0x20, 0x7E), (0x00, 0x1F), (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF),
          (0x900, 0xDFF), (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1680, 0x180F), (0x1E00, 0x1FFF), (0x2000, 0x206F),
          (0x2070, 0x24FF), (0x2580, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD),
          (0x10000, 0x1018F), (0x1D400, 0x1D7FF), (0x1F100, 0x1F6FF), (0x20000, 0x2A6DF), (0xE0000, 0xE01EF)]
SPACES = " \t\n\r\u000b\u000c\u0085\u00a0\u1680\u180e\u2003\u2028\u202f\u3000\u200b\u200d"
PIECES = ["'s", "'S", "'ſ", "'ll", "'RE", "123", "4567890", "Ⅷ", "½", "٣", "  ", "\r\n", "<0x0A>", "▁", "don't", "I'M",
          "e\u0301", "\u1100\u1161\u11a8", "👩‍👩‍👧", "ﬁ", "İ", "ß", "…", "_", "__init__", "\u0345\u0323\u0301"]


def random_text(rng, vocabulary, added):
    out = []
    for _ in range(rng.choice([1, 3, 8, 30, 80])):
        kind = rng.random()
        if kind < 0.35:
            low, high = rng.choice(BLOCKS)
            code = rng.randint(low, high)
            out.append("x" if 0xD800 <= code <= 0xDFFF else chr(code))
        elif kind < 0.5:
            out.append(rng.choice(SPACES) * rng.choice([1, 1, 2, 5]))
        elif kind < 0.65:
            out.append(rng.choice(PIECES))
        elif kind < 0.72 and added:
            out.append(rng.choice(added))
        else:
            out.append(rng.choice(vocabulary).replace("Ġ", " ").replace("▁", " "))
    return "".join(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-char", action="store_true", help="also each code point between letters")
    options = parser.parse_args()
    failed = 0
    for path in options.files:
        reference = Tokenizer.from_file(path)
        rng = random.Random(options.seed)
        vocabulary = sorted(reference.get_vocab())
        added = [t["content"] for t in json.load(open(path))["added_tokens"]]
        texts = [random_text(rng, vocabulary, added) for _ in range(options.rounds)]
        if options.every_char:
            texts += [f"a{chr(c)}b {chr(c)}{chr(c)} 1{chr(c)}2 .{chr(c)}." for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
        lines = "".join(json.dumps(t) + "\n" for t in texts)
        result = subprocess.run([options.program, path], input=lines, capture_output=True, text=True, encoding="utf-8")
        if result.returncode:
            print(path, result.stderr)
            failed += 1
            continue
        different = 0
        for text, line in zip(texts, result.stdout.split("\n")):
            got = json.loads(line)
            special = reference.encode(text, add_special_tokens=True).ids
            want = {"plain": reference.encode(text, add_special_tokens=False).ids, "special": special,
                    "text": reference.decode(special, skip_special_tokens=False),
                    "skipped": reference.decode(special, skip_special_tokens=True)}
            bad = [key for key in want if want[key] != got[key]]
            if bad:
                different += 1
                if different <= 5:
                    print(path, ascii(text), *[f"\n  {k}: want {ascii(want[k])}\n  {k}: got  {ascii(got[k])}" for k in bad])
        print(f"{path}: {len(texts)} texts, {different} differ", flush=True)
        failed += different
    return 1 if failed else 0


sys.exit(main())
