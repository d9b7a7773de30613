"""Streaming protocols: the live stream, the sliding test, the depth bins, against slow restatements."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vitbench.catalogue import TASKS
from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.data.augment import fitted_hw, resized
from vitbench.errors import DataError, UsageError
from vitbench.heads.ridge import LinearHead
from vitbench.metrics.depth import garg_crop, image_metrics
from vitbench.tasks import slide_segmentation, training
from vitbench.tasks.binned_depth import bin_depths, sig_loss
from vitbench.tasks.crops import centred, starts
from vitbench.tasks.slide_segmentation import ChosenHead, recipes, slid_classes, stretched_classes
from vitbench.tasks.training import drawn

from .live import LiveScenes, live_scenes
from .streams import context, light, scene

CONTEXT = context(6, (2, 3, 4, 5), 4)
CHANNELS = 15


def task(name: str, protocol: str, **changes):
    ref = light(TASKS.get(name), protocol)
    return dataclasses.replace(ref, settings=dataclasses.replace(ref.settings, **changes)).load()


# -- the stream -------------------------------------------------------------------------------------------------------


def test_every_epoch_sees_every_image_once_in_another_order() -> None:
    settings, keys = StreamSettings(iterations=6, batch=4), [f"k{i}" for i in range(8)]
    seen = [key for key, _ in drawn(keys, settings, 0, 0)]
    assert len(seen) == 24
    epochs = [seen[i : i + 8] for i in (0, 8, 16)]
    assert all(sorted(e) == keys for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_what_is_drawn_depends_on_seed_and_place_alone() -> None:
    settings, keys = StreamSettings(iterations=5, batch=3), ["a", "b"]

    def all_of(seed: int, start: int):
        return [(k, np.random.default_rng(seeds).random()) for k, seeds in drawn(keys, settings, seed, start)]

    assert all_of(0, 0)[6:] == all_of(0, 2)
    assert all_of(0, 0) != all_of(1, 0)
    assert len({number for _, number in all_of(0, 0)}) == 15


def test_crops_are_padded_on_all_sides_in_normalised_space() -> None:
    image = np.full((26, 30, 3), 255, np.uint8)
    scenes = live_scenes(1, "train", 0)
    pixels, placement = centred(image, (30, 30), 4)
    assert placement.view_hw == (32, 32)
    assert placement.content_at == (1, 1)
    tokens = scenes.tokens([(pixels, placement)], ["a"])
    assert tokens["patch"].shape == (1, 8, 8, CHANNELS)
    mean = tokens["patch"][0, ..., 0]
    assert float(mean[3, 3]) == 2.0  # white, normalised
    assert float(mean[0, 3]) == pytest.approx(2.0 * 12 / 16)  # one row of four is padding
    assert float(mean[7, 3]) == 0.0  # 26 rows end within the seventh cell
    assert not tokens.geometry.valid()[0][7].any()


def test_an_interrupted_fit_ends_where_an_uninterrupted_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEEP_EVERY", 4)
    for name, protocol in (("linear_segmentation", "dinov3"), ("depth", "dinov3")):
        runs = task(name, protocol, iterations=11)
        whole = runs.fit(live_scenes(6, "train", 0), CONTEXT)

        class Failing(LiveScenes):
            calls = 0

            def tokens(self, placed, keys):
                self.calls += 1
                if self.calls == 7:
                    raise KeyboardInterrupt
                return super().tokens(placed, keys)

        healthy = live_scenes(6, "train", 0)
        broken = live_scenes(6, "train", 0)
        broken.__class__ = Failing
        with pytest.raises(KeyboardInterrupt):
            runs.fit(broken, CONTEXT)
        assert int(broken.kept["iteration"]) == 4
        healthy.kept = broken.kept
        resumed = runs.fit(healthy, CONTEXT)
        assert healthy.seen[0] == ("4.0", "4.1", "4.2", "4.3")[: len(healthy.seen[0])]
        assert torch.equal(resumed.head.weight, whole.head.weight)
        healthy.kept = {**broken.kept, "iteration": torch.tensor(11)}
        assert torch.equal(runs.fit(healthy, CONTEXT).head.weight.isfinite(), torch.ones_like(whole.head.weight).bool())


def test_an_empty_train_split_and_bad_settings_are_said() -> None:
    with pytest.raises(DataError, match="empty"):
        task("linear_segmentation", "dinov2").fit(live_scenes(0, "train", 0), CONTEXT)
    with pytest.raises(UsageError, match="not a list of float"):
        task("linear_segmentation", "dinov2", learning_rate="fast").fit(live_scenes(3, "train", 0), CONTEXT)
    with pytest.raises(UsageError, match="HIGH/LOW"):
        task("depth", "dinov3", beta1="0.9/0.8/0.7").fit(live_scenes(3, "train", 0), CONTEXT)
    with pytest.raises(UsageError, match="iterations=0"):
        task("depth", "dinov2", iterations=0).fit(live_scenes(3, "train", 0), CONTEXT)


# -- segmentation -----------------------------------------------------------------------------------------------------


def test_crops_of_several_sizes_in_a_batch_are_said() -> None:
    sizes = {f"im{i}": scene(np.random.default_rng(i), hw, 6) for i, hw in enumerate([(20, 30), (24, 28)] * 2)}
    small = LiveScenes(sizes, "train")
    with pytest.raises(DataError, match=r"crops of \d+ x \d+ and \d+ x \d+ pixels in one batch"):
        task("depth", "dinov2", batch=4).fit(small, CONTEXT)
    assert task("depth", "dinov2", batch=4, crop_h=16, crop_w=24, iterations=2).fit(small, CONTEXT)


def test_windows_cover_the_image_and_the_last_is_shifted_inside() -> None:
    assert starts(512, 512, 341) == [0]
    assert starts(683, 512, 341) == [0, 171]
    assert starts(2048, 512, 341) == [0, 341, 682, 1023, 1364, 1536]
    assert starts(300, 512, 341) == [0]


@pytest.mark.parametrize("hw", [(32, 40), (50, 33), (20, 90)])
def test_sliding_equals_one_window_after_another(hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 6, hw).astype(np.uint8)
    depth = np.ones(hw, np.float32)
    scenes = LiveScenes({"a": {"segmentation": label, "depth": depth}}, "val")
    slide = task("linear_segmentation", "dinov2", short_px=36, long_px=60)
    g = torch.Generator().manual_seed(1)
    head = LinearHead(torch.randn(CHANNELS, 6, generator=g), torch.randn(6, generator=g))
    image = scenes.sample("a")["image"]
    size = fitted_hw(hw, 36, 60)
    image = resized(image, size)
    total, count = torch.zeros(6, *size), torch.zeros(size)
    for y in starts(size[0], 30, 20):
        for x in starts(size[1], 30, 20):
            window = image[y : y + 30, x : x + 30]
            wh = window.shape[:2]
            tokens = scenes.tokens([centred(window, wh, 4)], ["w"])["patch"]
            logits = F.interpolate(head(tokens).permute(0, 3, 1, 2), wh, mode="bilinear", align_corners=False)[0]
            total[:, y : y + 30, x : x + 30] += logits
            count[y : y + 30, x : x + 30] += 1
    assert (count > 0).all()
    expected = F.interpolate((total / count)[None], hw, mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    rows = slide.measure(ChosenHead(head, recipes("1", "0")[0], {}), scenes, CONTEXT)
    right = [int(((expected == c) & (label == c)).sum()) for c in range(6)]
    np.testing.assert_allclose(rows.stats["tp"][0], right, atol=2)  # last bits of float32


def test_scales_and_mirror_images_are_averaged_as_probabilities_of_the_label_s_pixels() -> None:
    hw = (34, 46)
    label = np.random.default_rng(0).integers(0, 6, hw).astype(np.uint8)
    scenes = LiveScenes({"a": {"segmentation": label, "depth": np.ones(hw, np.float32)}}, "val", noise=60.0)
    slide = task("linear_segmentation", "dinov2", short_px=32, long_px=44, scales="1/1.5", flip=True)
    g = torch.Generator().manual_seed(1)
    head = LinearHead(torch.randn(CHANNELS, 6, generator=g), torch.randn(6, generator=g))
    total = torch.zeros(6, *hw)
    for short, long in ((32, 44), (48, 66)):
        for mirrored in (False, True):
            image = scenes.sample("a")["image"]
            image = resized(image, fitted_hw(hw, short, long))
            size, image = image.shape[:2], image[:, ::-1] if mirrored else image
            logits, count = torch.zeros(6, *size), torch.zeros(size)
            for y in starts(size[0], 30, 20):
                for x in starts(size[1], 30, 20):
                    window = np.ascontiguousarray(image[y : y + 30, x : x + 30])
                    wh = window.shape[:2]
                    z = head(scenes.tokens([centred(window, wh, 4)], ["w"])["patch"]).permute(0, 3, 1, 2)
                    logits[:, y : y + 30, x : x + 30] += F.interpolate(z, wh, mode="bilinear", align_corners=False)[0]
                    count[y : y + 30, x : x + 30] += 1
            shares = F.interpolate((logits / count)[None], hw, mode="bilinear", align_corners=False)[0].softmax(0)
            total += shares.flip(-1) if mirrored else shares
    expected = total.argmax(0).numpy()
    [inputs] = slide.testing(scenes, CONTEXT)
    assert len({key for _, keys in inputs.batches for key in keys}) == sum(len(keys) for _, keys in inputs.batches)
    found = slid_classes(head, [scenes.tokens(*batch)["patch"] for batch in inputs.batches], inputs)
    assert (found == expected).mean() > 0.998  # last bits of float32
    single = task("linear_segmentation", "dinov2", short_px=32, long_px=44)
    [inputs] = single.testing(scenes, CONTEXT)
    one = slid_classes(head, [scenes.tokens(*batch)["patch"] for batch in inputs.batches], inputs)
    assert (one != expected).mean() > 0.01


def test_logits_are_stretched_as_torch_does() -> None:
    logits = torch.randn(5, 7, 9, generator=torch.Generator().manual_seed(0))
    for hw in ((20, 31), (4, 5)):
        expected = F.interpolate(logits[None], hw, mode="bilinear", align_corners=False)[0].argmax(0).numpy()
        assert (stretched_classes(logits, hw) == expected).mean() > 0.999


def test_heads_are_chosen_on_images_that_no_head_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, asked = live_scenes(20, "train", 0), []
    slide = task("linear_segmentation", "dinov2", learning_rate="0.05/1e-7", weight_decay="0/1e-4", holdout=0.2)
    monkeypatch.setattr(
        slide_segmentation, "slid_classes",
        lambda head, tokens, inputs: (asked.append(inputs.about.key), slid_classes(head, tokens, inputs))[1],
    )  # fmt: skip
    trained: set[str] = set()
    monkeypatch.setattr(
        training, "drawn", lambda keys, *rest: (trained.update(keys), drawn(keys, *rest))[1]
    )  # fmt: skip
    head = slide.fit(scenes, CONTEXT)
    assert sorted(asked) == sorted(4 * list(dict.fromkeys(asked)))  # four heads
    assert len(set(asked)) == 4
    assert sum(key.startswith("train") for keys in scenes.seen for key in keys[:1]) == 4  # and one forward for them
    assert not trained & set(asked)
    assert len(trained) == 16
    assert head.recipe.learning_rate == 0.05
    assert slide.flags(head, None)["learning_rate"] == 0.05


def test_a_label_outside_the_classes_names_the_image() -> None:
    scenes = live_scenes(3, "train", 0)
    for key in scenes.keys:
        scenes.sample(key)["segmentation"][0, 0] = 9
    with pytest.raises(DataError, match="label 9 is outside the 6 classes"):
        task("linear_segmentation", "dinov2").fit(scenes, CONTEXT)
    # Without declared classes it is a class like any other.
    assert len(task("linear_segmentation", "dinov2", iterations=2).fit(scenes, context()).head.bias) == 10


# -- depth ------------------------------------------------------------------------------------------------------------


def test_bins_upsampled_after_the_layer_equal_features_upsampled_before_it() -> None:
    g = torch.Generator().manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 4, 5, generator=g), torch.randn(5, 8, generator=g), torch.randn(8, generator=g)
    bins = torch.linspace(0.001, 10, 8)
    up = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=4, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    shares = torch.relu(up @ weight + bias) + 0.1
    expected = (shares / shares.sum(-1, keepdim=True)) @ bins
    torch.testing.assert_close(bin_depths((x @ weight + bias).permute(0, 3, 1, 2), bins, 4), expected)


def test_the_loss_is_the_written_formula() -> None:
    rng = np.random.default_rng(0)
    p, d = rng.uniform(0.5, 5, (2, 6, 6)), rng.uniform(0.5, 5, (2, 6, 6))
    valid = rng.random((2, 6, 6)) < 0.6
    error = np.log(p[valid] + 1e-3) - np.log(d[valid] + 1e-3)
    t = [torch.from_numpy(a) for a in (p, d)]
    mask = torch.from_numpy(valid)
    assert float(sig_loss(*t, mask, False)) == pytest.approx(np.sqrt(error.var(ddof=1) + 0.15 * error.mean() ** 2))
    assert float(sig_loss(*t, mask, True)) == pytest.approx(np.sqrt(0.15) * abs(error.mean()))
    assert float(sig_loss(*t, torch.zeros_like(mask), False)) == 0


def test_the_loss_is_taken_over_the_images_of_one_device() -> None:
    depth = task("depth", "dinov2", images_per_loss=2, max_depth_m=10.0, mean_only=0)
    g = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(4, 32, 3, 3, generator=g), torch.rand(4, 12, 12, generator=g) * 12
    pairs = [depth._loss(logits[i : i + 2], truth[i : i + 2], 0) for i in (0, 2)]
    assert float(depth._loss(logits, truth, 0)) == pytest.approx(float(sum(pairs)) / 2)
    truth[truth > 10] = 11  # beyond the range: changes nothing
    assert float(depth._loss(logits, truth, 0)) == pytest.approx(float(sum(pairs)) / 2)


def test_depths_are_averaged_with_the_mirror_image_and_clamped() -> None:
    scenes = live_scenes(1, "val", 3)
    head = LinearHead(torch.randn(2 * CHANNELS, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(32))
    mirrored = live_scenes(1, "val", 3)
    mirrored.sample("val-0")["image"] = scenes.sample("val-0")["image"][:, ::-1].copy()

    def predicted(images, hw=(32, 40), **changes):
        depth = task("depth", "dvt", **changes)
        [inputs] = depth.testing(images, CONTEXT)
        [(placed, keys)] = inputs.batches
        return depth.predicted(head, images.tokens(placed, keys)[depth.settings.field], hw)

    one, other = predicted(scenes, flip=False), predicted(mirrored, flip=False)[:, ::-1]
    np.testing.assert_allclose(predicted(scenes), (one + other) / 2, atol=1e-5)
    far = predicted(scenes, (8, 8), min_depth_m=3.0, max_depth_m=3.5)
    assert 3.0 <= far.min() <= far.max() <= 3.5


def test_crops_are_those_of_eigen_and_garg() -> None:
    mask = garg_crop(375, 1242)
    assert mask.sum() == mask[153:371, 44:1197].sum() == (371 - 153) * (1197 - 44)
    scenes = live_scenes(2, "val", 3)
    for crop in ("none", "eigen", "garg"):
        depth = task("depth", "dinov3", crop=crop)
        head = LinearHead(torch.zeros(CHANNELS, 32), torch.zeros(32))
        rows = depth.measure(ChosenHead(head, recipes("1", "0")[0], {}), scenes, CONTEXT)
        truth = scenes.sample("val-1")["depth"]
        valid = (truth > 1e-3) & (truth < 10)
        if crop == "garg":
            valid &= garg_crop(32, 40)
        elif crop == "eigen":
            inside = np.zeros_like(valid)
            inside[3:31, 3:38] = True
            valid &= inside
        expected = image_metrics(np.full((32, 40), 5.0005), truth, valid)
        assert rows.stats["n_pixels"][1] == expected["n_pixels"]
        assert rows.stats["abs_rel"][1] == pytest.approx(expected["abs_rel"], rel=1e-4)


def test_the_mean_of_the_loss_counts_all_pixels_or_the_labelled_ones() -> None:
    labels = torch.randint(0, 6, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    labels[:, :4] = 255
    logits = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    summed = F.cross_entropy(logits, labels, ignore_index=255, reduction="sum")
    found = {
        over: float(task("linear_segmentation", "dinov2", mean_over=over)._loss(labels, 255)(logits.clone()))
        for over in ("all", "valid")
    }
    assert found == pytest.approx({"all": float(summed) / 128, "valid": float(summed) / 64}, rel=1e-5)
    nothing = torch.full_like(labels, 255)
    assert float(task("linear_segmentation", "dinov2", mean_over="valid")._loss(nothing, 255)(logits.clone())) == 0
