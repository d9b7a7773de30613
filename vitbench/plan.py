"""Selections in; passes, fits and cells out. Pure: what is on disk is asked of a `World`; no torch.

A pass is one sweep of a backbone (edited by a repair, if that is what the repair does) over one split in one view; all cells
that need it share it. A repair that only maps tokens adds no pass. A repair's state is fitted once per field and train split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import GRID_FIELDS, absent, joined_fields, parse_field, stored_dtype
from vitbench.catalogue.language import class_words
from vitbench.catalogue.resolve import RepairStep, TaskRef, planted, repair_chain
from vitbench.catalogue.views import View
from vitbench.choices import Choice
from vitbench.errors import DataError, UnavailableError, UsageError
from vitbench.identity import Slot, cell_identity, digest
from vitbench.jobs import BackboneState, CellJob, FitJob, PassJob, Plan, SplitRef, World

T = TypeVar("T")
DRAFT_FACTOR = 3  # from here on decoding at a fraction moves pixels by less than one grey level on average
TYPICAL_HW = (480, 640)  # assumed where a data set does not say how large its images are


def make_plan(choices: Iterable[Choice], world: World, budget_bytes: int | None = None) -> Plan:
    """Plan the choices against what is there. `budget_bytes` splits passes whose fields would not fit together."""
    builder = _Builder(world)
    cells = [builder.cell(choice) for choice in choices]
    passes, requires = builder.passes(budget_bytes)
    by_store: dict[str, list[str]] = defaultdict(list)
    for p in passes:
        by_store[p.store].append(p.id)
    fits = [f for f in builder.fits.values() if not world.stored_state(f.id)]
    pending = {f.id for f in fits}
    for f in fits:
        requires[f.id] = (*by_store[f.store], *(u for _, u in (*f.upstream, *f.edit_fits) if u in pending))
    for c in cells:
        if c.status == "todo":
            needed = [p for s in dict.fromkeys(c.stores.values()) for p in by_store[s]]
            behind = (
                () if c.stores else tuple(f for _, f in c.edit_fits)
            )  # a streaming cell runs the edited forward itself
            requires[c.id] = (*needed, *(f for f in (*behind, *(f for _, _, f in c.fits)) if f in pending))
    return Plan(tuple(passes), tuple(fits), tuple(cells), requires)


class _Builder:
    """Collects what cells need while they are planned one by one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fits: dict[str, FitJob] = {}
        self.wanted: dict[str, dict[tuple[str, ...], None]] = defaultdict(dict)  # store -> groups of fields
        self.sweeps: dict[str, PassJob] = {}
        # 60,000 cells share a few hundred names: each is parsed once.
        self._chains: dict[str, tuple[RepairStep, ...]] = {}
        self._planted: dict[str, list[str]] = {}
        self._tasks: dict[str, dict[str, Any]] = {}

    # -- one cell ---------------------------------------------------------------------------------------------------

    def cell(self, choice: Choice) -> CellJob:
        slot = Slot(choice.backbone, choice.repair, choice.task.text, choice.dataset, choice.seed)
        chain = _once(self._chains, choice.repair, repair_chain)
        refused = self._swapped(choice.backbone, chain)
        if isinstance(refused, _Refused):
            return self._missing(slot, refused)
        backbone = refused
        state = self.world.backbone(backbone)
        field_name = choice.task.settings.field
        if field_name == "auto":
            field_name = state.card.lost_feature
        maps = tuple(s for s in chain if not s.card.edits and not s.card.swaps and s.card.family != "none")
        edits = tuple(s for s in chain if s.card.edits)
        for step in (*maps, *edits):
            if not any(step.acts_on(f) for f in joined_fields(field_name)):
                return self._missing(
                    slot,
                    _Refused(
                        "not_applicable", f"{step.card.name} does not act on {field_name!r}, which the task reads", ""
                    ),
                )
        if unsuited := _unsuited(choice.task, state.card, field_name, maps, edits):
            return self._missing(slot, unsuited)
        text = self.world.text(backbone) if choice.task.card.language else None
        if text and (text.status == "unavailable" or text.status == "not_applicable"):
            return self._missing(slot, _Refused(text.status, text.reason, text.remedy))
        if state.status == "unavailable":
            return self._missing(slot, _Refused("unavailable", state.reason, state.remedy))
        splits = self._splits(choice, fit=any(s.card.needs_fit for s in chain))
        if isinstance(splits, _Refused):
            return self._missing(slot, splits)
        return self._todo(slot, choice, backbone, state, field_name, maps, edits, splits)

    def _swapped(self, backbone: str, chain: tuple[RepairStep, ...]) -> str | _Refused:
        """The backbone that runs: the register twin where the chain swaps it in."""
        if not any(step.card.swaps == "register_twin" for step in chain):
            return backbone
        if "+" in backbone:
            return _Refused("not_applicable", "a clean register twin does not repair a planted defect", "")
        twin = self.world.backbone(backbone).card.register_twin
        if not twin:
            return _Refused("not_applicable", f"{backbone} has no register twin", "")
        return twin

    def _splits(self, choice: Choice, fit: bool) -> dict[str, SplitRef] | _Refused:
        try:
            card = self.world.dataset(choice.dataset)
        except UnavailableError as error:
            return _Refused("unavailable", error.message, error.remedy)
        targets = choice.task.card.targets
        wanted = (*targets, *choice.task.card.marks(choice.task.settings))
        lacking = [t for t in wanted if t not in (*card.targets, *card.marks)]
        if lacking:
            return _Refused("not_applicable", f"dataset {choice.dataset} has no {', '.join(lacking)}", "")
        names = list(choice.task.card.splits)
        if fit and "train" not in names:
            names.append("train")
        out = {}
        for name in names:
            limits = choice.options.limits
            limit = limits.get(name, limits.get("*"))
            state = self.world.split(choice.dataset, name, targets, limit, choice.seed)
            if state.reason:
                return _Refused("unavailable", state.reason, state.remedy)
            skip = choice.options.skip_corrupt  # which are corrupt is known only later, but it may be fewer images
            which = digest([state.digest, "without corrupt"]) if skip else state.digest
            least = _draft_px(choice)
            which = digest([which, "draft", least]) if least else which
            # Which images are left out as corrupt depends on the targets that are read with them.
            pictures = "" if skip or not state.pictures else digest([state.pictures, least])
            out[name] = SplitRef(
                choice.dataset, name, targets, limit, choice.seed, state.images, which, skip, least, pictures
            )
        try:
            if choice.task.card.language:
                class_words(card)
        except DataError as error:
            return _Refused("unavailable", error.message, error.remedy)
        return out

    def _missing(self, slot: Slot, refused: _Refused) -> CellJob:
        components = {"status": refused.status}
        return CellJob(
            slot, cell_identity(slot, components), components, refused.status, refused.reason, refused.remedy
        )

    def _todo(
        self, slot: Slot, choice: Choice, backbone: str, state: BackboneState, field_name: str,
        maps: tuple[RepairStep, ...], edits: tuple[RepairStep, ...], splits: dict[str, SplitRef],
    ) -> CellJob:  # fmt: skip
        dataset = self.world.dataset(choice.dataset)
        view = choice.task.card.view(choice.task.settings).simplest(dataset.size_px, state.card.patch_px)
        defects = _once(self._planted, backbone, planted)
        live = choice.task.protocol.streams
        fields = joined_fields(field_name)
        aux = choice.task.card.aux(choice.task.settings)
        needs = tuple(dict.fromkeys((*fields, *aux, *(n for s in maps for n in s.needs))))
        sweep = _Sweep(
            self,
            backbone,
            [state.digest, state.loader, defects],
            edits,
            splits,
            view,
            choice.options.dtype,
            choice.seed,
        )
        stores = {name: sweep.store(ref) for name, ref in splits.items()}
        mapped = tuple(f for f in dict.fromkeys((*fields, *aux)) if any(s.acts_on(f) for s in maps))
        fits = self._chain_fits(sweep, maps, mapped, stores.get("train", ""))
        card = {k: splits[k].digest for k in sorted(splits)}
        components = {
            "backbone": {
                "name": backbone,
                "digest": state.digest,
                "loader": state.loader,
                "position": state.card.position,
                "defects": defects,
            },
            "repair": {
                "steps": [s.versioned for s in (*edits, *maps)],
                "fit": card.get("train") if fits or sweep.edit_fits else None,
            },
            "task": _once(self._tasks, slot.task, lambda _: choice.task.identity()),
            "data": {"name": choice.dataset, "version": dataset.version, "splits": card},
            "view": str(view),
            "dtype": choice.options.dtype,
            "stored": {} if live else {f: stored_dtype(f) for f in needs},
        }
        if choice.task.card.language:
            components["language"] = self.world.text(backbone).identity(dataset)
        identity = cell_identity(slot, components)
        cached = self.world.has_record(slot, identity)
        if not cached:
            for name, ref in splits.items():
                read = name in choice.task.card.splits and not live
                if read or (name == "train" and fits):  # an edit alone is fitted on a pass of its own
                    sweep.want(stores[name], ref, needs if read else self._fit_fields(mapped, maps))
            asked = {fit for _, _, fit in fits} | set(dict(sweep.edit_fits).values())
            self.fits.update({f.id: f for f in sweep.pending_fits if f.id in asked})
        return CellJob(
            slot, identity, components, "cached" if cached else "todo",
            maps=tuple(s.text for s in maps), fits=fits, stores={} if live else stores, splits=splits,
            edit=sweep.edit, edit_fits=sweep.edit_fits, fields=needs, backbone=backbone,
            forwards_per_image=sweep.forwards,
            streamed=self._streamed(choice, splits) if live else 0, stream=sweep.stream(components) if live else "",
        )  # fmt: skip

    @staticmethod
    def _streamed(choice: Choice, splits: dict[str, SplitRef]) -> int:
        """Images that a streaming cell takes through the backbone: what it trains on, and each val image at least once."""
        settings: Any = choice.task.settings
        return int(settings.iterations * settings.batch + splits["val"].images)

    @staticmethod
    def _fit_fields(fields: tuple[str, ...], maps: tuple[RepairStep, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*fields, *(n for s in maps for n in s.needs))))

    def _chain_fits(
        self, sweep: _Sweep, maps: tuple[RepairStep, ...], mapped: tuple[str, ...], store: str
    ) -> tuple[tuple[int, str, str], ...]:
        fits = []
        for name in mapped:
            upstream: tuple[tuple[int, str], ...] = ()
            for i, step in enumerate(maps):
                if step.card.needs_fit and step.acts_on(name):
                    fit = sweep.fit(maps[: i + 1], name, store, upstream)
                    fits.append((i, name, fit.id))
                    upstream = (*upstream, (i, fit.id))
        return tuple(fits)

    # -- passes ------------------------------------------------------------------------------------------------------

    def passes(self, budget: int | None) -> tuple[list[PassJob], dict[str, tuple[str, ...]]]:
        """The fewest passes that write the missing fields; one per store unless the byte budget splits it."""
        out: list[PassJob] = []
        requires: dict[str, tuple[str, ...]] = {}
        for store, groups in self.wanted.items():
            template, have = self.sweeps[store], self.world.stored_fields(store)
            for fields in _packed(groups, have, lambda f, t=template: self._bytes(t, f), budget):
                job = replace(template, fields=fields, bytes=sum(self._bytes(template, f) for f in fields))
                out.append(job)
                requires[job.id] = tuple(f for _, f in job.edit_fits if not self.world.stored_state(f))
        return out, requires

    def _bytes(self, job: PassJob, name: str) -> int:
        card = self.world.backbone(job.backbone).card
        h, w = self.world.dataset(job.split.dataset).size_px or TYPICAL_HW
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


