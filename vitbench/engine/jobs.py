"""The jobs that read or write stored tokens; those on a live stream are in live.py.

Each is named by identity, restartable, and leaves either a complete result or nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vitbench.backbones.base import Backbone
from vitbench.backbones.untouched import fingerprint
from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.resolve import expand_tasks
from vitbench.data.load import describe_dataset
from vitbench.engine.cells import cost, lock, record_cell, skipped
from vitbench.engine.decoders import Decoders
from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.engine.streams import MappedStream, Samples, StoreFitContext
from vitbench.engine.workspace import state_path
from vitbench.errors import RepairError, StorageError
from vitbench.jobs import CellJob, FitJob, PassJob, SplitRef
from vitbench.records.store import find
from vitbench.repairs.base import Repair, State
from vitbench.repairs.compose import build_repair
from vitbench.repairs.promises import edited, storable
from vitbench.selection import split_outside
from vitbench.tasks.base import Language, TaskContext
from vitbench.tokens.extract import run_pass
from vitbench.tokens.manifest import stored_fields
from vitbench.tokens.store import ShardWriter, StoredTokens
from vitbench.tokens.types import TokenRequest


class Workbench:
    """What jobs share within one process: loaded backbones (the last one only), opened splits, decoders, the device."""

    def __init__(self, options: RunOptions, modules: Mapping[str, Backbone] | None = None) -> None:
        self.options = options
        self.device = torch.device(_device(options.device))
        self._modules = dict(modules or {})
        self._loaded: tuple[tuple[str, str], Backbone] | None = None
        self._print: tuple[object, ...] = ()
        self._spoiled: set[str] = set()
        self._language: tuple[str, Language] | None = None
        self._samples: dict[SplitRef, Samples] = {}
        self._decoders = Decoders(options.decoder_count(), options.cores_per_worker(), options.plugins)
        self._datasets: dict[str, DatasetCard] = {}

    def backbone(self, name: str, dtype: str) -> Backbone:
        """The backbone with its defects, on the device; one is kept loaded."""
        if self._loaded is None or self._loaded[0] != (name, dtype):
            self._loaded = None
            base, _, defects = name.partition("+")
            if base in self._spoiled:
                raise RepairError(f"a repair has changed {base!r}, which is in memory only", "give it anew")
            if base in self._modules:
                loaded = self._modules[base]
            else:
                from vitbench.backbones.load import load_backbone

                loaded = load_backbone(base, weights=dict(self.options.weights), offline=self.options.offline)
            if defects:
                from vitbench.backbones.defects import plant_all

                loaded = plant_all(loaded, defects)
            self._loaded = (name, dtype), loaded.to(self.device, getattr(torch, dtype))
            self._print = fingerprint(loaded.module)
        return self._loaded[1]

    def require_untouched(self, repair: str) -> None:
        """Raises RepairError where a repair has changed the loaded backbone, which every later cell would read."""
        if self._loaded is None or fingerprint(self._loaded[1].module) == self._print:
            return
        base = self._loaded[0][0].partition("+")[0]
        self._spoiled.update({base} & self._modules.keys())
        self._loaded = None
        raise RepairError(
            f"repair {repair!r} changes the weights or hooks of the backbone that it is given",
            "edit through backbone.edited(...), or change a copy (copy.deepcopy)",
        )

    def language(self, backbone: str) -> Language:
        """The text tower that was trained with a backbone; one is kept loaded."""
        if self._language is None or self._language[0] != backbone:
            from vitbench.engine.language import language_of

            self._language = backbone, language_of(backbone, self.options, self.device)
        return self._language[1]

    def edited(self, name: str, dtype: str, edit: str, fits: tuple[tuple[int, str], ...]) -> Backbone:
        """The backbone with the edits of a chain (`a+b`) applied, those in `fits` with their states."""
        backbone, states = self.backbone(name, dtype), dict(fits)
        for i, text in enumerate(split_outside(edit, "+") if edit else []):
            backbone = edited(build_repair(text), backbone, self.state(states[i]) if i in states else {})
            self.require_untouched(text)
        return backbone

    def samples(self, ref: SplitRef) -> Samples:
        """A split, opened once. Rendered data give all targets with the picture, so tasks share what was rendered."""
        if self.dataset(ref.dataset).size_px is not None:
            ref = replace(ref, targets=())
        if ref not in self._samples:
            self._samples[ref] = Samples(ref, self.options.data_root, self._decoders)
        return self._samples[ref]

    def close(self) -> None:
        """End the processes that decode."""
        self._decoders.close()

    def dataset(self, name: str) -> DatasetCard:
        """The card of a data set; a large folder is listed once per process."""
        if name not in self._datasets:
            self._datasets[name] = describe_dataset(name, self.options.data_root)
        return self._datasets[name]

    def state(self, fit: str) -> State:
        path = state_path(self.options, fit)
        with safe_open(path, framework="pt", device=str(self.device)) as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - not a dict

    def maps(
        self, steps: tuple[str, ...], fits: tuple[tuple[int, str, str], ...]
    ) -> list[tuple[Repair[Any], dict[str, State]]]:
        """Repairs of a chain with their states: (step, field) -> state."""
        out = []
        for i, text in enumerate(steps):
            states = {name: self.state(fit) for step, name, fit in fits if step == i}
            out.append((build_repair(text), states))
        return out


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def run_pass_job(job: PassJob, bench: Workbench) -> Outcome:
    """Extract the fields that are missing; a second process with the same job waits and finds them there."""
    started = time.perf_counter()
    root = bench.options.tokens
    with lock(bench.options, job.store):
        fields = tuple(f for f in job.fields if f not in stored_fields(root, job.store))
        if not fields:
            return Outcome("ok", "already there")
        backbone = bench.edited(job.backbone, job.dtype, job.edit, job.edit_fits)
        samples = bench.samples(job.split)
        writer = ShardWriter(root, job.store, fields)
        seen = samples.placed(job.view, backbone.card.patch_px)
        cost = run_pass(backbone, seen, TokenRequest(fields, job.view), [writer])
    images = int(cost["forwards"])
    return Outcome("ok", f"{images} images", time.perf_counter() - started, images * job.forwards_per_image)


def run_fit_job(job: FitJob, bench: Workbench) -> Outcome:
    """Fit the last repair of the job's chain for one field, on train tokens mapped by those before it."""
    started = time.perf_counter()
    path = state_path(bench.options, job.id)
    with lock(bench.options, job.id):
        if path.is_file():
            return Outcome("ok", "already there")
        *steps, last = split_outside(job.repair, "+")
        fits = tuple((i, job.field, fit) for i, fit in job.upstream)
        context = StoreFitContext(bench, job, bench.maps(tuple(steps), fits))
        state = storable(build_repair(last).fit(context), last)
        bench.require_untouched(last)
        seconds = time.perf_counter() - started
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".writing")
            save_file(state, partial, metadata={"seconds": f"{seconds:.6f}"})
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}", "free space, or use --cache") from error
        context.done()
    return Outcome("ok", f"fitted on {context.images} images", seconds)


