"""Scale-MAE: computed positions as MAE keeps them, a decoder that is left out, and a file that must be given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from vitbench.backbones.scale_mae import build, sincos_positions
from vitbench.catalogue import BACKBONES
from vitbench.catalogue.weights import describe_backbone
from vitbench.errors import WeightsError

NAME = "vit_large_patch16_224.scale_mae"


def test_without_a_file_it_is_unavailable_and_says_what_to_get() -> None:
    _, state = describe_backbone(NAME)
    assert state.status == "unavailable"
    assert f"--weights {NAME}=FILE" in state.remedy


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    found = sincos_positions(3, 4, 16)
    assert found.shape == (13, 16)
    assert not found[0].any()
    row, col = 2, 3
    rates = [10_000 ** (-i / 4) for i in range(4)]
    expected = [f(at * r) for at in (col, row) for f in (math.sin, math.cos) for r in rates]
    torch.testing.assert_close(found[1 + row * 4 + col], torch.tensor(expected))


def _small(tmp_path: Path, **extra: torch.Tensor):
    module = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    state = {k: v for k, v in module.state_dict().items() if k != "pos_embed"}
    torch.save({"model": {**state, **extra}}, tmp_path / "scale.pth")
    card = replace(BACKBONES.get(NAME), timm_id="vit_tiny_patch16_224", embed_dim=192, depth=12)
    return card, replace(describe_backbone(NAME)[1], path=str(tmp_path / "scale.pth"), digest="0" * 16)


def test_a_pretraining_file_loads_without_its_decoder_and_with_computed_positions(tmp_path: Path) -> None:
    names = ("mask_token_decoder", "decoder_embed.weight", "fpn.up.weight", "fcn_high.0.weight", "pos_embed")
    backbone = build(*_small(tmp_path, **{name: torch.zeros(1, 1, 8) for name in names}))
    torch.testing.assert_close(backbone.module.pos_embed[0], sincos_positions(14, 14, 192))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="adapter"):
        build(*_small(tmp_path, **{"adapter.weight": torch.zeros(3)}))
