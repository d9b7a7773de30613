"""The grammar of token fields: one place that knows which names exist and what kind each is. No torch.

patch          last block after the final norm            b h w c
patch_raw      last block before it                       b h w c
block_3        after block 3, before the norm (negative counts from the end; q1..q4: at the end of each quarter)  b h w c
normed_3       the same through the final norm            b h w c
query key value (of the last block; `key_3` of block 3), before scaling, heads re-joined   b h w c
patch_embed    patch projection before positions          b h w c
cls            CLS after the final norm (mean of patches where there is no CLS)   b c
cls_block_3    CLS after block 3, before the norm         b c
cls_normed_3   the same through the final norm            b c
registers      register tokens after the final norm       b r c
norms          L2 norm of patch tokens after every block, before the final norm   b l h w
cls_similarity   cosine of patches with CLS (with the mean patch where there is none) after every block   b l h w
singular_cosine  |cosine| of patches after every block with the block's singular defect direction   b l h w
attention_spread   last block, patches to patches, mean over heads: entropy (nats), distance (patches), effective number,
                   support, share of attention on patches   b 5 h w
cls_attention  last block, CLS to patches, per head       b a h w
register_attention  last block, registers to patches, mean over heads; where the backbone has none, those an edit appends   b r h w
pixels         the view's own pixels per patch in 0..1 (channel-last p p 3)       b h w 3pp
flags          tokens where a defect was planted          b h w
A backbone without such directions or with hidden attention gives `singular_cosine` and `attention_spread` no rows (b 0 h w).

A task may read several at once, joined on channels: `patch+cls`. Short for such joins:
last4, quarters            four blocks through the final norm: the last ones, or one at the end of each quarter
last4_raw, quarters_raw    the same before it
cls_quarters, cls_quarters_raw    the CLS of those blocks
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vitbench.errors import UsageError

GRID_FIELDS = ("patch", "patch_raw", "block", "normed", "query", "key", "value", "patch_embed")
CLS_FIELDS = ("cls", "cls_block", "cls_normed")
SUMMARIES = ("cls_similarity", "singular_cosine", "attention_spread")
OTHER_FIELDS = (
    *CLS_FIELDS, "registers", "norms", *SUMMARIES, "cls_attention", "register_attention", "pixels", "flags",
)  # fmt: skip
# What a backbone's blocks let be seen: all of it, what any module shows, or there are none.
Blocks = Literal["open", "hidden", "none"]
NO_ATTENTION, NO_DIRECTIONS = "no attention that can be read", "no singular defect directions"
NO_FINAL_NORM = "no final norm that is known"
_OF_BLOCKS = ("block", "normed", "cls_block", "cls_normed")  # these name a block, always
_PATTERN = re.compile(r"^(?:(query|key|value)_(-?\d+)|(block|normed|cls_block|cls_normed)_(-?\d+|q[1-4]))$")
_LAST = {"block": "patch_raw", "normed": "patch", "cls_normed": "cls"}
_FOURS = {"last4": ("-4", "-3", "-2", "-1"), "quarters": ("q1", "q2", "q3", "q4")}
_JOINS = {
    **{f"{name}{end}": (kind, at) for name, at in _FOURS.items() for end, kind in (("", "normed"), ("_raw", "block"))},
    "cls_quarters": ("cls_normed", _FOURS["quarters"]),
    "cls_quarters_raw": ("cls_block", _FOURS["quarters"]),
}


@dataclass(frozen=True)
class Field:
    """A parsed field name: its kind, and the block it is of (None: the last), or the quarter (1 to 4) whose end that is."""

    kind: str
    block: int | None = None
    quarter: int | None = None

    def at(self, depth: int) -> int:
        """The block (0-based) in a backbone of that depth. Raises UsageError where it has no such block."""
        if self.quarter is not None:
            return quarter_blocks(depth)[self.quarter - 1]
        block = depth - 1 if self.block is None else self.block
        if not -depth <= block < depth:
            raise UsageError(f"it has {depth} blocks, none of them is block {block}")
        return block % depth


def parse_field(name: str) -> Field:
    """Field of a name; raises UsageError for a name outside the grammar."""
    if match := _PATTERN.match(name):
        kind, block = match[1] or match[3], match[2] or match[4]
        return Field(kind, quarter=int(block[1])) if block.startswith("q") else Field(kind, int(block))
    if name in GRID_FIELDS + OTHER_FIELDS and name not in _OF_BLOCKS:
        return Field(name)
    raise UsageError(f"unknown token field {name!r}", f"{', '.join(GRID_FIELDS + OTHER_FIELDS)} (block_3, key_3, ...)")


def joined_fields(name: str) -> tuple[str, ...]:
    """The single fields that a name stands for: itself, or the parts of a join in order. Raises UsageError as `parse_field`."""
    parts: list[str] = []
    for part in name.split("+"):
        kind, blocks = _JOINS.get(part, ("", ()))
        parts += [f"{kind}_{block}" for block in blocks] or [part]
    for part in parts:
        parse_field(part)
    # One name for one thing, so that passes are shared.
    return tuple(_LAST[part[:-3]] if part.endswith(("_-1", "_q4")) and part[:-3] in _LAST else part for part in parts)


def quarter_blocks(depth: int) -> tuple[int, ...]:
    """The blocks (0-based) at the end of each quarter: those DINOv2 reads for `lin4` depth, 4 instead of 5 of 24 included."""
    if depth == 24:
        return 4, 11, 17, 23
    return tuple(max(-(-depth * i // 4) - 1, 0) for i in (1, 2, 3, 4))


def acts_on(kinds: tuple[str, ...], name: str) -> bool:
    """Whether a repair that acts on these kinds of fields changes the field."""
    kind = parse_field(name).kind
    same = {"normed": "block", "cls_block": "cls", "cls_normed": "cls"}.get(kind, kind)
    return kind in kinds or same in kinds or ("*" in kinds and kind not in ("pixels", "flags"))


def absent(name: str, cls_tokens: int, registers: int, blocks: Blocks = "open") -> str:
    """Why a backbone with that many CLS and register tokens has no such single field; empty where it may have it."""
    kind = parse_field(name).kind
    if blocks != "open" and kind in ("cls_attention", "register_attention", "attention_spread"):
        return NO_ATTENTION
    if blocks != "open" and kind == "singular_cosine":
        return NO_DIRECTIONS
    if blocks == "hidden" and kind in ("normed", "cls_normed"):
        return NO_FINAL_NORM
    if kind == "cls_attention" and not cls_tokens:
        return "no CLS token"
    if kind == "register_attention" and not registers:
        return "no register tokens"
    return ""


def stored_dtype(name: str) -> str:
    """How the token store keeps a field: q/k/v in float32 (LOST counts signs), pixels in uint8, others in float16."""
    kind = parse_field(name).kind
    if kind in ("query", "key", "value", "norms", *SUMMARIES):
        return "float32"
    return {"pixels": "uint8", "flags": "bool"}.get(kind, "float16")
