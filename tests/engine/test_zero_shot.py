"""Zero-shot cells from plan to record: one file for both towers, edits count, maps of patches do not, and honest statuses."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.backbones.clip import SIDE, package, tiny_card, tiny_clip
from vitbench.backbones.text_tower import OpenClipLanguage
from vitbench.catalogue import BACKBONES
from vitbench.catalogue.language import TextTower, describe_text
from vitbench.choices import Filters, choose
from vitbench.engine.local import run
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import Workspace
from vitbench.jobs import CellJob, Plan
from vitbench.plan import make_plan
from vitbench.records.schema import Record
from vitbench.records.store import find

TASK = f"zero_shot_classification[image_px={SIDE}]"
NAMES = ("red fox", "grey_owl", "tree frog")


class Silent:
    def started(self, _job: Any) -> None:
        return None

    def finished(self, _job: Any, _outcome: Any) -> None:
        return None


class Cells:
    """A folder of twelve labelled images, and a tiny CLIP that is registered under one name and given by one file."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VITBENCH_DATA", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        _, self.file = tiny_clip("ViT-B-16", tmp_path)
        card = tiny_card("ViT-B-16", TextTower(self.file.stem))
        monkeypatch.setattr(BACKBONES, "_cards", {c.name: c for c in (*BACKBONES, card)})
        self.folder, self.root = tmp_path / "photos", tmp_path
        self.label(NAMES)

    def label(self, names: tuple[str, ...]) -> None:
        rng = np.random.default_rng(0)
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        lines = ["file,label"]
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(
                self.folder / "images" / f"{i:02}.png"
            )
            lines.append(f"{i:02}.png,{names[i % len(names)]}")
        (self.folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def options(self, file: Path | None = None) -> RunOptions:
        weights = (("tiny_clip", str(file or self.file)),)
        return RunOptions(
            records=self.root / "runs", cache=self.root / "cache", weights=weights, offline=True, workers=0, decoders=0,
            device="cpu",
        )  # fmt: skip

    def plan(self, repairs: str = "none", backbone: str = "tiny_clip", file: Path | None = None) -> Plan:
        filters = Filters.parse(backbone, repairs, TASK, f"folder:{self.folder}", dtype="float32")
        return make_plan(choose(None, filters).choices, Workspace(self.options(file)))

    def run(self, repairs: str, file: Path | None = None) -> dict[str, Record]:
        plan, options = self.plan(repairs, file=file), self.options(file)
        run(plan, options, Silent())
        return {cell.slot.repair: self.record(cell) for cell in plan.cells}

    def record(self, cell: CellJob) -> Record:
        found = find(self.root / "runs", cell.slot, cell.identity)
        assert found is not None
        return found


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    return Cells(tmp_path, monkeypatch)


def test_one_file_serves_both_towers_and_every_repair_asks_the_text_tower_once(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    classifier = OpenClipLanguage.classifier
    monkeypatch.setattr(
        OpenClipLanguage, "classifier", lambda self, prompts: (asked.append(len(prompts)), classifier(self, prompts))[1]
    )
    records = cells.run("none,sparse_attention,test_time_registers,median3,remove_top_components")
    statuses = {name: record.status for name, record in records.items()}
    assert statuses == {
        "none": "ok", "sparse_attention": "ok", "test_time_registers": "ok", "median3": "not_applicable",
        "remove_top_components": "ok",
    }  # fmt: skip
    assert asked == [3]
    assert "does not act on 'cls'" in str(records["median3"].reason)
    flags = records["none"].flags
    assert (flags["classes"], flags["prompts_per_class"]) == (3, 80)
    metric = records["none"].metrics["top1"]
    assert metric.ci_low is not None
    assert metric.n == 6


def test_an_edit_changes_the_image_embedding(cells: Cells) -> None:
    plan = cells.plan("none,sparse_attention")
    run(plan, cells.options(), Silent())
    from vitbench.tokens.store import StoredTokens

    plain, edited = (
        torch.cat([t["cls"] for t in StoredTokens(cells.options().tokens, cell.stores["val"], ("cls",))])
        for cell in plan.cells
    )
    assert not torch.allclose(plain.float(), edited.float(), atol=1e-2)


def test_channels_that_a_map_drops_leave_the_shared_space(cells: Cells) -> None:
    record = cells.run("remove_high_variance[m=5,field=cls]")["remove_high_variance[m=5,field=cls]"]
    assert record.status == "not_applicable"
    assert "takes 64 channels of CLS, not 59" in str(record.reason)


def test_the_text_tower_and_the_names_are_part_of_the_identity(cells: Cells) -> None:
    [first] = cells.plan().cells
    language = first.components["language"]
    assert language["model"] == cells.file.stem
    assert language["digest"] == first.components["backbone"]["digest"]
    cells.label(("red fox", "grey_owl", "frog"))
    [renamed] = cells.plan().cells
    assert renamed.components["language"]["classes"] != language["classes"]
    assert renamed.identity != first.identity


def test_a_file_of_the_image_tower_alone_makes_the_cell_unavailable(cells: Cells) -> None:
    state = {k: v for k, v in torch.load(cells.file).items() if k.startswith("visual.")}
    torch.save(state, cells.root / "image.pt")
    record = cells.run("none", cells.root / "image.pt")["none"]
    assert record.status == "unavailable"
    assert "hold no text tower" in str(record.reason)


def test_numbers_in_place_of_names_make_the_cell_unavailable_with_the_remedy(cells: Cells) -> None:
    cells.label(("0", "1", "2"))
    [cell] = cells.plan().cells
    assert (cell.status, "'0' is not a name" in cell.reason, "labels.csv" in cell.remedy) == ("unavailable", True, True)


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("vit_base_patch14_dinov2.lvd142m", "was not trained with a text tower"),
        ("lab_ssl", "was not trained with a text tower"),
        ("vit_base_patch16_clip_384.laion2b_ft_in12k_in1k", "was not trained with a text tower"),
        ("vit_base_patch16_siglip_224.v2_webli", "pooled by attention"),
        ("timm:vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai is that model"),
    ],
)
def test_backbones_without_a_text_tower_are_not_applicable(cells: Cells, backbone: str, reason: str) -> None:
    [cell] = cells.plan(backbone=backbone).cells
    assert cell.status == "not_applicable"
    assert reason in cell.reason


def test_without_the_extra_the_cell_is_unavailable_with_the_remedy(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "open_clip" else found(name, *rest)
    )
    [cell] = cells.plan().cells
    assert (cell.status, cell.remedy) == ("unavailable", "pip install 'vitbench[open_clip]'")


def test_weights_that_are_not_here_name_the_file_and_the_repository(cells: Cells) -> None:
    [cell] = cells.plan(backbone="vit_base_patch16_clip_224.laion2b").cells
    assert cell.status == "unavailable"
    assert "--weights vit_base_patch16_clip_224.laion2b=FILE" in cell.remedy
    assert "hf download laion/CLIP-ViT-B-16-laion2B-s34B-b88K" in cell.remedy


def test_the_hubs_file_with_both_towers_is_found_in_its_cache(cells: Cells) -> None:
    package()
    name, repo = "vit_base_patch16_clip_224.laion2b", "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K"
    assert describe_text(name).status == "download"
    folder = cells.root / "hub" / repo
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    file = folder / "snapshots" / ("a" * 40) / "open_clip_model.safetensors"
    file.write_bytes(b"")
    state = describe_text(name, offline=True)
    assert (state.status, state.digest, state.path) == ("ready", "a" * 16, str(file))
