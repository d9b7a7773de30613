"""Patches as a field over one image, fitted to many crops of it: stage 1 of DVT (Yang et al. 2024, arXiv 2401.02957)."""

from __future__ import annotations

from vitbench.backbones.base import Backbone
from vitbench.backbones.field import FieldBackbone
from vitbench.catalogue.denoising import DVT_FIELD, DvtFieldParams
from vitbench.repairs.base import Repair, State


class DvtField(Repair[DvtFieldParams]):
    """Any backbone, its patches those of the field."""

    card = DVT_FIELD

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return FieldBackbone(backbone, self.params)
