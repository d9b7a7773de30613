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
    from vitbench.tasks import training

    monkeypatch.setattr(training, "KEEP_EVERY", 2)
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


# -- cells on one stream ----------------------------------------------------------------------------------------------

MAPS = "none,zscore,center,unit"


def bench_of(bench: Any, name: str) -> Any:
    return type(bench)(bench.options.records.parent / name)


def records(bench: Any, plan: Any) -> dict[str, Any]:
    return {c.slot.repair: find(bench.options.records, c.slot, c.identity) for c in plan.cells}


@pytest.mark.parametrize(
    "task",
    [
        "linear_segmentation@dinov2[SMALL,learning_rate=1e-2/1e-3,holdout=0.3]",
        "depth@dvt[iterations=3,batch=2,crop_h=60,crop_w=52,border=none,crop=none,max_depth_m=80,field=patch+cls]",
        "linear_classification@dinov2[iterations=3,batch=2,image_px=64,learning_rate=1e-2/1,field=cls+patch,blocks=1]",
    ],
)
def test_maps_on_one_stream_share_its_forwards_and_give_what_each_gives_alone(
    bench: Any, counting: Any, task: str
) -> None:
    task = task.replace("SMALL", SMALL)
    repairs = "none,zscore,center+unit" if task.startswith("linear_class") else MAPS
    backbone = counting()
    plan, summary = bench.run(backbone, repairs, task, limit=6)
    assert summary.count(plan, "ok") == len(plan.cells) > 2, summary.outcomes
    passed = sum(p.split.images for p in plan.passes)  # what repairs are fitted on
    together = records(bench, plan)
    streamed = next(iter(together.values())).cost.forwards
    assert len({c.stream for c in plan.cells}) == 1
    assert summary.forwards == backbone.images == passed + streamed
    assert plan.streamed == plan.cells[0].streamed <= streamed
    for cell in plan.cells:
        alone, single = bench_of(bench, cell.identity), counting()
        own, _ = alone.run(single, cell.slot.repair, task, limit=6)
        [record] = records(alone, own).values()
        shared = together[cell.slot.repair]
        assert own.cells[0].identity == cell.identity
        assert record.metrics == shared.metrics
        assert record.flags == shared.flags
        assert record.cost.forwards == shared.cost.forwards == streamed
        rows = [next(b.options.records.rglob(f"*{cell.identity}.parquet")).read_bytes() for b in (bench, alone)]
        assert rows[0] == rows[1]


def test_what_differs_in_more_than_a_map_is_another_stream(bench: Any, counting: Any) -> None:
    plan = bench.plan(counting(), "none,zscore,sclip,sclip+zscore", f"{TASK},linear_segmentation@dinov3[{SMALL}]")
    streams: dict[str, list[tuple[str, str]]] = {}
    for cell in plan.cells:
        streams.setdefault(cell.stream, []).append((cell.slot.repair, cell.slot.task.partition("[")[0]))
    assert sorted(map(len, streams.values())) == [2, 2, 2, 2]
    assert all(len({task for _, task in cells}) == 1 for cells in streams.values())
    assert all(len({"sclip" in repair for repair, _ in cells}) == 1 for cells in streams.values())
    assert bench.plan(counting(), "none,unit", "linear_segmentation@ridge").cells[0].stream == ""


