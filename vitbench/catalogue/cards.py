"""The shapes of cards: plain data about everything registered, importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vitbench.catalogue.bounds import check_bounds
from vitbench.catalogue.fields import Blocks
from vitbench.catalogue.release import Release, class_names
from vitbench.catalogue.views import Resample, View

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.4814547, 0.4578275, 0.4082107), (0.2686295, 0.2613026, 0.2757771)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Source:
    """Where a method, model or protocol comes from."""

    authors: str
    year: int
    arxiv: str = ""
    url: str = ""

    def __str__(self) -> str:
        return f"{self.authors} {self.year}" + (f", arXiv {self.arxiv}" if self.arxiv else "")


@dataclass(frozen=True)
class BackboneCard:
    """A frozen ViT (or a control) and what a task must know before loading it.

    patch_px in pixels; prefix_tokens counts CLS and registers; `weights` is "none" (control), "file:NAME" (shipped in
    backbones/weights), "hub" (timm id resolved online or in the hub cache), "given:WHICH" (only by --weights);
    `final_norm` says which norm gives `patch`. blocks: "open" where they are those of a ViT of timm's kind, whose attention can be
    read and whose forward can be edited, "hidden" in a module of another make, "none" in a control that has none.
    """

    name: str
    entry: Any
    family: str
    kind: Literal["model", "lab", "control", "module"]
    patch_px: int
    prefix_tokens: int
    registers: int
    embed_dim: int
    depth: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    timm_id: str = ""
    weights: str = "hub"
    position: str = ""
    final_norm: str = "norm"
    register_twin: str = ""
    lost_feature: Literal["key", "query", "value"] = "key"
    blocks: Blocks = "open"
    licence: str = ""
    source: Source | None = None
    notes: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""  # digest of a plug-in's code; part of the identity


@dataclass(frozen=True)
class DefectCard:
    """A planted artefact for any ViT, `NAME+DEFECT[...]`; `params` is a frozen dataclass instance with the defaults.

    needs_cls: whether it reads CLS, with given parameters.
    """

    name: str
    entry: Any
    params: Any
    summary: str
    seen_in: str = ""
    needs_cls: Callable[[Any], bool] = lambda _params: False
    version: int = 1  # raised when the same parameters give other tokens; part of the identity
    code: str = ""  # digest of a plug-in's code; part of the identity


@dataclass(frozen=True)
class RepairCard:
    """What is done about artefacts, and what the planner must know of it.

    acts_on: kinds of fields it changes ("patch", "patch_raw", "block", "query", "key", "value", "cls"; "*" = all).
    needs: further fields its map reads. edits: overrides `edit`, so it costs a pass of its own. swaps: "register_twin"
    when it runs another backbone. role: what is expected of it, "repair" or "control" (a negative control).
    applied_only: parameters that its fit does not depend on; cells that differ in them alone share one fit.
    stochastic: its fit depends on the seed; one that does not is shared by all seeds.
    forwards: how many forwards of the backbone one image takes, with given parameters. registers: how many it appends.
    needs_vit: it reads or edits the blocks of a ViT of timm's kind. attention: whether it replaces the attention of the last
    block, with given parameters; no two can. least_images: train images that its fit needs.
    """

    name: str
    entry: Any
    params: Any
    family: Literal["none", "map", "edit", "ensemble", "add-on", "weights", "twin"]
    acts_on: tuple[str, ...]
    summary: str
    needs: tuple[str, ...] = ()
    needs_fit: bool = False
    edits: bool = False
    swaps: str = ""
    role: Literal["repair", "control"] = "repair"
    source: Source | None = None
    upstream_licence: str = ""
    published_for: str = ""
    differs: str = ""
    cost: str = ""
    applied_only: tuple[str, ...] = ()
    stochastic: bool = False
    forwards: Callable[[Any], int] = lambda _params: 1
    registers: Callable[[Any], int] = lambda _params: 0
    needs_vit: bool = False
    attention: Callable[[Any], bool] = lambda _params: False
    least_images: int = 1
    version: int = 1  # raised when the same parameters give other tokens; part of the identity
    code: str = ""  # digest of a plug-in's code; part of the identity


@dataclass(frozen=True)
class Protocol:
    """One exact, versioned way to run a task. `settings` is a frozen dataclass instance (see `TaskSettings`).

    entry: the class that runs it where that is not the task's own. streams: its train images are augmented anew in every
    step, so it reads the backbone and not the token store. stochastic: depends on the seed, even where the task does not.
    """

    name: str
    version: int
    settings: Any
    summary: str
    source: Source | None = None
    selection: Literal["none", "heldout", "oracle"] = "none"
    differs: str = ""
    entry: Any = ""
    streams: bool = False
    stochastic: bool = False


@dataclass(frozen=True)
class TaskSettings:
    """Settings every protocol has; protocols add their own fields. `field`: what is read, in the grammar of fields.py.

    Fields joined by `+` are concatenated on channels, a field of the image (`cls`) beside every patch.
    """

    field: str = "patch"
    view: str = "resize"
    image_px: int = 224

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def std(self) -> tuple[float, float, float] | None:
        """What pixels are divided by where a published evaluation mistyped it; none: the backbone's own."""
        return None

    @property
    def resampled(self) -> Resample:
        """How images are resized, where a published evaluation does it otherwise than most."""
        return "bicubic"

    @property
    def padded(self) -> bool:
        """Whether a square view keeps its size amid zeros, where a published evaluation does so."""
        return False

    @property
    def stochastic(self) -> bool:
        """Whether the number depends on the seed with these values, even where the protocol says that it does not."""
        return False


