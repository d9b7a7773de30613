"""A split as streaming tasks see it: decoded images on demand, and the cell's backbone, edited and mapped, on any pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vitbench.engine.streams import as_float
from vitbench.engine.workspace import state_path
from vitbench.jobs import CellJob
from vitbench.tasks.live import Placed
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

if TYPE_CHECKING:
    from vitbench.engine.jobs import Workbench


class LiveSplit:
    """The `LiveImages` of one cell and split. `forwards`: images that went through the backbone."""

    def __init__(self, bench: Workbench, job: CellJob, split: str) -> None:
        self.split, self._bench = split, bench
        self._samples = bench.samples(job.splits[split])
        self._backbone = bench.edited(job.backbone, job.components["dtype"], job.edit, job.edit_fits)
        self._maps = bench.maps(job.maps, job.fits)
        self._request = TokenRequest(job.fields)
        self.patch_px = self._backbone.card.patch_px
        self.forwards = 0
        self._kept: Path = state_path(bench.options, job.id).with_suffix(".kept")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._samples.keys)

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        return self._samples.get(key)

    def tokens(self, placed: Sequence[Placed], keys: Sequence[str]) -> Tokens:
        pixels, geometry = batch(placed, self.patch_px)
        tokens = as_float(self._backbone.forward(pixels, geometry, self._request, keys), self._bench.device)
        self.forwards += len(keys)
        for repair, states in self._maps:
            tokens = repair.map(tokens, states)
        return tokens

    def resumed(self) -> Mapping[str, Tensor]:
        return load_file(self._kept) if self._kept.is_file() else {}

    def keep(self, state: Mapping[str, Tensor]) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        partial = self._kept.with_suffix(".writing")
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial)
        partial.replace(self._kept)

    def done(self) -> None:
        """The cell has its record: what its fit kept on the way is not needed any more."""
        self._kept.unlink(missing_ok=True)
