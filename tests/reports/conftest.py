"""A made-up suite in the shape of the lab: 13 backbones (3 controls, 6 defects), 12 repairs, 9 tasks, about 250 cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vitbench.catalogue import BACKBONES, REPAIRS, TASKS
from vitbench.catalogue.cards import BackboneCard, RepairCard, TaskCard
from vitbench.identity import Slot, cell_identity
from vitbench.records.index import Entry, Loaded, current
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.reports.leaderboard import Leaderboard, build

MODELS = ("lab_ssl", "lab_sup", "lab_mae", "lab_ssl_reg4")
CONTROLS = ("patch_colour", "position_only", "random_vit")
DEFECTS = ("grid", "grid[site=input]", "grid[site=output]", "outliers", "variance", "diffusion")
REPAIRED = (
    *("none", "registers", "remove_high_variance", "center", "zscore", "position_mean", "remove_top_components"),
    *("norm_clip", "fill_outliers", "unit", "random_dims", "smooth3"),
)
TASK_SPECS = {  # name: (protocol, headline, unit, higher is better, typical value, family)
    "linear_segmentation": ("ridge", "miou", "%", True, 60.0, "dense"),
    "knn_segmentation": ("hummingbird", "miou", "%", True, 52.0, "dense"),
    "depth": ("ridge", "rmse", "m", False, 0.62, "dense"),
    "object_discovery": ("lost", "corloc", "%", True, 44.0, "dense"),
    "knn_classification": ("dino", "top1", "%", True, 71.0, "image"),
    "linear_classification": ("logreg", "top1", "%", True, 78.0, "image"),
    "position_probe": ("normal_outlier", "top1", "%", False, 31.0, "probe"),
    "pixel_probe": ("normal_outlier", "l2", "", False, 0.21, "probe"),
    "token_norms": ("mad", "outlier_share", "%", False, 1.4, "diagnostic"),
}
GROUPS = tuple(f"scene-{i}" for i in range(100))


@pytest.fixture(autouse=True, scope="module")
def _cards() -> Iterator[None]:
    """The suite's names are registered, whatever the catalogue holds."""
    with pytest.MonkeyPatch.context() as patch:
        _register(patch)
        yield


def _register(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = [BackboneCard(n, "", "vit", "lab", 8, 1, 0, 192, 6) for n in MODELS]
    controls = [BackboneCard(n, "", "control", "control", 8, 0, 0, 192, 0) for n in CONTROLS]
    monkeypatch.setattr(BACKBONES, "_cards", {c.name: c for c in (*lab, *controls)})
    roles = {n: "control" if n in ("random_dims", "smooth3") else "repair" for n in REPAIRED}
    repairs = [RepairCard(n, "", None, "map", ("patch",), "", role=role) for n, role in roles.items()]  # type: ignore[arg-type]
    monkeypatch.setattr(REPAIRS, "_cards", {c.name: c for c in repairs})
    tasks = [TaskCard(n, "", n, s[5], (), "", s[1], splits=("val",)) for n, s in TASK_SPECS.items()]  # type: ignore[arg-type]
    monkeypatch.setattr(TASKS, "_cards", {c.name: c for c in tasks})


def _scored(
    backbone: str, repair: str, task: str, value: float, noise: float = 0.05, dataset: str = "scenes", seed: int = 0,
    version: int = 1, utc: str = "2026-01-02T03:04:05Z", **cost: float,
) -> Record:  # fmt: skip
    """A record whose headline is about `value`: difficulty is shared by all cells, `noise` is the cell's own."""
    name = task.partition("@")[0]
    _, metric, unit, up, _, _ = TASK_SPECS[name]
    own = np.random.default_rng([*backbone.encode(), *repair.encode(), *name.encode(), seed])
    shared = np.random.default_rng(0).normal(0, 0.3, len(GROUPS))
    scores = value * (1 + shared + own.normal(0, noise, len(GROUPS)))
    rows = Rows(GROUPS, GROUPS, {"score": scores, "count": np.ones(len(GROUPS))})
    mean = Measure(metric, unit, up, lambda sums, info: sums["score"] / sums["count"])
    slot = Slot(backbone, repair, task, dataset, seed)
    components = {"task": {"name": task, "version": version}, "data": {"name": dataset, "splits": {"val": "abcd"}}}
    return Record.ok(
        slot=slot, identity=cell_identity(slot, components), components=components, headline=metric,
        metrics=summarise(rows, [mean], draws=500), cost={"forwards_per_image": 1.0, "fit_seconds": 0.4, **cost},
        provenance={"utc": utc, "commit": "0123456789abcdef", "dirty": False},
    )  # fmt: skip


def _absent(backbone: str, repair: str, task: str, status: str, reason: str, remedy: str = "", seed: int = 0) -> Record:
    slot = Slot(backbone, repair, task, "scenes", seed)
    return Record.missing(
        status, reason, remedy, slot=slot, identity=cell_identity(slot, {}), components={},
        provenance={"utc": "2026-01-02T03:04:05Z"},
    )  # fmt: skip


def _loaded(*records: Record) -> Loaded:
    return Loaded(tuple(current([Entry.of(r) for r in records])))


def _level(backbone: str) -> float:
    base, _, defect = backbone.partition("+")
    level = {"lab_ssl": 1.0, "lab_sup": 1.08, "lab_mae": 0.8, "lab_ssl_reg4": 1.01, "random_vit": 0.4}.get(base, 0.5)
    return level * (0.85 if defect and not defect.startswith("outliers") else 0.97 if defect else 1.0)


def _lab_records() -> list[Record]:
    """About 250 records: everything on `none`, and the repairs on some backbones and tasks."""
    records: list[Record] = []
    backbones = (*MODELS, *CONTROLS, *(f"lab_ssl+{d}" for d in DEFECTS))
    for name, (protocol, _, _, up, typical, _) in TASK_SPECS.items():
        task = f"{name}@{protocol}"
        for backbone in backbones:
            level = _level(backbone)
            value = typical * level if up else typical / level
            records.append(_scored(backbone, "none", task, value))
            few = name in ("linear_segmentation", "knn_segmentation")
            repairs = REPAIRED[1:] if few and backbone in ("lab_ssl", *backbones[-6:]) else ()
            if not few and backbone == "lab_ssl+outliers":
                repairs = ("remove_high_variance", "zscore")
            for i, repair in enumerate(repairs):
                if repair == "registers" and "+" in backbone:
                    why = "a clean register twin does not repair a planted defect"
                    records.append(_absent(backbone, repair, task, "not_applicable", why))
                    continue
                gain = 1 + 0.012 * (i % 5) - (0.06 if repair == "random_dims" else 0.0)
                better = value * gain if up else value / gain
                records.append(_scored(backbone, repair, task, better, fit_seconds=0.03 * i, extra_parameters=384 * i))
    return records


@pytest.fixture(scope="module")
def scored() -> Callable[..., Record]:
    return _scored


@pytest.fixture(scope="module")
def absent() -> Callable[..., Record]:
    return _absent


@pytest.fixture(scope="module")
def loaded() -> Callable[..., Loaded]:
    return _loaded


@pytest.fixture(scope="module")
def make_lab(_cards: None) -> Callable[[], Loaded]:
    """Makes the records of the whole suite, once."""
    made = _loaded(*_lab_records())
    return lambda: made


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[], Loaded]) -> Leaderboard:
    """The leaderboard of the whole suite."""
    return build(make_lab())
