"""No repair: tokens as the backbone gives them."""

from __future__ import annotations

from vitbench.catalogue.repairs import NONE, NoParams
from vitbench.repairs.base import Repair


class NoRepair(Repair[NoParams]):
    """The identity, which every repair is compared with."""

    card = NONE
