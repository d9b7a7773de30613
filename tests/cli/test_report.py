"""`vitbench report`: a page from a folder of records, with and without galleries."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitbench.cli import main

RECORDS = Path(__file__).parents[2] / "results"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    return int(stop.value.code or 0)


def test_the_accepted_records_make_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert run("--records", str(RECORDS), "--no-gallery", "--out", str(out)) == 0
    text = out.read_text()
    assert f"wrote {out}" in capsys.readouterr().out
    for section in ("overview", "leaderboard", "repairs", "recovery", "norms", "cost", "provenance"):
        assert f'id="{section}"' in text
    assert 'id="gallery"' not in text
    assert "Outlier tokens, planted defects" in text
    assert len(text) < 2e6


def test_axes_narrow_the_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert run("--records", str(RECORDS), "--no-gallery", "--out", str(out), "-b", "lab_ssl", "-t", "depth") == 0
    text = out.read_text()
    assert "lab_sup" not in text
    assert "knn_segmentation" not in text
    assert "position_mean" in text


def test_galleries_show_what_repairs_do_and_say_what_is_not_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, out = tmp_path / "runs", tmp_path / "page.html"
    code = [
        "run",
        "-b",
        "patch_colour",
        "-r",
        "none,unit",
        "-t",
        "depth",
        "-d",
        "scenes",
        "--limit",
        "4",
        "--workers",
        "0",
    ]
    with pytest.raises(SystemExit):
        main([*code, "--records", str(records), "--cache", str(tmp_path / "cache")])
    assert run("--records", str(records), "--images", "scenes:0", "--out", str(out)) == 0
    text = out.read_text()
    assert 'id="gallery"' in text
    assert text.count("data:image/png") >= 6
    assert "unit" in text


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (("--records", "nowhere"), 3, "no records in nowhere"),
        (("--records", str(RECORDS), "-b", "nothing_such", "--no-gallery"), 3, "for this selection"),
        (
            ("--records", str(RECORDS), "--no-gallery", "--out", "no/folder/page.html"),
            2,
            "cannot write no/folder/page.html",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == code
    assert said in capsys.readouterr().err
