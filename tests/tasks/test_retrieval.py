"""Retrieval of objects and landmarks against slow, obvious restatements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue import DATASETS
from vitbench.catalogue.tasks.retrieval import RETRIEVAL, InstanceSettings, LandmarkSettings, TrackingSettings
from vitbench.data import layout
from vitbench.data.revisited import LAYOUT
from vitbench.errors import DataError
from vitbench.metrics import measures
from vitbench.tasks.instance_retrieval import InstanceRetrieval, cell_shares
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.retrieval import Retrieval
from vitbench.tokens.geometry import Geometry, Placement

from ..layouts import landmarks
from .clip_streams import clips_stream, landmarks_stream
from .streams import context


def values(rows, kind):
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(kind)}


def slow_objects(stream):
    """(video, frame, object) -> the mean of its pixels' tokens."""
    found = {}
    for part in stream:
        for i, key in enumerate(part.tokens.keys):
            video, _, frame = key.rpartition("/")
            pixels = part.tokens["patch"][i].numpy().repeat(4, 0).repeat(4, 1)
            for (x0, y0, x1, y1), track in zip(part.targets[i]["boxes"], part.targets[i]["boxes_track"], strict=True):
                mean = pixels[int(y0) : int(y1), int(x0) : int(x1)].mean((0, 1))
                found[(video, int(frame), int(track))] = mean / np.linalg.norm(mean)
    return found


@pytest.mark.parametrize("setting, gallery", [(InstanceSettings(), "first"), (TrackingSettings(), "previous")])
def test_instances_equal_the_slow_restatement(setting, gallery):
    stream = clips_stream(3, 4, "val", 5, noise=1.5, batch_size=5)
    rows = InstanceRetrieval(setting).measure(None, stream, context())
    objects, expected = slow_objects(stream), {}
    for (video, frame, track), query in objects.items():
        if frame:
            known = {
                k: v for k, v in objects.items()
                if (k[1] == 0 if gallery == "first" else (k[0] == video and k[1] == frame - 1))
            }  # fmt: skip
            wanted = (video, 0 if gallery == "first" else frame - 1, track)
            rank = sum(query @ v >= query @ known[wanted] - 1e-6 for v in known.values())
            expected[f"{video}#{frame:02d}-{track}"] = 1 / rank
    assert dict(zip(rows.unit_id, rows.stats["reciprocal"], strict=True)) == pytest.approx(expected)
    assert set(rows.group_id) == {"val-0", "val-1", "val-2"}
    assert rows.stats["n_gallery"][0] == (6 if gallery == "first" else 2)


def test_the_same_sample_again_is_always_found():
    stream = clips_stream(4, 3, "val", 5, noise=0.5)
    for part in stream:
        for i, key in enumerate(part.tokens.keys):
            video = key.rpartition("/")[0]
            first, at = next((p, p.tokens.keys.index(f"{video}/00")) for p in stream if f"{video}/00" in p.tokens.keys)
            part.tokens.fields["patch"][i] = first.tokens.fields["patch"][at]
            part.targets[i]["boxes"] = first.targets[at]["boxes"]
    found = values(InstanceRetrieval(InstanceSettings()).measure(None, stream, context()), "instances")
    assert found["top1"] == found["MRR"] == found["top1_near"] == found["top1_far"] == 100
    assert found["top1_chance"] == pytest.approx(12.5)


def test_tokens_that_are_the_same_everywhere_find_nothing():
    stream = clips_stream(3, 3, "val", 5)
    for part in stream:
        part.tokens.fields["patch"].fill_(1.0)
    assert values(InstanceRetrieval(InstanceSettings()).measure(None, stream, context()), "instances")["top1"] == 0


def test_objects_the_gallery_does_not_hold_are_counted():
    stream = clips_stream(2, 3, "val", 5)
    target = stream.batches[0].targets[1]
    target["boxes_track"] = np.array([1, 7])
    task = InstanceRetrieval(InstanceSettings())
    assert task.flags(None, task.measure(None, stream, context())) == {"queries": 7, "objects_unknown": 1}
    target["boxes_track"] = np.array([1])
    with pytest.raises(DataError, match="boxes without numbers"):
        task.measure(None, stream, context())
    with pytest.raises(DataError, match="two samples"):
        task.measure(None, clips_stream(2, 1, "val", 5), context())


def test_cell_shares_sum_to_the_area_of_the_box():
    geometry = Geometry(4, (3, 4), (Placement((24, 32), (12, 16), (12, 16), (2.0, 2.0)),))
    boxes = np.array([[0, 0, 8, 8], [3, 5, 20, 21], [40, 40, 50, 50]], np.float32)
    shares = cell_shares(geometry, 0, boxes)
    assert shares[0].tolist() == [[1, 0, 0, 0], [0] * 4, [0] * 4]
    assert shares[1].sum() * 64 == pytest.approx(17 * 16)
    assert not shares[2].any()


def test_landmarks_are_ranked_by_cosine_over_the_whole_collection():
    collection, queries = landmarks_stream(64, "train", 3, noise=0.05), landmarks_stream(6, "val", 4, noise=0.05)
    task = Retrieval(LandmarkSettings())
    rows = task.measure(task.fit(collection, context()), queries, context())
    found = values(rows, "retrieval")
    assert found["mAP_M"] == found["mAP_H"] == found["mP@10_M"] == 100
    assert task.flags(task.fit(collection, context()), rows) == {"collection": 64, "queries_without_right_image": 0}
    for part in queries:
        part.tokens.fields["cls"] *= -1
    assert values(task.measure(task.fit(collection, context()), queries, context()), "retrieval")["mAP_M"] < 30


def test_the_scale_of_a_vector_does_not_matter_and_grids_are_averaged():
    collection, queries = landmarks_stream(64, "train", 3), landmarks_stream(6, "val", 4)
    task = Retrieval(LandmarkSettings())
    before = task.measure(task.fit(collection, context()), queries, context())
    for part in collection:
        part.tokens.fields["cls"] *= torch.rand(len(part.targets), 1) + 0.5
        part.tokens.fields["patch"] = part.tokens["cls"][:, None, None].expand(-1, 2, 2, -1)
    for part in queries:
        part.tokens.fields["patch"] = part.tokens["cls"][:, None, None].expand(-1, 2, 2, -1)
    for field in ("cls", "patch"):
        other = Retrieval(replace(LandmarkSettings(), field=field))
        after = other.measure(other.fit(collection, context()), queries, context())
        assert values(after, "retrieval") == pytest.approx(values(before, "retrieval"))


def test_an_empty_collection_is_said():
    with pytest.raises(DataError, match="collection is empty"):
        Retrieval(LandmarkSettings()).fit(MemoryStream([]), context())


def test_a_release_gives_cut_queries_and_a_collection_without_truth(tmp_path):
    card = DATASETS.get("roxford5k")
    small = replace(card, splits={"query": 2, "database": 4})
    landmarks(tmp_path, "roxford5k")
    for split, hw in (("query", (56, 32)), ("database", None)):
        found = layout.open_split(LAYOUT, small, split, RETRIEVAL.targets, None, 0, tmp_path)
        sample = found[0]
        if hw:
            assert sample["image"].shape[:2] == hw
            assert sample["relevance"]["junk"] == ["place_000002", "place_000003"]
        else:
            assert len(found) == 4
            assert not any(sample["relevance"].values())