def run_cell_job(job: CellJob, bench: Workbench) -> Outcome:
    """Fit the head on stored tokens, measure, and write the record with its rows."""
    started = time.perf_counter()
    options = bench.options
    with lock(options, job.identity):
        done = find(options.records, job.slot, job.identity)
        if done is not None and done.status == "ok":
            return Outcome("ok", "already there")
        [ref] = expand_tasks(job.slot.task)
        card = ref.card
        task = ref.load()
        language = bench.language(job.backbone) if card.language else None
        context = TaskContext(bench.dataset(job.slot.dataset), job.slot.seed, language)
        maps = bench.maps(job.maps, job.fits)
        streams = {
            name: MappedStream(
                name, StoredTokens(options.tokens, job.stores[name], job.fields), bench.samples(job.splits[name]),
                card.targets, maps, bench.device,
            )
            for name in card.splits
        }  # fmt: skip
        head = task.fit(streams["train"], context) if "train" in streams else None
        fitted = time.perf_counter()
        rows = task.measure(head, streams["val"], context)
        measured = time.perf_counter()
        passes = [StoredTokens(options.tokens, job.stores[name], job.fields[:1]).cost for name in streams]
        took = cost(
            job, bench, forward_s=sum(p["seconds"] for p in passes), forwards=int(sum(p["forwards"] for p in passes)),
            head_fit_s=fitted - started, measure_s=measured - fitted,
        )  # fmt: skip
        seen = {name: stream.keys for name, stream in streams.items()}
        text = record_cell(job, bench, ref, rows, took, {**task.flags(head, rows), **skipped(job, seen)})
    return Outcome("ok", text, time.perf_counter() - started)
