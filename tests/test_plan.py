"""The plan: fewest passes, honest statuses, the two keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from vitbench.catalogue import DATASETS, REPAIRS, TASKS
from vitbench.catalogue.cards import BackboneCard, DatasetCard, RepairCard
from vitbench.catalogue.language import TextState, TextTower
from vitbench.catalogue.repairs import RandomDimsParams
from vitbench.choices import Choice, Filters, choose
from vitbench.errors import NothingSelectedError, UsageError
from vitbench.identity import Slot, digest
from vitbench.jobs import BackboneState, Plan, SplitState
from vitbench.plan import make_plan


@dataclass
class FakeWorld:
    """A machine that has everything, unless told otherwise."""

    weights: dict[str, str] = field(default_factory=dict)
    records: set[str] = field(default_factory=set)
    fields: frozenset[str] = frozenset()
    states: set[str] = field(default_factory=set)
    missing_split: str = ""
    unavailable: frozenset[str] = frozenset()
    texts: dict[str, TextState] = field(default_factory=dict)
    label_classes: tuple[str, ...] | None = None

    def backbone(self, name: str) -> BackboneState:
        base = name.partition("+")[0]
        twin = "lab_ssl_reg4" if base == "lab_ssl" else ""
        registers, cls = 4 * base.endswith("_reg4"), base != "patch_colour"
        card = BackboneCard(base, "", "lab", "lab", 8, cls + registers, registers, 192, 6, register_twin=twin)
        status = "unavailable" if base in self.unavailable else "ready"
        return BackboneState(card, status, self.weights.get(base, "0" * 16), "no weights", "--weights")  # type: ignore[arg-type]

    def text(self, backbone: str) -> TextState:
        return self.texts.get(backbone, TextState("ready", TextTower("tiny"), "0" * 16))

    def dataset(self, name: str) -> DatasetCard:
        return replace(
            DATASETS.get("scenes"), **({} if self.label_classes is None else {"label_classes": self.label_classes})
        )

    def split(self, dataset: str, split: str, targets: tuple[str, ...], limit: int | None, seed: int) -> SplitState:
        if split == self.missing_split:
            return SplitState(0, "", f"{dataset} has no {split}", "get it")
        return SplitState(limit or 500, f"{split}-{limit}")

    def stored_fields(self, store: str) -> frozenset[str]:
        return self.fields

    def stored_state(self, fit: str) -> bool:
        return fit in self.states

    def has_record(self, slot: Slot, identity: str) -> bool:
        return identity in self.records


def choices(
    b: str, r: str = "none", t: str = "linear_segmentation,knn_segmentation,depth,pixel_probe,token_norms"
) -> tuple[Choice, ...]:
    return choose(None, Filters.parse(b, r, t, "scenes")).choices


def planned(b: str, r: str = "none", t: str = "linear_segmentation,knn_segmentation,depth", **world: object) -> Plan:
    return make_plan(choices(b, r, t), FakeWorld(**world))  # type: ignore[arg-type]


def test_cells_of_one_backbone_split_and_view_share_one_forward_per_image() -> None:
    plan = make_plan(choices("lab_ssl"), FakeWorld())
    splits = [(p.split.split, str(p.view)) for p in plan.passes]
    assert sorted(splits) == [("train", "whole"), ("val", "whole")]
    train = next(p for p in plan.passes if p.split.split == "train")
    assert {"patch", "norms", "pixels"} <= set(train.fields)


def test_maps_add_no_pass_and_one_fit_each() -> None:
    alone, many = planned("lab_ssl"), planned("lab_ssl", "none,zscore,center,unit,position_mean")
    assert many.forwards == alone.forwards
    assert len(many.fits) == 3  # unit learns nothing
    assert len({f.id for f in many.fits}) == 3


def test_a_chain_fits_each_part_after_the_one_before() -> None:
    plan = planned("lab_ssl", "center+zscore", "depth")
    first, second = plan.fits
    assert (first.repair, second.repair) == ("center", "center+zscore")
    assert second.upstream == ((0, first.id),)
    assert first.id in plan.requires[second.id]


def test_registers_run_the_twin_and_share_its_pass() -> None:
    plan = planned("lab_ssl,lab_ssl_reg4", "none,registers", "depth")
    swapped = next(c for c in plan.cells if c.slot.repair == "registers" and c.slot.backbone == "lab_ssl")
    twin = next(c for c in plan.cells if c.slot.repair == "none" and c.slot.backbone == "lab_ssl_reg4")
    assert swapped.stores == twin.stores
    assert swapped.identity != twin.identity


def test_registers_are_not_applicable_to_a_planted_defect() -> None:
    [cell] = planned("lab_ssl+variance", "registers", "depth").cells
    assert cell.status == "not_applicable"
    assert "planted" in cell.reason


def test_a_backbone_without_a_twin_says_so() -> None:
    [cell] = planned("lab_mae", "registers", "depth").cells
    assert (cell.status, "no register twin" in cell.reason) == ("not_applicable", True)


def test_boxes_that_no_one_marked_as_hard_cannot_be_left_out_and_the_setting_is_none_at_its_default() -> None:
    asked = "object_discovery@lost,object_discovery@lost[no_hard=true]"
    plain, without_hard = planned("lab_ssl", "none", asked).cells
    assert (plain.status, without_hard.status) == ("todo", "not_applicable")
    assert without_hard.reason == "dataset scenes has no boxes_hard"
    assert "no_hard" not in plain.components["task"]["settings"]
    marked = [name for name in DATASETS.names() if DATASETS.get(name).marks]
    assert marked == ["voc2007", "voc2012"]


def test_a_repair_that_does_not_act_on_what_is_read_is_not_applicable() -> None:
    [cell] = planned("lab_ssl", "zscore", "token_norms").cells
    assert cell.status == "not_applicable"
    assert "norms" in cell.reason


def test_attention_of_tokens_that_a_backbone_does_not_have_is_not_applicable() -> None:
    cells = planned("lab_ssl,lab_ssl_reg4", t="attention_segmentation@registers").cells
    assert [(c.slot.backbone, c.status) for c in cells] == [("lab_ssl", "not_applicable"), ("lab_ssl_reg4", "todo")]
    assert "no register tokens" in cells[0].reason
    added = "test_time_registers,test_time_registers[top_k=0],ph_reg,maskclip"
    cells = planned("lab_ssl", added, "attention_segmentation@registers").cells
    assert [c.status for c in cells] == ["todo", "not_applicable", "todo", "not_applicable"]
    [cell] = planned("patch_colour", t="attention_segmentation@ttr").cells
    assert (cell.status, "no CLS token" in cell.reason) == ("not_applicable", True)


def test_a_repair_that_maps_patches_and_cls_apart_does_not_go_with_their_cosine() -> None:
    both, patches, twin = planned("lab_ssl", "center,smooth3,registers", "foreground_alignment").cells
    assert both.status == "not_applicable"
    assert "cannot be compared" in both.reason
    assert (patches.status, twin.status) == ("todo", "todo")


@pytest.mark.parametrize("repair", ["center", "fill_outliers", "remove_high_variance", "smooth3", "zscore"])
def test_repairs_act_on_the_tokens_of_any_block(repair: str) -> None:
    [cell] = planned("lab_ssl", repair, "knn_segmentation@hummingbird[field=block_3]").cells
    assert (cell.status, "block_3" in cell.fields) == ("todo", True)


def test_a_repair_narrowed_to_another_field_is_not_applicable() -> None:
    on_key, on_patch = planned(
        "lab_ssl", "remove_high_variance[field=key],remove_high_variance[field=patch]", "depth"
    ).cells
    assert (on_key.status, on_patch.status) == ("not_applicable", "todo")


def test_missing_weights_and_data_are_a_status_with_the_remedy() -> None:
    [cell] = planned("lab_ssl", t="depth", unavailable=frozenset({"lab_ssl"})).cells
    assert (cell.status, cell.remedy) == ("unavailable", "--weights")
    [cell] = planned("lab_ssl", t="depth", missing_split="train").cells
    assert (cell.status, cell.remedy) == ("unavailable", "get it")


def test_a_recorded_cell_is_cached_and_needs_no_pass() -> None:
    first = planned("lab_ssl", t="depth")
    again = planned("lab_ssl", t="depth", records={first.cells[0].identity})
    assert again.cells[0].status == "cached"
    assert again.passes == ()


def test_only_fields_that_are_not_stored_are_extracted() -> None:
    plan = planned("lab_ssl", t="linear_segmentation,pixel_probe", fields=frozenset({"patch"}))
    assert all("patch" not in p.fields and "pixels" in p.fields for p in plan.passes)


def test_identity_follows_weights_settings_and_limit_but_not_the_company() -> None:
    base = planned("lab_ssl", t="depth").cells[0]
    together = next(c for c in planned("lab_ssl", t="linear_segmentation,depth").cells if c.slot == base.slot)
    assert together.identity == base.identity
    other = planned("lab_ssl", t="depth", weights={"lab_ssl": "1" * 16}).cells[0]
    limited = make_plan(
        choose(None, Filters.parse("lab_ssl", "none", "depth", "scenes", limit=9)).choices, FakeWorld()
    ).cells[0]
    assert len({base.identity, other.identity, limited.identity}) == 3
    assert base.slot == other.slot == limited.slot


def test_a_byte_budget_splits_a_pass_and_refuses_what_cannot_fit() -> None:
    tasks = "linear_segmentation,object_discovery,pixel_probe"
    wanted = choose(None, Filters.parse("lab_ssl", "none", tasks, "scenes", limit=50)).choices
    whole = make_plan(wanted, FakeWorld())
    largest = max(p.bytes for p in whole.passes)
    split = make_plan(wanted, FakeWorld(), budget_bytes=int(largest * 0.7))
    assert len(split.passes) > len(whole.passes)
    assert sum(p.bytes for p in split.passes) == sum(p.bytes for p in whole.passes)
    with pytest.raises(UsageError, match="cache-budget"):
        make_plan(wanted, FakeWorld(), budget_bytes=1000)


def test_filters_narrow_a_suite_and_an_empty_result_is_an_error() -> None:
    chosen = choose("lab", Filters.parse("lab_ssl", None, "knn_segmentation", None)).choices
    assert {c.backbone for c in chosen} == {"lab_ssl"}
    assert {c.task.card.name for c in chosen} == {"knn_segmentation"}
    assert len(chosen) > 5
    with pytest.raises(NothingSelectedError):
        choose("lab", Filters.parse("lab_mae", "zscore", None, None))


def test_a_defect_is_named_with_its_parameters() -> None:
    chosen = choose("lab", Filters.parse("lab_ssl+grid[site=input]", "none", "depth", None)).choices
    assert [c.backbone for c in chosen] == ["lab_ssl+grid[site=input]"]


def test_unknown_names_are_usage_errors() -> None:
    for axes in (("lab_sll", "none", "depth"), ("lab_ssl", "nonne", "depth"), ("lab_ssl", "none", "depht")):
        with pytest.raises(UsageError, match="did you mean"):
            choose(None, Filters.parse(*axes, "scenes"))


@pytest.fixture
def odd_repairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that is fitted, takes 7 forwards an image and depends on the seed, and one that is fitted behind it."""
    edit = RepairCard(
        name="random_edit", entry=None, params=RandomDimsParams(), family="edit", acts_on=("*",), summary="",
        needs_fit=True, edits=True, stochastic=True, forwards=lambda _params: 7,
    )  # fmt: skip
    monkeypatch.setattr(REPAIRS, "_cards", {c.name: c for c in (*REPAIRS, edit, replace(edit, name="second_edit"))})


