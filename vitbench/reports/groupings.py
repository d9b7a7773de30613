"""The leaderboard by task family or by backbone: the same tables, cut otherwise. No number is made here."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vitbench.reports.cells import family_of
from vitbench.reports.checkpoints import checkpoint_chapter
from vitbench.reports.grids import (
    Chapter,
    Grid,
    Line,
    chapters,
    effects,
    folded,
    header_of,
    overview,
    status,
    table_grids,
)
from vitbench.reports.leaderboard import SECTIONS, Leaderboard, Row, Table
from vitbench.reports.numbers import NOTHING, Numbers, number_text, rank_text

By = Literal["task", "family", "backbone"]
_FAMILIES = {
    "dense": "what patches are for: segmentation, depth, objects, correspondence",
    "image": "what the whole image is for: classification, retrieval",
    "video": "what patches of one frame say of the next",
    "correspondence": "whether the same point or object is found again",
    "probe": "what is linearly readable; described, never averaged",
    "diagnostic": "what the tokens look like; described, never averaged",
}


def chapters_by(board: Leaderboard, by: By, tables: bool = True) -> list[Chapter]:
    """The chapters of a leaderboard: by task (as it stands), by family of tasks, or a chapter per backbone."""
    if by == "task":
        found = chapters(board, tables)
        return [c for c in (*found[:1], checkpoint_chapter(board), *found[1:]) if c.grids]
    made = _families(board, tables) if by == "family" else _backbones(board)
    return [*made, *[c for c in (Chapter("Without a number", (), status(board.missing)),) if c.grids]]


def _families(board: Leaderboard, tables: bool) -> list[Chapter]:
    made = []
    for family in dict.fromkeys([*_FAMILIES, *(family_of(t.task) for t in board.tables)]):
        part = replace(board, tables=tuple(t for t in board.tables if family_of(t.task) == family))
        grids = [*overview(part), *effects(part)]
        grids += [g for t in part.tables for g in table_grids(part, t)] if tables else []
        if grids:
            made.append(
                Chapter(f"{family.capitalize()} tasks", (f"{_FAMILIES.get(family, '')}.".lstrip("."),), tuple(grids))
            )
    return made


def _backbones(board: Leaderboard) -> list[Chapter]:
    """Per backbone: its repairs x tasks, each with value, mark and rank, and what the repair costs."""
    main = [t for t in board.tables if not t.variant]
    names = [r.backbone for s in SECTIONS for t in main for r in t.rows if r.section == s]
    return [_backbone(board, main, name) for name in dict.fromkeys(names)]


def _backbone(board: Leaderboard, main: list[Table], name: str) -> Chapter:
    numbers = [Numbers(t) for t in main]
    rows = {(r.repair, i): r for i, t in enumerate(main) for r in t.rows if r.backbone == name}
    columns = [i for i in range(len(main)) if any((repair, i) in rows for repair, _ in rows)]
    repairs = dict.fromkeys(repair for repair, _ in rows)
    ordered = sorted(repairs, key=lambda repair: (repair != board.baseline, repair))
    lines: list[Line] = []
    for repair in ordered:
        own = [rows.get((repair, i)) for i in columns]
        known = [row for row in own if row is not None]
        sign = "°" if any(row.control for row in known) else ""
        texts = [_text(row, numbers[i]) for row, i in zip(own, columns, strict=True)]
        lines.append((repair + sign, *texts, *_costs(known)))
    headers = [*(header_of(board, main[i]) for i in columns), "fwd", "fit s", "+par", "mem"]
    grids: tuple[Grid, ...] = folded("", "repair", headers, lines)
    text = f"Value, mark of the paired difference to {board.baseline}, and the ranks among all rows of that task."
    return Chapter(name, (text,), grids)


def _text(row: Row | None, number: Numbers) -> str:
    if row is None:
        return NOTHING
    rank = f" ({rank_text(row.rank)})" if row.rank else ""
    return f"{number.value(row.value)}{'*' if row.incomplete else ''} {row.mark}".rstrip() + rank


def _costs(rows: list[Row]) -> tuple[str, ...]:
    """The largest over the tasks, of which each may ask for other passes."""
    names = ("forwards_per_image", "fit_seconds", "extra_parameters", "peak_memory_bytes")
    return tuple(number_text(max((v for r in rows if (v := getattr(r, n)) is not None), default=None)) for n in names)
