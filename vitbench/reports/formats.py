"""The leaderboard written out: text for a terminal, Markdown, CSV, JSON, HTML and LaTeX. The same records give the same bytes."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tabulate import SEPARATING_LINE, tabulate

from vitbench.reports import typeset
from vitbench.reports.grids import CONTINUED, WIDTH, Grid, summary
from vitbench.reports.groupings import By, chapters_by
from vitbench.reports.leaderboard import Leaderboard, Missing, Row, Table
from vitbench.reports.markup import markdown

_SHOWN_PROBLEMS = 5
_MARKDOWN_WIDTH = 200  # what shows Markdown scrolls, but who scrolls past twenty columns has lost the first


def to_text(board: Leaderboard, by: By = "task", tables: bool = True) -> str:
    """For a terminal, 120 columns wide where names allow; `tables=False` leaves out the long chapter."""
    blocks = [f"vitbench leaderboard\n{textwrap.fill(summary(board), WIDTH)}"]
    for chapter in chapters_by(board, by, tables):
        lines = "\n".join(textwrap.fill(line, WIDTH) for line in chapter.text)
        blocks.append(f"{chapter.title.upper()}\n{lines}")
        blocks += [_text_grid(grid) for grid in chapter.grids]
    return "\n\n".join([*blocks, *_problems(board)]) + "\n"


def _text_grid(grid: Grid) -> str:
    columns = len(grid.headers)
    # Headers as body rows: tabulate pads real ones by two, which costs a fifth of the width.
    heads = [h.split("\n") for h in grid.headers]
    depth = max(map(len, heads))
    body: list[Any] = [list(row) for row in zip(*([""] * (depth - len(h)) + h for h in heads), strict=True)]
    for line in (SEPARATING_LINE, *grid.lines):
        if not isinstance(line, str):
            body.append(line)
        elif line == SEPARATING_LINE or not line:
            body.append(SEPARATING_LINE)
        else:
            body += [SEPARATING_LINE] if body[-1] != SEPARATING_LINE else []
            body.append([line, *[""] * (columns - 1)])
    aligned = ["left" if i < grid.left else "right" for i in range(columns)]
    wrapped: list[int | None] | None = [None, None, 46, 46] if grid.left == columns else None
    table = tabulate(body, tablefmt="simple", disable_numparse=True, colalign=aligned, maxcolwidths=wrapped)
    notes = [textwrap.fill(note, WIDTH) for note in grid.notes]
    return "\n".join([*([grid.title] if grid.title else []), table, *notes])


def to_markdown(board: Leaderboard, by: By = "task") -> str:
    """GitHub Markdown: one heading per chapter, one table per grid."""
    blocks = ["# Leaderboard", markdown(summary(board))]
    for chapter in chapters_by(board, by):
        blocks += [f"## {chapter.title}", markdown(" ".join(chapter.text))]
        parts = (p for grid in typeset.unfolded(chapter.grids) for p in typeset.refolded(grid, _MARKDOWN_WIDTH))
        for part in parts:
            blocks += [_markdown_title(part.title)] if part.title else []
            blocks.append(_markdown_grid(part))
            blocks += [markdown(note) for note in part.notes]
    return "\n\n".join([*blocks, *[markdown(p) for p in _problems(board)]]) + "\n"


def _markdown_title(title: str) -> str:
    return f"*{title}*" if title == CONTINUED else f"### {markdown(title)}"


def _markdown_grid(grid: Grid) -> str:
    columns = len(grid.headers)
    rows = []
    for line in grid.lines:
        if not isinstance(line, str):
            rows.append([markdown(text) for text in line])
        elif line:
            rows.append([f"**{markdown(line)}**", *[""] * (columns - 1)])
    headers = [markdown(typeset.one_line(h)) for h in grid.headers]
    aligned = ["left" if i < grid.left else "right" for i in range(columns)]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned)


def _problems(board: Leaderboard) -> list[str]:
    if not board.problems:
        return []
    shown = [f"warning: {problem}" for problem in board.problems[:_SHOWN_PROBLEMS]]
    more = len(board.problems) - _SHOWN_PROBLEMS
    return ["\n".join([*shown, *([f"warning: and {more} more files that are no records"] if more > 0 else [])])]


CSV_COLUMNS = (
    *("task", "version", "dataset", "variant", "metric", "unit", "higher_is_better"),
    *("section", "backbone", "repair", "negative_control", "seed", "status"),
    *("value", "ci_low", "ci_high", "groups", "seeds", "incomplete", "rank_low", "rank_high"),
    *("difference", "difference_ci_low", "difference_ci_high", "p", "p_adjusted", "mark"),
    *("recovery", "recovery_ci_low", "recovery_ci_high"),
    *("forwards_per_image", "fit_seconds", "extra_parameters", "peak_memory_bytes"),
    *("published", "published_source", "published_confidence", "published_flag", "gap", "gap_in_noise"),
    *("flags", "reason", "remedy"),
)


def to_csv(board: Leaderboard, _by: By = "task") -> str:
    """One line per row of every table, then one per cell without a number. Empty where there is nothing."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for table in board.tables:
        for row in table.rows:
            writer.writerow(_csv_texts(_csv_row(table, row)))
    for missing in board.missing:
        writer.writerow(_csv_texts(_csv_missing(missing)))
    return sink.getvalue()


def _csv_row(table: Table, row: Row) -> dict[str, Any]:
    change, back = row.difference, row.recovery
    known = row.published[0] if row.published else None
    measured = row.value
    out = {name: getattr(table, name) for name in CSV_COLUMNS[:7]}
    out |= {name: getattr(row, name, "") for name in CSV_COLUMNS[7:]}
    return out | {
        "negative_control": row.control,
        "seed": "",
        "status": "ok",
        "rank_low": row.rank and row.rank[0],
        "rank_high": row.rank and row.rank[1],
        "difference": change and change.delta,
        "difference_ci_low": change and change.ci_low,
        "difference_ci_high": change and change.ci_high,
        "p": change and change.p,
        "recovery": back and back.value,
        "recovery_ci_low": back and back.ci_low,
        "recovery_ci_high": back and back.ci_high,
        "published": known and known.value,
        "published_source": known and known.source,
        "published_confidence": known and known.confidence,
        "published_flag": known and known.flag,
        "gap": None if known is None or measured is None else measured - known.value,
        "gap_in_noise": None if known is None or measured is None else known.gap_in_noise(measured),
        "flags": " ".join(row.flags),
        "reason": row.note or (change.note if change else "") or (back.reason if back else ""),
    }


def _csv_missing(missing: Missing) -> dict[str, Any]:
    return {**missing.slot.as_dict(), "status": missing.status, "reason": missing.reason, "remedy": missing.remedy}


def _csv_texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(_rounded(value)) for name, value in row.items()}


def to_json(board: Leaderboard, _by: By = "task") -> str:
    """Everything, as nested objects; numbers to seven significant digits."""
    return json.dumps(_rounded(asdict(board)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    # Seven digits: more than any interval resolves, and the same whichever BLAS summed.
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def to_html(board: Leaderboard, by: By = "task") -> str:
    """One HTML document without scripts."""
    return typeset.to_html(board, chapters_by(board, by), _problems(board))


def to_tex(board: Leaderboard, by: By = "task") -> str:
    """LaTeX tables with booktabs rules, to be input into a document."""
    return typeset.to_latex(board, chapters_by(board, by))


FORMATS: Mapping[str, Callable[[Leaderboard, By], str]] = {
    "text": to_text,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "html": to_html,
    "tex": to_tex,
}
