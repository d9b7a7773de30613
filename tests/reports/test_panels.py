"""Panels, the figure and the page of inspect: what is drawn is what was seen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.reports.looked import inspection
from vitbench.reports.colours import heat
from vitbench.reports.inspect_figure import figure
from vitbench.reports.inspect_page import numbers_table, page, quantised
from vitbench.reports.panels import UNTOUCHED, _similar, block_norms, kinds, strips

HOSTILE = "<script>alert(1)</script>"


def panel(image: int, repair: str, kind: str):
    [strip] = [s for s in strips(inspection())[image] if s.repair == repair]
    return next((p for p in strip.panels if p.kind == kind), None)


def test_a_box_that_the_repair_does_not_touch_is_no_effect_of_it() -> None:
    assert panel(0, "none", "lost").caption == "17% of image"
    assert panel(0, "center", "lost").caption == "17% of image"
    assert panel(0, "maskclip", "lost").caption == UNTOUCHED
    assert panel(0, "center", "cls").caption == UNTOUCHED
    assert panel(0, "maskclip", "cls").caption != UNTOUCHED


def test_boxes_and_marks_lie_where_the_cells_are() -> None:
    photo = panel(0, "none", "lost")
    assert photo.box == pytest.approx((1 / 6, 0, 2 / 6, 2 / 4))
    assert photo.mark == pytest.approx((2.5 / 6, 1.5 / 4))
    assert panel(1, "none", "similar +").mark == pytest.approx((2.5 / 5, 2.5 / 5))


def test_tokens_that_are_all_alike_are_bright_and_a_cosine_of_zero_has_no_minus() -> None:
    look = inspection().rows[0].looks[0]
    alike = _similar(replace(look, patch=np.ones((1, 1, 10), np.float32)), (0, 0), "+")
    assert alike.caption == "1.00 to 1"
    assert alike.pixels[0, 0].tolist() == heat(np.ones((1, 1)), 0, 1)[0, 0].tolist()
    apart = np.array([[[1, 0], [-0.001, 1]]], np.float32)
    assert _similar(replace(look, patch=apart), (0, 0), "+").caption == "0.00 to 1"
    assert _similar(replace(look, patch=apart * [1, -1] + [[[0, 0], [-1, 0]]]), (0, 0), "+").caption == "−0.71 to 1"


def test_outliers_are_counted_and_drawn() -> None:
    found = panel(0, "none", "outliers")
    assert found.caption == "1 of 24"
    assert found.pixels.shape == (4, 6, 3)
    assert len(set(found.pixels[0, 1].tolist())) > 1  # orange, the rest is grey
    assert len(set(found.pixels[2, 2].tolist())) == 1


def test_kinds_are_columns_that_a_strip_may_leave_empty() -> None:
    drawn = strips(inspection())
    assert "registers" in kinds(drawn)
    assert panel(0, "none", "registers") is None
    assert panel(0, "registers", "registers") is not None
    assert kinds(drawn).index("registers") < kinds(drawn).index("segmentation")


def test_norms_after_blocks_are_one_line_per_forward() -> None:
    assert [n.repair for n in block_norms(inspection().seen)] == ["none", "maskclip", "registers"]
    none = block_norms(inspection().seen)[0]
    assert none.largest == (200.0, 400.0)
    assert none.low[1] <= none.median[1] <= none.high[1]


def test_the_figure_has_a_row_per_image_and_repair_and_names_are_no_formulas(tmp_path: Path) -> None:
    made = figure(inspection(name="a$b$c_{", repair="x$^y"))
    made.savefig(tmp_path / "x.png", dpi=30)
    with Image.open(tmp_path / "x.png") as drawn:
        assert drawn.size[1] > drawn.size[0] * 0.8
    texts = [t.get_text() for t in made.texts]
    assert texts.count("x$^y") == 2
    assert any("nothing to clip" in t for t in texts)
    assert len(made.axes) == sum(len(s.panels) for image in strips(inspection()) for s in image) + 1
    assert {axes.get_aspect() for axes in made.axes[:-1]} == {1.0}  # no image is stretched, however high


def test_quantised_tokens_keep_their_cosines() -> None:
    rng = np.random.default_rng(0)
    patch = (rng.normal(size=(12, 12, 3)) @ rng.normal(size=(3, 64)) + 0.1 * rng.normal(size=(12, 12, 64))).astype(
        np.float32
    )
    codes = quantised(patch).astype(np.float64)
    assert codes.shape[1] < 64

    def cosines(x: np.ndarray) -> np.ndarray:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return x @ x.T

    assert np.abs(cosines(codes) - cosines(patch.reshape(-1, 64).astype(np.float64))).max() < 0.03


def test_the_numbers_have_no_worst_block_for_a_map() -> None:
    headers, lines = numbers_table(inspection())
    found = {line[0]: line[1:] for line in lines}
    assert len(headers) == 6
    assert set(found) == {"none", "center", "maskclip", "registers"}
    assert found["center"][-1] == "–"
    assert found["none"][-1] != "–"


def test_the_page_of_inspect_escapes_names_and_asks_for_nothing() -> None:
    text = page(inspection(name=HOSTILE, repair=HOSTILE))
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    assert not re.findall(r"""(?:src|href)=["']?(?!data:|#|\{)\w""", text)
    assert "url(" not in text
    assert "@import" not in text
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    images = json.loads(data)["images"]
    assert [(i["h"], i["w"], len(i["rows"])) for i in images] == [(4, 6, 4), (5, 5, 4)]
