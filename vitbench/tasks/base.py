"""The contract of a task: fit a head on train tokens, measure it on val tokens, one row per unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.errors import DataError
from vitbench.records.rows import Rows
from vitbench.tokens.checks import check_tokens
from vitbench.tokens.types import Tokens

S = TypeVar("S")
MAPS = ("segmentation", "depth")  # targets with a value per pixel


@dataclass(frozen=True)
class Batch:
    """Tokens of a few images of one grid size, and their targets (one dict of dataset columns per image).

    Raises TokensError for tokens that are not finite or of another grid, DataError for targets that are no maps or too few.
    """

    tokens: Tokens
    targets: list[dict[str, Any]]

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        if len(self.targets) != len(self.tokens.keys):
            raise DataError(f"{len(self.tokens.keys)} images have {len(self.targets)} targets", "give one for each")
        for key, target in zip(self.tokens.keys, self.targets, strict=True):
            for name in MAPS:
                shape = getattr(target.get(name), "shape", (1, 1))
                if len(shape) != 2 or not all(shape):
                    raise DataError(f"image {key!r}: {name} has shape {tuple(shape)}", "a map has rows and columns")


class TokenStream(Protocol):
    """Re-iterable and larger than memory: batches in dataset order, tokens float32, mapped by the repair."""

    split: str

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int:
        """Number of images (samples)."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Sample ids in order."""
        ...


class Language(Protocol):
    """The text tower that was trained with the backbone, and the map of the backbone's CLS into the space that both share."""

    def project(self, cls: Tensor) -> Tensor:
        """CLS after the final norm, n c -> image embeddings n d, of any length. Raises NotApplicableError for another c."""
        ...

    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """Prompts of each class -> unit embeddings k d: the mean of the prompts' unit embeddings, scaled to unit length."""
        ...

    def templates(self, name: str) -> tuple[str, ...]:
        """Prompts with `{}` in place of the class: "imagenet80", "imagenet7" or "photo"."""
        ...

    def imagenet_names(self) -> Mapping[str, str]:
        """Curated names of ImageNet's 1,000 classes by WordNet id, in the order of labels."""
        ...


@dataclass(frozen=True)
class TaskContext:
    """What a task may know beside the tokens: the data set's card, the seed, and the text tower where its card asks for it."""

    dataset: DatasetCard
    seed: int
    language: Language | None = None


class Task(ABC, Generic[S]):
    """Base of all tasks. `settings` is the frozen dataclass of the protocol (with what the suite overrides).

    Where the protocol says `streams`, it is a `vitbench.tasks.live.StreamTask`, which makes its network inputs itself.
    """

    card: ClassVar[TaskCard]

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def fit(self, train: TokenStream, context: TaskContext) -> Any:
        """A head fitted on train tokens; default: none. Hyper-parameters are chosen on a slice of train."""
        return None

    @abstractmethod
    def measure(self, head: Any, test: TokenStream, context: TaskContext) -> Rows:
        """One row of sufficient statistics per unit."""

    def flags(self, head: Any, rows: Rows) -> Mapping[str, Any]:
        """Remarks for the record, such as a degenerate share or the chosen hyper-parameter."""
        return {}
