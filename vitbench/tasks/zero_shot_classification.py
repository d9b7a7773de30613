"""Zero-shot classification of images by the names of their classes (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.catalogue.language import WORDNET_ID, class_words
from vitbench.catalogue.tasks.zero_shot import ZERO_SHOT_CLASSIFICATION, ZeroShotSettings
from vitbench.errors import DataError, NotApplicableError
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Language, Task, TaskContext, TokenStream
from vitbench.tasks.image_features import image_features, label_count
from vitbench.tasks.units import UnitRows


class ZeroShotClassification(Task[ZeroShotSettings]):
    """The class whose prompts are nearest to the image, by cosine in the space that both towers share."""

    card: ClassVar[TaskCard] = ZERO_SHOT_CLASSIFICATION

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        language = context.language
        if language is None:
            raise NotApplicableError("zero-shot classification without a text tower", "choose a CLIP backbone")
        features = image_features(test, self.settings.field)
        label_count(features, context)  # a label without a class is an error
        names = spoken_names(context.dataset, language, self.settings.names == "curated")
        templates = language.templates(self.settings.templates)
        classes = language.classifier([[template.format(name) for template in templates] for name in names])
        scores = cosines(language.project(features.x), classes).double().cpu().numpy()
        units = UnitRows()
        for key, row, label in zip(features.keys, scores, features.y.tolist(), strict=True):
            units.add(key, hits(row, label))
        return units.rows({"classes": len(names), "prompts_per_class": len(templates)})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return dict(rows.info)


def cosines(images: Tensor, classes: Tensor) -> Tensor:
    """Embeddings of images n d (any length) and of classes k d (unit length) -> cosines n k."""
    return normalize(images, dim=-1) @ classes.to(images.device).T


def spoken_names(dataset: DatasetCard, language: Language, curated: bool) -> tuple[str, ...]:
    """What a prompt calls each class, by label: ImageNet's as OpenAI curated them, others as the data set does.

    ImageNet is known by its name or by the WordNet ids of its classes, so that a part of it is ImageNet, too. Raises DataError
    for WordNet ids that have no name here.
    """
    words = class_words(dataset)
    if not curated and not any(WORDNET_ID.fullmatch(word) for word in words):
        return words
    known = language.imagenet_names() if curated else {}
    if dataset.name == "imagenet1k" and len(words) == len(known):
        return tuple(known.values())
    unknown = [word for word in words if WORDNET_ID.fullmatch(word) and word not in known]
    if unknown:
        raise DataError(
            f"data set {dataset.name!r}: no name for the class {unknown[0]!r}", "prompts need words, not WordNet ids"
        )
    return tuple(known.get(word, word) for word in words)
