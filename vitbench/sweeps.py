"""The passes and fits that cells ask for, joined into as few sweeps of a backbone over a split as there can be. Pure; no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vitbench.catalogue.fields import GRID_FIELDS, parse_field, stored_dtype
from vitbench.catalogue.resolve import RepairStep
from vitbench.catalogue.views import View
from vitbench.errors import UsageError
from vitbench.identity import digest
from vitbench.jobs import FitJob, PassJob, SplitRef, World

TYPICAL_HW = (480, 640)  # assumed where a data set does not say how large its images are


class Sweeps:
    """Collects which fields of which store cells want while they are planned one by one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wanted: dict[str, dict[tuple[str, ...], None]] = defaultdict(dict)  # store -> groups of fields
        self._templates: dict[str, PassJob] = {}

    def want(self, template: PassJob, fields: tuple[str, ...]) -> None:
        """Ask for a group of fields that one pass, like the template, shall write."""
        self._templates.setdefault(template.store, template)
        self._wanted[template.store].setdefault(fields)

    def passes(self, budget: int | None) -> tuple[list[PassJob], dict[str, tuple[str, ...]]]:
        """The fewest passes that write the missing fields; one per store unless the byte budget splits it."""
        out: list[PassJob] = []
        requires: dict[str, tuple[str, ...]] = {}
        for store, groups in self._wanted.items():
            template, have = self._templates[store], self._world.stored_fields(store)
            for fields in _packed(groups, have, lambda f, t=template: self._bytes(t, f), budget):
                job = replace(template, fields=fields, bytes=sum(self._bytes(template, f) for f in fields))
                out.append(job)
                requires[job.id] = tuple(f for _, f in job.edit_fits if not self._world.stored_state(f))
        return out, requires

    def _bytes(self, job: PassJob, name: str) -> int:
        card = self._world.backbone(job.backbone).card
        h, w = self._world.dataset(job.split.dataset).size_px or TYPICAL_HW
        if job.view.kind != "whole":
            h = w = job.view.size_px
        cells = max(h // card.patch_px, 1) * max(w // card.patch_px, 1)
        dim = card.embed_dim or 768
        kind = parse_field(name).kind
        per_cell = {
            **dict.fromkeys(("norms", "cls_similarity", "singular_cosine"), card.depth or 12),
            "attention_spread": 5,
            "pixels": 3 * card.patch_px**2,
            "flags": 1,
        }
        channels = dim if kind in GRID_FIELDS else per_cell.get(kind, dim / cells)
        size = {"float32": 4, "float16": 2, "uint8": 1, "bool": 1}[stored_dtype(name)]
        return int(job.split.images * cells * channels * size)


class Sweep:
    """The passes and fits of one (backbone, edits, view, dtype) as one cell sees them."""

    def __init__(
        self, sweeps: Sweeps, backbone: str, weights: list[Any], edits: tuple[RepairStep, ...], splits: dict[str, SplitRef],
        view: View, dtype: str, seed: int,
    ) -> None:  # fmt: skip
        self._sweeps, self.backbone, self.weights, self.view, self.dtype, self.seed = (
            sweeps, backbone, weights, view, dtype, seed)  # fmt: skip
        self.splits = splits
        self.edit = ""
        self.versions: list[str] = []
        self.forwards = 1
        self.edit_fits: tuple[tuple[int, str], ...] = ()
        self.pending_fits: list[FitJob] = []
        for i, step in enumerate(edits):  # an edit is fitted on the pass of the edits before it
            if step.card.needs_fit:
                train = splits["train"]
                store = self.store(train)
                fields = step.needs or ("patch",)
                self.want(store, train, fields)
                fit = self.fit((step,), fields[0], store, ())
                self.edit_fits = (*self.edit_fits, (i, fit.id))
            self.edit = "+".join(e.text for e in edits[: i + 1])
            self.versions.append(step.versioned)
            self.forwards *= step.forwards

    def store(self, ref: SplitRef) -> str:
        return digest(
            {"backbone": self.backbone, "weights": self.weights, "edit": [*self.versions, *self.edit_fits],
             "data": ref.pictures or [ref.dataset, ref.split, ref.digest], "view": str(self.view), "dtype": self.dtype}
        )  # fmt: skip

    def stream(self, components: dict[str, Any]) -> str:
        """What cells have in common that differ only in the maps of their repairs: every input and every forward."""
        same = {name: components[name] for name in ("backbone", "task", "data", "view", "dtype")}
        return digest({**same, "edit": [*self.versions, *self.edit_fits], "seed": self.seed})

    def want(self, store: str, ref: SplitRef, fields: tuple[str, ...]) -> None:
        """Ask for a group of fields of a split, to be written by one pass."""
        template = PassJob(
            store, self.backbone, self.edit, self.edit_fits, ref, self.view, self.dtype, (), 0, self.forwards
        )
        self._sweeps.want(template, fields)

    def fit(
        self, steps: tuple[RepairStep, ...], name: str, store: str, upstream: tuple[tuple[int, str], ...]
    ) -> FitJob:
        """The fit of the last of some steps for one field, on tokens mapped by those before it."""
        chain = "+".join(step.text for step in steps)
        if not store:
            raise UsageError(f"repair {chain!r} needs a train split to be fitted on")
        needs = tuple(dict.fromkeys(n for step in steps for n in step.needs))
        seed = self.seed if steps[-1].card.stochastic else 0
        key = [[*(step.versioned for step in steps[:-1]), steps[-1].fitted], name, store, seed, upstream]
        job = FitJob(
            "fit-" + digest(key), chain, name, needs, self.backbone, store, self.splits["train"], self.view, self.dtype,
            seed, upstream, self.edit, self.edit_fits,
        )  # fmt: skip
        self.pending_fits.append(job)
        return job


def _packed(
    groups: Iterable[tuple[str, ...]], have: frozenset[str], size: Any, budget: int | None
) -> list[tuple[str, ...]]:
    """Join groups of fields (one per cell) into as few passes as fit the budget; fields already stored are left out."""
    packs: list[dict[str, None]] = []
    for group in groups:
        missing = [f for f in group if f not in have]
        if not missing:
            continue
        for pack in packs:
            joined = pack | dict.fromkeys(missing)
            if budget is None or sum(size(f) for f in joined) <= budget:
                pack.update(joined)
                break
        else:
            need = sum(size(f) for f in missing)
            if budget is not None and need > budget:
                raise UsageError(
                    f"one pass needs {need / 1e6:,.0f} MB for {', '.join(missing)}, more than the cache budget",
                    "raise --cache-budget or lower --limit",
                )
            packs.append(dict.fromkeys(missing))
    # A field that two packs hold is written once.
    seen: set[str] = set()
    out = []
    for pack in packs:
        fields = tuple(f for f in sorted(pack) if f not in seen)
        seen.update(fields)
        if fields:
            out.append(fields)
    return out
