"""DINOv2's image protocols: what heads read, who chooses, and that nothing is chosen on images that are scored unless flagged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue import TASKS
from vitbench.choices import Filters, choose
from vitbench.data.random_crop import random_resized_crop
from vitbench.errors import DataError, UsageError
from vitbench.tasks.dinov2_knn import few, without_itself
from vitbench.tasks.dinov2_linear import image_vector, parts
from vitbench.tasks.image_features import image_features

from .live import live_scenes
from .streams import context, light, scenes_stream

FIELD = "cls_normed_-4+cls_normed_-3+cls_normed_-2+cls+patch"
CONTEXT = context(6, (2, 3, 4, 5), 4)


def task(name: str, **changes):
    ref = light(TASKS.get(name), "dinov2")
    return replace(ref, settings=replace(ref.settings, **changes)).load()


def test_heads_read_the_last_cls_tokens_and_the_average_behind_them() -> None:
    found = {p.name: (p.start, p.stop) for p in parts(FIELD, 50, [1, 4], [0, 1])}
    assert found == {"cls x 1": (30, 40), "cls x 1+average": (30, 50), "cls x 4": (0, 40), "cls x 4+average": (0, 50)}


@pytest.mark.parametrize("changes", [{"field": "patch"}, {"field": "patch+cls"}, {"blocks": "5"}, {"average": "2"}])
def test_settings_that_mean_nothing_are_refused(changes) -> None:
    with pytest.raises(UsageError, match=r"field|blocks"):
        task("linear_classification", **changes).fit(live_scenes(8, "train", 0), CONTEXT)


def test_image_features_are_cls_tokens_and_the_mean_of_the_grid() -> None:
    live = live_scenes(1, "train", 0)
    image = np.zeros((32, 40, 3), np.uint8)
    from vitbench.catalogue.views import View
    from vitbench.tokens.views import place

    tokens = live.tokens([place(image, View("crop", 32), 4)[0]], ["a"])
    vector = image_vector(tokens, FIELD)
    assert vector.shape == (1, 75)
    torch.testing.assert_close(vector[:, -15:], tokens["patch"].mean((1, 2)))


@pytest.mark.parametrize("name", ["knn_classification", "linear_classification"])
def test_a_choice_on_the_test_split_is_flagged_and_no_worse_there(name) -> None:
    found = {}
    for choose_on in ("holdout", "test"):
        run = task(name, choose_on=choose_on)
        if name == "knn_classification":
            train, val = scenes_stream(24, "train", 0, noise=3.0), scenes_stream(24, "val", 1, noise=3.0)
        else:
            train, val = live_scenes(24, "train", 0), live_scenes(24, "val", 1)
        head = run.fit(train, CONTEXT)
        rows = run.measure(head, val, CONTEXT)
        assert run.flags(head, rows).get("selection") == ("oracle" if choose_on == "test" else None)
        found[choose_on] = rows.sums()["correct"]
    if name == "knn_classification":  # the linear heads have other train images, too
        assert found["test"] >= found["holdout"]


def test_held_out_images_are_not_trained_on() -> None:
    live = live_scenes(10, "train", 0)
    drawn: list[str] = []
    sample = live.sample
    live.sample = lambda key: drawn.append(key) or sample(key)  # type: ignore[method-assign]
    run = task("linear_classification", holdout=0.3, iterations=20)
    run.fit(live, CONTEXT)
    counts = {key: drawn.count(key) for key in live.keys}
    assert sorted(counts.values())[:3] == [1, 1, 1]  # seen once, when heads are chosen
    assert sorted(counts.values())[3] > 1


def test_a_few_images_of_each_class_are_remembered_whatever_their_order() -> None:
    train, val = scenes_stream(40, "train", 0, noise=3.0), scenes_stream(20, "val", 1, noise=3.0)
    keys = np.array(train.keys)
    labels = np.array([t["label"] for part in train for t in part.targets])

    def memory(stream, seed=0, **changes):
        run = task("knn_classification", n_per_class=3, k="1/3", **changes)
        return run, run.fit(stream, context(6, (2, 3, 4, 5), 4, seed))

    run, head = memory(train)
    assert torch.bincount(head.labels, minlength=4).tolist() == np.minimum(np.bincount(labels, minlength=4), 3).tolist()
    backwards = type(train)(train.batches[::-1], train.split)
    assert torch.equal(memory(backwards)[1].labels.sort().values, head.labels.sort().values)
    ours, theirs = (run.measure(h, val, CONTEXT).stats["correct"] for h in (head, memory(backwards)[1]))
    np.testing.assert_array_equal(ours, theirs)
    features = image_features(train, "cls")
    drawn = [set(few(features, 3, seed).keys) for seed in range(4)]
    assert len(set(map(frozenset, drawn))) == 4
    assert all(few(features, 99, seed).keys == tuple(keys) for seed in range(2))
    with pytest.raises(UsageError, match="n_per_class=-1"):
        task("knn_classification", n_per_class=-1)


def test_a_drawn_memory_is_run_for_every_seed_and_a_whole_one_once() -> None:
    asked = "knn_classification@dinov2,knn_classification@dinov2[n_per_class=2]"
    filters = Filters.parse("random_vit", "none", asked, "scenes", "0,1,2")
    seeds = Counter(choice.task.settings.n_per_class for choice in choose(None, filters).choices)
    assert seeds == {0: 1, 2: 3}


def test_an_image_never_votes_for_itself() -> None:
    similarities = torch.tensor([[1.0, 0.9, 0.8], [1.0, 1.0, 0.7]])
    indices = torch.tensor([[4, 2, 3], [1, 0, 2]])
    kept = without_itself(similarities, indices, torch.tensor([4, 0]))
    assert kept[1].tolist() == [[2, 3], [1, 2]]
    torch.testing.assert_close(kept[0], torch.tensor([[0.9, 0.8], [1.0, 0.7]]))
    # a duplicate pushed the image itself out of its own list
    assert without_itself(similarities[:1], indices[:1], torch.tensor([9]))[1].tolist() == [[4, 2]]


def test_a_label_outside_the_declared_classes_names_the_image() -> None:
    with pytest.raises(DataError, match=r"image 'train-.*outside the 2 classes"):
        task("linear_classification").fit(live_scenes(8, "train", 0), context(6, (2, 3, 4, 5), 2))


def test_random_crops_have_the_size_asked_for_whatever_the_image() -> None:
    for hw in ((30, 40), (400, 8), (8, 400), (1, 1)):
        image = np.full((*hw, 3), 7, np.uint8)
        for seed in range(5):
            crop = random_resized_crop(image, 28, np.random.default_rng(seed))
            assert crop.shape == (28, 28, 3)
            assert (crop == 7).all()


def test_random_crops_cover_from_a_twelfth_to_all_of_an_image() -> None:
    ramp = np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (240, 240, 3))
    widths = [int(np.ptp(random_resized_crop(ramp, 32, np.random.default_rng(i))[0, :, 0])) for i in range(60)]
    assert min(widths) < 110
    assert max(widths) > 200
