"""What is on this machine, for planning: weights, data, stored tokens and states, records. Answers are remembered."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from vitbench.catalogue.cards import BackboneCard, DatasetCard
from vitbench.catalogue.language import TextState, describe_text, fetch_text, without_text
from vitbench.catalogue.weights import WeightsState, describe_backbone, fetch_weights
from vitbench.data.load import describe_dataset, describe_split
from vitbench.data.subset import Limit
from vitbench.engine.options import RunOptions
from vitbench.errors import UnavailableError
from vitbench.identity import Slot
from vitbench.jobs import BackboneState, SplitState
from vitbench.records.store import record_path


class Workspace:
    """The `World` of `vitbench.plan`, read from disk once per process. `fetch`: download weights that are not here."""

    def __init__(self, options: RunOptions, fetch: bool = False) -> None:
        self.options, self._fetch = options, fetch
        self._backbones: dict[str, BackboneState] = {}
        self._texts: dict[str, TextState] = {}
        self._datasets: dict[str, DatasetCard] = {}
        self._splits: dict[tuple[object, ...], SplitState] = {}
        self._fields: dict[str, frozenset[str]] = {}

    def know(self, name: str, state: BackboneState) -> None:
        """Tell of a backbone that exists only in memory."""
        self._backbones[name] = state

    def backbone(self, name: str) -> BackboneState:
        if name not in self._backbones:
            base = name.partition("+")[0]
            card, state = describe_backbone(base, dict(self.options.weights), self.options.offline)
            if state.status == "download" and self._fetch:
                state = self._fetched(card, state)
            self._backbones[name] = BackboneState(
                card, state.status, state.digest, state.reason, state.remedy, state.loader + card.code
            )
        return self._backbones[name]

    @staticmethod
    def _fetched(card: BackboneCard, state: WeightsState) -> WeightsState:
        # The hub revision is part of the identity, so weights are there before the plan is made.
        try:
            return fetch_weights(card)
        except UnavailableError as error:
            return replace(state, status="unavailable", reason=error.message, remedy=error.remedy)

    def text(self, backbone: str) -> TextState:
        """The text tower of a backbone; one that exists only in memory has none."""
        base = backbone.partition("+")[0]
        if base not in self._texts:
            card = self.backbone(backbone).card
            self._texts[base] = without_text(card) if card.kind == "module" else self._text(base)
        return self._texts[base]

    def _text(self, base: str) -> TextState:
        state = describe_text(base, dict(self.options.weights), self.options.offline)
        if state.status != "download" or not self._fetch:
            return state
        try:
            return fetch_text(state)
        except UnavailableError as error:
            return replace(state, status="unavailable", reason=error.message, remedy=error.remedy)

    def dataset(self, name: str) -> DatasetCard:
        if name not in self._datasets:
            self._datasets[name] = describe_dataset(name, self.options.data_root)
        return self._datasets[name]

    def split(self, dataset: str, split: str, targets: tuple[str, ...], limit: Limit, seed: int) -> SplitState:
        key = (dataset, split, targets, limit, seed)
        if key not in self._splits:
            try:
                found = describe_split(
                    dataset, split, targets=targets, limit=limit, seed=seed, root=self.options.data_root
                )
                self._splits[key] = SplitState(found.images, found.digest, pictures=found.pictures)
            except UnavailableError as error:
                self._splits[key] = SplitState(0, "", error.message, error.remedy)
        return self._splits[key]

    def stored_fields(self, store: str) -> frozenset[str]:
        if store not in self._fields:
            from vitbench.tokens.manifest import stored_fields

            self._fields[store] = stored_fields(self.options.tokens, store)
        return self._fields[store]

    def stored_state(self, fit: str) -> bool:
        return state_path(self.options, fit).is_file()

    def has_record(self, slot: Slot, identity: str) -> bool:
        return record_path(self.options.records, slot, identity).name in self._record_names and _is_ok(
            record_path(self.options.records, slot, identity)
        )

    @cached_property
    def _record_names(self) -> frozenset[str]:
        root = self.options.records
        return frozenset(p.name for p in root.rglob("*.json")) if root.is_dir() else frozenset()


def _is_ok(path: Path) -> bool:
    # Resuming 60,000 cells must not parse 60,000 records: the status is near the front of the file by construction.
    try:
        with path.open() as f:
            return '"status":"ok"' in f.read(4096).replace('": "', '":"')
    except OSError:
        return False


def state_path(options: RunOptions, fit: str) -> Path:
    """Where a fitted state is kept."""
    return options.states / f"{fit}.safetensors"
