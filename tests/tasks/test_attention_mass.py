"""Masks of the patches that hold most of a head's attention, against the steps of DINO's own script and pixels one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.catalogue import TASKS
from vitbench.errors import NotApplicableError
from vitbench.metrics import measures
from vitbench.tasks.attention_mass import mass_thresholds, shown_cells
from vitbench.tokens.geometry import Geometry, Placement

from .streams import batch, context, light, scenes_stream

CONTEXT = context(6, (2, 3, 4, 5), 4)


def kept_one_by_one(weights, mass):
    """Smallest first, patches go while what is left holds more than the mass."""
    kept = np.ones(len(weights), bool)
    held = 0.0
    for at in np.argsort(weights, kind="stable"):
        held += weights[at] / weights.sum()
        if held > 1 - mass:
            break
        kept[at] = False
    return kept


@pytest.mark.parametrize("mass", [0.3, 0.6, 0.95])
def test_the_kept_patches_hold_the_mass_and_one_less_would_not(mass):
    weights = np.random.default_rng(0).exponential(size=(20, 35))
    kept = weights > mass_thresholds(weights, mass)[:, None]
    for row, found in zip(weights, kept, strict=True):
        assert found.tolist() == kept_one_by_one(row, mass).tolist()
        share = row[found].sum() / row.sum()
        assert share >= mass
        assert share - row[found].min() / row.sum() < mass


def test_equal_weights_stay_together_and_no_attention_keeps_all():
    weights = np.array([[1.0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 3]])
    kept = weights > mass_thresholds(weights, 0.6)[:, None]
    assert kept.sum(1).tolist() == [4, 4, 1]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_pixel_is_in_the_cell_that_covers_it(flipped):
    geometry = Geometry(4, (3, 3), (Placement((30, 24), (12, 12), (12, 12), (2.5, 2.0), flipped=flipped),))
    rows, columns = shown_cells(geometry, 0, (15, 8))
    assert rows.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    expected = [0, 0, 0, 1, 1, 2, 2, 2]
    assert columns.tolist() == (expected[::-1] if flipped else expected)


def test_the_best_head_of_every_image_counts():
    val = scenes_stream(5, "val", 1)
    targets = [t for b in val for t in b.targets]
    targets[3]["segmentation"][:] = 1  # nothing to find
    table, ious = np.zeros((2, 2)), []
    for part in val:
        for attention, target in zip(part.tokens["cls_attention"].numpy(), part.targets, strict=True):
            labels = target["segmentation"]
            truth, counted = np.isin(labels, (2, 3, 4, 5)), labels != 255
            if not truth.any():
                continue
            found = []
            for head in attention.astype(np.float64):
                mask = kept_one_by_one(head.ravel(), 0.6).reshape(head.shape).repeat(4, 0).repeat(4, 1)
                pairs = np.array([[(mask == a)[counted & (truth == b)].sum() for a in (0, 1)] for b in (0, 1)])
                found.append((pairs[1, 1] / (pairs.sum() - pairs[0, 0]), pairs))
            best = max(found, key=lambda pair: pair[0])
            ious.append(best[0])
            table += best[1]
    task = light(TASKS.get("attention_segmentation"), "dino").load()
    rows = task.measure(None, val, CONTEXT)
    values = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("attention_masks", rows.info)}
    assert values["Jaccard"] == pytest.approx(100 * np.mean(ious))
    assert values["Acc"] == pytest.approx(100 * np.trace(table) / table.sum())
    assert values["mIoU"] == pytest.approx(
        50 * sum(table[c, c] / (table[c].sum() + table[:, c].sum() - table[c, c]) for c in (0, 1))
    )
    assert task.flags(None, rows) == {"images_without_objects": 1, "selection": "oracle"}


def test_a_backbone_that_hides_its_attention_is_not_applicable():
    target = {"image_hw": (8, 8), "segmentation": np.zeros((8, 8), np.uint8)}
    hidden = batch({"cls_attention": torch.zeros(1, 0, 2, 2)}, [target])
    with pytest.raises(NotApplicableError, match="attention"):
        light(TASKS.get("attention_segmentation"), "dino").load().measure(None, [hidden], CONTEXT)
