"""What a job came to."""

from __future__ import annotations

from dataclasses import dataclass


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
