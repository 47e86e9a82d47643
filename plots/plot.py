#!/usr/bin/env python3
"""Draws the figures of a result folder: python plots/plot.py RESULTS [--out DIR]

Reads RESULTS/results.h5 and, through its links, the cells' samples; writes PNG and PDF into
RESULTS/plots. A figure whose metrics are missing is left out, with one line saying why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swbench_plots import figures, results, style


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="plot.py", description="Draws the figures of a swbench result folder."
    )
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="result folder of `swbench run`"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where figures go (default: RESULTS/plots)"
    )
    args = parser.parse_args(argv)
    try:
        rows = results.read(args.results)
        answers = results.read_answers(args.results, rows)
    except results.BadResults as e:
        print(f"plot.py: {e}", file=sys.stderr)
        return 2
    out = args.out or (args.results if args.results.is_dir() else args.results.parent) / "plots"
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = draw(rows, answers, out)
    except OSError as e:
        print(f"plot.py: {e.filename or out}: {e.strerror}", file=sys.stderr)
        return 2
    if not made:
        print(f"plot.py: {args.results}: nothing in it can be drawn", file=sys.stderr)
        return 2
    return 0


def draw(rows: list[results.Row], answers: dict[str, list[results.Answer]], out: Path) -> int:
    """Number of figures made; their paths go to stdout, reasons for those left out to stderr."""
    run = figures.Run.of(rows, answers)
    made = 0
    for name, figure in figures.FIGURES.items():
        try:
            made_of_it = figure(run)
        except figures.Skip as why:
            print(f"plot.py: {name} left out: {why}", file=sys.stderr)
            continue
        for suffix, fig in (
            made_of_it.items() if isinstance(made_of_it, dict) else [("", made_of_it)]
        ):
            print(*style.save(fig, out, name + suffix), sep="\n")
            made += 1
    return made


if __name__ == "__main__":
    sys.exit(main())
