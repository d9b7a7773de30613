"""Replace tokens that lie along a singular defect direction (Wang et al. 2024, arXiv 2407.16826) by sound neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vitbench.catalogue.fields import acts_on
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

    def map(self, tokens: Tokens, states: Mapping[str, State]) -> Tokens:
        """Flags are read off the tokens as they come, before `patch_raw` itself is repaired."""
        fields = dict(tokens.fields)
        for name, state in states.items():
            if name in fields and acts_on(self.card.acts_on, name):
                flags = along_direction(tokens, state)
                sound = valid_cells(tokens, flags.device) & ~flags
                fields[name] = filled(fields[name], flags.to(fields[name].device), sound.to(fields[name].device))
        return replace(tokens, fields=fields)
