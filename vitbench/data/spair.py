"""SPair-71k (Min et al. 2019, arXiv 1908.10543): one sample per image, with the pairs in which it is the source.

    JPEGImages/<category>/*.jpg  PairAnnotation/{trn,val,test}/<n>-<source>-<target>:<category>.json

An image is in thousands of pairs and encoded once. `keypoints` is a list of pairs: key of the target, keypoints visible in
both (x, y in pixels of the image as released), their numbers, boxes of both objects, and how the views differ.
"""

from __future__ import annotations

import re
from typing import Any

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import class_names
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.errors import UnavailableError

FOLDERS = {"train": "trn", "val": "val", "test": "test"}
VARIATIONS = ("viewpoint_variation", "scale_variation", "truncation", "occlusion")
# Some file systems cannot hold the colon of the release's names.
NAME = re.compile(r"(\d+)-(.+?)-(.+?)[:_]([a-z]+)\.json")


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Images of all pairs of the split, by category; `label` is the category."""
    folder = f"PairAnnotation/{FOLDERS[split]}"
    pairs: dict[str, list[dict[str, Any]]] = {}
    for file in tree.files(folder, (".json",)):
        match = NAME.fullmatch(file)
        if match is None:
            raise UnavailableError(f"{tree.root / folder / file} is no pair's name", "unpack the release again")
        source, target = (f"{match[4]}/{match[i]}" for i in (2, 3))
        pairs.setdefault(source, []).append(_pair(tree.json(f"{folder}/{file}"), file, target))
        pairs.setdefault(target, [])
    expected, found = card.options.get("pairs", {}).get(split, 0), sum(map(len, pairs.values()))
    if expected and found != expected:
        raise UnavailableError(
            f"{card.name}: {tree.root / folder} holds {found:,} of {expected:,} pairs", "the archive is half unpacked"
        )
    names = class_names(card.label_file)
    rows = Rows(names)
    for key in sorted(pairs):
        rows.add(key, f"JPEGImages/{key}.jpg", label=names.index(key.partition("/")[0]), keypoints=pairs[key])
    return rows


def _pair(content: dict[str, Any], file: str, target: str) -> dict[str, Any]:
    return {
        "pair": file.removesuffix(".json"),
        "target": target,
        "source_xy": [[float(v) for v in xy] for xy in content["src_kps"]],
        "target_xy": [[float(v) for v in xy] for xy in content["trg_kps"]],
        "numbers": [int(n) for n in content.get("kps_ids", range(len(content["src_kps"])))],
        "source_box": [float(v) for v in content["src_bndbox"]],
        "target_box": [float(v) for v in content["trg_bndbox"]],
        **{name: int(content[name]) for name in VARIATIONS if name in content},
    }


LAYOUT = Layout(index)
