"""Speed, memory and scale of vitbench, as ratios within one run: `python -m benchmarks.speed [NAME ...]` (or `tox -e speed`).

Every module here has `measure() -> list[Figure]`. A figure has a value, a unit and the target it is held against; nothing fails,
because the machine decides: the table is for people.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tabulate import tabulate

NAMES = (
    "startup",
    "scenes",
    "indexing",
    "decoding",
    "extraction",
    "maps",
    "edits",
    "boxes_and_videos",
    "stream_heads",
    "scale",
    "statistics",
    "lab_run",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed", description="Ratios within one run, beside their aims."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(NAMES)}")
    names = parser.parse_args().names
    if unknown := [n for n in names if n not in NAMES]:
        parser.error(f"unknown measurement {unknown[0]!r}; there are {', '.join(NAMES)}")
    rows = []
    for name in names or NAMES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        for figure in importlib.import_module(f"benchmarks.speed.{name}").measure():
            rows.append((figure.name, figure.text, figure.target))
            print(f"  {figure.name}: {figure.text} (target {figure.target})", file=sys.stderr, flush=True)
    print(tabulate(rows, headers=("figure", "measured", "target"), tablefmt="github"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
