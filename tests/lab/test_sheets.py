"""The contact sheets draw every column of every scene."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitbench.lab import sheets


def test_a_sheet_has_a_row_per_scene_and_a_column_per_target() -> None:
    figure = sheets.sheet(2, [0, 1], size=48)
    assert len(figure.axes) == 2 * len(sheets.COLUMNS)
    assert all(axis.images for axis in figure.axes)


def test_the_flow_of_all_frames_but_the_last_is_drawn() -> None:
    figure = sheets.clip_sheet(2, 0, frames=3, size=48)
    assert [bool(axis.images) for axis in figure.axes] == [True, True, True, True, True, False]


def test_the_command_writes_two_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, clip = sheets.sheet, sheets.clip_sheet
    monkeypatch.setattr(sheets, "sheet", lambda seed, indices: small(seed, indices[:1], 32))
    monkeypatch.setattr(sheets, "clip_sheet", lambda seed, index: clip(seed, index, 2, 32))
    sheets.main(str(tmp_path / "out.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"out.png", "out-clip.png"}
