"""LaTeX that LaTeX accepts, HTML that holds nothing but text, and the same numbers however the tables are cut."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vitbench.records.index import Entry, Loaded
from vitbench.records.schema import Record
from vitbench.reports.formats import FORMATS
from vitbench.reports.grids import CONTINUED
from vitbench.reports.groupings import By, chapters_by
from vitbench.reports.leaderboard import Leaderboard, Missing, build
from vitbench.reports.markup import latex, markdown, xml
from vitbench.reports.published import Reference

SEG = "linear_segmentation@ridge"
KEY = ("lab_ssl", "none", SEG, "scenes", "miou")
ALL_BY: tuple[By, ...] = ("task", "family", "backbone")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[], Loaded]) -> Leaderboard:
    loaded = make_lab()
    odd = [e._replace(flags=("50%_&_#1",)) if i == 0 else e for i, e in enumerate(loaded.entries)]
    return build(replace(loaded, entries=tuple(odd)))


@pytest.mark.parametrize("by", ALL_BY)
def test_latex_tables_have_rules_and_as_many_cells_as_columns(lab: Leaderboard, by: By) -> None:
    text = FORMATS["tex"](lab, by)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{longtable}")
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") > 3
    for table in re.findall(r"\\begin\{longtable\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end\{longtable\}", text, re.DOTALL):
        align, body = table
        for line in body.splitlines():
            if line.endswith(r" \\") and r"\multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(align) - 1, line


def test_latex_holds_no_sign_that_it_would_read_as_markup(lab: Leaderboard) -> None:
    text = "\n".join(line for line in FORMATS["tex"](lab, "task").splitlines() if line[:1] != "%")
    assert sorted(set(text) - set(map(chr, range(128)))) == []
    assert r"50\%\_\&\_\#1" in text.replace(r"\allowbreak{}", "")
    assert latex(r"a\b{c}_$^~") == r"a\textbackslash{}b\{c\}\_\$\textasciicircum{}\textasciitilde{}"
    outside = re.sub(r"\$\\[A-Za-z]+\$|\$-\$|\$\^\\circ\$", "", text)
    assert not re.search(r"(?<!\\)[_#$^~]", outside)


DOCUMENT = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[margin=15mm]{geometry}
\usepackage{array,booktabs,longtable,amssymb}
\begin{document}
\input{board}
\end{document}
"""
ODD = r"50%_&_#1 \a{b}^~ $x$ -- <|> `c` \\[2] café 表 ▲ " + "\n\n*[d]"


