"""The main job: `vitbench run --all` on a warm install, and the same command again."""

from __future__ import annotations

import re
import tempfile

from benchmarks.speed.figures import Figure, run_command


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", "--all", "--records", f"{folder}/runs", "--cache", f"{folder}/cache"]
        first = run_command(arguments)
        again = run_command(arguments)
    forwards = [int(re.findall(r"(\d+) forwards", u.output)[-1]) for u in (first, again)]
    return [
        Figure("run --all", first.seconds, "s", "<= 300 s"),
        Figure("run --all, forwards", forwards[0], "", ""),
        Figure("run --all, resident (shared pages once)", first.resident / 1e9, "GB", "<= 3 GB"),
        Figure("run --all, resident (sum over processes)", first.resident_sum / 1e9, "GB", ""),
        Figure("run --all again", again.seconds, "s", "<= 5 s"),
        Figure("run --all again, forwards", forwards[1], "", "0"),
    ]
