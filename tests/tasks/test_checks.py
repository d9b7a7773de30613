"""Commands on the protocol pages: each can be run as it stands, and its value is a published one."""

from __future__ import annotations

import csv
import shlex

import pytest

from vitbench.catalogue import BACKBONES, DATASETS
from vitbench.catalogue.resolve import expand_tasks
from vitbench.catalogue.tasks.checks import CHECKS
from vitbench.metrics import measures
from vitbench.paths import benchmarks_dir

CASES = [(page, check) for page, checks in CHECKS.items() for check in checks]


def named(command: str) -> tuple[str, str, str]:
    """Backbone, task and data set of a command."""
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "benchmarks.released_heads"]:
        _, backbone, task, dataset = words[3:]
        return backbone, task, dataset
    assert words[:2] == ["vitbench", "run"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given.pop("-r") == "none"
    return given["-b"], given["-t"], given["-d"]


@pytest.mark.parametrize("page, check", CASES, ids=lambda case: getattr(case, "command", case))
def test_a_command_names_what_exists_and_measures_the_protocol_of_its_page(page, check):
    backbone, task, dataset = named(check.command)
    [ref] = expand_tasks(task)
    card = BACKBONES.get(backbone)
    assert ref.base == page
    assert check.measure in {m.name for m in measures(ref.card.metric)}
    assert set(ref.card.targets) <= set(DATASETS.get(dataset).targets)
    assert ref.settings.view == "whole" or ref.protocol.streams or ref.settings.image_px % card.patch_px == 0


def test_every_value_is_a_published_one_with_its_source():
    published = set()
    for name in ("matched", "published_only"):
        with (benchmarks_dir() / "published" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            published |= {(row["source"], float(row["value"])) for row in csv.DictReader(file)}
    assert {(check.source, check.value) for _, check in CASES} <= published


def test_heads_are_scored_on_the_backbone_they_were_trained_on():
    heads = [shlex.split(check.command)[3:5] for _, check in CASES if "released_heads" in check.command]
    assert len(heads) == 12
    for head, backbone in heads:
        assert head.startswith(f"dinov2_vit{backbone.removeprefix('vit_')[0]}14_")
