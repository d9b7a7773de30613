"""Test-time registers: the published ranking and hook, the paper's rule, and outliers that go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.backbones.by_hand import images as pictures
from tests.backbones.by_hand import tiny, view
from vitbench.backbones.adapters import attention_parts
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.load import load_backbone
from vitbench.catalogue.edits import RegisterParams
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.edit_contract import ImageContext, images, tiny_backbones
from vitbench.repairs.register_neurons import find_outliers, neuron_scores, ranked
from vitbench.repairs.test_time_registers import moved
from vitbench.tokens.types import TokenRequest


def test_neurons_rank_as_in_the_released_code(shared: Path) -> None:
    golden = np.load(shared / "golden" / "ttr.npz")
    name = "stored__layer-1_q98_sparse0_0.5_0.5__"
    expected, threshold = golden[f"{name}ranking"], float(golden[f"{name}threshold"])
    activations = torch.from_numpy(golden["stored__acts_f16"]).float()
    hits = torch.from_numpy(golden["stored__norms_f16"]).float()[:, -1] > threshold
    scores = [
        torch.stack(
            [neuron_scores(image[block], hit, sparse=False) for image, hit in zip(activations, hits, strict=True)]
        )
        for block in range(activations.shape[1])
    ]
    found = ranked([s.mean(dim=0) for s in scores], top_layer=5)
    assert [row[:2] for row in found] == [(int(layer), int(neuron)) for layer, neuron, _ in expected]
    np.testing.assert_allclose([row[2] for row in found], expected[:, 2], rtol=1e-5)
    early = ranked([s.mean(dim=0) for s in scores], top_layer=2)
    assert [row[:2] for row in early] == [row[:2] for row in found if row[0] <= 2]


@pytest.mark.parametrize(
    ("case", "scale", "rest"),
    [
        ("scale1.0_zero", 1.0, "zero"), ("scale1.0_mean", 1.0, "mean"), ("scale1.0_only_outliers", 1.0, "only_outliers"),
        ("scale1.0_same", 1.0, "same"), ("scale0.5_zero", 0.5, "zero"), ("scale0.5_mean", 0.5, "mean"),
    ],
)  # fmt: skip
def test_the_released_variant_is_the_released_hook_on_one_image(
    shared: Path, case: str, scale: float, rest: str
) -> None:
    golden = np.load(shared / "golden" / "ttr.npz")
    given = torch.from_numpy(golden["hook__input"])[:1]
    expected = torch.from_numpy(golden[f"hook__neurons2_5_reg1_{case}"])[:1]
    params = RegisterParams(variant="released", scale=scale, rest=rest)  # type: ignore[arg-type]
    out = given.clone()
    out[..., [2, 5]] = moved(given[..., [2, 5]], slice(29, 30), 1, params)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


def test_the_paper_moves_each_neuron_by_itself_in_every_image_and_from_cls_too() -> None:
    a = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    out = moved(a, slice(5, 7), 0, RegisterParams())
    assert torch.equal(out[:, :5], torch.zeros(3, 5, 2))
    for image in range(3):
        for neuron in range(2):
            assert torch.equal(out[image, 5:, neuron], a[image, :5, neuron].max().expand(2))


def slow_hook(a: np.ndarray, registers: int, params: RegisterParams) -> np.ndarray:
    """One image: activations t n of the chosen neurons, registers last; the released hook leaves CLS, the paper does not."""
    out, rest = a.copy(), range(int(params.variant == "released"), len(a) - registers)
    loudest = a.ravel()[np.abs(a).argmax()]
    for n in range(a.shape[1]):
        column = a[list(rest), n]
        level = column.mean() + (column.std(ddof=1) if len(column) > 1 else 0)
        for t in rest:
            if params.rest == "zero":
                out[t, n] = 0
            elif params.rest == "mean" or (params.rest == "only_outliers" and len(rest) > 1 and a[t, n] > level):
                out[t, n] = column.mean()
        value = loudest if params.variant == "released" else a[: len(a) - registers, n].max()
        out[len(a) - registers :, n] = params.scale * value
    return out


@settings(max_examples=80)
@given(
    st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 12), st.integers(1, 5),
    st.sampled_from(["released", "paper"]), st.sampled_from(["zero", "mean", "only_outliers", "same"]),
    st.sampled_from([1.0, 0.5, 0.0, -1.0]),
)  # fmt: skip
def test_every_hook_equals_the_slow_restatement_on_every_image(
    seed: int, registers: int, patches: int, neurons: int, variant: str, rest: str, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(2, 1 + patches + registers, neurons)) * rng.choice([0.0, 1.0, 100.0])
    params = RegisterParams(variant=variant, rest=rest, scale=scale, registers=registers)  # type: ignore[arg-type]
    own = slice(1 + patches, 1 + patches + registers)
    found = moved(torch.from_numpy(a), own, int(variant == "released"), params)
    np.testing.assert_allclose(found, [slow_hook(image, registers, params) for image in a], atol=1e-9)


def test_a_neuron_that_is_active_everywhere_is_not_sparse() -> None:
    activations = torch.tensor([[2.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    hit = torch.tensor([True, False, False])
    assert neuron_scores(activations, hit, sparse=True).tolist() == [0, 2]
    assert neuron_scores(activations, hit, sparse=False).tolist() == [2, 2]


@pytest.mark.parametrize("name", tiny_backbones())
def test_the_planted_neuron_is_found_and_the_outliers_go(name: str) -> None:
    plain = tiny_backbones()[name]
    context = ImageContext("patch", plain, ("norms",))
    repair = build_repair("test_time_registers")
    state = repair.fit(context)
    top = build_repair("test_time_registers[top_k=10]").fit(context)
    assert (1, 0) in zip(top["blocks"].tolist(), top["neurons"].tolist(), strict=True)
    outliers = find_outliers(context, -1, 0.0)
    request, keys = TokenRequest(("norms",)), [str(i) for i in range(32)]
    before = plain.tokens(images(50, 32), request, keys)
    after = repair.edit(plain, state).tokens(images(50, 32), request, keys)
    assert int(outliers.hits(before).sum()) >= 4
    assert int(outliers.hits(after).sum()) <= 0.25 * int(outliers.hits(before).sum())


def test_outliers_first_appear_after_the_block_that_makes_them() -> None:
    plain = next(iter(tiny_backbones().values()))
    context = ImageContext("patch", plain, ("norms",))
    found = find_outliers(context, -1, 0.0)
    assert (found.detect, found.first) == (2, 1)
    norms = torch.cat([tokens["norms"][:, 2].flatten() for tokens in context.tokens()]).double()
    assert found.threshold == pytest.approx(float(norms.mean() + 3 * norms.std(correction=0)), rel=1e-6)
    assert found.count == int((norms > found.threshold).sum())
    assert find_outliers(context, -2, 0.0).detect == 1


class _SeesTokens(Edit):
    def __init__(self) -> None:
        self.first: Tensor | None = None

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        self.first = x
        return x


def test_the_added_token_starts_at_zero_and_at_the_bias_of_a_pre_norm() -> None:
    for kind in ("vit_small_patch16_224", "vit_base_patch16_clip_224"):
        module = tiny(kind)
        plain, watch = view(module), _SeesTokens()
        state = {"blocks": torch.tensor([0]), "neurons": torch.tensor([3])}
        edited = build_repair("test_time_registers[registers=2]").edit(plain, state)
        edited.edited(watch).tokens(pictures(1, (64, 64)), TokenRequest(("patch",)), ["a"])  # type: ignore[attr-defined]
        assert watch.first is not None
        assert watch.first.shape[1] == 1 + 16 + 2
        start = module.norm_pre.bias if "clip" in kind else torch.zeros(48)
        assert torch.equal(watch.first[0, -2:], start.expand(2, -1))


@pytest.mark.parametrize("kind", ["vit_small_patch16_224", "eva02_small_patch14_224", "vit_small_patch16_dinov3"])
def test_what_added_tokens_attend_to_is_register_attention_where_there_are_no_registers(kind: str) -> None:
    module = tiny(kind)
    plain = view(module)
    state = {"blocks": torch.tensor([0]), "neurons": torch.tensor([3])}
    edited = build_repair("test_time_registers[registers=2]").edit(plain, state)
    seen: list[Tensor] = []
    parts = attention_parts(plain.blocks[-1])

    def keep(_module: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.append(parts.logits(args[0], kwargs.get("rope")).softmax(dim=-1).mean(dim=1))

    handle = parts.module.register_forward_pre_hook(keep, with_kwargs=True)
    patch, keys = plain.card.patch_px, ["a", "b"]
    tokens = edited.tokens(pictures(2, (4 * patch, 3 * patch)), TokenRequest(("register_attention",)), keys)
    handle.remove()
    own = plain.card.registers
    rows = slice(plain.prefix - own, plain.prefix) if own else slice(-2, None)
    expected = seen[0][:, rows, plain.prefix : plain.prefix + 12].reshape(2, -1, 4, 3)
    assert expected.shape[1] == (own or 2)
    torch.testing.assert_close(tokens["register_attention"], expected, rtol=1e-4, atol=1e-6)
    only = edited.tokens(pictures(2, (4 * patch, 3 * patch)), TokenRequest(("cls_attention",)), keys)
    both = edited.tokens(
        pictures(2, (4 * patch, 3 * patch)), TokenRequest(("cls_attention", "register_attention")), keys
    )
    torch.testing.assert_close(both["cls_attention"], only["cls_attention"], rtol=1e-4, atol=1e-6)


def test_no_outliers_no_train_tokens_no_vit_and_no_such_block_are_said() -> None:
    plain = next(iter(tiny_backbones().values()))
    context = ImageContext("patch", plain, ("norms",))
    with pytest.raises(NotApplicableError, match="nothing to move"):
        build_repair("test_time_registers[threshold=1e9]").fit(context)
    with pytest.raises(NotApplicableError, match="none of the 3 blocks"):
        build_repair("test_time_registers[detect=7]").fit(context)
    with pytest.raises(NotApplicableError, match="no train tokens"):
        build_repair("test_time_registers").fit(ImageContext("patch", plain, ("norms",), images=0))
    with pytest.raises(NotApplicableError, match="needs the blocks of a ViT"):
        build_repair("test_time_registers").edit(load_backbone("patch_colour"), {})
    with pytest.raises(UsageError, match="registers=0"):
        build_repair("test_time_registers[registers=0]")
