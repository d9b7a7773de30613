"""A small network that removes artefacts from any image's patches, taught by cleaned-up train images: stage 2 of DVT.

Yang et al. 2024 (arXiv 2401.02957). The teacher is the field fitted to each image (stage 1), or the mean over shifted views.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.calibration import generator
from vitbench.backbones.field import FieldBackbone
from vitbench.catalogue.denoising import DVT, DvtFieldParams, DvtParams
from vitbench.catalogue.ensembles import TtaShiftParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.denoiser import Pairs, Training, heads_of, restored, started, stored, train
from vitbench.repairs.moments import require_images, valid_cells
from vitbench.repairs.tta_shift import shift_ensemble
from vitbench.tokens.types import TokenRequest, Tokens

LEAST_IMAGES = 8
KEEP_EVERY = 8  # images


class Dvt(Repair[DvtParams]):
    """Block(y + positions) on patches; CLS and all other fields stay as they are."""

    card = DVT

    def fit(self, context: FitContext) -> State:
        """positions h w c, block.*: the denoiser's parameters; heads (an int)."""
        require_images(context, self.card.name, LEAST_IMAGES)
        p, kept = self.params, dict(context.resumed())
        chosen = spread_out(context.images, p.images)
        raw = _raw(context, chosen)
        backbone = context.backbone()
        target = _targets(context, chosen, raw, _teacher(backbone, p, context.seed), kept)
        pairs = Pairs(raw.y, target.y, raw.shown & target.shown)
        model = started(raw.y.shape[1:], heads_of(raw.y.shape[-1], p.heads), generator("dvt", context.seed))
        training = Training(p.steps or -(-p.epochs * len(raw.y) // p.batch), p.batch, p.rate, context.seed)
        train(model.to(backbone.device), pairs, training, kept, lambda state: context.keep({**target.state, **state}))
        return stored(model)

    def extra_parameters(self, state: State) -> int:
        return sum(value.numel() for name, value in state.items() if name != "heads")

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        model = restored(state).to(x.device)
        with torch.no_grad():
            out: Tensor = model(x, valid_cells(tokens, x.device))
        return out


@dataclass
class _Seen:
    """Tokens of the chosen images, n h w c (float16, on the CPU), and which cells show an image, n h w."""

    y: Tensor
    shown: Tensor
    keys: tuple[str, ...]

    @property
    def state(self) -> State:
        return {"target": self.y, "target_shown": self.shown}


def spread_out(images: int, most: int) -> list[int]:
    """At most so many places, evenly spread over all images (which may be sorted by class)."""
    count = min(images, most)
    return [i * images // count for i in range(count)]


def _raw(context: FitContext, chosen: list[int]) -> _Seen:
    parts, wanted, start = [], set(chosen), 0
    for tokens in context.tokens():
        here = [i for i in range(len(tokens)) if start + i in wanted]
        start += len(tokens)
        if here:
            x = tokens[context.field][here]
            parts.append(_Seen(x.half().cpu(), valid_cells(tokens, x.device)[here].cpu(), tokens.select(here).keys))
    if len({part.y.shape[1:] for part in parts}) > 1:
        raise NotApplicableError(
            "repair 'dvt': train images have grids of several sizes", "use a view that resizes or crops"
        )
    keys = tuple(key for part in parts for key in part.keys)
    return _Seen(torch.cat([part.y for part in parts]), torch.cat([part.shown for part in parts]), keys)


def _teacher(backbone: Backbone, params: DvtParams, seed: int) -> Backbone:
    if params.targets == "tta":
        return shift_ensemble(backbone, TtaShiftParams(seed=seed))
    return FieldBackbone(backbone, DvtFieldParams(seed=seed))


def _targets(
    context: FitContext, chosen: list[int], raw: _Seen, teacher: Backbone, kept: Mapping[str, Tensor]
) -> _Seen:
    """The teacher's tokens of the chosen images, on the raw tokens' grid; those that were kept are not made again."""
    target, shown = torch.zeros_like(raw.y), torch.zeros_like(raw.shown)
    done = len(kept["target"]) if "target" in kept else 0
    if done:
        target[:done], shown[:done] = kept["target"], kept["target_shown"]
    request = TokenRequest(("patch",), context.view)
    for i, image in enumerate(context.pixels(chosen[done:]), start=done):
        tokens = teacher.tokens([image], request, [raw.keys[i].partition("#")[0]])
        if len(tokens) > 1:
            raise NotApplicableError(
                f"repair 'dvt': view {context.view} cuts images into windows", "use one that resizes or crops"
            )
        y, seen = tokens["patch"][0], torch.from_numpy(tokens.geometry.valid()[0])
        if y.shape[-1] != target.shape[-1]:
            raise NotApplicableError(
                f"repair 'dvt': tokens have {target.shape[-1]} channels, the backbone's own have {y.shape[-1]}",
                "put dvt before repairs that drop channels",
            )
        h, w = min(y.shape[0], target.shape[1]), min(y.shape[1], target.shape[2])
        target[i, :h, :w], shown[i, :h, :w] = y[:h, :w].half().cpu(), seen[:h, :w]
        if (i + 1) % KEEP_EVERY == 0:
            context.keep(_Seen(target[: i + 1], shown[: i + 1], ()).state)
    return _Seen(target, shown, raw.keys)
