"""What a protocol must give on released weights and data: commands for whoever has them, ready to run.

What needs no download is a test. Values are published ones; the tolerances are those of their sources' repeats and quirks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One command, the measure to look at, its published value and source, as in `benchmarks/published`.

    tolerance: what repeats and known quirks may change; None where nobody has said. why: what else a difference may come from.
    """

    command: str
    measure: str
    value: float
    source: str
    tolerance: float | None = None
    why: str = ""


_OQUAB = "Oquab et al. 2023 DINOv2 (arXiv 2304.07193v2) Table {}"
_DINO = "facebookresearch/dino README"
_DVT = "DVT paper ECCV24 (arXiv 2401.02957) Table 4"
_SIZES = ("small", "base", "large", "giant")
_POSITIONS = "positions are resampled by timm, the heads were trained on torch.hub's"


def _run(backbone: str, task: str, dataset: str) -> str:
    return f"vitbench run -b {backbone} -r none -t '{task}' -d {dataset}"


def _heads(task: str, dataset: str, kind: str, table: int, values: tuple[float, ...]) -> Iterator[Check]:
    """Heads that DINOv2 released, scored as they are: the evaluation half, without any training."""
    measure, tolerance = ("mIoU", 0.2) if dataset == "ade20k" else ("rmse", 0.005)
    for size, value in zip(_SIZES, values, strict=True):
        head, backbone = f"dinov2_vit{size[0]}14_{kind}_head.pth", f"vit_{size}_patch14_dinov2.lvd142m"
        command = f"python -m benchmarks.released_heads {head} {backbone} {task} {dataset}"
        yield Check(command, measure, value, _OQUAB.format(table), tolerance, _POSITIONS)


def _whole_images() -> Iterator[Check]:
    for dataset, value in (("voc2007", 30.8), ("voc2012", 35.9), ("coco20k", 23.4)):
        command = _run("vit_small_patch16_224.dino", "object_discovery@lost", dataset)
        yield Check(
            command, "CorLoc_whole_image", value, _DVT,
            why="published as LOST's value; that it is the whole image's is deduced from models that share it",
        )  # fmt: skip


CHECKS: dict[str, tuple[Check, ...]] = {
    "linear_segmentation@dinov2": tuple(
        _heads("linear_segmentation@dinov2", "ade20k", "ade20k_linear", 10, (44.3, 47.3, 47.7, 49.0))
    ),
    "depth@dinov2": tuple(_heads("depth@dinov2", "nyu_depth_v2", "nyu_linear", 11, (0.449, 0.399, 0.384, 0.344))),
    "depth@dinov2_lin4": tuple(
        _heads("depth@dinov2_lin4", "nyu_depth_v2", "nyu_linear4", 11, (0.417, 0.362, 0.333, 0.298))
    ),
    "knn_classification@dino": (
        Check(_run("vit_small_patch16_224.dino", "knn_classification@dino", "imagenet1k"), "top1", 74.5, _DINO),
    ),
    "knn_classification@dinov2": (
        Check(
            _run("vit_small_patch14_dinov2.lvd142m", "knn_classification@dinov2[choose_on=test]", "imagenet1k"),
            "top1", 79.0, _OQUAB.format(4), why="positions are resampled by timm",
        ),
    ),
    "object_discovery@lost": (
        Check(
            _run("vit_small_patch16_224.dino", "object_discovery@lost", "voc2007"),
            "CorLoc", 61.9, "valeoai/LOST README / BMVC21", 0.2, "patches of one degree are taken in another order",
        ),
        *_whole_images(),
    ),
    "object_discovery@tokencut": (
        Check(
            _run("vit_small_patch16_224.dino", "object_discovery@tokencut", "voc2007"),
            "CorLoc", 68.8, "YangtaoWANG95/TokenCut README / CVPR22",
        ),
    ),
    "label_propagation@dino": (
        Check(
            _run("vit_small_patch16_224.dino", "label_propagation@dino[compat=true,resample=bilinear]", "davis2017"),
            "J&F", 61.8, "DINO paper Table 5 (arXiv 2104.14294)", why="OpenCV rounds what it resizes in its own way",
        ),
    ),
    "knn_segmentation@hummingbird": (
        Check(
            _run("vit_small_patch14_dinov2.lvd142m", "knn_segmentation@hummingbird[image_px=504,compat=true]", "voc2012_aug"),
            "mIoU", 70.2, "vpariza/open-hummingbird-eval README", 0.5,
            "one pass over train as it is instead of two augmented ones; the memory is drawn at random",
        ),
    ),
}  # fmt: skip
"""Checks by task@protocol."""
