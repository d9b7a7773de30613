"""Registers (Darcet et al. 2024, arXiv 2309.16588): the twin that was trained with extra tokens.

Nothing is done to tokens here: the card says `swaps`, and the plan runs the backbone's register twin instead.
"""

from __future__ import annotations

from vitbench.catalogue.repairs import REGISTERS, NoParams
from vitbench.repairs.base import Repair


class Registers(Repair[NoParams]):
    """The identity on the twin's tokens."""

    card = REGISTERS
