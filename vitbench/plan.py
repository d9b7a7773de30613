"""Selections in; passes, fits and cells out. Pure: what is on disk is asked of a `World`; no torch.

A pass is one sweep of a backbone (edited by a repair, if that is what the repair does) over one split in one view; all cells
that need it share it. A repair that only maps tokens adds no pass. A repair's state is fitted once per field and train split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from vitbench.catalogue.fields import joined_fields, stored_dtype
from vitbench.catalogue.language import class_words
from vitbench.catalogue.resolve import RepairStep, TaskRef, planted, repair_chain
from vitbench.catalogue.suited import too_few_images, unsuited
from vitbench.choices import Choice
from vitbench.errors import DataError, NotApplicableError, UnavailableError
from vitbench.identity import Slot, cell_identity, digest
from vitbench.jobs import BackboneState, CellJob, FitJob, Plan, SplitRef, World
from vitbench.selection import Term, parse_chain
from vitbench.sweeps import Sweep, Sweeps

T = TypeVar("T")
DRAFT_FACTOR = 3  # from here on decoding at a fraction moves pixels by less than one grey level on average


def make_plan(choices: Iterable[Choice], world: World, budget_bytes: int | None = None) -> Plan:
    """Plan the choices against what is there. `budget_bytes` splits passes whose fields would not fit together."""
    builder = _Builder(world)
    cells = [builder.cell(choice) for choice in choices]
    passes, requires = builder.sweeps.passes(budget_bytes)
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
            # A streaming cell runs the edited forward itself.
            behind = () if c.stores else tuple(f for _, f in c.edit_fits)
            requires[c.id] = (*needed, *(f for f in (*behind, *(f for _, _, f in c.fits)) if f in pending))
    return Plan(tuple(passes), tuple(fits), tuple(cells), requires)


class _Builder:
    """Collects what cells need while they are planned one by one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fits: dict[str, FitJob] = {}
        self.sweeps = Sweeps(world)
        # 60,000 cells share a few hundred names: each is parsed once.
        self._chains: dict[str, tuple[RepairStep, ...]] = {}
        self._planted: dict[str, list[str]] = {}
        self._tasks: dict[str, dict[str, Any]] = {}
        self._defects: dict[str, tuple[Term, ...]] = {}

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
                reason = f"{step.card.name} does not act on {field_name!r}, which the task reads"
                return self._missing(slot, _Refused("not_applicable", reason, ""))
        read = self._read(choice.task, field_name, maps)
        defects = _once(self._defects, backbone, lambda name: parse_chain(name)[1:])
        if unsuitable := unsuited(backbone, state.card, read, edits, maps, defects):
            return self._missing(slot, _refusal(unsuitable))
        if apart := _mapped_apart(choice.task, field_name, maps):
            return self._missing(slot, apart)
        text = self.world.text(backbone) if choice.task.card.language else None
        if text and (text.status == "unavailable" or text.status == "not_applicable"):
            return self._missing(slot, _Refused(text.status, text.reason, text.remedy))
        if state.status == "unavailable":
            return self._missing(slot, _Refused("unavailable", state.reason, state.remedy))
        splits = self._splits(choice, fit=any(s.card.needs_fit for s in chain))
        if isinstance(splits, _Refused):
            return self._missing(slot, splits)
        for step in (*edits, *maps):
            if step.card.needs_fit and splits["train"].images < step.card.least_images:
                few = too_few_images(step.card.name, step.card.least_images, splits["train"].images)
                return self._missing(slot, _refusal(few))
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
        needs = self._read(choice.task, field_name, maps)
        weights = [state.digest, state.loader, defects]
        sweep = Sweep(self.sweeps, backbone, weights, edits, splits, view, choice.options.dtype, choice.seed)
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
    def _read(task: TaskRef, field_name: str, maps: tuple[RepairStep, ...]) -> tuple[str, ...]:
        """Every single field that the cell reads."""
        aux = task.card.aux(task.settings)
        return tuple(dict.fromkeys((*joined_fields(field_name), *aux, *(n for s in maps for n in s.needs))))

    @staticmethod
    def _streamed(choice: Choice, splits: dict[str, SplitRef]) -> int:
        """Images that a streaming cell takes through the backbone: what it trains on, and each val image at least once."""
        settings: Any = choice.task.settings
        return int(settings.iterations * settings.batch + splits["val"].images)

    @staticmethod
    def _fit_fields(fields: tuple[str, ...], maps: tuple[RepairStep, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*fields, *(n for s in maps for n in s.needs))))

    def _chain_fits(
        self, sweep: Sweep, maps: tuple[RepairStep, ...], mapped: tuple[str, ...], store: str
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


def _refusal(error: NotApplicableError) -> _Refused:
    return _Refused("not_applicable", error.message, error.remedy)


def _mapped_apart(task: TaskRef, field_name: str, maps: tuple[RepairStep, ...]) -> _Refused | None:
    """Why what a repair makes of two fields cannot be compared."""
    compared = task.card.compared
    for step in maps if compared else ():
        if step.acts_on(compared):
            reason = f"{step.card.name} maps {field_name!r} and {compared!r} apart, so they cannot be compared"
            return _Refused("not_applicable", reason, "")
    return None
