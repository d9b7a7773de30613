"""From text to cards: names with brackets, globs and `+` chains become canonical references. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import pairwise
from typing import Any

from vitbench.catalogue import BACKBONES, DEFECTS, REPAIRS, TASKS
from vitbench.catalogue.cards import DefectCard, Protocol, RepairCard, TaskCard, TaskSettings
from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.repairs import kinds, needs
from vitbench.catalogue.series import PLACEHOLDER, match_checkpoints
from vitbench.catalogue.tasks.settings import identifying
from vitbench.catalogue.weights import backbone_card
from vitbench.errors import UsageError
from vitbench.registry import resolve
from vitbench.selection import Term, every_param, overrides, parse_chain, parse_term, with_params


@dataclass(frozen=True)
class RepairStep:
    """One repair of a chain: its card and its parameters."""

    card: RepairCard
    params: Any

    @property
    def text(self) -> str:
        return str(Term(self.card.name, overrides(self.card.params, self.params)))

    @property
    def versioned(self) -> str:
        """The text that identifies it, defaults included: a repair whose implementation or default changed is another one."""
        return f"{Term(self.card.name, every_param(self.params))}{_made_from(self.card)}"

    @property
    def fitted(self) -> str:
        """What identifies its fit: `versioned`, less the parameters that only matter when it is applied."""
        params = tuple((key, value) for key, value in every_param(self.params) if key not in self.card.applied_only)
        return f"{Term(self.card.name, params)}{_made_from(self.card)}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Further fields it reads, with these parameters."""
        return needs(self.card, self.params)

    @property
    def forwards(self) -> int:
        """Forwards of the backbone that one image takes."""
        return self.card.forwards(self.params)

    def acts_on(self, name: str) -> bool:
        """Whether it changes a token field, with these parameters."""
        return acts_on(kinds(self.card, self.params), name)


@dataclass(frozen=True)
class TaskRef:
    """A task under one protocol, its settings possibly overridden; `text` names all of it."""

    card: TaskCard
    protocol: Protocol
    settings: TaskSettings

    @property
    def base(self) -> str:
        return f"{self.card.name}@{self.protocol.name}"

    @property
    def text(self) -> str:
        return str(Term(self.base, overrides(self.protocol.settings, self.settings)))

    @property
    def stochastic(self) -> bool:
        """Whether the number depends on the seed."""
        return self.card.stochastic or self.protocol.stochastic or self.settings.stochastic

    def load(self) -> Any:
        """The task, ready to run under these settings. Imports what is behind it."""
        entry = self.protocol.entry or TASKS.load(self.card.name)
        return (resolve(entry) if isinstance(entry, str) else entry)(self.settings)

    def identity(self) -> dict[str, Any]:
        code = {"code": self.card.code} if self.card.code else {}
        return {"name": self.base, "version": self.protocol.version, "settings": identifying(self.settings), **code}


def _made_from(card: RepairCard | DefectCard) -> str:
    """The version, and of a plug-in the digest of its code."""
    return f"#{card.version}" + (f"-{card.code}" if card.code else "")


def expand_backbones(pattern: str, checkpoints: Iterable[str] = ()) -> list[str]:
    """Canonical names of the backbones a text selects: globs over registered names, defects after `+`, `timm:ID`.

    `NAME@STEP` is a checkpoint; `NAME@*` all of the series among `checkpoints`, the names that came with weights.
    """
    base, *defects = parse_chain(pattern)
    family, at, _step = base.name.partition("@")
    if family.startswith("timm:") and any(c in family for c in "*?"):
        raise UsageError(f"{family!r}: no globs after timm:", "write the full timm id")
    if at:
        if not family.startswith("timm:") and not any(c in family for c in "*?"):
            BACKBONES.get(family)
        names = [_checkpoint(name, base.params) for name in match_checkpoints(base.name, checkpoints)]
    else:
        names = [base.name] if base.name.startswith("timm:") else BACKBONES.match(base.name)
        if base.params:
            names = [backbone_card(Term(name, base.params)).name for name in names]
    suffixes = []
    for term in defects:
        card = DEFECTS.get(term.name)
        suffixes.append(str(Term(card.name, overrides(card.params, with_params(card.params, term, "defect")))))
    return ["+".join([name, *suffixes]) for name in names]


