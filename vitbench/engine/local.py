"""The local engine: spawned workers take jobs of a plan; a failing cell is recorded and the rest goes on.

It knows nothing of what a task does. Workers that die are replaced; Ctrl-C leaves what is complete, and the same command
again goes on from there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome, failure
from vitbench.engine.schedule import Job, Schedule, Told, allowed_s, kind, told
from vitbench.errors import RecordError, StorageError, VitbenchError
from vitbench.jobs import CellJob, FitJob, PassJob, Plan, StreamJob
from vitbench.records.schema import Record
from vitbench.records.store import write

if TYPE_CHECKING:
    from vitbench.engine.jobs import Workbench


class Listener(Protocol):
    """What hears of progress."""

    def started(self, job: Told, /) -> None: ...
    def finished(self, job: Told, outcome: Outcome, /) -> None: ...


@dataclass
class Summary:
    """What a run came to: outcomes by job id, and the images that went through a model."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    forwards: int = 0
    seconds: float = 0.0

    def count(self, plan: Plan, status: str) -> int:
        return sum(1 for c in plan.cells if c.id in self.outcomes and self.outcomes[c.id].status == status)


def run(plan: Plan, options: RunOptions, listener: Listener, modules: Mapping[str, Any] | None = None) -> Summary:
    """Run what the plan has to do; returns outcomes. Raises StorageError as soon as the disk is full or not writable."""
    _check_writable(options)
    started = time.perf_counter()
    summary = Summary()
    record_missing(plan, options)
    schedule = Schedule(plan, options)
    if schedule.left:
        workers = options.worker_count() if not modules else 0
        if workers == 0:
            _run_inline(schedule, options, listener, summary, modules)
        else:
            _run_workers(schedule, options, listener, summary, workers)
    summary.seconds = time.perf_counter() - started
    return summary


def _check_writable(options: RunOptions) -> None:
    try:
        options.records.mkdir(parents=True, exist_ok=True)
        probe = options.records / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecordError(
            f"records folder {options.records} is not writable: {error.strerror}", "use --records DIR"
        ) from error


def record_missing(plan: Plan, options: RunOptions) -> None:
    """Cells that cannot run are records too, with the reason and the remedy."""
    for cell in plan.with_status("unavailable", "not_applicable"):
        record = Record.missing(
            cell.status, cell.reason, cell.remedy, slot=cell.slot, identity=cell.identity, components=cell.components
        )
        write(options.records, record, None, replace=False)


def execute(job: Job, bench: Workbench) -> Outcome:
    """Run one job; whatever goes wrong becomes an outcome with its traceback. Only a full disk stops everything."""
    from vitbench.engine import jobs
    from vitbench.engine.live import run_stream_job

    runners: dict[type, Callable[[Any, Workbench], Outcome]] = {
        PassJob: jobs.run_pass_job, FitJob: jobs.run_fit_job, CellJob: jobs.run_cell_job, StreamJob: run_stream_job,
    }  # fmt: skip
    try:
        return runners[type(job)](job, bench)
    except (StorageError, RecordError) as error:
        return Outcome("storage", str(error))
    except Exception as error:  # noqa: BLE001 - the contract: any failure of a cell is recorded, and the rest goes on
        return failure(error, kind(job))


def _close(
    schedule: Schedule, job: Job, outcome: Outcome, options: RunOptions, listener: Listener, summary: Summary
) -> None:
    """Book a finished job: records for cells that did not come to a number, progress, counts."""
    if outcome.status == "storage":
        raise StorageError(outcome.message)
    summary.forwards += outcome.forwards
    for ended, result in schedule.done(job, outcome):
        summary.outcomes[ended.id] = result
        if isinstance(ended, CellJob) and result.status != "ok":
            write(options.records, failure_record(ended, result), None)
        listener.finished(ended, result)