@pytest.mark.parametrize("stage", ["map", "train", "score"])
def test_a_repair_that_fails_on_a_stream_fails_its_own_cell_alone(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from vitbench.heads.bank import HeadBank
    from vitbench.repairs.center import Center

    calls = {"map": 2, "train": 0, "score": 6}[stage]
    mapped = Center.map_field

    def failing(self: Any, x: Any, *rest: Any) -> Any:
        nonlocal calls
        calls -= 1
        if stage != "train" and calls < 0:
            raise ValueError("no centre today")
        return mapped(self, x, *rest) + (1e6 if stage == "train" else 0.0)

    step = HeadBank.step

    def strict(self: Any, x: Any, *rest: Any) -> Any:
        if float(x.abs().max()) > 1e5:
            raise ValueError("no centre today")
        return step(self, x, *rest)

    monkeypatch.setattr(Center, "map_field", failing)
    monkeypatch.setattr(HeadBank, "step", strict)
    backbone = counting()
    plan, summary = bench.run(backbone, MAPS, TASK, limit=4)
    assert (summary.count(plan, "ok"), summary.count(plan, "failed")) == (3, 1)
    found = records(bench, plan)
    assert found["center"].status == "failed"
    assert found["center"].error.message.startswith("ValueError: no centre today (test_live.py:")
    assert "failing" in found["center"].error.traceback or stage == "train"
    monkeypatch.undo()
    healthy = counting()
    again, healed = bench.run(healthy, MAPS, TASK, limit=4)
    assert [c.slot.repair for c in again.with_status("todo")] == ["center"]  # what is recorded is not done again
    assert healed.count(again, "ok") == 1
    whole, clean = bench_of(bench, "fresh"), counting()
    fresh, _ = whole.run(clean, MAPS, TASK, limit=4)
    assert {r: v.metrics for r, v in records(bench, plan).items()} == {
        r: v.metrics for r, v in records(whole, fresh).items()
    }


def test_a_fit_that_fails_takes_only_the_cell_that_needs_it(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.repairs.zscore import ZScore

    def broken(*_: object) -> None:
        raise ValueError("no deviation")

    monkeypatch.setattr(ZScore, "fit", broken)
    plan, summary = bench.run(counting(), "none,zscore,zscore+unit,center", TASK, limit=4)
    assert {c.slot.repair: summary.outcomes[c.id].status for c in plan.cells} == {
        "none": "ok", "zscore": "failed", "zscore+unit": "failed", "center": "ok",
    }  # fmt: skip
    assert "fit failed: ValueError: no deviation" in records(bench, plan)["zscore+unit"].error.message


def test_cells_that_stopped_at_different_places_go_on_together(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.tasks import training

    monkeypatch.setattr(training, "KEEP_EVERY", 2)
    for repair, stops_at in (("none", 6), ("unit", 8)):
        broken = counting()
        forward = broken._forward

        def failing(*args: Any, backbone: Any = broken, forward: Any = forward, stops_at: int = stops_at) -> Any:
            if backbone.images >= stops_at:
                raise RuntimeError("lost the device")
            return forward(*args)

        broken._forward = failing
        bench.run(broken, repair, TASK, limit=4)
    assert len(list(bench.options.states.glob("*.kept"))) == 2  # after iterations 2 and 4
    healthy, clean, whole = counting(), counting(), bench_of(bench, "fresh")
    plan, summary = bench.run(healthy, "none,unit", TASK, limit=4)
    assert summary.count(plan, "ok") == 2, summary.outcomes
    assert healthy.images == (5 - 2) * 2 + 4
    fresh, _ = whole.run(clean, "none,unit", TASK, limit=4)
    assert {r: v.metrics for r, v in records(bench, plan).items()} == {
        r: v.metrics for r, v in records(whole, fresh).items()
    }
    assert not list(bench.options.states.glob("*.kept"))


def test_what_goes_wrong_on_the_stream_itself_is_said_in_every_cell(bench: Any, counting: Any) -> None:
    plan, summary = bench.run(counting(broken=True), "none,unit", TASK, limit=4)
    assert summary.count(plan, "failed") == 2
    assert all("not finite" in r.reason and "Traceback" in r.error.traceback for r in records(bench, plan).values())


def test_a_cell_that_has_no_memory_in_company_is_tried_alone(
    bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitbench.engine import live
    from vitbench.repairs.unit import Unit

    company: list[int] = []
    run, mapped = live.run_stream_job, Unit.map_field

    def spied(job: Any, workbench: Any) -> Any:
        company.append(len(job.cells))
        return run(job, workbench)

    def hungry(*args: Any) -> Any:
        if company[-1] > 1:
            raise MemoryError("too many")
        return mapped(*args)

    monkeypatch.setattr(live, "run_stream_job", spied)
    monkeypatch.setattr(Unit, "map_field", hungry)
    plan, summary = bench.run(counting(), "none,unit,center", TASK, limit=4)
    assert company == [3, 1]
    assert summary.count(plan, "ok") == 3, summary.outcomes
    monkeypatch.setattr(Unit, "map_field", lambda *_: (_ for _ in ()).throw(MemoryError("too many")))
    plan, summary = bench_of(bench, "small").run(counting(), "none,unit", TASK, limit=4)
    assert (summary.count(plan, "ok"), summary.count(plan, "oom")) == (1, 1)


def test_a_full_disk_on_a_stream_stops_everything(bench: Any, counting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitbench.engine import cells
    from vitbench.errors import StorageError

    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full", "free space")

    monkeypatch.setattr(cells, "write", full)
    with pytest.raises(StorageError, match="disk is full"):
        bench.run(counting(), "none,unit", TASK, limit=4)
