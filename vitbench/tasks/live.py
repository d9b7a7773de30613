"""Training on a live stream: augmented images through the frozen backbone in every step, many heads on the same tokens.

Everything random comes from (seed, iteration, place in the batch), so an interrupted fit goes on exactly where it was.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.errors import DataError, UsageError
from vitbench.tokens.geometry import Placement
from vitbench.tokens.types import Tokens
from vitbench.tokens.views import Pixels

T = TypeVar("T")
B = TypeVar("B", bound="Bank")
Placed = tuple[Pixels, Placement]
KEEP_EVERY = 500  # iterations between two checkpoints
_AHEAD = 2  # batches prepared while the model runs


class LiveImages(Protocol):
    """A split seen through the frozen backbone, edited and mapped by the repair, on whatever pixels a task makes."""

    split: str
    patch_px: int

    def __len__(self) -> int:
        """Number of images."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Image ids in order."""
        ...

    def sample(self, key: str) -> Mapping[str, Any]:
        """The decoded image (`image`, uint8 h w 3) and its targets. May be called from several threads."""
        ...

    def tokens(self, placed: Sequence[Placed], keys: Sequence[str]) -> Tokens:
        """Tokens of network inputs of one padded size: the task's fields, float32."""
        ...

    def resumed(self) -> Mapping[str, Tensor]:
        """What an interrupted fit of the same cell kept last; empty where none did."""
        ...

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Keep what a long fit has come to."""
        ...


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


class Bank(Protocol):
    """Heads that are trained together and can be kept and restored."""

    def step(self, x: Tensor, iteration: int, loss: Callable[[Tensor], Tensor]) -> object: ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


Sample = tuple[Placed, npt.NDArray[Any]]  # a network input, and its target as it is compared with the logits
Loss = Callable[[Tensor, Tensor, int], Tensor]  # logits b k h w, targets b H W, iteration


def train_bank(
    live: LiveImages, keys: Sequence[str], settings: StreamSettings, seed: int, make: Callable[[str, np.random.Generator], Sample],
    build: Callable[[Tensor], B], loss: Loss, read: Callable[[Tokens], Tensor] | None = None,
) -> B:  # fmt: skip
    """Train heads on the stream; `build` makes the bank from the first tokens. Kept on the way, and resumed.

    read: what the heads are given; default: the field of the settings.
    """
    if settings.iterations < 1 or settings.batch < 1:
        raise UsageError(f"iterations={settings.iterations}, batch={settings.batch}", "both at least 1")
    kept = live.resumed()
    start = int(kept["iteration"]) if kept else 0
    bank: B | None = None
    # Where nothing is left to train, one batch is still seen, to know the channels.
    for iteration, samples in training_batches(keys, settings, seed, min(start, settings.iterations - 1), make):
        tokens = live.tokens([s[0] for s in samples], [f"{iteration}.{j}" for j in range(len(samples))])
        x = tokens[settings.field] if read is None else read(tokens)
        if bank is None:
            bank = build(x)
            if kept:
                bank.restore(kept)
        if iteration < start:
            break
        targets = torch.stack([torch.from_numpy(s[1]) for s in samples]).to(x.device)
        bank.step(x, iteration, lambda logits, y=targets, i=iteration: loss(logits, y, i))  # type: ignore[misc]
        if (iteration + 1) % KEEP_EVERY == 0:
            live.keep({"iteration": torch.tensor(iteration + 1), **bank.state()})
    assert bank is not None
    return bank
