"""The contract of streaming tasks: inputs that all cells of a stream share, and readers that are each cell's own.

What goes through the backbone depends on images, settings and seed alone; cells that differ in how tokens are mapped therefore
share decoding, augmentation and forwards (Oquab et al. 2023, arXiv 2304.07193, train their classifiers so).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext
from vitbench.tasks.crops import Placed
from vitbench.tokens.types import Tokens

A = TypeVar("A")
S = TypeVar("S")
R = TypeVar("R", covariant=True)
H = TypeVar("H")
T = TypeVar("T")


class LiveImages(Protocol):
    """A split as a streaming task makes inputs of it."""

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

    def prepared(
        self, asked: Iterable[tuple[Any, ...]], make: Callable[..., T], ahead: int = 0, light: bool = True
    ) -> Iterator[T]:
        """`make` of the sample of each (key, ...) in order, given that as well, and `ahead` of them before they are asked for.

        make: depends on what it is given alone, as threads make it or processes. light: processes may, as it needs no torch.
        """
        ...


class Kept(Protocol):
    """Where one cell keeps what its training has come to."""

    def resumed(self) -> Mapping[str, Tensor]:
        """What an interrupted training of the same cell kept last; empty where none did."""
        ...

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Keep what a long training has come to."""
        ...


class LiveTokens(LiveImages, Kept, Protocol):
    """A split with the tokens of one cell, for running a task by itself."""

    def tokens(self, placed: Sequence[Placed], keys: Sequence[str]) -> Tokens:
        """Tokens of network inputs of one padded size: the task's fields, float32, mapped by the repair."""
        ...


@dataclass(frozen=True)
class Inputs(Generic[A]):
    """What readers see at once: network inputs with their keys in batches of one padded size, and what belongs to them."""

    batches: Sequence[tuple[Sequence[Placed], Sequence[str]]]
    about: A


class Reader(Protocol[R]):
    """What one cell makes of a stream of tokens."""

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Any]) -> None:
        """Tokens of every batch of some inputs, mapped by the cell's repair."""
        ...

    def result(self) -> R:
        """What came of it, once the stream has ended."""
        ...


class Trainer(Reader[R], Protocol[R]):
    """A reader that trains. `start`: the first iteration that it has not seen before an interruption."""

    start: int


class StreamTask(Task[S], Generic[S, T, H]):
    """A task that makes its network inputs itself: three streams of inputs, and a reader of one cell for each.

    T: what training gives (heads), H: what is tested. A reader must not depend on what other readers see.
    """

    @abstractmethod
    def training(self, train: LiveImages, context: TaskContext, start: int) -> Iterator[Inputs[Any]]:
        """Augmented inputs from iteration `start` on."""

    @abstractmethod
    def trainer(self, context: TaskContext, kept: Kept) -> Trainer[T]:
        """Reads `training`."""

    def choosing(self, train: LiveImages, context: TaskContext) -> Iterator[Inputs[Any]]:
        """Inputs on which one of the trained heads is chosen; default: none."""
        return iter(())

    @abstractmethod
    def chooser(self, trained: T, context: TaskContext) -> Reader[H]:
        """Reads `choosing`."""

    @abstractmethod
    def testing(self, test: LiveImages, context: TaskContext) -> Iterator[Inputs[Any]]:
        """Inputs of the images that are scored."""

    @abstractmethod
    def scorer(self, head: H, context: TaskContext) -> Reader[Rows]:
        """Reads `testing`."""

    def fit(self, train: LiveTokens, context: TaskContext) -> H:  # type: ignore[override]  # see `Protocol.streams`
        """The head of one cell by itself."""
        trainer = self.trainer(context, train)
        trained = _read(train, self.training(train, context, trainer.start), trainer)
        return _read(train, self.choosing(train, context), self.chooser(trained, context))

    def measure(self, head: H, test: LiveTokens, context: TaskContext) -> Rows:  # type: ignore[override]
        """The rows of one cell by itself."""
        return _read(test, self.testing(test, context), self.scorer(head, context))


def _read(live: LiveTokens, stream: Iterable[Inputs[Any]], reader: Reader[H]) -> H:
    for inputs in stream:
        reader.see([live.tokens(placed, keys) for placed, keys in inputs.batches], inputs)
    return reader.result()
