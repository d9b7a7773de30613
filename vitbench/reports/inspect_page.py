"""The page of `vitbench inspect`: the figure's panels, and similarity to any patch that is clicked, without a server."""

from __future__ import annotations

import base64
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from vitbench.inspection.looks import Floats, Inspection, Row, norm_numbers
from vitbench.reports.documents import render
from vitbench.reports.gallery import gallery

KEPT_ENERGY = 0.995
LUT = 64
NUMBERS = {
    "outliers_mad": ("outliers, median + 10 MAD", "%"),
    "outliers_3std": ("outliers, mean + 3 sd", "%"),
    "max_over_median": ("largest ÷ median", "×"),
    "outliers_mad_worst_block": ("outliers, worst block", "%"),
    "max_over_median_worst_block": ("largest ÷ median, worst block", "×"),
}


def numbers_table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Headers and one line per repair: the numbers of `token_norms` on these images; – where it has none."""
    lines = []
    for row in inspection.seen:
        found = norm_numbers(row)
        lines.append([row.repair, *(f"{found[n]:.2f}" if n in found else "–" for n in NUMBERS)])
    return ["repair", *(f"{name} ({unit})" for name, unit in NUMBERS.values())], lines


def page(inspection: Inspection) -> str:
    """One self-contained HTML file."""
    headers, lines = numbers_table(inspection)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, LUT))[:, :3]
    data = {
        "images": [
            {
                "h": picture.pixels.shape[0] // inspection.patch_px,
                "w": picture.pixels.shape[1] // inspection.patch_px,
                "rows": [_tokens(row, i) for row in inspection.seen],
            }
            for i, picture in enumerate(inspection.pictures)
        ],
        "lut": np.round(colours * 255).astype(int).tolist(),
    }
    return render(
        "inspect.html", inspection=inspection, gallery=gallery(inspection, ("similar x", "similar +")), headers=headers,
        lines=lines, data=data,
    )  # fmt: skip


def _tokens(row: Row, i: int) -> dict[str, Any]:
    codes = quantised(row.looks[i].patch)
    return {"channels": codes.shape[1], "tokens": base64.b64encode(codes.tobytes()).decode()}


def quantised(patch: Floats) -> npt.NDArray[np.int8]:
    """h w c -> n k in one byte each, whose cosines are those of the tokens to about a hundredth.

    Unit tokens in the fewest singular directions that keep 99.5 % of their energy; each is scaled to its largest entry,
    which no cosine sees.
    """
    x = patch.reshape(-1, patch.shape[-1]).astype(np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    values, vectors = np.linalg.eigh(x.T @ x)
    energy = np.cumsum(values[::-1]) / max(float(values.sum()), 1e-12)
    kept = min(int(np.searchsorted(energy, KEPT_ENERGY)) + 1, len(values))
    short = x @ vectors[:, ::-1][:, :kept]
    return np.asarray(np.round(127 * short / np.maximum(np.abs(short).max(1, keepdims=True), 1e-12)), np.int8)
