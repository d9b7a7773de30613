"""Every released layout in miniature, written from lab scenes: the same folders, names and encodings.

A writer fills a data root and says what it wrote; `Miniature.scenes` leads from a sample's key back to the exact scene.
"""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitbench.catalogue import DATASETS
from vitbench.catalogue.release import class_names, palette
from vitbench.data.cityscapes import EVALUATED_IDS
from vitbench.data.coco import listed_ids
from vitbench.data.coco_stuff_groups import GROUPS
from vitbench.data.scenes import Scene, render

SIZE = 64


@cache
def scene(number: int) -> Scene:
    return render(11, number, SIZE)


@dataclass
class Miniature:
    """What a writer wrote: images per split, and the scene behind each key."""

    splits: dict[str, int] = field(default_factory=dict)
    scenes: dict[str, Scene] = field(default_factory=dict)

    def next(self, key: str, split: str) -> Scene:
        self.scenes[key] = scene(len(self.scenes))
        self.splits[split] = self.splits.get(split, 0) + 1
        return self.scenes[key]


def jpeg(path: Path, image: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(image, np.uint8)).save(path, quality=92)


def png(path: Path, values: Any, colours: tuple[tuple[int, int, int], ...] = ()) -> None:
    """Grey of 8 or 16 bits, RGB, or (with colours) a palette image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    if colours:
        image = image.convert("L")
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([v for colour in colours for v in colour])
    image.save(path)


def text(path: Path, lines: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# -- segmentation ------------------------------------------------------------------------------------------------------

XML_OBJECT = (
    "<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def voc(root: Path, folder: str, lists: dict[str, int]) -> Miniature:
    """lists: split -> images; "trainval" and "test" get boxes in XML, counted from 1; the others palette masks."""
    mini, place = Miniature(), root / folder
    for split, count in lists.items():
        boxes_only, names = split in ("trainval", "test"), []
        for i in range(count):
            name = f"{2007 + len(lists):d}_{split}_{i:06d}"
            names.append(name)
            s = mini.next(name, split)
            jpeg(place / "JPEGImages" / f"{name}.jpg", s.image)
            if boxes_only:
                objects = [
                    XML_OBJECT.format(
                        *(int(v) + shift for v, shift in zip(box, (1, 1, 0, 0), strict=True)), name=class_names("voc")[1 + j],
                        truncated=int(j == 1), difficult=int(j == 2),
                    )
                    for j, box in enumerate(s.boxes)
                ]  # fmt: skip
                text(place / "Annotations" / f"{name}.xml", ["<annotation>", *objects, "</annotation>"])
            else:
                aug = "Aug" if split == "trainaug" else ""
                png(place / f"SegmentationClass{aug}" / f"{name}.png", s.segmentation, () if aug else palette("voc"))
        text(place / "ImageSets" / ("Main" if boxes_only else "Segmentation") / f"{split}.txt", names)
    return mini


def voc_aug(root: Path) -> Miniature:
    """As mmsegmentation converts SBD: masks of SBD's images only, names of all in trainaug.txt, in no order."""
    mini = voc(root, "VOCdevkit/VOC2012", {"train": 2, "trainaug": 5, "val": 4})
    lists = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    added, own = ((lists / f"{n}.txt").read_text().split() for n in ("trainaug", "train"))
    text(lists / "aug.txt", added[::-1])
    text(lists / "trainaug.txt", [*added[::-1], *own])
    mini.splits["trainaug"] += mini.splits.pop("train")
    return mini


def voc_classes(root: Path) -> Miniature:
    mini = voc(root, "VOCdevkit/VOC2007", {"trainval": 4, "test": 4})
    for split in mini.splits:
        keys = [key for key in mini.scenes if f"_{split}_" in key]
        for i, name in enumerate(class_names("voc")[1:]):
            marks = [1 if i == n else 0 if i == n + 1 else -1 for n in range(len(keys))]
            lines = (f"{key} {mark:2d}" for key, mark in zip(keys, marks, strict=True))
            text(root / "VOCdevkit/VOC2007/ImageSets/Main" / f"{name}_{split}.txt", lines)
    return mini


def ade20k(root: Path) -> Miniature:
    mini, place = Miniature(), root / "ADEChallengeData2016"
    for split, folder, count in (("train", "training", 6), ("val", "validation", 4)):
        for i in range(count):
            name = f"ADE_{split}_{i:08d}"
            s = mini.next(name, split)
            jpeg(place / "images" / folder / f"{name}.jpg", s.image)
            png(
                place / "annotations" / folder / f"{name}.png",
                np.where(s.segmentation == 255, 0, s.segmentation + 1).astype(np.uint8),
            )
    return mini


