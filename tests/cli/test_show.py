"""`vitbench show` of a data set: what its card says, as people read it."""

from __future__ import annotations

import json

from tests.cli.conftest import Run


def test_a_card_shows_licence_size_source_and_the_names_of_its_classes(run: Run) -> None:
    code, out, _ = run("show", "camvid")
    assert code == 0
    assert "licence: CC-BY-NC-4.0" in out
    assert "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/" in out
    assert "classes: sky, building, pole" in out
    assert "class_file" not in out


def test_a_count_that_is_not_known_is_not_shown_as_none(run: Run) -> None:
    _, out, _ = run("show", "navi")
    assert "train: not counted" in out
    assert "wild: 2298" in out
    assert "size: 16 GB" in out


def test_downloads_are_listed_with_their_checksums(run: Run) -> None:
    _, out, _ = run("show", "cub")
    assert "downloads:\n      url: https://data.caltech.edu/" in out
    assert "md5: 97eceeb196236b17998738112f37df78" in out


def test_as_json_a_card_keeps_its_fields(run: Run) -> None:
    _, out, _ = run("show", "navi", "--json")
    card = json.loads(out)
    assert card["splits"] == {"train": 0, "val": 0, "wild": 2298}
    assert card["source"] == "Jampani et al. 2023, arXiv 2306.09109"
