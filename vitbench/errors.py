"""What can go wrong, said in one line that names the thing and the remedy.

Every error a user can meet derives from `VitbenchError`; its `exit_code` is the one documented for the command line
(0 ok, 1 some cells failed, 2 usage or configuration, 3 nothing selected or measured, 4 regression, 130 interrupted).
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parent
_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def in_a_line(error: BaseException) -> str:
    """What went wrong in one line: our own errors in their words, others with their type and where they come from.

    That is the innermost line of the user's own file, such as a plug-in; where none takes part, of this package.
    """
    said = " ".join(str(error).split())
    if isinstance(error, VitbenchError):
        return said
    place = "" if isinstance(error, SyntaxError) else _place(error)  # that names its line itself
    return f"{type(error).__name__}{f': {said}' if said else ''}{f' ({place})' if place else ''}"


def _place(error: BaseException) -> str:
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(path, line) for path, line in frames if _PACKAGE in path.parents]
    theirs = [
        (path, line)
        for path, line in frames
        if path.is_absolute() and not any(root in path.parents for root in (_PACKAGE, *_LIBRARIES))
    ]
    found = theirs or ours
    return f"{found[-1][0].name}:{found[-1][1]}" if found else ""


class VitbenchError(Exception):
    """A failure with a message meant for people. `remedy` says what to do about it."""

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message} - {remedy}")
        self.message = message
        self.remedy = remedy


class UsageError(VitbenchError):
    """A name, option, suite key or parameter that does not make sense."""


class NothingSelectedError(VitbenchError):
    """The selection is well formed and empty."""

    exit_code = 3


class WeightsError(VitbenchError):
    """Weights that are truncated, of another architecture, or not safe to read."""

    exit_code = 1


class DataError(VitbenchError):
    """An image, mask or folder that cannot be used as it is; names the file."""

    exit_code = 1


class RecordError(VitbenchError):
    """A record or records folder that cannot be read or written."""


class StorageError(VitbenchError):
    """A disk that is full or a cache that cannot be written or is damaged."""

    exit_code = 1


class TokensError(VitbenchError):
    """Tokens that are not finite or do not have the promised shape."""

    exit_code = 1


class RepairError(VitbenchError):
    """A repair that gives what is no state or no tokens; names the repair and what it gave."""

    exit_code = 1


class UnavailableError(VitbenchError):
    """Weights or data that are not on this machine: a status of the cell, with the remedy, not a failure."""

    exit_code = 1


class NotApplicableError(VitbenchError):
    """A combination that makes no sense, such as a repair that does not act on what the task reads."""

    exit_code = 1