def test_a_sweep_over_what_is_only_applied_is_fitted_once() -> None:
    plan = planned("lab_ssl", ",".join(f"remove_high_variance[m={m}]" for m in (1, 5, 25, 0.5)), "depth")
    assert len(plan.cells) == len({c.identity for c in plan.cells}) == 4
    assert len(plan.fits) == 1
    assert {fit for c in plan.cells for _, _, fit in c.fits} == {plan.fits[0].id}


def test_a_fit_without_randomness_is_shared_by_all_seeds() -> None:
    cells = choose(None, Filters.parse("lab_ssl", "zscore", "knn_segmentation", "scenes", "0,1,2")).choices
    plan = make_plan(cells, FakeWorld())
    assert (len(plan.cells), len(plan.fits)) == (3, 1)


@pytest.mark.usefixtures("odd_repairs")
def test_a_stochastic_repair_is_fitted_per_seed_also_for_a_task_without_randomness() -> None:
    cells = choose(None, Filters.parse("lab_ssl", "none,random_edit", "depth", "scenes", "0,1")).choices
    assert [(c.repair, c.seed) for c in cells] == [("none", 0), ("random_edit", 0), ("random_edit", 1)]
    assert len(make_plan(cells, FakeWorld()).fits) == 2


@pytest.mark.usefixtures("odd_repairs")
def test_forwards_of_an_ensemble_are_counted_in_plan_pass_and_cell() -> None:
    alone, chain = planned("lab_ssl", "random_edit", "depth"), planned("lab_ssl", "random_edit+second_edit", "depth")
    images = sum(p.split.images for p in alone.passes if p.edit)
    fitting = sum(p.split.images for p in alone.passes if not p.edit)
    assert alone.forwards == 7 * images + fitting
    assert alone.cells[0].forwards_per_image == 7
    assert chain.cells[0].forwards_per_image == 49


