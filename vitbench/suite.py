"""A suite: a TOML file that selects backbones x repairs x tasks x datasets x seeds. A selection and a view; it owns no records."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitbench.errors import UsageError
from vitbench.paths import benchmarks_dir

Dtype = Literal["float32", "bfloat16", "float16"]
Subset = Annotated[str, Field(pattern=r"^stratified:[1-9]\d*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Select(_Strict):
    """One block: the cross of its lists. A task without `@protocol` means its first protocol."""

    backbones: list[str] = Field(min_length=1)
    repairs: list[str] = ["none"]
    tasks: list[str] = Field(min_length=1)
    datasets: list[str] = Field(min_length=1)


class DatasetOptions(_Strict):
    """What a suite fixes for one dataset: images per split (N or stratified:N), compute dtype, and protocol settings (where
    the protocol has them).
    """

    limits: dict[str, int | Subset] = {}
    dtype: Dtype = "float32"
    skip_corrupt: bool = False
    draft: bool = False
    settings: dict[str, str | int | float | bool] = {}


class Suite(_Strict):
    """The parsed file. `options` is keyed by dataset name; the blocks of `select` are joined, cells that repeat count once."""

    name: str
    summary: str = ""
    seeds: list[int] = [0]
    select: list[Select] = Field(min_length=1)
    options: dict[str, DatasetOptions] = {}

    def axis(self, name: Literal["backbones", "repairs", "tasks", "datasets"]) -> list[str]:
        """All values of one axis over the blocks, in order of first appearance."""
        return list(dict.fromkeys(value for block in self.select for value in getattr(block, name)))


def suite_names() -> list[str]:
    """The suites that ship with vitbench."""
    return sorted(p.stem for p in (benchmarks_dir() / "suites").glob("*.toml"))


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or any TOML file by path. Errors name the file and the line or key."""
    path = Path(name) if name.endswith(".toml") else benchmarks_dir() / "suites" / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"unknown suite {name!r}", f"shipped are {', '.join(suite_names())}; a path must end in .toml")
    return parse_suite(path.read_text(), str(path) if name.endswith(".toml") else path.name)


def parse_suite(text: str, where: str) -> Suite:
    """TOML text -> Suite; `where` is the file named in errors."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: {error}") from None
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        # A misspelt key is reported both as unknown and as missing; the unknown one is what the person typed.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: key {key!r}: {first['msg'].lower()}") from None
