"""A checkpoint series as an axis: `--weights 'NAME@{step}=...'` is one backbone per file, `-b 'NAME@*'` selects them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vitbench.catalogue.resolve import expand_backbones
from vitbench.catalogue.series import expand_series
from vitbench.choices import Filters, choose
from vitbench.cli.options import axis_filter, suite_slots
from vitbench.engine.options import RunOptions, parse_weights
from vitbench.engine.workspace import Workspace
from vitbench.errors import UsageError
from vitbench.identity import Slot
from vitbench.plan import make_plan
from vitbench.records.index import Loaded


@pytest.fixture
def series(tmp_path: Path) -> Path:
    for step in (100, 20, 5):
        (tmp_path / f"m-{step}.safetensors").write_bytes(f"weights {step}".encode())
    (tmp_path / "m.safetensors").write_bytes(b"last")
    return tmp_path


def test_every_file_is_a_checkpoint_in_the_order_of_the_steps(series: Path) -> None:
    found = parse_weights([f"lab_ssl@{{step}}={series}/m-{{step}}.safetensors", "lab_mae=x.pth"])
    assert [name for name, _ in found] == ["lab_ssl@5", "lab_ssl@20", "lab_ssl@100", "lab_mae"]
    assert found[1][1] == str(series / "m-20.safetensors")


def test_the_step_may_be_a_folder_and_brackets_in_a_path_are_letters(tmp_path: Path) -> None:
    for step in ("0010", "2"):
        (tmp_path / "run[a]" / f"step{step}").mkdir(parents=True)
        (tmp_path / "run[a]" / f"step{step}" / "model.pth").touch()
    found = expand_series("lab_ssl@{step}", f"{tmp_path}/run[a]/step{{step}}/model.pth")
    assert [name for name, _ in found] == ["lab_ssl@2", "lab_ssl@10"]


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("lab_ssl@{step}", "n-{step}.safetensors", "no file matches"),
        ("lab_ssl@{step}", "{step}/m-{step}.safetensors", "2 placeholders"),
        ("lab_ssl@{step}", "m-5.safetensors", "0 placeholders"),
        ("lab_ssl", "m-{step}.safetensors", r"the name is not NAME@\{step\}"),
        ("lab_ssl@{step}@{step}", "m-{step}.safetensors", r"the name is not NAME@\{step\}"),
        ("lab_ssl@{step}", "m{step}.safetensors", "is no step number"),
    ],
)
def test_a_series_that_cannot_be_read_says_why(series: Path, name: str, path: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        expand_series(name, f"{series}/{path}")


def test_two_files_of_one_step_are_refused(series: Path) -> None:
    (series / "m-005.safetensors").touch()
    with pytest.raises(UsageError, match="both step 5"):
        expand_series("lab_ssl@{step}", f"{series}/m-{{step}}.safetensors")


@pytest.mark.parametrize("pattern", ["lab_ssl@*", "lab_ssl@{step}", "lab_s*@*"])
def test_a_pattern_selects_the_series(pattern: str) -> None:
    given = ["lab_ssl@5", "lab_ssl@20", "lab_mae@7"]
    assert expand_backbones(pattern, given) == ["lab_ssl@5", "lab_ssl@20"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("lab_ssl", {"lab_ssl"}),
        ("lab_ssl@*", {"lab_ssl@5", "lab_ssl@20+grid"}),
        ("lab_ssl@{step}", {"lab_ssl@5", "lab_ssl@20+grid"}),
        ("lab_ssl@20+grid", {"lab_ssl@20+grid"}),
        ("lab_ssl*", {"lab_ssl", "lab_ssl@5", "lab_ssl@20+grid"}),
    ],
)
def test_a_filter_by_name_selects_the_final_weights_and_a_glob_the_series(given: str, kept: set[str]) -> None:
    names = ("lab_ssl", "lab_ssl@5", "lab_ssl@20+grid", "lab_mae")
    wanted = axis_filter(given, None, "depth", None)
    assert {name for name in names if wanted(name, "none", "depth@ridge[image_px=96]", "scenes")} == kept
    assert not wanted("lab_ssl", "none", "rank@patches", "scenes")


def test_one_checkpoint_with_a_defect_is_a_name_of_its_own() -> None:
    assert expand_backbones("lab_ssl@20+grid") == ["lab_ssl@20+grid"]
    assert expand_backbones("timm:vit_tiny_patch16_224@*", ["timm:vit_tiny_patch16_224@3"])[0].endswith("@3")


def test_a_series_without_weights_says_how_to_give_them() -> None:
    with pytest.raises(UsageError, match=r"no checkpoint matches 'lab_ssl@\*'.*--weights 'lab_ssl@\{step\}="):
        expand_backbones("lab_ssl@*", ["lab_mae@5"])
    with pytest.raises(UsageError, match="unknown backbone 'lab_sssl'"):
        expand_backbones("lab_sssl@*", ["lab_ssl@5"])


def test_a_series_in_a_suite_means_the_checkpoints_that_have_records(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'name = "mine"\n[[select]]\nbackbones = ["lab_ssl@*"]\ntasks = ["knn_classification"]\ndatasets = ["scenes"]\n'
    )
    names = ("lab_ssl@5+grid", "lab_ssl@20", "lab_mae@7", "lab_ssl")
    entries = tuple(SimpleNamespace(slot=Slot(name, "none", "depth@ridge", "scenes", 0)) for name in names)
    found = suite_slots(str(suite), Loaded(entries))  # type: ignore[arg-type]
    assert {slot.backbone for slot in found} == {"lab_ssl@5", "lab_ssl@20"}


def test_each_checkpoint_is_planned_with_the_digest_of_its_file(series: Path) -> None:
    weights = parse_weights([f"lab_ssl@{{step}}={series}/m-{{step}}.safetensors"])
    filters = Filters.parse("lab_ssl@{step}", "none", "knn_classification", "scenes", limit=4)
    chosen = choose(None, filters, checkpoints=[name for name, _ in weights])
    world = Workspace(RunOptions(records=series / "runs", cache=series / "cache", weights=weights))
    cells = make_plan(chosen.choices, world).cells
    assert [c.slot.backbone for c in cells] == ["lab_ssl@5", "lab_ssl@20", "lab_ssl@100"]
    assert len({c.components["backbone"]["digest"] for c in cells}) == 3
    assert {c.components["backbone"]["loader"] for c in cells} == {"file"}
