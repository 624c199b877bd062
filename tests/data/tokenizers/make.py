# SPDX-License-Identifier: Apache-2.0
"""Writes components.json beside this file: small tokenizers that each use one odd component, and what the
`tokenizers` package (0.23.3) makes of some texts. Run it with a Python that has that package."""
import json
import pathlib

from tokenizers import Tokenizer


def byte_chars():
    same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = iter(range(0x100, 0x200))
    return [chr(b) if b in same else chr(next(extra)) for b in range(256)]


def byte_model(**more):
    vocab = {c: i for i, c in enumerate(byte_chars())}
    merges = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["l", "l"], ["e", "ll"], ["h", "ell"], ["hell", "o"], ["Ġ", "Ġ"],
              ["1", "2"], ["12", "3"], ["Ã", "©"], ["a", "a"], ["aa", "aa"], ["Ġ", "w"], ["o", "r"], ["Ġw", "or"]]
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": merges, **more}


def piece_model(byte_fallback=True, fuse=True, **more):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    if byte_fallback:
        for b in range(256):
            vocab[f"<0x{b:02X}>"] = len(vocab)
    for c in "▁abcdehllortwTHW123é,.'!":
        vocab.setdefault(c, len(vocab))
    merges = ["▁ t", "h e", "▁t he", "l l", "e ll", "h ell", "hell o", "▁ w", "o r", "▁w or", "▁ ▁", "▁ h", "▁h ell"]
    for merge in merges:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": fuse, "byte_fallback": byte_fallback, "ignore_merges": False,
            "vocab": vocab, "merges": merges, **more}


def added(first, *tokens):
    base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return [{"id": first + i, "content": content, **{**base, **{f: True for f in flags}}}
            for i, (content, *flags) in enumerate(tokens)]


BYTE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTE_REGEX = {**BYTE, "use_regex": True}
N = len(byte_model()["vocab"])


def case(model, pre=None, norm=None, post=None, dec=None, tokens=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens), "normalizer": norm,
            "pre_tokenizer": pre, "post_processor": post, "decoder": dec, "model": model}


def byte_case(*steps, **more):
    return case("byte", {"type": "Sequence", "pretokenizers": [*steps, BYTE]}, dec=BYTE, **more)


def split(pattern, behavior, invert=False):
    kind = "Regex" if pattern.startswith("/") else "String"
    return {"type": "Split", "pattern": {kind: pattern.lstrip("/")}, "behavior": behavior, "invert": invert}