@dataclass(frozen=True)
class TaskCard:
    """What is asked of the tokens, and what the planner must know of it.

    targets: dataset columns it needs. splits: those it reads, of "train" and "val". aux: further token fields for a given
    settings instance (`aux(settings)`). metric: the kind in `vitbench.metrics` that owns rows and aggregate, or measures of
    its own (`vitbench.records.rows.Measure`).
    headline: the metric that leaderboards show; `secondary` metrics keep their bootstrap replicates too.
    marks: columns beside the targets that a data set must have with given settings (`boxes_hard`); without, not applicable.
    compared: a field that the tokens are compared with. Repairs map fields apart, each with statistics of its own: one that
    maps both is not applicable. language: it also needs the text tower that was trained with the backbone.
    """

    name: str
    entry: Any
    title: str
    family: Literal["dense", "image", "probe", "diagnostic", "video", "correspondence"]
    protocols: tuple[Protocol, ...]
    metric: str | tuple[Any, ...]
    headline: str
    targets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "val")
    aux: Callable[[Any], tuple[str, ...]] = lambda _settings: ()
    stochastic: bool = False
    marks: Callable[[Any], tuple[str, ...]] = lambda _settings: ()
    secondary: tuple[str, ...] = ()
    summary: str = ""
    compared: str = ""
    language: bool = False
    code: str = ""  # digest of a plug-in's code; part of the identity

    def protocol(self, name: str) -> Protocol:
        from vitbench.errors import UsageError

        for protocol in self.protocols:
            if protocol.name == name:
                return protocol
        raise UsageError(
            f"task {self.name!r} has no protocol {name!r}", f"it has {', '.join(p.name for p in self.protocols)}"
        )

    def view(self, settings: TaskSettings) -> View:
        view = View.parse(settings.view, settings.image_px)
        return replace(view, std=settings.std, resample=settings.resampled, pad=settings.padded)


@dataclass(frozen=True)
class DatasetCard:
    """Named splits with images and targets. `size_px` (h, w) where all images have one size; 0 counts are unknown.

    marks: columns beside the targets that settings may ask for (`boxes_hard`: difficult or truncated).
    roles: the split that a task's "train" or "val" means where the release names it otherwise; "val:boxes" is for tasks
    that read boxes only. class_file, label_file: lists of names that ship with the package. palette: colours of its
    classes ("": VOC's, where they are drawn). release: where it comes from and what it becomes on disk (None: nothing to
    obtain). options: what its layout must know.
    """

    name: str
    entry: Any
    summary: str
    splits: Mapping[str, int]
    targets: tuple[str, ...]
    classes: tuple[str, ...] = ()
    object_classes: tuple[int, ...] = ()
    label_classes: tuple[str, ...] = ()
    ignore_index: int = 255
    size_px: tuple[int, int] | None = None
    version: int = 1
    licence: str = ""
    source: Source | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    class_file: str = ""
    label_file: str = ""
    palette: str = ""
    release: Release | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    differs: str = ""
    code: str = ""  # digest of a plug-in's code; part of the identity

    def named(self) -> DatasetCard:
        """The card with the names of its classes, which are kept in files; those of labels may be known to the data only."""
        classes = self.classes or (class_names(self.class_file) if self.class_file else ())
        labels = self.label_classes or (class_names(self.label_file) if self.label_file else ())
        return replace(self, classes=classes, label_classes=labels)
