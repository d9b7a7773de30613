"""The engine: shares passes, resumes, and records what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vitbench.errors import RecordError, StorageError
from vitbench.records.store import find, read_rows, record_path, scan

TASKS = "linear_segmentation,depth,token_norms"


def test_cells_share_forwards_and_the_same_command_again_does_none(bench: Any, counting: Any) -> None:
    backbone = counting()
    plan, summary = bench.run(backbone, "none,zscore,unit", "linear_segmentation,depth")
    assert summary.count(plan, "ok") == 6
    assert summary.forwards == backbone.images == 12  # six train and six val images, once
    again, nothing = bench.run(backbone, "none,zscore,unit", "linear_segmentation,depth")
    assert {c.status for c in again.cells} == {"cached"}
    assert (nothing.forwards, backbone.images, nothing.outcomes) == (0, 12, {})


def test_chains_whose_parts_need_other_fields_or_act_on_fewer_are_fitted(bench: Any, counting: Any) -> None:
    plan, summary = bench.run(counting(), "fill_outliers+zscore,position_mean+center", "linear_segmentation", limit=20)
    assert summary.count(plan, "ok") == 2, summary.outcomes


def test_a_repair_of_patches_only_is_not_applicable_where_cls_is_read(bench: Any, counting: Any) -> None:
    plan, summary = bench.run(counting(), "position_mean+center,center", "knn_classification")
    assert [c.status for c in plan.cells] == ["not_applicable", "todo"]
    assert summary.count(plan, "ok") == 1


def test_only_what_is_missing_is_run(bench: Any, counting: Any) -> None:
    backbone = counting()
    bench.run(backbone, "none", "linear_segmentation")
    plan, summary = bench.run(backbone, "none,center", TASKS)
    assert len(plan.with_status("cached")) == 1
    assert "norms" in plan.passes[0].fields
    assert all("patch" not in p.fields for p in plan.passes)
    assert summary.count(plan, "ok") == 4


def test_a_record_tells_value_interval_cost_and_provenance(bench: Any, counting: Any) -> None:
    plan, _ = bench.run(counting(), "zscore", "linear_segmentation")
    [cell] = plan.cells
    record = find(bench.options.records, cell.slot, cell.identity)
    metric = record.metrics[record.headline]
    assert metric.ci_low <= metric.value <= metric.ci_high
    assert record.cost.forwards == 12
    assert record.cost.extra_parameters == 32  # mean and deviation of 16 channels
    assert record.provenance["versions"]["torch"]
    assert record.components["repair"]["fit"] == record.components["data"]["splits"]["train"]


def test_frames_of_a_video_are_resampled_together_by_tasks_on_single_images_too(bench: Any, counting: Any) -> None:
    plan, _ = bench.run(counting(), "none", "token_norms", limit=20, dataset="clips")
    [cell] = plan.cells
    record = find(bench.options.records, cell.slot, cell.identity)
    assert cell.splits["val"].images == 20
    assert record.metrics[record.headline].n == 2  # ten frames each
    rows = read_rows(record_path(bench.options.records, cell.slot, cell.identity))
    assert all(unit.startswith(f"{video}/") for unit, video in zip(rows.unit_id, rows.group_id, strict=True))


def test_tokens_that_are_not_finite_fail_the_cell_with_a_traceback_and_the_rest_goes_on(
    bench: Any, counting: Any
) -> None:
    plan, summary = bench.run(counting(broken=True), "none", TASKS)
    assert summary.count(plan, "failed") == 3
    records, problems = scan(bench.options.records)
    assert not problems
    assert all(r.status == "failed" and "not finite" in r.reason and "Traceback" in r.error.traceback for r in records)
    fixed, healed = bench.run(counting(), "none", TASKS)
    assert healed.count(fixed, "ok") == 3  # failed cells are tried again, and replaced
    assert {r.status for r in scan(bench.options.records)[0]} == {"ok"}


def test_a_task_that_raises_does_not_stop_the_others(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.tasks.depth import Depth

    def broken(*_: object) -> None:
        raise ValueError("no depth today")

    monkeypatch.setattr(Depth, "fit", broken)
    plan, summary = bench.run(counting(), "none", TASKS)
    assert (summary.count(plan, "failed"), summary.count(plan, "ok")) == (1, 2)
    [bad] = [r for r in scan(bench.options.records)[0] if r.status == "failed"]
    assert bad.error.type == "ValueError"
    assert bad.error.message == f"ValueError: no depth today (test_local.py:{broken.__code__.co_firstlineno + 1})"


def test_a_full_disk_stops_with_one_line_and_keeps_what_is_recorded(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(counting(), "none", "linear_segmentation")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitbench.tokens.store.save_file", full)
    with pytest.raises(StorageError, match="disk is full"):
        bench.run(counting(), "none", "token_norms")
    records, problems = scan(bench.options.records)
    assert ([r.status for r in records], problems) == (["ok"], [])


def test_a_records_folder_that_cannot_be_written_is_one_line(bench: Any, counting: Any) -> None:
    bench.options.records.parent.mkdir(exist_ok=True)
    bench.options.records.write_text("a file where a folder should be")
    with pytest.raises(RecordError, match=r"not writable.*--records"):
        bench.run(counting(), "none", "depth")


def test_not_applicable_cells_are_records_with_the_reason(bench: Any, counting: Any) -> None:
    bench.run(counting(), "zscore", "token_norms")
    [record] = scan(bench.options.records)[0]
    assert (record.status, "does not act on" in record.reason) == ("not_applicable", True)


def test_an_interrupted_run_goes_on_where_it_stopped(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.tasks.depth import Depth

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Depth, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            bench.run(counting(), "none", "linear_segmentation,depth")
    backbone = counting()
    plan, summary = bench.run(backbone, "none", "linear_segmentation,depth")
    assert (backbone.images, len(plan.with_status("cached")), summary.count(plan, "ok")) == (0, 1, 1)


def test_records_hold_no_nan_and_are_complete_json(bench: Any, counting: Any) -> None:
    bench.run(counting(), "none,zscore", TASKS)
    for path in Path(bench.options.records).rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_a_budget_below_what_the_plan_needs_at_once_still_ends_with_every_cell(bench: Any, counting: Any) -> None:
    from dataclasses import replace

    whole = bench.plan(counting(), "none,zscore", "linear_segmentation,pixel_probe", limit=20)
    bench.options = replace(bench.options, cache_budget=max(p.bytes for p in whole.passes) * 5 // 4)
    plan, summary = bench.run(counting(), "none,zscore", "linear_segmentation,pixel_probe", limit=20)
    assert summary.count(plan, "ok") == 4
