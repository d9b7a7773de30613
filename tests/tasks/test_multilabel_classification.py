"""Images that show several classes: what counts, what is chosen where, and splits that hold next to nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from vitbench.catalogue.tasks.multilabel import MultilabelSettings
from vitbench.errors import DataError
from vitbench.metrics import measures
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.multilabel_classification import MultilabelClassification, Shown, marks_of

from .streams import batch, context, scenes_stream

CONTEXT = context(6, (2, 3, 4, 5), 4)
LIGHT = MultilabelSettings(c_low=-2, c_high=1, c_steps=4)


def run(train, val, ctx=CONTEXT, **changes):
    task = MultilabelClassification(dataclasses.replace(LIGHT, **changes))
    head = task.fit(train, ctx)
    rows = task.measure(head, val, ctx)
    values = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("multilabel", rows.info)}
    return rows, values, task.flags(head, rows)


def stream(shown, split="train", seed=0, unsure=None):
    """One image per list of classes; tokens tell which, unsure ones half."""
    rng = np.random.default_rng(seed)
    unsure = unsure or [[] for _ in shown]
    known = np.stack([[(k in s) + 0.5 * (k in u) for k in range(4)] for s, u in zip(shown, unsure, strict=True)])
    cls = torch.from_numpy((known + 0.1 * rng.normal(size=known.shape)).astype(np.float32))
    targets = [{"image_hw": (8, 8), "labels": s, "labels_unsure": u} for s, u in zip(shown, unsure, strict=True)]
    return MemoryStream([batch({"cls": cls}, targets, prefix=split)], split)


SEVERAL = [[0], [1], [0, 1], [2], [], [3, 0], [1, 2], [3]] * 3


def test_marks_are_present_absent_or_unsure_and_present_wins():
    marks = marks_of([Shown((0, 2), (1, 2)), Shown((), ())], ("a", "b"), 4)
    assert marks.tolist() == [[1, -1, 1, 0], [0, 0, 0, 0]]
    assert Shown.of({"labels": [1]}) == Shown((1,), ())  # a data set that marks nothing as difficult


def test_the_map_is_the_mean_over_classes_of_scikit_learns_area():
    train, val = scenes_stream(40, "train", 0, noise=3.0), scenes_stream(40, "val", 1, noise=3.0)
    rows, values, _ = run(train, val, ap="area")
    expected = []
    for k in range(4):
        mark, score = rows.stats["mark"][:, k], rows.stats["score"][:, k]
        expected.append(100 * average_precision_score(mark[mark >= 0], score[mark >= 0]))
        assert values[f"AP_kind {k}"] == pytest.approx(expected[-1])
    assert values["mAP"] == pytest.approx(np.mean(expected))
    assert (rows.stats["mark"] == -1).any()


def test_kinds_of_average_precision_are_settings():
    train, val = scenes_stream(24, "train", 0, noise=6.0), scenes_stream(24, "val", 1, noise=6.0)
    values = {
        kind: run(train, val, ap=kind, c_steps=1)[1]["mAP"] for kind in ("voc07", "voc07_from_one", "area", "voc10")
    }
    assert len({round(v, 6) for v in values.values()}) == 4
    assert values["voc10"] > values["area"]
    assert values["voc07_from_one"] > values["voc07"]


def test_images_with_difficult_objects_only_are_never_measured_and_fitted_on_as_asked():
    unsure = [[0] if s == [3] else [] for s in SEVERAL]
    train, val = stream(SEVERAL, unsure=unsure), stream(SEVERAL, "val", 1, unsure)
    found = {how: run(train, val, unsure=how) for how in ("left_out", "absent")}
    for rows, values, _ in found.values():
        assert values["AP_kind 0"] == pytest.approx(100)
        assert (rows.stats["mark"][:, 0] == -1).sum() == 3
    left_out, absent = (found[how][0].stats["score"][:, 0] for how in ("left_out", "absent"))
    assert np.abs(left_out - absent).max() > 0.01
    only = stream([[], [0]], "val", 1, [[0, 1, 2, 3], []])
    assert run(train, only)[1]["AP_kind 0"] == 100


def test_a_class_that_a_split_does_not_show_is_named():
    without = [[k for k in s if k != 3] for s in SEVERAL]
    _, values, flags = run(stream(without), stream(SEVERAL, "val", 1))
    assert flags["classes_without_classifier"] == ["kind 3"]
    assert values["AP_kind 3"] == pytest.approx(100 * 6 / 24)  # all images alike
    _, values, flags = run(stream(SEVERAL), stream(without, "val", 1))
    assert flags["classes_not_shown"] == ["kind 3"]
    assert np.isnan(values["AP_kind 3"])
    assert values["mAP"] == pytest.approx(100)
    _, values, _ = run(stream(SEVERAL), stream([[]] * 4, "val", 1))
    assert np.isnan(values["mAP"])


def test_one_test_image_is_measured_and_one_train_image_refused():
    assert run(stream(SEVERAL), stream([[1, 2]], "val"))[1]["mAP"] == pytest.approx(100)
    with pytest.raises(DataError, match="1 train images"):
        run(stream([[1]]), stream(SEVERAL, "val"))
    with pytest.raises(DataError, match="no class is shown"):
        run(stream([[1], [1]]), stream(SEVERAL, "val"))


def test_undeclared_classes_are_those_of_train_and_a_label_outside_names_its_image():
    assert len(run(stream(SEVERAL), stream(SEVERAL, "val", 1), context())[0].info["classes"]) == 4
    for train, val, name in (
        (stream([[7], [0]]), stream(SEVERAL, "val"), "train0"),
        (stream(SEVERAL), stream([[0], [4]], "val"), "val1"),
    ):
        with pytest.raises(DataError, match=rf"image '{name}': label \d is outside the 4 classes"):
            run(train, val)
    with pytest.raises(DataError, match="no image of the train split shows any class"):
        run(stream([[], []]), stream(SEVERAL, "val"), context())


def test_c_is_chosen_without_the_test_split():
    train = scenes_stream(30, "train", 0, noise=3.0)
    flags = [run(train, scenes_stream(10, "val", seed, noise=30.0))[2]["C"] for seed in (1, 2)]
    assert flags[0] == flags[1]
