"""From what a cell measured to its record: metrics with intervals, cost, flags, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil
import torch
from filelock import FileLock
from safetensors import safe_open

from vitbench.catalogue.resolve import TaskRef
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import state_path
from vitbench.errors import StorageError
from vitbench.jobs import CellJob
from vitbench.metrics import measures
from vitbench.records import provenance
from vitbench.records.inference import summarise
from vitbench.records.rows import Rows
from vitbench.records.schema import Record
from vitbench.records.store import write
from vitbench.repairs.compose import build_repair
from vitbench.selection import split_outside
from vitbench.tasks.units import by_video

if TYPE_CHECKING:
    from vitbench.engine.jobs import Workbench


def record_cell(
    job: CellJob, bench: Workbench, ref: TaskRef, rows: Rows, cost: Mapping[str, Any], flags: Mapping[str, Any]
) -> str:
    """Write the record and the rows; returns the headline in a few words."""
    card = ref.card
    if "frames" in bench.dataset(job.slot.dataset).targets:
        rows = by_video(rows)
    record = Record.ok(
        slot=job.slot, identity=job.identity, components=job.components, headline=card.headline,
        metrics=summarise(rows, measures(card.metric, rows.info)), keep_draws=card.secondary, cost=dict(cost),
        provenance=_provenance(ref, bench), flags={**flags, **_fit_flags(job)},
    )  # fmt: skip
    write(bench.options.records, record, rows)
    value = record.metrics[card.headline].value
    return f"{card.headline} {'null' if value is None else f'{value:.2f}'}"


def cost(
    job: CellJob, bench: Workbench, *, forward_s: float, forwards: int, head_fit_s: float, measure_s: float
) -> dict[str, Any]:
    """What a cell took. What it shares with others (`forward_s`, the images in `forwards`, fits) is told by each in full."""
    repair_s, parameters = 0.0, 0
    edits = split_outside(job.edit, "+") if job.edit else []
    fitted = [(edits[i], fit) for i, fit in job.edit_fits] + [(job.maps[i], fit) for i, _, fit in job.fits]
    for text, fit in fitted:
        with safe_open(state_path(bench.options, fit), framework="pt") as f:
            repair_s += float((f.metadata() or {}).get("seconds", 0.0))
        parameters += build_repair(text).extra_parameters(bench.state(fit))
    return {
        "seconds": {"pass": forward_s, "repair_fit": repair_s, "head_fit": head_fit_s, "measure": measure_s},
        "forwards": forwards * job.forwards_per_image,
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


def skipped(job: CellJob, keys: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """How many images of each split were left out because they could not be read."""
    if not any(ref.skip_corrupt for ref in job.splits.values()):
        return {}
    there = {name: len({key.partition("#")[0] for key in found}) for name, found in keys.items()}
    return {"skipped_corrupt": {name: job.splits[name].images - count for name, count in there.items()}}


def _provenance(ref: TaskRef, bench: Workbench) -> dict[str, Any]:
    device = str(bench.device)
    driver = torch.version.cuda or "" if bench.device.type == "cuda" else ""
    if bench.device.type == "cuda":
        device = torch.cuda.get_device_name(bench.device)
    return provenance.collect(list(bench.options.command), asdict(ref.settings), device, driver)


def lock(options: RunOptions, name: str) -> FileLock:
    """Held while something of that name is made, so that another process waits and finds it there."""
    folder = options.cache / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write the cache {options.cache}: {error}", "use --cache DIR") from error
    return FileLock(folder / f"{name}.lock")
