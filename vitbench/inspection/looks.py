"""What is seen when a backbone looks at images, as arrays: one look per image and repair. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vitbench.data.images import Bytes
from vitbench.metrics.norms import MEASURES, Thresholds, norm_counts
from vitbench.records.rows import Rows

Floats = npt.NDArray[np.float32]
K_MAD = 10.0  # as in token_norms@registers
ROUNDING = 1e-4


@dataclass(frozen=True)
class Picture:
    """An image by name, as the backbone gets it: uint8 h w 3, both sides multiples of the patch."""

    name: str
    pixels: Bytes


@dataclass(frozen=True)
class Look:
    """One image through one repair; grids are h w, in patches.

    patch: h w c, what tasks read. norms: l h w after every block. size: h w, norm of the last block's tokens as the repair
    leaves them. attention: heads h w and registers h w, None where the backbone has none. box: x0 y0 x1 y1 in cells.
    classes, depth_m: h w, what quick heads give each cell.
    """

    patch: Floats
    norms: Floats
    size: Floats
    cls_attention: Floats | None
    register_attention: Floats | None
    box: tuple[float, float, float, float]
    seed: tuple[int, int]
    classes: npt.NDArray[np.uint8] | None = None
    depth_m: Floats | None = None

    @property
    def grid_hw(self) -> tuple[int, int]:
        return self.patch.shape[0], self.patch.shape[1]


@dataclass(frozen=True)
class Row:
    """One repair over all images. `fields` are those it changed; `refused` says why there are no looks.

    own_forward: the backbone ran differently for it, or is as it is; a map of tokens has none. swapped: other weights.
    """

    repair: str
    looks: tuple[Look, ...] = ()
    fields: tuple[str, ...] = ()
    own_forward: bool = True
    swapped: bool = False
    refused: str = ""

    def block_norms(self) -> list[Floats]:
        """Per image l n: after every block, or of a map of tokens the last block's as it leaves them (l = 1)."""
        if self.own_forward:
            return [look.norms.reshape(len(look.norms), -1) for look in self.looks]
        return [look.size.reshape(1, -1) for look in self.looks]

    @property
    def thresholds(self) -> Thresholds:
        """Norms above which a token is an outlier, by block, from all tokens of all images."""
        norms = np.concatenate(self.block_norms(), axis=1)
        found = Thresholds.of(norms, K_MAD, None)
        least = np.median(norms, axis=1) * (1 + ROUNDING)  # tokens of one length have no outliers, only rounding
        return replace(found, mad=np.maximum(found.mad, least), std=np.maximum(found.std, least))


@dataclass(frozen=True)
class Inspection:
    """A backbone, with and without repairs, on a few images. `fitted_on` says what the repairs were fitted on."""

    backbone: str
    patch_px: int
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]
    fitted_on: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def seen(self) -> tuple[Row, ...]:
        """The rows that have something to show."""
        return tuple(row for row in self.rows if row.looks)


def norm_numbers(row: Row) -> dict[str, float]:
    """The measures of `token_norms@registers` on these images, those that are defined: name -> value in its unit.

    A repair that maps tokens leaves the norms inside the forward as they are: its numbers are of the last block only.
    """
    norms, thresholds = row.block_norms(), row.thresholds
    counted = [norm_counts(one, thresholds) for one in norms]
    names = tuple(str(i) for i in range(len(counted)))
    rows = Rows(names, names, {k: np.stack([c[k] for c in counted]) for k in counted[0]}, {"block": -1, "cutoff": None})
    sums = rows.sums()
    values = {m.name: float(m.value(sums, rows.info)) for m in MEASURES if row.own_forward or "worst" not in m.name}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def similarity(look: Look, cell: tuple[int, int]) -> Floats:
    """Cosine of every patch token with the one at a cell (row, column): h w in -1..1."""
    x = look.patch / np.maximum(np.linalg.norm(look.patch, axis=-1, keepdims=True), 1e-12)
    return np.asarray(x @ x[cell], np.float32)
