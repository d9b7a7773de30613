"""Correspondence against a slow, obvious restatement, and the ways in which pairs are chosen and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue.tasks.correspondence import CORRESPONDENCE, KeypointSettings
from vitbench.errors import DataError
from vitbench.metrics import measures
from vitbench.tasks.correspondence import Correspondence, described, matched, sample_pairs
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.placing import place

from .clip_streams import clips_stream
from .streams import context


def values(rows):
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("keypoints")}


def slow(stream, fields, corners, scale="box"):
    """Hits per pair at 0.1, point by point."""
    images = {}
    for part in stream:
        for i, key in enumerate(part.tokens.keys):
            images[key] = {f: part.tokens[f][i].numpy() for f in fields}, part.targets[i]
    found = {}
    for key, (tokens, target) in images.items():
        for entry in target["keypoints"]:
            hits = np.zeros(len(fields))
            for v, field in enumerate(fields):
                h, w, _ = tokens[field].shape
                grid = images[entry["target"]][0][field]
                for (x, y), wanted in zip(entry["source_xy"], entry["target_xy"], strict=True):
                    u, t = x / 4, y / 4
                    u, t = (u / w * (w - 1), t / h * (h - 1)) if corners else (u - 0.5, t - 0.5)
                    c, r = int(np.floor(u)), int(np.floor(t))
                    mixed = 0
                    for rr, cc, weight in (
                        (r, c, (1 - t + r) * (1 - u + c)), (r, c + 1, (1 - t + r) * (u - c)),
                        (r + 1, c, (t - r) * (1 - u + c)), (r + 1, c + 1, (t - r) * (u - c)),
                    ):  # fmt: skip
                        mixed = mixed + weight * tokens[field][min(max(rr, 0), h - 1), min(max(cc, 0), w - 1)]
                    best, where = -9.0, (0, 0)
                    for rr in range(h):
                        for cc in range(w):
                            cosine = grid[rr, cc] @ mixed / np.linalg.norm(grid[rr, cc]) / np.linalg.norm(mixed)
                            if cosine > best:
                                best, where = cosine, (cc, rr)
                    place = np.array(where) * 4 + (0 if corners else 2)
                    box = entry["target_box"]
                    side = max(box[2] - box[0], box[3] - box[1]) if scale == "box" else 4 * max(h, w)
                    hits[v] += np.hypot(*(place - wanted)) <= 0.1 * side
            found[f"{key}#{entry['pair']}"] = hits
    return found


@pytest.mark.parametrize("corners, scale", [(False, "box"), (True, "box"), (False, "image")])
def test_hits_equal_the_slow_restatement(corners, scale):
    stream = clips_stream(2, 3, "val", 5, noise=0.5)
    s = KeypointSettings(corners=corners, also="patch_raw", scale=scale)
    rows = Correspondence(s).measure(None, stream, context(labels=2))
    expected = slow(stream, ("patch", "patch_raw"), corners, scale)
    assert set(rows.unit_id) == set(expected)
    for unit, hits in zip(rows.unit_id, rows.stats["hits_0.1"], strict=True):
        np.testing.assert_array_equal(hits, expected[unit])
    assert set(rows.group_id) == {"val-0/00", "val-1/00"}


def test_a_pair_of_an_image_with_itself_is_found():
    stream = clips_stream(2, 2, "val", 5, noise=0.0)
    for part in stream:
        part.tokens.fields["patch"] = torch.eye(144).reshape(1, 12, 12, 144).repeat(len(part.targets), 1, 1, 1)
        for i, key in enumerate(part.tokens.keys):
            for entry in part.targets[i]["keypoints"]:
                entry.update(target=key, target_xy=entry["source_xy"], target_box=np.array([0, 0, 80.0, 80.0]))
    found = values(Correspondence(KeypointSettings()).measure(None, stream, context(labels=2)))
    assert found["PCK"] == found["PCK_per_image"] == found["PCK_per_class"] == found["PCK_same_place"] == 100


def test_descriptors_and_matches_at_centres_are_inverse_and_at_corners_are_not():
    geometry = Geometry(4, (3, 5), (Placement((24, 40), (12, 20), (12, 20), (2.0, 2.0)),))
    grid = torch.eye(15).reshape(3, 5, 15)
    centres = geometry.from_cells(0, np.array([[c + 0.5, r + 0.5] for r in range(3) for c in range(5)]))
    points = described(grid, geometry, 0, centres, KeypointSettings())
    assert points.allclose(torch.eye(15), atol=1e-6)
    assert np.allclose(matched(points, grid, geometry, 0, KeypointSettings()), centres)
    assert np.allclose(matched(points, grid, geometry, 0, KeypointSettings(corners=True)), centres - 4)
    assert np.allclose(geometry.to_cells(0, geometry.from_cells(0, np.array([[1.25, 2.5]]))), [[1.25, 2.5]])


@pytest.mark.parametrize("corners", [False, True])
def test_points_stay_where_they_were_when_the_reference_pads(corners):
    """10 pixels amid zeros make 12 of patch 4: relative places in the 10 are read as places in the 12, as in probe3d."""
    settings = KeypointSettings(corners=corners, unmoved=True, image_px=10)
    view = CORRESPONDENCE.view(settings)
    [(_, placement)] = place(np.zeros((30, 60, 3), np.uint8), view, 4)
    geometry = Geometry(4, (3, 3), (placement,))
    grid = torch.eye(9).reshape(3, 3, 9)
    found = matched(torch.eye(9), grid, geometry, 0, settings)
    cells = np.array([[c, r] for r in range(3) for c in range(3)]) + (0 if corners else 0.5)
    np.testing.assert_allclose(found, cells / 3 * 60, atol=1e-4)
    # Where matches are placed at centres, a point at the centre of a third reads the token of that third.
    if not corners:
        torch.testing.assert_close(described(grid, geometry, 0, found, settings), torch.eye(9), atol=1e-5, rtol=0)
    moved = matched(torch.eye(9), grid, geometry, 0, replace(settings, unmoved=False))
    assert np.abs(moved - found).max() > 2


def test_matches_never_lie_in_padding():
    geometry = Geometry(4, (2, 2), (Placement((4, 4), (8, 8), (4, 4)),))
    grid = torch.tensor([[[1.0, 0], [0, 1.0]], [[0, 1.0], [0, 1.0]]])
    assert matched(torch.tensor([[0.0, 1.0]]), grid, geometry, 0, KeypointSettings()).tolist() == [[2, 2]]


def test_per_point_per_image_and_per_class_differ_as_they_should():
    stream = clips_stream(3, 2, "val", 5, noise=0.5)
    entries = [e for part in stream for t in part.targets for e in t["keypoints"]]
    for name in ("source_xy", "target_xy"):
        entries[0][name] = entries[0][name][:1]
    rows = Correspondence(KeypointSettings()).measure(None, stream, context(labels=2))
    points, hits = rows.stats["n_points"], rows.stats["hits_0.1"][:, 0]
    share, label = hits / points, np.array([int(u.split("-")[1].split("/")[0]) % 2 for u in rows.unit_id])
    found = values(rows)
    assert found["PCK"] == pytest.approx(100 * hits.sum() / points.sum())
    assert found["PCK_per_image"] == pytest.approx(100 * share.mean())
    assert found["PCK_per_class"] == pytest.approx(100 * np.mean([share[label == c].mean() for c in (0, 1)]))
    assert found["PCK@0.05"] <= found["PCK"] <= found["PCK@0.15"]
    assert np.isnan(found["PCK_viewpoint0"])


def test_the_better_of_two_fields_is_reported():
    stream = clips_stream(2, 3, "val", 5, noise=0.2)
    for part in stream:
        part.tokens.fields["patch"] = torch.randn(
            part.tokens["patch"].shape, generator=torch.Generator().manual_seed(1)
        )
    one = values(Correspondence(KeypointSettings()).measure(None, stream, context(labels=2)))
    other = values(Correspondence(KeypointSettings(field="patch_raw")).measure(None, stream, context(labels=2)))
    both = values(Correspondence(KeypointSettings(also="patch_raw")).measure(None, stream, context(labels=2)))
    for name in ("PCK", "PCK_per_image", "PCK_per_class", "PCK@0.05"):
        assert both[name] == max(one[name], other[name])
    assert both["PCK"] > one["PCK"]


def test_sampled_pairs_are_so_many_per_class_and_viewpoint_whatever_their_order():
    pairs = [(label, view, f"{label}-{view}-{n}") for label in range(2) for view in (0, 1, None) for n in range(9)]
    chosen = sample_pairs(pairs, 4)
    assert chosen == sample_pairs(pairs[::-1], 4)
    in_all = Counter(name[0] for name, (whole, _) in chosen.items() if whole)
    assert in_all == {"0": 4, "1": 4}
    views = Counter((name[0], view) for name, (_, view) in chosen.items() if view is not None)
    assert views == {("0", 0): 4, ("0", 1): 4, ("1", 0): 4, ("1", 1): 4}
    assert len(sample_pairs(pairs, 100)) == len(pairs)


def test_viewpoints_have_their_own_mean_and_only_totals_count_in_totals():
    stream = clips_stream(4, 3, "val", 5, noise=0.5)
    for part in stream:
        for target in part.targets:
            for n, entry in enumerate(target["keypoints"]):
                entry["viewpoint_variation"] = n % 2
    every = Correspondence(KeypointSettings(sample_pairs=100)).measure(None, stream, context(labels=2))
    whole = Correspondence(KeypointSettings()).measure(None, stream, context(labels=2))
    assert values(every) == pytest.approx(values(whole), nan_ok=True)
    assert np.isfinite([values(whole)[f"PCK_viewpoint{v}"] for v in (0, 1)]).all()
    few = Correspondence(KeypointSettings(sample_pairs=1)).measure(None, stream, context(labels=2))
    assert few.sums()["n"] == 2
    assert few.sums()["view0_n"].sum() == few.sums()["view1_n"].sum() == 2


def test_pairs_whose_target_is_not_there_are_counted_and_none_left_is_said():
    stream = clips_stream(2, 3, "val", 5, batch_size=1)
    short = MemoryStream(stream.batches[:2])
    task = Correspondence(KeypointSettings())
    rows = task.measure(None, short, context(labels=2))
    assert task.flags(None, rows) == {"pairs": 2, "pairs_left_out": 2}
    with pytest.raises(DataError, match="no image starts a pair"):
        task.measure(None, MemoryStream(stream.batches[:1]), context(labels=2))


def test_each_image_is_encoded_once():
    read = Counter()

    class Watched(MemoryStream):
        def __iter__(self):
            read["sweeps"] += 1
            return super().__iter__()

    stream = clips_stream(2, 3, "val", 5)
    Correspondence(KeypointSettings()).measure(None, Watched(stream.batches), context(labels=2))
    assert read["sweeps"] == 2  # of stored tokens; the backbone has run before
    assert replace(CORRESPONDENCE.protocol("dinov3").settings).also == "patch_raw"
