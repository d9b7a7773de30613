"""Zero-shot classification: image by image what open_clip's own pipeline gives, and class names that a prompt can hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.backbones.clip import SIDE, build, package, tiny_card, tiny_clip
from vitbench.backbones.text_tower import OpenClipLanguage
from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.language import TextTower, class_words
from vitbench.catalogue.tasks.zero_shot import ZeroShotSettings
from vitbench.catalogue.views import View
from vitbench.catalogue.weights import WeightsState
from vitbench.errors import DataError, NotApplicableError
from vitbench.metrics import measures
from vitbench.tasks.base import Batch, TaskContext
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.zero_shot_classification import ZeroShotClassification, cosines, spoken_names
from vitbench.tokens.placing import place
from vitbench.tokens.types import TokenRequest

from .spoken import Spoken

NAMES = ("tench", "goldfish", "great_white_shark", "001.Tiger_shark", "a/abbey", "crème brûlée", "toy shop")
WORDS = ("tench", "goldfish", "great white shark", "Tiger shark", "abbey", "crème brûlée", "toy shop")


def dataset(*names: str, name: str = "made_up") -> DatasetCard:
    return DatasetCard(name, None, "", {}, ("label",), label_classes=names)


def pictures(n: int) -> list[np.ndarray]:
    """Wide, tall and square ones."""
    rng = np.random.default_rng(0)
    sizes = [(90 + 7 * (i % 3), 100 - 13 * (i % 4)) for i in range(n)]
    return [rng.integers(0, 256, (*hw, 3), dtype=np.uint8) for hw in sizes]


def test_each_image_gets_what_open_clips_own_pipeline_gives_it(tmp_path: Path) -> None:
    open_clip = package()
    clip, path = tiny_clip("ViT-B-16-quickgelu", tmp_path)
    card = tiny_card("ViT-B-16-quickgelu", TextTower(path.stem))
    images, labels = pictures(12), [i % len(NAMES) for i in range(12)]

    transform = open_clip.image_transform(SIDE, is_train=False, mean=card.mean, std=card.std)
    x = torch.stack([transform(Image.fromarray(image)) for image in images])
    classes = open_clip.build_zero_shot_classifier(
        clip, open_clip.get_tokenizer(path.stem), WORDS, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    logits = clip.encode_image(x, normalize=True) @ classes

    backbone = build(card, WeightsState("ready", "file", "0" * 16, str(path)))
    request, keys = TokenRequest(("cls",), View("centre", SIDE)), [f"im{i}" for i in range(12)]
    tokens = backbone.tokens(images, request, keys)
    language = OpenClipLanguage(TextTower(path.stem), path, "tiny_clip")
    prompts = [[text.format(word) for text in language.templates("imagenet80")] for word in WORDS]
    found = cosines(language.project(tokens["cls"]), language.classifier(prompts))
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)
    assert len(set(logits.argmax(-1).tolist())) > 1, "images of more than one class"

    stream = MemoryStream([Batch(tokens, [{"label": label, "image_hw": (1, 1)} for label in labels])])
    task = ZeroShotClassification(ZeroShotSettings(image_px=SIDE))
    rows = task.measure(None, stream, TaskContext(dataset(*NAMES), 0, language))
    best = logits.topk(5).indices
    assert rows.stats["correct"].tolist() == [float(best[i, 0] == label) for i, label in enumerate(labels)]
    assert rows.stats["correct_top5"].tolist() == [float(label in best[i]) for i, label in enumerate(labels)]
    assert task.flags(None, rows) == {"classes": 7, "prompts_per_class": 80}
    top1 = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("classification")}["top1"]
    assert top1 == pytest.approx(100 * np.mean([best[i, 0] == label for i, label in enumerate(labels)]))


@pytest.mark.parametrize("hw", [(64, 64), (97, 64), (64, 131), (200, 333), (50, 41)])
def test_the_view_is_open_clips_own_to_the_pixel(hw: tuple[int, int]) -> None:
    transform = package().image_transform(64, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    image = np.random.default_rng(1).integers(0, 256, (*hw, 3), dtype=np.uint8)
    [(pixels, placement)] = place(image, View("centre", 64), 16)
    expected = (transform(Image.fromarray(image)) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, expected)
    assert placement.view_hw == placement.content_hw == (64, 64)


def test_an_image_of_the_views_size_is_taken_whole() -> None:
    assert View("centre", 224).simplest((224, 224), 16) == View("whole")
    assert View("centre", 224).simplest((224, 230), 16) == View("centre", 224)


def test_names_become_words() -> None:
    assert class_words(dataset(*NAMES)) == WORDS
    others = {
        "/a/apartment_building/outdoor": "apartment building outdoor",
        "707-320": "707-320",
        "n01440764": "n01440764",
    }
    assert class_words(dataset(*others)) == tuple(others.values())


@pytest.mark.parametrize("names", [(), ("0", "1", "2"), ("cat", "17"), ("cat", "001.")])
def test_classes_without_a_name_are_one_clear_line(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"does not name its image classes|is not a name"):
        class_words(dataset(*names))


def test_imagenets_classes_are_called_by_their_curated_names() -> None:
    known = Spoken().imagenet_names()
    assert spoken_names(dataset("n01443537", "n01440764", name="folder:part"), Spoken(), True) == ("goldfish", "tench")
    assert spoken_names(
        dataset("tench, Tinca tinca", "goldfish, Carassius", name="imagenet1k"), Spoken(), True
    ) == tuple(known.values())
    assert spoken_names(dataset("goldfish", "dog"), Spoken(), True) == ("goldfish", "dog")


def test_wordnet_ids_that_nobody_names_are_an_error() -> None:
    with pytest.raises(DataError, match="'made_up': no name for the class 'n99999999'"):
        spoken_names(dataset("n01440764", "n99999999"), Spoken(), True)
    with pytest.raises(DataError, match="no name for the class 'n01440764'"):
        spoken_names(dataset("n01440764"), Spoken(), False)


def test_without_a_text_tower_it_is_not_applicable() -> None:
    context = replace(TaskContext(dataset("cat"), 0), language=None)
    with pytest.raises(NotApplicableError, match="without a text tower"):
        ZeroShotClassification(ZeroShotSettings()).measure(None, MemoryStream([]), context)
