"""The same from Python, also inside a training loop: `vitbench.evaluate(model, repairs=..., tasks=..., datasets=...)`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.choices import Filters, choose
from vitbench.engine.options import RunOptions, parse_weights
from vitbench.errors import NothingSelectedError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from vitbench.backbones.base import Backbone

Names = str | Sequence[str]


def evaluate(
    model: str | nn.Module | Backbone,
    *,
    repairs: Names = "none",
    tasks: Names = "knn_segmentation",
    datasets: Names = "scenes",
    seeds: int | str | Sequence[int] = (),
    limit: int | None = None,
    subset: str | None = None,
    dtype: str | None = None,
    records: str | Path | None = None,
    data_root: str | Path | None = None,
    weights: Mapping[str, str | Path] | None = None,
    plugins: Names = (),
    device: str = "auto",
    offline: bool = False,
    name: str = "model",
) -> pd.DataFrame:
    """Evaluate a backbone by name, or a module in memory; one row per cell and metric (`load_records` says which columns).

    model: a name as after `-b` (globs, defects and a series `NAME@*` too), a torch module (timm, Hugging Face, hub), which is
    wrapped by `vitbench.wrap` and called `name`, or a `Backbone`. A module is copied, never changed; its weights' digest is
    its identity, so one that has changed is measured again and one that has not is not.
    repairs, tasks, datasets: comma-separated as on the command line, or a list.
    seeds, limit (images per split), subset (`stratified:N`), dtype, data_root, device, offline: as the options of `vitbench run`.
    weights: files by backbone name, as `--weights NAME=FILE`. plugins: Python files, as `--plugin`; what is written in the
    notebook itself is registered by `vitbench.register`. records: keeps the records there (default: a temporary folder).

    Everything runs in this process, and nothing is printed; a cell without a number is a row with its status and reason. Raises
    UsageError for what the command line refuses, NothingSelectedError where nothing is left to measure.
    """
    from vitbench.engine.local import run
    from vitbench.plan import make_plan
    from vitbench.plugins import load_plugins
    from vitbench.records.frames import frame
    from vitbench.records.store import find

    files = tuple(str(Path(file).expanduser()) for file in _names(plugins))
    load_plugins(files)
    parsed = Filters.parse(None, None, None, None, _text(seeds), limit, dtype, subset)
    backbones = _names(model) if isinstance(model, str) else (name,)
    filters = replace(
        parsed, backbones=backbones, repairs=_names(repairs), tasks=_names(tasks), datasets=_names(datasets)
    )
    modules = {} if isinstance(model, str) else {name: _wrapped(model, name)}
    with tempfile.TemporaryDirectory() as scratch:
        opts = RunOptions(
            records=Path(records or scratch).expanduser(), device=device, offline=offline, workers=0, plugins=files,
            data_root=Path(data_root).expanduser() if data_root else None,
            weights=parse_weights([f"{known}={path}" for known, path in (weights or {}).items()]),
        )  # fmt: skip
        world = _world(opts, modules)
        plan = make_plan(_choices(filters, modules, opts), world, opts.cache_budget)
        run(plan, opts, _Silent(), modules)
        found = [find(opts.records, cell.slot, cell.identity) for cell in plan.cells]
    kept = [record for record in found if record is not None]
    if not kept:
        raise NothingSelectedError("nothing was measured")
    return frame(kept)


def _names(value: Names) -> tuple[str, ...]:
    from vitbench.selection import split_list

    return tuple(split_list(value)) if isinstance(value, str) else tuple(value)


def _text(value: int | str | Sequence[int]) -> str:
    """As it is typed on the command line."""
    return str(value) if isinstance(value, str | int) else ",".join(str(one) for one in value)


def _wrapped(model: Any, name: str) -> Backbone:
    from torch import nn

    from vitbench.backbones.base import Backbone
    from vitbench.backbones.wrap import wrap

    if not isinstance(model, nn.Module | Backbone):
        raise UsageError(f"{type(model).__name__} is no model", "give a backbone's name, a torch module or a Backbone")
    # A copy, because a compute dtype is set on the module: a model in training must not lose bits of its weights.
    return model if isinstance(model, Backbone) else wrap(copy.deepcopy(model), name=name)


def _choices(filters: Filters, modules: dict[str, Backbone], options: RunOptions) -> Any:
    if not modules:
        return choose(None, filters, checkpoints=[checkpoint for checkpoint, _ in options.weights]).choices
    # A module in memory is known to nobody else: the choices are made for a stand-in and given its name.
    stand_in = replace(filters, backbones=("random_vit",))
    return [replace(c, backbone=next(iter(modules))) for c in choose(None, stand_in).choices]


def _world(options: RunOptions, modules: dict[str, Backbone]) -> Any:
    from vitbench.engine.workspace import Workspace
    from vitbench.jobs import BackboneState

    world = Workspace(options, fetch=True)
    for name, backbone in modules.items():
        world.know(name, BackboneState(backbone.card, "ready", backbone.digest))
    return world


class _Silent:
    def started(self, _job: Any) -> None:
        return None

    def finished(self, _job: Any, _outcome: Any) -> None:
        return None
