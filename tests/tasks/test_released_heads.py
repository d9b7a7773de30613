"""Released heads of DINOv2 as heads of this suite, and the command that scores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.released_heads import main, scored
from tests import layouts
from vitbench.catalogue import BACKBONES
from vitbench.engine.options import RunOptions
from vitbench.errors import UsageError, WeightsError
from vitbench.tasks.released_heads import depth_head, read_head, segmentation_head

WIDTH = BACKBONES.get("patch_colour").embed_dim


def segmentation_modules(channels: int, classes: int):
    torch.manual_seed(0)
    norm, layer = torch.nn.BatchNorm2d(channels), torch.nn.Conv2d(channels, classes, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data = torch.rand(channels) + 0.1
    return norm.eval(), layer


def named(prefix: str = "", **modules: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}{part}.{name}": x for part, module in modules.items() for name, x in module.state_dict().items()}


def test_batch_norm_and_convolution_become_one_linear_map() -> None:
    norm, layer = segmentation_modules(6, 3)
    x = torch.randn(2, 6, 4, 5)
    expected = layer(norm(x))
    found = segmentation_head(named(bn=norm, conv_seg=layer))(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("field, blocks", [("patch_raw+cls_block_-1", 1), ("quarters_raw+cls_quarters_raw", 4)])
def test_depth_heads_read_patch_and_cls_of_each_block_in_turn(field: str, blocks: int) -> None:
    layer = torch.nn.Conv2d(2 * blocks * 3, 7, 1)
    patches, cls = torch.randn(blocks, 1, 3, 4, 4), torch.randn(blocks, 1, 3, 1, 1).expand(-1, -1, -1, 4, 4)
    expected = layer(torch.cat([torch.cat([p, c], 1) for p, c in zip(patches, cls, strict=True)], 1))
    ours = torch.cat([*patches, *cls], 1).permute(0, 2, 3, 1)
    found = depth_head(named(conv_depth=layer), field)(ours).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected)


def test_a_file_is_read_as_it_was_released(tmp_path: Path) -> None:
    norm, layer = segmentation_modules(6, 3)
    state = named("decode_head.", bn=norm, conv_seg=layer)
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "head.pth")
    found = read_head(tmp_path / "head.pth", "patch").head
    torch.testing.assert_close(found.weight, segmentation_head(named(bn=norm, conv_seg=layer)).weight.float())


def test_what_is_no_linear_head_is_said(tmp_path: Path) -> None:
    path = tmp_path / "head.pth"
    with pytest.raises(WeightsError, match="not there"):
        read_head(path, "patch")
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a torch file"):
        read_head(path, "patch")
    torch.save({"state_dict": {"decode_head.other": torch.ones(2)}}, path)
    with pytest.raises(WeightsError, match="no linear head"):
        read_head(path, "patch")
    torch.save(named(conv_depth=torch.nn.Conv2d(6, 1, 3)), path)
    with pytest.raises(WeightsError, match="DPT"):
        read_head(path, "patch")
    torch.save(named(conv_seg=torch.nn.Conv2d(6, 1, 1)), path)
    with pytest.raises(WeightsError, match=r"no bn\."):
        read_head(path, "patch")


def always(value: int, channels: int, classes: int, path: Path) -> Path:
    """A head that gives one class whatever it reads."""
    norm, layer = torch.nn.BatchNorm2d(channels), torch.nn.Conv2d(channels, classes, 1)
    layer.weight.data.zero_()
    layer.bias.data = torch.nn.functional.one_hot(torch.tensor(value), classes).float()
    torch.save({"state_dict": named("decode_head.", bn=norm, conv_seg=layer)}, path)
    return path


def test_a_head_is_scored_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = layouts.install("ade20k", tmp_path / "data", monkeypatch)
    labels = np.concatenate([s.segmentation.ravel() for key, s in mini.scenes.items() if "_val_" in key])
    most = int(np.bincount(labels[labels != 255]).argmax())
    options = RunOptions(cache=tmp_path / "cache", data_root=tmp_path / "data", offline=True, workers=0, decoders=0)
    task = "linear_segmentation@dinov2[short_px=64,crop_px=64,stride_px=42]"
    head = always(most, WIDTH, 150, tmp_path / "head.pth")
    found = scored(head, "patch_colour", task, "ade20k", options)
    assert found["aAcc"].value == pytest.approx(100 * (labels == most).sum() / (labels != 255).sum())
    given = ["patch_colour", task, "ade20k", "--data-root", str(tmp_path / "data")]
    assert main([str(head), *given]) == 0
    assert f"{found['aAcc'].value:.3f}" in capsys.readouterr().out
    with pytest.raises(UsageError, match=f"{WIDTH} channels"):
        scored(head, "position_only", task, "ade20k", options)
    with pytest.raises(UsageError, match="no head on crops"):
        scored(head, "patch_colour", "linear_segmentation@ridge", "ade20k", options)
    assert (
        main([str(tmp_path / "none.pth"), "patch_colour", task, "ade20k", "--data-root", str(tmp_path / "data")]) == 1
    )
    assert "none.pth is not there" in capsys.readouterr().err
