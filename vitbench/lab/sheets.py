"""Contact sheets of the lab's scenes, to be looked at after every change of the generator.

`python -m vitbench.lab.sheets OUT.png` draws pictures and targets, a second style, and a clip.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitbench.data import scenes

COLUMNS = ("image", "style 1", "segmentation", "depth", "instances and boxes")


def sheet(seed: int, indices: list[int], size: int = 192) -> Figure:
    """One row a scene: picture, second style, segmentation, depth, instances with boxes."""
    figure = Figure(figsize=(2.4 * len(COLUMNS), 2.4 * len(indices)))
    axes = figure.subplots(len(indices), len(COLUMNS))
    for row, index in zip(np.atleast_2d(axes), indices, strict=True):
        scene, other = scenes.render(seed, index, size), scenes.render(seed, index, size, style=1)
        row[0].imshow(scene.image)
        row[1].imshow(other.image)
        row[2].imshow(np.where(scene.segmentation == scenes.IGNORE_INDEX, 11, scene.segmentation), "tab20", vmax=19)
        row[3].imshow(scene.depth, "magma_r")
        row[4].imshow(scene.instances, "tab10", vmax=9)
        for x0, y0, x1, y1 in scene.boxes:
            row[4].add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white"))
        row[0].set_title(scenes.CLASSES[scene.label], fontsize=8)
    return _tidy(figure)


def clip_sheet(seed: int, index: int, frames: int = 6, size: int = 192) -> Figure:
    """A clip: pictures above, length of the flow (occluded pixels white) below."""
    clip = scenes.render_clip(seed, index, frames, size)
    figure = Figure(figsize=(2.4 * frames, 4.8))
    axes = figure.subplots(2, frames)
    for column, scene in zip(axes.T, clip, strict=True):
        column[0].imshow(scene.image)
        if scene.flow is not None and scene.flow_valid is not None:
            length = np.where(scene.flow_valid, np.linalg.norm(scene.flow, axis=-1), np.nan)
            column[1].imshow(length, "viridis", vmin=0)
    return _tidy(figure)


def _tidy(figure: Figure) -> Figure:
    for axis in figure.axes:
        axis.set_axis_off()
    figure.tight_layout(pad=0.2)
    return figure


def main(out: str) -> None:
    """Write OUT.png and OUT-clip.png."""
    path = Path(out)
    sheet(2, list(range(8))).savefig(path, dpi=80)
    clip_sheet(2, 3).savefig(path.with_name(f"{path.stem}-clip.png"), dpi=80)


if __name__ == "__main__":
    main(sys.argv[1])
