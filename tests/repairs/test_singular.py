"""Repairs by directions and neighbourhoods, against their formulas written out."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vitbench.backbones.adapters import mlp_parts
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.vit import ViT
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs import singular_defects
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import SyntheticContext, fit_all, synthetic_tokens
from vitbench.repairs.singular_defects import along_direction, find_direction
from vitbench.repairs.synthetic_vit import loud_direction, synthetic_vit
from vitbench.tokens.types import TokenRequest, Tokens


def _loud(tokens: Tokens) -> Tensor:
    cosines = torch.nn.functional.normalize(tokens["patch_raw"], dim=-1) @ loud_direction()
    return cosines > 0.999


def _quiet(tokens: Tokens) -> Tokens:
    direction = loud_direction()
    raw = tokens["patch"]
    flat = torch.nn.functional.normalize(raw - (raw @ direction).unsqueeze(-1) * direction, dim=-1)
    small = torch.linspace(0, 0.1, raw[..., :1].numel()).view_as(raw[..., :1])
    return replace(tokens, fields={**tokens.fields, "patch_raw": flat + small * direction})


def _large(seed: int) -> Tokens:
    """One 12 x 12 image in which 5 tokens lie along the direction, as few as the published rule needs."""
    tokens = synthetic_tokens(seed, n=1, grid_hw=(12, 12))
    raw = torch.randn(tokens["patch_raw"].shape, generator=torch.Generator().manual_seed(seed))
    raw -= (raw @ loud_direction()).unsqueeze(-1) * 0.7 * loud_direction()
    for i in range(5):
        raw[0, 2 * i + 1, 5] = 30 * loud_direction()
    return replace(tokens, fields={**tokens.fields, "patch_raw": raw})


def test_tokens_along_the_direction_are_filled_in_every_field_and_others_are_left() -> None:
    repair, tokens = build_repair("sinder_fill"), synthetic_tokens(5)
    mapped = repair.map(tokens, fit_all(repair))
    loud = _loud(tokens)
    assert bool(loud.any())
    for name in ("patch", "patch_raw", "block_1", "key"):
        assert float(mapped[name][loud].norm(dim=-1).max()) < float(tokens[name][loud].norm(dim=-1).min()), name
        assert torch.equal(mapped[name][~loud], tokens[name][~loud]), name


def test_the_published_rule_looks_within_each_image() -> None:
    repair = build_repair("sinder_fill[rule=published]")
    context = SyntheticContext("patch", change=lambda tokens: _large(int(tokens.keys[0].split("-")[0])))
    state, tokens = repair.fit(context), _large(3)
    assert set(state) == {"direction"}
    changed = (repair.map(tokens, {"patch": state})["patch"] != tokens["patch"]).any(-1)
    assert torch.equal(changed, _loud(tokens))
    fewer = tokens["patch_raw"].clone()
    fewer[0, 5:, 5] = 1.0
    spared = replace(tokens, fields={**tokens.fields, "patch_raw": fewer})
    assert int(_loud(spared).sum()) == 2
    assert torch.equal(repair.map(spared, {"patch": state})["patch"], tokens["patch"])


@pytest.mark.parametrize("case", ["nl0", "nl1", "nl2", "nl3"])
def test_the_published_rule_flags_what_the_original_flags(
    case: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = np.load(shared / "golden" / "sinder.npz", allow_pickle=False)
    h, w, kernel, threshold = golden[f"{case}__hw_kernel_thr"].tolist()
    h, w, pad = int(h), int(w), int(kernel) // 2
    monkeypatch.setattr(singular_defects, "DEVIATIONS", threshold)
    monkeypatch.setattr(singular_defects, "LEAST_FLAGS", 0)  # the original counts after it clears the border
    raw = torch.from_numpy(golden[f"{case}__x"])[1:].reshape(1, h, w, -1)
    tokens = replace(synthetic_tokens(0, n=1, grid_hw=(h, w)), fields={"patch_raw": raw})
    direction = torch.nn.functional.normalize(torch.from_numpy(golden[f"{case}__u"]), dim=0)
    flags = along_direction(tokens, {"direction": direction})[0]
    inner = torch.zeros_like(flags)
    inner[pad : h - pad, pad : w - pad] = flags[pad : h - pad, pad : w - pad]
    if f"{case}__mask" in golden.files:
        np.testing.assert_array_equal(inner, golden[f"{case}__mask"])
    else:
        assert int(inner.sum()) < 3


@pytest.mark.parametrize("rule", ["robust", "published"])
def test_no_token_along_the_direction_is_said_not_hidden(rule: str) -> None:
    with pytest.raises(NotApplicableError, match="nothing to repair"):
        build_repair(f"sinder_fill[rule={rule}]").fit(SyntheticContext("patch", change=_quiet))


def test_the_direction_is_that_of_the_block_that_writes_it_not_of_the_last() -> None:
    backbone = synthetic_vit()
    module = copy.deepcopy(backbone.module)
    early, last = (mlp_parts(block).out.weight for block in (module.blocks[0], module.blocks[-1]))  # type: ignore[index]
    with torch.no_grad():
        early[:, 0] = last[:, 0]
        last[:, 0] = 20 * torch.roll(loud_direction(), 1) * torch.linspace(0, 1, 16)
    planted = ViT(module, backbone.card)
    context = SyntheticContext("patch")
    context.backbone = lambda: planted  # type: ignore[method-assign]
    expected = defect_directions(planted.blocks).float()[0]
    found = find_direction(context, "robust", "sinder_fill")["direction"]
    torch.testing.assert_close(found, expected)


def test_project_takes_the_direction_out_of_the_residual_stream() -> None:
    repair, tokens = build_repair("sinder_project"), synthetic_tokens(6)
    direction = defect_directions(synthetic_vit().blocks).float()[-1]
    mapped = repair.map(tokens, fit_all(repair))
    expected = tokens["patch_raw"] - (tokens["patch_raw"] @ direction).unsqueeze(-1) * direction
    torch.testing.assert_close(mapped["patch_raw"], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(mapped["key"], tokens["key"])


def test_behind_the_final_norm_a_token_along_the_direction_is_projected_to_nothing() -> None:
    backbone, repair = synthetic_vit(), build_repair("sinder_project")
    raw = 100 * defect_directions(backbone.blocks)[-1].float().expand(1, 6, 6, 16)
    tokens = synthetic_tokens(7, n=1)
    tokens = tokens.with_field("patch", backbone.module.norm(raw))  # type: ignore[operator]
    mapped = repair.map(tokens, {"patch": repair.fit(SyntheticContext("patch"))})
    assert float(mapped["patch"].norm(dim=-1).max()) < 1e-3 * float(tokens["patch"].norm(dim=-1).min())


def test_project_out_takes_the_mean_unit_vector_of_the_flagged_train_tokens() -> None:
    repair, context = build_repair("project_out"), SyntheticContext("patch_raw")
    state = repair.fit(context)
    assert float(state["direction"] @ loud_direction()) == pytest.approx(1, abs=1e-4)
    mapped = repair.map(synthetic_tokens(8), {"patch_raw": state})["patch_raw"]
    np.testing.assert_allclose((mapped @ state["direction"]).abs().max(), 0, atol=1e-3)


@pytest.mark.parametrize(("d", "left"), [("4", 4), ("0.25", 4), ("16", 16)])
def test_whitened_train_tokens_have_unit_covariance(d: str, left: int) -> None:
    repair, context = build_repair(f"pca_whiten[d={d}]"), SyntheticContext("patch", pad=1)
    states = {"patch": repair.fit(context)}
    rows = [repair.map(t, states)["patch"][torch.from_numpy(t.geometry.valid())] for t in context.tokens()]
    white = torch.cat(rows)
    assert white.shape[1] == left
    torch.testing.assert_close(white.T.cov(correction=0), torch.eye(left), atol=2e-3, rtol=0)


def test_more_components_than_channels_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="d=17 components of 16 channels"):
        build_repair("pca_whiten[d=17]").fit(SyntheticContext("patch"))
    with pytest.raises(UsageError, match=r"d=1\.5"):
        build_repair("pca_whiten[d=1.5]")


def test_median_is_that_of_the_neighbours_that_show_the_image() -> None:
    tokens = synthetic_tokens(9, n=2, grid_hw=(4, 5), pad=1)
    out = build_repair("median3").map(tokens, {})["patch"].numpy()
    x = tokens["patch"].numpy()
    for r in range(4):
        for c in range(4):
            around = x[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : min(c + 2, 4)].reshape(2, -1, x.shape[-1])
            np.testing.assert_allclose(out[:, r, c], np.median(around, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(out[:, :, 4], x[:, :, 4])


@pytest.mark.parametrize("field", ["patch", "block_1", "key"])
def test_an_empty_image_without_its_own_tokens_is_the_same_everywhere(field: str) -> None:
    backbone = synthetic_vit()
    grey = [np.round(np.full((32, 72, 3), backbone.card.mean) * 255).astype(np.uint8)]
    tokens = backbone.tokens(grey, TokenRequest((field,)), ["grey"])
    repair = build_repair("zero_image")
    state = repair.fit(SyntheticContext(field, grid_hw=(4, 9), pad=1))
    mapped = repair.map(tokens, {field: state})[field]
    mean = tokens[field].mean((1, 2))
    assert float((mapped - mean).abs().max()) < 0.01 * float((tokens[field] - mean).abs().max())
