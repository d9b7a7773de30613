"""Every status of a comparison, what it takes to be a regression, and that each format can be read by its readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from vitbench.records.index import Entry
from vitbench.records.schema import Record
from vitbench.reports.comparison import Comparison, Pair, compare
from vitbench.reports.comparison_formats import FORMATS, row, to_html, to_json, to_junit, to_markdown, to_text, verdict
from vitbench.reports.thresholds import Thresholds, load_thresholds

SEG, DEPTH = "linear_segmentation@ridge", "depth@ridge"
Scored = Callable[..., Record]


class Told:
    """Evidence as given: the names that differ, and whether rows do."""

    def __init__(self, differs: tuple[str, ...] = ("backbone.digest",), rows: bool = False) -> None:
        self.differs, self.rows = differs, rows

    def differing(self, baseline: Entry, candidate: Entry, comparable_only: bool) -> tuple[str, ...]:
        return self.differs

    def rows_differ(self, baseline: Entry, candidate: Entry) -> bool:
        return self.rows


THRESHOLDS = Thresholds.model_validate(
    {
        "metrics": {},
        "default": {"percent": 1.0, "share": 0.02},
        "cost": {
            **{"forwards_ratio": 1.0, "memory_ratio": 1.5, "memory_least_bytes": 100},
            **{"seconds_ratio": 2.0, "seconds_least": 5.0},
        },
    }
)


def one(a: Record | Entry | None, b: Record | Entry | None, evidence: Told | None = None) -> Pair:
    (pair,) = pairs([a], [b], evidence).pairs
    return pair


def pairs(a: list[Record | Entry | None], b: list[Record | Entry | None], evidence: Told | None = None) -> Comparison:
    sides = [[Entry.of(r) if isinstance(r, Record) else r for r in side if r is not None] for side in (a, b)]
    return compare(*sides, THRESHOLDS, evidence or Told())


def test_equal_cells_are_unchanged(scored: Scored) -> None:
    record = scored("lab_ssl", "none", SEG, 60.0)
    assert one(record, record).status == "unchanged"


@pytest.mark.parametrize(("task", "before", "after"), [(SEG, 60.0, 55.0), (DEPTH, 0.6, 0.7)])
def test_worse_by_test_and_threshold_is_a_regression_whichever_direction_is_good(
    scored: Scored, task: str, before: float, after: float
) -> None:
    first = scored("lab_ssl", "none", task, before)
    second = retrained(scored("lab_ssl", "none", task, after))
    pair = one(first, second)
    assert (pair.status, pair.is_regression, pair.changed) == ("regressed", True, ("backbone.digest",))
    assert one(second, first).status == "improved"


def retrained(record: Record) -> Record:
    return record.model_copy(update={"identity": "f" * 16})


def test_significant_but_small_is_no_regression(scored: Scored) -> None:
    pair = one(
        scored("lab_ssl", "none", SEG, 60.0, noise=0.0), retrained(scored("lab_ssl", "none", SEG, 59.5, noise=0.0))
    )
    assert pair.p_adjusted is not None
    assert pair.p_adjusted < 1e-6
    assert (pair.status, pair.note) == ("unchanged", "smaller than what matters")


def test_large_but_uncertain_is_no_regression(scored: Scored) -> None:
    first = scored("lab_ssl", "none", SEG, 60.0, noise=0.6)
    second = retrained(scored("lab_ssl", "none", SEG, 60.0, noise=0.6, seed=1).model_copy(update={"slot": first.slot}))
    pair = one(first, second)
    assert pair.difference is not None
    assert abs(pair.difference.delta) >= 1.0
    assert (pair.status, pair.note) == ("unchanged", "could be chance")


def test_a_verdict_never_says_that_there_is_no_regression_where_there_is_one(scored: Scored) -> None:
    found = pairs(
        [Entry.of(scored("lab_ssl", "none", SEG, 60.0))], [Entry.of(retrained(scored("lab_ssl", "none", SEG, 50.0)))]
    )
    assert verdict(found, ["regression"]).startswith("1 of 1 cells fail")
    assert verdict(found, []).startswith("no cell fails · 1 regressed")
    same = [Entry.of(scored("lab_ssl", "none", SEG, 60.0))]
    assert verdict(pairs(same, same), []).startswith("no regression · 1 unchanged")


def test_a_change_too_small_for_the_digits_of_its_values_is_not_written_as_nothing(scored: Scored) -> None:
    first = Entry.of(scored("lab_ssl", "none", SEG, 60.0))
    assert first.value is not None
    [pair] = pairs([first], [first._replace(value=first.value - 0.0004)]).pairs
    assert pair.status == "drifted"
    cells = row(pair)
    assert cells[7] == "−0.0004"
    assert cells[8] == "[0.00, 0.00]"
    [same] = pairs([first], [first]).pairs
    assert row(same)[7] == "0.00"


def test_many_cells_are_tested_together(scored: Scored) -> None:
    """A p just under 0.05 is a regression alone and none among many that did not change."""
    base = [Entry.of(scored("lab_ssl", f"center[x={i}]", SEG, 60.0)) for i in range(40)]
    moved = [
        e._replace(value=(e.value or 0) - (1.2 if i == 0 else 1e-6), identity="f" * 16) for i, e in enumerate(base)
    ]
    wide = [e._replace(draws=None if e.draws is None else e.draws * (1 + 0.01 * i)) for i, e in enumerate(moved)]
    alone, among = one(base[0], moved[0]), pairs(list(base), list(wide))
    assert alone.p_adjusted is not None
    first = next(p for p in among.pairs if p.slot == base[0].slot)
    assert first.p_adjusted is not None
    assert first.difference is not None
    assert first.p_adjusted >= (first.difference.p or 0.0)


def test_cells_on_one_side_only_are_new_or_missing(scored: Scored, absent: Scored) -> None:
    record = scored("lab_ssl", "none", SEG, 60.0)
    gone = absent("lab_ssl", "none", SEG, "unavailable", "weights are not here")
    assert one(None, record).status == "new"
    assert (one(record, None).status, one(record, None).note) == ("missing", "no record")
    assert (one(record, gone).status, one(record, gone).note) == ("missing", "unavailable: weights are not here")


def test_cells_without_a_number_on_both_sides_are_left_out(absent: Scored) -> None:
    gone = absent("lab_ssl", "registers", SEG, "not_applicable", "no twin")
    assert pairs([gone], [gone]).pairs == ()


def test_a_null_headline_is_missing_with_its_reason(scored: Scored) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))
    null = entry._replace(value=None, ci_low=None, ci_high=None, note="undefined on these units")
    pair = one(entry, null)
    assert (pair.status, pair.note) == ("missing", "null: undefined on these units")


def test_a_failed_cell_is_failed_whatever_the_baseline(scored: Scored, absent: Scored) -> None:
    record, broken = scored("lab_ssl", "none", SEG, 60.0), absent("lab_ssl", "none", SEG, "oom", "no memory")
    assert (one(record, broken).status, one(record, broken).note) == ("failed", "oom: no memory")
    assert one(broken, broken).note == "oom: no memory (and in the baseline)"


def test_other_versions_are_not_comparable_and_the_part_is_named(scored: Scored) -> None:
    pair = one(
        scored("lab_ssl", "none", SEG, 60.0),
        scored("lab_ssl", "none", SEG, 20.0, version=2),
        Told(("task.version",)),
    )
    assert (pair.status, pair.changed, pair.is_regression) == ("not comparable", ("task.version",), False)


def test_cells_on_other_units_are_not_comparable(scored: Scored) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))
    pair = one(entry, entry._replace(identity="f" * 16, draws_key="0" * 16), Told(("data.skipped",)))
    assert (pair.status, pair.changed) == ("not comparable", ("data.skipped",))
    assert "other units" in pair.note


def test_other_numbers_of_the_same_identity_have_drifted(scored: Scored) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))
    nudged = entry._replace(value=(entry.value or 0) + 1e-4)
    assert one(entry, nudged).status == "drifted"
    assert one(entry, entry, Told(rows=True)).status == "drifted"
    worse = entry._replace(value=(entry.value or 0) - 9)
    assert (one(entry, worse).status, one(entry, worse).note) == (
        "regressed",
        "the rows changed although the identity did not",
    )


def test_costs_regress_forwards_always_memory_and_time_only_on_the_same_machine(scored: Scored) -> None:
    entry = Entry.of(scored("lab_ssl", "none", SEG, 60.0))._replace(machine="cpu", seconds=10.0, peak_memory_bytes=1000)
    dear = entry._replace(forwards_per_image=8.0, seconds=40.0, peak_memory_bytes=2000)
    pair = one(entry, dear)
    assert [(c.name, c.ratio) for c in pair.costs] == [("forwards per image", 8), ("peak memory", 2), ("time", 4)]
    assert (pair.status, pair.is_regression) == ("unchanged", True)
    slow = pairs([entry], [entry._replace(seconds=40.0)])
    assert slow.failing(["regression"]) == []
    assert [p.is_slower for p in slow.failing(["slower"])] == [True]
    elsewhere = one(entry, dear._replace(machine="gpu"))
    assert [c.name for c in elsewhere.costs] == ["forwards per image"]
    assert one(entry, entry._replace(seconds=14.0, peak_memory_bytes=1100)).costs == ()
    assert pairs([entry], [dear]).seconds_ratio == 4.0
    assert pairs([entry], [dear._replace(machine="gpu")]).seconds_ratio is None


@pytest.fixture(scope="module")
def mixed(scored: Scored, absent: Scored) -> Comparison:
    """One pair of every status, with names that try to be markup."""
    base = scored("lab_ssl", "none", SEG, 60.0)
    entry = Entry.of(scored("lab_ssl", "unit", SEG, 60.0))
    before = [
        base,
        scored("lab_ssl", "center", SEG, 60.0),
        scored("lab_sup", "none", SEG, 60.0),
        scored("lab_mae", "none", SEG, 60.0),
        scored("lab_ssl", "zscore", SEG, 60.0),
        entry,
        Entry.of(scored("random_vit", "none", SEG, 60.0)),
    ]
    after = [
        retrained(scored("lab_ssl", "none", SEG, 50.0)),
        retrained(scored("lab_ssl", "center", SEG, 70.0)),
        absent("lab_mae", "none", SEG, "failed", "<script>alert(1)</script> & \x00 | pipe"),
        scored("lab_ssl", "zscore", SEG, 60.0, version=2),
        entry._replace(value=(entry.value or 0) + 1e-5),
        scored("position_only", "none", SEG, 30.0),
        Entry.of(scored("random_vit", "none", SEG, 60.0))._replace(forwards_per_image=3.0),
    ]
    return pairs(list(before), list(after), Told(("task.version",)))


def test_a_terminal_gets_a_line_per_task_above_its_cells(mixed: Comparison) -> None:
    lines = to_text(mixed).splitlines()
    at = lines.index("REGRESSED (1)")
    assert lines[at + 1].split()[:4] == ["backbone", "repair", "before", "now"]
    assert lines[at + 3] == f"{SEG} on scenes: miou %"
    assert lines[at + 4].split()[:2] == ["lab_ssl", "none"]
    assert "UNCHANGED" not in "".join(lines)
    at = lines.index("FAILED (1)")
    assert lines[at + 1].startswith("failed: <script>")
    assert lines[at + 2] == f"  lab_mae / none / {SEG} / scenes-s0"


def test_every_status_is_told_once(mixed: Comparison) -> None:
    assert mixed.counts == {
        **{"regressed": 1, "failed": 1, "missing": 1, "not comparable": 1},
        **{"drifted": 1, "improved": 1, "new": 1, "unchanged": 1},
    }
    assert {p.status for p in mixed.failing(["regression"])} == {"regressed", "unchanged"}
    assert {p.status for p in mixed.failing(["missing", "failed"])} == {"missing", "failed"}


def test_a_junit_reader_reads_cases_failures_and_counts(mixed: Comparison) -> None:
    text = to_junit(mixed, ["regression", "failed"])
    read = JUnitXml.fromstring(text.encode())
    (suite,) = list(read)
    cases = {case.name: case for case in suite}
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (8, 2, 1, 2)
    assert (read.tests, read.failures, read.errors, read.skipped) == (8, 2, 1, 2)
    (failure,) = cases["lab_ssl / none s0"].result
    assert isinstance(failure, Failure)
    assert failure.type == "regressed"
    (broken,) = cases["lab_mae / none s0"].result
    assert isinstance(broken, Error)
    assert "<script>alert(1)</script> & \ufffd | pipe" in (broken.message or "")
    (costly,) = cases["random_vit / none s0"].result
    assert "forwards per image 1 -> 3" in (costly.message or "")
    assert isinstance(cases["lab_sup / none s0"].result[0], Skipped)
    assert not cases["position_only / none s0"].result
    read.update_statistics()
    assert (read.tests, read.failures, read.errors, read.skipped) == (8, 2, 1, 2)


def test_json_holds_verdict_counts_and_pairs(mixed: Comparison) -> None:
    data = json.loads(to_json(mixed, ["regression"]))
    assert data["failed"] is True
    assert data["counts"]["regressed"] == 1
    assert {p["status"] for p in data["pairs"]} == set(mixed.counts)


def test_html_escapes_what_records_say(mixed: Comparison) -> None:
    page = to_html(mixed)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<h2>Regressed (1)</h2>" in page


def test_markdown_shows_what_changed_and_counts_the_rest(mixed: Comparison) -> None:
    text = to_markdown(mixed)
    assert "## Regressed (1)" in text
    assert "differs: task.version" in text
    assert "<script" not in text
    assert "Unchanged" not in text
    assert "- random_vit / none / linear_segmentation@ridge / scenes-s0: forwards per image 1 -> 3" in text


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_comparison_gives_the_same_bytes(name: str, mixed: Comparison) -> None:
    assert FORMATS[name](mixed, ["regression"]) == FORMATS[name](mixed, ["regression"])


def test_shipped_thresholds_name_a_least_change_for_every_dense_headline() -> None:
    shipped = load_thresholds()
    assert shipped.metrics["segmentation"]["mIoU"] == 0.5
    assert shipped.least("no_such_task", "score", "m", 2.0) == pytest.approx(0.02 * 2)
    assert shipped.least("no_such_task", "score", "fraction", 2.0) == pytest.approx(0.01)


def test_thresholds_with_an_unknown_key_are_refused(tmp_path: Path) -> None:
    from vitbench.errors import UsageError

    path = tmp_path / "own.toml"
    path.write_text("[default]\npercent = 1\nshare = -2\n")
    with pytest.raises(UsageError, match=r"own\.toml: key"):
        load_thresholds(path)
