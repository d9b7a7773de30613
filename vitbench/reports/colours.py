"""Token arrays as pictures: PCA to RGB with one basis for all repairs, heat maps, mosaics, PNG and JPEG as data URIs.

Heat maps use viridis and magma, which keep their order for colour-blind readers and in grey print.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

TAILS = (2, 98)  # percentiles of a component that become 0 and 1
FLAGGED = (230, 97, 1)  # orange that is told from grey by hue and by lightness
# Tol 2021, "muted": ten colours that colour-blind readers tell apart.
MUTED = ("332288", "cc6677", "ddcc77", "117733", "88ccee", "882255", "44aa99", "999933", "aa4499", "dddddd")
_LOUD = 2.0  # tokens count at most twice their group's median, so that a few outliers do not take the basis


def pca_rgb(groups: Sequence[Sequence[Floats]], foreign: Sequence[bool] = ()) -> list[list[Bytes]]:
    """Grids (h w c) of several repairs (groups) as RGB, all in one basis: equal colours mean equal directions.

    Each group is centred and brought to one scale first. A group with other channels than the first, or of other weights
    (`foreign`), has a basis of its own, turned until its colours are nearest to the first group's on the same patches.
    """
    flat = [_centred(group) for group in groups]
    width = flat[0].shape[1]
    alike = [x.shape[1] == width and not (foreign and foreign[i]) for i, x in enumerate(flat)]
    shared = _basis(np.concatenate([_clipped(x) for x, same in zip(flat, alike, strict=True) if same]))
    reference = flat[0] @ shared
    projected = [
        x @ shared if same else _matched(x @ _basis(_clipped(x)), reference)
        for x, same in zip(flat, alike, strict=True)
    ]
    together = np.concatenate(projected)
    low, high = np.percentile(together, TAILS, axis=0)
    out = []
    for group, x in zip(groups, projected, strict=True):
        unit = np.clip((x - low) / np.maximum(high - low, 1e-12), 0, 1)
        ends = np.cumsum([grid.shape[0] * grid.shape[1] for grid in group])[:-1]
        parts = np.split(to_bytes(unit), ends)
        out.append([part.reshape(*grid.shape[:2], 3) for part, grid in zip(parts, group, strict=True)])
    return out


def _centred(group: Sequence[Floats]) -> npt.NDArray[np.float64]:
    x = np.concatenate([grid.reshape(-1, grid.shape[-1]) for grid in group]).astype(np.float64)
    x -= x.mean(0)
    return np.asarray(x / max(float(np.median(np.linalg.norm(x, axis=1))), 1e-12))


def _clipped(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x * np.minimum(1, _LOUD / np.maximum(length, 1e-12)))


def _basis(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """c 3: leading directions, zero where there are fewer; signs by the largest entry, so that runs agree."""
    values, vectors = np.linalg.eigh(x.T @ x)
    found = vectors[:, np.argsort(values)[::-1][:3]]
    found = found * np.sign(found[np.abs(found).argmax(0), np.arange(found.shape[1])])
    return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))


def _matched(x: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """n 3 turned and mirrored (no more) until it is as near to the reference as it can be: orthogonal Procrustes."""
    left, _, right = np.linalg.svd(x.T @ reference)
    return np.asarray(x @ (left @ right))


def to_bytes(unit: npt.NDArray[np.floating]) -> Bytes:
    """0..1 -> 0..255."""
    return np.asarray(np.round(unit * 255), np.uint8)


def heat(values: npt.NDArray[np.floating], low: float, high: float, palette: str = "viridis") -> Bytes:
    """h w -> uint8 h w 3, `low` dark and `high` bright."""
    unit = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return to_bytes(matplotlib.colormaps[palette](unit)[..., :3])


def flagged(picture: Bytes, mask: npt.NDArray[np.bool_]) -> Bytes:
    """The picture in grey at the mask's size, with the masked cells in orange."""
    h, w = mask.shape
    grey = np.asarray(Image.fromarray(picture).convert("L").resize((w, h), Image.Resampling.BOX))
    out = np.repeat((80 + grey * 0.6).astype(np.uint8)[..., None], 3, axis=-1)
    out[mask] = FLAGGED
    return out


def mosaic(maps: Floats, high: float) -> Bytes:
    """r h w side by side in as square a mosaic as fits, one dark cell between them: uint8 H W 3."""
    count, h, w = maps.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    out = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, 3), np.uint8)
    for i, one in enumerate(maps):
        y, x = (i // columns) * (h + 1), (i % columns) * (w + 1)
        out[y : y + h, x : x + w] = heat(one, 0, high, "magma")
    return out


def palette() -> Bytes:
    """Colours of classes: k 3."""
    return np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in MUTED], np.uint8)


def data_uri(rgb: Bytes, kind: str = "png", quality: int = 82) -> str:
    """uint8 h w 3 as a PNG or JPEG that a page carries within itself."""
    sink = io.BytesIO()
    if kind == "png":
        Image.fromarray(rgb).save(sink, "PNG", optimize=True)
    else:
        Image.fromarray(rgb).save(sink, "JPEG", quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(sink.getvalue()).decode()}"
