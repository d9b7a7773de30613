"""Card of zero-shot classification: what CLIP's image embedding still says of its text embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class ZeroShotSettings(TaskSettings):
    """Settings of `zero_shot_classification@open_clip`."""

    field: str = setting("cls", "CLS after the final norm; the visual projection of the same weights is applied to it")
    view: str = setting("centre", "how the image becomes network input: shorter side to image_px, then the centre")
    image_px: int = setting(224, "side of that view in pixels")
    templates: Literal["imagenet80", "imagenet7", "photo"] = setting(
        "imagenet80",
        "prompts that the name of a class is put into: OpenAI's 80 for ImageNet, seven of them, or `a photo of a {}.`",
    )
    names: Literal["curated", "dataset"] = setting(
        "curated", "names of ImageNet's classes: those that OpenAI curated, or as in the data set (of others always so)"
    )


ZERO_SHOT_CLASSIFICATION = TaskCard(
    name="zero_shot_classification",
    entry="vitbench.tasks.zero_shot_classification:ZeroShotClassification",
    title="Zero-shot classification",
    family="image",
    metric="classification",
    headline="top1",
    targets=("label",),
    splits=("val",),
    language=True,
    summary="CLIP's own classifier: the class whose name, in prompts, has the text embedding nearest to the image's.",
    protocols=(
        Protocol(
            name="open_clip",
            version=1,
            settings=ZeroShotSettings(),
            summary="Every prompt of a class through the text tower that was trained with the backbone; unit embeddings, their "
            "mean, unit again. An image gets the class with the largest cosine. The image side is the backbone's CLS through the "
            "visual projection, so that a repair which changes CLS changes the number; one that only maps patch tokens is not "
            "applicable. Needs the extra `open_clip`, and weights that hold both towers: the repository on the hub that belongs "
            "to the timm id, or `--weights NAME=FILE` with an open_clip checkpoint.",
            source=Source("Radford et al.", 2021, "2103.00020", "https://github.com/mlfoundations/open_clip"),
            differs="CLS is stored in float16, and the text tower runs in float32 whatever `--dtype` says. Towers that pool "
            "their image embedding by attention (SigLIP, PE-Core) are not applicable. Folders' names become words: no numbers in "
            "front, blanks for underscores and slashes. For ImageNet, open_clip itself reports 70.23 for "
            "`vit_base_patch16_clip_224.laion2b` and 75.25 for `vit_large_patch14_clip_224.laion2b` (docs/openclip_results.csv); "
            "arXiv 2506.08010 reports 71.3 and 76.4 for the same models, by a protocol that could not be verified: its values "
            "stand beside no cell of this one.",
        ),
    ),
)
