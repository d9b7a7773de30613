"""Fields that sum up a block or all attention in the pass, against the same by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vitbench.backbones.load import load_backbone
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.summaries import SPREAD, attention_spread
from vitbench.backbones.wrap import wrap
from vitbench.metrics.attention import spread_of_maps
from vitbench.tokens.types import TokenRequest

from .by_hand import by_hand, images, tiny, view
from .test_vit import normalised
from .test_wrap import HubLike

REQUEST = TokenRequest(("cls_similarity", "singular_cosine", "attention_spread", "norms"))
CELLS = (3, 4)


@pytest.mark.parametrize(
    "timm_id",
    [
        "vit_small_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224",
        "vit_small_patch16_dinov3", "eva02_base_patch14_224",
    ],
)  # fmt: skip
def test_summaries_equal_what_the_forward_by_hand_gives(timm_id: str) -> None:
    module = tiny(timm_id)
    v = view(module)
    pictures = images(2, (CELLS[0] * v.card.patch_px, CELLS[1] * v.card.patch_px))
    tokens = v.tokens(pictures, REQUEST, ["a", "b"])
    hand = by_hand(module, normalised(v, pictures), v.card.final_norm)
    n, cells = v.prefix, CELLS[0] * CELLS[1]
    for block, x in enumerate(hand.blocks):
        direction = defect_directions(v.blocks)[block].numpy()
        for image in range(2):
            patches = x[image, n:].double().numpy()
            cls = x[image, 0].double().numpy() if v.has_cls else patches.mean(0)
            for cell in range(cells):
                token = patches[cell] / np.linalg.norm(patches[cell])
                at = (image, block, cell // CELLS[1], cell % CELLS[1])
                assert float(tokens["cls_similarity"][at]) == pytest.approx(token @ cls / np.linalg.norm(cls), abs=1e-3)
                assert float(tokens["singular_cosine"][at]) == pytest.approx(abs(token @ direction), abs=1e-3)
    for image in range(2):
        for cell in range(cells):
            found = tokens["attention_spread"][image, :, cell // CELLS[1], cell % CELLS[1]].numpy()
            expected = spread_by_hand(hand.attention[2][image, :, n + cell].double().numpy(), n, cell)
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_a_module_of_unknown_make_tells_the_similarity_with_cls_and_hides_the_rest() -> None:
    module = tiny("vit_small_patch14_reg4_dinov2")
    pictures = images(2, (3 * 14, 4 * 14))
    wrapped = wrap(HubLike(module, 4), mean=view(module).card.mean, std=view(module).card.std)
    got, expected = wrapped.tokens(pictures, REQUEST, ["a", "b"]), view(module).tokens(pictures, REQUEST, ["a", "b"])
    torch.testing.assert_close(got["cls_similarity"], expected["cls_similarity"], rtol=1e-4, atol=1e-5)
    assert got["singular_cosine"].shape == got["attention_spread"].shape == (2, 0, 3, 4)


def spread_by_hand(weights: np.ndarray, prefix: int, cell: int) -> list[float]:
    rows = []
    for head in weights:
        p = head[prefix:] / head[prefix:].sum()
        entropy = -sum(q * math.log(q) for q in p if q > 0)
        distance = sum(
            q * math.hypot(cell // CELLS[1] - k // CELLS[1], cell % CELLS[1] - k % CELLS[1]) for k, q in enumerate(p)
        )
        rows.append([entropy, distance, 1 / (p**2).sum(), (p > 0).sum(), head[prefix:].sum()])
    return list(np.mean(rows, axis=0))


def test_heads_that_look_at_no_patch_as_entmax_allows_have_an_effective_number_of_zero() -> None:
    heads, patches = 6, CELLS[0] * CELLS[1]
    weights = torch.zeros(heads, patches + 1, patches + 1)
    weights[:, :, 0] = 1.0  # all on CLS
    weights[0] = 1.0 / (patches + 1)
    found = attention_spread([weights], slice(1, None), CELLS)[0, SPREAD.index("effective")]
    torch.testing.assert_close(found, torch.full(CELLS, patches / heads))
    maps = weights[:, 0, 1:].reshape(heads, *CELLS).numpy()
    assert spread_of_maps(maps)[SPREAD.index("effective")] == pytest.approx(patches / heads)


def test_a_control_without_attention_gives_fields_without_rows_and_the_pass_goes_on() -> None:
    tokens = load_backbone("patch_colour").tokens(images(2, (24, 40)), REQUEST, ["a", "b"])
    assert tokens["singular_cosine"].shape == tokens["attention_spread"].shape == (2, 0, 3, 5)
    assert tokens["cls_similarity"].shape == (2, 1, 3, 5)
    assert len(SPREAD) == 5
