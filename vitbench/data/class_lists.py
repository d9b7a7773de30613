"""Classification sets whose classes are in lists: Aircraft, CUB, DTD, Food-101, Pets, SUN397, Places205, Flowers, Cars.

Each as its authors released it; the functions say which files are read.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree, joined
from vitbench.errors import UnavailableError

Pairs = Iterable[tuple[str, int]]  # image path, label from 0


def _rows(pairs: Pairs, names: Iterable[str] = ()) -> Rows:
    rows = Rows(tuple(names))
    for path, label in pairs:
        rows.add(path.rpartition(".")[0], path, label=label)
    return rows


def aircraft(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """FGVC-Aircraft (Maji et al. 2013): data/images_variant_<split>.txt, `0034309 707-320` per line; data/variants.txt."""
    names = tree.lines("data/variants.txt")
    lines = (line.split(maxsplit=1) for line in tree.lines(f"data/images_variant_{split}.txt"))
    return _rows(((f"data/images/{image}.jpg", names.index(variant)) for image, variant in lines), names)


def birds(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """CUB-200-2011 (Wah et al. 2011): images.txt, image_class_labels.txt, train_test_split.txt (1 = train), classes.txt."""
    images, labels, train = (
        dict(line.split() for line in tree.lines(f))
        for f in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    wanted = "1" if split == "train" else "0"
    pairs = ((f"images/{images[i]}", int(labels[i]) - 1) for i in images if train[i] == wanted)
    return _rows(pairs, (line.split()[1] for line in tree.lines("classes.txt")))


def textures(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """DTD (Cimpoi et al. 2014), first of its ten splits: labels/{train,val,test}1.txt, `class/file.jpg` per line."""
    names = tree.folders("images")
    parts = ("train", "val") if split == "trainval" else (split,)
    lines = (line for part in parts for line in tree.lines(f"labels/{part}1.txt"))
    return _rows(((f"images/{line}", names.index(line.split("/")[0])) for line in lines), names)


def food(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Food-101 (Bossard et al. 2014): meta/<split>.txt, `class/number` per line; meta/classes.txt."""
    names = tree.lines("meta/classes.txt")
    lines = tree.lines(f"meta/{split}.txt")
    return _rows(((f"images/{line}.jpg", names.index(line.split("/")[0])) for line in lines), names)


def pets(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Oxford-IIIT Pet (Parkhi et al. 2012): annotations/<split>.txt, `Abyssinian_100 1 1 1` (name, class from 1) per line."""
    lines = [line.split() for line in tree.lines(f"annotations/{split}.txt") if not line.startswith("#")]
    names = {int(number) - 1: name.rpartition("_")[0] for name, number, *_ in lines}
    pairs = ((f"images/{name}.jpg", int(number) - 1) for name, number, *_ in lines)
    return _rows(pairs, (names[i] for i in sorted(names)))


def scenes397(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """SUN397 (Xiao et al. 2010), first of its ten partitions: Training_01.txt, Testing_01.txt; ClassName.txt. `/a/abbey/x.jpg`."""
    names = tree.lines("ClassName.txt")
    number = {name: i for i, name in enumerate(names)}
    file = "Training_01.txt" if split == "train" else "Testing_01.txt"
    lines = (line.lstrip("/") for line in tree.lines(file))
    return _rows(((line, number["/" + line.rpartition("/")[0]]) for line in lines), (n.lstrip("/") for n in names))


def places(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Places205 (Zhou et al. 2014): trainvalsplit_places205/{train,val}_places205.csv, `a/abbey/x.jpg 0` per line."""
    lines = (line.rsplit(maxsplit=1) for line in tree.lines(f"trainvalsplit_places205/{split}_places205.csv"))
    folder = tree.first("data/vision/torralba/deeplearning/images256", "images256")
    return _rows((joined(folder, path.lstrip("/")), int(label)) for path, label in lines)


def flowers(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Flowers-102 (Nilsback and Zisserman 2008): jpg/image_00001.jpg, imagelabels.mat, setid.mat (trnid, valid, tstid)."""
    labels = _matlab(tree, "imagelabels.mat")["labels"].ravel()
    keys = {"train": ("trnid",), "val": ("valid",), "test": ("tstid",), "trainval": ("trnid", "valid")}[split]
    sets = _matlab(tree, "setid.mat")
    numbers = sorted(int(n) for key in keys for n in sets[key].ravel())
    return _rows((f"jpg/image_{n:05d}.jpg", int(labels[n - 1]) - 1) for n in numbers)


def cars(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Stanford Cars (Krause et al. 2013): cars_<split>/*.jpg; devkit/cars_meta.mat, cars_train_annos.mat, and
    cars_test_annos_withlabels.mat beside the devkit or in it."""
    labelled = "cars_test_annos_withlabels.mat"
    file = "devkit/cars_train_annos.mat" if split == "train" else tree.first(labelled, f"devkit/{labelled}")
    found = np.atleast_1d(_matlab(tree, file)["annotations"])
    names = [str(n) for n in np.atleast_1d(_matlab(tree, "devkit/cars_meta.mat")["class_names"])]
    return _rows(((f"cars_{split}/{item.fname}", int(vars(item)["class"]) - 1)
                  for item in found), names)  # fmt: skip


def _matlab(tree: Tree, path: str) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    file = tree.watch(path)
    try:
        return dict(loadmat(str(file), squeeze_me=True, struct_as_record=False))
    except (ValueError, TypeError, OSError, NotImplementedError) as error:
        raise UnavailableError(f"{file} is not a MATLAB file: {error}", "download it again") from error


AIRCRAFT, BIRDS, TEXTURES, FOOD, PETS = Layout(aircraft), Layout(birds), Layout(textures), Layout(food), Layout(pets)
SUN397, PLACES205, FLOWERS, CARS = Layout(scenes397), Layout(places), Layout(flowers), Layout(cars)
