"""Singular directions against the original's own values, and the exact slopes against sampled ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import GluMlp, Mlp, QuickGELU, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import Block, ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from tests.backbones.by_hand import FAMILIES, tiny
from vitbench.backbones import singular
from vitbench.backbones.adapters import mlp_parts
from vitbench.backbones.layouts import rekeyed
from vitbench.backbones.singular import block_map, defect_directions, mlp_slope
from vitbench.errors import NotApplicableError


def _waves(rows: int, cols: int, shift: float) -> Tensor:
    i, j = torch.arange(rows, dtype=torch.float64), torch.arange(cols, dtype=torch.float64)
    return 0.5 * torch.sin(1.3 * i[:, None] + 0.7 * j + shift)


def _toy_blocks() -> list[Block]:
    blocks = []
    six = torch.arange(6, dtype=torch.float64)
    for index in range(2):
        shift = 0.31 * index
        block = Block(
            6, 1, mlp_ratio=20 / 6, qkv_bias=True, init_values=1.0, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU
        ).double()
        state = {
            "norm1.weight": 1 + 0.05 * six,
            "norm2.weight": 1 - 0.03 * six,
            "attn.qkv.weight": _waves(18, 6, shift),
            "attn.proj.weight": _waves(6, 6, shift + 1),
            "ls1.gamma": 0.5 + 0.1 * six,
            "ls2.gamma": 0.7 - 0.05 * six,
            "mlp.fc1.weight": _waves(20, 6, shift + 2),
            "mlp.fc1.bias": 0.1 * torch.arange(20, dtype=torch.float64).cos(),
            "mlp.fc2.weight": _waves(6, 10, shift + 3),
        }
        assert not block.load_state_dict(state, strict=False).unexpected_keys
        blocks.append(block)
    return blocks


def test_directions_of_the_toy_vit_are_those_of_the_original() -> None:
    expected = [
        [-0.00645, 0.12051, -0.23848, -0.44088, 0.11867, 0.84859],
        [0.04907, 0.2659, -0.14201, -0.53257, -0.07427, 0.78586],
    ]
    blocks = _toy_blocks()
    np.testing.assert_allclose(defect_directions(blocks), expected, atol=2e-5)
    total = block_map(blocks[0])
    np.testing.assert_allclose(torch.linalg.svdvals(total)[:3], [1.8692, 1.1062, 1.0], atol=1e-4)
    np.testing.assert_allclose(torch.linalg.svdvals(block_map(blocks[1]) @ total)[:3], [2.7765, 1.2771, 1.0], atol=1e-4)


def test_a_swiglu_vit_has_the_directions_that_the_original_samples(shared: Path) -> None:
    golden = np.load(shared / "golden" / "sinder.npz", allow_pickle=False)
    prefix = "swiglu_vit__w__"
    state = {k.removeprefix(prefix): torch.from_numpy(golden[k]) for k in golden.files if k.startswith(prefix)}
    del state["mask_token"]  # not of the encoder
    state = {k.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): v for k, v in state.items()}
    module = VisionTransformer(
        img_size=56, patch_size=14, embed_dim=40, depth=4, num_heads=4, mlp_ratio=224 / 40, init_values=1.0,
        mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, num_classes=0,
    )  # fmt: skip
    module.load_state_dict(state)
    ours = defect_directions(list(module.blocks)).numpy()
    cosines = np.abs(np.einsum("slc,lc->sl", golden["swiglu_vit__directions_8seeds"], ours))
    assert cosines.min() > 0.9989  # what the original's own sampling leaves
    for block, sampled, noise in zip(
        module.blocks, golden["swiglu_vit__block_maps_mean_of_8"], golden["swiglu_vit__block_maps_seedstd"], strict=True
    ):
        assert float((block_map(block) - torch.from_numpy(sampled)).abs().max()) < 6 * float(noise)


def _sampled_slope(block: Any, width: int) -> Tensor:
    parts = mlp_parts(block)
    x = torch.randn(200_000, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm, parts.module.norm = parts.module.norm, nn.Identity()
    neurons = mlp_parts(block).hidden(x)
    parts.module.norm = norm
    solution: Tensor = torch.linalg.lstsq(x, neurons).solution
    return solution.T


MLPS = {
    "gelu": lambda: Mlp(8, 12),
    "gelu_tanh": lambda: Mlp(8, 12, act_layer=lambda: nn.GELU(approximate="tanh")),
    "quick_gelu": lambda: Mlp(8, 12, act_layer=QuickGELU),
    "relu": lambda: Mlp(8, 12, act_layer=nn.ReLU),
    "swiglu": lambda: SwiGLU(8, 12),
    "swiglu_packed": lambda: SwiGLUPacked(8, 24),
    "geglu": lambda: GluMlp(8, 24, act_layer=nn.GELU, gate_last=False),
    "gate_last": lambda: GluMlp(8, 24),
}


@pytest.mark.parametrize("name", MLPS)
def test_the_exact_slope_is_what_sampling_tends_to(name: str) -> None:
    torch.manual_seed(0)
    block = nn.Module()
    block.mlp = MLPS[name]().double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.6)
    with torch.no_grad():
        exact, sampled = mlp_slope(mlp_parts(block)), _sampled_slope(block, 8)
    assert float((exact - sampled).norm() / sampled.norm()) < 4 * math.sqrt(8 / 200_000)


@pytest.mark.parametrize("std", [0.01, 1.0, 4.0, 8.0])
def test_a_gate_however_steep_has_the_slope_of_the_written_formula(std: float) -> None:
    block = nn.Module()
    block.mlp = SwiGLU(6, 9).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
    w = {name: value.detach() for name, value in block.mlp.state_dict().items()}
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    density = (-x.square() / 2).exp()
    z = w["fc1_g.bias"][:, None] + w["fc1_g.weight"].norm(dim=1)[:, None] * x
    s = z.sigmoid()
    mean, slope, bend = (
        (f * density).sum(1, keepdim=True) / density.sum()
        for f in (z * s, s * (1 + z * (1 - s)), s * (1 - s) * (2 + z * (1 - 2 * s)))
    )
    both = (w["fc1_g.weight"] * w["fc1_x.weight"]).sum(1, keepdim=True)
    expected = (w["fc1_x.bias"][:, None] * slope + both * bend) * w["fc1_g.weight"] + mean * w["fc1_x.weight"]
    with torch.no_grad():
        torch.testing.assert_close(mlp_slope(mlp_parts(block)), expected, rtol=1e-6, atol=1e-9 * std**2)


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8])
def test_nearly_equal_directions_are_told_apart(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=generator))[0] for _ in range(2))
    sizes = torch.full((16,), 0.5, dtype=torch.float64)
    sizes[:3] = torch.tensor([1, 1 - gap, 1 - 2 * gap], dtype=torch.float64)
    monkeypatch.setattr(singular, "block_map", lambda _: left * sizes @ right.T)
    found = defect_directions([nn.Identity()])[0]
    assert float((found @ left[:, 0]).abs()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("timm_id", sorted(FAMILIES))
def test_every_family_has_a_unit_direction_after_each_block(timm_id: str) -> None:
    module: Any = tiny(timm_id)
    found = defect_directions(list(module.blocks))
    assert found.shape == (3, 48)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.equal(found, defect_directions(list(module.blocks)))
    assert bool((found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all())


def test_a_neuron_that_writes_strongly_sets_the_direction() -> None:
    module: Any = tiny("vit_small_patch16_224")
    planted = torch.randn(48, generator=torch.Generator().manual_seed(5))
    planted -= planted.mean()
    module.blocks[1].mlp.fc2.weight[:, 7] = 300 * planted
    found = defect_directions(list(module.blocks)).float()
    cosine = (found @ planted / planted.norm()).abs()
    assert float(cosine[0]) < 0.9
    assert float(cosine[1]) > 0.99


def test_the_directions_of_deit_tiny_are_there_in_any_precision(shared: Path) -> None:
    from safetensors.torch import load_file

    module = timm.create_model("deit_tiny_patch16_224")
    state = load_file(shared / "data" / "weights" / "deit_tiny_patch16_224.safetensors")
    module.load_state_dict(rekeyed(state, module), strict=False)
    full = defect_directions(list(module.blocks))
    half = defect_directions(list(module.half().blocks))
    assert full.shape == (12, 192)
    assert float((full * half).sum(1).abs().min()) > 0.999


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda: ParallelScalingBlock(8, 2), "blocks of class ParallelScalingBlock"),
        (lambda: Block(8, 2, act_layer=nn.PReLU), "activation PReLU"),
        (lambda: Block(8, 2, norm_layer=lambda n, **_: nn.GroupNorm(2, n)), "norm GroupNorm"),
    ],
)
def test_what_the_linear_map_does_not_know_is_said(block: Any, said: str) -> None:
    with pytest.raises(NotApplicableError, match=said):
        defect_directions([block()])
