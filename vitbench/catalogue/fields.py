"""The grammar of token fields: one place that knows which names exist and what kind each is. No torch.

patch          last block after the final norm            b h w c
patch_raw      last block before it                       b h w c
block_3        after block 3, before the norm (negative counts from the end)   b h w c
query key value (of the last block; `key_3` of block 3), before scaling, heads re-joined   b h w c
patch_embed    patch projection before positions          b h w c
cls            CLS after the final norm (mean of patches where there is no CLS)   b c
registers      register tokens after the final norm       b r c
norms          L2 norm of patch tokens after every block, before the final norm   b l h w
cls_attention  last block, CLS to patches, per head       b a h w
register_attention  last block, registers to patches, mean over heads   b r h w
pixels         the view's own pixels per patch in 0..1 (channel-last p p 3)       b h w 3pp
flags          tokens where a defect was planted          b h w
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitbench.errors import UsageError

GRID_FIELDS = ("patch", "patch_raw", "block", "query", "key", "value", "patch_embed")
OTHER_FIELDS = ("cls", "registers", "norms", "cls_attention", "register_attention", "pixels", "flags")
_PATTERN = re.compile(r"^(block|query|key|value)_(-?\d+)$")


@dataclass(frozen=True)
class Field:
    """A parsed field name: its kind, and the block it is of (None: the last)."""

    kind: str
    block: int | None = None


def parse_field(name: str) -> Field:
    """Field of a name; raises UsageError for a name outside the grammar."""
    if match := _PATTERN.match(name):
        return Field(match[1], int(match[2]))
    if name in GRID_FIELDS + OTHER_FIELDS and name != "block":
        return Field(name)
    raise UsageError(f"unknown token field {name!r}", f"{', '.join(GRID_FIELDS + OTHER_FIELDS)} (block_3, key_3, ...)")


def acts_on(kinds: tuple[str, ...], name: str) -> bool:
    """Whether a repair that acts on these kinds of fields changes the field."""
    kind = parse_field(name).kind
    return kind in kinds or ("*" in kinds and kind not in ("norms", "pixels", "flags"))


def stored_dtype(name: str) -> str:
    """How the token store keeps a field: q/k/v in float32 (LOST counts signs), pixels in uint8, others in float16."""
    kind = parse_field(name).kind
    if kind in ("query", "key", "value", "norms"):
        return "float32"
    return {"pixels": "uint8", "flags": "bool"}.get(kind, "float16")
