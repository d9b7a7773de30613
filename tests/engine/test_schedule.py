"""What may run next: streams are one job, their cells end one by one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from vitbench.engine.outcome import Outcome
from vitbench.engine.schedule import Schedule, allowed_s, told
from vitbench.jobs import StreamJob

TASK = "linear_segmentation@dinov2[iterations=5,batch=2,crop_px=64,stride_px=64,short_px=64,long_px=none]"


def scheduled(bench: Any, counting: Any, repairs: str, tasks: str = TASK) -> Schedule:
    return Schedule(bench.plan(counting(), repairs, tasks, limit=4), bench.options)


def test_cells_on_one_stream_are_one_job_that_names_them_and_travels(bench: Any, counting: Any) -> None:
    schedule = scheduled(bench, counting, "none,unit", f"{TASK},linear_segmentation@ridge")
    jobs = [schedule.next() for _ in range(3)]
    streams = [j for j in jobs if isinstance(j, StreamJob)]
    assert [c.slot.repair for c in told(streams[0])] == ["none", "unit"]
    assert pickle.loads(pickle.dumps(streams[0])) == streams[0]
    assert all(len(told(j)) == 1 for j in jobs if j is not None and j not in streams)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("timeout", "took longer than 2 s"),
        Outcome("oom", "the worker was killed", error_type="Killed"),
        Outcome("failed", "the worker ended with exit code -11", error_type="WorkerDied"),
    ],
)
def test_a_stream_that_ran_out_of_something_is_tried_cell_by_cell(bench: Any, counting: Any, outcome: Outcome) -> None:
    schedule = scheduled(bench, counting, "none,unit,smooth3")
    job = schedule.next()
    assert job is not None
    assert schedule.done(job, outcome) == []
    alone = [schedule.next() for _ in range(3)]
    assert schedule.next() is None
    assert [len(told(j)) for j in alone if j is not None] == [1, 1, 1]
    ended = [schedule.done(j, outcome) for j in alone if j is not None]
    assert [result.status for [(_, result)] in ended] == [outcome.status] * 3  # alone it is the cell's own
    assert not schedule.left


def test_an_error_of_the_stream_itself_is_not_tried_again(bench: Any, counting: Any) -> None:
    schedule = scheduled(bench, counting, "none,unit")
    job = schedule.next()
    assert job is not None
    ended = schedule.done(job, Outcome("failed", "no image", error_type="DataError"))
    assert [(cell.slot.repair, result.message) for cell, result in ended] == [
        ("none", "no image"),
        ("unit", "no image"),
    ]  # type: ignore[union-attr]
    assert not schedule.left


def test_a_stream_has_the_time_of_all_its_cells(bench: Any, counting: Any) -> None:
    schedule = scheduled(bench, counting, "none,unit,smooth3")
    job = schedule.next()
    assert job is not None
    assert allowed_s(job, bench.options) is None
    assert allowed_s(job, replace(bench.options, timeout_s=2.0)) == 6.0


def test_a_stream_waits_for_the_fits_of_its_cells_and_drops_those_whose_fit_failed(bench: Any, counting: Any) -> None:
    schedule = scheduled(bench, counting, "none,center,zscore+center")
    failed = Outcome("failed", "no mean", error_type="ValueError")
    ended = []
    while (job := schedule.next()) is not None and not isinstance(job, StreamJob):
        ended += schedule.done(job, failed if getattr(job, "repair", "") == "zscore" else Outcome("ok"))
    lost = {cell.slot.repair for cell, result in ended if result.status == "failed" and hasattr(cell, "slot")}
    assert lost == {"zscore+center"}
    assert [c.slot.repair for c in told(job)] == ["none", "center"]  # type: ignore[arg-type]