def cityscapes(root: Path) -> Miniature:
    """Train with label ids only, val with train ids beside them."""
    mini, place = Miniature(), root / "cityscapes"
    ids = np.zeros(256, np.uint8)
    ids[: len(EVALUATED_IDS)] = EVALUATED_IDS
    for split, cities, count in (("train", ("aachen", "ulm"), 3), ("val", ("frankfurt",), 4)):
        for city in cities:
            for i in range(count):
                stem = f"{city}_{i:06d}_000019"
                s = mini.next(f"{city}/{stem}", split)
                png(place / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", s.image)
                gt = place / "gtFine" / split / city
                png(gt / f"{stem}_gtFine_labelIds.png", np.where(s.segmentation == 255, 0, ids[s.segmentation]))
                if split == "val":
                    png(gt / f"{stem}_gtFine_labelTrainIds.png", s.segmentation)
    return mini


def pascal_context(root: Path, shift: int = 0) -> Miniature:
    mini, place = Miniature(), root / "VOCdevkit/VOC2010"
    for split, count in (("train", 6), ("val", 4)):
        names = [f"2008_{split}_{i:06d}" for i in range(count)]
        for name in names:
            s = mini.next(name, split)
            jpeg(place / "JPEGImages" / f"{name}.jpg", s.image)
            labels = np.where(s.segmentation == 255, 255 if not shift else 0, s.segmentation + shift)
            png(place / "SegmentationClassContext" / f"{name}.png", labels.astype(np.uint8))
        text(place / "ImageSets/SegmentationContext" / f"{split}.txt", names)
    return mini


def coco_stuff(root: Path) -> Miniature:
    mini, place = Miniature(), root / "coco"
    ids = np.zeros(256, np.uint8)
    for i, name in enumerate(class_names("coco_stuff")):
        ids[i] = GROUPS[name][-1]
    for split, count in (("train", 6), ("val", 4)):
        for i in range(count):
            stem = f"{len(mini.scenes):012d}"
            s = mini.next(stem, split)
            jpeg(place / f"images/{split}2017" / f"{stem}.jpg", s.image)
            folder = place / f"annotations/stuff_annotations/stuff_{split}2017_pixelmaps"
            png(folder / f"{stem}.png", np.where(s.segmentation == 255, 183 if i else 0, ids[s.segmentation]))
    return mini


THINGS = [{"id": 3 * i + 1, "supercategory": n, "isthing": 1} for i, n in enumerate(class_names("coco_things"))]
STUFF = {"id": 92, "supercategory": "textile", "isthing": 0}


def coco_things(root: Path) -> Miniature:
    mini, place = Miniature(), root / "coco"
    for split, count in (("train", 6), ("val", 4)):
        annotations = []
        for _ in range(count):
            stem = f"{len(mini.scenes):012d}"
            s = mini.next(stem, split)
            jpeg(place / f"images/{split}2017" / f"{stem}.jpg", s.image)
            labels = np.where(s.segmentation == 255, 99, s.segmentation).astype(np.int64)
            segment = 1000 * labels + 300  # ids that need the second colour channel
            png(place / f"annotations/panoptic_{split}2017" / f"{stem}.png",
                np.stack([segment % 256, segment // 256 % 256, segment // 65536], -1).astype(np.uint8))  # fmt: skip
            info = [
                {"id": int(1000 * v + 300), "category_id": STUFF["id"] if v == 99 else THINGS[v]["id"]}
                for v in np.unique(labels)
            ]
            annotations.append({"file_name": f"{stem}.png", "segments_info": info})
        dump(
            place / f"annotations/panoptic_{split}2017.json",
            {"categories": [*THINGS, STUFF], "annotations": annotations},
        )
    return mini


def camvid(root: Path) -> Miniature:
    mini = Miniature()
    for split, count in (("train", 6), ("val", 4), ("test", 2)):
        for i in range(count):
            s = mini.next(f"{split}_{i:05d}", split)
            png(root / "CamVid" / split / f"{split}_{i:05d}.png", s.image)
            png(
                root / "CamVid" / f"{split}annot" / f"{split}_{i:05d}.png",
                np.where(s.segmentation == 255, 11, s.segmentation),
            )
    return mini


def saliency(root: Path, folder: str, images: str = "images", masks: str = "masks") -> Miniature:
    mini = Miniature()
    for i in range(4):
        s = mini.next(f"{i:04d}", "test")
        jpeg(root / folder / images / f"{i:04d}.jpg", s.image)
        png(root / folder / masks / f"{i:04d}.png", ((s.instances > 0) * 255).astype(np.uint8))
    return mini


def imagenet_segmentation(root: Path) -> Miniature:
    """As MATLAB 7.3 stores a struct of cells: references to arrays with their axes turned, masks behind a second reference."""
    h5py = pytest.importorskip("h5py")
    mini = Miniature()
    path = root / "imagenet_segmentation/gtsegs_ijcv.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [mini.next(f"{i:05d}", "test") for i in range(4)]
    with h5py.File(path, "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")
        cells = {name: np.empty((len(found), 1), h5py.ref_dtype) for name in ("img", "gt", "id", "target")}
        for i, s in enumerate(found):
            cells["img"][i, 0] = kept.create_dataset(f"img{i}", data=s.image.transpose(2, 1, 0)).ref
            mask = kept.create_dataset(f"mask{i}", data=(s.instances > 0).T.astype(np.uint8)).ref
            other = kept.create_dataset(f"other{i}", data=np.zeros((SIZE, SIZE), np.uint8)).ref
            drawn = np.array([[mask], [other]], h5py.ref_dtype)
            cells["gt"][i, 0] = kept.create_dataset(f"gt{i}", data=drawn, dtype=h5py.ref_dtype).ref
            for name, said in (("id", f"n01443537_{i}"), ("target", "n01443537")):
                letters = np.frombuffer(said.encode("utf-16-le"), np.uint16)[:, None]
                cells[name][i, 0] = kept.create_dataset(f"{name}{i}", data=letters).ref
        for name, references in cells.items():
            file.create_dataset(f"value/{name}", data=references, dtype=h5py.ref_dtype)
    return mini


# -- depth -------------------------------------------------------------------------------------------------------------


def nyu(root: Path) -> Miniature:
    mini, place = Miniature(), root / "nyu"
    for split, count in (("train", 6), ("test", 4)):
        lines = []
        for i in range(count):
            s = mini.next(f"{split}_room/rgb_{i:05d}", split)
            jpeg(place / f"{split}_room/rgb_{i:05d}.jpg", s.image)
            png(place / f"{split}_room/sync_depth_{i:05d}.png", np.round(s.depth * 1000).astype(np.uint16))
            lines.append(f"/{split}_room/rgb_{i:05d}.jpg /{split}_room/sync_depth_{i:05d}.png 518.8579")
        text(place / f"nyu_{split}.txt", [*lines, f"/{split}_room/rgb_99999.jpg None 518.8579"])
    return mini


def nyu_parquet(root: Path) -> Miniature:
    """The labelled images as the hub has them."""
    import datasets

    datasets.disable_progress_bars()
    mini, place = Miniature(), root / "hub/jagennath-hari--nyuv2/data"
    place.mkdir(parents=True)
    features = datasets.Features({"id": datasets.Value("string"), "rgb": datasets.Image(), "depth": datasets.Image()})
    for split, count in (("train", 5), ("val", 4), ("test", 2)):
        stem = f"{split}-00000-of-00001"
        found = [mini.next(f"{stem}/{i:07d}", split) for i in range(count)]
        columns = {
            "id": [str(i) for i in range(count)],
            "rgb": [Image.fromarray(s.image) for s in found],
            "depth": [Image.fromarray(np.round(s.depth * 1000).astype(np.uint16)) for s in found],
        }
        datasets.Dataset.from_dict(columns, features=features).to_parquet(place / f"{stem}.parquet")
    return mini


KITTI_HW = (376, 1242)


def kitti(root: Path) -> Miniature:
    mini, place = Miniature(), root / "kitti"
    for split, count in (("train", 4), ("test", 4)):
        lines = []
        for i in range(count):
            drive = f"2011_09_26_drive_{split}_sync"
            image, depth = (
                f"2011_09_26/{drive}/image_02/data/{i:010d}.png",
                f"{drive}/proj_depth/groundtruth/image_02/{i:010d}.png",
            )
            s = mini.next(f"input/{image.removesuffix('.png')}", split)
            png(place / "input" / image, stretched(s.image, KITTI_HW))
            png(place / "gt_depth" / depth, np.round(stretched(s.depth, KITTI_HW) * 256).astype(np.uint16))
            lines += [f"{image} {depth} 721.5377", f"{image} None 721.5377"]
        text(place / f"kitti_eigen_{split}.txt", lines)
    return mini


def stretched(values: Any, hw: tuple[int, int]) -> Any:
    rows, cols = (np.arange(n) * SIZE // n for n in hw)
    return values[rows][:, cols]


def sun_rgbd(root: Path) -> Miniature:
    """Paths in the list begin with the archive's own folder, and have no focal length."""
    mini, place, lines = Miniature(), root / "SUNRGBD", []
    for i in range(4):
        base = f"kv2/kinect2data/{i:06d}_2014-05-26_14-23-37_260595134347_rgbf000103-resize"
        s = mini.next(f"{base}/image/{i:07d}", "test")
        jpeg(place / base / f"image/{i:07d}.jpg", s.image)
        mm = np.round(s.depth * 1000).astype(np.uint16)
        png(place / base / f"depth/{i:07d}.png", (mm << 3) | (mm >> 13))
        lines.append(f"SUNRGBD/{base}/image/{i:07d}.jpg SUNRGBD/{base}/depth/{i:07d}.png")
    text(place / "SUNRGBD_val_splits.txt", lines)
    return mini


def navi(root: Path) -> Miniature:
    """Inverse depth; an image that only EXIF turns upright; the videos of version 1.5, which are no part of it."""
    mini = Miniature()
    sets = (
        ("multiview-00-pixel_5", ("train", "train", "val")),
        ("wild_set", ("train", "val")),
        ("video-00-canon", ("train",)),
    )
    for scene_name, splits in sets:
        place, items = root / "navi_v1/a_toy" / scene_name, []
        for i, split in enumerate(splits):
            kept = Miniature() if scene_name.startswith("video") else mini
            s = kept.next(f"a_toy/{scene_name}/{i:03d}", "wild" if scene_name == "wild_set" else split)
            prefix = "downsampled_" if i == 0 else ""
            (place / "images").mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = 6 if i else 1
            stored = np.rot90(s.image) if i else s.image
            Image.fromarray(np.ascontiguousarray(stored)).save(
                place / "images" / f"{prefix}{i:03d}.jpg", quality=92, exif=exif
            )
            png(place / "depth" / f"{prefix}{i:03d}.png", np.round(655_350 / (s.depth * 1000)).astype(np.uint16))
            camera = {"q": [1, 0, 0, 0], "t": [0, 100.0, 1500.0], "focal_length": 3000.0, "camera_model": "pixel_5"}
            items.append({
                "object_id": "a_toy", "filename": f"{i:03d}.jpg", "split": split, "image_size": [4000, 4000],
                "camera": camera, "scene_name": scene_name, "occluded": False,
            })  # fmt: skip
        dump(place / "annotations.json", items)
    text(root / "navi_v1/custom_splits/single_image_3d/objects-train.txt", ["a_toy"])
    return mini


# -- boxes, videos, keypoints, landmarks -------------------------------------------------------------------------------


def coco20k(root: Path) -> Miniature:
    """Boxes with fractions, a crowd per image, and an image that is not in the list."""
    mini, place = Miniature(), root / "coco"
    content: dict[str, Any] = {"images": [], "annotations": []}
    for i in (*sorted(listed_ids("coco20k"))[:4], 0):
        name = f"COCO_train2014_{i:012d}"
        s = mini.next(name, "train2014") if i else scene(4)
        jpeg(place / "images/train2014" / f"{name}.jpg", s.image)
        content["images"].append({"id": i, "file_name": f"{name}.jpg", "height": SIZE, "width": SIZE})
        for x0, y0, x1, y1 in s.boxes.tolist():
            content["annotations"].append({"image_id": i, "bbox": [x0 + 0.3, y0 - 0.3, x1 - x0, y1 - y0], "iscrowd": 0})
        content["annotations"].append({"image_id": i, "bbox": [0, 0, SIZE, SIZE], "iscrowd": 1})
    dump(place / "annotations/instances_train2014.json", content)
    return mini


def davis(root: Path, year: int) -> Miniature:
    mini, place = Miniature(), root / ("DAVIS" if year == 2017 else "DAVIS2016")
    for split, videos in (("train", ("bear", "camel")), ("val", ("swan",))):
        frames = [(video, f"{i:05d}") for video in videos for i in range(3)]
        for video, frame in frames:
            s = mini.next(f"{video}/{frame}", split)
            jpeg(place / "JPEGImages/480p" / video / f"{frame}.jpg", s.image)
            mask = s.instances if year == 2017 else ((s.instances > 0) * 255).astype(np.uint8)
            png(place / "Annotations/480p" / video / f"{frame}.png", mask, palette("voc") if year == 2017 else ())
        if year == 2017:
            text(place / f"ImageSets/2017/{split}.txt", videos)
        else:
            pairs = (f"/JPEGImages/480p/{v}/{f}.jpg /Annotations/480p/{v}/{f}.png" for v, f in frames)
            text(place / f"ImageSets/480p/{split}.txt", pairs)
    return mini


def bdd100k(root: Path) -> Miniature:
    mini, place = Miniature(), root / "bdd100k"
    for split in ("train", "val"):
        video, frames = f"{split}-0000f77c", []
        for i in range(3):
            name = f"{video}-{i + 1:07d}.jpg"
            s = mini.next(f"{video}/{name.removesuffix('.jpg')}", split)
            jpeg(place / "images/track" / split / video / name, s.image)
            labels = [
                {
                    "id": f"000{j}",
                    "category": "car",
                    "attributes": {"crowd": False},
                    "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                }
                for j, box in enumerate(s.boxes.tolist())
            ]
            crowd = {
                "id": "9",
                "category": "car",
                "attributes": {"crowd": True},
                "box2d": {"x1": 0, "y1": 0, "x2": 9, "y2": 9},
            }
            frames.append({"name": name, "videoName": video, "frameIndex": i, "labels": [*labels, crowd]})
        dump(place / "labels/box_track_20" / split / f"{video}.json", frames)
    return mini


def spair(root: Path) -> Miniature:
    mini, place = Miniature(), root / "SPair-71k"
    for split, folder in (("train", "trn"), ("val", "val"), ("test", "test")):
        for category in ("cat", "tvmonitor"):
            names = [f"{split}_{i:06d}" for i in range(3)]
            for name in names:
                jpeg(place / "JPEGImages" / category / f"{name}.jpg", mini.next(f"{category}/{name}", split).image)
            for n, (source, target) in enumerate((names[:2], names[::2])):
                pair = {
                    "src_kps": [[3, 4], [10, 20]], "trg_kps": [[5, 6], [30, 40]], "kps_ids": ["0", "7"],
                    "src_bndbox": [1, 2, 50, 60], "trg_bndbox": [2, 3, 40, 50], "viewpoint_variation": n,
                    "src_imname": f"{source}.jpg", "trg_imname": f"{target}.jpg", "category": category,
                }  # fmt: skip
                dump(place / "PairAnnotation" / folder / f"{n:06d}-{source}-{target}:{category}.json", pair)
    return mini


def landmarks(root: Path, name: str) -> Miniature:
    """Ground truth pickled with NumPy arrays in it, as released."""
    mini = Miniature()
    for i in range(4):
        jpeg(root / name / "jpg" / f"place_{i:06d}.jpg", mini.next(f"place_{i:06d}", "database").image)
    database = list(mini.scenes)
    gnd = []
    for i in range(2):
        jpeg(root / name / "jpg" / f"query_{i:06d}.jpg", mini.next(f"query_{i:06d}", "query").image)
        gnd.append(
            {"bbx": np.array([8.4, 4.0, 40.2, 60.0]), "easy": np.array([0]), "hard": np.array([1]), "junk": [2, 3]}
        )
    truth = {"imlist": database, "qimlist": [f"query_{i:06d}" for i in range(2)], "gnd": gnd}
    (root / name / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    return mini


# -- classification ----------------------------------------------------------------------------------------------------


def class_folders(
    root: Path, splits: dict[str, str], classes: int = 3, each: int = 4, suffix: str = ".jpg"
) -> Miniature:
    """splits: split -> folder below the root. One folder for several splits is dealt by the loader."""
    mini = Miniature()
    for split, folder in splits.items():
        for c in range(classes):
            for i in range(each):
                s = mini.next(f"class{c}/{split}_{i}", split)
                (jpeg if suffix == ".jpg" else png)(root / folder / f"class{c}" / f"{split}_{i}{suffix}", s.image)
    return mini


def dealt(root: Path, folder: str, train: int, each: int = 5) -> Miniature:
    mini = class_folders(root, {"all": folder}, each=each)
    mini.splits = {"train": 3 * train, "test": 3 * (each - train)}
    return mini


def cifar(root: Path, folder: str, files: dict[str, list[str]], label_bytes: int) -> Miniature:
    mini = Miniature()
    for split, names in files.items():
        for name in names:
            records = []
            for i in range(4):
                s = mini.next(f"{name.removesuffix('.bin')}/{i:05d}", split)
                records.append(
                    np.concatenate([[19] * (label_bytes - 1), [i % 3], s.image[::2, ::2].transpose(2, 0, 1).ravel()])
                )
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.concatenate(records).astype(np.uint8).tofile(root / folder / name)
    return mini


Writer = Callable[[Path], Miniature]
VOC = "VOCdevkit/VOC"
WRITERS: dict[str, Writer] = {
    "voc2007": lambda root: voc(root, f"{VOC}2007", {"train": 4, "val": 4, "trainval": 5, "test": 3}),
    "voc2012": lambda root: voc(root, f"{VOC}2012", {"train": 6, "val": 4, "trainval": 5}),
    "voc2012_aug": voc_aug,
    "voc2007_classes": voc_classes,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "pascal_context": pascal_context,
    "pascal_context59": lambda root: pascal_context(root, shift=1),
    "coco_stuff": coco_stuff,
    "coco_things": coco_things,
    "camvid": camvid,
    "ecssd": lambda root: saliency(root, "ECSSD", masks="ground_truth_mask"),
    "duts_te": lambda root: saliency(root, "DUTS-TE", "DUTS-TE-Image", "DUTS-TE-Mask"),
    "dut_omron": lambda root: saliency(root, "DUT-OMRON"),
    "imagenet_segmentation": imagenet_segmentation,
    "nyu_depth_v2": nyu,
    "nyu_labelled": nyu_parquet,
    "kitti_eigen": kitti,
    "sun_rgbd": sun_rgbd,
    "navi": navi,
    "coco20k": coco20k,
    "davis2017": lambda root: davis(root, 2017),
    "davis2016": lambda root: davis(root, 2016),
    "bdd100k_tracking": bdd100k,
    "spair71k": spair,
    "roxford5k": lambda root: landmarks(root, "roxford5k"),
    "rparis6k": lambda root: landmarks(root, "rparis6k"),
    "imagenet1k": lambda root: class_folders(root, {"train": "imagenet/train", "val": "imagenet/val"}),
    "eurosat": lambda root: dealt(root, "eurosat/2750", 4),
    "resisc45": lambda root: dealt(root, "NWPU-RESISC45", 4),
    "caltech101": lambda root: dealt(root, "caltech101/101_ObjectCategories", 30, each=31),
    "cifar10": lambda root: cifar(
        root,
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
        1,
    ),
    "cifar100": lambda root: cifar(root, "cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, 2),
}


def install(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    """Write a data set and let its card expect as many images as were written."""
    from tests.layout_lists import WRITERS as LISTED

    mini = {**WRITERS, **LISTED}[name](root)
    aged(root)
    card = DATASETS.get(name)
    splits = {split: mini.splits.get(split, 0) for split in card.splits}
    options = {key: value for key, value in card.options.items() if key != "pairs"}
    monkeypatch.setitem(DATASETS._cards, name, replace(card, splits=splits, options=options))
    return mini


def aged(root: Path) -> None:
    """All below was changed an hour ago: a change is seen by its time, and clocks of file systems tick in milliseconds."""
    then = time.time_ns() - 3600 * 10**9
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(then, then))


def rle_text(counts: list[int]) -> str:
    """Run lengths as COCO's text: the inverse of `coco_masks.runs`."""
    out = []
    for i, count in enumerate(counts):
        value, more = (count - counts[i - 2] if i > 2 else count), True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            out.append(chr((group | 32 if more else group) + 48))
    return "".join(out)


def run_lengths(mask: Any) -> list[int]:
    """Plain run lengths of a mask, down columns, background first."""
    return list(_runs(np.asarray(mask, bool).T.ravel()))


def _runs(values: Any) -> Iterator[int]:
    edges = np.flatnonzero(np.diff(values)) + 1
    yield from [0] if values[0] else []
    yield from np.diff([0, *edges, values.size]).tolist()
