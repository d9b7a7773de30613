"""Streaming cells in the engine: no stored tokens, edits and maps on the way, checkpoints, honest forwards."""

from __future__ import annotations

from typing import Any

import pytest

from vitbench.records.store import find

SMALL = "iterations=5,batch=2,crop_px=64,stride_px=64,short_px=64,long_px=none"
TASK = f"linear_segmentation@dinov2[{SMALL}]"


def test_a_streaming_cell_stores_no_tokens_and_counts_its_forwards(bench: Any, counting: Any) -> None:
    backbone = counting()
    plan, summary = bench.run(backbone, "none", TASK, limit=4)
    assert summary.count(plan, "ok") == 1, summary.outcomes
    assert plan.passes == ()
    assert plan.forwards == 5 * 2 + 4
    [cell] = plan.cells
    record = find(bench.options.records, cell.slot, cell.identity)
    assert record.cost.forwards == backbone.images == summary.forwards == 14
    assert not list(bench.options.states.glob("*.kept"))
    again, _ = bench.run(backbone, "none", TASK, limit=4)
    assert {c.status for c in again.cells} == {"cached"}
    assert backbone.images == 14


def test_a_map_that_needs_a_fit_reads_train_crops_and_no_val_tokens(bench: Any, counting: Any) -> None:
    plan, summary = bench.run(counting(), "zscore", TASK, limit=4)
    assert summary.count(plan, "ok") == 1, summary.outcomes
    assert [p.split.split for p in plan.passes] == ["train"]
    assert plan.requires[plan.cells[0].id] == (plan.fits[0].id,)


def test_an_edit_is_applied_to_the_stream(bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitbench.repairs.sclip import SClip

    edited = []
    monkeypatch.setattr(SClip, "edit", lambda _self, backbone, _state: (edited.append(1), backbone)[1])
    plan, summary = bench.run(counting(), "sclip", TASK, limit=3)
    assert summary.count(plan, "ok") == 1, summary.outcomes
    assert edited


def test_a_cell_that_failed_on_the_way_goes_on_from_its_checkpoint(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.tasks import live

    monkeypatch.setattr(live, "KEEP_EVERY", 2)
    broken = counting()
    forward = broken._forward

    def failing(*args: Any) -> Any:
        if broken.images >= 6:
            raise RuntimeError("lost the device")
        return forward(*args)

    broken._forward = failing
    plan, summary = bench.run(broken, "none", TASK, limit=4)
    assert summary.count(plan, "failed") == 1
    healthy = counting()
    plan, summary = bench.run(healthy, "none", TASK, limit=4)
    assert summary.count(plan, "ok") == 1, summary.outcomes
    assert healthy.images == (5 - 2) * 2 + 4  # iterations 2, 3, 4 and the test images
    other = counting()
    plan2, _ = type(bench)(bench.options.records.parent / "fresh").run(other, "none", TASK, limit=4)
    values = [
        find(folder, plan.cells[0].slot, plan.cells[0].identity).metrics["mIoU"].value
        for folder in (bench.options.records, bench.options.records.parent / "fresh" / "runs")
    ]
    assert plan2.cells[0].identity == plan.cells[0].identity
    assert values[0] == values[1]


def test_depth_streams_several_fields(bench: Any, counting: Any) -> None:
    small = "iterations=2,batch=2,crop_h=60,crop_w=52,border=none,crop=none,max_depth_m=80,field=patch+cls"
    plan, summary = bench.run(counting(), "none,center", f"depth@dvt[{small}]", limit=3)
    assert summary.count(plan, "ok") == 2, summary.outcomes
