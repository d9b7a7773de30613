"""Which job of a plan may run next, and what falls with a job that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.jobs import CellJob, FitJob, PassJob, Plan, StreamJob
from vitbench.tokens.manifest import evict, parts

Job = PassJob | FitJob | CellJob | StreamJob
Told = PassJob | FitJob | CellJob  # what is reported: a stream is its cells


def kind(job: Job) -> str:
    """A job's kind as errors and records name it."""
    return {PassJob: "pass", FitJob: "fit", CellJob: "cell", StreamJob: "cell"}[type(job)]


class Schedule:
    """Jobs of earlier backbones come first, so that their tokens can be dropped soonest.

    Cells that follow one stream are one job, in which each succeeds or fails by itself.
    """

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        todo = plan.with_status("todo")
        streams: dict[str, list[CellJob]] = {}
        for cell in todo:
            if cell.stream:
                streams.setdefault(cell.stream, []).append(cell)
        together = {cells[0].id: StreamJob.of(cells) for cells in streams.values()}
        cells = [together.get(c.id, c) for c in todo if not c.stream or c.id in together]
        jobs: list[Job] = [*plan.passes, *plan.fits, *cells]
        self.jobs: dict[str, Job] = {j.id: j for j in jobs}
        self._needs = {i: set(needed) & self.jobs.keys() for i, needed in plan.requires.items()}
        self.requires = {j.id: self._required(j) for j in jobs}
        order = {name: i for i, name in enumerate(dict.fromkeys(j.backbone for j in jobs))}
        kinds = {PassJob: 0, FitJob: 1, CellJob: 2, StreamJob: 2}
        self._rank = {j.id: (order[j.backbone], kinds[type(j)], n) for n, j in enumerate(jobs)}
        self.left = set(self.jobs)
        self.running: set[str] = set()
        self._options = options

    def _required(self, job: Job) -> set[str]:
        """Jobs that must be done before it."""
        ids = [cell.id for cell in job.cells] if isinstance(job, StreamJob) else [job.id]
        return set().union(*(self._needs.get(i, set()) for i in ids))

    def next(self) -> Job | None:
        """The best job that may start now, or None."""
        ready = sorted(
            (j for j in self.left - self.running if not self.requires[j] & self.left), key=self._rank.__getitem__
        )
        for job_id in ready:
            job = self.jobs[job_id]
            if not isinstance(job, PassJob) or self._fits_budget(job):
                break
        else:  # only passes over the budget are left: one at a time, once nothing else can make room
            if self.running or not ready:
                return None
            job = self.jobs[ready[0]]
        self.running.add(job.id)
        return job

    def _fits_budget(self, job: PassJob) -> bool:
        budget, root = self._options.cache_budget, self._options.tokens
        if budget is None:
            return True
        evict(root, self.needed_stores(), max(budget - job.bytes, 0))
        return sum(p.bytes for p in parts(root)) + job.bytes <= budget

    def needed_stores(self) -> frozenset[str]:
        """Stores that a job still to be done reads."""
        needed: set[str] = set()
        for job_id in self.left:
            job = self.jobs[job_id]
            if isinstance(job, CellJob):
                needed.update(job.stores.values())
            elif not isinstance(job, StreamJob):
                needed.add(job.store)
        return frozenset(needed)

    def done(self, job: Job, outcome: Outcome) -> list[tuple[Told, Outcome]]:
        """Mark a job done; where it failed, its dependents fail with it. Returns everything that ended."""
        self.left.discard(job.id)
        self.running.discard(job.id)
        if isinstance(job, StreamJob):
            return self._stream_done(job, outcome)
        if isinstance(job, PassJob) and outcome.status == "not_applicable" and len(job.fields) > 1:
            self._by_field(job)
            return [(job, outcome)]
        return self._ended(job, outcome)

    def _ended(self, job: PassJob | FitJob | CellJob, outcome: Outcome) -> list[tuple[Told, Outcome]]:
        """Everything that ends with a job: where it failed, what needs it."""
        ended: list[tuple[Told, Outcome]] = [(job, outcome)]
        if outcome.status != "ok":
            refused = outcome.status in ("not_applicable", "unavailable")
            cause = Outcome(
                outcome.status, outcome.message if refused else f"{kind(job)} failed: {outcome.message}",
                traceback=outcome.traceback, error_type=outcome.error_type, stage=kind(job),
            )  # fmt: skip
            for other in sorted(j for j in self.left - self.running if job.id in self.requires[j]):
                ended += self._falls(other, job, cause)
        return ended

    def _by_field(self, job: PassJob) -> None:
        """A pass in which something was refused is run field by field: cells that do not read that field have their number."""
        alone = [replace(job, fields=(name,)) for name in job.fields]
        for one in alone:
            self.jobs[one.id], self.requires[one.id] = one, self.requires[job.id]
            self._rank[one.id] = self._rank[job.id]
            self.left.add(one.id)
        for name in [j for j in self.left if job.id in self.requires[j]]:
            needed = {one.id for one in alone if _reads(self.jobs[name], one.fields[0])}
            self.requires[name] = self.requires[name] - {job.id} | needed

    def _falls(self, name: str, failed: Job, cause: Outcome) -> list[tuple[Told, Outcome]]:
        """What ends because a job failed that it needs: of a stream, only the cells that need it."""
        if name not in self.left:  # fell with another one meanwhile
            return []
        job = self.jobs[name]
        if not isinstance(job, StreamJob):
            self.left.discard(name)
            return self._ended(job, cause)
        lost = [cell for cell in job.cells if failed.id in self._needs.get(cell.id, ())]
        rest = replace(job, cells=tuple(cell for cell in job.cells if cell not in lost))
        self.jobs[name], self.requires[name] = rest, self._required(rest)
        if not rest.cells:
            self.left.discard(name)
        return [(cell, cause) for cell in lost]

    def _stream_done(self, job: StreamJob, outcome: Outcome) -> list[tuple[Told, Outcome]]:
        """The cells that ended. One that ran out of memory or time, or whose worker died, in company is tried alone."""
        ended: list[tuple[Told, Outcome]] = []
        for cell in job.cells:
            own = outcome.parts.get(cell.id, outcome)
            if len(job.cells) > 1 and (own.status in ("oom", "timeout") or own.error_type == "WorkerDied"):
                alone = StreamJob.of([cell])
                self.jobs[alone.id], self.requires[alone.id] = alone, set()
                self._rank[alone.id] = self._rank[job.id]
                self.left.add(alone.id)
            else:
                ended.append((cell, own))
        return ended


def _reads(job: Job, field: str) -> bool:
    """Whether a job reads a field of the passes that it needs."""
    if isinstance(job, FitJob):
        return field == job.field or field in job.needs
    return isinstance(job, CellJob) and field in job.fields


def allowed_s(job: Job, options: RunOptions) -> float | None:
    """Seconds that a job may take: a stream has those of all its cells."""
    if options.timeout_s is None:
        return None
    return options.timeout_s * (len(job.cells) if isinstance(job, StreamJob) else 1)


def told(job: Job) -> Sequence[Told]:
    """What a job is reported as."""
    return job.cells if isinstance(job, StreamJob) else (job,)
