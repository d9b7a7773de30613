"""A log of a run that nobody watches: a line per ten percent, and one after a minute without."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from vitbench.cli import progress
from vitbench.jobs import Plan


def test_a_long_run_says_that_it_lives_between_two_tenths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("vitbench.cli.progress.time.monotonic", lambda: clock.now)
    plan = cast(Plan, SimpleNamespace(forwards=1000, fits=(), with_status=lambda _status: ()))
    listener = progress.Progress(plan)
    for second in range(0, 150, 10):
        clock.now = float(second)
        listener._show()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["0", "60", "120"]
    listener._done = 100
    listener._show()
    assert capsys.readouterr().err.split()[0] == "10%"
