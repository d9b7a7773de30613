"""Saliency: the object is where the cut says, in the size of the annotation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.tasks.discovery import SaliencySettings
from vitbench.metrics import measures
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.saliency import Saliency, object_mask

from .streams import batch, context


def made_up(void: bool = False) -> MemoryStream:
    keys, labels = torch.tensor([1.0, 0.0]).repeat(1, 8, 8, 1), np.zeros((32, 32), np.uint8)
    keys[0, 2:5, 1:4] = torch.tensor([0.0, 1.0])
    keys[0, 6, 6] = torch.tensor([0.0, 1.0])
    labels[8:20, 4:16] = 1
    if void:
        labels[24:28, 24:28] = 255
    return MemoryStream([batch({"key": keys}, [{"image_hw": (32, 32), "segmentation": labels}])])


def values(settings: SaliencySettings, stream: MemoryStream) -> dict[str, float]:
    rows = Saliency(settings).measure(None, stream, context())
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("saliency")}


def test_the_smaller_side_of_the_cut_is_the_object_and_a_second_part_costs():
    both = values(SaliencySettings(), made_up())
    assert both["IoU"] == pytest.approx(100 * 144 / 160, abs=6)
    connected = values(SaliencySettings(component=True), made_up())
    assert connected["IoU"] == pytest.approx(100, abs=6)
    assert connected["Acc"] > both["Acc"]
    assert values(SaliencySettings(), made_up(void=True))["IoU"] > both["IoU"]


def test_an_annotation_of_another_size_gives_the_same_mask():
    stream = made_up()
    before = values(SaliencySettings(), stream)
    stream.batches[0].targets[0]["segmentation"] = (
        stream.batches[0].targets[0]["segmentation"].repeat(3, 0).repeat(3, 1)
    )
    assert values(SaliencySettings(), stream)["IoU"] == pytest.approx(before["IoU"], abs=3)


def test_objects_are_the_classes_that_the_data_set_names_else_all_but_the_first():
    labels = np.array([[0, 1, 2, 255]])
    card = DatasetCard("made_up", None, "", {}, ())
    assert object_mask(labels, card).tolist() == [[False, True, True, False]]
    assert object_mask(labels, replace(card, object_classes=(0, 2))).tolist() == [[True, False, True, False]]


def test_images_without_an_object_are_counted():
    stream = made_up()
    stream.batches[0].targets[0]["segmentation"][:] = 0
    task = Saliency(SaliencySettings())
    assert task.flags(None, task.measure(None, stream, context())) == {"images_without_objects": 1}


def test_images_with_nothing_to_cut_are_flagged():
    alike = made_up()
    alike.batches[0].tokens["key"][:] = 1.0
    for stream, expected in ((alike, True), (made_up(), False)):
        task = Saliency(SaliencySettings())
        assert ("mostly_nothing_to_cut" in task.flags(None, task.measure(None, stream, context()))) is expected


def test_labels_that_are_all_but_all_objects_are_flagged():
    full = made_up()
    full.batches[0].targets[0]["segmentation"][1:] = 1
    for stream, expected in ((full, True), (made_up(), False)):
        task = Saliency(SaliencySettings())
        assert ("labels_are_mostly_objects" in task.flags(None, task.measure(None, stream, context()))) is expected
