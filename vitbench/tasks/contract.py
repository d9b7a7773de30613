"""What every task must keep, as checks anybody can run on one of their own (`vitbench check task NAME[@PROTOCOL]`).

Measured on a few of the lab's images with tokens of a shipped model (`vitbench.tasks.samples`). Each check raises
ContractError with what was broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitbench.catalogue.resolve import TaskRef
from vitbench.identity import digest
from vitbench.metrics import measures
from vitbench.records.rows import Measure, Rows
from vitbench.tasks.base import Language, Task, TaskContext
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.samples import BATCH, Samples, reordered, samples_for, shuffled
from vitbench.tokens.promises import ContractError, Finding, findings

ROUNDING = {"rtol": 2e-3, "atol": 0.05}  # of values, in their unit: other batches add in another order
PERFECT = 99.0  # per cent
ORDERED = frozenset(
    ("frames", "keypoints", "pose")
)  # targets of images that belong together, in the order of their video


@dataclass(frozen=True)
class Measured:
    """What one run of the task gave."""

    head: Any
    rows: Rows
    values: Mapping[str, float]
    read: bool = True  # some tokens of the test images
    written: str = ""  # what of the streams was changed on the way


@dataclass(frozen=True)
class Subject:
    """A task under one protocol, the samples it is tried on, and what it gave on them."""

    samples: Samples
    language: Language | None = None

    @property
    def ref(self) -> TaskRef:
        return self.samples.ref

    @cached_property
    def first(self) -> Measured:
        streams, untouched = self.streams(), self.streams()
        found = self.run(streams)
        read = any(getattr(batch.tokens.fields, "read", True) for batch in streams["val"])
        return dataclasses.replace(found, read=read, written=_written(streams, untouched))

    @property
    def measures(self) -> tuple[Measure, ...]:
        return measures(self.ref.card.metric, self.first.rows.info)

    def streams(self, size: int = BATCH) -> dict[str, MemoryStream]:
        return {split: self.samples.stream(split, size) for split in self.ref.card.splits}

    def run(self, streams: Mapping[str, MemoryStream] | None = None, seed: int = 0) -> Measured:
        """As a run does it: a fresh task, fitted where its card says so, and measured."""
        task: Task[Any] = self.ref.load()
        given = self.streams() if streams is None else streams
        head = task.fit(given["train"], self.context(seed)) if "train" in given else None
        return self.measured(head, given["val"], seed)

    def measured(self, head: Any, val: MemoryStream, seed: int = 0) -> Measured:
        rows = self.ref.load().measure(head, val, self.context(seed))
        if not isinstance(rows, Rows):
            raise ContractError(f"measure gave a {type(rows).__name__}, not Rows")
        sums = rows.sums()
        known = measures(self.ref.card.metric, rows.info)
        return Measured(head, rows, {m.name: float(m.value(sums, rows.info)) for m in known})

    def context(self, seed: int = 0) -> TaskContext:
        return TaskContext(self.samples.dataset, seed, self.language)


def run_checks(ref: TaskRef, dataset: str = "", root: Path | None = None) -> list[Finding]:
    """Every check on a task. Raises NotApplicableError or UnavailableError where it cannot be tried here, and why."""
    subject = Subject(samples_for(ref, dataset, root))
    return findings(CHECKS, lambda: subject)


# -- checks ------------------------------------------------------------------------------------------------------------


def settings_are_an_identity(subject: Subject) -> None:
    """Settings can be hashed, and made again they are equal and have the same digest: records are found by it."""
    ref = subject.ref
    again = dataclasses.replace(ref, settings=dataclasses.replace(ref.settings))
    if hash(again.settings) != hash(ref.settings) or digest(again.identity()) != digest(ref.identity()):
        raise ContractError("the same settings made twice differ, so that nothing would be found again")


def fit_is_called(subject: Subject) -> None:
    """A task that fits a head says that it reads train: without, `fit` is never called."""
    kind = type(subject.ref.load())
    if "train" not in subject.ref.card.splits and kind.fit is not Task.fit:
        raise ContractError(f"{kind.__name__} has fit, which is not called unless splits of the card name train")


def only_what_is_declared_is_read(subject: Subject) -> None:
    """The fields that the protocol names and the targets of the card are all that it needs."""
    _ = subject.first


def rows_are_of_units(subject: Subject) -> None:
    """Each unit has one row of finite numbers, a name of its own, and a group of images to be drawn with."""
    rows = subject.first.rows
    if not len(rows):
        raise ContractError("there are no rows")
    if len(set(rows.unit_id)) != len(rows):
        twice = next(unit for unit in rows.unit_id if rows.unit_id.count(unit) > 1)
        raise ContractError(f"unit {twice!r} has more than one row")
    for name, values in rows.stats.items():
        if not np.isfinite(np.asarray(values, np.float64)).all():
            raise ContractError(f"{name} is not finite in some row; leave such units out, or count them in a statistic")


def measures_are_declared(subject: Subject) -> None:
    """Headline and secondary measures are there, each with a unit and a better side, and the headline has a value."""
    card, known = subject.ref.card, subject.measures
    for name in (card.headline, *card.secondary):
        if name not in [m.name for m in known]:
            raise ContractError(f"its measure {name!r} is not among {', '.join(m.name for m in known)}")
    for m in known:
        if not isinstance(m.unit, str) or not isinstance(m.higher_is_better, bool):
            raise ContractError(f"{m.name} does not say its unit or which side is better")
    if not np.isfinite(subject.first.values[card.headline]):
        raise ContractError(f"{card.headline} is undefined on {len(subject.first.rows)} units of the lab's data")


def measures_follow_the_units(subject: Subject) -> None:
    """A measure is a function of sums over units: drawn once each, they give the value; drawn twice each, they do too."""
    rows = subject.first.rows
    weights = np.array([[1.0], [2.0]]).repeat(len(rows), axis=1)
    for m in subject.measures:
        if m.no_bootstrap:
            continue
        drawn, value = np.asarray(m.value(rows.sums(weights), rows.info)), subject.first.values[m.name]
        if drawn.shape != (2,):
            raise ContractError(f"{m.name} of two draws has shape {drawn.shape}: it must work along the last axis")
        for times, found in zip(("once", "twice"), drawn, strict=True):
            if not np.isclose(found, value, rtol=1e-6, atol=1e-6, equal_nan=True):
                raise ContractError(f"{m.name} is {value:.4g}, but {found:.4g} with each unit drawn {times}")


def undefined_is_not_zero(subject: Subject) -> None:
    """Of no units a measure is undefined (NaN, null in the record): zero would be a number that nobody measured."""
    rows = subject.first.rows
    for m in subject.measures:
        if m.no_bootstrap:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(m.value(rows.sums(np.zeros((1, len(rows)))), rows.info))
        if not np.isnan(found).all():
            raise ContractError(f"{m.name} of no units is {float(found.ravel()[0]):.4g}, not undefined (NaN)")


def determinism(subject: Subject) -> None:
    """The same seed gives the same rows, whatever the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        state = np.random.get_state()  # the old global one too: a careless task draws from it
        np.random.seed(5)
        try:
            _same_rows(subject.run().rows, subject.first.rows, "differs the second time")
        finally:
            np.random.set_state(state)


