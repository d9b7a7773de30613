"""Records in the "Every Eval Ever" schema, version 0.2.1 (EvalEval Coalition 2026, github.com/evaleval/every_eval_ever).

One document per backbone and repair, with a result per task and metric. Metrics without an upper bound are left out: the
schema wants the least and the largest possible score of a continuous one. The same records give the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from vitbench.catalogue import BACKBONES
from vitbench.identity import digest
from vitbench.paths import file_name
from vitbench.records.inference import LEVEL
from vitbench.records.schema import Metric, Record, decode_draws

SCHEMA = "0.2.1"
BENCHMARK = "vitbench"
Relationship = Literal["first_party", "third_party", "collaborative", "other"]
_NAMESPACE = uuid.UUID("7b1f4c4e-8a0b-5d55-9d0f-6e5b3c1d2a77")
_RANGES = {"%": (0.0, 100.0), "fraction": (0.0, 1.0)}


@dataclass(frozen=True)
class Exported:
    """Documents by relative path, and how many metrics had no value or no bounds."""

    documents: dict[str, str]
    results: int
    left_out: int


def export(records: Iterable[Record], organisation: str, relationship: Relationship) -> Exported:
    """Measured records as documents `vitbench/<developer>/<model>/<uuid>.json`."""
    grouped: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            grouped[record.slot.backbone, record.slot.repair].append(record)
    documents: dict[str, str] = {}
    results = left_out = 0
    for (backbone, repair), members in sorted(grouped.items()):
        ordered = sorted(members, key=lambda r: r.slot)
        found = [_result(r, name, m) for r in ordered for name, m in r.metrics.items() if _bounded(m)]
        left_out += sum(len(r.metrics) for r in ordered) - len(found)
        results += len(found)
        if found:
            document = _document(backbone, repair, ordered, found, organisation, relationship)
            name = uuid.uuid5(_NAMESPACE, digest(document))
            model = file_name(backbone if repair == "none" else f"{backbone}__{repair}")
            documents[f"{BENCHMARK}/{developer_of(backbone)}/{model}/{name}.json"] = _text(document)
    return Exported(documents, results, left_out)


def developer_of(backbone: str) -> str:
    """The first half of a model id: where the weights come from."""
    name = backbone.partition("+")[0].partition("[")[0]
    if name not in BACKBONES:
        return "unknown"
    return BENCHMARK if BACKBONES.get(name).kind in ("lab", "control") else "timm"


def _document(
    backbone: str, repair: str, records: list[Record], results: list[dict[str, Any]], organisation: str,
    relationship: Relationship,
) -> dict[str, Any]:  # fmt: skip
    newest = max(records, key=lambda r: r.utc)
    model = f"{developer_of(backbone)}/{backbone}"
    made = _epoch(newest.utc)
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{BENCHMARK}/{model}{'' if repair == 'none' else '+' + repair}/{made}",
        "retrieved_timestamp": made,
        "evaluation_timestamp": made,
        "source_metadata": {
            "source_name": BENCHMARK,
            "source_type": "evaluation_run",
            "source_organization_name": organisation,
            "evaluator_relationship": relationship,
        },
        "eval_library": {
            "name": BENCHMARK,
            "version": str(newest.provenance.get("versions", {}).get("vitbench", "unknown")),
            "additional_details": {"commit": str(newest.provenance.get("commit", ""))},
        },
        "model_info": {
            "name": backbone if repair == "none" else f"{backbone} with {repair}",
            "id": model,
            "developer": developer_of(backbone),
            "additional_details": {
                "repair": repair,
                "weights_digest": str(newest.components.get("backbone", {}).get("digest", "")),
            },
        },
        "evaluation_results": results,
    }


def _result(record: Record, name: str, metric: Metric) -> dict[str, Any]:
    slot = record.slot
    low, high = _RANGES[metric.unit]
    uncertainty: dict[str, Any] = {"num_samples": metric.n}
    if metric.ci_low is not None and metric.ci_high is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric.ci_low,
            "upper": metric.ci_high,
            "confidence_level": LEVEL,
            "method": "percentile bootstrap over groups (images, clips)",
        }
    if name in record.draws:
        uncertainty["num_bootstrap_samples"] = len(decode_draws(record.draws[name]))
    settings = record.components.get("task", {}).get("settings", {})
    version = record.components.get("task", {}).get("version", "")
    return {
        "evaluation_name": f"{slot.task} on {slot.dataset}: {name}",
        "source_data": {
            "dataset_name": slot.dataset,
            "source_type": "other",
            "additional_details": _texts(record.components.get("data", {}).get("splits", {})),
        },
        "evaluation_timestamp": _epoch(record.utc),
        "metric_config": {
            "evaluation_description": f"{name} of {slot.task}" + (f", in {metric.unit}" if metric.unit == "%" else ""),
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            "min_score": low,
            "max_score": high,
        },
        "score_details": {
            "score": metric.value,
            "details": {"headline": str(name == record.headline).lower(), "identity": record.identity},
            "uncertainty": uncertainty,
        },
        "generation_config": {
            "additional_details": _texts({**settings, "protocol_version": version, "seed": slot.seed}),
        },
    }


def _bounded(metric: Metric) -> bool:
    return metric.value is not None and metric.unit in _RANGES


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}


def _epoch(utc: str) -> str:
    """ISO 8601 as Unix time, which the schema wants as text; 0 where the time is not known."""
    return f"{datetime.fromisoformat(utc).timestamp():.6f}" if utc else "0"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