def metaspace(scheme, do_split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": do_split}


SPM_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def template(*parts):
    special = {p: {"id": p, "ids": ids, "tokens": [p]} for p, ids in parts if p != "A"}
    single = [{"Sequence": {"id": "A", "type_id": 0}} if p == "A" else {"SpecialToken": {"id": p, "type_id": 0}}
              for p, _ in parts]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def cases():
    models = {"byte": byte_model(), "byte-ignore": byte_model(ignore_merges=True), "piece": piece_model(),
              "piece-unk": piece_model(byte_fallback=False), "piece-unk-single": piece_model(byte_fallback=False, fuse=False),
              "suffix": {**piece_model(byte_fallback=False), "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>",
                         "vocab": {"<unk>": 0, "h": 1, "##e": 2, "##l": 3, "##o</w>": 4, "he": 5, "hel": 6, "o</w>": 7},
                         "merges": ["h ##e", "he ##l"]}}
    out = {}
    flags = [("lstrip",), ("rstrip",), ("single_word",), ("lstrip", "rstrip"), ("single_word", "lstrip", "rstrip")]
    for f in flags:
        out["added " + "+".join(f)] = case("byte", BYTE_REGEX, dec=BYTE, tokens=added(N, ("<m>", *f), ("<mask>", *f), ("the", *f)))
    out["added special"] = case("byte", BYTE_REGEX, dec=BYTE, tokens=added(
        N, ("<s>", "special"), ("<s>x", "special", "rstrip"), (" ", "rstrip"), ("é", "special"), ("hello",)))
    out["added normalized"] = case("byte", BYTE_REGEX, {"type": "Lowercase"}, dec=BYTE, tokens=added(
        N, ("HELLO", "normalized"), ("The", "normalized", "special"), ("WOR",), ("CAFÉ", "normalized", "single_word")))
    out["added nfc"] = case("byte", BYTE_REGEX, {"type": "NFC"}, dec=BYTE, tokens=added(N, ("e\u0301", "normalized"), ("o\u0308",)))
    for norm in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        out[norm] = case("byte", BYTE_REGEX, {"type": norm}, dec=BYTE)
    out["NFD StripAccents Lowercase"] = case("byte", BYTE_REGEX, {"type": "Sequence", "normalizers": [
        {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}, dec=BYTE)
    out["Strip both"] = case("byte", BYTE_REGEX, {"type": "Strip", "strip_left": True, "strip_right": True}, dec=BYTE)
    out["Strip, Metaspace first"] = case("piece", metaspace("first", True), {
        "type": "Strip", "strip_left": True, "strip_right": False}, dec=metaspace("first", True))
    out["Replace regex"] = case("byte", BYTE_REGEX, {"type": "Replace", "pattern": {"Regex": r"\s{2,}|l+"}, "content": "$1"}, dec=BYTE)
    out["normalizer ByteLevel"] = case("byte", split("/\\w+|[^\\w]+", "Isolated"), {"type": "ByteLevel"}, dec=BYTE)
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            out[f"Split {behavior} {invert}"] = byte_case(split("l", behavior, invert))
        out[f"Split regex {behavior}"] = byte_case(split(r"/[\s.,]", behavior))
        out[f"Punctuation {behavior}"] = byte_case({"type": "Punctuation", "behavior": behavior})
    for i, pattern in enumerate((r"\p{L}++|\h", r"\d{1,3}+", r"[^\S\n]+", r"\b\w", r"^.|$", r"(?m:l.o)|(?<=h)e",
                                 r"\p{Han}|\p{^L}", r"\u0068[[:alpha:]]", r"[\p{L}\p{M}]+|x*?", r"(?:12){2}?|l{1,}")):
        out[f"pattern {i}"] = byte_case(split("/" + pattern, "Isolated"))
    out["Digits individual"] = byte_case({"type": "Digits", "individual_digits": True})
    out["Digits"] = byte_case({"type": "Digits", "individual_digits": False})
    out["Whitespace"] = byte_case({"type": "Whitespace"})
    out["WhitespaceSplit"] = byte_case({"type": "WhitespaceSplit"})
    out["ByteLevel prefix"] = case("byte", {**BYTE_REGEX, "add_prefix_space": True}, dec=BYTE, tokens=added(N, ("<s>", "special")))
    out["ignore_merges"] = case("byte-ignore", BYTE_REGEX, dec=BYTE)
    for scheme in ("always", "first", "never"):
        for do_split in (True, False):
            out[f"Metaspace {scheme} {do_split}"] = case("piece", metaspace(scheme, do_split), dec=metaspace(scheme, do_split),
                                                         tokens=added(1, ("<s>", "special"), ("</s>", "special", "rstrip")))
    for model in ("piece", "piece-unk", "piece-unk-single"):
        out["legacy " + model] = case(model, None, {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            template(("<s>", [1]), ("A", 0), ("</s>", [2, 2])), SPM_DECODER, added(1, ("<s>", "special"), ("</s>", "special")))
    out["decoder Strip ends"] = case("piece", metaspace("always", False), dec={"type": "Sequence", "decoders": [
        {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "Strip", "content": " ", "start": 2, "stop": 2}]})
    out["decoder Strip tokens"] = case("piece", metaspace("always", False), dec={"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Strip", "content": "▁", "start": 1, "stop": 1}]})
    out["decoder none"] = case("piece", metaspace("always", True))
    out["prefix and suffix"] = case("suffix", {"type": "WhitespaceSplit"})
    tokens = added(N, ("<s>", "special"), ("</s>", "special"))
    out["Bert"] = case("byte", BYTE_REGEX, post={"type": "BertProcessing", "sep": ["</s>", N + 1], "cls": ["<s>", N]}, dec=BYTE, tokens=tokens)
    out["Roberta"] = case("byte", BYTE_REGEX, post={"type": "RobertaProcessing", "sep": ["</s>", N + 1], "cls": ["<s>", N],
                                                   "trim_offsets": True, "add_prefix_space": False}, dec=BYTE, tokens=tokens)
    out["Sequence of processors"] = case("byte", BYTE_REGEX, post={"type": "Sequence", "processors": [
        BYTE, template(("</s>", [N + 1]), ("A", 0), ("<s>", [N, N + 1])), BYTE]}, dec=BYTE, tokens=tokens)
    return models, out


TEXTS = ["", " ", "hello", "  Hello the WORLD,  hello!", "the<m>  <mask> the,the there", "a<s> </s>  b <s>x  y", " \t\nhe\r\n  l.o ll",
         "caf\u00e9 cafe\u0301 CAF\u00c9 \u00d6 o\u0308 \ufb01 \u0130\u00df", "123 4567, 1212 \u0663\u00bd\u2167 12a", "\u4f60\u597d \u4e16\u754c\u3002 \U0001f469\u200d\U0001f469",
         "\u180e\u00a0\u2003\u0085x\u200b_y\u24b6", "aaaaaaa aa  a\u2581b \u2581 the", "it's $5.00 + x_1 (ok)? \u201cq\u201d",
         "   <s>   hello  ", "line one\nline two\n\n", "\u0001\u0301\u0327a\u0323\u0301", "helo o hel"]


def decoded(tokenizer, ids, skip):
    try:
        return tokenizer.decode(ids, skip_special_tokens=skip)
    except BaseException as error:  # the package's Strip decoder panics on a text shorter than what it may strip
        if type(error).__name__ != "PanicException":
            raise
        return None


def main():
    models, tokenizers = cases()
    document = {"models": models, "texts": TEXTS, "cases": []}
    for name, data in tokenizers.items():
        tokenizer = Tokenizer.from_str(json.dumps({**data, "model": models[data["model"]]}))
        results = []
        for text in TEXTS:
            special = tokenizer.encode(text, add_special_tokens=True).ids
            results.append({"plain": tokenizer.encode(text, add_special_tokens=False).ids, "special": special,
                            "text": decoded(tokenizer, special, False),
                            "skipped": decoded(tokenizer, special, True)})
        document["cases"].append({"name": name, "tokenizer": data, "results": results})
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in document.pop("cases"))
    head = json.dumps(document, separators=(",", ":"))[:-1]
    pathlib.Path(__file__).with_name("components.json").write_text(f'{head},"cases":[\n{lines}\n]}}\n')
    print(len(tokenizers), "cases")


main()
