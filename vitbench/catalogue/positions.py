"""Cards of the repairs that remove what tokens tell of their place in the image."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.catalogue.repairs import GRID_KINDS
from vitbench.errors import UsageError


def _checked_rounds(name: str, rounds: int) -> None:
    if rounds < 0:
        raise UsageError(
            f"{name}: rounds={rounds} is negative", "0 leaves tokens as they are, 9 is the published number"
        )


@dataclass(frozen=True)
class RasaParams:
    """rounds: planes removed, one after another (at most half of the channels are). epochs, lr, batch (images a step): of
    each round.

    The published epochs=5, lr=2e-4, batch=128 are for VOC. On 150 scenes of the lab they take the loss of the first round from
    0.091 to 0.082, the defaults to 0.026; its least value is 0.024.
    """

    rounds: int = 9
    epochs: int = 10
    lr: float = 3e-2
    batch: int = 8

    def __post_init__(self) -> None:
        _checked_rounds("rasa", self.rounds)
        if self.epochs < 1 or self.batch < 1 or not self.lr > 0:
            raise UsageError("rasa: epochs and batch are one or more, lr is above zero")


@dataclass(frozen=True)
class RasaRidgeParams:
    """rounds: planes removed, as in `rasa`. ridge: penalty in units of the mean variance of a channel; the larger, the nearer
    a plane is to the directions along which tokens of different places differ on average.

    waves: 0 regresses row and column; n regresses cosines of up to n cycles along each axis instead, and a round removes
    the two directions that tell most of them.
    """

    rounds: int = 9
    ridge: float = 0.01
    waves: int = 0

    def __post_init__(self) -> None:
        _checked_rounds("rasa_ridge", self.rounds)
        if not self.ridge > 0:
            raise UsageError(f"rasa_ridge: ridge={self.ridge} is not above zero", "use a number such as 0.01")
        if self.waves < 0:
            raise UsageError(f"rasa_ridge: waves={self.waves} is negative", "0 stands for row and column")


# Measured: k-NN mIoU of lab_ssl on 80 val scenes, fitted on 200 train scenes, one seed.
MISSES = (
    "Only what row and column tell is removed: the lab's defect `grid` is waves that sum to zero along every row and column, so "
    "it recovers {} % of grid[site=late] and {} % of grid[site=input], and costs the clean backbone {} points"
)
_FRANCA = Source("Venkataramanan et al.", 2025, "2507.14137", "https://github.com/valeoai/Franca")

RASA = RepairCard(
    name="rasa",
    entry="vitbench.repairs.rasa:Rasa",
    params=RasaParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs_fit=True,
    least_images=2,
    summary="projects out the planes along which a trained linear map reads row and column, round by round",
    source=_FRANCA,
    upstream_licence="Apache-2.0 (re-implemented)",
    published_for="Franca, on VOC crops",
    differs=(
        "trained on the data set's train tokens in its own view, from zero, "
        "with a rate at which a round converges; other grid fields get planes of their own. "
        + MISSES.format("-2", "1", "0.1")
    ),
    cost="fit: rounds x epochs passes over the train tokens; no forward at test time",
)

RASA_RIDGE = RepairCard(
    name="rasa_ridge",
    entry="vitbench.repairs.rasa_ridge:RasaRidge",
    params=RasaRidgeParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs_fit=True,
    least_images=2,
    summary="projects out the planes along which ridge regression reads row and column, round by round",
    source=_FRANCA,
    upstream_licence="Apache-2.0 (re-implemented)",
    published_for="Franca, on VOC crops",
    differs="a closed form of ours: the authors train each round; no sigmoid. "
    + MISSES.format("-1", "-1", "0.2")
    + ". With "
    "rounds=2, waves=3, ridge=100, which knows how fine the pattern is, it recovers 98 % and 34 % at a cost of 0.9 points",
    cost="fit: one pass over the train tokens and a solve per round; no forward at test time",
)

POSITION_CARDS: tuple[RepairCard, ...] = (RASA, RASA_RIDGE)