def failure_record(cell: CellJob, outcome: Outcome) -> Record:
    """The record of a cell that has no number, with the error."""
    if outcome.status in ("unavailable", "not_applicable"):
        return Record.missing(
            outcome.status, outcome.message, "", slot=cell.slot, identity=cell.identity, components=cell.components
        )
    error = {
        "type": outcome.error_type, "message": outcome.message, "traceback": outcome.traceback, "stage": outcome.stage,
    }  # fmt: skip
    return Record.failed(outcome.status, error, slot=cell.slot, identity=cell.identity, components=cell.components)


def _run_inline(
    schedule: Schedule, options: RunOptions, listener: Listener, summary: Summary, modules: Mapping[str, Any] | None
) -> None:
    from vitbench.engine.jobs import Workbench

    with contextlib.closing(Workbench(options, modules)) as bench:
        while schedule.left and (job := schedule.next()) is not None:
            for some in told(job):
                listener.started(some)
            _close(schedule, job, execute(job, bench), options, listener, summary)


class _Worker:
    """A spawned process and the job it has."""

    def __init__(self, options: RunOptions) -> None:
        from vitbench.plugins import loaded_code

        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        # No daemon: those may not have decoders.
        self.process = context.Process(target=work, args=(child, options, loaded_code()))
        self.process.start()
        child.close()
        self.job: Job | None = None
        self.since = 0.0

    def give(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.connection.send(job)

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()

    def stop(self) -> None:
        self.end()
        self.process.join(10)


def work(connection: Connection, options: RunOptions, code: Mapping[str, str]) -> None:
    """A worker's loop: job in, outcome out, until the connection closes. code: of the plug-ins as they were planned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends the workers
    from vitbench.engine.jobs import Workbench
    from vitbench.plugins import load_plugins, require_code

    refused: Outcome | None = None
    try:
        load_plugins(options.plugins)
        require_code(code)
    except VitbenchError as error:  # of a file that was edited while the run goes on
        refused = failure(error, "worker")
    with contextlib.closing(Workbench(options)) as bench:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(refused or execute(job, bench))


def _run_workers(schedule: Schedule, options: RunOptions, listener: Listener, summary: Summary, count: int) -> None:
    threads = max(len(os.sched_getaffinity(0)) // count, 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    workers = [_Worker(options) for _ in range(min(count, len(schedule.left)))]
    try:
        while schedule.left:
            for i, worker in enumerate(workers):
                if worker.job is None and (job := schedule.next()) is not None:
                    for some in told(job):
                        listener.started(some)
                    worker.give(job)
                elif worker.job is not None and _overdue(worker, options):
                    assert worker.job is not None
                    outcome = Outcome("timeout", f"took longer than {allowed_s(worker.job, options):.0f} s")
                    workers[i] = _replace(worker, options)
                    _close(schedule, worker.job, outcome, options, listener, summary)
            busy = {w.connection: i for i, w in enumerate(workers) if w.job is not None}
            for connection in wait(list(busy), timeout=1.0):
                i = busy[connection]  # type: ignore[index]
                worker = workers[i]
                job = worker.job
                assert job is not None
                try:
                    outcome = worker.connection.recv()
                    worker.job = None
                except EOFError:
                    outcome = _death(worker)
                    workers[i] = _replace(worker, options)
                _close(schedule, job, outcome, options, listener, summary)
    finally:
        for worker in workers:  # all of them, before any is waited for: a second Ctrl-C must leave none behind
            worker.end()
        for worker in workers:
            worker.stop()


def _overdue(worker: _Worker, options: RunOptions) -> bool:
    limit = None if worker.job is None else allowed_s(worker.job, options)
    return limit is not None and time.monotonic() - worker.since > limit


def _replace(worker: _Worker, options: RunOptions) -> _Worker:
    worker.stop()
    return _Worker(options)


def _death(worker: _Worker) -> Outcome:
    worker.process.join(10)
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        return Outcome("oom", "the worker was killed, most likely for memory", error_type="Killed", stage="worker")
    return Outcome("failed", f"the worker ended with exit code {code}", error_type="WorkerDied", stage="worker")
