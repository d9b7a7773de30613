"""The lab's recipe: resumable to the bit, honest about labels, and it exports plain timm weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitbench.backbones.lab import build_lab_vit, encode
from vitbench.backbones.vit import ViT
from vitbench.catalogue import BACKBONES
from vitbench.lab import train
from vitbench.lab.objectives import HOG_DIM, hog_features, info_nce, patch_shares
from vitbench.lab.pool import PoolScene, render_pool, sample_crops
from vitbench.lab.probe import probe, probe_scenes

NAMES = sorted(train.RECIPES)


@pytest.fixture(scope="module")
def pool() -> list[PoolScene]:
    return render_pool(6)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {n: replace(r, sides=(64,), last_sides=(64,), tokens=256) for n, r in train.RECIPES.items()}
    monkeypatch.setattr(train, "RECIPES", small)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_in_the_same_weights(name: str, pool: list[PoolScene], tmp_path: Path) -> None:
    straight = train.start(name, seed=3, steps=3)
    losses = [train.train_step(straight, pool) for _ in range(3)]
    assert all(loss > 0 for loss in losses)
    stopped = train.start(name, seed=3, steps=3)
    train.train_step(stopped, pool)
    stopped.save(tmp_path / "run.ckpt")
    resumed = train.start(name, seed=3, steps=3)
    resumed.resume(tmp_path / "run.ckpt")
    for _ in range(2):
        train.train_step(resumed, pool)
    for key, value in straight.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[key]), key
    for key, value in straight.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[key]), key


@pytest.mark.parametrize("name", ["lab_ssl", "lab_ssl_reg4", "lab_mae"])
def test_training_without_labels_never_reads_the_segmentation(name: str, pool: list[PoolScene]) -> None:
    blind = [PoolScene(scene.images, scene.segmentation * 0) for scene in pool]
    with_labels, without = train.start(name, 0, 2), train.start(name, 0, 2)
    assert train.train_step(with_labels, pool) == train.train_step(without, blind)


def test_a_training_that_is_probed_goes_on_as_if_it_were_not(pool: list[PoolScene]) -> None:
    alone, probed = (train.start("lab_ssl_reg4", seed=3, steps=3) for _ in range(2))
    for run in (alone, probed):
        train.train_step(run, pool)
    found = probe(ViT(probed.student, BACKBONES.get(probed.name)), probe_scenes(3, size=64), train=2)
    assert set(found) == {"ridge", "ridge_objects", "knn", "knn_objects"}
    assert all(0 <= value <= 100 for value in found.values())
    assert train.train_step(alone, pool) == train.train_step(probed, pool)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train.start("lab_sup", seed=0).save(tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match="lab_sup with seed 0"):
        train.start("lab_mae", seed=0).resume(tmp_path / "run.ckpt")


def test_the_command_writes_weights_log_checkpoints_and_what_was_done(tmp_path: Path) -> None:
    arguments = ["lab_mae", "--steps", "3", "--scenes", "4", "--probe-seconds", "0", "--log-every", "2"]
    train.main([*arguments, "--out", str(tmp_path), "--save-steps", "1"])
    final, early = load_file(tmp_path / "lab_mae.safetensors"), load_file(tmp_path / "lab_mae-1.safetensors")
    assert all(value.dtype == torch.float16 for value in final.values())
    assert any(not torch.equal(final[key], early[key]) for key in final)
    build_lab_vit().load_state_dict({key: value.float() for key, value in final.items()}, strict=True)
    assert (tmp_path / "lab_mae.safetensors").stat().st_size < 8 * 2**20
    steps = [json.loads(line)["step"] for line in (tmp_path / "lab_mae.log.jsonl").read_text().splitlines()]
    assert steps == [2, 3]
    assert json.loads((tmp_path / "lab_mae.json").read_text())["steps"] == 3


@pytest.mark.parametrize("registers", [0, 4])
def test_the_lab_vit_takes_any_size_and_orders_its_tokens(registers: int) -> None:
    torch.manual_seed(0)
    model = build_lab_vit(registers).eval()
    assert model.num_prefix_tokens == 1 + registers
    images = torch.randn(2, 3, 48, 80)
    tokens = model.forward_features(images)
    assert tokens.shape == (2, 1 + registers + 60, 192)
    every = torch.arange(60).expand(2, -1)
    torch.testing.assert_close(encode(model, images, every), tokens)
    assert encode(model, images, every[:, :7]).shape == (2, 1 + registers + 7, 192)


def test_dropped_patches_cannot_be_seen() -> None:
    model = build_lab_vit().eval()
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., 24:, 24:] = 0
    keep = torch.arange(15)[None]
    assert torch.equal(encode(model, images, keep), encode(model, changed, keep))


def test_hog_ignores_colour_and_sees_direction() -> None:
    ramp = torch.linspace(0, 1, 64).sin().expand(1, 1, 64, 64)
    stripes = (torch.arange(64) % 8 < 4).float().expand(1, 1, 64, 64)
    red, green = torch.cat((stripes, ramp * 0, ramp * 0), 1), torch.cat((ramp * 0, stripes, ramp * 0), 1)
    features = hog_features(red)
    assert features.shape == (1, 8, 8, HOG_DIM)
    torch.testing.assert_close(features, hog_features(green))
    torch.testing.assert_close(features, hog_features(1 - red), atol=1e-4, rtol=1e-4)
    assert (features - hog_features(red.transpose(2, 3))).abs().max() > 0.5


def test_patch_shares_count_labelled_pixels_only() -> None:
    labels = torch.full((1, 8, 16), 255)
    labels[0, :, :2], labels[0, :, 2:4] = 3, 7
    shares = patch_shares(labels)
    assert shares.shape == (1, 1, 2, 10)
    assert shares[0, 0, 0, [3, 7]].tolist() == [0.5, 0.5]
    assert shares[0, 0, 1].sum() == 0


def test_info_nce_is_smallest_where_rows_match() -> None:
    x = torch.eye(8)
    assert info_nce(x, x) < info_nce(x, x.roll(1, 0))


def test_views_of_a_crop_are_aligned(pool: list[PoolScene]) -> None:
    import numpy as np

    crops = sample_crops(pool, np.random.default_rng(0), 12, 64)
    assert crops.first.shape == crops.second.shape == (12, 3, 64, 64)
    first, second = (hog_features(view).flatten(1) for view in (crops.first, crops.second))
    similarity = torch.nn.functional.normalize(first) @ torch.nn.functional.normalize(second).T
    assert (similarity.argmax(1) == torch.arange(12)).float().mean() > 0.8
