"""What every data set must keep, as checks anybody can run on one of their own (`vitbench check dataset NAME`).

A few samples of each split are decoded; what a task would trip over later is said here, with the sample's key.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.errors import UnavailableError, UsageError, VitbenchError

SAMPLED = 6  # per split and target
ROLES = ("train", "val")


@dataclass(frozen=True)
class Finding:
    """One promise: kept where `problem` is empty."""

    check: str
    problem: str = ""


class Broken(Exception):
    """A promise that was not kept, and how."""


@dataclass(frozen=True)
class Subject:
    """What is checked: a data set's card, and where its data are."""

    card: DatasetCard
    name: str
    root: Path | None

    def splits(self) -> Iterator[tuple[str, str]]:
        """(what a task calls the split, target) of all that can be opened."""
        for role in ROLES:
            for target in self.card.targets:
                try:
                    describe_split(self.name, role, targets=(target,), root=self.root)
                except (UnavailableError, UsageError):
                    continue  # not every split has every target, nor every set every split
                yield role, target

    def samples(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(split, target, sample) of a few samples, spread over each split."""
        for role, target in self.splits():
            found = load(self.name, role, targets=(target,), root=self.root)
            for i in sorted({round(n * (len(found) - 1) / (SAMPLED - 1)) for n in range(SAMPLED)}):
                yield role, target, dict(found[i])


def run_checks(name: str, root: Path | None) -> list[Finding]:
    """All checks on a data set. Raises UnavailableError where nothing of it can be opened."""
    subject = Subject(describe_dataset(name, root), name, root)
    if not list(subject.splits()):
        describe_split(name, ROLES[-1], targets=subject.card.targets[:1], root=root)  # says why
        raise UnavailableError(f"{name} has neither a train nor a val split", "name them in the card's splits or roles")
    findings = []
    for check, run in CHECKS.items():
        try:
            run(subject)
            findings.append(Finding(check))
        except (Broken, VitbenchError) as error:
            findings.append(Finding(check, str(error)))
    return findings


# -- checks ------------------------------------------------------------------------------------------------------------


def _keys(subject: Subject) -> None:
    for role, target in subject.splits():
        keys = load(subject.name, role, targets=(target,), root=subject.root).with_format(None)["key"]
        if len(set(keys)) != len(keys):
            raise Broken(f"{role}: {len(keys) - len(set(keys))} keys occur more than once")


def _counts(subject: Subject) -> None:
    for role, target in subject.splits():
        said = describe_split(subject.name, role, targets=(target,), root=subject.root).images
        found = len(load(subject.name, role, targets=(target,), root=subject.root))
        if said != found:
            raise Broken(f"{role}: described as {said:,} samples, loaded are {found:,}")


def _digests(subject: Subject) -> None:
    for role, target in subject.splits():
        asked: dict[str, Any] = {"targets": (target,), "root": subject.root}
        count, digest, _ = describe_split(subject.name, role, **asked)
        if digest != describe_split(subject.name, role, **asked)[1]:
            raise Broken(f"{role}: the digest of the same samples is another one each time")
        if count > 1 and digest == describe_split(subject.name, role, limit=1, **asked)[1]:
            raise Broken(f"{role}: fewer samples have the same digest")


def _images(subject: Subject) -> None:
    for role, _, sample in subject.samples():
        image = np.asarray(sample["image"])
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise Broken(f"{role}: image of {sample['key']!r} is {image.dtype} {image.shape}, not uint8 h w 3")


def _targets(subject: Subject) -> None:
    for role, target, sample in subject.samples():
        if target in TARGET_CHECKS and (problem := TARGET_CHECKS[target](sample, subject.card)):
            raise Broken(f"{role}: {target} of {sample['key']!r} {problem}")


def _apart(subject: Subject) -> None:
    # One split may well play both parts (VOC's trainval for boxes), but two may not overlap.
    for target in subject.card.targets:
        keys = []
        for role in ROLES:
            try:
                found = load(subject.name, role, targets=(target,), root=subject.root)
            except (UnavailableError, UsageError):
                break
            keys.append(set(found.with_format(None)["key"]))
        if len(keys) == 2 and keys[0] != keys[1] and (both := keys[0] & keys[1]):
            raise Broken(f"{len(both)} samples are in train and in val, such as {min(both)!r}")


def _travels(subject: Subject) -> None:
    for role, target in subject.splits():
        samples = load(subject.name, role, targets=(target,), root=subject.root)
        try:
            again = pickle.loads(pickle.dumps(samples))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise Broken(
                f"{role}: samples cannot be sent to a worker: {error}; decode in a function at the top of a file"
            ) from error
        if not np.array_equal(again[0]["image"], samples[0]["image"]):
            raise Broken(f"{role}: a worker decodes another image")
        return


# -- targets -----------------------------------------------------------------------------------------------------------

Sample = Mapping[str, Any]


def _label(sample: Sample, card: DatasetCard) -> str:
    label, count = sample["label"], len(card.label_classes)
    whole = isinstance(label, int | np.integer)
    return "" if whole and 0 <= label < (count or label + 1) else f"is {label!r}, not one of {count} classes"


def _segmentation(sample: Sample, card: DatasetCard) -> str:
    labels = np.asarray(sample["segmentation"])
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        return f"is {labels.dtype} {labels.shape}, not whole numbers h w"
    largest = int(labels.max(initial=0, where=labels != card.ignore_index))
    return f"holds {largest}, there are {len(card.classes)} classes" if 0 < len(card.classes) <= largest else ""


def _depth(sample: Sample, card: DatasetCard) -> str:
    depth = np.asarray(sample["depth"])
    if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
        return f"is {depth.dtype} {depth.shape}, not metres h w"
    return "" if np.isfinite(depth).all() and (depth >= 0).all() else "is negative or not finite somewhere"


def _boxes(sample: Sample, card: DatasetCard) -> str:
    boxes, (h, w) = np.asarray(sample["boxes"], np.float64), np.asarray(sample["image"]).shape[:2]
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        return f"have shape {boxes.shape}, not n 4"
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "have x1 y1 before x0 y0"
    # Annotations reach a little over the border; sides in other units reach far.
    outside = boxes.size and (boxes.min() < -2 or (boxes > [w + 2, h + 2, w + 2, h + 2]).any())
    return f"lie outside the image of {w} x {h}" if outside else ""


TARGET_CHECKS: dict[str, Callable[[Sample, DatasetCard], str]] = {
    "label": _label,
    "segmentation": _segmentation,
    "depth": _depth,
    "boxes": _boxes,
}
CHECKS: dict[str, Callable[[Subject], None]] = {
    "keys are unique": _keys,
    "as many samples as described": _counts,
    "the digest is stable and follows the samples": _digests,
    "images are uint8 h w 3": _images,
    "targets are in range and in shape": _targets,
    "train and val do not overlap": _apart,
    "samples can be sent to workers": _travels,
}
