"""Where a repair knowingly differs from its source, its card says so: each test holds the rule and the sentence together."""

from __future__ import annotations

import pytest
import torch

from vitbench.backbones.neural_field import Bank, FieldSettings, fit_field, schedule
from vitbench.catalogue.denoising import DVT, DVT_FIELD, DvtParams
from vitbench.catalogue.edits import TEST_TIME_REGISTERS
from vitbench.catalogue.ensembles import PH_REG
from vitbench.catalogue.repairs import POSITION_MEAN
from vitbench.repairs import position_mean
from vitbench.repairs.denoiser import Training
from vitbench.repairs.distillation import difference


def artefact(steps: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    bank = Bank(torch.randn(16, 4, generator=random), torch.rand(16, 2, generator=random))
    cells = torch.rand(16, 2, generator=random) * 3
    settings = FieldSettings(2, 2, 2, 4, steps, 8, rate=0.01, warmup=0.0)
    return fit_field(bank, cells, (4, 4), settings, torch.Generator().manual_seed(1)).artefact


def test_the_artefact_is_frozen_from_half_of_the_steps_on() -> None:
    # Two steps: the release still moves it in the second (step 1 is not beyond 0.5 x 2). Adam's step is its rate at first.
    assert float((artefact(2) - artefact(1)).abs().max()) < 1e-6
    assert float((artefact(4) - artefact(2)).abs().max()) > 1e-3
    assert "G is frozen from half of the steps on, one step earlier" in DVT_FIELD.differs


@pytest.mark.parametrize(("steps", "above"), [(128, 1.04), (50_000, 1.0)])
def test_the_last_step_of_a_warm_up_is_above_the_rate_unless_it_is_a_whole_number_of_steps(
    steps: int, above: float
) -> None:
    training = Training(steps, 256, 1.0, 0)
    assert max(training.rate_at(i) for i in range(steps)) == pytest.approx(above, abs=2e-3)
    assert max(schedule(i, 25_000, 0.1) for i in range(25_000)) == 1
    defaults = DvtParams()
    assert defaults.images * defaults.epochs // defaults.batch == 128
    assert "its last one is above the rate, by 4 % in 128 steps" in DVT.differs
    assert "its last one is above the rate" in DVT_FIELD.differs


def test_the_published_field_has_the_sizes_of_the_release() -> None:
    sides = FieldSettings(16, 8, 16, 1024, 25_000, 2048, 0.01).sides
    assert (sides[0], sides[1], sides[-1], len(sides)) == (16, 21, 1024, 16)
    assert sum(side**2 for side in sides) * 8 == pytest.approx(19.7e6, rel=1e-2)


def test_what_is_not_here_is_said() -> None:
    assert "third stage" in DVT.differs
    assert "A.2" in TEST_TIME_REGISTERS.differs
    assert "quiet counted, among patches only" in TEST_TIME_REGISTERS.differs


def test_a_student_in_float32_is_taught_in_float32() -> None:
    assert difference(torch.ones(2, 3), torch.ones(2, 3)).dtype == torch.float32
    assert "taught in float32 (published: bfloat16)" in PH_REG.differs


def test_twenty_images_make_a_mean_of_positions() -> None:
    assert position_mean.LEAST_IMAGES == 20
    assert "of 1,000 or more, though 20 are taken" in POSITION_MEAN.differs
