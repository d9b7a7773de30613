"""The leaderboard typeset: LaTeX tables with booktabs rules, and one HTML document without scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tabulate import SEPARATING_LINE

from vitbench.reports.grids import CONTINUED, Chapter, Grid, Line, folded, summary
from vitbench.reports.leaderboard import Leaderboard
from vitbench.reports.markup import latex

_PREAMBLE = r"""% Needs \usepackage{array,booktabs,longtable,amssymb} and, for names, \usepackage[T1]{fontenc}.
% As wide as A4 with \usepackage[margin=15mm]{geometry}. Written by `vitbench leaderboard --format tex`."""
_WIDTH = 132  # letters on a line of that width
_PROSE = r">{\raggedright\arraybackslash}p{.36\linewidth}"


def to_latex(board: Leaderboard, chapters: list[Chapter]) -> str:
    """One longtable per grid, to be input into a document."""
    blocks = [_PREAMBLE, f"% {summary(board)}"]
    for chapter in chapters:
        blocks.append(rf"\section*{{{latex(chapter.title)}}}" + "\n" + latex(" ".join(chapter.text)))
        blocks += [_latex_grid(part) for grid in unfolded(chapter.grids) for part in refolded(grid, _WIDTH)]
    return "\n\n".join(blocks) + "\n"


def _latex_grid(grid: Grid) -> str:
    columns = len(grid.headers)
    align = "l" * grid.left + "r" * (columns - grid.left)
    prose = grid.left == columns
    if prose:
        align = "l" * (columns - 2) + _PROSE * 2
    heads = " & ".join(_latex_head(h, "l" if i < grid.left else "r") for i, h in enumerate(grid.headers))
    lines = [r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"]
    lines += [rf"\begin{{longtable}}{{@{{}}{align}@{{}}}}"]
    if grid.title:
        lines.append(rf"\caption*{{{latex(grid.title)}}}\\")
    lines += [r"\toprule", rf"{heads} \\", r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    for line in grid.lines:
        if not isinstance(line, str):
            indent = r"\quad " if line[0][:1] in "├└" and line[0] else ""
            cells = [(_prose(text) if prose else latex(text)).strip() for text in line]
            lines.append((indent or "{}") + " & ".join(cells) + r" \\")  # a row may begin with [ or *
        elif _is_rule(line):
            lines.append(r"\midrule")
        else:
            lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{@{{}}l}}{{\textit{{{latex(line)}}}}} \\"]
    lines.append(r"\end{longtable}")
    lines += [rf"{{\raggedright {_prose(note)}\par}}" for note in grid.notes]
    return "\n".join([*lines, r"\endgroup"])


def _prose(text: str) -> str:
    """Text whose long names may be broken after an underscore, a comma or a bracket."""
    return re.sub(r"(\\_|[,\[@])(?=\S)", r"\1\\allowbreak{}", latex(text))


def _latex_head(header: str, side: str) -> str:
    """A header as high as it was broken for narrow columns, its last line on that of the others."""
    parts = header.split("\n")
    stack = r"\\{}".join(map(latex, parts))  # \\[ would be a distance
    return stack if len(parts) == 1 else rf"\shortstack[{side}]{{{stack}}}"


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


def refolded(grid: Grid, width: int) -> list[Grid]:
    """The grid in as many parts as it takes for each to fit the width; its notes come after the last."""
    if grid.left > 1:
        return [grid]
    *first, last = folded(grid.title, grid.headers[0], grid.headers[1:], grid.lines, width)
    return [*first, replace(last, notes=grid.notes)]


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
