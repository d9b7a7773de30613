"""Miniatures of the classification sets whose classes are in lists: three classes, two images of each per split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.layouts import Miniature, dump, jpeg, text


def _fill(
    root: Path, splits: tuple[str, ...], path: Callable[[str, int, int], str]
) -> tuple[Miniature, dict[str, list[tuple[str, int]]]]:
    """path(split, class, number) -> image path; its stem is the key. Returns paths and classes per split."""
    mini, made = Miniature(), {}
    for split in splits:
        made[split] = [(path(split, c, i), c) for c in range(3) for i in range(2)]
        for file, _ in made[split]:
            jpeg(root / file, mini.next(file.rpartition(".")[0], split).image)
    return mini, made


def aircraft(root: Path) -> Miniature:
    place = root / "fgvc-aircraft-2013b"
    numbers = {"trainval": 0, "test": 500}
    mini, made = _fill(place, ("trainval", "test"), lambda s, c, i: f"data/images/{numbers[s] + 10 * c + i:07d}.jpg")
    names = ["707-320", "A340-200", "DR-400 with blank"]
    for split, pairs in made.items():
        text(place / f"data/images_variant_{split}.txt", [f"{Path(p).stem} {names[c]}" for p, c in pairs])
    text(place / "data/variants.txt", names)
    return mini


def cub(root: Path) -> Miniature:
    place = root / "CUB_200_2011"
    mini, made = _fill(place, ("train", "test"), lambda s, c, i: f"images/{c + 1:03d}.Bird/{s}_{i}.jpg")
    rows = [(split, path, c) for split, pairs in made.items() for path, c in pairs]
    text(place / "images.txt", [f"{n} {path.removeprefix('images/')}" for n, (_, path, _) in enumerate(rows, 1)])
    text(place / "image_class_labels.txt", [f"{n} {c + 1}" for n, (_, _, c) in enumerate(rows, 1)])
    text(place / "train_test_split.txt", [f"{n} {int(s == 'train')}" for n, (s, _, _) in enumerate(rows, 1)])
    text(place / "classes.txt", [f"{c + 1} {c + 1:03d}.Bird" for c in range(3)])
    return mini


def dtd(root: Path) -> Miniature:
    names = ("banded", "blotchy", "braided")
    mini, made = _fill(root / "dtd", ("train", "val", "test"), lambda s, c, i: f"images/{names[c]}/{s}_{i}.jpg")
    for split, pairs in made.items():
        text(root / f"dtd/labels/{split}1.txt", [path.removeprefix("images/") for path, _ in pairs])
    mini.splits["trainval"] = mini.splits["train"] + mini.splits["val"]
    return mini


def food101(root: Path) -> Miniature:
    names = ("apple_pie", "beignets", "waffles")
    mini, made = _fill(root / "food-101", ("train", "test"), lambda s, c, i: f"images/{names[c]}/{len(s)}00{i}.jpg")
    for split, pairs in made.items():
        lines = [path.removeprefix("images/").removesuffix(".jpg") for path, _ in pairs]
        text(root / f"food-101/meta/{split}.txt", lines)
        dump(root / f"food-101/meta/{split}.json", {n: [p for p in lines if p.startswith(n)] for n in names})
    text(root / "food-101/meta/classes.txt", names)
    return mini


def pets(root: Path) -> Miniature:
    names = ("Abyssinian", "american_bulldog", "beagle")
    place = root / "oxford-iiit-pet"
    mini, made = _fill(place, ("trainval", "test"), lambda s, c, i: f"images/{names[c]}_{len(s)}{i}.jpg")
    for split, pairs in made.items():
        text(place / f"annotations/{split}.txt", [f"{Path(path).stem} {c + 1} 1 1" for path, c in pairs])
    return mini


def sun397(root: Path) -> Miniature:
    names = ("a/abbey", "a/airport/indoor", "z/zoo")
    mini, made = _fill(root / "SUN397", ("train", "test"), lambda s, c, i: f"{names[c]}/sun_{s}{i}.jpg")
    for split, pairs in made.items():
        file = "Training_01.txt" if split == "train" else "Testing_01.txt"
        text(root / "SUN397" / file, ["/" + path for path, _ in pairs])
    text(root / "SUN397/ClassName.txt", ["/" + name for name in names])
    return mini


def places205(root: Path) -> Miniature:
    place, base = root / "places205", "data/vision/torralba/deeplearning/images256"
    mini, made = _fill(place, ("train", "val"), lambda s, c, i: f"{base}/a/kind{c}/{s}{i}.jpg")
    for split, pairs in made.items():
        lines = [f"{path.removeprefix(base + '/')} {c}" for path, c in pairs]
        text(place / f"trainvalsplit_places205/{split}_places205.csv", lines)
    return mini


def flowers(root: Path) -> Miniature:
    place, order = root / "flowers-102", ("train", "val", "test")
    mini, made = _fill(place, order, lambda s, c, i: f"jpg/image_{order.index(s) * 6 + 2 * c + i + 1:05d}.jpg")
    labels = [c + 1 for split in order for _, c in made[split]]
    savemat(place / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    ids = {key: np.arange(6) + 6 * n + 1 for n, key in enumerate(("trnid", "valid", "tstid"))}
    savemat(place / "setid.mat", ids)
    mini.splits["trainval"] = 12
    return mini


def cars(root: Path) -> Miniature:
    place = root / "stanford_cars"
    mini, made = _fill(place, ("train", "test"), lambda s, c, i: f"cars_{s}/{2 * c + i + 1:05d}.jpg")
    kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    (place / "devkit").mkdir()
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([(1, c + 1, Path(path).name) for path, c in made[split]], dtype=kind)
        savemat(place / file, {"annotations": rows})
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Audi TT"], object)
    savemat(place / "devkit/cars_meta.mat", {"class_names": names})
    return mini


WRITERS = {
    "aircraft": aircraft, "cub": cub, "dtd": dtd, "food101": food101, "pets": pets, "sun397": sun397,
    "places205": places205, "flowers": flowers, "cars": cars,
}  # fmt: skip
