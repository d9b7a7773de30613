"""Sparse attention: the published values of entmax-1.5, where it is used, and what is said without the package."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.backbones.by_hand import images, tiny, view
from vitbench.backbones.edits import EditContext
from vitbench.backbones.sparse import SORTED, Sparse, entmax15
from vitbench.errors import NotApplicableError, UnavailableError, UsageError
from vitbench.repairs.compose import build_repair
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest

CONTEXT = EditContext(("a",), Geometry(1, (1, 3), (Placement((1, 3), (1, 3), (1, 3)),)), 1, 3)


def _package() -> None:
    pytest.importorskip("entmax", reason="the package entmax is not installed")


def test_weights_have_the_published_values() -> None:
    _package()
    edit = Sparse(entmax15(), 1)
    four = edit.attention(2, torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), CONTEXT).flatten()
    torch.testing.assert_close(four, torch.tensor([0, 0, 0.1692811, 0.8307189]))
    five = edit.attention(2, torch.tensor([[[[0, 0.1, 0.2, -0.5, 1.5]]]]), CONTEXT).flatten()
    torch.testing.assert_close(five, torch.tensor([0.0292665, 0.0488739, 0.0734814, 0, 0.8483781]))


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_sorting_only_the_largest_first_is_exact_for_narrow_and_wide_supports(scale: float) -> None:
    _package()
    logits = torch.randn(1, 2, 5, 700, generator=torch.Generator().manual_seed(1)) * scale
    weights = Sparse(entmax15(), 1).attention(0, logits, CONTEXT)
    assert bool(((weights > 0).sum(-1) > SORTED).all()) is (scale < 1)
    torch.testing.assert_close(weights, entmax15()(logits, dim=-1))


def test_half_precision_is_computed_in_float32() -> None:
    _package()
    logits = torch.randn(2, 2, 5, 60, generator=torch.Generator().manual_seed(0)).bfloat16()
    weights = Sparse(entmax15(), 1).attention(0, logits, CONTEXT)
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights, Sparse(entmax15(), 1).attention(0, logits.float(), CONTEXT).bfloat16())


@pytest.mark.parametrize(("blocks", "changed"), [(-1, 0), (2, 1), (1, 2)])
def test_the_last_blocks_alone_are_sparse(blocks: int, changed: int) -> None:
    _package()
    plain = view(tiny("vit_small_patch16_dinov3"))
    fields = ("block_0", "block_1", "block_2")
    request, pictures = TokenRequest((*fields, "cls_attention")), images(1, (48, 80))
    before = plain.tokens(pictures, request, ["a"])
    after = build_repair(f"sparse_attention[blocks={blocks}]").edit(plain, {}).tokens(pictures, request, ["a"])
    for i, name in enumerate(fields):
        assert torch.allclose(before[name], after[name], atol=1e-4) is (i < changed)
    assert float(before["cls_attention"].min()) > 0
    assert float((after["cls_attention"] == 0).float().mean()) > 0


def test_without_the_package_it_is_unavailable_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "entmax", None)
    with pytest.raises(UnavailableError, match=r"needs the package entmax - pip install 'vitbench\[entmax\]'"):
        build_repair("sparse_attention").edit(view(tiny("vit_small_patch16_224")), {})


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(NotApplicableError, match="has 3"):
        build_repair("sparse_attention[blocks=4]").edit(view(tiny("vit_small_patch16_224")), {})
    with pytest.raises(UsageError, match="blocks=-2"):
        build_repair("sparse_attention[blocks=-2]")
