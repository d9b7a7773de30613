"""Registered tasks keep what `vitbench check task` asks, and each check finds a task that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from vitbench.catalogue import TASKS
from vitbench.catalogue.cards import Protocol, TaskCard, TaskSettings
from vitbench.catalogue.resolve import TaskRef, expand_tasks
from vitbench.errors import NotApplicableError, UnavailableError
from vitbench.records.rows import Measure, Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.contract import CHECKS, Subject, run_checks
from vitbench.tasks.samples import samples_for
from vitbench.tasks.units import UnitRows
from vitbench.tokens.promises import findings

from .made_up import subject

STORED = [(card.name, p.name) for card in TASKS for p in card.protocols if not p.streams]
TRIED = ("knn_classification", "object_discovery@lost", "token_norms", "instance_retrieval")


@pytest.mark.parametrize(("name", "protocol"), STORED)
def test_every_task_keeps_every_promise_on_made_up_input(name: str, protocol: str) -> None:
    tried = subject(TASKS.get(name), protocol)
    assert {f.check: f.problem for f in findings(CHECKS, lambda: tried) if f.problem} == {}


def broken(ref: TaskRef) -> dict[str, str]:
    return {finding.check: finding.problem for finding in run_checks(ref) if finding.problem}


@pytest.mark.parametrize("name", TRIED)
def test_tasks_keep_every_promise_on_the_labs_own_images(name: str) -> None:
    [ref] = expand_tasks(name)
    assert broken(ref) == {}


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("view_correspondence", UnavailableError, "the lab's own data have no depth and pose - .* -d NAME"),
        ("depth@dinov2", NotApplicableError, "augmented anew"),
        ("zero_shot_classification", NotApplicableError, "text tower"),
    ],
)
def test_what_cannot_be_tried_here_says_why(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        run_checks(expand_tasks(name)[0])


# -- each check can fail -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings(TaskSettings):
    view: str = "resize"
    image_px: int = 32


CARD = TaskCard(
    name="share_of_largest", entry=None, title="Mine", family="dense", targets=("label",),
    metric=(Measure("hit", "%", True, lambda sums, _: 100 * np.divide(sums["hit"], sums["n"])),), headline="hit",
    protocols=(Protocol("mine", version=1, settings=Settings(), summary="nearest mean of a class"),),
)  # fmt: skip


class Sound(Task[Settings]):
    """The nearest mean patch of a class: keeps every promise."""

    card = CARD

    def fit(self, train: TokenStream, context: TaskContext) -> Any:
        sums: dict[int, Any] = {}
        for _, x, target in self.images(train):
            sums[target["label"]] = sums.get(target["label"], 0) + torch.cat((x, torch.ones(1)))
        return {label: found[:-1] / found[-1] for label, found in sums.items()}

    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for key, x, target in self.images(test):
            nearest = min(head, key=lambda label: float((head[label] - x).norm()))
            units.add(key, {"n": 1.0, "hit": self.hit(nearest, target["label"])})
        return units.rows()

    def hit(self, found: int, label: int) -> float:
        return 1.0 if found == label else 0.25 / (1 + found)

    def images(self, stream: TokenStream) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        for batch in stream:
            for i, key in enumerate(batch.tokens.keys):
                yield key, self.seen(batch, i), batch.targets[i]

    def seen(self, batch: Batch, i: int) -> Any:
        return batch.tokens["patch"][i].mean((0, 1))


class ReadsKeys(Sound):
    def seen(self, batch: Batch, i: int) -> Any:
        return batch.tokens["key"][i].mean((0, 1))


class ReadsDepth(Sound):
    def seen(self, batch: Batch, i: int) -> Any:
        return super().seen(batch, i) * batch.targets[i]["depth"].mean()


class MixesBatch(Sound):
    def seen(self, batch: Batch, i: int) -> Any:
        return super().seen(batch, i) - batch.tokens["patch"].mean((0, 1, 2)) * (1 + i)


class WritesInPlace(Sound):
    def seen(self, batch: Batch, i: int) -> Any:
        return batch.tokens["patch"][i].mul_(1.5).mean((0, 1))


class Draws(Sound):
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        rows = super().measure(head, test, context)
        return replace(rows, stats={**rows.stats, "hit": torch.rand(len(rows)).double().numpy()})


class FollowsTheSeed(Sound):
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        rows = super().measure(head, test, context)
        return replace(rows, stats={**rows.stats, "hit": rows.stats["hit"] / (1 + context.seed)})


class LearnsFromTest(Sound):
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        rows = super().measure(head, test, context)
        head.update(self.fit(test, context))
        return rows


class FollowsTheOrder(Sound):
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        rows = super().measure(head, test, context)
        return replace(rows, stats={**rows.stats, "hit": rows.stats["hit"] * np.arange(len(rows))})


class Twice(Sound):
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        rows = super().measure(head, test, context)
        return Rows.concat([rows, rows])


class KnowsTheAnswer(Sound):
    def hit(self, found: int, label: int) -> float:
        return 1.0


def _zero(sums: Any, _info: Any) -> Any:
    return 100 * sums["hit"] / np.maximum(sums["n"], 1)


def _count(sums: Any, _info: Any) -> Any:
    return np.where(sums["n"] > 0, sums["hit"], np.nan)


def _metric(value: Any) -> tuple[Measure, ...]:
    return (Measure("hit", "%", True, value),)


@dataclass(frozen=True)
class Loose(Settings):
    blocks: Any = field(default_factory=list)


LOOSE = (Protocol("mine", version=1, settings=Loose(), summary="settings that can be changed"),)


@pytest.mark.parametrize(
    ("check", "kind", "changes"),
    [
        ("settings_are_an_identity", Sound, {"protocols": LOOSE}),
        ("fit_is_called", Sound, {"splits": ("val",)}),
        ("only_what_is_declared_is_read", ReadsKeys, {}),
        ("only_what_is_declared_is_read", ReadsDepth, {}),
        ("rows_are_of_units", Twice, {}),
        ("measures_are_declared", Sound, {"secondary": ("top5",)}),
        ("measures_follow_the_units", Sound, {"metric": _metric(_count)}),
        ("undefined_is_not_zero", Sound, {"metric": _metric(_zero)}),
        ("determinism", Draws, {}),
        ("the_seed_matters_only_where_it_is_said", FollowsTheSeed, {}),
        ("batches_do_not_matter", MixesBatch, {}),
        ("order_of_test_images", FollowsTheOrder, {}),
        ("only_train_teaches", LearnsFromTest, {}),
        ("streams_are_left_alone", WritesInPlace, {}),
        ("tokens_of_other_images_say_less", KnowsTheAnswer, {}),
    ],
)
def test_each_check_finds_a_task_that_breaks_its_promise(
    check: str, kind: type[Sound], changes: dict[str, Any]
) -> None:
    tried = Subject(samples_for(mine(kind, **changes)))
    [finding] = findings({check: CHECKS[check]}, lambda: tried)
    assert finding.problem


def mine(kind: type[Sound], **changes: Any) -> TaskRef:
    card = replace(CARD, **changes)
    protocol = replace(card.protocols[0], entry=kind)
    return TaskRef(card, protocol, protocol.settings)


def test_a_sound_task_keeps_every_promise() -> None:
    assert broken(mine(Sound)) == {}


def test_a_target_that_is_not_declared_is_named() -> None:
    said = broken(mine(ReadsDepth))["only_what_is_declared_is_read"]
    assert "reads the target 'depth', which its card does not name" in said
