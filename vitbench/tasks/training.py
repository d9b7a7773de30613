"""Training on a live stream: images augmented anew in every step, many heads on the same tokens.

Everything random comes from (seed, iteration, place in the batch), so an interrupted training goes on exactly where it was.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.errors import DataError, UsageError
from vitbench.tasks.live import Inputs, Kept, Placed
from vitbench.tokens.geometry import Placement
from vitbench.tokens.types import Tokens
from vitbench.tokens.views import Pixels

T = TypeVar("T")
B = TypeVar("B", bound="Bank")
KEEP_EVERY = 500  # iterations between two checkpoints
_AHEAD = 2  # batches prepared while the model runs


def centred(image: Pixels, size_hw: tuple[int, int], patch_px: int) -> Placed:
    """An image as it stands at the top left of a view of `size_hw`, the view padded on all sides to a multiple of the patch.

    Padding is zero after normalisation; where it is odd the extra pixel is at the bottom and right.
    """
    padded = tuple(-(-n // patch_px) * patch_px for n in size_hw)
    at = (padded[0] - size_hw[0]) // 2, (padded[1] - size_hw[1]) // 2
    hw = image.shape[0], image.shape[1]
    offset = -float(at[0]), -float(at[1])
    return image, Placement(hw, (padded[0], padded[1]), hw, (1.0, 1.0), offset, content_at=at)


def training_batches(
    keys: Sequence[str], settings: StreamSettings, seed: int, start: int, make: Callable[[str, np.random.Generator], T]
) -> Iterator[tuple[int, list[T]]]:
    """(iteration, its samples) from `start` on; `make` decodes and augments one image, in threads, ahead of the model."""
    if settings.iterations < 1 or settings.batch < 1:
        raise UsageError(f"iterations={settings.iterations}, batch={settings.batch}", "both at least 1")
    if not keys:
        raise DataError("the train split is empty", "check the data set and --limit")
    orders: dict[int, npt.NDArray[np.int64]] = {}

    def key_at(place: int) -> str:
        epoch = place // len(keys)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, 0, epoch]).permutation(len(keys))
            orders.pop(epoch - 2, None)
        return keys[int(orders[epoch][place % len(keys)])]

    workers = max(min(len(os.sched_getaffinity(0)), 16), 1)
    with ThreadPoolExecutor(workers) as pool:

        def submit(iteration: int) -> list[Future[T]]:
            places = range(iteration * settings.batch, (iteration + 1) * settings.batch)
            return [pool.submit(make, key_at(p), np.random.default_rng([seed, 1, p])) for p in places]

        ahead = deque(submit(i) for i in range(start, min(start + _AHEAD, settings.iterations)))
        for iteration in range(start, settings.iterations):
            samples = [future.result() for future in ahead.popleft()]
            if iteration + _AHEAD < settings.iterations:
                ahead.append(submit(iteration + _AHEAD))
            yield iteration, samples


Sample = tuple[Placed, npt.NDArray[Any]]  # a network input, and its target as it is compared with the logits


@dataclass
class Step:
    """One iteration: targets b ... of its inputs, and how many outputs a head has. `loss`: made by the first reader for all."""

    iteration: int
    targets: Tensor
    outputs: int
    loss: Callable[[Tensor], Tensor] | None = None


def training_inputs(
    keys: Sequence[str], settings: StreamSettings, seed: int, start: int, make: Callable[[str, np.random.Generator], Sample],
    outputs: int,
) -> Iterator[Inputs[Step]]:  # fmt: skip
    """Steps from `start` on, each one batch. Where nothing is left to train, one is still seen, to know the channels."""
    for iteration, samples in training_batches(keys, settings, seed, min(start, settings.iterations - 1), make):
        names = [f"{iteration}.{j}" for j in range(len(samples))]
        targets = torch.stack([torch.from_numpy(target) for _, target in samples])
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
