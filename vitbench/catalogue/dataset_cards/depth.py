"""Cards of depth sets: NYUv2, KITTI, SUN RGB-D, NAVI."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard, Source
from vitbench.catalogue.release import Download, Parquet, Release

_TOOLBOX = "github.com/zhyever/Monocular-Depth-Estimation-Toolbox"
_NYU_PARQUET = Parquet(
    "jagennath-hari/nyuv2", {"train": "train", "val": "val", "test": "test"}, {"image": "rgb", "depth": "depth"}
)

NYU_DEPTH_V2 = DatasetCard(
    name="nyu_depth_v2",
    entry="vitbench.data.depth_lists:LAYOUT",
    summary="NYU Depth v2, split of BTS: indoor, 16-bit millimetres",
    splits={"train": 24231, "test": 654},
    roles={"val": "test"},
    targets=("depth",),
    source=Source("Silberman et al.", 2012, url="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"),
    release=Release(
        "nyu",
        f"the BTS copy (rgb_*.jpg, sync_depth_*.png) with nyu_train.txt and nyu_test.txt of {_TOOLBOX}",
        hub_note="sayakpaul/nyu_depth_v2 and 0jl/NYUv2 are scripts, which do not load any more; the parquet "
        "jagennath-hari/nyuv2 is another split: `nyu_labelled`",
    ),
    options={"lists": {"train": "nyu_train.txt", "test": "nyu_test.txt"}, "per_metre": 1000},
)
NYU_LABELLED = DatasetCard(
    name="nyu_labelled",
    entry="vitbench.data.hub_parquet:LAYOUT",
    summary="NYU Depth v2, the 1,449 labelled images as parquet: not the split of `nyu_depth_v2`, never to be compared with it",
    splits={"train": 1014, "val": 290, "test": 145},
    targets=("depth",),
    source=Source("Silberman et al.", 2012, url="https://huggingface.co/datasets/jagennath-hari/nyuv2"),
    release=Release(
        _NYU_PARQUET.folder,
        f"`hf download {_NYU_PARQUET.id} --repo-type dataset --local-dir DATA_ROOT/{_NYU_PARQUET.folder}`, no registration",
        size="1.3 GB",
        hub=_NYU_PARQUET,
    ),
    options={"per_metre": 1000},
)
KITTI_EIGEN = DatasetCard(
    name="kitti_eigen",
    entry="vitbench.data.depth_lists:LAYOUT",
    summary="KITTI depth, split of Eigen: drives, 16-bit metres x 256, cut to 352 x 1216",
    splits={"train": 23158, "test": 652},
    roles={"val": "test"},
    targets=("depth",),
    licence="CC-BY-NC-SA-3.0",
    source=Source("Geiger et al.", 2013, url="https://www.cvlibs.net/datasets/kitti/"),
    release=Release(
        "kitti",
        "register at www.cvlibs.net/datasets/kitti, then the raw drives into kitti/input/<date>/, and the drives in train/ and "
        "val/ of data_depth_annotated.zip side by side into kitti/gt_depth/, with kitti_eigen_train.txt and "
        f"kitti_eigen_test.txt of {_TOOLBOX}",
        size="189 GB",
        facts_from="Monodepth2 (175 GB of drives), its page (14 GB of depth)",
    ),
    options={
        "lists": {"train": "kitti_eigen_train.txt", "test": "kitti_eigen_test.txt"},
        "images": "input",
        "depths": "gt_depth",
        "per_metre": 256,
        "kb_crop": True,
    },
)
SUN_RGBD = DatasetCard(
    name="sun_rgbd",
    entry="vitbench.data.depth_lists:LAYOUT",
    summary="SUN RGB-D, test part: indoor, for heads trained on NYU Depth v2",
    splits={"test": 5050},
    roles={"val": "test"},
    targets=("depth",),
    source=Source("Song et al.", 2015, url="https://rgbd.cs.princeton.edu"),
    release=Release(
        "SUNRGBD",
        f"SUNRGBD.zip of rgbd.cs.princeton.edu, no registration, and into its folder SUNRGBD_val_splits.txt of {_TOOLBOX}",
        downloads=(
            Download("https://rgbd.cs.princeton.edu/data/SUNRGBD.zip"),
            Download(
                "https://raw.githubusercontent.com/zhyever/Monocular-Depth-Estimation-Toolbox/main/splits/SUNRGBD_val_splits.txt",
                into="SUNRGBD",
            ),
        ),
    ),
    options={"lists": {"test": "SUNRGBD_val_splits.txt"}, "top": "SUNRGBD", "per_metre": 1000, "turned_bits": 3},
    differs="The toolbox cuts depth and predictions to 8 m and scores rows 45 to 471 and columns 41 to 601 of each image; "
    "here a protocol's own range and crop hold.",
)
NAVI = DatasetCard(
    name="navi",
    entry="vitbench.data.navi:LAYOUT",
    summary="NAVI: 36 objects from all sides (8,217 images of 324 scenes, and 2,298 elsewhere), with depth and camera poses",
    splits={"train": 0, "val": 0, "wild": 2298},
    version=2,
    roles={"val:pose": "wild"},
    targets=("depth", "pose"),
    licence="none stated for the data in the authors' README",
    source=Source("Jampani et al.", 2023, "2306.09109", "https://github.com/google/navi"),
    release=Release(
        "navi_v1",
        "navi_v1.0.tar.gz of storage.googleapis.com/gresearch/navi-dataset, no registration; the videos that v1.5 adds are left "
        "out; probe3d's down-sampled copies are used where they are",
        size="16 GB",
        facts_from="the authors' README and data_util.py (depth, EXIF), probe3d",
        also=("navi_v1.0", "navi_v1.5"),
        downloads=(Download("https://storage.googleapis.com/gresearch/navi-dataset/navi_v1.0.tar.gz"),),
    ),
    differs="Train and val are as annotated, over all objects; probe3d deals nine tenths of an object's scenes to train, leaves "
    "out objects that have no wild set, and keeps every fourth image.",
)

DEPTH_SETS: tuple[DatasetCard, ...] = (NYU_DEPTH_V2, NYU_LABELLED, KITTI_EIGEN, SUN_RGBD, NAVI)
