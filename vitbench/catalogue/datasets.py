"""Cards of the data sets."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.dataset_cards import RELEASED

# As `vitbench.data.scenes` has them (a test says they agree); written out here because cards import no numpy.
SCENE_SHAPES = ("ring", "box", "star", "fir", "barrel", "pinecone")
SCENE_BACKGROUNDS = ("bricks", "planks", "waves", "cobbles")

SCENES = DatasetCard(
    name="scenes",
    entry="vitbench.data.scenes:load",
    summary="the lab's procedural scenes: solids of six shapes before four reliefs, with exact targets",
    splits={"train": 2000, "val": 500},
    targets=("label", "segmentation", "depth", "boxes", "labels"),
    classes=SCENE_SHAPES + SCENE_BACKGROUNDS,
    object_classes=tuple(range(len(SCENE_SHAPES))),
    label_classes=SCENE_SHAPES,
    size_px=(192, 192),
    version=1,
    licence="Apache-2.0",
)
CLIPS = DatasetCard(
    name="clips",
    entry="vitbench.data.clips:load",
    summary="the lab's clips: scenes in motion, ten frames each, with object masks and points followed exactly",
    splits={"train": 200, "val": 400},
    targets=("segmentation", "frames", "keypoints", "boxes", "label", "depth"),
    label_classes=SCENE_SHAPES,
    size_px=(192, 192),
    version=1,
    licence="Apache-2.0",
)


def _perturbed(change: str, what: str) -> DatasetCard:
    return DatasetCard(
        name=f"scenes_{change}",
        entry=f"vitbench.data.perturbed:load_{change}",
        summary=f"the lab's scenes, each as it is, then to the side in other light, and so three times {what}",
        splits={"train": 80, "val": 300},
        targets=("boxes", "frames", "segmentation"),
        size_px=(192, 192),
        version=2,
        licence="Apache-2.0",
    )


SCENES_BLUR = _perturbed("blur", "blurred")
SCENES_NOISE = _perturbed("noise", "under noise")
SCENES_ZOOM = _perturbed("zoom", "from nearer")
FOLDER = DatasetCard(
    name="folder",
    entry="vitbench.data.folder:load",
    summary="your own images: folder:PATH, with masks, depth, boxes and labels where they lie beside them",
    splits={},
    targets=("label", "segmentation", "depth", "boxes"),
    licence="yours",
)

DATASET_CARDS: tuple[DatasetCard, ...] = (SCENES, CLIPS, SCENES_BLUR, SCENES_NOISE, SCENES_ZOOM, FOLDER, *RELEASED)
