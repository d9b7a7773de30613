"""Look at images through a backbone, once per repair: tokens, norms, attention and LOST's box, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.vit import ViT
from vitbench.catalogue.resolve import RepairStep, repair_chain
from vitbench.catalogue.views import View
from vitbench.data.images import Bytes
from vitbench.data.load import describe_dataset, load
from vitbench.engine.jobs import Workbench
from vitbench.errors import NotApplicableError, TokensError, UnavailableError
from vitbench.heads.ridge import LinearHead
from vitbench.inspection.fits import MemoryFitContext, TrainTokens, as_float
from vitbench.inspection.looks import Floats, Inspection, Look, Picture, Row
from vitbench.inspection.pictures import fitted
from vitbench.inspection.quick import KINDS, Targets, classes_of, depth_of, quick_heads
from vitbench.repairs.base import Repair, State
from vitbench.repairs.compose import build_repair
from vitbench.tasks.lost import lost_boxes
from vitbench.tokens.types import TokenRequest, Tokens

MAPPED = ("patch", "patch_raw")
LONGEST_PATCHES = 32
FIT_PATCHES, FIT_PX = 24, 224
WHOLE = View("whole")

Say = Callable[[str], None]
Maps = list[tuple[Repair[Any], Mapping[str, State]]]


@dataclass(frozen=True)
class Settings:
    """longest_px: of an image, 0 for 32 patches. fit_images of the train split of `fit_on`, for repairs that are fitted.

    predict: also fit quick heads on their labels and depths, and show what they predict.
    """

    longest_px: int = 0
    fit_images: int = 32
    fit_on: str = "scenes"
    dtype: str = "float32"
    predict: bool = False
    say: Say = field(default=lambda _text: None)


def inspect(
    bench: Workbench, backbone: str, repairs: Sequence[str], images: Sequence[tuple[str, Bytes]], settings: Settings
) -> Inspection:
    """One row per repair (canonical names, `none` first), one look per image.

    A repair that cannot be applied is a row that says why; the first must apply. Raises UnavailableError or WeightsError
    for a backbone that cannot be loaded, UsageError for unknown names.
    """
    model = bench.backbone(backbone, settings.dtype)
    patch = model.card.patch_px
    longest = settings.longest_px or LONGEST_PATCHES * patch
    pictures = tuple(fitted(name, pixels, patch, longest) for name, pixels in images)
    train = _Train(settings, bench, patch)
    rows = []
    for repair in repairs:
        settings.say(f"{backbone} {repair}")
        try:
            rows.append(_row(bench, backbone, repair, pictures, train))
        except (NotApplicableError, UnavailableError, TokensError) as error:
            if not rows:  # without the first there is nothing to put the others beside
                raise
            rows.append(Row(repair, refused=str(error)))
    facts = {
        "patch": f"{patch} px",
        "blocks": str(model.depth if isinstance(model, ViT) else 0),
        "channels": str(model.card.embed_dim),
        "weights": model.digest or "none",
    }
    return Inspection(backbone, patch, pictures, tuple(rows), train.told, facts, train.classes)


class _Train:
    """The images that repairs are fitted on, read at first use."""

    def __init__(self, settings: Settings, bench: Workbench, patch_px: int) -> None:
        self._settings, self._root, self.dtype = settings, bench.options.data_root, settings.dtype
        size = min(FIT_PATCHES * patch_px, FIT_PX)
        self.view = View("resize", size).snapped(patch_px)
        self._images: list[Bytes] | None = None
        self._targets = Targets({})
        self._recent: list[TrainTokens] = []

    @property
    def classes(self) -> tuple[str, ...]:
        return self._targets.classes if "segmentation" in self._targets.maps else ()

    def heads(self, model: Backbone, maps: Maps, needs: Sequence[str]) -> dict[str, LinearHead]:
        """Quick heads for patch tokens that went through the maps; none unless wanted and there are targets."""
        if not self._settings.predict:
            return {}
        tokens = self.tokens(model)
        return quick_heads(MemoryFitContext(tokens, "patch", needs, maps), self._targets)

    @property
    def told(self) -> str:
        """What was read, in words; empty if nothing was."""
        if self._images is None:
            return ""
        return f"{len(self._images)} train images of {self._settings.fit_on}, view {self.view}"

    def tokens(self, backbone: Backbone) -> TrainTokens:
        if self._images is None:
            s = self._settings
            s.say(f"fitting on {s.fit_images} images of {s.fit_on}")
            card = describe_dataset(s.fit_on, self._root)
            targets = tuple(t for t in KINDS if s.predict and t in card.targets)
            samples = list(load(s.fit_on, "train", targets=targets, limit=s.fit_images, root=self._root))
            self._images = [sample["image"] for sample in samples]
            maps = {t: [sample[t] for sample in samples] for t in targets}
            self._targets = Targets(maps, card.classes, card.ignore_index)
        for known in self._recent:
            if known.backbone is backbone:
                return known
        together = (*MAPPED, backbone.card.lost_feature, "norms")
        # The tokens of two forwards are kept: repairs of one backbone share them, and memory stays small.
        self._recent = [*self._recent[-1:], TrainTokens(backbone, self._images, self.view, together)]
        return self._recent[-1]


def _row(bench: Workbench, backbone: str, repair: str, pictures: Sequence[Picture], train: _Train) -> Row:
    chain = repair_chain(repair)
    dtype = train.dtype
    swapped = any(step.card.swaps for step in chain)
    model = bench.backbone(_twin(bench.backbone(backbone, dtype).card, backbone) if swapped else backbone, dtype)
    for step in chain:
        if step.card.edits:
            model = _edited(model, step, train)
    lost = model.card.lost_feature
    fields = (*MAPPED, lost, "norms", *_attention(model))
    steps = [step for step in chain if not step.card.edits and not step.card.swaps and step.card.family != "none"]
    needs = tuple(n for step in steps for n in step.card.needs)
    maps = _fitted(model, steps, (*MAPPED, lost), train)
    heads = train.heads(model, maps, needs)
    request = TokenRequest(tuple(dict.fromkeys((*fields, *needs))), WHOLE)
    looks = []
    for i, picture in enumerate(pictures):
        tokens = as_float(model.tokens([picture.pixels], request, [f"{i}-{picture.name}"]))
        for mapped, states in maps:
            tokens = mapped.map(tokens, states)
        looks.append(_look(tokens, lost, heads))
    changed = tuple(f for f in (*MAPPED, lost, "norms") if any(s.acts_on(f) for s in chain if s.card.family != "none"))
    own = swapped or any(step.card.edits for step in chain) or not steps
    return Row(repair, tuple(looks), changed, own, swapped)


def _twin(card: Any, backbone: str) -> str:
    if "+" in backbone:
        raise NotApplicableError("a clean register twin does not repair a planted defect")
    if not card.register_twin:
        raise NotApplicableError(f"{backbone} has no register twin")
    return str(card.register_twin)


def _attention(model: Backbone) -> tuple[str, ...]:
    if not isinstance(model, ViT):
        return ()
    registers = model.prefix - int(model.has_cls) or model.added_registers
    return ("cls_attention",) * model.has_cls + ("register_attention",) * bool(registers)


def _edited(model: Backbone, step: RepairStep, train: _Train) -> Backbone:
    repair = build_repair(step.text)
    state: State = {}
    if step.card.needs_fit:
        fields = step.card.needs or ("patch",)
        state = repair.fit(MemoryFitContext(train.tokens(model), fields[0], fields[1:], ()))
    return repair.edit(model, state)


def _fitted(model: Backbone, steps: Sequence[RepairStep], fields: Sequence[str], train: _Train) -> Maps:
    """The maps of a chain with their states, each fitted on what those before it give."""
    maps: Maps = []
    needs = tuple(n for step in steps for n in step.card.needs)
    tokens = train.tokens(model) if any(step.card.needs_fit for step in steps) else None
    for step in steps:
        repair = build_repair(step.text)
        states: dict[str, State] = {}
        if step.card.needs_fit and tokens is not None:
            for name in fields:
                if step.acts_on(name):
                    states[name] = repair.fit(MemoryFitContext(tokens, name, needs, tuple(maps)))
        maps.append((repair, states))
    return maps


def _look(tokens: Tokens, lost: str, heads: Mapping[str, LinearHead]) -> Look:
    found = lost_boxes(tokens[lost])
    _, w = tokens.geometry.grid_hw
    x0, y0, x1, y1 = (float(v) for v in found.boxes[0])
    row, col = divmod(int(found.seeds[0]), w)
    raw = tokens["patch_raw"][0]
    return Look(
        patch=_array(tokens["patch"][0]),
        norms=_array(tokens["norms"][0]),
        size=_array(torch.linalg.vector_norm(raw, dim=-1)),
        cls_attention=_array(tokens["cls_attention"][0]) if "cls_attention" in tokens else None,
        register_attention=_array(tokens["register_attention"][0]) if "register_attention" in tokens else None,
        box=(x0, y0, x1, y1),
        seed=(row, col),
        classes=classes_of(heads["segmentation"], tokens, "patch") if "segmentation" in heads else None,
        depth_m=depth_of(heads["depth"], tokens, "patch") if "depth" in heads else None,
    )


def _array(x: Tensor) -> Floats:
    out: Floats = x.detach().float().cpu().numpy()
    return out
