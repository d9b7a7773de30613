"""Depth metrics against the original toolbox and against plain formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitbench.metrics.depth import MEASURES, NAMES, eigen_crop, garg_crop, image_metrics
from vitbench.records.rows import Rows

TOOLBOX = {"d1": "a1", "d2": "a2", "d3": "a3", "log10": "log_10"}


def values(rows: Rows) -> dict[str, float]:
    return {m.name: float(m.value(rows.sums(), {})) for m in MEASURES}


def test_equals_the_monocular_depth_toolbox(shared: Path):
    golden = np.load(shared / "golden" / "depth_metrics.npz")
    names = list(golden["metric_names"])
    crop = eigen_crop(480, 640)
    y0, y1, x0, x1 = golden["nyu_eigen__crop_y0y1x0x1"]
    assert crop.sum() == crop[y0:y1, x0:x1].sum() == (y1 - y0) * (x1 - x0)
    images = []
    for i in range(3):
        depth = golden["nyu_eigen__gt_u16"][i] / 1000.0
        valid = crop & (depth > 1e-3) & (depth < 10)
        images.append(image_metrics(golden["nyu_eigen__pred_f16"][i].astype(np.float32), depth, valid))
        assert images[-1]["n_pixels"] == golden["nyu_eigen__n_valid"][i]
    assert images[2]["n"] == 0
    rows = Rows(("0", "1", "2"), ("0", "1", "2"), {k: np.array([im[k] for im in images]) for k in images[0]})
    for measure in (m for m in MEASURES if m.name in NAMES):
        column = names.index(TOOLBOX.get(measure.name, measure.name))
        scale = 100 if measure.unit == "%" else 1
        assert measure.value(rows.sums(), {}) == pytest.approx(scale * golden["nyu_eigen__mean"][column], abs=1e-5)


def test_rmse_is_a_mean_over_images_not_one_root_over_all_pixels():
    near = image_metrics(np.full(4, 2.0), np.full(4, 1.0), np.ones(4, bool))
    far = image_metrics(np.full(4, 4.0), np.full(4, 1.0), np.ones(4, bool))
    rows = Rows(("a", "b"), ("a", "b"), {k: np.array([near[k], far[k]]) for k in near})
    assert values(rows)["rmse"] == pytest.approx((1 + 3) / 2)
    assert values(rows)["rmse"] < values(rows)["rmse_of_images"]
    assert values(rows)["rmse_of_images"] == values(rows)["rmse_of_pixels"] == pytest.approx(np.sqrt((1 + 9) / 2))


def test_one_root_at_the_end_weights_images_or_pixels_alike():
    rng = np.random.default_rng(0)
    p, g, valid = rng.uniform(0.5, 5, (3, 8)), rng.uniform(0.5, 5, (3, 8)), rng.random((3, 8)) < [[0.9], [0.4], [0.0]]
    images = [image_metrics(*image) for image in zip(p, g, valid, strict=True)]
    rows = Rows(("0", "1", "2"), ("0", "1", "2"), {k: np.array([im[k] for im in images]) for k in images[0]})
    errors = [(a - b)[v] ** 2 for a, b, v in zip(p, g, valid, strict=True)]
    assert values(rows)["rmse_of_pixels"] == pytest.approx(np.sqrt(np.concatenate(errors).mean()))
    assert values(rows)["rmse_of_images"] == pytest.approx(np.sqrt(np.mean([e.mean() for e in errors[:2]])))
    assert values(rows)["rmse"] == pytest.approx(np.mean([np.sqrt(e.mean()) for e in errors[:2]]))


def test_formulas_against_pixel_loops():
    rng = np.random.default_rng(0)
    p, g, valid = rng.uniform(0.5, 5, 50), rng.uniform(0.5, 5, 50), rng.random(50) < 0.7
    found = image_metrics(p, g, valid)
    pairs = [(a, b) for a, b, v in zip(p, g, valid, strict=True) if v]
    n = len(pairs)
    errors = [np.log(a) - np.log(b) for a, b in pairs]
    assert found["d2"] == pytest.approx(100 * sum(max(a / b, b / a) < 1.5625 for a, b in pairs) / n)
    assert found["abs_rel"] == pytest.approx(sum(abs(a - b) / b for a, b in pairs) / n)
    assert found["sq_rel"] == pytest.approx(sum((a - b) ** 2 / b for a, b in pairs) / n)
    assert found["log10"] == pytest.approx(sum(abs(np.log10(a) - np.log10(b)) for a, b in pairs) / n)
    assert found["rmse_log"] == pytest.approx(np.sqrt(sum(e * e for e in errors) / n))
    assert found["silog"] == pytest.approx(100 * np.sqrt(sum(e * e for e in errors) / n - (sum(errors) / n) ** 2))


@pytest.mark.parametrize("hw", [(480, 640), (240, 320), (352, 1216), (375, 1242), (47, 61), (1, 1), (3, 200)])
def test_crops_are_those_of_the_written_fractions_at_any_size(hw: tuple[int, int]):
    h, w = hw
    eigen, garg = np.zeros(hw, bool), np.zeros(hw, bool)
    eigen[round(45 * h / 480) : round(471 * h / 480), round(41 * w / 640) : round(601 * w / 640)] = True
    garg[int(0.40810811 * h) : int(0.99189189 * h), int(0.03594771 * w) : int(0.96405229 * w)] = True
    assert np.array_equal(eigen_crop(*hw), eigen)
    assert np.array_equal(garg_crop(*hw), garg)


def test_depths_at_the_ends_of_the_range_and_perfect_ones_are_silent():
    depth, valid = np.array([0.5, 2.0, 9.0, 0.0], np.float32), np.array([True, True, True, False])
    perfect = image_metrics(depth, depth, valid)
    assert [perfect[n] for n in ("d1", "d2", "d3")] == [100] * 3
    assert [perfect[n] for n in ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")] == [0] * 6
    clamped = image_metrics(np.array([1e-3, 10, 10, 1e-3], np.float32), depth, valid)
    assert clamped["d1"] == pytest.approx(100 / 3)
    assert clamped["abs_rel"] == pytest.approx((0.499 / 0.5 + 4 + 1 / 9) / 3, rel=1e-6)
    # The ratio has to be below 1.25: at 1.25 itself it is not.
    assert image_metrics(np.array([1.25, 0.8]), np.ones(2), np.ones(2, bool))["d1"] == 0


def test_a_global_scale_does_not_change_silog():
    rng = np.random.default_rng(0)
    g, p, valid = rng.uniform(1, 5, 30), rng.uniform(1, 5, 30), np.ones(30, bool)
    assert image_metrics(3 * p, g, valid)["silog"] == pytest.approx(image_metrics(p, g, valid)["silog"])


def test_no_valid_pixel_at_all_is_undefined_and_silent():
    empty = image_metrics(np.ones(3), np.ones(3), np.zeros(3, bool))
    rows = Rows(("a",), ("a",), {k: np.array([v]) for k, v in empty.items()})
    assert {m.name for m in MEASURES} == {*NAMES, "rmse_of_images", "rmse_of_pixels"}
    assert all(np.isnan(m.value(rows.sums(), {})) for m in MEASURES)
