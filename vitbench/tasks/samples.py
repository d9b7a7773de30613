"""Small streams of the lab's own images, on which anybody's task can be tried: tokens of a shipped model, no store, no record.

A stream holds what the cards declare and nothing else, so that a task which reads more is found here and not in a long run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.load import load_backbone
from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.fields import absent, joined_fields
from vitbench.catalogue.resolve import TaskRef
from vitbench.data.load import describe_dataset, load
from vitbench.data.targets import named
from vitbench.errors import NotApplicableError, UnavailableError
from vitbench.tasks.base import Batch
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.promises import ContractError
from vitbench.tokens.types import TokenRequest, Tokens

PLAIN, WITH_REGISTERS = "lab_ssl", "lab_ssl_reg4"
IMAGES, FRAMES = {"train": 16, "val": 10}, {"train": 20, "val": 20}  # two of the lab's clips
BATCH = 8
IMAGE_PX = 64  # at most: 8 x 8 tokens


class Declared(dict[str, Any]):
    """The targets of an image; what the card does not name is missed with a word on why."""

    def __missing__(self, name: str) -> Any:
        raise ContractError(f"it reads the target {name!r}, which its card does not name - say targets=({name!r}, ...)")


class Watched(Mapping[str, Tensor]):
    """The fields of tokens, and whether anybody has looked at one."""

    def __init__(self, fields: Mapping[str, Tensor]) -> None:
        self._fields, self.read = dict(fields), False

    def __getitem__(self, name: str) -> Tensor:
        self.read = True
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True)
class Samples:
    """The splits of a data set as a task is given them, as large as the check of a task needs them."""

    ref: TaskRef
    dataset: DatasetCard
    root: Path | None = None

    def stream(self, split: str, size: int = BATCH) -> MemoryStream:
        """Tokens and targets of a few images, so many of one size in a batch."""
        return rebatched(self._single[split], size)

    @cached_property
    def backbone(self) -> Backbone:
        """The lab's model; the one with registers where they are asked for."""
        asked = declared(self.ref)
        lacks = any(absent(name, 1, 0) for name in asked) or "registers" in asked
        return load_backbone(WITH_REGISTERS if lacks else PLAIN)

    @cached_property
    def _single(self) -> Mapping[str, MemoryStream]:
        return {split: MemoryStream(list(self._batches(split)), split) for split in self.ref.card.splits}

    def _batches(self, split: str) -> Iterator[Batch]:
        card, view = self.ref.card, self.ref.card.view(self.ref.settings)
        wanted = tuple(card.targets)
        count = (FRAMES if "frames" in self.dataset.targets else IMAGES)[split]
        found = load(self.dataset.name, split, targets=wanted, limit=count, root=self.root)
        for i in range(min(count, len(found))):  # not every data set of one's own takes a limit
            sample = found[i]
            request = TokenRequest(declared(self.ref, self.backbone.card.lost_feature), view)
            tokens = as_float(self.backbone.tokens([sample["image"]], request, [sample["key"]]))
            targets = Declared(image_hw=tokens.geometry.placements[0].source_hw, **named(sample, wanted))
            yield Batch(tokens, [Declared(targets) for _ in tokens.keys])


def declared(ref: TaskRef, auto: str = "key") -> tuple[str, ...]:
    """The fields that a protocol says it reads; `auto`: what stands for a field that the backbone chooses."""
    settings = ref.settings
    read = auto if settings.field == "auto" else settings.field
    return tuple(dict.fromkeys((*joined_fields(read), *ref.card.aux(settings))))


