"""Progress of a run: a live bar on a terminal, elsewhere a line per ten percent and per minute of work."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from vitbench.engine.outcome import Outcome
    from vitbench.engine.schedule import Told
    from vitbench.jobs import Plan


SILENCE_S = 60.0


class Progress:
    """Listens to the engine. Counts jobs weighted by what they cost: an image forward counts as one, a fit or cell as ten."""

    def __init__(self, plan: Plan) -> None:
        self._total = plan.forwards + 10 * (len(plan.fits) + len(plan.with_status("todo")))
        self._done, self._shown = 0, -1
        self._started = self._spoke = time.monotonic()
        self._rich: RichProgress | None = None
        self._running: dict[str, str] = {}
        self._streams: set[str] = set()

    def __enter__(self) -> Progress:
        if self._total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._rich = RichProgress(
                TextColumn("{task.percentage:>3.0f}%"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.description}"), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._rich.start()
            self._task = self._rich.add_task("starting", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich:
            self._rich.stop()

    def started(self, job: Told) -> None:
        self._running[job.id] = label(job)
        self._show()

    def finished(self, job: Told, _outcome: Outcome) -> None:
        from vitbench.jobs import CellJob, PassJob

        self._running.pop(job.id, None)
        if isinstance(job, PassJob):
            self._done += job.split.images * job.forwards_per_image
        else:
            self._done += 10
        if isinstance(job, CellJob) and job.stream not in self._streams:  # cells on one stream share its forwards
            self._streams.add(job.stream)
            self._done += job.streamed * job.forwards_per_image
        self._show(label(job))

    def _show(self, ended: str = "") -> None:
        if self._rich:
            text = "; ".join(self._running.values())
            self._rich.update(self._task, completed=self._done, description=text[:90])
            return
        share = min(self._done / max(self._total, 1), 1.0)  # a pass that is run again, field by field, is in no total
        tenth = int(10 * share)
        now_s = time.monotonic()
        if tenth != self._shown or now_s - self._spoke >= SILENCE_S:
            self._shown, self._spoke = tenth, now_s
            seconds = now_s - self._started
            now = next(iter(self._running.values()), ended and f"{ended}: done")
            print(f"{int(100 * share):3d}%  {seconds:5.0f} s  {now}", file=sys.stderr, flush=True)


def label(job: Told) -> str:
    """A job in a few words."""
    from vitbench.jobs import CellJob, PassJob

    if isinstance(job, PassJob):
        return f"pass {job.backbone} {job.split.dataset}/{job.split.split} {job.view}"
    if isinstance(job, CellJob):
        return f"{job.slot.task.partition('[')[0]} {job.slot.backbone} {job.slot.repair}"
    return f"fit {job.repair} on {job.backbone}"
