"""`vitbench data`: what data sets are here, whether they are whole, how to get them, and what they look like."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.cli import options as o
from vitbench.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from vitbench.catalogue.cards import DatasetCard
    from vitbench.data.status import DatasetStatus

data = typer.Typer(help="Data sets: what is here, how to get the rest.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Data sets (default: all).")]
AsJson = Annotated[bool, typer.Option("--json", help="An array of objects, each with `name`.")]


@data.command()
def status(names: Names = None, as_json: AsJson = False, data_root: o.DataRoot = None, plugin: o.Plugin = None) -> None:
    """Say of each data set whether it is here, and how to obtain it."""
    from vitbench.data.status import status as of

    root = _root(data_root, plugin)
    _print([of(card, root) for card in _cards(names)], as_json, why=bool(names))


@data.command()
def verify(names: Names = None, as_json: AsJson = False, data_root: o.DataRoot = None, plugin: o.Plugin = None) -> None:
    """Check counts, listed checksums and a few samples; without names, of what is here. Exit 1 where something is wrong."""
    from vitbench.data.status import verify as of

    root = _root(data_root, plugin)
    found = [of(card, root) for card in _cards(names)]
    shown = found if names else [f for f in found if f.state != "missing"]
    if not shown and not as_json and root is not None and not root.is_dir():
        print(f"there is no folder {root}")
    _print(shown, as_json, why=bool(names))
    raise typer.Exit(1 if any(f.state in ("damaged", "partial", "missing") for f in shown) else 0)


@data.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Data sets.")],
    data_root: o.DataRoot = None, plugin: o.Plugin = None,
    keep: Annotated[bool, typer.Option(help="Keep the archives in DATA_ROOT/downloads.")] = True,
) -> None:  # fmt: skip
    """Download and unpack data sets whose terms need no step of yours; Ctrl-C and the same command goes on from there."""
    from vitbench.data.fetch import fetch as fetch_file
    from vitbench.data.status import status as of

    root = _root(data_root, plugin)
    if root is None:
        raise UsageError("there is no data root", "use --data-root, VITBENCH_DATA or data_root in vitbench.toml")
    for card in _cards(names):
        if card.release is None:
            print(f"{card.name}: nothing to fetch")
            continue
        if of(card, root).state == "ready":
            print(f"{card.name}: already here")
            continue
        if not card.release.downloads:
            raise UnavailableError(f"{card.name} cannot be fetched for you", card.release.remedy())
        print(f"{card.name}: licence: {card.licence or 'see its page'}")
        for download in card.release.downloads:
            file = fetch_file(download, root, _Progress(download.file))
            print(f"{card.name}: {download.file} is in {root / download.into}")
            if not keep:
                file.unlink(missing_ok=True)
        _print([of(card, root)], as_json=False)


@data.command()
def preview(
    name: Annotated[str, typer.Argument(help="A data set, or folder:PATH.")],
    split: Annotated[str, typer.Option(help="Which split.")] = "val",
    target: Annotated[str | None, typer.Option(help="One kind of target (default: all that the split has).")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images per kind of target.")] = 8,
    out: Annotated[Path | None, typer.Option(help="PNG file (default: preview-NAME.png).")] = None,
    data_root: o.DataRoot = None, plugin: o.Plugin = None,
) -> None:  # fmt: skip
    """Draw a contact sheet with the targets on the images."""
    from vitbench.data.load import describe_dataset, load
    from vitbench.data.preview import contact_sheet, stacked
    from vitbench.paths import file_name

    root = _root(data_root, plugin)
    card = describe_dataset(name, root)
    sheets, missing = [], ""
    for wanted in (target,) if target else card.targets or ("",):
        try:
            samples = load(name, split, targets=(wanted,) if wanted else (), root=root)
        except UnavailableError as error:  # not every split has every target
            missing = missing or str(error)
            continue
        sheets.append(contact_sheet(samples, card, wanted, count))
        print(f"{wanted or 'images'}: {len(samples):,} samples")
    if not sheets:
        raise UnavailableError(missing)
    path = out or Path(f"preview-{file_name(name)}.png")
    stacked(sheets).save(path)
    print(path)


# -- helpers -----------------------------------------------------------------------------------------------------------


def _root(data_root: Path | None, plugin: list[str] | None) -> Path | None:
    return o.run_options(None, None, data_root, None, plugin).data_root


def _cards(names: list[str] | None) -> list[DatasetCard]:
    from vitbench.catalogue import DATASETS

    if names:
        return [DATASETS.get(n) for name in names for n in DATASETS.match(name)]
    return [card for card in DATASETS if card.release is not None]


def _print(found: list[DatasetStatus], as_json: bool, why: bool = False) -> None:
    """why: say of what is missing where it was looked for."""
    if as_json:
        print(json.dumps([dataclasses.asdict(f) for f in found], indent=1))
        return
    width = max((len(f.name) for f in found), default=0)
    for f in found:
        splits = ", ".join(f"{count:,} {split}" for split, count in f.splits.items())
        print(f"{f.name:<{width}}  {f.state:<9}  {splits or f.place or f.remedy}")
        if f.place or why:
            for problem in f.problems:
                print(f"{'':<{width}}  {problem}")
            if f.place and f.problems:
                print(f"{'':<{width}}  {f.remedy}")
    if not found:
        print("no data sets are here; `vitbench data status` says how to obtain them")


class _Progress:
    """Bytes on one line of a terminal; nothing elsewhere."""

    def __init__(self, file: str) -> None:
        self._file, self._shown = file, 0

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty() or (done - self._shown < 10_000_000 and done != total):
            return
        self._shown = done
        of = f" of {total / 1e6:,.0f}" if total else ""
        print(f"\r{self._file}: {done / 1e6:,.0f}{of} MB", end="\n" if done == total else "", file=sys.stderr)
