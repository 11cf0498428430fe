#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts tables into docs/text.md: each FILE's Markdown table goes between the lines that name it.

    tables.py NAME=FILE ...        for example parity=OUT, OUT being what test-token-test_parity printed

The lines are <!-- NAME: begins --> and <!-- NAME: ends -->. Rows of a parity table that say the same of every check are
gathered by what stands before the first space of their name: `part` becomes one row.
"""

import os
import sys

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "docs", "text.md")


def gathered(rows):
    """Parts of pipelines that are all equal become one row; everything else stays as printed."""
    out, parts = [], []
    for row in rows:
        cells = [c.strip() for c in row.strip().strip("|").split("|")]
        equal = all(len(set(c.split("/"))) == 1 for c in cells[2:] if "/" in c)
        (parts if cells[0].startswith("part ") and equal else out).append((cells, row))
    if parts:
        sums = [[tuple(map(int, cells[i].split("/"))) for cells, _ in parts] for i in range(2, len(parts[0][0]))]
        strings = sum(int(cells[1]) for cells, _ in parts)
        totals = [f"{sum(a for a, _ in s)}/{sum(b for _, b in s)}" for s in sums]
        out.append((None, f"| {len(parts)} single parts | {strings} | " + " | ".join(totals) + " |"))
    return [row for _, row in out]


def main(args):
    with open(DOCS, encoding="utf-8") as f:
        text = f.read()
    for arg in args:
        name, _, path = arg.partition("=")
        with open(path, encoding="utf-8") as f:
            lines = [x.rstrip() for x in f if x.startswith("|")]
        if name.startswith("parity"):
            lines = lines[:2] + gathered(lines[2:])
        begins, ends = f"<!-- {name}: begins -->\n", f"<!-- {name}: ends -->\n"
        head, rest = text.split(begins)
        text = head + begins + "\n".join(lines) + "\n" + ends + rest.split(ends)[1]
    with open(DOCS, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
