"""Why something cannot be asked of a backbone: what cards tell before anything is loaded, in the words of the run. No torch.

Whoever raises NotApplicableError for one of these reasons takes it from here, so that plan and run say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitbench.catalogue import DEFECTS
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import NO_ATTENTION, NO_DIRECTIONS, NO_FINAL_NORM, absent
from vitbench.catalogue.resolve import RepairStep
from vitbench.errors import NotApplicableError
from vitbench.selection import Term, with_params

_REMEDIES = {
    NO_ATTENTION: "ask a ViT that is loaded through timm",
    NO_DIRECTIONS: "ask a pre-norm ViT that is loaded through timm",
    NO_FINAL_NORM: "load the weights through timm, or read blocks before the norm",
}


def no_field(name: str, reason: str, backbone: str = "") -> NotApplicableError:
    """A field that a backbone does not have; `reason` as `fields.absent` gives it."""
    who = f"backbone {backbone!r}" if backbone else "this backbone"
    return NotApplicableError(f"{who} has {reason}, so no field {name!r}", _REMEDIES.get(reason, ""))


def no_vit(repair: str, backbone: str, averaged: bool = False) -> NotApplicableError:
    """A repair of the blocks of a ViT, and a backbone without such blocks, or one that is `averaged` over views."""
    if averaged:
        what, remedy = (
            f"{backbone!r} is averaged over views already",
            "edit the forward before, or leave one of the two out",
        )
    else:
        what, remedy = f"{backbone!r} is none", "load the weights through timm"
    return NotApplicableError(f"repair {repair!r} needs the blocks of a ViT of timm's kind, and {what}", remedy)


def not_planted(defect: str, backbone: str) -> NotApplicableError:
    """A defect in a backbone without blocks."""
    return NotApplicableError(
        f"defect {defect!r} cannot be planted in {backbone!r}", "defects need a ViT of timm's kind"
    )


def no_cls(backbone: str) -> NotApplicableError:
    """A defect that blends CLS in, and a backbone without it."""
    return NotApplicableError(f"backbone {backbone!r} has no CLS to blend in", "use source=mean")


def attention_taken(block: int) -> NotApplicableError:
    """Two edits of one block's attention."""
    return NotApplicableError(f"two edits replace the attention of block {block}", "use one of them")


def too_few_images(repair: str, least: int, images: int) -> NotApplicableError:
    """A fit that needs more train images than there are."""
    return NotApplicableError(
        f"repair {repair!r} is fitted on at least {least} train images, here are {images}",
        "raise --limit or give the data set a larger train split",
    )


def unsuited(
    name: str, card: BackboneCard, fields: Iterable[str], edits: Sequence[RepairStep], maps: Sequence[RepairStep],
    defects: Sequence[Term] = (),
) -> NotApplicableError | None:  # fmt: skip
    """Why a backbone with these defects cannot be repaired so, or what it is then lacks one of the fields; None: it can.

    Of cards made from a bare timm id, which know no numbers yet, only the run will tell.
    """
    return _unplanted(name, card, defects) or _unrepaired(name, card, edits, maps) or _unseen(name, card, fields, edits)


def _unplanted(name: str, card: BackboneCard, defects: Sequence[Term]) -> NotApplicableError | None:
    for term in defects:
        if card.blocks != "open":
            return not_planted(term.name, name.partition("+")[0])
        defect, without_cls = DEFECTS.get(term.name), card.embed_dim and card.prefix_tokens == card.registers
        if without_cls and defect.needs_cls(with_params(defect.params, term, "defect")):
            return no_cls(name.partition("+")[0])
    return None


def _unrepaired(
    name: str, card: BackboneCard, edits: Sequence[RepairStep], maps: Sequence[RepairStep]
) -> NotApplicableError | None:
    averaged, owners = False, int(card.options.get("attention", "softmax") != "softmax")
    for step in (*edits, *maps):
        if step.card.needs_vit and (card.blocks != "open" or averaged):
            return no_vit(step.card.name, name, averaged and card.blocks == "open")
        averaged = averaged or step.card.family == "ensemble"
        owners += step.card.attention(step.params)
        if owners > 1 and card.depth:
            return attention_taken(card.depth - 1)
    return None


def _unseen(
    name: str, card: BackboneCard, fields: Iterable[str], edits: Sequence[RepairStep]
) -> NotApplicableError | None:
    registers = card.registers or sum(step.card.registers(step.params) for step in edits)
    for field in fields:
        if card.embed_dim and (reason := absent(field, card.prefix_tokens - card.registers, registers, card.blocks)):
            return no_field(field, reason, name)
    return None
