"""The page: what it says is what the leaderboard says, nothing in it is markup from a record, and it stays small."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.reports.looked import inspection
from vitbench.identity import Slot
from vitbench.records.index import Entry, Loaded
from vitbench.records.inference import MetricValue
from vitbench.records.rows import Rows
from vitbench.records.schema import Record
from vitbench.records.store import write
from vitbench.reports.formats import to_markdown
from vitbench.reports.gallery import gallery
from vitbench.reports.leaderboard import Leaderboard, build
from vitbench.reports.page import page
from vitbench.reports.page_board import (
    COLUMNS,
    glances,
    heats,
    kept_columns,
    labels,
    lines,
    overview_table,
    repaired_backbones,
)
from vitbench.reports.page_details import Details, checkpoint_series, details, field_profiles, norm_plots, profiles
from vitbench.reports.page_plots import SHOWN, Point, _named, cost_plots, recovery_plots
from vitbench.reports.published import Reference

HOSTILE = "<script>alert(1)</script>"
DRAWN = ("similar x", "similar +")  # left out of galleries
EMPTY = Details((), (), (), (), (), ())


@pytest.fixture(scope="module")
def board(make_lab: Callable[[], Loaded]) -> Leaderboard:
    return build(make_lab())


def synthetic(repairs: int, tasks: int, backbones: tuple[str, ...] = ("lab_ssl", "lab_ssl+grid")) -> Loaded:
    """Entries alone: repairs x tasks on each backbone, 100 replicates each."""
    rng = np.random.default_rng(0)
    entries = []
    for t in range(tasks):
        shared = rng.normal(0, 1, 100)
        for b in backbones:
            for r in range(repairs):
                value = 60.0 - 9 * ("+" in b) + (r % 7 - 3) * 0.5 * (r > 0)
                draws = (value + shared + rng.normal(0, 0.2, 100)).astype(np.float32)
                slot = Slot(b, "none" if r == 0 else f"repair_{r:02d}", f"task_{t:02d}@protocol", "scenes", 0)
                entries.append(
                    Entry(
                        "", slot, f"{len(entries):016x}", "ok", metric="mIoU", unit="%", value=value, ci_low=value - 2,
                        ci_high=value + 2, n=50, draws=draws, draws_key=f"{t}", fit_seconds=0.1 * r, forwards_per_image=1.0,
                    )
                )  # fmt: skip
    return Loaded(tuple(entries))


# -- tables ------------------------------------------------------------------------------------------------------------


def test_every_row_of_every_table_is_a_line_in_its_order(board: Leaderboard) -> None:
    found, left_out = lines(board)
    assert left_out == 0
    assert [(x.table, x.backbone, x.repair) for x in found] == [
        (i, r.backbone, r.repair) for i, t in enumerate(board.tables) for r in t.rows
    ]
    assert all(len(x.texts) == len(COLUMNS) for x in found)


def test_a_page_that_would_be_too_large_loses_the_last_rows_of_each_table(
    monkeypatch: pytest.MonkeyPatch, board: Leaderboard
) -> None:
    monkeypatch.setattr("vitbench.reports.page_board.MOST_ROWS", 60)
    found, left_out = lines(board)
    assert left_out == sum(len(t.rows) for t in board.tables) - len(found) > 0
    assert len({x.table for x in found}) == len(board.tables)
    assert f"{left_out} rows are left out" in page(board, EMPTY)


def test_published_values_stand_beside_the_measured_ones_with_their_source(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    record = scored("lab_ssl", "none", "depth@ridge", 3.0)
    reference = Reference(2.5, HOSTILE, "paper", noise=0.1)
    key = ("lab_ssl", "none", "depth@ridge", "scenes", record.headline)
    whole = Loaded(tuple(e._replace(n=500) for e in loaded(record).entries))
    board = build(whole, published={key: (reference,)})
    [line] = lines(board)[0]
    found = {COLUMNS[i][0]: line.texts[i] for i in kept_columns([line])}
    assert found["published"].startswith("2.5")
    assert found["gap"].endswith("n)")
    text = page(board, EMPTY)
    assert "Where published values come from" in text
    assert HOSTILE not in text
    assert "published" not in [
        name for i, (name, _) in enumerate(COLUMNS) if i in kept_columns(lines(build(loaded(record)))[0])
    ]


def test_remarks_can_be_read_without_a_mouse_and_long_heads_break_with_a_hyphen(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    [entry] = loaded(scored("lab_ssl", "none", "linear_segmentation@ridge", 60.0)).entries
    board = build(Loaded((entry._replace(flags=("oracle",)), entry._replace(slot=replace(entry.slot, repair="unit")))))
    text = page(board, EMPTY)
    assert "<summary>Remarks</summary><p>linear_segmentation: † lab_ssl none: oracle</p>" in text
    assert "linear segmen\u00adtation" in text
    assert "Remarks" not in page(build(Loaded((entry,))), EMPTY)


def test_names_of_tables_are_short_and_unique(board: Leaderboard) -> None:
    found = labels(board.tables)
    assert "depth" in found
    assert len(set(found)) == len(found)
    twice = labels([replace(board.tables[0], dataset="other"), *board.tables])
    assert len(set(twice)) == len(twice)
    assert twice[0].endswith("on other")


def test_the_heat_map_shades_only_what_is_told_apart_and_by_direction(board: Leaderboard) -> None:
    tables, found, left = heats(board)
    assert left == 0
    assert {h.backbone for h in found} >= {"lab_ssl", "lab_ssl+grid"}
    rows = {(t, r.backbone, r.repair): r for t in tables for r in board.tables[t].rows}
    shaded = 0
    for heat in found:
        for (repair, _), cells in zip(heat.repairs, heat.cells, strict=True):
            for t, cell in zip(tables, cells, strict=True):
                row = rows.get((t, heat.backbone, repair))
                if cell is None:
                    assert row is None or row.difference is None
                    continue
                assert row is not None
                assert cell[1][:1] == {"▲": "b", "▼": "w", "·": "", "": ""}[row.mark]
                shaded += bool(cell[1])
    assert shaded > 10


def test_the_largest_difference_of_a_column_has_the_darkest_shade() -> None:
    board = build(synthetic(8, 1, ("lab_ssl",)))
    [heat] = heats(board)[1]
    shades = {text: shade for [(text, shade, _)] in heat.cells}
    assert any(shade == "w9" for shade in shades.values())
    assert all(re.fullmatch(r"([bw][1-9])?", shade) for shade in shades.values())


def test_backbones_beyond_the_largest_heat_map_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitbench.reports.page_board.MOST_HEAT_CELLS", 10)
    _, found, left = heats(build(synthetic(5, 2)))
    assert len(found) == 1
    assert left == 1


def test_glances_count_the_marks(board: Leaderboard) -> None:
    for g in glances(board):
        rows = [r for t in board.tables for r in t.rows if r.repair == g.repair and r.difference]
        assert g.model[0] == sum(r.mark == "▲" and r.section == "model" for r in rows)
        assert sum(g.defect) == sum(r.section == "defect" and r.mark != "" for r in rows)


def test_the_overview_is_one_table_however_wide() -> None:
    headers, body = overview_table(build(synthetic(1, 25)))
    assert len(headers) == 27
    assert all(len(line) == 27 for line in body if not isinstance(line, str))
    assert "planted defects" in body


def test_markdown_breaks_a_table_that_is_wider_than_anyone_scrolls_and_loses_no_column() -> None:
    text = to_markdown(build(synthetic(1, 60))).partition("\n## ")[2].partition("\n## ")[0]
    heads = [line for line in text.splitlines() if line.startswith("| backbone")]
    names = [name for head in heads for name in head.strip("| ").split("|")[1:]]
    assert max(head.count("|") for head in heads) < 40
    assert text.count("*(continued)*") == len(heads) - 1 > 0
    assert len(names) == len(overview_table(build(synthetic(1, 60)))[0]) - 1


def test_galleries_are_of_the_backbones_with_the_most_repairs(board: Leaderboard) -> None:
    order = repaired_backbones(board)
    assert order[0][0] == "lab_ssl"
    assert "+" in order[1][0]
    assert "none" not in order[0][1]
    assert "zscore" in order[0][1]


# -- plots -------------------------------------------------------------------------------------------------------------


def test_recovery_stands_beside_what_the_repair_does_to_the_clean_backbone(board: Leaderboard) -> None:
    found, left = recovery_plots(board)
    assert found
    assert left == 0
    for plot in found:
        table = board.tables[plot.table]
        assert plot.columns[0].title == "clean lab_ssl"
        rows = {(r.backbone, r.repair): r for r in table.rows}
        names = {y - 4: repair for y, repair, _ in plot.names}
        for column in plot.columns[1:]:
            zero, one = column.lines
            for y, dot in column.dots:
                back = rows["lab_ssl" + column.title, names[y]].recovery
                assert back is not None
                assert back.value is not None
                value = min(max(back.value, SHOWN[0]), SHOWN[1])
                assert dot.x == pytest.approx(zero + value * (one - zero), abs=0.3)
                assert dot.clipped == (value != back.value)
                low = back.ci_low
                assert (dot.kind == "better") == (low is not None and low > 0)


def test_recoveries_beyond_what_a_page_can_hold_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitbench.reports.page_plots.MOST_DOTS", 6)
    board = build(synthetic(5, 3))
    found, left = recovery_plots(board)
    assert (len(found), left) == (1, 2)
    assert "2 more tables are left out" in page(board, EMPTY)


def test_a_name_in_a_cost_plot_covers_no_other_dot() -> None:
    first = Point(100, 50, 45, 55, "better", False, "", "center")
    beside, above = replace(first, x=120, name="zscore"), replace(first, x=120, y=20, low=15, high=25, name="unit")
    assert [p.name for p in _named([first, beside])] == ["", "zscore"]
    assert [p.name for p in _named([first, above])] == ["center", "unit"]


def test_cost_plots_are_of_models_alone_and_name_what_can_be_read(board: Leaderboard) -> None:
    for plot in cost_plots(board):
        rows = [r for r in board.tables[plot.table].rows if r.section == "model" and r.difference]
        assert len(plot.points) == len(rows)
        named = [p for p in plot.points if p.name]
        assert all(p.kind != "even" for p in named)
        assert all(abs(p.y - q.y) >= 13 or abs(p.x - q.x) >= 130 for p in named for q in named if p is not q)


# -- what records say beyond their headlines ---------------------------------------------------------------------------


def with_metrics(record: Record, **values: float) -> Record:
    made = {name: MetricValue(v, "%", True, v - 1, v + 1, 5) for name, v in values.items()}
    more = Record.ok(slot=record.slot, identity=record.identity, components={}, headline=record.headline, metrics=made | {
        record.headline: MetricValue(1.0, "%", True)})  # fmt: skip
    return record.model_copy(update={"metrics": more.metrics})


def test_metrics_by_block_become_profiles(scored: Callable[..., Record]) -> None:
    record = with_metrics(
        scored("lab_ssl", "none", "depth@ridge", 3.0),
        miou_block_0=10.0,
        miou_block_2=30.0,
        miou_block_10=20.0,
        other=4.0,
    )
    [plot] = profiles([record])
    [series] = plot.series
    assert plot.x_name == "block"
    assert plot.note.startswith("miou")
    assert [told.rpartition(" at ")[2] for _, _, told in series.dots] == ["0", "2", "10"]
    assert series.dots[1][1] < series.dots[2][1] < series.dots[0][1]
    assert series.band


def test_checkpoints_of_one_training_become_a_series(scored: Callable[..., Record]) -> None:
    records = [scored(f"lab_ssl@{step}+grid", "none", "depth@ridge", 3.0 / step) for step in (100, 20, 5)]
    [plot] = checkpoint_series([Entry.of(r) for r in [*records, scored("lab_ssl", "none", "depth@ridge", 3.0)]])
    [series] = plot.series
    assert series.name == "lab_ssl+grid"
    assert len(series.dots) == 3
    assert plot.x_name == "step"


def test_one_task_on_several_blocks_becomes_a_profile(scored: Callable[..., Record]) -> None:
    tasks = [f"depth@ridge[image_px=64,field=block_{i},lambda_low=1]" for i in (3, 0, 11)]
    others = ["depth@ridge[image_px=64]", "depth@ridge[field=block_-1]", "depth@ridge[field=key_2]"]
    [plot] = field_profiles([Entry.of(scored("lab_ssl", "none", t, 3.0)) for t in (*tasks, *others)])
    assert plot.title == "depth@ridge[image_px=64,lambda_low=1] on scenes"
    assert [told.rpartition(" at ")[2] for _, _, told in plot.series[0].dots] == ["0", "3", "11"]


def test_norm_plots_are_drawn_from_rows() -> None:
    above = np.array([[0, 0, 4.0], [0, 1.0, 4.0]])
    stats = {
        "above_mad": above,
        "n_tokens": np.array([100.0, 100.0]),
        "max_over_median": np.array([[2, 2, 9.0], [2, 3, 11.0]]),
    }
    rows = Rows(("a", "b"), ("a", "b"), stats, {})
    outliers, peaks, images = norm_plots("model", [("lab_ssl", rows)])
    assert [told for _, _, told in outliers.series[0].dots] == [
        f"lab_ssl: {v} at {b}" for b, v in ((0, 0), (1, 0.5), (2, 4))
    ]
    assert peaks.series[0].dots[2][2] == "lab_ssl: 10 at 2"
    assert images.series[0].dots[0][2] == "lab_ssl: 100 at 9"


def test_details_are_read_from_disk_and_say_what_could_not_be(tmp_path: Path, scored: Callable[..., Record]) -> None:
    record = scored("lab_ssl", "none", "token_norms@mad", 1.0)
    stats = {"above_mad": np.ones((3, 2)), "n_tokens": np.full(3, 10.0), "max_over_median": np.full((3, 2), 2.0)}
    write(tmp_path, record, Rows(("a", "b", "c"), ("a", "b", "c"), stats, {}))
    bare = scored("lab_sup", "none", "token_norms@mad", 1.0)
    write(tmp_path, bare, None)
    paths = {
        r.slot.backbone: str(p.relative_to(tmp_path))
        for r in (record, bare)
        for p in tmp_path.rglob(f"{r.slot.backbone}/**/*.json")
    }
    found = details(tmp_path, [Entry.of(r, paths[r.slot.backbone]) for r in (record, bare)])
    assert len(found.norms) == 3
    assert any("no rows" in note for note in found.notes)
    assert ("commit", "0123456789 (2 cells)") in found.provenance
    assert found.protocols[0][0] == "token_norms@mad"


def test_norms_of_other_images_are_plots_of_their_own_and_say_so(tmp_path: Path, scored: Callable[..., Record]) -> None:
    """Two views or data sets in one plot gave two curves of one name."""
    stats = {"above_mad": np.ones((3, 2)), "n_tokens": np.full(3, 10.0), "max_over_median": np.full((3, 2), 2.0)}
    entries = []
    for task in ("token_norms@mad", "token_norms@mad[image_px=224]"):
        record = scored("lab_ssl", "none", task, 1.0)
        path = write(tmp_path, record, Rows(("a", "b", "c"), ("a", "b", "c"), stats, {}))
        entries.append(Entry.of(record, str(path.relative_to(tmp_path))))
    found = details(tmp_path, entries)
    assert len(found.norms) == len({p.title for p in found.norms}) == 6
    assert any(p.title == "Outlier tokens, models, token_norms@mad[image_px=224] on scenes" for p in found.norms)


def test_a_record_that_is_gone_is_a_note(tmp_path: Path, scored: Callable[..., Record]) -> None:
    found = details(tmp_path, [Entry.of(scored("lab_ssl", "none", "depth@ridge", 1.0), "gone.json")])
    assert found.notes
    assert "gone.json" in found.notes[0]


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_the_page_has_its_sections_and_asks_for_nothing(board: Leaderboard) -> None:
    text = page(board, EMPTY, [gallery(inspection(), DRAWN)], title="a title")
    for section in ("overview", "leaderboard", "repairs", "recovery", "gallery", "cost", "provenance", "missing"):
        assert f'id="{section}"' in text
        assert f'href="#{section}"' in text
    for section in ("profiles", "series", "norms"):
        assert f'id="{section}"' not in text
        assert f'href="#{section}"' not in text
    assert "<title>a title</title>" in text
    assert not re.findall(r"""(?:src|href|action)=["']?(?!data:|#|\{)\w""", text)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_what_records_say_is_text(
    scored: Callable[..., Record], absent: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    task = "depth@ridge"
    records = [
        scored(HOSTILE, "none", task, 3.0),
        scored(HOSTILE, HOSTILE + "2", task, 1.0),
        scored(f"{HOSTILE}@5", "none", task, 3.0),
        scored(f"{HOSTILE}@9", "none", task, 3.0),
        absent("x", "none", task, "unavailable", HOSTILE, HOSTILE),
    ]
    found = loaded(*records)
    made = replace(
        EMPTY, series=tuple(checkpoint_series(found.entries)), provenance=((HOSTILE, HOSTILE),), notes=(HOSTILE,)
    )
    text = page(build(found), made, [gallery(inspection(HOSTILE, HOSTILE), DRAWN)], title=HOSTILE)
    assert made.series
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") > 15


def test_sixty_repairs_on_twenty_tasks_stay_under_fifteen_megabytes() -> None:
    text = page(build(synthetic(60, 20)), EMPTY)
    assert 1e6 < len(text.encode()) < 5e6
    assert text.count("<tr data-t=") == 60 * 20 * 2


def test_one_record_and_records_without_numbers_make_a_page(
    scored: Callable[..., Record], absent: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    one = page(build(loaded(scored("lab_ssl", "none", "depth@ridge", 3.0))), EMPTY)
    assert 'id="repairs"' not in one
    assert 'id="missing"' not in one
    none = page(build(loaded(absent("x", "none", "depth@ridge", "failed", "it broke"))), EMPTY)
    assert "No cell has a number" in none
    assert "it broke" in none
    assert 'id="overview"' not in none


def test_the_same_records_give_the_same_page(board: Leaderboard) -> None:
    assert page(board, EMPTY) == page(board, EMPTY)