def samples_for(ref: TaskRef, dataset: str = "", root: Path | None = None) -> Samples:
    """Samples of the first of the lab's data sets that has what a task needs, or of the named one.

    Raises NotApplicableError for what needs more than stored tokens, UnavailableError where no data set has the targets.
    """
    if ref.protocol.streams:
        raise NotApplicableError(
            f"{ref.text} trains on images that are augmented anew in every step, which this check does not run",
            "check another of its protocols",
        )
    if ref.card.language:
        raise NotApplicableError(f"{ref.text} needs a text tower, and the lab's models have none")
    wanted = {*ref.card.targets, *ref.card.marks(ref.settings)}
    known = [card for card in DATASETS if card.release is None and card.splits]
    cards = [describe_dataset(dataset, root)] if dataset else known
    found = [card for card in cards if wanted <= {*card.targets, *card.marks}]
    if not found:
        where = f"dataset {dataset} has" if dataset else "the lab's own data have"
        raise UnavailableError(f"{where} no {' and '.join(sorted(wanted))}", "name a data set that has them: -d NAME")
    small = min(ref.settings.image_px, IMAGE_PX)
    return Samples(replace(ref, settings=replace(ref.settings, image_px=small)), found[0], root)


def as_float(tokens: Tokens) -> Tokens:
    """Float fields as tasks are given them."""
    fields = {name: value.float() if value.is_floating_point() else value for name, value in tokens.fields.items()}
    return Tokens(fields, tokens.geometry, tokens.keys)


def rebatched(stream: MemoryStream, size: int) -> MemoryStream:
    """The same samples in order, up to `size` of one grid in a batch."""
    singles = [part for batch in stream for part in _parts(batch)]
    batches = []
    for _, run in groupby(singles, lambda part: part.tokens.geometry.grid_hw):
        alike = list(run)
        batches += [_joined(alike[i : i + size]) for i in range(0, len(alike), size)]
    return MemoryStream(batches, stream.split)


def reordered(stream: MemoryStream) -> MemoryStream:
    """The same samples, the last one first."""
    singles = [part for batch in stream for part in _parts(batch)]
    return rebatched(MemoryStream(singles[::-1], stream.split), BATCH)


def shuffled(stream: MemoryStream, seed: int = 0) -> MemoryStream:
    """Tokens of another image, their cells in a random order: values of the usual kind that say nothing of the image."""
    singles = [part for batch in stream for part in _parts(batch)]
    generator, out = torch.Generator().manual_seed(seed), []
    ring = torch.randperm(len(singles), generator=generator).tolist()
    after = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    for i, part in enumerate(singles):
        (h, w), other = part.tokens.geometry.grid_hw, singles[after[i]]
        source = other if other.tokens.geometry.grid_hw == (h, w) else part
        order = torch.randperm(h * w, generator=generator)
        fields = {name: _mixed(value, (h, w), order) for name, value in source.tokens.fields.items()}
        out.append(Batch(replace(part.tokens, fields=fields), part.targets))
    return rebatched(MemoryStream(out, stream.split), BATCH)


def _mixed(value: Tensor, grid_hw: tuple[int, int], order: Tensor) -> Tensor:
    if tuple(value.shape[1:3]) == grid_hw:
        return value.flatten(1, 2)[:, order].reshape(value.shape)
    if tuple(value.shape[-2:]) == grid_hw:
        return value.flatten(-2)[..., order].reshape(value.shape)
    return value


def _parts(batch: Batch) -> Iterator[Batch]:
    for i in range(len(batch.tokens.keys)):
        yield Batch(batch.tokens.select([i]), [batch.targets[i]])


def _joined(parts: list[Batch]) -> Batch:
    tokens = [part.tokens for part in parts]
    fields = Watched({name: torch.cat([t[name] for t in tokens]) for name in tokens[0].fields})
    first = tokens[0].geometry
    geometry = Geometry(first.patch_px, first.grid_hw, tuple(p for t in tokens for p in t.geometry.placements))
    keys = tuple(key for t in tokens for key in t.keys)
    # Copies: a task that writes into its targets must not change what the next check is given.
    batch = Batch(Tokens(fields, geometry, keys), [Declared(target) for part in parts for target in part.targets])
    fields.read = False  # the batch has checked them
    return batch
