"""The papers' suites: each plans offline, names only what exists, and holds cells for which values are published."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from vitbench.catalogue.resolve import expand_tasks
from vitbench.choices import Filters, choose
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import Workspace
from vitbench.identity import Slot
from vitbench.jobs import Plan
from vitbench.plan import make_plan
from vitbench.reports.published import known_of, load_published
from vitbench.suite import suite_names

PAPERS = ("registers", "dvt", "sinder", "local_representations", "sparse_attention", "full")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("suites")

    @cache
    def plan(name: str) -> Plan:
        options = RunOptions(records=root / "runs", cache=root / "cache", offline=True)
        made = make_plan(choose(name, Filters()).choices, Workspace(options))
        return made

    return plan


def test_the_papers_suites_ship() -> None:
    assert set(PAPERS) <= set(suite_names())


@pytest.mark.parametrize("name", PAPERS)
def test_a_suite_plans_offline_and_says_what_is_missing_and_how_to_get_it(planned, name: str) -> None:
    plan = planned(name)
    missing = plan.with_status("unavailable")
    assert missing
    assert all(cell.reason and cell.remedy for cell in missing)


@pytest.mark.parametrize("name", PAPERS)
def test_no_block_of_a_suite_is_in_vain(planned, name: str) -> None:
    plan = planned(name)
    by_task: dict[tuple[str, str], Counter[str]] = {}
    for cell in plan.cells:
        by_task.setdefault((cell.slot.task, cell.slot.dataset), Counter())[cell.status] += 1
    for key, counts in by_task.items():
        assert counts["unavailable"] + counts["todo"] + counts["cached"], f"{key} applies to nothing"


@pytest.mark.parametrize("name", PAPERS)
def test_controls_stand_on_the_grid_of_a_model_they_are_compared_with(planned, name: str) -> None:
    """Of a patch of 8, they would take 4 to 9 times the memory, and be told from 4 times as many places."""
    world = Workspace(RunOptions(offline=True))
    grids: dict[tuple[str, str], dict[bool, set[int]]] = {}
    for cell in planned(name).cells:
        card = world.backbone(cell.slot.backbone).card
        sizes = grids.setdefault((cell.slot.task, cell.slot.dataset), {True: set(), False: set()})
        sizes[card.kind == "control"].add(card.patch_px)
    for compared, sizes in grids.items():
        assert sizes[True] <= sizes[False], compared


@pytest.mark.parametrize("name", ["registers", "dvt", "full"])
def test_published_values_stand_beside_cells_of_a_suite(planned, name: str) -> None:
    published = load_published()
    slots: set[Slot] = {cell.slot for cell in planned(name).cells}
    metrics = {(task, dataset): metric for _, _, task, dataset, metric in published}
    found = [
        s
        for s in slots
        if (s.task, s.dataset) in metrics
        and known_of(published, (s.backbone, s.repair, s.task, s.dataset, metrics[s.task, s.dataset]))
    ]
    assert len(found) >= 4


@pytest.mark.parametrize("name", ["registers", "dvt"])
def test_segmentation_and_depth_of_a_paper_s_tables_are_measured_with_and_without_its_repair(
    planned, name: str
) -> None:
    told = {key[:4] for key in load_published()}
    slots = {(s.backbone, s.repair, s.task, s.dataset) for s in (cell.slot for cell in planned(name).cells)}
    repairs = {(task, repair) for _, repair, task, _ in slots & told}
    for task in ("linear_segmentation@dinov2", "depth@dvt"):
        assert {(task, "none"), (task, "dvt" if name == "dvt" else "test_time_registers")} <= repairs


def test_registers_measures_what_an_edit_does_to_norms(planned) -> None:
    cells = [c for c in planned("registers").cells if c.slot.task.startswith("token_norms")]
    statuses = {c.slot.repair: c.status for c in cells if c.slot.backbone == "vit_base_patch14_dinov2.lvd142m"}
    assert statuses == dict.fromkeys(("none", "registers", "test_time_registers"), "unavailable")


def test_local_representations_sweeps_the_channels_with_ten_draws_at_random(planned) -> None:
    repairs = {c.slot.repair for c in planned("local_representations").cells}
    for m in (0, 1, 5, 10, 25, 50, 100, 200, 400):
        assert f"remove_high_variance[m={m}]" in repairs
    assert len([r for r in repairs if r.startswith("random_dims")]) == 10


def test_depth_heads_on_kitti_are_trained_and_scored_up_to_eighty_metres(planned) -> None:
    """NYUv2's border, crops and ten metres would leave most of a street out."""
    cells = [c for c in planned("full").cells if c.slot.dataset == "kitti_eigen" and "@ridge" not in c.slot.task]
    assert cells
    for [ref] in (expand_tasks(task) for task in {c.slot.task for c in cells}):
        s = ref.settings
        assert (s.border, s.crop, s.crop_h, s.crop_w, s.max_depth_m) == ("none", "garg", 352, 704, 80)
