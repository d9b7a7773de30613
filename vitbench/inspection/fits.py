"""Fitting repairs in memory, on a few images of a train split: enough to look at, and no record is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.views import View
from vitbench.data.images import Bytes
from vitbench.repairs.base import Repair, State
from vitbench.tokens.types import TokenRequest, Tokens

BATCH = 8


class TrainTokens:
    """Tokens of train images by field, extracted once each and kept as the backbone gave them.

    The fields in `together` come with the first that is asked for: they cost one sweep, not one each.
    """

    def __init__(self, backbone: Backbone, images: Sequence[Bytes], view: View, together: Sequence[str] = ()) -> None:
        self.backbone, self.images, self.view, self._together = backbone, images, view, tuple(together)
        self._kept: list[Tokens] = []

    def batches(self, fields: Sequence[str]) -> Iterator[Tokens]:
        """Batches with (at least) these fields, float32."""
        kept = self._kept[0].fields if self._kept else {}
        if any(f not in kept for f in fields):
            missing = tuple(f for f in dict.fromkeys((*fields, *self._together)) if f not in kept)
            fresh = list(self._extracted(missing))
            old: Sequence[Tokens | None] = self._kept or [None] * len(fresh)
            self._kept = [_joined(a, b) for a, b in zip(old, fresh, strict=True)]
        yield from self._kept

    def _extracted(self, fields: tuple[str, ...]) -> Iterator[Tokens]:
        for start in range(0, len(self.images), BATCH):
            images = self.images[start : start + BATCH]
            keys = [f"train-{start + i}" for i in range(len(images))]
            tokens = self.backbone.tokens(images, TokenRequest(fields, self.view), keys)
            yield as_float(tokens)


def as_float(tokens: Tokens) -> Tokens:
    """Float fields in float32: half precision is for forwards, not for statistics."""
    fields = {name: x.float() if x.is_floating_point() else x for name, x in tokens.fields.items()}
    return Tokens(fields, tokens.geometry, tokens.keys)


def _joined(old: Tokens | None, new: Tokens) -> Tokens:
    return new if old is None else Tokens({**old.fields, **new.fields}, new.geometry, new.keys)


class MemoryFitContext:
    """What a repair is fitted on here: train tokens of one field, mapped by the repairs before it."""

    seed = 0

    def __init__(
        self,
        train: TrainTokens,
        field: str,
        needs: Sequence[str],
        before: Sequence[tuple[Repair[Any], Mapping[str, State]]],
    ) -> None:
        self._train, self._before = train, before
        self._fields = (field, *needs)
        self.field, self.view, self.images = field, train.view, len(train.images)

    def tokens(self) -> Iterator[Tokens]:
        for tokens in self._train.batches(self._fields):
            only = Tokens({f: tokens[f] for f in dict.fromkeys(self._fields)}, tokens.geometry, tokens.keys)
            for repair, states in self._before:
                only = repair.map(only, states)
            yield only

    def backbone(self) -> Backbone:
        return self._train.backbone

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Bytes]:
        yield from (self._train.images[i] for i in (range(self.images) if order is None else order))

    def resumed(self) -> Mapping[str, Tensor]:
        return {}

    def keep(self, state: State) -> None:
        """A fit of seconds is not resumed."""
