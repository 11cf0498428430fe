#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes src/token/unicode/char_class_table.c and src/token/regex_table.c: what the `tokenizers` library takes each code
point for, and what its regular expressions (Oniguruma) hold that PCRE2's of the same name do not.

Asks the library itself (PyPI `tokenizers`), code point by code point, because its rules rest on the
Unicode versions of several crates. Needs libpcre2-8 (Debian 12's: Unicode 14) beside it.

    scripts/make_char_classes.py            writes the files
    scripts/make_char_classes.py --check    makes them again in memory and compares
"""

import ctypes
import os
import sys

from tokenizers import Regex, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEXT = os.path.join(ROOT, "src", "text")
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HEAD = """/* SPDX-License-Identifier: Apache-2.0 */
/* Written by scripts/make_char_classes.py from tokenizers %s; do not edit. */
#include "token/unicode/char_class.h"

// clang-format off
"""


def pieces(tokenizer, text):
    return [piece for piece, _ in tokenizer.pre_tokenize_str(text)]


def members(test):
    """Ranges [first, last] of the code points that the test takes."""
    out = []
    for c in POINTS:
        if not test(chr(c)):
            continue
        if out and (out[-1][1] == c - 1 or (c == 0xE000 and out[-1][1] == 0xD7FF)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def scripts():
    """Classes of the script splitter: 0 where it never cuts, else a number a script."""
    splitter = pre_tokenizers.UnicodeScripts()
    first = {}  # class -> a character of it
    of = {}
    last = 0
    for c in POINTS:
        ch = chr(c)
        if len(pieces(splitter, "a" + ch)) == 1 and len(pieces(splitter, "\u4e2d" + ch)) == 1:
            of[c] = 0
            continue
        if last and len(pieces(splitter, first[last] + ch)) == 1:
            of[c] = last
            continue
        for k, example in first.items():
            if len(pieces(splitter, example + ch)) == 1:
                last = k
                break
        else:
            last = len(first) + 1
            first[last] = ch
        of[c] = last
    out = []
    for c in POINTS:
        k = of[c]
        if out and out[-1][1] == c - 1 and out[-1][2] == k:
            out[-1][1] = c
        elif k:
            out.append([c, c, k])
    return out


def table(kind, name, rows):
    cells = ["{" + ", ".join(f"0x{v:X}" if i < 2 else str(v) for i, v in enumerate(row)) + "}" for row in rows]
    lines, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 100:
            lines.append(line)
            line = "   "
        line += " " + cell + ","
    lines.append(line)
    size = f"const size_t {name}_len = {len(rows)};\n"
    return f"const {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};\n" + size


def build():
    import tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    punctuation = pre_tokenizers.Punctuation()
    space = pre_tokenizers.WhitespaceSplit()
    words = pre_tokenizers.Whitespace()
    bert = pre_tokenizers.BertPreTokenizer()
    text = HEAD % tokenizers.__version__
    text += table("bt__char_range", "bt__char_number", members(lambda c: len(pieces(digits, "a" + c + "a")) == 3))
    punct = members(lambda c: len(pieces(punctuation, "a" + c + "a")) == 3)
    assert punct == members(lambda c: len(pieces(bert, "a" + c + "a")) == 3)
    text += table("bt__char_range", "bt__char_punct", punct)
    spaces = members(lambda c: len(pieces(space, "a" + c + "a")) == 2)
    assert spaces == members(lambda c: len(pieces(bert, "a" + c + "a")) == 2)
    assert spaces == members(lambda c: len(pieces(words, "a" + c + "a")) == 2)
    text += table("bt__char_range", "bt__char_space", spaces)
    text += table("bt__char_range", "bt__char_word", members(lambda c: len(pieces(words, "a" + c + "a")) == 1))
    text += table("bt__char_script", "bt__char_scripts", scripts())
    return text + "// clang-format on\n"


# Oniguruma's name of a set -> PCRE2's items for it, as src/token/regex_rewrite.c writes them.
PROPERTIES = {name: "\\p{" + name + "}" for name in
              "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Cf".split()}
PROPERTIES |= {name: "\\p{" + name + "}" for name in "Alphabetic Uppercase Lowercase Ideographic Emoji".split()}
PROPERTIES["sc:Han"] = "\\p{sc:Han}"
ONIGURUMA = {"sc:Han": "\\p{Han}", "w": "[\\w]"}  # outside of a class \w has six more
PROPERTIES["w"] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"


def oniguruma_set(pattern):
    splitter = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for piece, _ in splitter.pre_tokenize_str("".join(map(chr, POINTS))) for c in piece}


def pcre2_set(pattern):
    lib = ctypes.CDLL("libpcre2-8.so.0")
    for name in ("pcre2_compile_8", "pcre2_match_data_create_8", "pcre2_get_ovector_pointer_8"):
        getattr(lib, name).restype = ctypes.c_void_p
    error, at = ctypes.c_int(), ctypes.c_size_t()
    text = pattern.encode()
    options = 0x00080000 | 0x00020000  # UTF, UCP
    code = lib.pcre2_compile_8(text, ctypes.c_size_t(len(text)), options, ctypes.byref(error), ctypes.byref(at), None)
    assert code, pattern
    code = ctypes.c_void_p(code)
    data = ctypes.c_void_p(lib.pcre2_match_data_create_8(1, None))
    subject = "".join(map(chr, POINTS)).encode()
    span = ctypes.cast(lib.pcre2_get_ovector_pointer_8(data), ctypes.POINTER(ctypes.c_size_t))
    out, start = set(), ctypes.c_size_t(0)
    size, no_check = ctypes.c_size_t(len(subject)), 0x40000000
    while lib.pcre2_match_8(code, subject, size, start, no_check, data, None) > 0:
        out.update(map(ord, subject[span[0] : span[1]].decode()))
        start = ctypes.c_size_t(span[1])
    return out


def extra_items(name):
    ours = pcre2_set("[" + PROPERTIES[name] + "]+")
    theirs = oniguruma_set(ONIGURUMA.get(name, "\\p{" + name + "}"))
    assert len(ours - theirs) < 8, (name, sorted(ours - theirs)[:9])  # a few changed their category
    ranges = []
    for c in sorted(theirs - ours):
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return "".join(f"\\\\x{{{a:X}}}" + (f"-\\\\x{{{b:X}}}" if b > a else "") for a, b in ranges)


def build_regex():
    import tokenizers

    text = HEAD.replace("char_class.h", "regex_table.h") % tokenizers.__version__
    text += "const bt__regex_extra bt__regex_extras[] = {\n"
    rows = [(name, extra_items(name)) for name in PROPERTIES]
    rows = [row for row in rows if row[1]]
    for name, items in rows:
        text += f'    {{"{name}",\n' + "\n".join(f'     "{p}"' for p in cut_lines(items)) + "},\n"
    return text + "};\n" + f"const size_t bt__regex_extras_len = {len(rows)};\n// clang-format on\n"


def cut_lines(rest):
    out = []
    while rest:
        cut = rest.rfind("}", 0, 80) + 1 if len(rest) > 80 else len(rest)
        out.append(rest[:cut])
        rest = rest[cut:]
    return out


def main():
    files = {"char_class_table.c": build(), "regex_table.c": build_regex()}
    different = []
    for name, text in files.items():
        path = os.path.join(TEXT, name)
        if "--check" in sys.argv:
            with open(path, encoding="utf-8") as f:
                if f.read() != text:
                    different.append(name)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    if "--check" in sys.argv:
        print(", ".join(different) + " differ" if different else "equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