@pytest.mark.usefixtures("odd_repairs")
def test_an_edit_behind_another_is_fitted_on_the_backbone_that_the_first_one_left() -> None:
    plan = planned("lab_ssl", "random_edit+second_edit+zscore", "depth")
    first, second, third = sorted(plan.fits, key=lambda fit: len(fit.edit))
    assert (first.edit, first.edit_fits) == ("", ())
    assert (second.repair, second.edit, second.edit_fits) == ("second_edit", "random_edit", ((0, first.id),))
    assert (third.edit, [i for i, _ in third.edit_fits]) == ("random_edit+second_edit", [0, 1])
    assert first.id in plan.requires[second.id]


def test_a_repair_is_fitted_on_every_field_that_it_maps_also_where_the_task_has_no_train() -> None:
    plan = planned("lab_ssl", "center", "object_discovery@lost_swept")
    train = next(p for p in plan.passes if p.split.split == "train")
    assert {f.field for f in plan.fits} == set(train.fields) == set(plan.cells[0].fields)


@pytest.mark.usefixtures("odd_repairs")
def test_a_fitted_edit_takes_no_train_image_through_the_edited_backbone_for_a_task_without_train() -> None:
    plan = planned("lab_ssl", "random_edit", "token_norms")
    assert {(p.split.split, bool(p.edit)) for p in plan.passes} == {("val", True), ("train", False)}
    assert len(plan.fits) == 1