def _draft_px(choice: Choice) -> int:
    """How many pixels a JPEG's shorter side must keep if it may be decoded smaller: only where no target has pixels."""
    view = choice.task.card.view(choice.task.settings)
    if not choice.options.draft or not set(choice.task.card.targets) <= {"label", "labels"}:
        return 0
    return {
        "crop": DRAFT_FACTOR * view.resize_px,
        **dict.fromkeys(("resize", "centre"), DRAFT_FACTOR * view.size_px),
    }.get(view.kind, 0)


def _once(known: dict[str, T], text: str, make: Callable[[str], T]) -> T:
    if text not in known:
        known[text] = make(text)
    return known[text]


@dataclass(frozen=True)
class _Refused:
    status: Literal["unavailable", "not_applicable"]
    reason: str
    remedy: str


def _unsuited(
    task: TaskRef, card: BackboneCard, field_name: str, maps: tuple[RepairStep, ...], edits: tuple[RepairStep, ...]
) -> _Refused | None:
    """Why a task cannot be asked of a backbone (of unknown ones only the pass will tell) or of what a repair makes of it."""
    registers = card.registers or sum(step.card.registers(step.params) for step in edits)
    for name in (field_name, *task.card.aux(task.settings)):
        reason = absent(name, card.prefix_tokens - card.registers, registers) if card.embed_dim else ""
        if reason:
            return _Refused("not_applicable", f"{card.name} has {reason}, so no {name!r}", "")
    compared = task.card.compared
    for step in maps if compared else ():
        if step.acts_on(compared):
            reason = f"{step.card.name} maps {field_name!r} and {compared!r} apart, so they cannot be compared"
            return _Refused("not_applicable", reason, "")
    return None


class _Sweep:
    """The passes and fits of one (backbone, edits, view, dtype) as one cell sees them."""

    def __init__(
        self, builder: _Builder, backbone: str, weights: list[Any], edits: tuple[RepairStep, ...], splits: dict[str, SplitRef],
        view: View, dtype: str, seed: int,
    ) -> None:  # fmt: skip
        self.builder, self.backbone, self.weights, self.view, self.dtype, self.seed = (
            builder, backbone, weights, view, dtype, seed)  # fmt: skip
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
        self.builder.sweeps.setdefault(
            store,
            PassJob(store, self.backbone, self.edit, self.edit_fits, ref, self.view, self.dtype, (), 0, self.forwards),
        )
        self.builder.wanted[store].setdefault(fields)

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
