"""Where numbers come from."""

from __future__ import annotations

import json
import subprocess
import sys

from vitbench.records.provenance import collect, git_state


def test_provenance_is_json_and_says_what_ran() -> None:
    found = collect(["vitbench", "run"], {"image_px": 192}, "cpu")
    json.dumps(found, allow_nan=False)
    assert found["command_line"] == ["vitbench", "run"]
    assert {"python", "vitbench", "torch", "numpy"} <= found["versions"].keys()
    assert found["utc"].endswith("Z")


def test_commit_is_a_commit_or_nothing() -> None:
    commit, dirty = git_state()
    assert (len(commit) == 40 and dirty in (True, False)) or (commit == "" and dirty is None)


def test_records_and_reports_import_neither_torch_nor_pandas() -> None:
    modules = (
        "records.index",
        "records.frames",
        "records.provenance",
        "reports.formats",
        "reports.acceptance",
        "cli.leaderboard",
    )
    code = "import sys, " + ", ".join(f"vitbench.{m}" for m in modules)
    code += "; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