def test_the_tasks_suite_runs_what_the_lab_has_targets_for_with_one_forward_each() -> None:
    plan = make_plan(choose("tasks", Filters()).choices, FakeWorld())
    sweeps = [(p.backbone, p.edit, p.split.dataset, p.split.split) for p in plan.passes]
    assert len(sweeps) == len(set(sweeps))
    lab = [set(DATASETS.get(name).targets) for name in {c.slot.dataset for c in plan.cells}]
    run = {c.slot.task.partition("[")[0] for c in plan.cells}
    for card in TASKS:
        # No backbone of the lab reads text.
        if any(set(card.targets) <= targets for targets in lab) and card.name != "zero_shot_classification":
            assert {f"{card.name}@{p.name}" for p in card.protocols} <= run


class Pictured(FakeWorld):
    """A data set whose images are known apart from their targets, as those of released sets and folders are."""

    def split(self, dataset: str, split: str, targets: tuple[str, ...], limit: int | None, seed: int) -> SplitState:
        return SplitState(500, digest([split, targets]), pictures=f"pictures of {split}")


def test_tasks_that_read_other_targets_of_the_same_images_share_their_passes() -> None:
    asked = choices("lab_ssl", "zscore", "linear_segmentation,depth")
    apart, shared = make_plan(asked, FakeWorld()), make_plan(asked, Pictured())
    assert len({c.splits["train"].digest for c in shared.cells}) == 2, "the targets stay part of each identity"
    assert len(shared.passes) == len(apart.passes) == 2
    assert len({c.identity for c in (*apart.cells, *shared.cells)}) == 4


def test_what_is_left_out_as_corrupt_depends_on_the_targets_so_passes_are_apart() -> None:
    filters = Filters.parse("lab_ssl", "none", "linear_segmentation,depth", "scenes", skip_corrupt=True)
    plan = make_plan(choose(None, filters).choices, Pictured())
    assert len(plan.passes) == 4
