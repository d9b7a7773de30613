"""The grammar of fields: joins, quarters, and what a ViT gives for them."""

from __future__ import annotations

import pytest
import torch

from vitbench.catalogue.fields import acts_on, joined_fields, parse_field, quarter_blocks
from vitbench.errors import TokensError, UsageError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest, Tokens

from ..backbones.by_hand import images, tiny, view


def test_one_field_has_one_name() -> None:
    assert joined_fields("patch") == ("patch",)
    assert joined_fields("last4") == ("normed_-4", "normed_-3", "normed_-2", "patch")
    assert joined_fields("last4_raw+cls") == ("block_-4", "block_-3", "block_-2", "patch_raw", "cls")
    assert joined_fields("quarters") == ("normed_q1", "normed_q2", "normed_q3", "patch")
    assert joined_fields("cls_quarters")[-1] == "cls"
    with pytest.raises(UsageError, match="patches"):
        joined_fields("patch+patches")
    for name in ("block", "normed", "cls_block", "block_q5", "key_q1", "last4"):
        with pytest.raises(UsageError):
            parse_field(name)


@pytest.mark.parametrize(
    "depth, blocks", [(12, (2, 5, 8, 11)), (24, (4, 11, 17, 23)), (40, (9, 19, 29, 39)), (2, (0, 0, 1, 1))]
)
def test_quarters_are_the_blocks_dinov2_reads(depth: int, blocks: tuple[int, ...]) -> None:
    assert quarter_blocks(depth) == blocks
    assert tuple(parse_field(f"block_q{i}").at(depth) for i in (1, 2, 3, 4)) == blocks
    assert parse_field("block_-1").at(depth) == depth - 1
    with pytest.raises(UsageError, match=f"{depth} blocks"):
        parse_field(f"block_{depth}").at(depth)


def test_repairs_that_act_on_blocks_or_cls_act_on_them_in_every_form() -> None:
    assert acts_on(("block",), "normed_3")
    assert acts_on(("cls",), "cls_block_3")
    assert not acts_on(("patch",), "normed_-2")
    assert acts_on(("*",), "cls_normed_q1")


def test_a_join_is_the_concatenation_of_its_parts_with_cls_beside_every_patch() -> None:
    fields = {"patch": torch.randn(2, 3, 4, 5), "cls": torch.randn(2, 6)}
    tokens = Tokens(fields, Geometry(4, (3, 4), ()), ("a", "b"))
    joined = tokens["patch+cls"]
    assert joined.shape == (2, 3, 4, 11)
    assert torch.equal(joined[..., :5], fields["patch"])
    assert torch.equal(joined[1, 2, 3, 5:], fields["cls"][1])
    with pytest.raises(TokensError, match="no field 'patch_raw'"):
        tokens["patch_raw+cls"]


def test_a_vit_gives_blocks_and_cls_before_and_through_the_final_norm() -> None:
    module = tiny("vit_base_patch16_224")
    names = (
        "patch",
        "cls",
        "patch_raw",
        "normed_2",
        "cls_normed_2",
        "cls_block_2",
        "cls_block_0",
        "block_0",
        "normed_0",
    )
    got = view(module).tokens(images(2, (64, 48)), TokenRequest(names), ["a", "b"])
    torch.testing.assert_close(got["normed_2"], got["patch"])
    torch.testing.assert_close(got["cls_normed_2"], got["cls"])
    torch.testing.assert_close(module.norm(got["cls_block_2"]), got["cls"])
    torch.testing.assert_close(module.norm(got["block_0"]), got["normed_0"])
    assert got["cls_block_0"].shape == got["cls"].shape
    assert not torch.equal(got["cls_block_0"], got["cls_block_2"])
