"""Made-up scenes, videos and pairs as the samples on which tasks are held to their contract: no model, small grids."""

from __future__ import annotations

from dataclasses import replace

from vitbench.catalogue.cards import TaskCard
from vitbench.data.targets import named
from vitbench.tasks.base import Batch
from vitbench.tasks.contract import Subject
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.samples import Declared, Samples, declared
from vitbench.tokens.types import Tokens

from .clip_streams import of_scenes, stream_for
from .streams import context, light

IMAGES = {"train": 12, "val": 6}
# Less training than where a task must learn something: promises are kept by bad heads too.
CHEAP = {"linear_segmentation@leopart": {"epochs": 3, "drop_epoch": 2}}


class MadeUp(Samples):
    """What the cards declare, of made-up input."""

    def stream(self, split: str, size: int = 8) -> MemoryStream:
        card, seed = self.ref.card, int(split == "val")
        images = IMAGES[split] if of_scenes(card) else 16
        found = stream_for(card, images, split, seed, batch_size=size)
        return MemoryStream([self._declared(batch) for batch in found], split)

    def _declared(self, batch: Batch) -> Batch:
        tokens, names = batch.tokens, ("image_hw", *self.ref.card.targets)
        fields = {name: tokens.fields[name] for name in declared(self.ref)}
        targets = [Declared(named(target, names)) for target in batch.targets]
        return Batch(Tokens(fields, tokens.geometry, tokens.keys), targets)


def subject(card: TaskCard, protocol: str) -> Subject:
    """A registered task on made-up input, made cheap."""
    known = context(6, (2, 3, 4, 5), 4) if of_scenes(card) else context(labels=2)
    ref = light(card, protocol)
    ref = replace(ref, settings=replace(ref.settings, **CHEAP.get(ref.base, {})))
    return Subject(MadeUp(ref, known.dataset), known.language)
