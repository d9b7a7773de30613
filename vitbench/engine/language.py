"""The text tower of a cell: made once per process, and what it said kept on disk, for every repair asks it the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitbench.backbones.text_tower import OpenClipLanguage
from vitbench.catalogue.language import TextState, describe_text
from vitbench.engine.cells import lock
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import state_path
from vitbench.errors import StorageError, UnavailableError
from vitbench.identity import digest


class CachedLanguage:
    """A `Language` whose class embeddings are read from the cache where the same prompts were embedded before."""

    def __init__(self, state: TextState, name: str, options: RunOptions, device: torch.device) -> None:
        self._said = OpenClipLanguage(state.tower, Path(state.path), name, device)
        self._state, self._options, self._device = state, options, device

    def project(self, cls: Tensor) -> Tensor:
        return self._said.project(cls)

    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        asked = [self._state.tower.model, self._state.digest, [list(texts) for texts in prompts]]
        name = f"text-{digest(asked)}"
        path = state_path(self._options, name)
        with lock(self._options, name):  # ImageNet's 80,000 prompts are embedded once, by whoever is first
            if path.is_file():
                kept: Tensor = load_file(path, device=str(self._device))["classes"]
                return kept
            classes = self._said.classifier(prompts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".writing")
                save_file({"classes": classes.cpu().contiguous()}, partial)
                partial.replace(path)
            except OSError as error:
                raise StorageError(f"cannot write {path}: {error}", "free space, or use --cache") from error
        return classes

    def templates(self, name: str) -> tuple[str, ...]:
        return self._said.templates(name)

    def imagenet_names(self) -> Mapping[str, str]:
        return self._said.imagenet_names()


def language_of(backbone: str, options: RunOptions, device: torch.device) -> CachedLanguage:
    """The language of a backbone by name, its defects left aside. Raises UnavailableError where it cannot run here."""
    base = backbone.partition("+")[0]
    state = describe_text(base, dict(options.weights), options.offline)
    if state.status != "ready":
        raise UnavailableError(state.reason, state.remedy)
    return CachedLanguage(state, base, options, device)
