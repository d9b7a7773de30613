"""The linear heads that DINOv2 released, as heads of this suite (Oquab et al. 2023, arXiv 2304.07193).

Scoring them tells whether the evaluation half of a protocol gives the published value, without any training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitbench.backbones.checkpoints import read_state
from vitbench.errors import WeightsError
from vitbench.heads.bank import Recipe
from vitbench.heads.ridge import LinearHead
from vitbench.tasks.slide_segmentation import ChosenHead

_PREFIX = "decode_head."
_EPSILON = 1e-5  # of torch's batch norm


def read_head(path: Path, field: str) -> ChosenHead:
    """The head in a released file, for tokens of `field` (the protocol's). Raises WeightsError for what is no linear head."""
    if not path.is_file():
        raise WeightsError(f"{path} is not there", "download it from the README of DINOv2")
    parts = {name.removeprefix(_PREFIX): x for name, x in read_state(path).items()}
    if "conv_seg.weight" in parts:
        return _chosen(segmentation_head(parts, path))
    if "conv_depth.weight" in parts:
        return _chosen(depth_head(parts, field, path))
    raise WeightsError(
        f"{path} holds no linear head", "it has decode_head.conv_seg or decode_head.conv_depth; DPT heads are not read"
    )


def segmentation_head(parts: Mapping[str, Tensor], path: Path = Path("the head")) -> LinearHead:
    """Batch norm and 1x1 convolution (k c 1 1) as one linear map, statistics as they were when training ended."""
    try:
        weight, bias = parts["conv_seg.weight"].flatten(1), parts["conv_seg.bias"]
        scale = parts["bn.weight"] * torch.rsqrt(parts["bn.running_var"] + _EPSILON)
        bias = bias + weight @ (parts["bn.bias"] - scale * parts["bn.running_mean"])
    except KeyError as missing:
        raise WeightsError(f"{path} has no {missing.args[0]}", "it is not a linear head of DINOv2") from None
    return LinearHead((weight * scale).T.contiguous(), bias)


def depth_head(parts: Mapping[str, Tensor], field: str, path: Path = Path("the head")) -> LinearHead:
    """1x1 convolution to bins. Released heads read patches and CLS block by block; `field` has all patches, then all CLS."""
    weight, bias = parts["conv_depth.weight"], parts.get("conv_depth.bias")
    if bias is None or weight.shape[2:] != (1, 1):
        raise WeightsError(f"{path} holds no linear depth head", "DPT heads are not read")
    blocks = 4 if "quarters" in field else 1
    by_kind = weight.reshape(len(weight), blocks, 2, -1).transpose(1, 2).reshape(len(weight), -1)
    return LinearHead(by_kind.T.contiguous(), bias)


def _chosen(head: LinearHead) -> ChosenHead:
    return ChosenHead(LinearHead(head.weight.float(), head.bias.float()), Recipe(0.0, 0.0), {})
