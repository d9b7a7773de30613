"""Training on a live stream: images augmented anew in every step, many heads on the same tokens.

Everything random comes from (seed, iteration, place in the batch), so an interrupted training goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.errors import DataError, UsageError
from vitbench.tasks.crops import Sample
from vitbench.tasks.live import Inputs, Kept, LiveImages
from vitbench.tokens.types import Tokens

B = TypeVar("B", bound="Bank")
KEEP_EVERY = 500  # iterations between two checkpoints
_AHEAD = 2  # batches prepared while the model runs


def drawn(
    keys: Sequence[str], settings: StreamSettings, seed: int, start: int
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The image at each place of every batch from iteration `start` on, and the seeds of what is drawn for it."""
    if settings.iterations < 1 or settings.batch < 1:
        raise UsageError(f"iterations={settings.iterations}, batch={settings.batch}", "both at least 1")
    if not keys:
        raise DataError("the train split is empty", "check the data set and --limit")
    first, end = start * settings.batch, settings.iterations * settings.batch
    for epoch in count(first // len(keys)):
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(keys))
        for place in range(max(first, epoch * len(keys)), min(end, (epoch + 1) * len(keys))):
            yield keys[int(order[place % len(keys)])], (seed, 1, place)
        if (epoch + 1) * len(keys) >= end:
            return


@dataclass
class Step:
    """One iteration: targets b ... of its inputs, and how many outputs a head has. `loss`: made by the first reader for all."""

    iteration: int
    targets: Tensor
    outputs: int
    loss: Callable[[Tensor], Tensor] | None = None


def training_inputs(
    train: LiveImages, keys: Sequence[str], settings: StreamSettings, seed: int, start: int,
    make: Callable[..., Sample], outputs: int, *, light: bool = True,
) -> Iterator[Inputs[Step]]:  # fmt: skip
    """Steps from `start` on, each one batch of what `make` gives of a sample, its key and seeds (see `LiveImages.prepared`).

    Where nothing is left to train, one step is still seen, to know the channels.
    """
    first = min(start, settings.iterations - 1)
    made = train.prepared(drawn(keys, settings, seed, first), make, _AHEAD * settings.batch, light)
    for iteration in range(first, settings.iterations):
        samples = list(islice(made, settings.batch))
        names = [f"{iteration}.{j}" for j in range(len(samples))]
        sizes = dict.fromkeys(target.shape for _, target in samples)
        if len(sizes) > 1:
            told = " and ".join(" x ".join(map(str, size)) for size in list(sizes)[:2])
            raise DataError(f"crops of {told} pixels in one batch", "ask for crops no larger than the smallest image")
        targets = torch.from_numpy(np.stack([target for _, target in samples]))
        targets = targets if targets.is_floating_point() else targets.long()  # classes are sent as they are stored
        yield Inputs([([placed for placed, _ in samples], names)], Step(iteration, targets, outputs))


class Bank(Protocol):
    """Heads that are trained together and can be kept and restored."""

    def step(self, x: Tensor, iteration: int, loss: Callable[[Tensor], Tensor]) -> object: ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


Loss = Callable[[Tensor, int], Callable[[Tensor], Tensor]]  # targets b ..., iteration -> the loss of logits


class BankTrainer(Generic[B]):
    """Trains the heads of one cell on `training_inputs`. Kept on the way, and resumed.

    read: what the heads are given of the tokens. build: makes the bank from the first of that and the outputs of a head.
    """

    def __init__(
        self, kept: Kept, read: Callable[[Tokens], Tensor], build: Callable[[Tensor, int], B], loss: Loss
    ) -> None:
        self._kept, self._read, self._build, self._loss = kept, read, build, loss
        self._resumed = kept.resumed()
        self.start = int(self._resumed["iteration"]) if self._resumed else 0
        self._bank: B | None = None

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Step]) -> None:
        """One step of every head; nothing where this iteration was trained on before."""
        step, x = inputs.about, self._read(tokens[0])
        if self._bank is None:
            self._bank = self._build(x, step.outputs)
            if self._resumed:
                self._bank.restore(self._resumed)
        if step.iteration < self.start:
            return
        if step.loss is None:
            step.loss = self._loss(step.targets.to(x.device), step.iteration)
        self._bank.step(x, step.iteration, step.loss)
        if (step.iteration + 1) % KEEP_EVERY == 0:
            self._kept.keep({"iteration": torch.tensor(step.iteration + 1), **self._bank.state()})

    def result(self) -> B:
        assert self._bank is not None
        return self._bank
