"""The traps of released data sets, each with a test of its name."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests import layouts
from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.catalogue.release import palette
from vitbench.data import coco, depth_lists
from vitbench.data.ade20k import reduce_zero
from vitbench.data.coco_masks import decode_mask, runs
from vitbench.data.images import read_depth
from vitbench.data.load import describe_split, load
from vitbench.data.revisited import read_ground_truth
from vitbench.errors import DataError, UnavailableError

VOC = Path("VOCdevkit/VOC2012")


def test_palette_masks_are_read_as_indices_not_as_colours(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    mask = next((tmp_path / VOC / "SegmentationClass").glob("*_train_*.png"))
    with Image.open(mask) as stored:
        assert stored.mode == "P"
        assert np.array(stored.convert("RGB")).max() > 20, "the palette is not grey, so colours would be noticed"
    sample = load("voc2012", "train", targets=("segmentation",), root=tmp_path)[0]
    assert set(np.unique(sample["segmentation"])) <= {*range(10), 255}


def test_palette_colours_of_a_copy_are_mapped_back_to_indices(install: Install, tmp_path: Path) -> None:
    mini = install("voc2012")
    for mask in (tmp_path / VOC / "SegmentationClass").glob("*.png"):
        with Image.open(mask) as stored:
            stored.convert("RGB").save(mask)
    for sample in load("voc2012", "val", targets=("segmentation",), root=tmp_path):
        np.testing.assert_array_equal(sample["segmentation"], mini.scenes[sample["key"]].segmentation)


def test_a_colour_that_is_not_of_the_palette_is_named(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    mask = sorted((tmp_path / VOC / "SegmentationClass").glob("*_val_*.png"))[0]
    Image.fromarray(np.full((64, 64, 3), 77, np.uint8)).save(mask)
    with pytest.raises(DataError, match=f"{mask.name}.*palette"):
        load("voc2012", "val", targets=("segmentation",), root=tmp_path)[0]


def test_sbd_as_released_adds_to_vocs_train_and_leaves_val_alone(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("voc2012")
    mini, place = layouts.voc(tmp_path / "other", "x", {"train": 3}), tmp_path / VOC
    sbd = place / "benchmark_RELEASE/dataset"
    (sbd / "cls").mkdir(parents=True)
    for name, scene in mini.scenes.items():
        labels = np.where(scene.segmentation == 255, 0, scene.segmentation)
        savemat(sbd / f"cls/{name}.mat", {"GTcls": {"Segmentation": labels, "Boundaries": 0}})
        shutil.copy(tmp_path / f"other/x/JPEGImages/{name}.jpg", place / "JPEGImages")
    val = (place / "ImageSets/Segmentation/val.txt").read_text().split()
    train = (place / "ImageSets/Segmentation/train.txt").read_text().split()
    layouts.text(sbd / "train.txt", [*list(mini.scenes)[:2], train[0]])
    layouts.text(sbd / "val.txt", [*list(mini.scenes)[2:], val[0]])
    monkeypatch.setitem(
        DATASETS._cards, "voc2012_aug", replace(DATASETS.get("voc2012_aug"), splits={"trainaug": 9, "val": 4})
    )
    samples = {s["key"]: s for s in load("voc2012_aug", "train", targets=("segmentation",), root=tmp_path)}
    assert set(samples) == {*train, *mini.scenes}
    assert 255 in samples[train[0]]["segmentation"], "VOC's own mask, with its void border"
    for name, scene in mini.scenes.items():
        expected = np.where(scene.segmentation == 255, 0, scene.segmentation)
        np.testing.assert_array_equal(samples[name]["segmentation"], expected)


def test_the_palette_is_vocs() -> None:
    assert palette("voc")[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert palette("voc")[255] == (224, 224, 192)


def test_zero_label_of_ade20k_is_ignored_not_a_class() -> None:
    assert reduce_zero(np.array([0, 1, 150, 255], np.uint8)).tolist() == [255, 0, 149, 255]


def test_zero_label_of_pascal_context_is_ignored_with_fifty_nine_classes(install: Install, tmp_path: Path) -> None:
    install("pascal_context59")
    path = next((tmp_path / "VOCdevkit/VOC2010/SegmentationClassContext").glob("*_val_*0.png"))
    with Image.open(path) as stored:
        raw = np.array(stored)
    sample = load("pascal_context59", "val", targets=("segmentation",), root=tmp_path)[0]
    assert (sample["segmentation"][raw == 0] == 255).all()
    assert (sample["segmentation"][raw > 0] == raw[raw > 0] - 1).all()


def test_label_ids_and_train_ids_of_cityscapes_give_the_same_labels(install: Install, tmp_path: Path) -> None:
    install("cityscapes")
    with_train_ids = list(load("cityscapes", "val", targets=("segmentation",), root=tmp_path))
    for made in (tmp_path / "cityscapes").rglob("*_labelTrainIds.png"):
        made.unlink()
    with_label_ids = list(load("cityscapes", "val", targets=("segmentation",), root=tmp_path))
    for a, b in zip(with_train_ids, with_label_ids, strict=True):
        np.testing.assert_array_equal(a["segmentation"], b["segmentation"])


def test_box_shift_of_voc_is_one_at_the_upper_left_only(install: Install, tmp_path: Path) -> None:
    install("voc2007")
    file = sorted((tmp_path / "VOCdevkit/VOC2007/Annotations").glob("*_trainval_*.xml"))[0]
    box = layouts.XML_OBJECT.format(1, 1, 64, 32, name="cat", truncated=0, difficult=1)
    file.write_text(f"<annotation>{box}</annotation>")
    sample = load("voc2007", "val", targets=("boxes",), root=tmp_path)[0]
    assert sample["boxes"].tolist() == [[0, 0, 64, 32]]
    assert sample["boxes_hard"] == [True]


def test_difficult_and_truncated_boxes_are_kept_and_marked(install: Install, tmp_path: Path) -> None:
    mini = install("voc2007")
    for sample in load("voc2007", "val", targets=("boxes",), root=tmp_path):
        assert len(sample["boxes"]) == len(mini.scenes[sample["key"]].boxes) == len(sample["boxes_hard"])
        assert sample["boxes_hard"][1:3] == [True, True][: len(sample["boxes"]) - 1]


def test_object_discovery_on_voc2012_sees_trainval_and_segmentation_sees_val(install: Install, tmp_path: Path) -> None:
    mini = install("voc2012")
    assert describe_split("voc2012", "val", targets=("boxes",), root=tmp_path)[0] == mini.splits["trainval"]
    assert describe_split("voc2012", "val", targets=("segmentation",), root=tmp_path)[0] == mini.splits["val"]


def test_none_depth_lines_are_left_out(install: Install, tmp_path: Path) -> None:
    mini = install("nyu_depth_v2")
    assert "None" in (tmp_path / "nyu/nyu_test.txt").read_text()
    assert len(load("nyu_depth_v2", "test", root=tmp_path)) == mini.splits["test"]


def test_leading_slashes_do_not_make_paths_absolute(install: Install, tmp_path: Path) -> None:
    install("nyu_depth_v2")
    assert (tmp_path / "nyu/nyu_train.txt").read_text().startswith("/train_room")
    assert load("nyu_depth_v2", "train", root=tmp_path)["key"][0] == "train_room/rgb_00000"


def test_the_focal_column_is_not_read_as_depth_and_may_be_missing(install: Install, tmp_path: Path) -> None:
    install("nyu_depth_v2")
    list_file = tmp_path / "nyu/nyu_test.txt"
    with_focal = load("nyu_depth_v2", "test", targets=("depth",), root=tmp_path)[0]["depth"]
    list_file.write_text(list_file.read_text().replace(" 518.8579", ""))
    np.testing.assert_array_equal(
        load("nyu_depth_v2", "test", targets=("depth",), root=tmp_path)[0]["depth"], with_focal
    )


@pytest.mark.parametrize("folder", ["SUNRGBD", "SUNRGBD/SUNRGBD"])
def test_the_list_of_sun_rgbd_starts_at_the_archives_own_folder(folder: str, install: Install, tmp_path: Path) -> None:
    mini = install("sun_rgbd")
    assert (tmp_path / "SUNRGBD/SUNRGBD_val_splits.txt").read_text().startswith("SUNRGBD/kv2/")
    if folder != "SUNRGBD":  # as the toolbox lays it out: the list beside the archive's folder
        (tmp_path / folder).mkdir()
        (tmp_path / "SUNRGBD/kv2").rename(tmp_path / folder / "kv2")
    for sample in load("sun_rgbd", "val", targets=("depth",), root=tmp_path):
        scene = mini.scenes[sample["key"].removeprefix("SUNRGBD/")]
        np.testing.assert_allclose(sample["depth"], np.round(scene.depth * 1000) / 1000, rtol=1e-6)


def test_turned_bits_of_sun_rgbd_come_back_for_every_depth(tmp_path: Path) -> None:
    millimetres = np.arange(0, 1 << 16, dtype=np.uint16).reshape(256, 256)
    layouts.png(tmp_path / "turned.png", (millimetres << 3) | (millimetres >> 13))
    depth = depth_lists.LAYOUT.readers["depth"](tmp_path / "turned.png", "", DATASETS.get("sun_rgbd"))
    np.testing.assert_allclose(depth, millimetres / 1000, rtol=1e-6)


def test_depth_without_measurement_stays_zero(install: Install, tmp_path: Path) -> None:
    install("nyu_depth_v2")
    layouts.png(tmp_path / "nyu/test_room/sync_depth_00000.png", np.zeros((64, 64), np.uint16))
    assert load("nyu_depth_v2", "test", targets=("depth",), root=tmp_path)[0]["depth"].max() == 0


def test_kitti_is_cut_to_the_part_with_measurements_image_and_depth_alike(install: Install, tmp_path: Path) -> None:
    mini = install("kitti_eigen")
    sample = load("kitti_eigen", "test", targets=("depth",), root=tmp_path)[0]
    scene, (h, w) = mini.scenes[sample["key"]], layouts.KITTI_HW
    cut = slice(h - 352, None), slice((w - 1216) // 2, (w - 1216) // 2 + 1216)
    np.testing.assert_array_equal(sample["image"], layouts.stretched(scene.image, (h, w))[cut])
    np.testing.assert_allclose(sample["depth"], layouts.stretched(scene.depth, (h, w))[cut], atol=2.1e-3)


def test_crowd_boxes_are_left_out_and_boxes_rounded(install: Install, tmp_path: Path) -> None:
    mini = install("coco20k")
    for sample in load("coco20k", "val", targets=("boxes",), root=tmp_path):
        assert not (sample["boxes"] == [0, 0, layouts.SIZE, layouts.SIZE]).all(1).any()
        np.testing.assert_array_equal(sample["boxes"], np.round(sample["boxes"]))
        assert len(sample["boxes"]) == len(mini.scenes[sample["key"]].boxes)


def test_the_images_of_coco20k_are_listed_by_the_package_not_by_the_user(install: Install, tmp_path: Path) -> None:
    assert len(coco.listed_ids("coco20k")) == 19_817 == DATASETS.get("coco20k").splits["train2014"]
    mini = install("coco20k")
    assert len(list((tmp_path / "coco/images/train2014").iterdir())) == len(mini.scenes) + 1
    assert load("coco20k", "val", root=tmp_path)["key"] == list(mini.scenes)


def test_exif_rotation_is_not_applied_where_released_targets_fit_stored_pixels(
    install: Install, tmp_path: Path
) -> None:
    install("ade20k")
    folder = tmp_path / "ADEChallengeData2016"
    image = sorted((folder / "images/validation").iterdir())[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(image, exif=exif)
    layouts.png(folder / "annotations/validation" / f"{image.stem}.png", np.ones((40, 64), np.uint8))
    sample = load("ade20k", "val", targets=("segmentation",), root=tmp_path)[0]
    assert sample["image"].shape[:2] == sample["segmentation"].shape == (40, 64)


# -- masks of COCO -----------------------------------------------------------------------------------------------------


def test_run_lengths_as_text_and_as_numbers_give_the_same_mask() -> None:
    mask = layouts.scene(3).instances > 0
    counts = layouts.run_lengths(mask)
    coded = layouts.rle_text(counts)
    assert runs(coded) == counts
    np.testing.assert_array_equal(decode_mask({"counts": counts, "size": mask.shape}, mask.shape), mask)
    np.testing.assert_array_equal(decode_mask({"counts": coded, "size": mask.shape}, mask.shape), mask)


def test_compressed_run_lengths_are_those_of_the_released_format() -> None:
    # Worked out by hand: differences to the one two before from the fourth on; 40 takes two groups of five bits.
    assert runs("52203") == [5, 2, 2, 2, 5]
    assert runs("X121") == [40, 2, 1]
    assert runs("522N") == [5, 2, 2, 0], "a negative difference"


def test_polygons_cover_their_area() -> None:
    mask = decode_mask([[10, 5, 30, 5, 30, 25, 10, 25]], (40, 50))
    assert abs(int(mask.sum()) - 400) <= 41  # the border belongs to nobody
    assert mask[6:24, 11:29].all()
    assert not mask[:4].any()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="9 pixels"):
        decode_mask({"counts": [4, 5]}, (2, 2))


def test_things_are_painted_from_instances_where_the_panoptic_release_is_missing(
    install: Install, tmp_path: Path
) -> None:
    mini = install("coco_things")
    place = tmp_path / "coco/annotations"
    shutil.rmtree(place / "panoptic_val2017")
    (place / "panoptic_val2017.json").unlink()
    key, scene = next((k, s) for k, s in mini.scenes.items() if (tmp_path / f"coco/images/val2017/{k}.jpg").exists())
    whole = np.ones((64, 64), bool)
    part = scene.segmentation == 0
    annotations = [  # the small one comes first in the file and is painted last
        {
            "image_id": 1,
            "area": int(part.sum()),
            "category_id": 4,
            "segmentation": {"counts": layouts.rle_text(layouts.run_lengths(part))},
        },
        {"image_id": 1, "area": 4096, "category_id": 1, "segmentation": [[0, 0, 64, 0, 64, 64, 0, 64]], "iscrowd": 0},
    ]
    images = [{"id": i, "file_name": f"{int(key) + i - 1:012d}.jpg", "height": 64, "width": 64} for i in range(1, 5)]
    layouts.dump(
        place / "instances_val2017.json", {"images": images, "annotations": annotations, "categories": layouts.THINGS}
    )
    labels = load("coco_things", "val", targets=("segmentation",), root=tmp_path)[0]["segmentation"]
    np.testing.assert_array_equal(labels, np.where(part, 1, np.where(whole, 0, 255)))


# -- MATLAB 7.3 --------------------------------------------------------------------------------------------------------


def test_axes_of_a_matlab_file_are_turned_and_the_first_of_several_masks_counts(
    install: Install, tmp_path: Path
) -> None:
    mini = install("imagenet_segmentation")
    for sample in load("imagenet_segmentation", "val", targets=("segmentation",), root=tmp_path):
        scene = mini.scenes[sample["key"]]
        np.testing.assert_array_equal(sample["image"], scene.image)
        np.testing.assert_array_equal(sample["segmentation"], scene.instances > 0)


@pytest.mark.parametrize("keep", [0, 600, 5000])
def test_a_matlab_file_that_is_cut_short_is_named(keep: int, install: Install, tmp_path: Path) -> None:
    install("imagenet_segmentation")
    file = tmp_path / "imagenet_segmentation/gtsegs_ijcv.mat"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UnavailableError, match=r"gtsegs_ijcv\.mat is not a whole MATLAB 7\.3 file"):
        describe_split("imagenet_segmentation", "val", targets=("segmentation",), root=tmp_path)


def test_without_h5py_the_remedy_names_the_extra(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("imagenet_segmentation")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnavailableError, match=r"vitbench\[h5py\]"):
        describe_split("imagenet_segmentation", "val", root=tmp_path)


def test_what_is_no_image_in_a_matlab_file_is_named_by_its_number(install: Install, tmp_path: Path) -> None:
    install("imagenet_segmentation")
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "imagenet_segmentation/gtsegs_ijcv.mat"
    with h5py.File(path, "r+") as file:
        file["value/img"][2, 0] = file["value/gt"][2, 0]
    with pytest.raises(DataError, match=r"image 2 of .*gtsegs_ijcv\.mat"):
        load("imagenet_segmentation", "val", root=tmp_path)[2]


# -- pickles -----------------------------------------------------------------------------------------------------------


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_pickle_that_would_run_code_is_refused_and_named(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("roxford5k")
    file = tmp_path / "roxford5k/gnd_roxford5k.pkl"
    file.write_bytes(pickle.dumps({"imlist": [], "qimlist": [], "gnd": Harmful()}))
    with pytest.raises(UnavailableError, match=r"gnd_roxford5k\.pkl.*print"):
        describe_split("roxford5k", "query", root=tmp_path)
    assert not capsys.readouterr().out


def test_ground_truth_with_numpy_in_it_is_read(install: Install, tmp_path: Path) -> None:
    install("rparis6k")
    truth = read_ground_truth(tmp_path / "rparis6k/gnd_rparis6k.pkl")
    assert truth["gnd"][0]["junk"] == [2, 3]
    query = load("rparis6k", "query", targets=("relevance",), root=tmp_path)[0]
    assert query["relevance"] == {
        "easy": ["place_000000"],
        "hard": ["place_000001"],
        "junk": ["place_000002", "place_000003"],
    }
    assert query["image"].shape == (56, 32, 3), "cut to its box"
    assert load("rparis6k", "query", root=tmp_path)[0]["image"].shape == (56, 32, 3), "whatever targets are asked for"


# -- pairs and videos --------------------------------------------------------------------------------------------------


def test_an_image_of_many_pairs_is_one_sample(install: Install, tmp_path: Path) -> None:
    install("spair71k")
    samples = {s["key"]: s for s in load("spair71k", "test", targets=("keypoints",), root=tmp_path)}
    assert len(samples) == 6
    pairs = samples["cat/test_000000"]["keypoints"]
    assert [p["target"] for p in pairs] == ["cat/test_000001", "cat/test_000002"]
    assert pairs[0]["source_xy"] == [[3, 4], [10, 20]]
    assert pairs[0]["target_xy"] == [[5, 6], [30, 40]]
    assert pairs[0]["numbers"] == [0, 7]
    assert pairs[1]["viewpoint_variation"] == 1
    assert samples["cat/test_000002"]["keypoints"] == []


def test_frames_know_their_video_and_place(install: Install, tmp_path: Path) -> None:
    install("davis2017")
    samples = load("davis2017", "train", targets=("segmentation", "frames"), root=tmp_path)
    assert [s["frames"] for s in samples][3:5] == [
        {"video": "camel", "index": 0, "count": 3},
        {"video": "camel", "index": 1, "count": 3},
    ]


def test_crowds_of_a_tracking_set_are_left_out_and_tracks_are_numbered(install: Install, tmp_path: Path) -> None:
    mini = install("bdd100k_tracking")
    sample = load("bdd100k_tracking", "val", targets=("boxes", "frames"), root=tmp_path)[0]
    count = len(mini.scenes[sample["key"]].boxes)
    assert sample["boxes"].shape == (count, 4)
    assert sample["boxes_track"] == list(range(count))


# -- the real samples --------------------------------------------------------------------------------------------------


def test_real_davis_frames_are_read(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DAVIS").symlink_to(shared / "data/davis")
    card = DATASETS.get("davis2017")
    monkeypatch.setitem(DATASETS._cards, "davis2017", replace(card, splits={"val": 179}))  # three of its videos
    samples = load("davis2017", "val", targets=("segmentation", "frames"), root=tmp_path)
    assert len(samples) == 179
    assert {s["video"] for s in samples.with_format(None)["frames"]} == {"camel", "libby", "car-shadow"}
    first = samples[0]
    assert first["image"].shape[:2] == first["segmentation"].shape == (480, 854)
    assert set(np.unique(first["segmentation"])) == {0, 1}, "one object, drawn white"


def test_real_coco_boxes_in_coco20ks_layout(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shared / "data/coco128/val"
    content = json.loads((source / "boxes.json").read_text())
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/images").mkdir()
    (tmp_path / "coco/images/train2014").symlink_to(source / "images")
    (tmp_path / "coco/annotations/instances_train2014.json").write_text(json.dumps(content))
    names = [image["file_name"] for image in content["images"]]
    ids = frozenset(image["id"] for image in content["images"])
    monkeypatch.setattr(coco, "listed_ids", lambda name: ids)
    card = DATASETS.get("coco20k")
    monkeypatch.setitem(DATASETS._cards, "coco20k", replace(card, splits={"train2014": len(names)}))
    samples = load("coco20k", "val", targets=("boxes",), root=tmp_path)
    assert len(samples) == len(names)
    for sample in samples.select(range(10)):
        h, w = sample["image"].shape[:2]
        assert (sample["boxes"] >= -1).all()
        assert (sample["boxes"] <= [w + 1, h + 1, w + 1, h + 1]).all()


def test_real_depth_in_nyus_layout(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shared / "data/livingroom/val"
    (tmp_path / "nyu").mkdir()
    (tmp_path / "nyu/room").symlink_to(source)
    images = sorted((source / "images").iterdir())[:4]
    depths = {p.stem: p.name for p in (source / "depth").iterdir()}
    lines = [f"/room/images/{p.name} /room/depth/{depths[p.stem]} 525.0" for p in images]
    layouts.text(tmp_path / "nyu/nyu_test.txt", lines)
    monkeypatch.setitem(
        DATASETS._cards, "nyu_depth_v2", replace(DATASETS.get("nyu_depth_v2"), splits={"train": 0, "test": 4})
    )
    sample = load("nyu_depth_v2", "val", targets=("depth",), root=tmp_path)[0]
    np.testing.assert_allclose(sample["depth"], read_depth(source / "depth" / depths[images[0].stem]), rtol=1e-6)
    assert 0.3 < np.median(sample["depth"][sample["depth"] > 0]) < 20
