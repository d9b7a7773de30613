"""What a plan is made of: passes, fits and cells, and what planning asks of the machine. Plain data that travels to workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from vitbench.catalogue.cards import BackboneCard, DatasetCard
from vitbench.catalogue.language import TextState
from vitbench.catalogue.views import View
from vitbench.data.subset import Limit
from vitbench.identity import Slot, digest

CellStatus = Literal["todo", "cached", "unavailable", "not_applicable"]


@dataclass(frozen=True)
class BackboneState:
    """What planning knows of a backbone: its card, and whether its weights are here."""

    card: BackboneCard
    status: Literal["ready", "download", "unavailable"]
    digest: str
    reason: str = ""
    remedy: str = ""
    loader: str = ""


@dataclass(frozen=True)
class SplitState:
    """What planning knows of a split: how many images, and the digest of which. `reason` set = not there.

    pictures: digest of the images alone, whatever targets they are asked for with; "" where that is not known.
    """

    images: int
    digest: str
    reason: str = ""
    remedy: str = ""
    pictures: str = ""


class World(Protocol):
    """What is on this machine: weights, data, stored tokens, records."""

    def backbone(self, name: str) -> BackboneState: ...
    def text(self, backbone: str) -> TextState: ...
    def dataset(self, name: str) -> DatasetCard: ...
    def split(self, dataset: str, split: str, targets: tuple[str, ...], limit: Limit, seed: int) -> SplitState: ...
    def stored_fields(self, store: str) -> frozenset[str]: ...
    def stored_state(self, fit: str) -> bool: ...
    def has_record(self, slot: Slot, identity: str) -> bool: ...


@dataclass(frozen=True)
class SplitRef:
    """Which images: a split with the targets that must be there, cut to `limit`; corrupt ones may be left out.

    pictures: what a pass depends on, as `SplitState`; tasks that read other targets of the same images share their passes.
    """

    dataset: str
    split: str
    targets: tuple[str, ...]
    limit: Limit
    seed: int
    images: int
    digest: str
    skip_corrupt: bool = False
    least_px: int = 0  # JPEGs may be decoded at a fraction of their size that keeps so many pixels; 0: never
    pictures: str = ""


@dataclass(frozen=True)
class PassJob:
    """One sweep. `store` is the token store it writes to; `fields` are those not there yet."""

    store: str
    backbone: str
    edit: str
    edit_fits: tuple[tuple[int, str], ...]  # (step of the edit, fit)
    split: SplitRef
    view: View
    dtype: str
    fields: tuple[str, ...]
    bytes: int
    forwards_per_image: int = 1

    @property
    def id(self) -> str:
        return f"pass-{self.store}-{digest(self.fields)[:8]}"


@dataclass(frozen=True)
class FitJob:
    """A repair's state for one field, learned on train tokens of an unrepaired pass, or of one that `edit` changed."""

    id: str
    repair: str
    field: str
    needs: tuple[str, ...]
    backbone: str
    store: str
    split: SplitRef
    view: View
    dtype: str
    seed: int
    upstream: tuple[tuple[int, str], ...]  # (step, fit) of the maps that come before it in the chain
    edit: str = ""
    edit_fits: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class CellJob:
    """One cell with all it needs. `maps`: the repairs applied to stored tokens; `fits`: (step, field) -> fit id."""

    slot: Slot
    identity: str
    components: dict[str, Any]
    status: CellStatus
    reason: str = ""
    remedy: str = ""
    maps: tuple[str, ...] = ()
    fits: tuple[tuple[int, str, str], ...] = ()
    edit: str = ""
    edit_fits: tuple[tuple[int, str], ...] = ()  # (step of the edit, fit), for the cost
    stores: dict[str, str] = field(default_factory=dict)  # split -> store
    splits: dict[str, SplitRef] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    backbone: str = ""
    forwards_per_image: int = 1
    streamed: int = 0  # images that the cell itself takes through the backbone; then it has no stores
    stream: str = ""  # cells with the same one differ only in how they map tokens: they share those images

    @property
    def id(self) -> str:
        return f"cell-{self.identity}"


@dataclass(frozen=True)
class StreamJob:
    """Cells that follow one stream, carried out together."""

    id: str
    cells: tuple[CellJob, ...]

    @property
    def backbone(self) -> str:
        return self.cells[0].backbone

    @staticmethod
    def of(cells: Sequence[CellJob]) -> StreamJob:
        """Named by its cells, so that the same ones are the same job."""
        return StreamJob("stream-" + digest(sorted(cell.identity for cell in cells)), tuple(cells))


@dataclass(frozen=True)
class Plan:
    """What would run. `requires` maps a job id to the job ids that must be done before."""

    passes: tuple[PassJob, ...]
    fits: tuple[FitJob, ...]
    cells: tuple[CellJob, ...]
    requires: dict[str, tuple[str, ...]]

    def with_status(self, *statuses: str) -> list[CellJob]:
        return [c for c in self.cells if c.status in statuses]

    @property
    def streamed(self) -> int:
        """Images that streams take through a backbone, once for all cells on a stream (of test windows, one per image)."""
        return sum(c.streamed * c.forwards_per_image for c in {c.stream: c for c in self.with_status("todo")}.values())

    @property
    def forwards(self) -> int:
        return self.streamed + sum(p.split.images * p.forwards_per_image for p in self.passes)

    @property
    def bytes(self) -> int:
        return sum(p.bytes for p in self.passes)
