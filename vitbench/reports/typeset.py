"""The leaderboard typeset: LaTeX tables with booktabs rules, and one HTML document without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tabulate import SEPARATING_LINE

from vitbench.reports.grids import CONTINUED, Chapter, Grid, Line, summary
from vitbench.reports.leaderboard import Leaderboard
from vitbench.reports.markup import latex

_PREAMBLE = r"""% Needs \usepackage{booktabs,longtable,amssymb} and, for names, \usepackage[T1]{fontenc}.
% Written by `vitbench leaderboard --format tex`."""


def to_latex(board: Leaderboard, chapters: list[Chapter]) -> str:
    """One longtable per grid, to be input into a document."""
    blocks = [_PREAMBLE, f"% {summary(board)}"]
    for chapter in chapters:
        blocks.append(rf"\section*{{{latex(chapter.title)}}}" + "\n" + latex(" ".join(chapter.text)))
        blocks += [_latex_grid(grid) for grid in chapter.grids]
    return "\n\n".join(blocks) + "\n"


def _latex_grid(grid: Grid) -> str:
    columns = len(grid.headers)
    align = "l" * grid.left + "r" * (columns - grid.left)
    heads = " & ".join(latex(one_line(h)) for h in grid.headers)
    lines = [rf"\begin{{longtable}}{{@{{}}{align}@{{}}}}"]
    if grid.title:
        lines.append(rf"\caption*{{{latex(grid.title)}}}\\")
    lines += [r"\toprule", rf"{heads} \\", r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    for line in grid.lines:
        if not isinstance(line, str):
            indent = r"\quad " if line[0][:1] in "├└" and line[0] else ""
            cells = [latex(text).strip() for text in line]
            lines.append(indent + " & ".join(cells) + r" \\")
        elif _is_rule(line):
            lines.append(r"\midrule")
        else:
            lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{@{{}}l}}{{\textit{{{latex(line)}}}}} \\"]
    lines.append(r"\end{longtable}")
    lines += [rf"{{\footnotesize {latex(note)}\par}}" for note in grid.notes]
    return "\n".join(lines)


def to_html(board: Leaderboard, chapters: list[Chapter], problems: list[str]) -> str:
    """A document that opens without network or scripts; tables may be cut out of it."""
    from vitbench.reports.documents import render

    shown = [
        {
            "title": chapter.title,
            "text": " ".join(chapter.text),
            "grids": [_html_grid(grid) for grid in unfolded(chapter.grids)],
        }
        for chapter in chapters
    ]
    return render("board.html", title="Leaderboard", summary=summary(board), chapters=shown, problems=problems)


def unfolded(grids: Sequence[Grid]) -> list[Grid]:
    """Grids that were folded to the width of a terminal, as one each: a page scrolls."""
    out: list[Grid] = []
    for grid in grids:
        if not (out and grid.title.endswith(CONTINUED)):
            out.append(grid)
            continue
        first = out[-1]
        lines = tuple(_longer(a, b) for a, b in zip(first.lines, grid.lines, strict=True))
        headers, notes = (*first.headers, *grid.headers[1:]), (*first.notes, *grid.notes)
        out[-1] = replace(first, headers=headers, lines=lines, notes=notes)
    return out


def _longer(a: Line, b: Line) -> Line:
    return a if isinstance(a, str) or isinstance(b, str) else (*a, *b[1:])


def _html_grid(grid: Grid) -> dict[str, object]:
    lines = [_html_line(line) for line in grid.lines if isinstance(line, tuple) or not _is_rule(line)]
    return {
        "title": grid.title,
        "headers": [one_line(h) for h in grid.headers],
        "left": grid.left,
        "lines": lines,
        "notes": grid.notes,
    }


def _html_line(line: Line) -> tuple[bool, tuple[str, ...]]:
    """Whether it is a rule with a label, and its texts."""
    return (True, (line,)) if isinstance(line, str) else (False, line)


def one_line(header: str) -> str:
    """A header that was broken and hyphenated for narrow columns, whole again."""
    return header.replace("-\n", "").replace("\n", " ")


def _is_rule(line: str) -> bool:
    return not line or line == SEPARATING_LINE
