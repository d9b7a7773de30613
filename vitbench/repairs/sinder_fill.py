"""Replace tokens that lie along a singular defect direction (Wang et al. 2024, arXiv 2407.16826) by sound neighbours."""

from __future__ import annotations

from torch import Tensor

from vitbench.catalogue.singular import SINDER_FILL, SinderParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.fill_outliers import filled
from vitbench.repairs.moments import valid_cells
from vitbench.repairs.singular_defects import along_direction, find_direction
from vitbench.tokens.types import Tokens


class SinderFill(Repair[SinderParams]):
    """Cells whose |cos(x, u)| is outlying take the mean of their unflagged 3x3 neighbours, as in `fill_outliers`.

    x: tokens after the last block, before the final norm; u: a block's singular direction (see `singular_defects`).
    """

    card = SINDER_FILL

    def fit(self, context: FitContext) -> State:
        return find_direction(context, self.params.rule, self.card.name)

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        flagged = along_direction(tokens, state).to(x.device)
        return filled(x, flagged, valid_cells(tokens, x.device) & ~flagged)
