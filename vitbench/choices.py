"""From suites and command-line filters to the list of cells asked for. Pure: names in, choices out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from vitbench.catalogue.resolve import (
    TaskRef,
    expand_backbones,
    expand_repairs,
    expand_tasks,
    matches,
    matches_task,
    repair_chain,
    with_settings,
)
from vitbench.data.subset import Limit, parse_subset
from vitbench.errors import NothingSelectedError, UsageError
from vitbench.selection import split_list
from vitbench.suite import DatasetOptions, Select, Suite, load_suite


@dataclass(frozen=True)
class Choice:
    """One cell asked for: canonical names, and the options of its dataset."""

    backbone: str
    repair: str
    task: TaskRef
    dataset: str
    seed: int
    options: DatasetOptions


@dataclass(frozen=True)
class Filters:
    """What the command line gives; empty tuples mean "not given"."""

    backbones: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    limit: Limit = None  # N images per split, or stratified:N
    dtype: str | None = None
    skip_corrupt: bool = False
    draft: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.limit, int) and self.limit < 1:
            raise UsageError(f"--limit {self.limit}", "it must be at least 1")
        if self.dtype not in (None, "float32", "bfloat16", "float16"):
            raise UsageError(f"--dtype {self.dtype!r}", "float32, bfloat16 or float16")

    @staticmethod
    def parse(
        backbones: str | None, repairs: str | None, tasks: str | None, datasets: str | None, seeds: str | None = None,
        limit: int | None = None, dtype: str | None = None, subset: str | None = None, skip_corrupt: bool = False,
        draft: bool = False,
    ) -> Filters:  # fmt: skip
        """Comma-separated lists as typed."""
        if limit is not None and subset is not None:
            raise UsageError("--limit and --subset exclude each other", "--subset stratified:N says how many, too")
        try:
            numbers = tuple(int(s) for s in split_list(seeds or ""))
        except ValueError:
            raise UsageError(f"--seeds {seeds!r}", "comma-separated whole numbers") from None
        b, r, t, d = (tuple(split_list(text or "")) for text in (backbones, repairs, tasks, datasets))
        chosen = limit if subset is None else parse_subset(subset)
        return Filters(b, r, t, d, numbers, chosen, dtype, skip_corrupt, draft)

    @property
    def any_axis(self) -> bool:
        return bool(self.backbones or self.repairs or self.tasks or self.datasets)


@dataclass(frozen=True)
class Selected:
    """The choices, and the suite they came from (None: a cross of what was given)."""

    choices: tuple[Choice, ...]
    suite: str | None = field(default=None)


def choose(
    suite: str | None, filters: Filters, default_suite: str = "lab", everything: bool = False,
    checkpoints: Sequence[str] = (),
) -> Selected:  # fmt: skip
    """`--suite` narrowed by the filters; without one, the cross of what is given, other axes from the default suite.

    checkpoints: the names that came with weights, among which `NAME@*` finds a series. Raises NothingSelectedError where that
    leaves nothing, and UsageError for unknown names.
    """
    if suite is None and filters.any_axis and not everything:
        loaded = load_suite(default_suite)
        block = Select(
            backbones=list(filters.backbones or loaded.axis("backbones")),
            repairs=list(filters.repairs or loaded.axis("repairs")),
            tasks=list(filters.tasks or loaded.axis("tasks")),
            datasets=list(filters.datasets or loaded.axis("datasets")),
        )
        crossed = Suite(name="cross", seeds=loaded.seeds, select=[block], options=loaded.options)
        return Selected(_limited(_expand(crossed, filters, checkpoints), filters))
    loaded = load_suite(suite or default_suite)
    choices = _expand(loaded, filters, checkpoints)
    kept = tuple(
        c
        for c in choices
        if _kept(filters.backbones, c.backbone)
        and _kept(filters.repairs, c.repair)
        and _kept(filters.tasks, c.task.text, matches_task)
        and _kept(filters.datasets, c.dataset)
    )
    if not kept:
        raise NothingSelectedError(
            f"suite {loaded.name!r} has no cell for this selection",
            "filters narrow a suite; drop --suite to cross what is given",
        )
    return Selected(_limited(kept, filters), loaded.name)


def _kept(patterns: Sequence[str], text: str, selects: Callable[[str, str], bool] = matches) -> bool:
    return not patterns or any(selects(p, text) for p in patterns)


def _expand(suite: Suite, filters: Filters, checkpoints: Sequence[str]) -> tuple[Choice, ...]:
    seeds = filters.seeds or tuple(suite.seeds)
    choices: dict[tuple[str, str, str, str, int], Choice] = {}
    for block in suite.select:
        backbones = [b for text in block.backbones for b in expand_backbones(text, checkpoints)]
        repairs = [r for text in block.repairs for r in expand_repairs(text)]
        tasks = [t for text in block.tasks for t in expand_tasks(text)]
        random = {r: any(step.card.stochastic for step in repair_chain(r)) for r in repairs}
        for backbone, repair, task, dataset in product(backbones, repairs, tasks, block.datasets):
            options = suite.options.get(dataset, DatasetOptions())
            ref = with_settings(task, options.settings)
            # What has no randomness gives the same number for every seed: it is run once.
            for seed in seeds if ref.stochastic or random[repair] else seeds[:1]:
                choices.setdefault(
                    (backbone, repair, ref.text, dataset, seed), Choice(backbone, repair, ref, dataset, seed, options)
                )
    if not choices:
        raise NothingSelectedError("nothing selected", "check the globs with `vitbench list`")
    return tuple(choices.values())


def _limited(choices: tuple[Choice, ...], filters: Filters) -> tuple[Choice, ...]:
    if filters.limit is None and filters.dtype is None and not filters.skip_corrupt and not filters.draft:
        return choices
    out = []
    for c in choices:
        update: dict[str, object] = {}
        if filters.limit is not None:
            update["limits"] = {"*": filters.limit}
        if filters.skip_corrupt:
            update["skip_corrupt"] = True
        if filters.draft:
            update["draft"] = True
        if filters.dtype is not None:
            update["dtype"] = filters.dtype
        out.append(Choice(c.backbone, c.repair, c.task, c.dataset, c.seed, c.options.model_copy(update=update)))
    return tuple(out)
