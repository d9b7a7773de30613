"""Video label propagation (DINO, arXiv 2104.14294; DINOv3, arXiv 2508.10104): masks of the first frame carried on, J and F.

A unit is an object of a video. Frames are samples of their own with keys `video/frame`, in order; a video is followed as its
frames come, so that no more than its last few frames are held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.video import LABEL_PROPAGATION, PropagationSettings
from vitbench.errors import DataError, TokensError
from vitbench.metrics.tracking import contour, object_statistics, region
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.propagation import Propagator, Rule, grid_labels, stretched
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler
from vitbench.tokens.geometry import Geometry

VOID = 255
FEWEST_FRAMES = 3  # first and last are not scored

Labels = npt.NDArray[np.integer]


def video_of(key: str) -> str:
    """The video that a frame's key `video/frame` names. Raises DataError for a key of another form."""
    video, slash, _ = key.rpartition("/")
    if not slash:
        raise DataError(f"frame {key!r} names no video", "keys of video frames are video/frame")
    return video


@dataclass
class _Video:
    """One video as far as it has come."""

    objects: list[int]
    propagator: Propagator | None
    seen: int = 1
    index: int = 0
    region: list[list[float]] = field(default_factory=list)
    contour: list[list[float]] = field(default_factory=list)


class LabelPropagation(Task[PropagationSettings]):
    """No fit. Masks are compared in the size of the annotation."""

    card: ClassVar[TaskCard] = LABEL_PROPAGATION

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        lengths = Counter(video_of(key) for key in test.keys)
        videos: dict[str, _Video] = {}
        units, left_out = UnitRows(), 0
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                name = video_of(key)
                self._advance(videos, name, batch, i, lengths[name])
                if videos[name].seen == lengths[name]:
                    left_out += not _finish(units, name, videos[name])
                    videos[name] = _Video([], None, lengths[name])  # its tokens are not needed any more
        if lengths and left_out == len(lengths):
            raise DataError(
                "no video has objects in its first frame and three frames", "check the data set and --limit"
            )
        return units.rows({"videos_left_out": left_out})

    def _advance(self, videos: dict[str, _Video], name: str, batch: Batch, i: int, length: int) -> None:
        tokens, target = batch.tokens[self.settings.field][i], batch.targets[i]
        labels: Labels = np.asarray(target["segmentation"])
        index = int(target["frames"]["index"])
        if name not in videos:
            videos[name] = self._start(tokens, batch.tokens.geometry, i, labels, index)
            return
        video = videos[name]
        if index <= video.index:
            raise DataError(f"video {name!r}: frame {index} comes after frame {video.index}", "frames must be in order")
        video.seen, video.index = video.seen + 1, index
        if video.propagator is None or video.seen == length:
            return
        try:
            soft = video.propagator.step(tokens)
        except TokensError as error:
            raise TokensError(f"video {name!r}, frame {index}: {error.message}", error.remedy) from error
        found = masks(soft, batch.tokens.geometry, i, (labels.shape[0], labels.shape[1]), self.settings.upsample)
        pairs = [(found == n + 1, labels == number) for n, number in enumerate(video.objects)]
        video.region.append([region(ours, theirs) for ours, theirs in pairs])
        video.contour.append([contour(ours, theirs) for ours, theirs in pairs])

    def _start(self, tokens: Tensor, geometry: Geometry, i: int, labels: Labels, index: int) -> _Video:
        s = self.settings
        objects = [int(n) for n in np.unique(labels) if n not in (0, VOID)]
        soft = first_labels(geometry, i, labels, objects, s.pillow).to(tokens.device)
        rule = Rule(s.context, s.radius, s.window, s.top_k, s.temperature, s.ties)
        return _Video(objects, Propagator(tokens, soft, rule) if objects else None, index=index)

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {
            "videos": len(set(rows.group_id)),
            "objects": len(rows),
            "videos_left_out": rows.info["videos_left_out"],
        }


def _finish(units: UnitRows, name: str, video: _Video) -> bool:
    """Rows of a video's objects; whether it had any to give."""
    if not video.region:
        return False
    j, f = np.array(video.region), np.array(video.contour)
    for n, number in enumerate(video.objects):
        units.add(f"{name}#{number}", object_statistics(j[:, n], f[:, n]))
    return True


def first_labels(geometry: Geometry, i: int, labels: Labels, objects: list[int], pillow: bool = True) -> Tensor:
    """One-hot labels on the grid, h w (1 + objects), the background first; void counts as background."""
    grid = grid_labels(geometry, i, labels, pillow)
    objects_of = (
        np.stack([grid == number for number in objects], axis=-1) if objects else np.zeros((*grid.shape, 0), bool)
    )
    background = ~objects_of.any(-1, keepdims=True)
    return torch.from_numpy(np.concatenate([background, objects_of], axis=-1).astype(np.float32))


def masks(soft: Tensor, geometry: Geometry, i: int, label_hw: tuple[int, int], upsample: str) -> Labels:
    """Soft labels h w m -> index of the strongest at every pixel of the annotation (label_hw)."""
    sampler = LabelSampler(geometry, i, label_hw, soft.device)
    out = np.zeros(label_hw, np.int64)
    if upsample == "native":
        out[sampler.rows, sampler.cols] = sampler.classes(stretched(soft))
        return out
    p = geometry.placements[i]
    planes = torch.nn.functional.interpolate(
        soft.permute(2, 0, 1)[None], scale_factor=float(geometry.patch_px), mode="bilinear", align_corners=False
    )[0]
    shown = planes[:, : p.content_hw[0], : p.content_hw[1]].permute(1, 2, 0)
    classes = stretched(shown).argmax(-1).cpu().numpy()
    if p.flipped:
        classes = np.ascontiguousarray(classes[:, ::-1])
    box = []
    for axis, part in ((1, sampler.cols), (0, sampler.rows)):
        ends = np.array([part.start, part.stop]) / label_hw[axis] * p.source_hw[axis]
        box.append(np.clip((ends - p.offset[axis]) / p.scale[axis], 0, classes.shape[axis]))
    # PIL decides which of two pixels a position on their border belongs to, as in the reference.
    size = sampler.cols.stop - sampler.cols.start, sampler.rows.stop - sampler.rows.start
    edges = (float(box[0][0]), float(box[1][0]), float(box[0][1]), float(box[1][1]))
    small = Image.fromarray(classes.astype(np.int32)).resize(size, Image.Resampling.NEAREST, box=edges)
    out[sampler.rows, sampler.cols] = np.asarray(small)
    return out
