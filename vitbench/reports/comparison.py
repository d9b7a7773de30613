"""Two folders of records, cell by cell: what got better, worse, or is no longer there.

A regression needs both the paired test (Benjamini-Hochberg over the comparison) and a change that matters in practice
(`thresholds`). Pure: entries in, pairs out; what only the files know is asked of `Evidence`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from vitbench.identity import Slot
from vitbench.records.index import Entry
from vitbench.records.inference import ALPHA, Difference, benjamini_hochberg, paired, paired_difference
from vitbench.reports.thresholds import CostThresholds, Thresholds

Status = Literal["regressed", "failed", "missing", "not comparable", "drifted", "improved", "new", "unchanged"]
STATUSES: tuple[Status, ...] = (
    *("regressed", "failed", "missing", "not comparable", "drifted", "improved", "new", "unchanged"),
)
TIME = "time"
FAILURES = ("failed", "oom", "timeout")


class Evidence(Protocol):
    """What tells two records apart beyond their headline."""

    def differing(self, baseline: Entry, candidate: Entry, comparable_only: bool) -> tuple[str, ...]:
        """Dotted names of the parts in which the identities differ."""

    def rows_differ(self, baseline: Entry, candidate: Entry) -> bool:
        """Whether the rows of two records of one identity differ."""


@dataclass(frozen=True)
class CostChange:
    """A cost that has grown beyond its threshold."""

    name: str
    baseline: float
    candidate: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.candidate / self.baseline if self.baseline else float("inf")


@dataclass(frozen=True)
class Pair:
    """One slot in both folders. Values are in the metric's unit; threshold: the least change that matters there.

    changed: parts in which the identities differ. costs: what has grown too far. against: what stands for the baseline.
    """

    slot: Slot
    status: Status
    note: str = ""
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    baseline: float | None = None
    candidate: float | None = None
    difference: Difference | None = None
    p_adjusted: float | None = None
    threshold: float | None = None
    changed: tuple[str, ...] = ()
    costs: tuple[CostChange, ...] = ()
    seconds: float | None = None
    against: str = ""

    @property
    def is_worse(self) -> bool:
        """Whether the headline moved in the bad direction."""
        return self.difference is not None and (self.difference.delta < 0) == self.higher_is_better

    @property
    def is_regression(self) -> bool:
        """Worse by test and threshold, or more costly in what does not depend on who else uses the machine."""
        return self.status == "regressed" or any(c.name != TIME for c in self.costs)

    @property
    def is_slower(self) -> bool:
        """Whether it took much longer on the same machine, which may have been busy."""
        return any(c.name == TIME for c in self.costs)


@dataclass(frozen=True)
class Comparison:
    """All pairs, worst status first. seconds_ratio: candidate over baseline, over cells measured on the same machine."""

    baseline: str
    candidate: str
    pairs: tuple[Pair, ...]
    seconds_ratio: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Status, int]:
        """Pairs by status, in the order of STATUSES, without empty ones."""
        found = Counter(pair.status for pair in self.pairs)
        return {status: found[status] for status in STATUSES if found[status]}

    def failing(self, fail_on: Iterable[str]) -> list[Pair]:
        """The pairs that fail the comparison; `regression` also means costs other than time, `slower` means time."""
        wanted = set(fail_on)
        return [
            p
            for p in self.pairs
            if p.status in wanted
            or ("regression" in wanted and p.is_regression)
            or ("slower" in wanted and p.is_slower)
        ]


def compare(
    baseline: Sequence[Entry],
    candidate: Sequence[Entry],
    thresholds: Thresholds,
    evidence: Evidence,
    labels: tuple[str, str] = ("baseline", "candidate"),
    problems: tuple[str, ...] = (),
    stand_ins: Mapping[Slot, Entry] | None = None,
) -> Comparison:
    """Pair the cells of two folders by slot. Cells without a number on either side are left out.

    stand_ins: what a slot that the baseline lacks is held against, such as the checkpoint before it.
    """
    own, after = ({e.slot: e for e in entries} for entries in (baseline, candidate))
    before = {**(stand_ins or {}), **own}
    made = []
    for slot in sorted(before.keys() | after.keys()):
        pair = _pair(slot, before.get(slot), after.get(slot), thresholds, evidence)
        if pair is not None:
            lent = slot in before and slot not in own
            made.append(replace(pair, against=before[slot].slot.backbone) if lent else pair)
    judged = _judged(made, before, after, evidence)
    judged.sort(key=lambda p: (STATUSES.index(p.status), not p.costs, p.slot))
    shared = [(a.seconds, b.seconds) for s, a in before.items() if (b := after.get(s)) and same_machine(a, b)]
    timed = [(a, b) for a, b in shared if a and b]
    ratio = sum(b for _, b in timed) / sum(a for a, _ in timed) if timed else None
    return Comparison(*labels, tuple(judged), ratio, problems)


def same_machine(a: Entry, b: Entry) -> bool:
    """Whether two cells were measured on machines that their records cannot tell apart."""
    return bool(a.machine) and a.machine == b.machine


def _pair(slot: Slot, a: Entry | None, b: Entry | None, thresholds: Thresholds, evidence: Evidence) -> Pair | None:
    """The pair before the test: everything that needs no p value."""
    known, gained = (a.value if a else None), (b.value if b else None)
    one = b if gained is not None else a
    pair = Pair(slot, "unchanged", baseline=known, candidate=gained, seconds=b.seconds if b else None)
    if one is not None:
        pair = replace(pair, metric=one.metric, unit=one.unit, higher_is_better=one.higher_is_better)
    if b is not None and b.status in FAILURES:
        before = " (and in the baseline)" if a is not None and a.status in FAILURES else ""
        return replace(pair, status="failed", note=f"{b.status}: {b.reason}{before}")
    if known is None:
        return None if gained is None else replace(pair, status="new", note=_why_absent(a))
    if gained is None or a is None or b is None:
        return replace(pair, status="missing", note=_why_absent(b) or "no record")
    return _measured(pair, a, b, thresholds, evidence)


def _measured(pair: Pair, a: Entry, b: Entry, thresholds: Thresholds, evidence: Evidence) -> Pair:
    """Two numbers of one slot, with their paired difference if they measure the same."""
    if a.comparable != b.comparable or a.metric != b.metric:
        changed = evidence.differing(a, b, comparable_only=True)
        if a.metric != b.metric:
            changed = (*changed, f"headline ({a.metric}, now {b.metric})")
        return replace(pair, status="not comparable", changed=changed, note="not the same measurement")
    first, second = a.estimate, b.estimate
    if first is None or second is None:
        return pair
    if first.draws is not None and second.draws is not None and isinstance(paired(second, first), str):
        changed = evidence.differing(a, b, comparable_only=False)
        return replace(
            pair, status="not comparable", changed=changed, note="measured on other units, or resampled otherwise"
        )
    return replace(
        pair,
        difference=paired_difference(second, first),
        threshold=thresholds.least(pair.slot.task, a.metric, a.unit, first.value),
        costs=_costs(a, b, thresholds.cost),
    )


def _why_absent(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if entry.status == "ok":
        return f"null: {entry.note or 'the headline is undefined'}"
    return f"{entry.status}: {entry.reason}" if entry.reason else entry.status


def _costs(a: Entry, b: Entry, at: CostThresholds) -> tuple[CostChange, ...]:
    found = [_grown("forwards per image", a.forwards_per_image, b.forwards_per_image, "", at.forwards_ratio, 0)]
    if same_machine(a, b):
        memory = a.peak_memory_bytes, b.peak_memory_bytes
        found.append(_grown("peak memory", *memory, "bytes", at.memory_ratio, at.memory_least_bytes))
        found.append(_grown(TIME, a.seconds, b.seconds, "s", at.seconds_ratio, at.seconds_least))
    return tuple(change for change in found if change is not None)


def _grown(
    name: str, before: float | None, after: float | None, unit: str, ratio: float, least: float
) -> CostChange | None:
    if before is None or after is None or after <= before * ratio or after - before <= least:
        return None
    return CostChange(name, before, after, unit)


def _judged(pairs: list[Pair], before: dict[Slot, Entry], after: dict[Slot, Entry], evidence: Evidence) -> list[Pair]:
    """Adjusted p over the cells whose numbers are not bit for bit those of the baseline, and the verdict of each."""
    open_ = [i for i, p in enumerate(pairs) if p.difference is not None]
    moved = [i for i in open_ if not _same_numbers(before[pairs[i].slot], after[pairs[i].slot])]
    tested = {i: p for i in moved if (d := pairs[i].difference) is not None and (p := d.p) is not None}
    adjusted = dict(zip(tested, benjamini_hochberg(list(tested.values())), strict=True))
    out = list(pairs)
    for i in open_:
        a, b = before[pairs[i].slot], after[pairs[i].slot]
        pair = replace(pairs[i], p_adjusted=float(adjusted[i]) if i in adjusted else None)
        if a.identity != b.identity:
            pair = replace(pair, changed=evidence.differing(a, b, comparable_only=False))
        drifted = a.identity == b.identity and (i in moved or evidence.rows_differ(a, b))
        out[i] = _verdict(pair, drifted)
    return out


def _same_numbers(a: Entry, b: Entry) -> bool:
    mine, other = (None if e.draws is None else e.draws.tobytes() for e in (a, b))
    return a.value == b.value and a.draws_key == b.draws_key and mine == other


def _verdict(pair: Pair, drifted: bool) -> Pair:
    change, least = pair.difference, pair.threshold
    if change is None or least is None:
        return pair
    large, certain = abs(change.delta) >= least, pair.p_adjusted is not None and pair.p_adjusted < ALPHA
    notes = ["the rows changed although the identity did not"] if drifted else []
    if large and change.delta:
        if change.p is None:
            notes.append(f"no paired test ({change.note.removeprefix('no interval: ')})")
        elif not certain:
            notes.append("could be chance")
    elif certain:
        notes.append("smaller than what matters")
    status: Status = "drifted" if drifted else "unchanged"
    if large and certain:
        status = "regressed" if pair.is_worse else "improved"
    if pair.costs:
        notes += [f"{c.name} x{c.ratio:.2f}" for c in pair.costs]
    return replace(pair, status=status, note="; ".join(notes))
