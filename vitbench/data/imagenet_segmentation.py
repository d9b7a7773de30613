"""ImageNet-Segmentation (Guillaumin et al. 2014, IJCV): one object mask per image, all in one MATLAB 7.3 file.

    gtsegs_ijcv.mat (HDF5): value/img and value/gt hold a reference per image, to 3 w h bytes, and to references to w h masks

MATLAB stores columns first, so every array is turned. Where several people drew an image, the first mask counts, as in the
reference evaluation (Chefer et al. 2021, arXiv 2012.09838). Read by h5py, an extra.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.errors import DataError, UnavailableError

FILE = "gtsegs_ijcv.mat"


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Images by number."""
    path, rows = tree.watch(FILE), Rows()
    for number in range(len(_opened(path, path.stat().st_mtime_ns)["value/img"])):
        rows.add(f"{number:05d}", f"{FILE}#{number}", segmentation=f"{FILE}#{number}")
    return rows


@lru_cache(maxsize=1)
def _opened(path: Path, stamp: int) -> Any:
    """The file, opened once per process; nothing is read until it is asked for."""
    del stamp  # part of the key only
    try:
        import h5py
    except ImportError as error:
        raise UnavailableError(f"{path} cannot be read without h5py", "pip install 'vitbench[h5py]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UnavailableError(f"{path} is not a whole MATLAB 7.3 file: {error}", "download it again") from error


def _stored(path: Path, name: str, number: str) -> Any:
    """What the reference of an image leads to, as an array; a list of references by its first."""
    try:
        file = _opened(path, path.stat().st_mtime_ns)
        found = file[file[f"value/{name}"][int(number), 0]]
        return np.asarray(file[found[0, 0]] if name == "gt" else found)
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"cannot read {name} {number} of {path}: {error}", "download it again") from error


def read_image(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w 3; what was stored as grey has three channels alike."""
    values = _stored(path, "img", fragment)
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or values.shape[:-2] not in ((), (3,)):
        raise DataError(f"image {fragment} of {path} is {values.dtype} {values.shape}, not 3 w h", "download it again")
    return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape[-2:])).transpose(2, 1, 0))


def read_mask(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w: 1 on the object."""
    values = _stored(path, "gt", fragment)
    if values.ndim != 2:
        raise DataError(f"mask {fragment} of {path} is of shape {values.shape}, not w h", "download it again")
    return np.ascontiguousarray((values > 0).T.astype(np.uint8))


LAYOUT = Layout(index, {"segmentation": read_mask}, image=read_image)
