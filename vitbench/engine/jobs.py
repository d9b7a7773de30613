"""The three kinds of jobs. Each is named by identity, restartable, and leaves either a complete result or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import psutil
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file

from vitbench.backbones.base import Backbone
from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.resolve import TaskRef, expand_tasks
from vitbench.data.load import describe_dataset
from vitbench.engine.decoders import Decoders
from vitbench.engine.live import LiveSplit
from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.engine.streams import MappedStream, Samples, StoreFitContext
from vitbench.engine.workspace import state_path
from vitbench.errors import StorageError
from vitbench.jobs import CellJob, FitJob, PassJob, SplitRef
from vitbench.metrics import measures
from vitbench.records import provenance
from vitbench.records.inference import summarise
from vitbench.records.schema import Record
from vitbench.records.store import find, write
from vitbench.repairs.base import Repair, State
from vitbench.repairs.compose import build_repair
from vitbench.selection import split_outside
from vitbench.tasks.base import TaskContext
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
        self._samples: dict[SplitRef, Samples] = {}
        self._decoders = Decoders(options.decoders, options.cores_per_worker(), options.plugins)
        self._datasets: dict[str, DatasetCard] = {}

    def backbone(self, name: str, dtype: str) -> Backbone:
        """The backbone with its defects, on the device; one is kept loaded."""
        if self._loaded is None or self._loaded[0] != (name, dtype):
            self._loaded = None
            base, _, defects = name.partition("+")
            if base in self._modules:
                loaded = self._modules[base]
            else:
                from vitbench.backbones.load import load_backbone

                loaded = load_backbone(base, weights=dict(self.options.weights), offline=self.options.offline)
            if defects:
                from vitbench.backbones.defects import plant_all

                loaded = plant_all(loaded, defects)
            self._loaded = (name, dtype), loaded.to(self.device, getattr(torch, dtype))
        return self._loaded[1]

    def edited(self, name: str, dtype: str, edit: str, fits: tuple[tuple[int, str], ...]) -> Backbone:
        """The backbone with the edits of a chain (`a+b`) applied, those in `fits` with their states."""
        backbone, states = self.backbone(name, dtype), dict(fits)
        for i, text in enumerate(split_outside(edit, "+") if edit else []):
            backbone = build_repair(text).edit(backbone, self.state(states[i]) if i in states else {})
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
    with _lock(bench.options, job.store):
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
    with _lock(bench.options, job.id):
        if path.is_file():
            return Outcome("ok", "already there")
        *steps, last = split_outside(job.repair, "+")
        fits = tuple((i, job.field, fit) for i, fit in job.upstream)
        context = StoreFitContext(bench, job, bench.maps(tuple(steps), fits))
        state = build_repair(last).fit(context)
        seconds = time.perf_counter() - started
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".writing")
            save_file({k: v.contiguous() for k, v in state.items()}, partial, metadata={"seconds": f"{seconds:.6f}"})
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}", "free space, or use --cache") from error
        context.done()
    return Outcome("ok", f"fitted on {context.images} images", seconds)


def run_cell_job(job: CellJob, bench: Workbench) -> Outcome:
    """Fit the head, measure, and write the record with its rows."""
    started = time.perf_counter()
    options = bench.options
    with _lock(options, job.identity):
        done = find(options.records, job.slot, job.identity)
        if done is not None and done.status == "ok":
            return Outcome("ok", "already there")
        [ref] = expand_tasks(job.slot.task)
        card = ref.card
        task = ref.load()
        context = TaskContext(bench.dataset(job.slot.dataset), job.slot.seed)
        live = {name: LiveSplit(bench, job, name) for name in card.splits} if ref.protocol.streams else {}
        maps = bench.maps(job.maps, job.fits) if not live else []
        streams: dict[str, Any] = live or {
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
        metrics = summarise(rows, measures(card.metric, rows.info))
        cost = _cost(job, bench, streams, fitted - started, measured - fitted)
        cost["forwards"] += sum(split.forwards for split in live.values()) * job.forwards_per_image
        flags = {**task.flags(head, rows), **_fit_flags(job), **_skipped(job, streams)}
        record = Record.ok(
            slot=job.slot, identity=job.identity, components=job.components, headline=card.headline, metrics=metrics,
            keep_draws=card.secondary, cost=cost, provenance=_provenance(ref, bench), flags=flags,
        )  # fmt: skip
        write(options.records, record, rows)
        for split in live.values():
            split.done()
    value = record.metrics[card.headline].value
    text = "null" if value is None else f"{value:.2f}"
    streamed = sum(split.forwards for split in live.values()) * job.forwards_per_image
    return Outcome("ok", f"{card.headline} {text}", time.perf_counter() - started, streamed)


def _cost(job: CellJob, bench: Workbench, streams: Mapping[str, Any], fit_s: float, measure_s: float) -> dict[str, Any]:
    stored = {name: StoredTokens(bench.options.tokens, s, job.fields[:1]).cost for name, s in job.stores.items()
              if name in streams}  # fmt: skip
    repair_s, parameters = 0.0, 0
    edits = split_outside(job.edit, "+") if job.edit else []
    fitted = [(edits[i], fit) for i, fit in job.edit_fits] + [(job.maps[i], fit) for i, _, fit in job.fits]
    for text, fit in fitted:
        with safe_open(state_path(bench.options, fit), framework="pt") as f:
            repair_s += float((f.metadata() or {}).get("seconds", 0.0))
        parameters += build_repair(text).extra_parameters(bench.state(fit))
    return {
        "seconds": {
            "pass": sum(c["seconds"] for c in stored.values()),
            "repair_fit": repair_s,
            "head_fit": fit_s,
            "measure": measure_s,
        },
        "forwards": int(sum(c["forwards"] for c in stored.values())) * job.forwards_per_image,
        "forwards_per_image": job.forwards_per_image,
        "fit_seconds": repair_s,
        "extra_parameters": parameters,
        "peak_memory_bytes": _peak_memory(bench.device),
    }


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def _fit_flags(job: CellJob) -> dict[str, Any]:
    # A repair without a train split of its own would be fitted on what the cell evaluates on; the record must say so.
    train, val = job.splits.get("train"), job.splits.get("val")
    if job.fits and train and val and train.digest == val.digest:
        return {"repair_fitted_on_evaluation_data": True}
    return {}


def _skipped(job: CellJob, streams: Mapping[str, MappedStream]) -> dict[str, Any]:
    """How many images of each split were left out because they could not be read."""
    if not any(ref.skip_corrupt for ref in job.splits.values()):
        return {}
    there = {name: len({key.partition("#")[0] for key in stream.keys}) for name, stream in streams.items()}
    return {"skipped_corrupt": {name: job.splits[name].images - count for name, count in there.items()}}


def _provenance(ref: TaskRef, bench: Workbench) -> dict[str, Any]:
    device = str(bench.device)
    driver = torch.version.cuda or "" if bench.device.type == "cuda" else ""
    if bench.device.type == "cuda":
        device = torch.cuda.get_device_name(bench.device)
    return provenance.collect(list(bench.options.command), asdict(ref.settings), device, driver)


def _lock(options: RunOptions, name: str) -> FileLock:
    folder = options.cache / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write the cache {options.cache}: {error}", "use --cache DIR") from error
    return FileLock(folder / f"{name}.lock")
