"""The options that verbs share."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitbench.errors import NothingSelectedError, RecordError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vitbench.choices import Selected
    from vitbench.engine.options import RunOptions
    from vitbench.identity import Slot
    from vitbench.records.index import Loaded

Suite = Annotated[str | None, typer.Option("--suite", "-s", help="A shipped suite, or a TOML file.")]
All = Annotated[bool, typer.Option("--all", help="The default suite: every cell that can run here.")]
Backbones = Annotated[
    str | None, typer.Option("--backbones", "-b", help="Comma-separated names or globs; defects after +.")
]
Repairs = Annotated[
    str | None, typer.Option("--repairs", "-r", help="Comma-separated; parameters in brackets; + composes.")
]
Tasks = Annotated[str | None, typer.Option("--tasks", "-t", help="Comma-separated task, task@protocol, or globs.")]
Datasets = Annotated[
    str | None, typer.Option("--datasets", "-d", help="Comma-separated; folder:PATH for your own images.")
]
Seeds = Annotated[str | None, typer.Option(help="Comma-separated; tasks without randomness run once.")]
Limit = Annotated[int | None, typer.Option(help="At most N images per split (part of the identity).")]
Subset = Annotated[
    str | None, typer.Option(help="stratified:N: N images per split, classes even (part of the identity).")
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read; the record counts them.")
]
Draft = Annotated[
    bool, typer.Option("--draft", help="Decode large JPEGs smaller where only labels are read (part of the identity).")
]
Dtype = Annotated[str | None, typer.Option(help="Compute dtype: float32, bfloat16 or float16 (part of the identity).")]
Records = Annotated[Path | None, typer.Option(help="Folder of records (default: runs).")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of tokens and states (default: VITBENCH_CACHE or the user's cache).")
]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of data sets (default: VITBENCH_DATA).")]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights", help="NAME=PATH, repeatable: local weights of a backbone. NAME@{step}=...{step}...: a series."
    ),
]
Plugin = Annotated[
    list[str] | None, typer.Option("--plugin", help="A Python file with your own repair, task, ...; repeatable.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask a hub; what is not cached is unavailable.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; 0 runs everything in this one.")]
Decoders = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes per worker that decode images; 0: threads (default: threads below 4 cores a worker)."
    ),
]
CacheBudget = Annotated[str | None, typer.Option(help="Most bytes of stored tokens, such as 20GB.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds after which a pass, fit or cell is given up.")]


def config() -> dict[str, Any]:
    """`vitbench.toml` of the current folder: suite, records, cache, data_root, weights, plugins."""
    path = Path("vitbench.toml")
    if not path.is_file():
        return {}
    try:
        data = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"vitbench.toml: {error}") from None
    known = {"suite", "records", "cache", "data_root", "weights", "plugins"}
    if unknown := sorted(data.keys() - known):
        raise UsageError(f"vitbench.toml: unknown key {unknown[0]!r}", f"it may have {', '.join(sorted(known))}")
    return data


def with_plugins(plugin: list[str] | None) -> tuple[str, ...]:
    """Load the plug-ins of `vitbench.toml` and of the command line; returns their files."""
    from vitbench.plugins import load_plugins

    files = (*config().get("plugins", []), *(plugin or []))
    load_plugins(files)
    return files


def run_options(
    records: Path | None, cache: Path | None, data_root: Path | None, weights: list[str] | None,
    plugin: list[str] | None, **other: Any,
) -> RunOptions:  # fmt: skip
    """Command line over `vitbench.toml` over environment over defaults; loads the plugins."""
    from vitbench.engine.options import RunOptions, parse_weights
    from vitbench.paths import cache_dir

    settings = config()
    plugins = with_plugins(plugin)
    root = data_root or settings.get("data_root") or os.environ.get("VITBENCH_DATA")
    given = [f"{k}={v}" for k, v in settings.get("weights", {}).items()] + list(weights or [])
    return RunOptions(
        # Shells expand no `~` after `=`, and files and variables know none.
        records=Path(records or settings.get("records", "runs")).expanduser(),
        cache=Path(cache or settings.get("cache") or cache_dir()).expanduser(),
        data_root=Path(root).expanduser() if root else None,
        weights=parse_weights(given),
        plugins=plugins,
        **other,
    )


def selected(
    suite: str | None, everything: bool, backbones: str | None, repairs: str | None, tasks: str | None,
    datasets: str | None, seeds: str | None, limit: int | None, dtype: str | None,
    subset: str | None = None, skip_corrupt: bool = False, draft: bool = False,
    weights: Sequence[tuple[str, str]] = (),
) -> Selected:  # fmt: skip
    """The cells that a command line asks for."""
    from vitbench.choices import Filters, choose

    filters = Filters.parse(backbones, repairs, tasks, datasets, seeds, limit, dtype, subset, skip_corrupt, draft)
    if suite is None and not everything and not filters.any_axis:
        raise UsageError("nothing selected", "use --all, --suite NAME, or -b/-r/-t/-d")
    return choose(
        suite, filters, default_suite=config().get("suite", "lab"), everything=everything,
        checkpoints=[name for name, _ in weights],
    )  # fmt: skip


def loaded_or_refused(loaded: Loaded, root: Path) -> Loaded:
    """The records of a folder. Raises NothingSelectedError where there is none, with what is wrong with its files."""
    if loaded.entries:
        return loaded
    found = ""
    if loaded.problems:
        found = f"; {len(loaded.problems)} files there cannot be read: {loaded.problems[0].message}"
    raise NothingSelectedError(
        f"no records in {root}{found}", "`vitbench run --all` makes some, --records DIR names others"
    )


def suite_slots(suite: str, loaded: Loaded) -> frozenset[Slot]:
    """The slots of all cells of a suite; a series of checkpoints in it means those that have records."""
    from vitbench.choices import Filters, choose
    from vitbench.identity import Slot

    known = sorted({re.split(r"[+[]", e.slot.backbone)[0] for e in loaded.entries if "@" in e.slot.backbone})
    choices = choose(suite, Filters(), checkpoints=known).choices
    return frozenset(Slot(c.backbone, c.repair, c.task.text, c.dataset, c.seed) for c in choices)


def axis_filter(
    backbones: str | None, repairs: str | None, tasks: str | None, datasets: str | None
) -> Callable[[str, str, str, str], bool]:
    """Comma-separated globs over backbone, repair, task and dataset; None keeps all."""
    from functools import cache

    from vitbench.catalogue.resolve import matches, matches_task
    from vitbench.selection import split_list

    def axis(text: str | None, selects: Callable[[str, str], bool]) -> Callable[[str], bool] | None:
        patterns = split_list(text) if text else []
        if not patterns:
            return None
        # Thousands of records share a few names.
        return cache(lambda name: any(selects(one, name) for one in patterns))

    axes = axis(backbones, matches), axis(repairs, matches), axis(tasks, matches_task), axis(datasets, matches)

    def wanted(*names: str) -> bool:
        return all(selects is None or selects(name) for selects, name in zip(axes, names, strict=True))

    return wanted


def show_or_write(out: Path | None, text: str) -> None:
    """A report to the terminal, or to a file."""
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)


def write_text(out: Path, text: str) -> None:
    """Write a report. Raises RecordError naming the file."""
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {out}: {error.strerror or error}", "name another file with --out") from None


def make_folder(out: Path) -> None:
    """A folder for reports. Raises RecordError naming it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot write {out}: {error.strerror or error}", "name another folder with --out") from None
