"""Linear, few-shot, centroid and cluster segmentation against slow restatements and independent libraries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler

from vitbench.catalogue import TASKS
from vitbench.errors import DataError, UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.kmeans import Projection, kmeans
from vitbench.heads.moments import Moments
from vitbench.metrics import measures
from vitbench.metrics.matching import majority_classes, matched_classes
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.patch_labels import majority_labels
from vitbench.tasks.token_rows import ChannelScale, TokenRows

from .streams import batch, context, light, scenes_stream

CONTEXT = context(6, (2, 3, 4, 5), 4)


def task(name: str, protocol: str, **changes):
    ref = light(TASKS.get(name), protocol)
    return dataclasses.replace(ref, settings=dataclasses.replace(ref.settings, **changes)).load()


def value(rows, name: str) -> float:
    return float(next(m for m in measures("segmentation") if m.name == name).value(rows.sums(), rows.info))


def cell_rows(stream, patch: int = 4):
    """Tokens and pixel labels of every cell, one by one."""
    for part in stream:
        for x, target in zip(part.tokens["patch"].numpy(), part.targets, strict=True):
            for r in range(x.shape[0]):
                for c in range(x.shape[1]):
                    yield (
                        x[r, c],
                        target["segmentation"][patch * r : patch * (r + 1), patch * c : patch * (c + 1)].ravel(),
                    )


def majority(cell) -> int:
    return int(np.bincount(np.where(cell == 255, 6, cell), minlength=7).argmax())


# -- majority labels --------------------------------------------------------------------------------------------------


def test_the_majority_counts_void_and_ties_go_to_the_lowest_class() -> None:
    view = np.array([[1, 1, 255, 255], [0, 0, 255, 2], [3, 3, 255, 255], [255, 255, 255, 255]])
    assert majority_labels(view, 2, 4, 255).tolist() == [[0, -1], [3, -1]]


# -- logistic regression ----------------------------------------------------------------------------------------------


def test_capi_linear_equals_scikit_learn_on_majority_labels() -> None:
    train, val = scenes_stream(10, "train", 0), scenes_stream(4, "val", 1)
    linear = task("linear_segmentation", "capi", c_low=0, c_high=0, c_steps=1, tolerance=1e-6)
    rows = linear.measure(linear.fit(train, CONTEXT), val, CONTEXT)
    every = np.stack([x for x, _ in cell_rows(train)])
    kept = [(x, majority(cell)) for x, cell in cell_rows(train) if majority(cell) != 6]
    scaler = StandardScaler().fit(every)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=3000)
    model.fit(scaler.transform(np.stack([x for x, _ in kept])), [y for _, y in kept])
    truth, predicted = [], []
    for x, cell in cell_rows(val):
        found = int(model.predict(scaler.transform(x[None]))[0])
        truth += cell[cell != 255].tolist()
        predicted += [found] * int((cell != 255).sum())
    expected = 100 * jaccard_score(truth, predicted, average="macro", labels=np.unique([*truth, *predicted]))
    assert value(rows, "mIoU") == pytest.approx(expected, abs=0.1)


def test_c_is_chosen_by_miou_on_held_out_images() -> None:
    train, val = scenes_stream(20, "train", 0, noise=3.0), scenes_stream(4, "val", 1, noise=3.0)
    for protocol in ("logreg", "capi"):
        linear = task("linear_segmentation", protocol)
        head = linear.fit(train, CONTEXT)
        assert len(head.miou) == 8
        assert head.miou[head.chosen_c] == max(head.miou.values())
        assert linear.flags(head, linear.measure(head, val, CONTEXT))["C"] == head.chosen_c


def test_rows_that_do_not_fit_are_read_again_and_give_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    train = scenes_stream(10, "train", 0, batch_size=3)
    linear = task("linear_segmentation", "logreg", c_low=0, c_high=0, c_steps=1)
    kept = linear.fit(train, CONTEXT)
    monkeypatch.setattr("vitbench.tasks.token_rows.KEPT_BYTES", 1000)
    reread = linear.fit(train, CONTEXT)
    assert torch.equal(kept.head.weight, reread.head.weight)


def test_rows_are_read_once_where_they_fit() -> None:
    train, reads = scenes_stream(6, "train", 0, batch_size=3), []

    def labels(part):
        reads.append(1)
        return torch.ones(*part.tokens["patch"].shape[:3], 1), torch.ones(part.tokens["patch"].shape[:3])

    rows = TokenRows(train, "patch", lambda x: x, labels, frozenset(train.keys))  # type: ignore[arg-type]
    assert sum(len(x) for x, _, _ in rows()) == sum(len(x) for x, _, _ in rows()) == 6 * 80
    assert len(reads) == 2


def test_a_class_that_no_train_image_shows_changes_nothing_for_the_others() -> None:
    train, val = scenes_stream(6, "train", 0), scenes_stream(4, "val", 1)
    linear = task("linear_segmentation", "logreg", c_low=0, c_high=0, c_steps=1)
    found = [
        value(linear.measure(linear.fit(train, of), val, of), "mIoU") for of in (CONTEXT, context(7, (2, 3, 4, 5), 4))
    ]
    assert found[0] > 50
    assert found[1] == pytest.approx(found[0])


def test_one_class_in_train_is_refused() -> None:
    train = scenes_stream(6, "train", 0)
    for part in train:
        for target in part.targets:
            target["segmentation"][:] = 1
    with pytest.raises(DataError, match="one class"):
        task("linear_segmentation", "logreg").fit(train, CONTEXT)


# -- Leopart's linear probe -------------------------------------------------------------------------------------------


def test_leopart_scores_on_a_square_with_nearest_masks_and_bilinear_logits() -> None:
    train, val = scenes_stream(8, "train", 0), scenes_stream(3, "val", 1)
    probe = task("linear_segmentation", "leopart", score_px=20)
    head = probe.fit(train, CONTEXT)
    rows = probe.measure(head, val, CONTEXT)
    for i, (x, target) in enumerate(zip(val.batches[0].tokens["patch"], val.batches[0].targets, strict=True)):
        logits = F.interpolate(head(x).permute(2, 0, 1)[None], (20, 20), mode="bilinear")[0].argmax(0).numpy()
        mask = torch.from_numpy(target["segmentation"])[None, None].float()
        label = F.interpolate(mask, (20, 20), mode="nearest-exact")[0, 0].numpy().astype(int)
        right = [int(((label == c) & (logits == c)).sum()) for c in range(6)]
        assert rows.stats["tp"][i].tolist() == right
        assert rows.stats["tp"][i].sum() + rows.stats["fn"][i].sum() == (label != 255).sum()


def test_leopart_depends_on_the_seed_and_learns() -> None:
    train, val = scenes_stream(16, "train", 0), scenes_stream(4, "val", 1)
    probe = task("linear_segmentation", "leopart")
    one, two, again = (probe.fit(train, context(6, seed=s)) for s in (0, 1, 0))
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, two.weight)
    untrained = task("linear_segmentation", "leopart", epochs=0)
    before = value(untrained.measure(untrained.fit(train, CONTEXT), val, CONTEXT), "aAcc")
    assert value(probe.measure(one, val, CONTEXT), "aAcc") > before + 20


def test_the_rate_drops_to_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spied(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", spied)
    probe = task("linear_segmentation", "leopart", epochs=3, drop_epoch=2, batch=8, learning_rate=1.0)
    probe.fit(scenes_stream(8, "train", 0), CONTEXT)
    assert rates == pytest.approx([1.0, 1.0, 0.1])


# -- few shots --------------------------------------------------------------------------------------------------------


def test_patch_knn_equals_a_slow_restatement() -> None:
    train, val = scenes_stream(4, "train", 0), scenes_stream(2, "val", 1)
    local = task("knn_segmentation", "local", shots=0)
    rows = local.measure(local.fit(train, CONTEXT), val, CONTEXT)
    memory = [(x / np.linalg.norm(x), majority(cell)) for x, cell in cell_rows(train) if majority(cell) != 6]
    tokens, classes = np.stack([x for x, _ in memory]), [y for _, y in memory]
    right = np.zeros(6)
    for x, cell in cell_rows(val):
        found = classes[int((tokens @ x).argmax())]
        right[found] += (cell == found).sum()
    np.testing.assert_array_equal(rows.stats["tp"].sum(0), right)


def test_shots_are_whole_images_drawn_by_the_seed_and_not_by_order() -> None:
    train = scenes_stream(12, "train", 0)
    local = task("knn_segmentation", "local", shots=3)
    head = local.fit(train, CONTEXT)
    assert head.images == 3
    assert len(head.neighbours) <= 3 * 80
    backwards = MemoryStream([*reversed(scenes_stream(12, "train", 0, batch_size=1).batches)], "train")
    assert sorted(local.fit(backwards, CONTEXT).classes.tolist()) == sorted(head.classes.tolist())
    assert local.fit(train, context(6, seed=1)).classes.tolist() != head.classes.tolist()


# -- centroids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_centroids_equal_upsampled_features_pixel_by_pixel(distance: str) -> None:
    train, val = scenes_stream(5, "train", 0), scenes_stream(2, "val", 1)
    centroid = task("knn_segmentation", "centroid", k=3, distance=distance)
    rows = centroid.measure(centroid.fit(train, CONTEXT), val, CONTEXT)

    def upsampled(x):
        return F.interpolate(x.permute(2, 0, 1)[None], (32, 40), mode="bilinear")[0].permute(1, 2, 0).double().numpy()

    memory, classes = [], []
    for x, target in zip(train.batches[0].tokens["patch"], train.batches[0].targets, strict=True):
        up = upsampled(x)
        for c in range(6):
            if (target["segmentation"] == c).any():
                memory.append(up[target["segmentation"] == c].mean(0))
                classes.append(c)
    memory, classes = np.array(memory), np.array(classes)
    right = np.zeros(6)
    for x, target in zip(val.batches[0].tokens["patch"], val.batches[0].targets, strict=True):
        for f, label in zip(upsampled(x).reshape(-1, 24), target["segmentation"].ravel(), strict=True):
            if label != 255:
                near = ((memory - f) ** 2).sum(1)
                if distance == "cosine":
                    near = -(memory @ f) / np.linalg.norm(memory, axis=1)
                found = np.bincount(classes[np.argsort(near)[:3]], minlength=6).argmax()
                right[label] += found == label
    np.testing.assert_allclose(rows.stats["tp"].sum(0), right, atol=3)  # float32 ties


# -- clusters ---------------------------------------------------------------------------------------------------------


def test_the_projection_equals_scikit_learns() -> None:
    x = torch.randn(400, 10, generator=torch.Generator().manual_seed(0)) @ torch.randn(10, 10) + 3
    moments = Moments.empty(x.mean(0), 0)
    moments.add(x, x[:, :0])
    found = Projection.fit(moments, 4)(x).numpy()
    expected = PCA(4).fit_transform(StandardScaler().fit_transform(x.numpy()))
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-3)


def test_kmeans_finds_separate_clusters_and_refuses_too_few_points() -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(300, 5)) + 20 * np.eye(5)[rng.integers(0, 5, 300)]).astype(np.float32)
    found, expected = kmeans(points, 5, 20, 50, 0), KMeans(5, n_init=20, random_state=0).fit_predict(points)
    table = np.zeros((5, 5))
    np.add.at(table, (found, expected), 1)
    assert table[linear_sum_assignment(-table)].sum() == 300
    with pytest.raises(DataError, match="3 tokens cannot make 4 clusters"):
        kmeans(points[:3], 4, 5, 1, 0)


def test_names_by_majority_and_by_matching() -> None:
    matrix = np.array([[9, 5, 0, 0], [1, 4, 8, 2], [0, 0, 1, 2]])
    assert majority_classes(matrix).tolist() == [0, 0, 1, 1]
    best = max(
        ((a, b, c) for a in range(4) for b in range(4) for c in range(4) if len({a, b, c}) == 3),
        key=lambda t: sum(
            matrix[k, j] / (matrix[k].sum() + matrix[:, j].sum() - matrix[k, j]) for k, j in enumerate(t)
        ),
    )
    names = matched_classes(matrix)
    assert [int(names[j]) for j in best] == [0, 1, 2]
    assert names[next(j for j in range(4) if j not in best)] == 0  # the leftover cluster is background


def test_clusters_that_are_the_classes_score_everything_but_borders() -> None:
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((16, 16))).astype(np.uint8)
    tokens = F.one_hot(torch.from_numpy(np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), np.int64))), 4).float()
    tokens = tokens[[0, 0, 0]] if tokens.ndim == 4 else tokens.expand(3, -1, -1, -1)
    stream = MemoryStream([batch({"patch": tokens}, [{"image_hw": (32, 32), "segmentation": labels}] * 3, 4)])
    for protocol, clusters in (("leopart", 0), ("leopart_over", 4)):
        rows = task("cluster_segmentation", protocol, clusters=clusters).measure(None, stream, context(4))
        assert value(rows, "mIoU") == value(rows, "patch_accuracy") == 100


def test_more_clusters_than_tokens_and_a_negative_number_are_said() -> None:
    val = scenes_stream(2, "val", 1)
    with pytest.raises(DataError, match="160 tokens cannot make 500"):
        task("cluster_segmentation", "leopart_over", clusters=500).measure(None, val, CONTEXT)
    with pytest.raises(UsageError, match="clusters=-1"):
        task("cluster_segmentation", "leopart", clusters=-1).measure(None, val, CONTEXT)


@pytest.mark.parametrize("protocol, whole", [("capi", False), ("logreg", True)])
def test_capis_scale_leaves_held_out_images_out(protocol, whole):
    train = scenes_stream(12, "train", 1)
    rest = frozenset(train.keys) - holdout_keys(train.keys, 0.1)
    expected = ChannelScale.fit(train, "patch", None if whole else rest)
    assert torch.equal(
        task("linear_segmentation", protocol, max_iter=2).fit(train, CONTEXT).scale.scale, expected.scale
    )
