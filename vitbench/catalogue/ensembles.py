"""Cards of the repairs that average several views of an image, and of the student that is taught by such an average."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.catalogue.repairs import GRID_KINDS
from vitbench.errors import UsageError

AVERAGED = GRID_KINDS  # kinds of fields that are averaged over views


@dataclass(frozen=True)
class TtaShiftParams:
    """views: forwards per image, the unshifted one included. reach: largest shift, as a share of the grid's side.

    candidates: random offsets from which the farthest apart are taken. flips: mirror each further view by a coin. seed: of
    offsets and coins.
    """

    views: int = 10
    reach: float = 0.15
    candidates: int = 100
    flips: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1:
            raise UsageError(f"tta_shift: views={self.views} is less than the unshifted one")
        if not 0 <= self.reach < 1:
            raise UsageError(
                f"tta_shift: reach={self.reach} is not a share of the grid", "use a number from 0 to below 1"
            )
        if self.candidates < self.views:
            raise UsageError(f"tta_shift: candidates={self.candidates} are fewer than views={self.views}")


@dataclass(frozen=True)
class SrtParams:
    """d: largest shift in pixels along each axis; 0 leaves tokens as they are. It must stay below the patch."""

    d: int = 1

    def __post_init__(self) -> None:
        if self.d < 0:
            raise UsageError(f"srt: d={self.d} is negative", "d counts pixels: 1, 2, 3")


@dataclass(frozen=True)
class PhRegParams:
    """registers: tokens added. images: train images learned from, in a seeded order. epochs over them (0: leave the backbone
    as it is), batch images a step, lr falling to lr_end step by step. views: of the teacher, as in `tta_shift`.

    Published for DINOv2: 100 epochs of Flickr30k, batch 8, lr 1e-4 to 5e-6. The defaults are small, for the lab.
    """

    registers: int = 16
    images: int = 64
    epochs: int = 4
    batch: int = 8
    lr: float = 5e-4
    lr_end: float = 5e-5
    views: int = 10

    def __post_init__(self) -> None:
        for name in ("images", "batch", "views"):
            if getattr(self, name) < 1:
                raise UsageError(f"ph_reg: {name}={getattr(self, name)} is less than one")
        if self.registers < 0 or self.epochs < 0:
            raise UsageError("ph_reg: registers and epochs are numbers from 0 on")
        if not self.lr > 0 or not self.lr_end > 0:
            raise UsageError("ph_reg: lr and lr_end are above zero")


_PH_REG = Source("Chen et al.", 2025, "2505.21501", "https://github.com/0raiser0/PH-Reg")

TTA_SHIFT = RepairCard(
    name="tta_shift",
    entry="vitbench.repairs.tta_shift:TtaShift",
    params=TtaShiftParams(),
    family="ensemble",
    acts_on=AVERAGED,
    edits=True,
    summary="averages each patch over shifted and mirrored views of the image that show it",
    source=_PH_REG,
    upstream_licence="Apache-2.0 (re-implemented)",
    published_for="CLIP and DINOv2, as the teacher of PH-Reg",
    differs=(
        "a repair of its own; one set of offsets for all images of a "
        "size, chosen farthest apart with the unshifted view as the first; on grids that are not square each axis has its own "
        "largest shift; CLS, registers, norms and attention are those of the unshifted view. Measured on lab_ssl, 80 val scenes, "
        "one seed: it adds 1.8 points of k-NN mIoU to the clean backbone and recovers 115 % of grid[site=late]"
    ),
    cost="no fit; as many forwards as views",
    forwards=lambda params: int(params.views),
)

SRT = RepairCard(
    name="srt",
    entry="vitbench.repairs.srt:SubpatchShifts",
    params=SrtParams(),
    family="ensemble",
    acts_on=AVERAGED,
    edits=True,
    summary="averages features over shifts of the image by a few pixels, pooled back to the patches",
    source=Source("Lao et al.", 2024, "2310.03967", "https://github.com/donglao/srt"),
    upstream_licence="none (re-implemented)",
    published_for="features of ViTs at the resolution of the image",
    differs=(
        "published as a map of the image's resolution, of which this is the pooled form; the unshifted view, which the "
        "authors run twice, is run once and counted twice; d is ours, small for its cost; CLS, registers, norms and "
        "attention are those of the unshifted view"
    ),
    cost="no fit; (2d + 1)^2 forwards",
    forwards=lambda params: int(2 * params.d + 1) ** 2,
)

PH_REG = RepairCard(
    name="ph_reg",
    entry="vitbench.repairs.ph_reg:PhReg",
    params=PhRegParams(),
    family="weights",
    acts_on=("*",),
    needs_fit=True,
    least_images=2,
    edits=True,
    stochastic=True,
    needs_vit=True,
    registers=lambda params: params.registers * (params.epochs > 0),
    summary="adds registers and teaches a few weights what an average over shifted views gives",
    source=_PH_REG,
    upstream_licence="Apache-2.0 (re-implemented)",
    published_for="CLIP and DINOv2",
    differs=(
        "published with other last blocks for teacher and student in CLIP, trained for 100 epochs of Flickr30k; "
        "here any ViT with its own last block, for a few epochs on the data set's train split, in its own view; one set of "
        "the teacher's offsets for all images; registers are appended, after a pre-norm where there is one; the rate falls "
        "every step instead of every epoch; a backbone in float32 is taught in float32 (published: bfloat16). "
        "Measured on lab_ssl, 50 held-out train scenes, one seed: it recovers 19 % of "
        "grid[site=late] in k-NN mIoU and costs the clean backbone 0.4 points: far from its "
        "teacher (115 %), after 32 steps and without a position "
        "embedding to learn with"
    ),
    cost="fit: `views` forwards of each image, then forward and backward in every epoch; a pass of its own, 16 more tokens",
)

ENSEMBLE_CARDS: tuple[RepairCard, ...] = (TTA_SHIFT, SRT, PH_REG)
