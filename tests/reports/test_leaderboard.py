"""What the leaderboard must say, on records in the shape of the lab suite."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vitbench.identity import Slot
from vitbench.records.index import Entry, Loaded
from vitbench.records.schema import Record
from vitbench.reports.formats import FORMATS, to_csv, to_json, to_text
from vitbench.reports.grids import overview
from vitbench.reports.leaderboard import Leaderboard, Row, Wanted, build, min_gap

LINEAR, DEPTH, NORMS = "linear_segmentation@ridge", "depth@ridge", "token_norms@mad"
KNN = "knn_segmentation@hummingbird"  # random: one seed does not stand for all


def rows(board: Leaderboard, task: str) -> dict[tuple[str, str], Row]:
    (table,) = [t for t in board.tables if t.task == task]
    return {(r.backbone, r.repair): r for r in table.rows}


# -- order and sections -----------------------------------------------------------------------------------------------


def test_controls_stand_below_defects_and_defects_below_models(lab: Leaderboard) -> None:
    for table in lab.tables:
        sections = [r.section for r in table.rows]
        assert sections == sorted(sections, key=["model", "defect", "control"].index)
        assert {r.backbone for r in table.rows if r.section == "control"} == {
            "patch_colour",
            "position_only",
            "random_vit",
        }


@pytest.mark.parametrize("task", [LINEAR, DEPTH])
def test_backbones_come_best_first_and_their_baseline_before_its_repairs(lab: Leaderboard, task: str) -> None:
    (table,) = [t for t in lab.tables if t.task == task]
    baselines = [r.value for r in table.rows if r.repair == "none" and r.section == "model"]
    assert baselines == sorted(baselines, reverse=table.higher_is_better)
    for backbone in {r.backbone for r in table.rows}:
        assert next(r for r in table.rows if r.backbone == backbone).repair == "none"


def test_negative_control_repairs_are_marked(lab: Leaderboard) -> None:
    found = rows(lab, LINEAR)
    assert found["lab_ssl", "random_dims"].control
    assert not found["lab_ssl", "zscore"].control
    assert "random_dims°" in to_text(lab)


def test_names_that_are_not_registered_are_models(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    board = build(loaded(scored("timm:my_vit", "none", LINEAR, 50), scored("timm:my_vit", "my_repair", LINEAR, 51)))
    (table,) = board.tables
    assert [(r.section, r.control) for r in table.rows] == [("model", False)] * 2


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_difference_is_paired_to_the_same_backbone_and_adjusted_over_the_table(lab: Leaderboard) -> None:
    for row in rows(lab, LINEAR).values():
        if row.repair == "none":
            assert row.difference is None
            continue
        assert row.difference is not None
        base = rows(lab, LINEAR)[row.backbone, "none"]
        assert row.value is not None
        assert base.value is not None
        assert row.difference.delta == pytest.approx(row.value - base.value)
        assert row.p_adjusted is not None
        assert row.difference.p is not None
        assert row.p_adjusted >= row.difference.p
        assert row.mark == ("·" if row.p_adjusted >= 0.05 else "▲" if row.difference.delta > 0 else "▼")


def test_a_lower_error_is_marked_as_better(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    board = build(loaded(scored("lab_ssl", "none", DEPTH, 0.8), scored("lab_ssl", "zscore", DEPTH, 0.6)))
    row = rows(board, DEPTH)["lab_ssl", "zscore"]
    assert row.difference is not None
    assert row.difference.delta < 0
    assert row.mark == "▲"
    assert row.rank == (1, 1)


def test_recovery_is_measured_for_defects_only_and_null_for_cheap_ones(lab: Leaderboard) -> None:
    found = rows(lab, LINEAR)
    assert found["lab_ssl", "zscore"].recovery is None
    good, cheap = found["lab_ssl+grid", "zscore"].recovery, found["lab_ssl+outliers", "zscore"].recovery
    assert good is not None
    assert good.value is not None
    assert 0 < good.value < 1
    assert cheap is not None
    assert cheap.value is None
    assert "too little" in cheap.reason


def test_planted_defects_do_not_compete_for_ranks(lab: Leaderboard) -> None:
    found = rows(lab, LINEAR)
    assert found["lab_ssl+grid", "none"].rank is None
    assert found["lab_sup", "none"].rank == (1, 1)
    contenders = [r for r in found.values() if r.section != "defect"]
    assert found["random_vit", "none"].rank == (len(contenders), len(contenders))


def test_points_are_absolute_for_percentages_and_relative_otherwise() -> None:
    assert (min_gap("%", 80), min_gap("fraction", 0.8), min_gap("m", 0.5)) == (2.0, 0.02, 0.01)


def test_seeds_are_taken_together(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    records = [
        scored("lab_ssl", r, LINEAR, v + s, seed=s) for r, v in (("none", 50), ("zscore", 52)) for s in (0, 1, 2)
    ]
    (table,) = build(loaded(*records)).tables
    assert [(r.repair, r.seeds, r.incomplete) for r in table.rows] == [("none", 3, False), ("zscore", 3, False)]
    (single,) = build(loaded(records[0])).tables
    assert table.rows[0].value != single.rows[0].value


def test_a_seed_that_failed_makes_its_cell_incomplete_and_pairs_over_the_common_ones(
    scored: Callable[..., Record], absent: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    records = [scored("lab_ssl", "none", KNN, 50, seed=s) for s in (0, 1)]
    records += [
        scored("lab_ssl", "zscore", KNN, 55, seed=0),
        absent("lab_ssl", "zscore", KNN, "oom", "memory", seed=1),
    ]
    board = build(loaded(*records))
    row = rows(board, KNN)["lab_ssl", "zscore"]
    assert row.incomplete
    assert row.difference is not None
    alone = build(loaded(records[0], records[2]))
    other = rows(alone, KNN)["lab_ssl", "zscore"].difference
    assert other is not None
    assert row.difference.delta == other.delta
    assert "zscore*" in to_text(board)


def test_a_seed_that_only_other_rows_have_is_missing_even_if_nobody_planned_it(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    cells = [("none", KNN, (0, 1)), ("zscore", KNN, (0,)), ("none", LINEAR, (0,)), ("random_dims", LINEAR, (0, 1))]
    board = build(loaded(*(scored("lab_ssl", r, task, 50, seed=s) for r, task, seeds in cells for s in seeds)))
    found = {(t.task, r.repair): (r.seeds, r.incomplete) for t in board.tables for r in t.rows}
    assert found[KNN, "none"] == (2, False)
    assert found[KNN, "zscore"] == (1, True)
    assert found[LINEAR, "random_dims"] == (2, False)


def test_why_there_is_no_interval_and_no_test_is_said_below_the_table(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    first = loaded(*(scored("lab_ssl", r, LINEAR, 50) for r in ("none", "center", "zscore")))
    base, center, zscore = first.entries[0], first.entries[1], first.entries[2]
    other = center._replace(draws_key="other units")
    lone = zscore._replace(draws=None, ci_low=None, ci_high=None, n=1, note="no interval: fewer than two groups")
    entries = {e.slot.repair: e for e in (base, other, lone)}
    text = to_text(build(Loaded(tuple(entries[r] for r in sorted(entries)))))
    assert "Δ is not tested, measured on different units: lab_ssl center\n" in text
    assert "no interval, fewer than two groups: lab_ssl zscore\n" in text
    reasons = [r["reason"] for r in csv.DictReader(io.StringIO(to_csv(build(Loaded((base, other))))))]
    assert "no interval: measured on different units" in reasons


def test_a_marked_difference_is_never_written_as_zero(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    base = Entry.of(scored("lab_ssl", "none", LINEAR, 50))
    assert base.draws is not None
    assert base.value is not None
    less = base._replace(
        slot=replace(base.slot, repair="unit"), value=base.value - 0.018, draws=base.draws - np.float32(0.018)
    )
    text = to_text(build(Loaded((base, less))))
    assert "−0.02 ▼  [−0.02,−0.02]" in text
    equal = less._replace(value=base.value, draws=base.draws)
    assert "0.0 ·  [0.0,0.0]" in to_text(build(Loaded((base, equal))))


def test_numbers_below_zero_have_one_minus_and_one_group_is_no_groups(scored: Callable[..., Record]) -> None:
    base = Entry.of(scored("lab_ssl", "none", DEPTH, 0.6))
    text = to_text(build(Loaded((base._replace(value=-3.25, ci_low=-3.5, ci_high=-3.0, n=1),))))
    assert "−3.25  [−3.50,−3.00]" in text
    assert "1 group, 1 seed" in text


def test_every_table_says_which_version_of_its_protocol_it_holds(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    board = build(loaded(scored("lab_ssl", "none", LINEAR, 50, version=3)))
    assert board.tables[0].version == "3"
    assert f"{LINEAR} v3 on scenes" in to_text(board)
    assert [r["version"] for r in csv.DictReader(io.StringIO(to_csv(board)))] == ["3"]
    assert json.loads(to_json(board))["tables"][0]["version"] == "3"


def test_other_protocol_versions_never_share_a_table(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    old = scored("lab_sup", "none", LINEAR, 60, version=1)
    new = [scored(b, "none", LINEAR, 50, version=2) for b in ("lab_ssl", "lab_mae")]
    board = build(loaded(old, *new))
    assert [(t.variant, {r.backbone for r in t.rows}) for t in board.tables] == [
        (0, {"lab_ssl", "lab_mae"}),
        (1, {"lab_sup"}),
    ]
    assert "other version or images" in to_text(board)


# -- what is missing --------------------------------------------------------------------------------------------------


def test_cells_without_a_number_are_listed_with_the_reason_and_enter_no_mean(
    scored: Callable[..., Record], absent: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    records = [
        scored(b, "none", t, 50) for b in ("lab_ssl", "lab_sup") for t in (LINEAR, "knn_segmentation@hummingbird")
    ]
    records.append(scored("lab_mae", "none", LINEAR, 40))
    records.append(absent("lab_mae", "none", "knn_segmentation@hummingbird", "failed", "ValueError: boom"))
    board = build(loaded(*records))
    (grid,) = overview(board)
    means = {line[0]: line[-1] for line in grid.lines if not isinstance(line, str)}
    assert means["lab_mae"] == "–"
    assert float(means["lab_ssl"]) == pytest.approx(50, abs=4)
    assert "ValueError: boom" in to_text(board)


def test_column_heads_name_only_settings_that_tell_columns_apart(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    tasks = [
        "linear_segmentation@ridge[image_px=192]",
        "linear_segmentation@ridge[image_px=192,field=last4]",
        "depth@ridge[image_px=192]",
    ]
    (grid,) = overview(build(loaded(*(scored("lab_ssl", "none", t, 50) for t in tasks))))
    heads = [h.replace("-\n", "").replace("\n", " ") for h in grid.headers]
    assert not any("image_px" in head for head in heads)
    assert sum("field= last4" in head for head in heads) == 1


def test_column_heads_name_folders_without_their_paths_where_that_tells_them_apart(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    def heads(*names: str) -> list[str]:
        (grid,) = overview(build(loaded(*(scored("lab_ssl", "none", "depth@ridge", 50, dataset=n) for n in names))))
        return [h.replace("-\n", "").split("\n")[1] for h in grid.headers[1 : len(names) + 1]]

    assert sorted(heads("folder:/data/far/away/room", "folder:street", "scenes")) == ["room", "scenes", "street"]
    assert sorted(heads("folder:/a/room", "folder:/b/room")) == ["folder:/a/room", "folder:/b/room"]


def test_defects_probes_and_errors_enter_no_mean(lab: Leaderboard) -> None:
    (grid,) = overview(lab)
    assert [h.replace("\n", " ") for h in grid.headers if "mean" in h] == ["mean miou %", "mean top1 %"]
    for column, metric in ((-2, "miou"), (-1, "top1")):
        means = {line[0]: line[column] for line in grid.lines if not isinstance(line, str)}
        assert means["lab_ssl+grid"] == "–"
        found = [
            r.value
            for t in lab.tables
            for r in t.rows
            if (t.metric, r.backbone, r.repair) == (metric, "lab_ssl", "none")
            and t.higher_is_better
            and r.value is not None
        ]
        assert len(found) == 2
        assert float(means["lab_ssl"]) == pytest.approx(sum(found) / len(found), abs=0.06)


def test_metrics_and_families_are_never_averaged_with_each_other(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    tasks = (LINEAR, "knn_segmentation@hummingbird", "object_discovery@lost", "knn_classification@dino")
    (grid,) = overview(build(loaded(*[scored("lab_ssl", "none", t, 10.0 * (i + 1)) for i, t in enumerate(tasks)])))
    assert sum("mean" in header for header in grid.headers) == 1
    (line,) = grid.lines
    assert float(line[-1]) == pytest.approx(15.0, abs=2)


def test_planned_cells_without_a_record_are_not_run(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    have = scored("lab_ssl", "none", LINEAR, 50)
    board = build(loaded(have), planned=[have.slot, Slot("lab_sup", "none", LINEAR, "scenes", 0)])
    assert [(m.slot.backbone, m.status) for m in board.missing] == [("lab_sup", "not run")]


def test_a_null_headline_is_shown_as_such(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    whole = scored("lab_ssl", "zscore", LINEAR, 50)
    metric = whole.metrics["miou"].model_copy(
        update={"value": None, "ci_low": None, "ci_high": None, "note": "no class seen"}
    )
    null = whole.model_copy(update={"metrics": {"miou": metric}, "draws": {}})
    board = build(loaded(scored("lab_ssl", "none", LINEAR, 50), null))
    row = rows(board, LINEAR)["lab_ssl", "zscore"]
    assert (row.value, row.mark, row.rank) == (None, "", None)
    for write in FORMATS.values():
        assert "no class seen" in write(board)


def test_one_record_and_no_records_are_boards_too(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    for board in (build(loaded(scored("lab_ssl", "none", LINEAR, 50))), build(Loaded(()))):
        for write in FORMATS.values():
            assert write(board)


def test_a_record_without_replicates_has_neither_interval_nor_rank(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    records = [scored("lab_ssl", "none", LINEAR, 50), scored("lab_ssl", "zscore", LINEAR, 52)]
    bare = [r.model_copy(update={"draws": {}}) for r in records]
    row = rows(build(loaded(*bare)), LINEAR)["lab_ssl", "zscore"]
    assert row.difference is not None
    assert (row.difference.p, row.rank, row.mark) == (None, None, "")


def afterwards(board: Leaderboard, wanted: Wanted) -> Leaderboard:
    """Only the wanted rows of a leaderboard that was made of everything."""
    shown = [
        replace(t, rows=tuple(r for r in t.rows if wanted(r.backbone, r.repair, t.task, t.dataset)))
        for t in board.tables
    ]
    missing = tuple(m for m in board.missing if wanted(m.slot.backbone, m.slot.repair, m.slot.task, m.slot.dataset))
    return replace(board, tables=tuple(t for t in shown if t.rows), missing=missing)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda backbone, repair, task, dataset: backbone == "lab_ssl+grid" and repair == "zscore",
        lambda backbone, repair, task, dataset: repair == "registers",
        lambda backbone, repair, task, dataset: "lab_ssl" in backbone and task != DEPTH,
        lambda backbone, repair, task, dataset: task == LINEAR,
        lambda backbone, repair, task, dataset: False,
    ],
)
def test_what_is_not_shown_changes_nothing_that_is(
    lab: Leaderboard, make_lab: Callable[[], Loaded], wanted: Wanted
) -> None:
    few = build(make_lab(), wanted=wanted)
    assert few == afterwards(lab, wanted)
    assert to_text(few) == to_text(afterwards(lab, wanted))
