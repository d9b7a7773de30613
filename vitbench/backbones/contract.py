"""What every backbone must keep, as checks anybody can run on one of their own (`vitbench check backbone NAME`).

A few seeded pictures of a few patches each: no data, and seconds even for a large model. Each check raises ContractError with
what was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit
from vitbench.backbones.untouched import fingerprint
from vitbench.backbones.vit import ViT
from vitbench.catalogue.fields import CLS_FIELDS, GRID_FIELDS, SUMMARIES, parse_field
from vitbench.errors import NotApplicableError
from vitbench.tokens.promises import ContractError, Finding, alike, findings, same
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import Pixels

FIELDS = (
    "patch", "patch_raw", "block_0", "block_-1", "normed_0", "query", "key", "value", "key_0", "patch_embed", "cls",
    "cls_block_0", "cls_normed_0", "registers", "norms", *SUMMARIES, "cls_attention", "register_attention", "pixels",
    "flags",
)  # fmt: skip
STREAM = ("patch", "patch_raw", "block", "normed", *CLS_FIELDS, "registers")  # as wide as the model
COARSE = ("patch", "patch_raw", "key", "cls")  # compared in half precision; counts and cosines of two blocks may jump
LEFT_OUT = (
    "singular_cosine"  # where forwards are compared whose directions are worked out anew, seconds for a large model
)
GRID = (3, 5)  # cells of most pictures: not square, and not the grid of any pretraining
OTHER_GRIDS = ((2, 4), (5, 3))
# Kernels for another batch size add in another order; a thousandth of this is usual.
ROUNDING, HALF = 1e-3, 0.1


@dataclass(frozen=True)
class Subject:
    """What is checked, loaded once; `load` loads it anew."""

    load: Callable[[], Backbone]

    @cached_property
    def backbone(self) -> Backbone:
        return self.load()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields of the grammar that it has; the others it must refuse as not applicable."""
        return tuple(name for name in FIELDS if self._has(name))

    @cached_property
    def tokens(self) -> Tokens:
        """Every field of three pictures."""
        return self.of(self.pictures())

    def pictures(self, n: int = 3, grid_hw: tuple[int, int] = GRID, less_px: int = 0, seed: int = 0) -> list[Pixels]:
        """Seeded pictures uint8 h w 3: colours of half a patch under noise. less_px: sides are so much short of whole cells."""
        patch, rng = self.backbone.card.patch_px, np.random.default_rng([seed, *grid_hw])
        half = -(-patch // 2)
        coarse = rng.integers(0, 256, (n, 2 * grid_hw[0], 2 * grid_hw[1], 3)).repeat(half, 1).repeat(half, 2)
        h, w = (side * patch - less_px for side in grid_hw)
        return list(np.clip(coarse[:, :h, :w] + rng.integers(-30, 31, (n, h, w, 3)), 0, 255).astype(np.uint8))

    def of(
        self, pictures: Sequence[Pixels], keys: Sequence[str] = "abc", fields: Sequence[str] | None = None
    ) -> Tokens:
        request = TokenRequest(self.fields if fields is None else tuple(fields))
        return self.backbone.tokens(pictures, request, list(keys[: len(pictures)]))

    def _has(self, name: str) -> bool:
        try:
            self.of(self.pictures(1), fields=(name,))
        except NotApplicableError:
            return False
        return True


def run_checks(load: Callable[[], Backbone]) -> list[Finding]:
    """Every check on the backbone that `load` gives. Raises UnavailableError where its weights are not here."""
    subject = Subject(load)
    _ = subject.backbone
    return findings(CHECKS, lambda: subject)


# -- checks ------------------------------------------------------------------------------------------------------------


def fields_are_given_or_refused(subject: Subject) -> None:
    """Each field of the grammar is finite and on the grid, or refused as not applicable; `patch` is never refused."""
    if "patch" not in subject.fields:
        raise ContractError("it has no field 'patch'")
    _ = subject.tokens


def shapes_are_those_of_the_card(subject: Subject) -> None:
    """Channels, blocks and registers are as many as the card says."""
    card = subject.backbone.card
    if card.patch_px < 1 or not 0 <= card.registers <= card.prefix_tokens:
        raise ContractError(f"patches of {card.patch_px} px and {card.registers} of {card.prefix_tokens} prefix tokens")
    for name, value in subject.tokens.fields.items():
        expected = _shape(subject, name)
        if len(expected) != value.ndim or any(e not in (None, n) for e, n in zip(expected, value.shape, strict=True)):
            told = " x ".join("any" if e is None else str(e) for e in expected)
            raise ContractError(f"{name} has shape {tuple(value.shape)}, the card says {told}")


def _shape(subject: Subject, name: str) -> tuple[int | None, ...]:
    """The shape of a field by the card; None where it may be any."""
    card, n = subject.backbone.card, len(subject.tokens)
    kind, some = parse_field(name).kind, (len(subject.tokens[name][0]) or None) if name in SUMMARIES else None
    wide = card.embed_dim if kind in STREAM else None
    if kind == "pixels":
        return n, *GRID, 3 * card.patch_px**2
    if kind == "flags":
        return n, *GRID
    if kind in CLS_FIELDS:
        return n, wide
    if kind == "registers":
        return n, card.registers, wide
    if kind in ("norms", "cls_similarity", "singular_cosine"):
        return n, card.depth if some or kind == "norms" else 0, *GRID
    if kind == "attention_spread":
        return n, 5 if some else 0, *GRID
    if kind in ("cls_attention", "register_attention"):
        return n, None if kind == "cls_attention" else card.registers, *GRID
    return n, *GRID, wide


def fields_agree_with_each_other(subject: Subject) -> None:
    """The last block is `patch_raw`, its norms are the last of `norms`, and CLS is the mean patch where there is none."""
    tokens, card = subject.tokens, subject.backbone.card
    if {"block_-1", "patch_raw"} <= set(subject.fields):
        same(tokens["block_-1"], tokens["patch_raw"], "block_-1 is not patch_raw", 0)
    if {"norms", "patch_raw"} <= set(subject.fields):
        norms = tokens["patch_raw"].float().norm(dim=-1)
        alike(tokens["norms"][:, -1], norms, "the last of norms is not the norm of patch_raw", ROUNDING)
    if "cls" in subject.fields and card.prefix_tokens == card.registers:
        mean = tokens["patch"].mean(dim=(1, 2))
        alike(tokens["cls"], mean, "the card says that there is no CLS, and cls is not the mean patch", ROUNDING)


def one_forward_serves_all_fields(subject: Subject) -> None:
    """A field asked for alone is what it is among all others."""
    for name in subject.fields:
        alone = subject.of(subject.pictures(), fields=(name,))
        _alike(alone, subject.tokens, (name,), "{} alone is not what it is among other fields")


def patches_are_in_their_places(subject: Subject) -> None:
    """A patch that is painted over changes `patch_embed` most in its own cell."""
    if "patch_embed" not in subject.fields:
        return
    patch, [picture] = subject.backbone.card.patch_px, subject.pictures(1)
    before = subject.of([picture], fields=("patch_embed",))["patch_embed"][0].float()
    for row, column in ((0, 1), (GRID[0] - 1, 0), (1, GRID[1] - 1)):
        painted = picture.copy()
        cell = (slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
        painted[cell] = 255 - painted[cell]
        changed = (subject.of([painted], fields=("patch_embed",))["patch_embed"][0].float() - before).norm(dim=-1)
        found = divmod(int(changed.argmax()), GRID[1])
        if changed.any() and found != (row, column):
            raise ContractError(f"painting the patch of row {row}, column {column} changes patch_embed most in {found}")


def batch_independence(subject: Subject) -> None:
    """A batch of three gives what three batches of one give."""
    for i, picture in enumerate(subject.pictures()):
        alone = subject.of([picture], "abc"[i])
        _alike(alone, subject.tokens.select([i]), subject.fields, "{} of a picture depends on its batch")


def order_of_the_batch(subject: Subject) -> None:
    """Pictures in another order give the same tokens in that order."""
    backwards = subject.of(subject.pictures()[::-1], "cba")
    _alike(backwards.select([2, 1, 0]), subject.tokens, subject.fields, "{}: pictures changed places")


def keys_do_not_matter(subject: Subject) -> None:
    """Tokens are of the picture and not of its name; where a planted defect is random, it follows the name by design."""
    if "+" not in subject.backbone.card.name:
        renamed = subject.of(subject.pictures(), "xyz")
        _alike(renamed, subject.tokens, subject.fields, "{} depends on the key of a picture", 0)


def determinism(subject: Subject) -> None:
    """The same bits each time, whatever the global random state, which stays as it is; and nothing given is written into."""
    pictures, first = subject.pictures(), subject.tokens
    given = [picture.copy() for picture in pictures]
    kept = {name: value.clone() for name, value in first.fields.items()}
    subject.of(subject.pictures(seed=1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        second = subject.of(pictures)
        if not torch.equal(torch.random.get_rng_state(), state):
            raise ContractError("a forward draws from the global random numbers, so what comes after it depends on it")
    for name in subject.fields:
        same(first[name], kept[name], f"{name} that was given out is changed by a later forward", 0)
        same(second[name], first[name], f"{name} differs the second time", 0)
    if not all(np.array_equal(a, b) for a, b in zip(pictures, given, strict=True)):
        raise ContractError("a forward writes into the pictures it is given")


def loading_again_gives_the_same(subject: Subject) -> None:
    """Two processes that load it have one backbone: the same weights, digest and tokens."""
    again = Subject(subject.load)
    if again.backbone.digest != subject.backbone.digest:
        raise ContractError(
            f"its digest is {subject.backbone.digest!r}, and {again.backbone.digest!r} when loaded again"
        )
    names = [name for name in subject.fields if name != LEFT_OUT]
    tokens = again.of(again.pictures(), fields=names)
    _alike(tokens, subject.tokens, names, "{} is another one when the backbone is loaded again", 0)


def other_sizes(subject: Subject) -> None:
    """Pictures of any shape, their sides no multiple of the patch, give finite tokens on the grid of the view."""
    patch = subject.backbone.card.patch_px
    for grid in OTHER_GRIDS:
        tokens = subject.of(subject.pictures(2, grid, less_px=patch // 3), fields=subject.fields)
        if tokens.geometry.grid_hw != grid:
            raise ContractError(f"a picture of {grid} cells gives a grid of {tokens.geometry.grid_hw}")
        for name in subject.fields:
            if parse_field(name).kind in GRID_FIELDS and tokens[name].shape[1:3] != grid:
                raise ContractError(f"{name} of {grid} cells has shape {tuple(tokens[name].shape)}")


def the_module_is_left_alone(subject: Subject) -> None:
    """A forward changes neither weights nor hooks, and a module that was training trains again after it."""
    module = subject.backbone.module
    if module is None:
        return
    before, modes = fingerprint(module), [m.training for m in module.modules()]
    try:
        module.eval()
        calm = subject.of(subject.pictures())
        module.train()
        training = subject.of(subject.pictures())
        if not module.training:
            raise ContractError("a module that was training is in evaluation mode after a forward")
    finally:
        for m, mode in zip(module.modules(), modes, strict=True):
            m.training = mode
    if fingerprint(module) != before:
        raise ContractError("a forward changes weights or leaves hooks behind")
    _alike(training, calm, subject.fields, "{} differs while the module is training")


class _Unfused(Edit):
    """Every block with the usual weights, worked out step by step: an edit that edits nothing."""

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth))


def an_edit_that_edits_nothing_changes_nothing(subject: Subject) -> None:
    """Of ViTs that can be edited: neither an edit without places nor one with the usual attention changes a field."""
    backbone = subject.backbone
    if not isinstance(backbone, ViT):
        return
    names = tuple(name for name in subject.fields if name != LEFT_OUT)
    for edit in (Edit(), _Unfused()):
        try:
            edited = backbone.edited(edit).tokens(subject.pictures(), TokenRequest(names), list("abc"))
        except NotApplicableError:  # attention of a kind that cannot be edited, or that a planted defect has taken
            continue
        _alike(edited, subject.tokens, names, "{} changes under an edit that edits nothing")


def half_precision(subject: Subject) -> None:
    """In bfloat16 the tokens are nearly those of float32."""
    other = Subject(lambda: subject.load().to("cpu", torch.bfloat16))
    if other.backbone.dtype != torch.bfloat16:
        raise ContractError(f"after .to(dtype=bfloat16) its dtype is {other.backbone.dtype}")
    names = [name for name in COARSE if name in subject.fields]
    tokens = other.of(other.pictures(), fields=names)
    for name in names:
        # The median vector: where a threshold decides, as in a planted defect, single ones may jump.
        half, full = (t[name].float().flatten(0, -2) for t in (tokens, subject.tokens))
        apart = float(((half - full).norm(dim=-1) / full.norm(dim=-1).clamp(min=1e-12)).median())
        if not apart <= HALF:
            raise ContractError(f"{name} in bfloat16 is {apart:.2g} of its length away from float32, more than {HALF}")


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        fields_are_given_or_refused,
        shapes_are_those_of_the_card,
        fields_agree_with_each_other,
        one_forward_serves_all_fields,
        patches_are_in_their_places,
        batch_independence,
        order_of_the_batch,
        keys_do_not_matter,
        determinism,
        loading_again_gives_the_same,
        other_sizes,
        the_module_is_left_alone,
        an_edit_that_edits_nothing_changes_nothing,
        half_precision,
    )
}


def _alike(a: Tokens, b: Tokens, names: Sequence[str], problem: str, share: float = ROUNDING) -> None:
    """Raises ContractError where a field (its name in place of the braces) differs by more than a share of its length."""
    for name in names:
        alike(a[name], b[name], problem.format(name), share)