def the_seed_matters_only_where_it_is_said(subject: Subject) -> None:
    """Another seed gives the same rows unless card, protocol or settings say `stochastic`: it runs once for all seeds."""
    if not subject.ref.stochastic:
        _same_rows(subject.run(seed=1).rows, subject.first.rows, "depends on the seed, but the card is not stochastic")


def batches_do_not_matter(subject: Subject) -> None:
    """Batches of one give what batches of eight give."""
    _same_values(subject, subject.run(subject.streams(1)), "with batches of one image")


def order_of_test_images(subject: Subject) -> None:
    """Images that stand alone may come in another order."""
    if ORDERED & set(subject.ref.card.targets) or subject.ref.stochastic:
        return
    streams = subject.streams()
    _same_values(
        subject, subject.run({**streams, "val": reordered(streams["val"])}), "with test images in another order"
    )


def only_train_teaches(subject: Subject) -> None:
    """Test images that show something else leave a head as it is: measured again, it gives the same rows."""
    streams = subject.streams()
    head = deepcopy(subject.first.head)
    subject.measured(head, shuffled(streams["val"]))
    _same_rows(subject.measured(head, streams["val"]).rows, subject.first.rows, "depends on what was measured before")


def streams_are_left_alone(subject: Subject) -> None:
    """Tokens are not written into: every cell of a pass is given the same ones."""
    if subject.first.written:
        raise ContractError(f"it writes into {subject.first.written}")


def tokens_of_other_images_say_less(subject: Subject) -> None:
    """Tokens are read, and with shuffled ones of other images the headline is not perfect, unless of a diagnostic."""
    card, name = subject.ref.card, subject.ref.card.headline
    if not subject.first.read:
        raise ContractError("it does not look at the tokens of the test images")
    streams = {split: shuffled(stream, seed) for seed, (split, stream) in enumerate(subject.streams().items())}
    [headline] = [m for m in subject.measures if m.name == name]
    value = subject.run(streams).values[name]
    perfect = value if headline.higher_is_better else 100 - value
    if card.family != "diagnostic" and headline.unit == "%" and perfect >= PERFECT:
        raise ContractError(f"{name} is {value:.4g} % for tokens of other images, which know nothing of these")


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        settings_are_an_identity,
        fit_is_called,
        only_what_is_declared_is_read,
        rows_are_of_units,
        measures_are_declared,
        measures_follow_the_units,
        undefined_is_not_zero,
        determinism,
        the_seed_matters_only_where_it_is_said,
        batches_do_not_matter,
        order_of_test_images,
        only_train_teaches,
        streams_are_left_alone,
        tokens_of_other_images_say_less,
    )
}


def _written(streams: Mapping[str, MemoryStream], before: Mapping[str, MemoryStream]) -> str:
    """The first field that differs, and its split."""
    for split, stream in streams.items():
        for batch, kept in zip(stream, before[split], strict=True):
            for name, value in batch.tokens.fields.items():
                if not torch.equal(value, kept.tokens[name]):
                    return f"the {name} of {split}"
    return ""


def _same_rows(a: Rows, b: Rows, problem: str) -> None:
    if a.unit_id != b.unit_id or set(a.stats) != set(b.stats):
        raise ContractError(f"which units or statistics there are {problem}")
    for name in b.stats:
        if not np.array_equal(a.stats[name], b.stats[name], equal_nan=True):
            raise ContractError(f"{name} {problem}")


def _same_values(subject: Subject, other: Measured, when: str) -> None:
    if sorted(other.rows.unit_id) != sorted(subject.first.rows.unit_id):
        raise ContractError(f"the units are others {when}")
    for name, value in subject.first.values.items():
        if not np.isclose(other.values[name], value, equal_nan=True, **ROUNDING):
            raise ContractError(f"{name} is {value:.4g}, but {other.values[name]:.4g} {when}")
