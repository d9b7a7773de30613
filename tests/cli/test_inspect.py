"""`vitbench inspect`: files written, numbers printed, and one clear line for what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitbench.cli import main
from vitbench.cli.inspect import chosen
from vitbench.errors import UsageError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_a_figure_and_a_page_are_written_and_the_numbers_printed(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("patch_colour,center,registers", str(photo), "--fit-images", "2", "--image-px", "48") == 0
    out, err = capsys.readouterr()
    assert "none" in out
    assert "center" in out
    assert "largest ÷ median" in out
    assert "not shown: registers: patch_colour has no register twin" in err
    with Image.open("inspect-patch_colour.png") as png:
        assert png.size[0] > 400
    page = Path("inspect-patch_colour.html").read_text()
    assert "photo.jpg" in page
    assert 'viewBox="0 0' not in page
    assert "wrote inspect-patch_colour.png and inspect-patch_colour.html" in out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("lab_ssl", "nowhere.jpg"), "there is no file nowhere.jpg"),
        (("lab_*", "scenes:0"), "inspect looks at one"),
        (("lab_sll", "scenes:0"), "lab_ssl"),
        (("lab_ssl,zzscore", "scenes:0"), "zscore"),
        (("lab_ssl", "scenes:0", "--dtype", "int8"), "--dtype 'int8'"),
        (("patch_colour", "nowhere.jpg", "--out", "x.pdf"), "ends in .png"),  # before anything is looked at
        (("patch_colour", "scenes:0", "--out", "no/such/folder/x.png"), "cannot write no/such/folder/x.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) in (1, 2)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("vitbench: ")
    assert said in line


def test_none_comes_first_and_names_become_canonical() -> None:
    assert chosen("lab_ssl+outliers, zscore,none,remove_high_variance[m=10]") == (
        "lab_ssl+outliers",
        ["none", "zscore", "remove_high_variance[m=10]"],
    )
    with pytest.raises(UsageError, match="no backbone"):
        chosen("")


def test_a_real_photo_through_real_weights(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "deit_tiny_patch16_224.fb_in1k"
    photo = min((shared / "data/coco128/val/images").iterdir())
    weights = f"{name}={shared}/data/weights/deit_tiny_patch16_224.safetensors"
    assert (
        run(
            f"{name},unit",
            str(photo),
            "--weights",
            weights,
            "--image-px",
            "160",
            "--out",
            str(tmp_path / "x.png"),
            "--offline",
        )
        == 0
    )
    numbers = capsys.readouterr().out
    assert "unit" in numbers
    assert (tmp_path / "x.png").stat().st_size > 20_000
    assert (tmp_path / "x.html").read_text().count("<canvas") == 2