def _checkpoint(name: str, params: tuple[tuple[str, str], ...]) -> str:
    """NAME@STEP with the brackets of NAME."""
    card = backbone_card(Term(name.partition("@")[0], params)) if params else None
    return name + "".join(card.name.partition("[")[1:] if card else ())


def planted(backbone: str) -> list[str]:
    """The defects of a backbone's name with all their parameters and versions, which are part of its identity."""
    texts = []
    for term in parse_chain(backbone)[1:]:
        card = DEFECTS.get(term.name)
        params = every_param(with_params(card.params, term, "defect"))
        texts.append(f"{Term(card.name, params)}{_made_from(card)}")
    return texts


def expand_repairs(pattern: str) -> list[str]:
    """Canonical repair chains a text selects; globs stand for single registered repairs."""
    if any(c in pattern for c in "*?") and "+" not in pattern and "[" not in pattern:
        return REPAIRS.match(pattern)
    return ["+".join(step.text for step in repair_chain(pattern))]


def repair_chain(text: str) -> tuple[RepairStep, ...]:
    """`sinder+zscore[field=key]` -> steps with typed parameters."""
    steps = []
    for term in parse_chain(text):
        card = REPAIRS.get(term.name)
        steps.append(RepairStep(card, with_params(card.params, term, "repair")))
    require_order([step.card for step in steps], text)
    return tuple(steps)


def require_order(cards: Sequence[RepairCard], chain: str) -> None:
    """Raises UsageError where a map of tokens comes before a change of the forward: it would run the other way round."""
    for before, after in pairwise(cards):
        if before.family in ("map", "add-on") and (after.edits or after.swaps):
            raise UsageError(
                f"repair {chain!r}: {after.name!r} changes the forward, which comes before any map of tokens",
                f"write {after.name}+{before.name}",
            )


def expand_tasks(pattern: str) -> list[TaskRef]:
    """Tasks a text selects: `depth` (its first protocol), `depth@ridge`, `depth@*`, globs over either part, brackets."""
    term = parse_term(pattern)
    name, at, protocol = term.name.partition("@")
    refs = []
    for task in TASKS.match(name):
        card = TASKS.get(task)
        if not at:
            chosen = [card.protocols[0]]
        elif any(c in protocol for c in "*?"):
            chosen = [p for p in card.protocols if fnmatchcase(p.name, protocol)]
        else:
            chosen = [card.protocol(protocol)]
        for p in chosen:
            refs.append(TaskRef(card, p, with_params(p.settings, Term(f"{task}@{p.name}", term.params), "protocol")))
    return refs


@lru_cache(maxsize=4096)
def is_stochastic(repair: str, task: str) -> bool:
    """Whether a cell of these names depends on its seed; names that mean nothing here are taken to."""
    try:
        return any(ref.stochastic for ref in expand_tasks(task)) or any(s.card.stochastic for s in repair_chain(repair))
    except UsageError:
        return True


def with_settings(ref: TaskRef, settings: dict[str, Any]) -> TaskRef:
    """The task with a suite's settings for the dataset put in, where the protocol has such a setting and it was not given."""
    own = dict(overrides(ref.protocol.settings, ref.settings))
    names = {k: str(v) for k, v in settings.items() if hasattr(ref.settings, k) and k not in own}
    term = Term(ref.base, tuple(names.items()))
    return replace(ref, settings=with_params(ref.settings, term, "protocol"))


def matches(pattern: str, text: str) -> bool:
    """Whether a filter selects a canonical name: equal, equal without brackets, or a glob over either.

    `lab_ssl` is not its checkpoint `lab_ssl@20`: a series is named by a glob (`lab_ssl@*`).
    """
    bare = "+".join(term.name for term in parse_chain(text)) if not text.startswith("folder:") else text
    return _selects(pattern, text, bare)


def matches_task(pattern: str, text: str) -> bool:
    """As `matches`, of a task: a name without protocol selects all of its protocols."""
    bare = parse_term(text).name
    return _selects(pattern, text, bare, bare.partition("@")[0])


def _selects(pattern: str, *names: str) -> bool:
    glob = pattern.replace("[", "[[]").replace(PLACEHOLDER, "*")
    return any(pattern == name or fnmatchcase(name, glob) for name in names)
