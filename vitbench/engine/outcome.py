"""What a job came to."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Mapping
from dataclasses import dataclass, field

from vitbench.errors import NotApplicableError, UnavailableError, in_a_line


@dataclass(frozen=True)
class Outcome:
    """status: a record's status ("ok", "failed", ...) or "storage"; message: one line for people."""

    status: str
    message: str = ""
    seconds: float = 0.0
    forwards: int = 0
    traceback: str = ""
    error_type: str = ""
    stage: str = ""
    parts: Mapping[str, Outcome] = field(default_factory=dict)  # of a stream, by cell


def failure(error: BaseException, stage: str) -> Outcome:
    """What an error means for the job that raised it, with the traceback. Call it where the error is handled."""
    import torch

    status = "failed"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        status = "oom"
    elif isinstance(error, NotApplicableError):
        status = "not_applicable"
    elif isinstance(error, UnavailableError):
        status = "unavailable"
    name = type(error).__name__
    return Outcome(status, in_a_line(error), traceback=tracebacks.format_exc(), error_type=name, stage=stage)
