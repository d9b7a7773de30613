"""Published values: read with what is known of them, and keyed without ever being changed."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from typing import Any

import pytest

from vitbench.catalogue import BACKBONES, REPAIRS
from vitbench.catalogue.resolve import expand_tasks
from vitbench.errors import UsageError
from vitbench.paths import benchmarks_dir
from vitbench.reports.published import known_of, load_published

FOLDER = benchmarks_dir() / "published"
HEAD = "task,dataset,metric,backbone,method,value,protocol,source,tag\n"
REPAIRS_HEAD = "method,backbone,dataset_protocol,metric,value,source,note\n"


@pytest.fixture(scope="module")
def rekey() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "rekey.py"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keyed(rekey: dict[str, Any], tmp_path: Path, reference: str, repairs: str = "") -> tuple[list[dict[str, str]], ...]:
    (tmp_path / "reference_values.csv").write_text(HEAD + reference, encoding="utf-8")
    (tmp_path / "repairs_results.csv").write_text(REPAIRS_HEAD + repairs, encoding="utf-8")
    rekey["main"](tmp_path, tmp_path)
    return rows(tmp_path / "matched.csv"), rows(tmp_path / "published_only.csv")


def test_a_public_model_under_one_of_our_protocols_is_matched(rekey: dict[str, Any], tmp_path: Path) -> None:
    line = 'object-discovery,VOC07,CorLoc,DINO-S/16,none,61.9,"LOST (keys, last block)",README,readme\n'
    ((row,), none) = keyed(rekey, tmp_path, line)
    assert (row["backbone"], row["task"], row["dataset"]) == (
        "vit_small_patch16_224.dino",
        "object_discovery@lost",
        "voc2007",
    )
    assert (row["value"], row["confidence"], none) == ("61.9", "readme", [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            'object-discovery,VOC07,CorLoc,"DINOv2-L/14 (IN22k, own)",none,35.3,"LOST (keys, last block)",P,paper\n',
            "weights",
        ),
        ('object-discovery,VOC07,CorLoc,DINO-S/16,CAD,65.7,"LOST (keys, last block)",P,paper\n', "repair"),
        ("object-discovery,VOC07,CorLoc,DINO-S/16,none,61.9,some other LOST,P,paper\n", "protocol"),
        ("zero-shot-cls,ImageNet-1k,top1,OpenCLIP-L/14,none,76.4,CLIP zero-shot,P,paper\n", "could not be verified"),
        ('object-discovery,VOC99,CorLoc,DINO-S/16,none,61.9,"LOST (keys, last block)",P,paper\n', "data set"),
        (
            'object-discovery,VOC07,CorLoc,DINO-S/16,none,61.9,"LOST (keys, last block)",P,paper (secondary text)\n',
            "quoted",
        ),
    ],
)
def test_what_is_not_ours_is_published_only_with_the_reason(
    rekey: dict[str, Any], tmp_path: Path, line: str, reason: str
) -> None:
    none, (row,) = keyed(rekey, tmp_path, line)
    assert none == []
    assert reason in row["why"]


def test_guesses_are_never_shipped(rekey: dict[str, Any], tmp_path: Path) -> None:
    lines = [
        "a,b,c,d,none,1.0,p,s [memory],paper\n",
        "a,b,c,d,none,2.0,p,s,[inferred]\n",
        "a,b,c,d,none,?,p,s,paper\n",
    ]
    assert keyed(rekey, tmp_path, "".join(lines)) == ([], [])


def test_equal_rows_of_both_files_are_one_and_unequal_ones_two_with_the_closer_noise(
    rekey: dict[str, Any], tmp_path: Path
) -> None:
    protocol = '"DINOv2 lin, 3 seeds (95% CI about 0.1)"'
    reference = f"linear-seg,ADE20K,mIoU,DINOv2-L/14,none,48.27,{protocol},Jiang,paper\n"
    repairs = "none,DINOv2 ViT-L/14,ADE20k linear,mIoU,48.27±0.15,TTR Table 13,\nnone,DINOv2 ViT-L/14,ADE20k linear,mIoU,47.7,X,\n"
    matched, _ = keyed(rekey, tmp_path, reference, repairs)
    assert {(r["value"], r["noise"]) for r in matched} == {("48.27", "0.15"), ("47.7", "")}
    assert len(matched) == 2


def test_equal_values_of_two_methods_are_two_rows(rekey: dict[str, Any], tmp_path: Path) -> None:
    line = "object-discovery,VOC07,CorLoc,DINO-B/16,none,60.1,{},P,paper\n"
    lost, tokencut = '"LOST (keys, last block)"', '"TokenCut on output patch features, best tau, full res"'
    again = "none,DINO-B/16,VOC07-LOST,CorLoc,60.1,Q,\n"  # of no named protocol: the same as one of them
    matched, others = keyed(rekey, tmp_path, line.format(lost) + line.format(tokencut), again)
    assert [r["task"] for r in matched] == ["object_discovery@lost"]
    assert [r["their_protocol"] for r in others] == [tokencut.strip('"')]


def test_one_table_under_two_names_is_one(rekey: dict[str, Any], tmp_path: Path) -> None:
    sinder = "SINDER paper via third-party notes (table no. unverified)"
    reference = (
        "token-probe-cls,CIFAR10,acc,DINOv2-L/14,CLS token,99.4,linear probe on one token,Jiang,paper\n"
        "token-probe-cls,CIFAR10,acc,DINOv2-L/14 reg4,trained register,99.2,linear probe on one token,Jiang,paper\n"
        'detection,VOC07 test,mAP,DINOv2-B,DVT,81.9,"ViTDet Faster-RCNN, frozen",DVT paper,paper\n'
        "sinder,ADE20K,mIoU lin,DINOv2-g/14,none,48.83,DINOv2,SINDER paper/note,paper (secondary text)\n"
    )
    repairs = (
        "[CLS] token,DINOv2 ViT-L/14,CIFAR10 linear probe of that token,top1,99.4,TTR paper Table 1,\n"
        "trained register,DINOv2 ViT-L/14,CIFAR10 linear probe of that token,top1,99.2,TTR paper Table 1,\n"
        "DVT + fixed sinusoidal PE,DINOv2 ViT-B,VOC07test ViTDet-frozen,mAP,81.9,DVT paper Table S2,\n"
        f"none,DINOv2 ViT-g/14,ADE20k linear,mIoU,48.83,{sinder},\n"
    )
    none, others = keyed(rekey, tmp_path, reference, repairs)
    assert (none, sorted(r["value"] for r in others)) == ([], ["48.83", "81.9", "99.2", "99.4"])


def test_a_value_s_own_interval_goes_before_one_that_is_about(rekey: dict[str, Any], tmp_path: Path) -> None:
    reference = (
        'linear-depth,NYUv2,RMSE,DINOv2-L/14,none,0.3876,"DINOv2 lin, 3 seeds (95% CI about .0015)",Jiang,paper\n'
    )
    repairs = "none,DINOv2 ViT-L/14,NYUd linear,RMSE,0.3876±0.0014,TTR Table 13,\n"
    ((row,), none) = keyed(rekey, tmp_path, reference, repairs)
    assert (row["task"], row["metric"], row["noise"], none) == ("depth@dvt", "rmse", "0.0014", [])


def test_a_corloc_of_the_whole_image_box_is_flagged(rekey: dict[str, Any], tmp_path: Path) -> None:
    line = '{},{},CorLoc,DINO-S/16,none,{},"LOST (keys, last block)",P,paper\n'
    text = line.format("object-discovery", "VOC07", 30.8) + line.format("object-discovery", "VOC12", 64.0)
    matched, _ = keyed(rekey, tmp_path, text)
    assert sorted((r["dataset"], r["flag"][:9]) for r in matched) == [("voc2007", "suspected"), ("voc2012", "")]


def test_shipped_values_are_keyed_to_names_that_exist_and_are_no_guesses() -> None:
    shipped = rows(FOLDER / "matched.csv") + rows(FOLDER / "published_only.csv")
    assert len(shipped) > 1500
    assert not [r for r in shipped if any(t in text for t in ("[memory]", "[inferred]") for text in r.values())]
    for row in rows(FOLDER / "matched.csv"):
        assert row["backbone"] in BACKBONES
        assert row["repair"] in REPAIRS
        assert "own" not in row["their_backbone"]
        assert [ref.text for ref in expand_tasks(row["task"])] == [row["task"]]


def test_shipped_values_are_what_the_script_makes(rekey: dict[str, Any], tmp_path: Path, shared: Path) -> None:
    rekey["main"](shared / "published", tmp_path)
    for name in ("matched.csv", "published_only.csv"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_no_value_is_changed(shared: Path) -> None:
    collected = {
        r["value"].partition("±")[0]
        for n in ("reference_values", "repairs_results")
        for r in rows(shared / "published" / f"{n}.csv")
    }
    assert {r["value"] for n in ("matched", "published_only") for r in rows(FOLDER / f"{n}.csv")} <= collected


def test_references_come_with_the_known_noise_first() -> None:
    key = ("vit_large_patch14_dinov2.lvd142m", "none", "linear_segmentation@dinov2", "ade20k", "mIoU")
    first, *others = load_published()[key]
    assert (first.value, first.noise, first.confidence) == (48.27, 0.15, "paper")
    assert first.gap_in_noise(48.57) == pytest.approx(2.0)
    assert [r.value for r in others] == [47.7, 47.53]


def test_the_registers_repair_stands_beside_what_is_published_of_its_twin() -> None:
    published = load_published()
    cell = ("linear_segmentation@dinov2", "ade20k", "mIoU")
    twin = known_of(published, ("vit_large_patch14_dinov2.lvd142m", "registers", *cell))
    assert twin == published["vit_large_patch14_reg4_dinov2.lvd142m", "none", *cell]
    assert known_of(published, ("lab_ssl", "registers", *cell)) == ()


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "backbone,repair,task,dataset,metric,value,source,confidence,noise,flag\na,b,c,d,e,high,s,paper,,\n"
    )
    with pytest.raises(UsageError, match="line 2"):
        load_published(path)
    assert load_published(tmp_path / "nowhere.csv") == {}


def test_numbers_of_a_memory_from_trainaug_are_kept_apart_from_those_of_train() -> None:
    datasets = {key[3] for key in load_published() if key[2].startswith("knn_segmentation@hummingbird")}
    assert datasets == {"voc2012_aug"}


def test_depth_of_one_and_of_four_blocks_stands_beside_its_own_protocol() -> None:
    published, backbone = load_published(), "vit_small_patch14_dinov2.lvd142m"
    for protocol, value in (("dinov2", 0.449), ("dinov2_lin4", 0.417)):
        [found] = published[backbone, "none", f"depth@{protocol}", "nyu_depth_v2", "rmse"]
        assert found.value == value


def test_dvt_s_tables_stand_beside_the_protocols_of_its_suite_and_others_own_runs_do_not() -> None:
    published, backbone = load_published(), "vit_base_patch14_dinov2.lvd142m"
    for repair, values in (("none", {83.52, 83.6}), ("dvt", {84.84})):
        found = published[backbone, repair, "linear_segmentation@dinov2", "voc2012", "mIoU"]
        # PH-Reg's 84.13 and 85.43 are of other crops and another batch.
        assert {r.value for r in found if "DVT" in r.source or "Denoising" in r.source} == values
        assert not [r for r in found if "PH-Reg" in r.source]
    assert {r.value for r in published[backbone, "none", "depth@dvt", "nyu_depth_v2", "rmse"]} == {0.3965, 0.4034}


def test_every_measure_of_a_published_table_stands_beside_ours() -> None:
    published, backbone = load_published(), "vit_small_patch16_224.dino"
    told = {metric: published[backbone, "none", "label_propagation@dino", "davis2017", metric] for metric in ("J", "F")}
    assert [told[metric][0].value for metric in ("J", "F")] == [60.2, 63.4]
    assert (backbone, "none", "saliency@tokencut", "ecssd", "IoU") in published
    # The reference's maxF is that of a mask.
    assert (backbone, "none", "saliency@tokencut", "ecssd", "maxF") not in published
    sizes = {
        key[2].partition("memory_size=")[2] for key in published if key[2].startswith("knn_segmentation@hummingbird")
    }
    assert sizes == {"", "1024000]", "10240000]"}
