"""Practical effect sizes: the least change that `compare` calls one (`benchmarks/thresholds.toml`)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitbench.catalogue import TASKS
from vitbench.errors import UsageError
from vitbench.paths import benchmarks_dir


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Default(_Strict):
    """For headlines that are not named: points of a percentage, a share of the baseline of anything else."""

    percent: float = Field(ge=0)
    share: float = Field(ge=0)


class CostThresholds(_Strict):
    """Ratios candidate / baseline above which a cost has grown, and the least growth that counts."""

    forwards_ratio: float = Field(ge=1)
    memory_ratio: float = Field(ge=1)
    memory_least_bytes: int = Field(ge=0)
    seconds_ratio: float = Field(ge=1)
    seconds_least: float = Field(ge=0)


class Thresholds(_Strict):
    """The parsed file. metrics: kind of metric -> headline -> points (of a %) or share of the baseline."""

    metrics: dict[str, dict[str, float]] = {}
    default: Default
    cost: CostThresholds

    def least(self, task: str, metric: str, unit: str, baseline: float) -> float:
        """The least change of a headline that matters, in its own unit."""
        name = task.partition("@")[0]
        kind = str(TASKS.get(name).metric) if name in TASKS else ""
        points = unit in ("%", "fraction")
        amount = self.metrics.get(kind, {}).get(metric, self.default.percent if points else self.default.share)
        if points:
            return amount / 100 if unit == "fraction" else amount
        return amount * abs(baseline)


def load_thresholds(path: Path | None = None) -> Thresholds:
    """The shipped thresholds, or those of another TOML file. Raises UsageError naming file and key."""
    path = path or benchmarks_dir() / "thresholds.toml"
    try:
        return Thresholds.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"thresholds {path} cannot be read: {error.strerror or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path.name}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path.name}: key {key!r}: {first['msg'].lower()}") from None
