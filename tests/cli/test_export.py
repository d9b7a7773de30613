"""`export`: tables that other tools read back, and documents of the Every Eval Ever schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner, Result

from vitbench.cli.export import export
from vitbench.errors import NothingSelectedError, UsageError, VitbenchError
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.records.store import write

app = typer.Typer()
app.command()(export)
GROUPS = tuple(f"g{i}" for i in range(30))
MEASURES = (
    Measure("mIoU", "%", True, lambda s, info: s["x"] / s["n"]),
    Measure("rmse", "m", False, lambda s, info: s["x"] / s["n"]),
    Measure("empty", "%", True, lambda s, info: s["x"] * np.nan),
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    for backbone, repair in (("lab_ssl", "none"), ("lab_ssl", "unit"), ("odd/name", "none")):
        slot = Slot(backbone, repair, "linear_segmentation@ridge", "scenes", 0)
        rows = Rows(GROUPS, GROUPS, {"x": np.random.default_rng(0).uniform(40, 60, 30), "n": np.ones(30)})
        components = {
            "backbone": {"digest": "ab"},
            "task": {"version": 1, "settings": {"k": 3}},
            "data": {"splits": {"val": "cd"}},
        }
        record = Record.ok(
            slot=slot, identity=cell_identity(slot, components), components=components, headline="mIoU",
            metrics=summarise(rows, MEASURES, draws=200),
            provenance={"utc": "2026-01-01T00:00:00.5Z", "commit": "c", "versions": {"vitbench": "0.1.0"}},
        )  # fmt: skip
        write(Path("runs"), record, rows)
    slot = Slot("lab_ssl", "center", "linear_segmentation@ridge", "scenes", 0)
    write(
        Path("runs"),
        Record.missing("unavailable", "no data", slot=slot, identity=cell_identity(slot, {}), components={}),
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


def refused(*arguments: str) -> VitbenchError:
    error = run(*arguments).exception
    assert isinstance(error, VitbenchError), error
    return error


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_a_table_has_a_row_per_record_and_metric(name: str) -> None:
    done = run("--out", name)
    assert done.exit_code == 0, done.exception
    table = pd.read_csv(name) if name.endswith("csv") else pd.read_parquet(name)
    assert len(table) == 3 * 3 + 1
    row = table[(table.backbone == "lab_ssl") & (table.repair == "none") & (table.metric == "mIoU")].iloc[0]
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert table[table.status == "unavailable"]["reason"].tolist() == ["no data"]


def test_a_selection_is_exported_alone() -> None:
    run("--out", "few.csv", "-r", "unit")
    assert set(pd.read_csv("few.csv").repair) == {"unit"}
    assert isinstance(refused("--out", "few.csv", "-r", "nobody"), NothingSelectedError)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Source(Strict):
    source_name: str
    source_type: Literal["documentation", "evaluation_run"]
    source_organization_name: str
    evaluator_relationship: Literal["first_party", "third_party", "collaborative", "other"]


class Library(Strict):
    name: str
    version: str
    additional_details: dict[str, str]


class Model(Strict):
    name: str
    id: str
    developer: str
    additional_details: dict[str, str]


class Data(Strict):
    dataset_name: str
    source_type: Literal["other"]
    additional_details: dict[str, str]


class MetricConfig(Strict):
    evaluation_description: str
    lower_is_better: bool
    score_type: Literal["continuous"]
    min_score: float
    max_score: float


class Interval(Strict):
    lower: float
    upper: float
    confidence_level: float = Field(ge=0, le=1)
    method: str


class Uncertainty(Strict):
    confidence_interval: Interval | None = None
    num_samples: int
    num_bootstrap_samples: int | None = None


class Score(Strict):
    score: float
    details: dict[str, str]
    uncertainty: Uncertainty


class Generation(Strict):
    additional_details: dict[str, str]


class Evaluated(Strict):
    evaluation_name: str
    source_data: Data
    evaluation_timestamp: str
    metric_config: MetricConfig
    score_details: Score
    generation_config: Generation


class Document(Strict):
    """What version 0.2.1 of the schema allows of what we write; it forbids other keys at the top."""

    schema_version: Literal["0.2.1"]
    evaluation_id: str
    retrieved_timestamp: str
    evaluation_timestamp: str
    source_metadata: Source
    eval_library: Library
    model_info: Model
    evaluation_results: list[Evaluated]


def documents(folder: str = "eee") -> dict[str, Any]:
    return {str(p.relative_to(folder)): json.loads(p.read_text()) for p in sorted(Path(folder).rglob("*.json"))}


def test_documents_follow_the_schema_of_every_eval_ever() -> None:
    done = run("--out", "eee", "--format", "eval-ever", "--organisation", "A lab")
    assert done.exit_code == 0, done.exception
    assert "3 results of 3 models in eee; 6 metrics without value or upper bound left out" in done.output
    found = documents()
    assert {name.rpartition("/")[0] for name in found} == {
        *("vitbench/vitbench/lab_ssl", "vitbench/vitbench/lab_ssl__unit", "vitbench/unknown/odd_name"),
    }
    for data in found.values():
        document = Document.model_validate(data)
        (result,) = document.evaluation_results
        interval = result.score_details.uncertainty.confidence_interval
        assert interval is not None
        assert interval.lower < result.score_details.score < interval.upper
        assert result.score_details.uncertainty.num_bootstrap_samples == 200
        assert result.generation_config.additional_details == {"k": "3", "protocol_version": "1", "seed": "0"}
        assert document.retrieved_timestamp == "1767225600.500000"


def test_the_same_records_give_the_same_documents() -> None:
    for folder in ("one", "two"):
        run("--out", folder, "--format", "eval-ever", "--organisation", "A lab")
    assert documents("one") == documents("two")


def test_what_is_missing_is_said_in_one_line() -> None:
    assert isinstance(refused("--out", "eee", "--format", "eval-ever"), UsageError)
    assert isinstance(refused("--out", "table.xls"), UsageError)
    assert isinstance(refused("--out", "a.csv", "--records", "nowhere"), NothingSelectedError)
    assert "cannot write" in str(refused("--out", "no/such/folder/a.csv"))
