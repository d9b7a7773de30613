"""Revisited Oxford and Paris (Radenovic et al. 2018, arXiv 1803.11285): retrieval of landmarks.

    gnd_<name>.pkl  jpg/*.jpg, at any depth: the archives of Paris have a folder per landmark

The ground truth is a pickle, read by an unpickler that makes plain containers and NumPy numbers and refuses all else.
Query images are cut to the box that marks the landmark. `relevance` holds, for a query, database keys that are easy, hard
or junk; for an image of the database none.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_image
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.errors import DataError, UnavailableError

KINDS = ("easy", "hard", "junk")
# Two spellings each: NumPy moved its core between versions 1 and 2.
_ALLOWED = frozenset(
    (f"{package}.multiarray", name) for package in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")
) | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_ground_truth(path: Path) -> dict[str, Any]:
    """imlist, qimlist and gnd (bbx, easy, hard, junk per query). Raises UnavailableError for any other pickle."""
    try:
        with path.open("rb") as stream:
            # Files of Python 2 hold text as bytes of latin-1.
            content = _Plain(stream, encoding="latin1").load()
        assert {"imlist", "qimlist", "gnd"} <= content.keys()
    except (
        pickle.UnpicklingError,
        AssertionError,
        AttributeError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
    ) as error:
        raise UnavailableError(
            f"{path} is not a ground truth that can be read safely: {error}", "download it again"
        ) from error
    return dict(content)


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """The database, or the queries with their relevant images."""
    truth = read_ground_truth(tree.watch(card.options["truth"]))
    names, rows = [str(n) for n in truth["imlist"]], Rows()
    places = {file.rpartition("/")[2]: file for file in tree.below("jpg", (".jpg",))}
    if split == "database":
        for name in names:
            rows.add(name, _place(places, name), relevance={kind: [] for kind in KINDS})
        return rows
    for name, item in zip(truth["qimlist"], truth["gnd"], strict=True):
        relevance = {kind: [names[int(i)] for i in np.ravel(item[kind])] for kind in ("easy", "hard", "junk")}
        box = ",".join(f"{float(v):.2f}" for v in item["bbx"])
        rows.add(str(name), f"{_place(places, str(name))}#{box}", relevance=relevance)
    return rows


def _place(places: dict[str, str], name: str) -> str:
    file = f"{name}.jpg"
    return f"jpg/{places.get(file, file)}"


def read_cut(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w 3: a whole image, or the part that the fragment `x0,y0,x1,y1` marks."""
    image = read_image(path, upright=False)
    if not fragment:
        return image
    x0, y0, x1, y1 = (round(float(v)) for v in fragment.split(","))
    cut = image[max(y0, 0) : y1, max(x0, 0) : x1]
    if not cut.size:
        raise DataError(f"the box {fragment} of query {path} lies outside its image", "use the images as released")
    return cut


LAYOUT = Layout(index, image=read_cut)
