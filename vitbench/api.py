"""The same from Python, also inside a training loop: `vitbench.evaluate(model, repairs=..., tasks=..., datasets=...)`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.choices import Filters, choose
from vitbench.engine.options import RunOptions
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
    limit: int | None = None,
    dtype: str | None = None,
    records: str | Path | None = None,
    device: str = "auto",
    name: str = "model",
    options: RunOptions | None = None,
) -> pd.DataFrame:
    """Evaluate a backbone by name, or a module in memory; one row per cell and metric.

    A torch module (timm, Hugging Face, hub) is wrapped by `vitbench.backbones.wrap`; its weights' digest is its identity, so a
    model that has changed is measured again and one that has not is not. `records` keeps the records (default: a temporary
    folder). Everything runs in this process. Raises UsageError for unknown names.
    """
    from vitbench.engine.local import run
    from vitbench.plan import make_plan
    from vitbench.records.frames import frame
    from vitbench.records.store import find

    filters = Filters(_names([model] if isinstance(model, str) else [name]), _names(repairs), _names(tasks), _names(datasets),
                      limit=limit, dtype=dtype)  # fmt: skip
    modules = {} if isinstance(model, str) else {name: _wrapped(model, name)}
    with tempfile.TemporaryDirectory() as scratch:
        opts = options or RunOptions(records=Path(records or scratch), device=device, workers=0)
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
    from dataclasses import replace

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
