"""The recovery table: shares of the damage beside what a repair does to the clean backbone, overall and on flagged tokens."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from vitbench.catalogue import BACKBONES, REPAIRS, TASKS
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.reports.recovery import COLUMNS, FLAGGED, recovery_tables, to_csv, to_markdown, unplanted

TASK = "knn_segmentation@hummingbird"


@pytest.fixture(autouse=True, scope="module")
def _cards() -> None:
    """The real catalogue, not the made-up one of its neighbours."""
    assert "lab_ssl" in BACKBONES
    assert "smooth3" in REPAIRS
    assert "knn_segmentation" in TASKS


def record(
    backbone: str, repair: str, miou: float, flagged: float | None, seed: int = 0, utc: str = "2026-01-02"
) -> Record:
    """Thirty images of about these scores; difficulty is shared by all records of a seed."""
    hard = np.random.default_rng(seed).normal(0, 3, 30)
    stats = {
        "a": miou + hard,
        "b": (flagged or 0.0) + hard,
        "n": np.ones(30),
        "f": np.full(30, float(flagged is not None)),
    }
    ids = tuple(f"image-{i}" for i in range(30))
    measures = (
        Measure("mIoU", "%", True, lambda sums, _: sums["a"] / sums["n"]),
        Measure(FLAGGED, "%", True, lambda sums, _: np.where(sums["f"] > 0, sums["b"] / sums["n"], np.nan)),
    )
    slot = Slot(backbone, repair, TASK, "scenes", seed)
    return Record.ok(
        slot=slot, identity=cell_identity(slot, {"utc": utc}), components={}, headline="mIoU",
        metrics=summarise(Rows(ids, ids, stats), measures, draws=200), keep_draws=(FLAGGED,), provenance={"utc": utc},
    )  # fmt: skip


def lab(seed: int = 0) -> list[Record]:
    return [
        record("lab_ssl", "none", 60, None, seed),
        record("lab_ssl", "smooth3", 65, None, seed),
        record("lab_ssl+outliers", "none", 50, 20, seed),
        record("lab_ssl+outliers", "fill_outliers", 57.5, 50, seed),
        record("lab_ssl+outliers", "smooth3", 60, 20, seed),
        record("lab_ssl+outliers[strength=0.0]", "none", 60, 70, seed),
        record("lab_ssl+outliers[strength=0.0]", "smooth3", 65, 75, seed),
        record("lab_ssl+variance", "none", 59.5, None, seed),
        record("lab_ssl+variance", "zscore", 60, None, seed),
    ]


def test_shares_of_the_damage_overall_and_on_flagged_tokens() -> None:
    overall, flagged = recovery_tables(lab())
    shares = {(r.backbone, r.repair): r.recovery.value for r in overall.rows}
    assert shares["lab_ssl+outliers", "fill_outliers"] == pytest.approx(0.75)
    assert shares["lab_ssl+outliers", "smooth3"] == pytest.approx(1.0)
    assert (flagged.metric, {r.backbone for r in flagged.rows}) == (FLAGGED, {"lab_ssl+outliers"})
    [filled] = [r for r in flagged.rows if r.repair == "fill_outliers"]
    assert (filled.clean, filled.defective, filled.repaired) == pytest.approx((70, 20, 50), abs=2)
    assert filled.recovery.value == pytest.approx(0.6)


def test_what_a_repair_does_to_the_clean_backbone_stands_beside_it() -> None:
    overall, flagged = recovery_tables(lab())
    for table in (overall, flagged):
        [smooth] = [r for r in table.rows if r.repair == "smooth3"]
        assert smooth.control
        assert smooth.clean_change is not None
        assert smooth.clean_change.delta == pytest.approx(5, abs=1e-4)


def test_a_defect_that_costs_next_to_nothing_has_no_recovery_but_a_reason() -> None:
    [row] = [r for r in recovery_tables(lab())[0].rows if r.backbone == "lab_ssl+variance"]
    assert row.recovery.value is None
    assert "too little" in row.recovery.reason


def test_seeds_are_taken_together_and_the_newest_record_of_a_slot_counts() -> None:
    old = record("lab_ssl+outliers", "fill_outliers", 10, 10, utc="2025-01-01")
    overall = recovery_tables([old, *lab(0), *lab(1), *lab(2)])[0]
    [filled] = [r for r in overall.rows if r.repair == "fill_outliers"]
    assert filled.seeds == 3
    assert filled.recovery.value == pytest.approx(0.75)


def test_the_unplanted_twin_keeps_every_other_parameter() -> None:
    assert unplanted("lab_ssl+outliers[share=0.1]") == "lab_ssl+outliers[strength=0.0,share=0.1]"
    assert unplanted("lab_ssl+grid+variance") == "lab_ssl+grid[strength=0.0]+variance[strength=0.0]"


def test_tables_are_written_the_same_way_twice_and_csv_has_every_number() -> None:
    tables = recovery_tables(lab())
    assert to_markdown(tables, "R") == to_markdown(recovery_tables(list(reversed(lab()))), "R")
    lines = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert len(lines) == sum(len(t.rows) for t in tables)
    assert list(lines[0]) == list(COLUMNS)
    [filled] = [x for x in lines if x["repair"] == "fill_outliers" and x["metric"] == "mIoU"]
    assert float(filled["recovery"]) == pytest.approx(0.75, abs=1e-3)
    assert float(filled["recovery_low"]) <= 0.75 <= float(filled["recovery_high"])


def test_a_repair_that_raises_clean_and_defective_alike_closes_no_gap() -> None:
    overall = recovery_tables(lab())[0]
    [smooth] = [r for r in overall.rows if r.repair == "smooth3"]
    assert smooth.recovery.value == pytest.approx(1.0)
    assert smooth.closed is not None
    assert smooth.closed.value == pytest.approx(0.5)  # 60 against 65, where it was 50 against 60
    [filled] = [r for r in overall.rows if r.repair == "fill_outliers"]
    assert filled.closed is None  # the clean backbone was not repaired


def test_what_a_defect_adds_to_a_probe_is_undone_as_well_as_what_it_takes_away() -> None:
    def probe(backbone: str, repair: str, value: float) -> Record:
        made = record(backbone, repair, value, None)
        slot = replace(made.slot, task="position_probe@registers")
        return made.model_copy(update={"slot": slot, "identity": cell_identity(slot, {})})

    given = [probe("lab_ssl", "none", 10), probe("lab_ssl+grid", "none", 80), probe("lab_ssl+grid", "unit", 45)]
    [row] = recovery_tables(given)[0].rows
    assert row.damage.delta == pytest.approx(-70)
    assert row.recovery.value == pytest.approx(0.5)
