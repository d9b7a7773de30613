"""A contact sheet: images of a split with each kind of target drawn on them, to be looked at before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import palette

if TYPE_CHECKING:
    import datasets

GAP, LINE = 6, 16
MARK = (255, 220, 0)
IGNORED_GREY = (128, 128, 128)

Draw = Callable[[Mapping[str, Any], DatasetCard, "Sheet"], Image.Image]


class Sheet:
    """What a drawing may look up: the size of a picture, and the other samples by key."""

    def __init__(self, samples: datasets.Dataset, height_px: int) -> None:
        self.samples, self.height_px = samples, height_px
        self._rows = {key: i for i, key in enumerate(samples.with_format(None)["key"])}

    def other(self, key: str) -> Mapping[str, Any] | None:
        return dict(self.samples[self._rows[key]]) if key in self._rows else None

    def fitted(self, image: Any, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        picture = Image.fromarray(image)
        width = max(round(picture.width * self.height_px / picture.height), 1)
        return picture.resize((width, self.height_px), resample)


def contact_sheet(
    samples: datasets.Dataset, card: DatasetCard, target: str, count: int = 8, columns: int = 4, height_px: int = 160
) -> Image.Image:
    """`count` samples, spread over the split, with `target` ("" for none) drawn on them and named below."""
    sheet = Sheet(samples, height_px)
    shown = min(count, len(samples))
    rows = sorted({round(i * (len(samples) - 1) / max(shown - 1, 1)) for i in range(shown)})
    tiles = []
    for row in rows:
        sample = dict(samples[row])
        picture = DRAWINGS.get(target, _plain)(sample, card, sheet)
        tiles.append(_with_caption(picture, _caption(sample, card, target)))
    return _grid(tiles, columns)


# -- one drawing per kind of target ------------------------------------------------------------------------------------


def _plain(sample: Mapping[str, Any], card: DatasetCard, sheet: Sheet) -> Image.Image:
    return sheet.fitted(sample["image"])


def _segmentation(sample: Mapping[str, Any], card: DatasetCard, sheet: Sheet) -> Image.Image:
    """Image left, classes over it right; what is ignored is grey."""
    image, labels = sheet.fitted(sample["image"]), np.asarray(sample["segmentation"])
    table = np.zeros((256, 3), np.uint8)
    colours = palette(card.palette or "voc")
    # VOC's first colour is black, which is background there and would hide a class elsewhere.
    shift = 0 if card.palette or "background" in card.classes[:1] or "frames" in card.targets else 1
    table[: len(colours) - shift] = colours[shift:]
    table[card.ignore_index] = IGNORED_GREY
    drawn = sheet.fitted(table[labels], Image.Resampling.NEAREST).resize(image.size, Image.Resampling.NEAREST)
    return _beside(image, Image.blend(image, drawn, 0.7))


def _depth(sample: Mapping[str, Any], card: DatasetCard, sheet: Sheet) -> Image.Image:
    """Image left, depth right from near (yellow) to far (blue); what was not measured is black."""
    from matplotlib import colormaps

    depth = np.asarray(sample["depth"], np.float32)
    valid = depth > 0
    low, high = np.percentile(depth[valid], (2, 98)) if valid.any() else (0.0, 1.0)
    near = 1 - np.clip((depth - low) / max(high - low, 1e-6), 0, 1)
    colours = (colormaps["viridis"](near)[..., :3] * 255).astype(np.uint8)
    colours[~valid] = 0
    image = sheet.fitted(sample["image"])
    drawn = sheet.fitted(colours, Image.Resampling.NEAREST).resize(image.size, Image.Resampling.NEAREST)
    return _beside(image, drawn)


def _boxes(sample: Mapping[str, Any], card: DatasetCard, sheet: Sheet) -> Image.Image:
    image = sheet.fitted(sample["image"])
    scale = sheet.height_px / sample["image"].shape[0]
    pen = ImageDraw.Draw(image)
    colours = palette("voc")
    kinds = next((sample[n] for n in ("boxes_track", "boxes_class", "box_classes") if n in sample), None)
    for i, box in enumerate(np.asarray(sample["boxes"]) * scale):
        colour = MARK if kinds is None else _bright(colours[int(kinds[i]) + 1])
        x0, y0, x1, y1 = (float(v) for v in box)
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour, width=2)
    return image


def _keypoints(sample: Mapping[str, Any], card: DatasetCard, sheet: Sheet) -> Image.Image:
    """The first pair of which the image is the source, matching points joined."""
    image = sheet.fitted(sample["image"])
    pair = next(iter(sample["keypoints"]), None)
    other = sheet.other(pair["target"]) if pair else None
    if pair is None or other is None:
        return image
    both = _beside(image, sheet.fitted(other["image"]))
    pen = ImageDraw.Draw(both)
    scales = (sheet.height_px / sample["image"].shape[0], sheet.height_px / other["image"].shape[0])
    colours = palette("voc")
    for i, (source, target) in enumerate(zip(pair["source_xy"], pair["target_xy"], strict=True)):
        a = (source[0] * scales[0], source[1] * scales[0])
        b = (target[0] * scales[1] + image.width, target[1] * scales[1])
        pen.line((a, b), fill=_bright(colours[i + 1]), width=1)
        for x, y in (a, b):
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), outline=(255, 255, 255), fill=_bright(colours[i + 1]))
    return both


def _bright(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour that shows as a thin line."""
    r, g, b = (min(80 + 3 * c // 2, 255) for c in colour)
    return r, g, b


DRAWINGS: dict[str, Draw] = {
    "segmentation": _segmentation,
    "depth": _depth,
    "boxes": _boxes,
    "keypoints": _keypoints,
}


# -- layout ------------------------------------------------------------------------------------------------------------


def _caption(sample: Mapping[str, Any], card: DatasetCard, target: str) -> str:
    value = sample.get(target)
    if target in ("label", "labels"):
        return ", ".join(_named(label, card) for label in (value if isinstance(value, list) else [value]))
    if target == "frames" and value:
        return f"{value['video']} {value['index'] + 1}/{value['count']}"
    if target == "relevance" and value:
        return ", ".join(f"{len(keys)} {kind}" for kind, keys in value.items())
    if target == "depth":
        depth = np.asarray(value)
        return f"{sample['key']}  {depth[depth > 0].min(initial=np.inf):.1f} to {depth.max():.1f} m"
    return str(sample["key"])


def _named(label: Any, card: DatasetCard) -> str:
    name = card.label_classes[label] if label is not None and label < len(card.label_classes) else ""
    return f"{label} {name}".strip() if name != str(label) else name


def _beside(a: Image.Image, b: Image.Image) -> Image.Image:
    out = Image.new("RGB", (a.width + b.width, a.height))
    out.paste(a, (0, 0))
    out.paste(b, (a.width, 0))
    return out


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    out = Image.new("RGB", (picture.width, picture.height + LINE), (255, 255, 255))
    out.paste(picture, (0, 0))
    font = ImageFont.load_default(size=11)
    pen = ImageDraw.Draw(out)
    shown = caption
    while shown and pen.textlength(shown, font=font) > picture.width:
        caption = caption[1:]  # the end of a key tells samples apart
        shown = f"...{caption}" if caption else ""
    pen.text((1, picture.height + 1), shown, fill=(0, 0, 0), font=font)
    return out


def _grid(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    lines = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    width = max(sum(t.width for t in line) + GAP * (len(line) + 1) for line in lines)
    height = sum(max(t.height for t in line) + GAP for line in lines) + GAP
    out = Image.new("RGB", (width, height), (255, 255, 255))
    y = GAP
    for line in lines:
        x = GAP
        for tile in line:
            out.paste(tile, (x, y))
            x += tile.width + GAP
        y += max(t.height for t in line) + GAP
    return out


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below each other."""
    out = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), (255, 255, 255))
    y = 0
    for sheet in sheets:
        out.paste(sheet, (0, y))
        y += sheet.height
    return out
