"""A checkpoint series: one pattern of files that is one backbone NAME@STEP per training step.

`NAME@{step}=runs/model-{step}.pth` stands for every file whose name has a whole number there, in the order of the steps.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from vitbench.errors import UsageError

PLACEHOLDER = "{step}"


def expand_series(name: str, path: str) -> list[tuple[str, str]]:
    """(NAME@STEP, file) of every checkpoint, by rising step; a name without placeholder is given back as it is.

    Raises UsageError where name and path do not each have one placeholder, no file is there, two files have the same step,
    or a file has something else than a number in its place.
    """
    given = f"--weights {name}={path}"
    if PLACEHOLDER not in name + path:
        return [(name, path)]
    base, at, step = name.partition("@")
    if not base or not at or step != PLACEHOLDER:
        raise UsageError(f"{given}: the name is not NAME@{PLACEHOLDER}", f"write NAME@{PLACEHOLDER}=FILE-{PLACEHOLDER}")
    if path.count(PLACEHOLDER) != 1:
        raise UsageError(
            f"{given}: the path has {path.count(PLACEHOLDER)} placeholders {PLACEHOLDER}", "it needs exactly one"
        )
    before, after = str(Path(path).expanduser()).split(PLACEHOLDER)
    pattern = f"{glob.escape(before)}*{glob.escape(after)}"
    files = sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not files:
        raise UsageError(
            f"{given}: no file matches", "check the path; each checkpoint is a file with its step in the name"
        )
    steps: dict[int, str] = {}
    for file in files:
        number = _step(file[len(before) : len(file) - len(after)], file, given)
        if number in steps:
            raise UsageError(f"{given}: {steps[number]} and {file} are both step {number}", "rename one of them")
        steps[number] = file
    return [(f"{base}@{number}", steps[number]) for number in sorted(steps)]


def _step(text: str, file: str, given: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise UsageError(f"{given}: {file} matches, but {text!r} is no step number", "move that file, or be more exact")
    return int(text)


def match_checkpoints(pattern: str, checkpoints: Iterable[str]) -> list[str]:
    """The names NAME@STEP that a pattern selects, in the order given: `NAME@*`, `NAME@{step}`, or a plain NAME@STEP.

    Raises UsageError for a pattern that selects none.
    """
    as_glob = pattern.replace(PLACEHOLDER, "*")
    if not any(c in as_glob for c in "*?"):
        return [pattern]
    if found := [name for name in checkpoints if fnmatchcase(name, as_glob)]:
        return found
    base = pattern.partition("@")[0]
    raise UsageError(
        f"no checkpoint matches {pattern!r}",
        f"name the series: --weights '{base}@{PLACEHOLDER}=FILE-{PLACEHOLDER}.safetensors'",
    )
