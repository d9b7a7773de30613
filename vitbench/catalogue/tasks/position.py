"""Cards of what tokens tell of their place in the grid, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting
from vitbench.errors import UsageError


@dataclass(frozen=True)
class PositionMicSettings(TaskSettings):
    """Settings of `position_mic@dvt`."""

    image_px: int = 518
    alpha: float = setting(0.6, "grids over the scatter of n tokens have at most n^alpha cells")
    clumps: int = setting(15, "the free axis is cut at the ends of at most this many groups of tokens per part")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise UsageError(f"alpha={self.alpha} is not in (0, 1]", "0.6 is the published value")
        if self.clumps < 1:
            raise UsageError(f"clumps={self.clumps} is less than one", "15 is the published value")


POSITION_MIC = TaskCard(
    name="position_mic",
    entry="vitbench.tasks.position_mic:PositionMic",
    title="Position MIC",
    family="diagnostic",
    metric="position_mic",
    headline="MIC",
    splits=("val",),
    summary="How much the channel that knows it best tells of a token's column and row.",
    protocols=(
        Protocol(
            name="dvt",
            version=1,
            settings=PositionMicSettings(),
            summary="Maximal information coefficient (Reshef et al. 2011, Science 334, 1518-1524) of each channel with the "
            "column and with the row, over the tokens of one image; the largest of all channels, mean of both axes, mean "
            "over images. `MIC_mean_channel` is the mean over channels instead of the largest.",
            source=Source("Yang et al.", 2024, "2401.02957", "https://github.com/Jiawei-Yang/Denoising-ViT"),
            differs="The paper takes 100 images of ImageNet and does not list them: `-d imagenet1k --limit 100` takes the "
            "first. Size of the view (518, 512 for patch 16) and final norm are those of the method. Channels without any "
            "position do not give 0 but a value that falls with the number of tokens and rises with that of channels: the "
            "largest of 64 channels of noise gives about 0.25 on 16 x 16 tokens, 0.15 on 32 x 32 and 0.14 on 37 x 37. That "
            "is more than some values of Table 1, so the paper's estimator is another than this one (the approximation of "
            "2011), and its values are kept as published-only. Compare within one grid and width.",
        ),
    ),
)
