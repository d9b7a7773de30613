"""The text tower that was trained with a CLIP backbone, run by open_clip (Radford et al. 2021, arXiv 2103.00020).

The backbone is the image tower, so of the image side only the projection into the shared space is read here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from vitbench.backbones.checkpoints import read_state
from vitbench.catalogue.language import TextTower
from vitbench.errors import NotApplicableError, UnavailableError, UsageError, WeightsError

TEXTS_AT_ONCE = 512
# Where open_clip keeps the map from CLS to the shared space: its own ViT, a timm ViT's classifier, a head beside it.
_OWN, _HEADS = "visual.proj", ("visual.trunk.head", "visual.head.proj")
_POSITIONS = frozenset(("positional_embedding", "text.positional_embedding"))
_UNUSED = ("logit_scale", "logit_bias", "attn_mask", "text.attn_mask")


class OpenClipLanguage:
    """The two ends of a CLIP that the backbone has not: text embeddings, and the projection of its CLS. In float32.

    Raises UnavailableError where open_clip is not installed or the file has an image tower only, WeightsError where its
    tensors are those of another model.
    """

    def __init__(self, tower: TextTower, path: Path, name: str, device: torch.device | str = "cpu") -> None:
        self.tower, self.path, self.name, self.device = tower, path, name, torch.device(device)
        state = {key.removeprefix("module."): value for key, value in read_state(path).items()}
        self._weight, self._bias = self._projection(state)
        self._text = {key: value for key, value in state.items() if not key.startswith("visual.")}
        if not any(key.endswith("token_embedding.weight") for key in self._text):
            raise self._one_tower("text tower")

    def project(self, cls: Tensor) -> Tensor:
        if cls.shape[-1] != self._weight.shape[1]:
            raise NotApplicableError(
                f"the projection of {self.name!r} takes {self._weight.shape[1]} channels of CLS, not {cls.shape[-1]}",
                "a repair that changes their number leaves the space that images and texts share",
            )
        weight, bias = self._weight.to(cls.device), self._bias
        return linear(cls.float(), weight, None if bias is None else bias.to(cls.device))

    @torch.inference_mode()
    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        tokens = _open_clip().get_tokenizer(self.tower.model)([text for texts in prompts for text in texts])
        length = self._length(tokens)
        model = self._model(length)
        starts = range(0, len(tokens), TEXTS_AT_ONCE)
        parts = (tokens[i : i + TEXTS_AT_ONCE, :length].to(self.device) for i in starts)
        unit = torch.cat([model.encode_text(part, normalize=True) for part in parts])
        ends = list(accumulate((len(texts) for texts in prompts), initial=0))
        return normalize(torch.stack([unit[i:j].mean(0) for i, j in pairwise(ends)]), dim=-1)

    def templates(self, name: str) -> tuple[str, ...]:
        if name == "photo":
            return ("a photo of a {}.",)
        package = _open_clip()
        found = {"imagenet80": package.OPENAI_IMAGENET_TEMPLATES, "imagenet7": package.SIMPLE_IMAGENET_TEMPLATES}[name]
        return tuple(template("{}") for template in found)

    def imagenet_names(self) -> Mapping[str, str]:
        return dict(zip(ImageNetInfo("imagenet-1k").label_names(), _open_clip().IMAGENET_CLASSNAMES, strict=True))

    @cached_property
    def _config(self) -> dict[str, Any]:
        package = _open_clip()
        config: dict[str, Any] | None = package.get_model_config(self.tower.model)
        if config is None:
            raise UsageError(
                f"open_clip {package.__version__} has no model {self.tower.model!r}",
                "install a newer one, or register it with open_clip.add_model_config",
            )
        return config

    def _length(self, tokens: Tensor) -> int:
        """How many tokens must be read: causal attention makes what stands behind the last one's end of no effect."""
        text = self._config["text_cfg"]
        if text.get("no_causal_mask") or text.get("embed_cls") or text.get("pool_type", "argmax") != "argmax":
            return tokens.shape[1]
        return int(tokens.argmax(-1).max()) + 1  # the end has the largest id

    def _model(self, length: int) -> Any:
        package, config = _open_clip(), copy.deepcopy(self._config)
        config["text_cfg"]["context_length"] = length
        model: nn.Module = (package.CustomTextCLIP if config.pop("custom_text", False) else package.CLIP)(**config)
        del model.visual
        self._fill(model, length)
        return model.eval().requires_grad_(False).to(self.device)

    def _fill(self, model: nn.Module, length: int) -> None:
        own = {key: value for key, value in model.state_dict().items() if key not in _UNUSED}
        state = {key: value for key, value in self._text.items() if key not in _UNUSED}
        for key in _POSITIONS & state.keys():
            state[key] = state[key][:length]
        for key in sorted(own.keys() | state.keys()):
            there, wanted = state.get(key), own.get(key)
            if there is None or wanted is None or there.shape != wanted.shape:
                found = "missing" if there is None else f"{tuple(there.shape)}"
                expected = "not part of it" if wanted is None else f"{tuple(wanted.shape)} there"
                raise WeightsError(
                    f"weights {self.path} do not fit the text tower {self.tower.model!r}: {key!r} is {found}, {expected}",
                    f"pass the checkpoint that belongs to {self.name!r}",
                )
        model.load_state_dict(state, strict=False)

    def _projection(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        if _OWN in state:
            return state[_OWN].float().T, None
        for head in _HEADS:
            if f"{head}.weight" in state:
                bias = state.get(f"{head}.bias")
                return state[f"{head}.weight"].float(), None if bias is None else bias.float()
        raise self._one_tower("visual projection")

    def _one_tower(self, lacking: str) -> UnavailableError:
        return UnavailableError(
            f"weights {self.path} hold no {lacking}",
            f"pass --weights {self.name}=FILE, an open_clip checkpoint with both towers",
        )


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UnavailableError(
            "the text tower needs the package open_clip_torch", "pip install 'vitbench[open_clip]'"
        ) from error
    return open_clip
