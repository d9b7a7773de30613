"""Replace outlying tokens by the mean of their sound neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import FILL_OUTLIERS, OutlierParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.detectors import Outliers
from vitbench.repairs.moments import valid_cells
from vitbench.repairs.neighbours import BOX, weighted_mean_3x3
from vitbench.tokens.types import Tokens


class FillOutliers(Repair[OutlierParams]):
    """Flagged cells take the mean of their unflagged 3x3 neighbours, ring by ring from outside in.

    An image of flagged cells only stays as it is: nothing sound is left to fill from.
    """

    card = FILL_OUTLIERS

    @property
    def _outliers(self) -> Outliers:
        return Outliers(self.params.det, self.params.block, self.card.name)

    def fit(self, context: FitContext) -> State:
        return self._outliers.fit(context)

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        flagged = self._outliers.flagged(tokens, name, state).to(x.device)
        return filled(x, flagged, valid_cells(tokens, x.device) & ~flagged)


def filled(x: Tensor, flagged: Tensor, sound: Tensor) -> Tensor:
    """x: b h w c with `flagged` cells (b h w) filled from `sound` ones, neighbours first, until none is reachable."""
    out, open_cells, known = x, flagged, sound
    while bool(open_cells.any()):
        mean, reached = weighted_mean_3x3(out, known, BOX)
        now = open_cells & reached
        if not bool(now.any()):
            break
        out = torch.where(now.unsqueeze(-1), mean, out)
        known, open_cells = known | now, open_cells & ~now
    return out