def compiled(text: str, folder: Path) -> str:
    """The log of LaTeX on a document that holds the tables; twice, for `longtable` learns its widths in the first run."""
    for package in ("pdflatex", "kpsewhich"):
        if shutil.which(package) is None:
            pytest.skip(f"no {package} (Debian: texlive-latex-base texlive-latex-recommended)")
    styles = ["array.sty", "booktabs.sty", "longtable.sty", "amssymb.sty", "geometry.sty"]
    found = subprocess.run(["kpsewhich", *styles], capture_output=True, text=True, check=False).stdout.split()
    if len(found) < len(styles):
        pytest.skip("LaTeX lacks a package (Debian: texlive-latex-recommended)")
    (folder / "board.tex").write_text(text, encoding="utf-8")
    (folder / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    return (folder / "document.log").read_text(errors="replace")


@pytest.mark.parametrize("by", ALL_BY)
def test_latex_compiles_and_no_table_is_wider_than_the_page(lab: Leaderboard, by: By, tmp_path: Path) -> None:
    log = compiled(FORMATS["tex"](lab, by), tmp_path)
    assert not re.findall(r"Overfull \\hbox \(\d{2,}.*", log)
    assert "Missing character" not in log


def test_latex_compiles_whatever_names_and_reasons_hold(tmp_path: Path, scored: Callable[..., Record]) -> None:
    first = Entry.of(scored("[x]*" + ODD, "none", SEG, 60.0))
    entries = [first, first._replace(slot=replace(first.slot, repair="*" + ODD), flags=(ODD,))]
    lost = Missing(replace(first.slot, seed=1), "failed", ODD, ODD)
    known = (Reference(58.0, ODD, "paper", 0.5, ODD),)
    board = replace(build(Loaded(tuple(entries))), missing=(lost,))
    rows = tuple(replace(r, published=known) for r in board.tables[0].rows)
    compiled(FORMATS["tex"](replace(board, tables=(replace(board.tables[0], rows=rows),)), "task"), tmp_path)


class Tags(HTMLParser):
    """Counts the tags of a document, and what is open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("by", ALL_BY)
def test_html_is_well_formed_and_has_neither_scripts_nor_requests(lab: Leaderboard, by: By) -> None:
    text = FORMATS["html"](lab, by)
    tags = Tags(text)
    assert tags.open == []
    grids = [g for c in chapters_by(lab, by) for g in c.grids]
    assert tags.seen["table"] == sum(not g.title.endswith(CONTINUED) for g in grids)
    assert tags.seen["th"] == sum(len(g.headers) - g.title.endswith(CONTINUED) for g in grids)
    assert "script" not in tags.seen
    assert not re.search(r"(src|href)=", text)


def test_html_shows_names_as_text(scored: Callable[..., Record]) -> None:
    entry = Entry.of(scored("<script>alert(1)</script>", "none", SEG, 60.0))
    page = FORMATS["html"](build(Loaded((entry,))), "task")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by", ALL_BY)
def test_the_same_records_give_the_same_bytes_in_every_format(
    name: str, by: By, make_lab: Callable[[], Loaded]
) -> None:
    loaded = make_lab()
    turned = replace(loaded, entries=tuple(reversed(loaded.entries)))
    assert FORMATS[name](build(loaded), by) == FORMATS[name](build(turned), by)


def test_families_hold_their_tasks_and_probes_enter_no_mean(lab: Leaderboard) -> None:
    families = {c.title: c for c in chapters_by(lab, "family")}
    assert list(families)[:4] == ["Dense tasks", "Image tasks", "Probe tasks", "Diagnostic tasks"]
    heads = {name: " ".join(chapter.grids[0].headers) for name, chapter in families.items()}
    assert "object" in heads["Dense tasks"]
    assert "mean" in heads["Dense tasks"]
    assert "mean" not in heads["Probe tasks"]


def test_a_backbone_has_a_row_per_repair_with_its_costs(lab: Leaderboard) -> None:
    (chapter,) = [c for c in chapters_by(lab, "backbone") if c.title == "lab_ssl"]
    first = [line[0] for line in chapter.grids[0].lines if isinstance(line, tuple)]
    assert first[0] == "none"
    assert {"zscore", "random_dims°"} <= set(first)
    assert [h for g in chapter.grids for h in g.headers][-4:] == ["fwd", "fit s", "+par", "mem"]


def test_a_published_value_stands_beside_the_measured_one_with_gap_and_source(scored: Callable[..., Record]) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))._replace(value=60.0, n=500)
    known = (Reference(58.0, "A et al. 2025", "paper", 0.5), Reference(61.0, "B et al. 2024", "secondary"))
    board = build(Loaded((entry,)), published={KEY: known})
    text = FORMATS["text"](board, "task")
    assert "58.0+" in text
    assert "+2.0 (+4.0n)" in text
    assert "published, A et al. 2025 (paper): lab_ssl none 58.0" in text
    line = FORMATS["csv"](board, "task").splitlines()[1]
    assert "58.0,A et al. 2025,paper,,2.0,4.0" in line
    plain = build(Loaded((entry,)))
    assert "published" not in FORMATS["text"](plain, "task").replace("measured - published", "").replace(
        "the published", ""
    )


def test_a_suspect_published_value_is_marked(scored: Callable[..., Record]) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))._replace(n=500)
    board = build(Loaded((entry,)), published={KEY: (Reference(30.8, "C", "paper", flag="suspected degenerate"),)})
    text = FORMATS["md"](board, "task")
    assert "30.8?" in text
    assert "[suspected degenerate]" in text


def test_what_is_nearly_the_published_measurement_has_no_published_value(scored: Callable[..., Record]) -> None:
    whole = Entry.of(scored("lab_ssl", "none", SEG, 60.0))._replace(n=500)
    slot = whole.slot
    near = [
        whole._replace(slot=replace(slot, task=SEG + "[image_px=192]")),
        whole._replace(slot=replace(slot, repair="center")),
        whole._replace(slot=replace(slot, backbone="lab_sup")),
        whole._replace(metric="aAcc"),
        whole._replace(n=100),  # --limit 100
    ]
    assert [len(_published(e)) for e in (whole, whole._replace(n=497), *near)] == [1, 1, 0, 0, 0, 0, 0]
    other = [whole._replace(comparable="version 2"), *(whole._replace(slot=replace(slot, repair=r)) for r in "ab")]
    board = build(Loaded(tuple(other)), published={KEY: (Reference(58.0, "A", "paper"),)})
    assert [r.published for t in board.tables for r in t.rows] == [(), (), ()]


def _published(entry: Entry) -> tuple[Reference, ...]:
    board = build(Loaded((entry,)), published={KEY: (Reference(58.0, "A", "paper"),)})
    return board.tables[0].rows[0].published


def test_escapes_keep_what_is_text() -> None:
    assert markdown("a_b [x](y) <b>") == "a_b [x]\\(y) &lt;b&gt;"
    assert xml("a\x00b\x1fc\td") == "a\ufffdb\ufffdc\td"
