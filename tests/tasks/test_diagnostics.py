"""Diagnostics against slow, obvious re-statements."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from vitbench.catalogue import TASKS
from vitbench.errors import NotApplicableError, UsageError
from vitbench.metrics import measures
from vitbench.metrics.norms import mad_threshold
from vitbench.tasks.base import Batch
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.types import Tokens

from .streams import context, scenes_stream

CONTEXT = context(6, (2, 3, 4, 5), 4)


def task(name, protocol=None, **changes):
    card = TASKS.get(name)
    chosen = card.protocol(protocol) if protocol else card.protocols[0]
    return TASKS.load(name)(dataclasses.replace(chosen.settings, **changes))


def numbers(name, rows):
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(TASKS.get(name).metric, rows.info)}


def with_field(stream, field, change):
    out = []
    for b in stream:
        fields = {**b.tokens.fields, field: change(b.tokens[field])}
        out.append(Batch(Tokens(fields, b.tokens.geometry, b.tokens.keys), b.targets))
    return MemoryStream(out, stream.split)


def gathered(stream, field):
    return torch.cat([b.tokens[field] for b in stream]).double().numpy()


# -- neighbours --------------------------------------------------------------------------------------------------------


def test_every_pair_of_neighbours_counts_for_both_of_its_tokens_in_their_group():
    generator = torch.Generator().manual_seed(0)

    def scattered(norms):
        return norms * (1 + 30 * (torch.rand(norms.shape, generator=generator) > 0.9))

    val = with_field(scenes_stream(5, "val", 1), "norms", scattered)
    x, norms = gathered(val, "patch_embed"), gathered(val, "norms")[:, -1]
    outlier = norms > mad_threshold(norms.ravel(), 10)
    groups = {False: [], True: []}
    images, h, w = norms.shape
    for i in range(images):
        for r in range(h):
            for c in range(w):
                for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    if 0 <= r + dr < h and 0 <= c + dc < w:
                        a, b = x[i, r, c], x[i, r + dr, c + dc]
                        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                        groups[bool(outlier[i, r, c])].append(cosine)
    found = numbers("neighbour_similarity", task("neighbour_similarity").measure(None, val, CONTEXT))
    normal, high = groups[False], groups[True]
    assert len(high) > 20
    assert found["cosine_normal"] == pytest.approx(np.mean(normal), abs=1e-5)
    assert found["cosine_outlier"] == pytest.approx(np.mean(high), abs=1e-5)
    assert found["median_outlier"] == pytest.approx(np.median(high), abs=0.02)
    truth = [0] * len(normal) + [1] * len(high)
    assert found["AUROC"] == pytest.approx(100 * roc_auc_score(truth, normal + high), abs=0.3)
    assert found["outliers"] == pytest.approx(100 * len(high) / len(truth))


def test_the_auroc_is_undefined_without_outliers():
    val = with_field(scenes_stream(3, "val", 1), "norms", torch.ones_like)
    found = numbers("neighbour_similarity", task("neighbour_similarity").measure(None, val, CONTEXT))
    assert np.isnan([found["AUROC"], found["cosine_outlier"], found["median_outlier"]]).all()
    assert np.isfinite(found["cosine_normal"])


# -- position ----------------------------------------------------------------------------------------------------------


def test_position_leakage_is_what_a_regression_on_positions_explains_of_other_images():
    train, val = scenes_stream(9, "train", 0), scenes_stream(4, "val", 1)
    leakage = task("position_leakage")
    found = numbers("position_leakage", leakage.measure(leakage.fit(train, CONTEXT), val, CONTEXT))
    x, y = gathered(train, "patch"), gathered(val, "patch")
    n, h, w, _ = x.shape
    means = {"explained": x.mean(0, keepdims=True), "explained_row": x.mean((0, 2), keepdims=True)}
    means["explained_column"] = x.mean((0, 1), keepdims=True)
    tokens = {"explained": n, "explained_row": n * w, "explained_column": n * h}
    total = ((y - x.mean((0, 1, 2))) ** 2).sum()
    for name, mean in means.items():
        left = ((y - mean) ** 2).sum() * tokens[name] / (tokens[name] + 1)
        assert found[name] == pytest.approx(100 * (1 - left / total), abs=1e-4), name


def test_noise_has_no_position_and_stripes_have_that_of_their_axis():
    generator = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=generator)

    def stripes(x):
        return noise(x) + 3 * torch.arange(x.shape[2])[:, None] % 5

    leakage = task("position_leakage")
    results = []
    for change in (noise, stripes):
        train, val = (with_field(scenes_stream(20, s, i), "patch", change) for i, s in enumerate(("train", "val")))
        results.append(numbers("position_leakage", leakage.measure(leakage.fit(train, CONTEXT), val, CONTEXT)))
    assert abs(results[0]["explained"]) < 1
    assert results[1]["explained"] == pytest.approx(results[1]["explained_column"], abs=1)
    assert results[1]["explained"] > 50 > 1 > abs(results[1]["explained_row"])
    with pytest.raises(UsageError, match="one grid size"):
        leakage.measure(leakage.fit(train, CONTEXT), scenes_stream(2, "val", 1, hw=(48, 20)), CONTEXT)


# -- rank --------------------------------------------------------------------------------------------------------------


def rankme(x):
    values = np.linalg.svd(x, compute_uv=False)
    p = values / values.sum()
    return np.exp(-sum(q * np.log(q) for q in p if q > 0))


def test_rank_and_uniformity_equal_the_singular_values_and_pairs_they_are_defined_by():
    val = scenes_stream(4, "val", 1)
    found = numbers("rank", task("rank").measure(None, val, CONTEXT))
    x = gathered(val, "patch")
    x = x.reshape(len(x), -1, x.shape[-1])
    assert found["effective_rank"] == pytest.approx(np.mean([rankme(image) for image in x]), rel=1e-4)
    assert found["effective_rank_split"] == pytest.approx(rankme(x.reshape(-1, x.shape[-1])), rel=1e-4)
    kernels = []
    for image in x:
        unit = image / np.linalg.norm(image, axis=1, keepdims=True)
        pairs = [np.exp(-2 * ((unit[a] - unit[b]) ** 2).sum()) for a in range(len(unit)) for b in range(a)]
        kernels.append(np.mean(pairs))
    assert found["uniformity"] == pytest.approx(np.log(np.mean(kernels)), abs=1e-5)


def test_equal_tokens_have_rank_one_and_orthogonal_ones_as_many_as_there_are():
    val = scenes_stream(2, "val", 1, hw=(16, 16), channels=24)
    same = with_field(val, "patch", torch.ones_like)
    assert numbers("rank", task("rank").measure(None, same, CONTEXT))["effective_rank"] == pytest.approx(1, abs=1e-3)
    eye = torch.eye(16, 24).reshape(1, 4, 4, 24).repeat(2, 1, 1, 1)
    apart = with_field(val, "patch", lambda _: eye)
    assert numbers("rank", task("rank").measure(None, apart, CONTEXT))["effective_rank"] == pytest.approx(16)


# -- foreground --------------------------------------------------------------------------------------------------------


def cosines_by_hand(stream):
    x, cls = gathered(stream, "patch"), gathered(stream, "cls")
    return np.array(
        [
            [[t @ c / np.linalg.norm(t) / np.linalg.norm(c) for t in row] for row in image]
            for image, c in zip(x, cls, strict=True)
        ]
    )


def test_foreground_alignment_is_the_auc_and_gap_of_each_image_over_its_labelled_patches():
    val = scenes_stream(6, "val", 1)
    val.batches[0].targets[1]["segmentation"][:] = 0  # nothing but background
    targets = [t for b in val for t in b.targets]
    aucs, gaps = [], []
    for cosines, target in zip(cosines_by_hand(val), targets, strict=True):
        truth, scores = [], []
        for r in range(8):
            for c in range(10):
                pixels = target["segmentation"][4 * r : 4 * r + 4, 4 * c : 4 * c + 4].ravel()
                pixels = pixels[pixels != 255]
                if len(pixels):
                    truth.append(np.isin(pixels, (2, 3, 4, 5)).mean() >= 0.5)
                    scores.append(cosines[r, c])
        if 0 < sum(truth) < len(truth):
            aucs.append(roc_auc_score(truth, scores))
            values, inside = np.array(scores), np.array(truth)
            gaps.append(values[inside].mean() - values[~inside].mean())
    alignment = task("foreground_alignment")
    rows = alignment.measure(None, val, CONTEXT)
    found = numbers("foreground_alignment", rows)
    assert len(aucs) == 5
    assert alignment.flags(None, rows) == {"images_of_one_kind": 1}
    assert found["AUC"] == pytest.approx(100 * np.mean(aucs), abs=1e-4)
    assert found["gap"] == pytest.approx(np.mean(gaps), abs=1e-5)


def test_a_point_hits_if_a_box_touches_its_patch_and_single_boxes_are_scored_apart():
    val = scenes_stream(8, "val", 1)
    targets = [t for b in val for t in b.targets]
    targets[0]["boxes"] = np.concatenate([targets[0]["boxes"], [[0, 0, 3, 3]]])
    targets[1]["boxes"] = np.zeros((0, 4), np.float32)
    hits, chances = [], []
    for i, (cosines, target) in enumerate(zip(cosines_by_hand(val), targets, strict=True)):
        if not len(target["boxes"]):
            continue
        best = divmod(int(cosines.argmax()), 10)
        inside = {
            (r, c)
            for x0, y0, x1, y1 in target["boxes"]
            for r in range(int(y0 // 4), min(int(y1 // 4), 7) + 1)
            for c in range(int(x0 // 4), min(int(x1 // 4), 9) + 1)
        }
        hits.append((best in inside, i))
        chances.append(len(inside) / 80)
    point = task("point_in_box")
    rows = point.measure(None, val, CONTEXT)
    found = numbers("point_in_box", rows)
    assert point.flags(None, rows) == {"images_without_boxes_in_view": 1}
    assert found["hit"] == pytest.approx(100 * np.mean([h for h, _ in hits]))
    assert found["hit_single"] == pytest.approx(100 * np.mean([h for h, i in hits if i]))
    assert found["hit_chance"] == pytest.approx(100 * np.mean(chances))
    assert 0 < found["hit_centre"] < 100


def test_similarity_with_cls_is_reported_for_every_block():
    val = scenes_stream(5, "val", 1)
    found = numbers("patch_cls_similarity", task("patch_cls_similarity").measure(None, val, CONTEXT))
    cosines = gathered(val, "cls_similarity")
    for block in range(3):
        assert found[f"cosine_block_{block}"] == pytest.approx(cosines[:, block].mean(), abs=1e-6)
        spread = np.mean([image[block].std() for image in cosines])
        assert found[f"spread_block_{block}"] == pytest.approx(spread, abs=1e-6)
    assert found["cosine"] == found["cosine_block_2"]
    with pytest.raises(UsageError, match="block 3 of 3"):
        task("patch_cls_similarity", block=3).measure(None, val, CONTEXT)


# -- singular directions -----------------------------------------------------------------------------------------------


def test_singular_alignment_is_the_mean_angle_of_peaks_outliers_and_normal_tokens_after_each_block():
    val = scenes_stream(5, "val", 1)
    cosines, norms = gathered(val, "singular_cosine"), gathered(val, "norms")[:, -1]
    threshold = mad_threshold(norms.ravel(), 10)
    alignment = task("singular_alignment")
    rows = alignment.measure(None, val, CONTEXT)
    found = numbers("singular_alignment", rows)
    for block in range(3):
        angles = np.degrees(np.arccos(cosines[:, block]))
        peaks = [a.ravel()[n.argmax()] for a, n in zip(angles, norms, strict=True)]
        assert found[f"angle_peak_block_{block}"] == pytest.approx(np.mean(peaks), abs=1e-4)
        assert found[f"angle_outlier_block_{block}"] == pytest.approx(angles[norms > threshold].mean(), abs=1e-4)
        assert found[f"angle_normal_block_{block}"] == pytest.approx(angles[norms <= threshold].mean(), abs=1e-4)
    assert found["angle_peak"] == found["angle_peak_block_2"] == pytest.approx(np.degrees(np.arccos(0.99)), abs=1e-3)
    closest = min(found[f"angle_normal_block_{block}"] for block in range(3))
    assert found["angle_normal_closest_block"] == closest
    with pytest.raises(NotApplicableError, match="no singular defect directions"):
        alignment.measure(None, with_field(val, "singular_cosine", lambda x: x[:, :0]), CONTEXT)


# -- attention ---------------------------------------------------------------------------------------------------------


def test_spread_of_patches_is_the_mean_of_what_the_pass_found():
    val = scenes_stream(5, "val", 1)
    found = numbers("attention_spread", task("attention_spread", "patches").measure(None, val, CONTEXT))
    spread = gathered(val, "attention_spread").mean((0, 2, 3))
    expected = [100 * spread[0] / np.log(80), spread[1], *(100 * spread[2:4] / 80), 100 * spread[4]]
    names = ("entropy", "distance", "effective", "support", "mass")
    assert [found[n] for n in names] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(NotApplicableError, match="no attention that can be read"):
        task("attention_spread").measure(None, with_field(val, "attention_spread", lambda x: x[:, :0]), CONTEXT)


@pytest.mark.parametrize("protocol, field", [("cls", "cls_attention"), ("registers", "register_attention")])
def test_spread_of_maps_is_that_of_each_map_by_hand(protocol, field):
    val = scenes_stream(3, "val", 1)
    val = with_field(val, field, lambda a: torch.where(a < a.median(), 0, a))
    found = numbers("attention_spread", task("attention_spread", protocol).measure(None, val, CONTEXT))
    rows = []
    for weights in gathered(val, field).reshape(-1, 8, 10):
        p = weights / weights.sum()
        cells = [(r, c) for r in range(8) for c in range(10)]
        centre = sum(p[at] * np.array(at) for at in cells)
        distance = sum(p[at] * np.linalg.norm(np.array(at) - centre) for at in cells)
        entropy = -sum(q * np.log(q) for q in p.ravel() if q)
        rows.append([entropy / np.log(80), distance / 100, 1 / (p**2).sum() / 80, (p > 0).mean(), weights.sum()])
    names = ("entropy", "distance", "effective", "support", "mass")
    scale = [1, 100, 1, 1, 1]
    values = [found[n] * k for n, k in zip(names, scale, strict=True)]
    assert values == pytest.approx(list(100 * np.mean(rows, axis=0) * scale), rel=1e-4)


@pytest.mark.parametrize(
    "name, flag",
    [
        ("attention_segmentation", "labels_are_mostly_objects"),
        ("foreground_alignment", "mostly_images_of_one_kind"),
    ],
)
def test_masks_that_are_all_object_are_flagged(name, flag):
    mixed, full = scenes_stream(3, "val", 1), scenes_stream(3, "val", 1)
    for target in (t for b in full for t in b.targets):
        target["segmentation"][:] = 2
    for val, expected in ((full, True), (mixed, False)):
        measured = task(name)
        assert (flag in measured.flags(None, measured.measure(None, val, CONTEXT))) is expected


def upsampled(grid, hw):
    return torch.nn.functional.interpolate(torch.from_numpy(grid)[None], hw, mode="bilinear")[0].numpy()


@pytest.mark.parametrize("protocol, field", [("ttr", "cls_attention"), ("registers", "register_attention")])
def test_attention_is_scored_as_a_mask_above_its_mean_and_as_a_ranking_of_pixels(protocol, field):
    val = scenes_stream(4, "val", 1)
    targets = [t for b in val for t in b.targets]
    targets[2]["segmentation"][:] = 1
    attention = gathered(val, field)
    attention = attention.mean(1, keepdims=True) if protocol == "ttr" else attention
    maps = attention.shape[1]
    tables, precisions = np.zeros((maps, 2, 2)), [[] for _ in range(maps)]
    for grid, target in zip(attention, targets, strict=True):
        labels = target["segmentation"]
        truth = np.isin(labels, (2, 3, 4, 5))
        if not truth.any():
            continue
        for k, scores in enumerate(upsampled(grid, labels.shape)):
            seen = labels != 255
            for t, f in zip(truth[seen], (scores > scores.mean())[seen], strict=True):
                tables[k, int(t), int(f)] += 1
            precisions[k].append(average_precision_score(truth[seen], scores[seen]))
    segmentation = task("attention_segmentation", protocol)
    rows = segmentation.measure(None, val, CONTEXT)
    found = numbers("attention_segmentation", rows)
    assert segmentation.flags(None, rows) == {"images_without_objects": 1}
    ious = [[t[c, c] / (t[c].sum() + t[:, c].sum() - t[c, c]) for c in (0, 1)] for t in tables]
    assert found["mIoU"] == pytest.approx(100 * np.mean(ious), abs=0.05)
    assert found["Acc"] == pytest.approx(100 * np.mean([np.trace(t) / t.sum() for t in tables]), abs=0.05)
    assert found["mAP"] == pytest.approx(100 * np.mean(precisions), abs=0.05)
    assert ("mIoU_register_1" in found) == (protocol == "registers")
    if protocol == "registers":
        assert found["mIoU_register_1"] == pytest.approx(100 * np.mean(ious[1]), abs=0.05)


# -- what one token knows ----------------------------------------------------------------------------------------------


def knowing(stream, where, generator):
    """Tokens of pure noise but for one place per image, which knows the label."""
    out = []
    for b in stream:
        x = torch.randn(b.tokens["patch"].shape, generator=generator)
        for i, target in enumerate(b.targets):
            x[i, where[0], where[1], target["label"]] += 20
        fields = {**b.tokens.fields, "patch": x, "registers": torch.randn(len(x), 2, 24, generator=generator)}
        out.append(Batch(Tokens(fields, b.tokens.geometry, b.tokens.keys), b.targets))
    return MemoryStream(out, stream.split)


def test_only_the_kind_of_token_that_knows_the_label_classifies_images():
    generator = torch.Generator().manual_seed(0)
    train, val = (knowing(scenes_stream(40, s, i), (0, 0), generator) for i, s in enumerate(("train", "val")))
    probe = task("token_classification", c_low=0, c_high=1, c_steps=2)
    head = probe.fit(train, CONTEXT)
    rows = probe.measure(head, val, CONTEXT)
    found = numbers("token_classification", rows)
    assert found["top1_outlier"] == 100
    assert found["top1_outlier_std"] == 0
    assert found["top1_cls"] > 60  # its tokens are those of the made-up scenes
    assert max(found["top1_normal"], found["top1_register"]) < 60
    assert found["coverage"] == 100
    draws = rows.stats["correct_normal"]
    assert found["top1_normal"] == pytest.approx(100 * np.mean([draws[:, d].mean() for d in range(3)]))
    assert found["top1_normal_std"] == pytest.approx(100 * np.std([draws[:, d].mean() for d in range(3)]))


def test_without_outliers_the_largest_norm_stands_for_one_and_coverage_says_so():
    generator = torch.Generator().manual_seed(0)

    def calm(norms):
        norms = torch.rand(norms.shape, generator=generator)
        norms[:, :, 2, 3] = 2
        return norms

    def stream(split, seed):
        made = knowing(scenes_stream(30, split, seed), (2, 3), generator)
        return with_field(with_field(made, "norms", calm), "registers", lambda r: r[:, :0])

    probe = task("token_classification", k_mad=1e9, draws=2, c_low=0, c_high=1, c_steps=2)
    train, val = stream("train", 0), stream("val", 1)
    found = numbers("token_classification", probe.measure(probe.fit(train, CONTEXT), val, CONTEXT))
    assert found["top1_outlier"] == 100
    assert found["coverage"] == 0
    assert np.isnan([found["top1_register"], found["top1_register_std"]]).all()
