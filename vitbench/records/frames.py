"""Records as a pandas frame: one row per record and metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.records.schema import Record
from vitbench.records.store import scan

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("backbone", "repair", "task", "dataset", "seed", "status", "reason"),
    *("metric", "headline", "value", "unit", "higher_is_better", "ci_low", "ci_high", "n", "note"),
    *("forwards_per_image", "fit_seconds", "extra_parameters", "peak_memory_bytes", "seconds"),
    *("protocol_version", "identity", "commit", "utc"),
)


def load_records(folder: str | Path) -> pd.DataFrame:
    """What was measured, as a table: one row per record and metric, or with its status and reason where there is no number.

    folder: as `--records`, with all below it. Columns: backbone, repair, task, dataset, seed, status, reason; metric, headline
    (whether leaderboards show it), value, unit, higher_is_better, ci_low and ci_high (95 %), n (groups: images, videos, ...),
    note; forwards_per_image, fit_seconds, extra_parameters, peak_memory_bytes, seconds, identity, commit, utc. Files that are no
    records are left out (`vitbench.records.store.scan` names them).
    """
    return frame(scan(Path(folder))[0])


def frame(records: list[Record]) -> pd.DataFrame:
    """One row per record and metric (`COLUMNS`); a record without metrics is one row with its status and reason."""
    import pandas as pd

    return pd.DataFrame([row for record in records for row in _rows(record)], columns=list(COLUMNS))


def _rows(record: Record) -> list[dict[str, Any]]:
    cell = {
        **record.slot.as_dict(),
        "status": record.status,
        "reason": record.reason,
        "forwards_per_image": record.cost.forwards_per_image,
        "fit_seconds": record.cost.fit_seconds,
        "extra_parameters": record.cost.extra_parameters,
        "peak_memory_bytes": record.cost.peak_memory_bytes,
        "seconds": sum(record.cost.seconds.values()),
        "protocol_version": str(record.components.get("task", {}).get("version", "")),
        "identity": record.identity,
        "commit": str(record.provenance.get("commit", "")),
        "utc": record.utc,
    }
    if not record.metrics:
        return [cell]
    return [
        {**cell, "metric": name, "headline": name == record.headline, **metric.model_dump()}
        for name, metric in record.metrics.items()
    ]
