"""PH-Reg: the student comes to give what its teacher gives, with few weights, and goes on where it was interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.load import load_backbone
from vitbench.backbones.vit import ViT
from vitbench.catalogue.ensembles import PhRegParams, TtaShiftParams
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs import distillation
from vitbench.repairs.base import State
from vitbench.repairs.compose import build_repair
from vitbench.repairs.distillation import Lessons, difference
from vitbench.repairs.edit_contract import DIM, ImageContext, images, tiny_backbones
from vitbench.repairs.ph_reg import AddRegisters, PhReg, copied, first_registers, learners
from vitbench.repairs.tta_shift import shift_ensemble
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import Pixels

PATCH = TokenRequest(("patch",))
KEYS = [str(i) for i in range(4)]


class _Pattern(Edit):
    """Adds the same random pattern to the patches of every image."""

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        grid = context.grid(x)
        pattern = torch.randn(grid.shape[1:], generator=torch.Generator().manual_seed(5))
        return context.with_grid(x, grid + pattern.to(x))


def _plain(which: int = 0) -> ViT:
    return list(tiny_backbones().values())[which]


@pytest.mark.parametrize("which", [0, 1])
def test_the_student_comes_nearer_to_its_teacher_on_fresh_images(which: int) -> None:
    plain = _plain(which)
    repair = build_repair("ph_reg[epochs=10,lr=2e-3]")
    student = repair.edit(plain, repair.fit(ImageContext("patch", plain)))
    fresh = images(7)
    target = shift_ensemble(plain, TtaShiftParams()).tokens(fresh, PATCH, KEYS)["patch"]
    before, after = (
        float(difference(m.tokens(fresh, PATCH, KEYS)["patch"].flatten(0, 2), target.flatten(0, 2)))
        for m in (plain, student)
    )
    assert after < 0.95 * before


@dataclass
class _Kept(ImageContext):
    """Keeps what a fit keeps, and stops it after a number of times."""

    stop: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    times: int = 0

    def resumed(self) -> State:
        return self.kept

    def keep(self, state: State) -> None:
        self.kept = dict(state)
        self.times += 1
        if self.times == self.stop:
            raise KeyboardInterrupt


def test_an_interrupted_fit_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "KEEP_STEPS", 2)
    repair = build_repair("ph_reg[batch=6]")
    whole = repair.fit(_Kept("patch", _plain()))
    broken = _Kept("patch", _plain(), stop=2)
    with pytest.raises(KeyboardInterrupt):
        repair.fit(broken)
    assert int(broken.kept["step"]) == 4
    rest = repair.fit(_Kept("patch", _plain(), kept=broken.kept))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    monkeypatch.setattr(distillation, "ROOM_BYTES", 0)
    anew = repair.fit(_Kept("patch", _plain()))
    assert all(torch.equal(whole[name], anew[name]) for name in whole)


def test_what_learns_are_registers_positions_patch_projection_and_the_last_block() -> None:
    for which, positions in ((0, True), (1, False)):
        plain = _plain(which)
        state = build_repair("ph_reg").fit(ImageContext("patch", plain))
        names = {name.removeprefix("weight.") for name in state} - {"registers"}
        assert ("pos_embed" in names) is positions
        assert {"patch_embed.proj.weight", "patch_embed.proj.bias", "blocks.2.norm1.weight"} <= names
        assert all(name == "pos_embed" or name.startswith(("patch_embed.proj.", "blocks.2.")) for name in names)
        own = dict(plain.module.named_parameters())
        assert all(not torch.equal(state[f"weight.{name}"], own[name]) for name in names if name in own)
        assert state["registers"].shape == (16, DIM)
        assert build_repair("ph_reg").extra_parameters(state) == 16 * DIM


def test_registers_start_random_and_change_the_patches_but_not_their_count() -> None:
    start = first_registers(16, 512, 3)
    assert float(start.norm(dim=1).mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(start, first_registers(16, 512, 3))
    plain = _plain()
    more = plain.edited(AddRegisters(first_registers(4, DIM, 0))).tokens(images(1), PATCH, KEYS)["patch"]
    before = plain.tokens(images(1), PATCH, KEYS)["patch"]
    assert more.shape == before.shape
    assert float((more - before).abs().max()) > 1e-3


def test_edits_of_the_backbone_stay_and_the_student_learns_with_them() -> None:
    planted = _plain().edited(_Pattern())
    repair = build_repair("ph_reg[epochs=1]")
    state = repair.fit(ImageContext("patch", planted))
    repaired = repair.edit(planted, state)
    assert isinstance(repaired, ViT)
    assert isinstance(repaired.edits[0], _Pattern)
    assert repaired.module is not planted.module
    clean = repair.fit(ImageContext("patch", _plain()))
    assert not torch.equal(clean["registers"], state["registers"])


def test_a_copy_shares_nothing_that_learns() -> None:
    plain = _plain()
    twin = copied(plain)
    own = dict(plain.module.named_parameters())
    assert all(value.data_ptr() != own[name].data_ptr() for name, value in learners(twin).items())


def test_no_epochs_leave_the_backbone_as_it_is_and_registers_can_be_none() -> None:
    plain = _plain()
    untouched = build_repair("ph_reg[epochs=0]")
    state = untouched.fit(ImageContext("patch", plain))
    same = untouched.edit(plain, state).tokens(images(2), PATCH, KEYS)["patch"]
    assert torch.equal(same, plain.tokens(images(2), PATCH, KEYS)["patch"])
    assert untouched.extra_parameters(state) == 0
    none = build_repair("ph_reg[epochs=1,registers=0]")
    state = none.fit(ImageContext("patch", plain))
    assert none.extra_parameters(state) == 0
    assert not torch.equal(none.edit(plain, state).tokens(images(2), PATCH, KEYS)["patch"], same)


def test_a_backbone_in_bfloat16_is_taught_in_float32() -> None:
    plain = copied(_plain())
    plain.to("cpu", torch.bfloat16)
    repair = build_repair("ph_reg[epochs=1]")
    state = repair.fit(ImageContext("patch", plain, images=8))
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in state.values())
    tokens = repair.edit(plain, state).tokens(images(2), PATCH, KEYS)
    assert tokens["patch"].dtype == torch.bfloat16


@dataclass
class _TwoSizes(ImageContext):
    def pixels(self, order: object = None) -> object:
        for i in order:  # type: ignore[attr-defined]
            yield _sized(i)


def _sized(i: int) -> Pixels:
    return images(i, 1, (48, 48) if i % 2 else (30, 70))[0]


def test_steps_hold_images_of_every_size_and_epochs_every_image_once() -> None:
    params = PhRegParams(batch=6, images=10)
    lessons = Lessons(_plain(), _TwoSizes("patch", _plain()), params)
    assert lessons.steps == 2
    epochs = [[*lessons.images(2 * e), *lessons.images(2 * e + 1)] for e in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 10 for epoch in epochs)
    assert epochs[0] != epochs[1]
    groups = lessons.groups(0)
    assert {geometry.grid_hw for _, geometry, _ in groups} == {(6, 6), (4, 9)}
    assert sum(len(pixels) for pixels, _, _ in groups) == 6
    assert all(target.shape[:3] == (len(pixels), *geometry.grid_hw) for pixels, geometry, target in groups)
    state = build_repair("ph_reg[epochs=1]").fit(_TwoSizes("patch", _plain()))
    assert bool(state["registers"].isfinite().all())


def test_the_loss_is_one_less_the_cosine_plus_the_squared_error() -> None:
    a, b = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(difference(a, b)) == pytest.approx(1 - 0.5 + (4 + 1 + 1) / 4)


def test_controls_and_bad_numbers_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="needs the blocks of a ViT"):
        PhReg(PhRegParams()).edit(load_backbone("patch_colour"), {})
    with pytest.raises(NotApplicableError, match="train images"):
        build_repair("ph_reg").fit(ImageContext("patch", _plain(), images=0))
    for text in ("epochs=-1", "batch=0", "lr=0.0"):
        with pytest.raises(UsageError, match="ph_reg"):
            build_repair(f"ph_reg[{text}]")
