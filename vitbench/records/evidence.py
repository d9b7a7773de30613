"""What the files of two records say beyond their headlines: in which part their identities differ, whether rows do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.errors import RecordError
from vitbench.identity import differing
from vitbench.records.index import Entry
from vitbench.records.schema import Json, document
from vitbench.records.store import read_rows, rows_path
from vitbench.records.summaries import comparable_part


class FileEvidence:
    """Evidence on the records of two folders, read when it is asked for."""

    def __init__(self, baseline: Path, candidate: Path) -> None:
        self._baseline, self._candidate = baseline, candidate

    def differing(self, baseline: Entry, candidate: Entry, comparable_only: bool) -> tuple[str, ...]:
        """Dotted names of the components in which two identities differ."""
        a = components_of(self._baseline / baseline.path)
        b = components_of(self._candidate / candidate.path)
        if comparable_only:
            a, b = comparable_part(a), comparable_part(b)
        return tuple(differing(a, b))

    def rows_differ(self, baseline: Entry, candidate: Entry) -> bool:
        """Whether the rows differ in any unit or in any statistic of the baseline.

        Rows that one side does not have are not evidence, nor are statistics that came to be kept since.
        """
        a, b = rows_path(self._baseline / baseline.path), rows_path(self._candidate / candidate.path)
        if not (a.is_file() and b.is_file()) or a.read_bytes() == b.read_bytes():
            return False
        first, second = read_rows(a), read_rows(b)
        if (first.unit_id, first.group_id) != (second.unit_id, second.group_id):
            return True
        if not first.stats.keys() <= second.stats.keys():
            return True
        return not all(np.array_equal(first.stats[k], second.stats[k], equal_nan=True) for k in first.stats)


def components_of(path: Path) -> Json:
    """The components of the identity of the record in a file. Raises RecordError."""
    try:
        found: Json = document(path.read_bytes(), str(path)).get("components", {})
    except OSError as error:
        raise RecordError(f"record {path} cannot be read: {error.strerror or error}") from None
    return found
