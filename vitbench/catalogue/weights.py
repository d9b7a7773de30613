"""Which weights a backbone name means and whether they are here: what planning must know before torch is imported.

A name is a card's name (with parameters in brackets where it has any), `timm:ID` for any timm ViT, or either with
`@STEP` where `--weights NAME@STEP=FILE` names one checkpoint of a series.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitbench import paths
from vitbench.catalogue import BACKBONES, hub
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.families import POSITION_RULES, TIMM_ENTRY, PositionParams
from vitbench.errors import UsageError, WeightsError
from vitbench.identity import digest
from vitbench.selection import Term, overrides, parse_term, with_params


@dataclass(frozen=True)
class WeightsState:
    """Whether a backbone can run here, and what identifies its weights.

    digest: 16 hex of a file's sha256, of a control's parameters, or the hub revision; empty until downloaded.
    loader: who reads them, part of the identity. path: the file, if there is one. reason, remedy: why not, what to do.
    """

    status: Literal["ready", "download", "unavailable"]
    loader: str
    digest: str = ""
    path: str = ""
    reason: str = ""
    remedy: str = ""


def describe_backbone(
    name: str, weights: Mapping[str, str] | None = None, offline: bool = False
) -> tuple[BackboneCard, WeightsState]:
    """The card behind a backbone name and the state of its weights. Raises UsageError for a name that means nothing."""
    weights = weights or {}
    term = parse_term(name)
    base, at, _step = term.name.partition("@")
    if at and term.name not in weights:
        raise UsageError(f"no weights for checkpoint {name!r}", f"pass --weights {term.name}=FILE")
    card = backbone_card(Term(base, term.params))
    if at:
        card = replace(card, name=name)
    # Weights go by the name without parameters, too: it is the same file.
    given = next((weights[known] for known in (name, card.name, term.name) if known in weights), "")
    return card, _state(card, given, offline or hub.set_offline())


def _state(card: BackboneCard, given: str, offline: bool) -> WeightsState:
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UsageError(f"weights of {card.name!r}: there is no file {given}", "check the path in --weights")
        return WeightsState("ready", "file", file_digest(path), str(path))
    kind, _, shipped = card.weights.partition(":")
    if kind == "none":
        return WeightsState("ready", "none", digest([card.weights, card.name]))
    if kind == "file":
        path = paths.PACKAGE / "backbones" / "weights" / f"{shipped}.safetensors"
        if path.is_file():
            return WeightsState("ready", "shipped", file_digest(path), str(path))
        reason = f"the weights of {card.name!r} are not in this installation ({path.name})"
        return WeightsState("unavailable", "shipped", reason=reason, remedy="install the released package again")
    if kind == "given":
        reason = f"the weights of {card.name!r} are neither shipped nor on timm's hub"
        return WeightsState(
            "unavailable", "file", reason=reason, remedy=f"get {shipped}, pass --weights {card.name}=FILE"
        )
    repo = hub_repository(card)
    if snapshot := hub.cached(repo):
        return WeightsState("ready", "timm", snapshot.revision[:16], str(snapshot.file))
    reason = f"the weights of {card.name!r} are not on this machine"
    status: Literal["download", "unavailable"] = "unavailable" if offline else "download"
    return WeightsState(status, "timm", reason=reason, remedy=hub.remedy(repo, card.name.partition("[")[0]))


def hub_repository(card: BackboneCard) -> str:
    """The hub repository of a card's weights: timm's mirror, or the one that the card names."""
    return str(card.options.get("hub", f"timm/{card.timm_id}"))


def fetch_weights(card: BackboneCard) -> WeightsState:
    """Download the weights of a hub card. Raises UnavailableError, within seconds where there is no network."""
    snapshot = hub.fetch(hub_repository(card))
    return WeightsState("ready", "timm", snapshot.revision[:16], str(snapshot.file))


def backbone_card(term: Term) -> BackboneCard:
    """The card of a name (`timm:ID` for any timm ViT) with its parameters put in. Raises UsageError for what is none."""
    timm_id = term.name.removeprefix("timm:")
    card = BACKBONES.get(term.name) if timm_id == term.name else timm_card(timm_id)
    if not term.params:
        return card
    if "params" not in card.options:
        if any(key == "position" for key, _ in term.params):
            raise UsageError(f"backbone {term.name!r} has no learned positions to resample", f"it has {card.position}")
        raise UsageError(f"backbone {term.name!r} takes no parameters")
    default = card.options["params"]
    params = with_params(default, term, "backbone")
    changed = overrides(default, params)
    name, options = str(Term(card.name, changed)), {**card.options, "params": params}
    if isinstance(params, PositionParams):
        position = re.sub(f"{POSITION_RULES['timm']}( \\([^)]*\\))?", POSITION_RULES[params.position], card.position)
        # The twin follows the same rule, so that registers are all it differs in.
        twin = card.register_twin and str(Term(card.register_twin, changed))
        return replace(card, name=name, options=options, position=position, register_twin=twin) if changed else card
    if params.patch_px < 1:
        raise UsageError(f"backbone {term.name!r}: patch_px={params.patch_px} is not a size in pixels")
    return replace(card, name=name, patch_px=params.patch_px, options=options)


def timm_card(timm_id: str) -> BackboneCard:
    """A card for any timm id. Known ids keep their card's facts; of others only the patch size is known yet."""
    if not timm_id:
        raise UsageError("'timm:' needs a model id", "timm:vit_small_patch14_dinov2.lvd142m")
    for card in BACKBONES:
        if card.timm_id == timm_id:
            return replace(card, name=f"timm:{timm_id}")
    return BackboneCard(
        name=f"timm:{timm_id}",
        entry=TIMM_ENTRY,
        family="timm",
        kind="model",
        patch_px=_patch_px(timm_id),
        prefix_tokens=0,
        registers=0,
        embed_dim=0,
        depth=0,
        timm_id=timm_id,
        position=POSITION_RULES["timm"],
        options={"params": PositionParams()},
    )


def _patch_px(timm_id: str) -> int:
    if match := re.search(r"patch(\d+)", timm_id):
        return int(match[1])
    from vitbench.registry import resolve  # an id that does not say costs an import of timm

    return int(resolve("vitbench.backbones.timm:patch_px_of")(timm_id))


def file_digest(path: Path) -> str:
    """16 hex of a file's sha256, remembered by path, size and time of change so that planning stays fast."""
    try:
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        known = _known_digests()
        if key not in known:
            with path.open("rb") as stream:
                known[key] = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
            _remember(known)
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {error.strerror}") from error
    return known[key]


def _digests_file() -> Path:
    return paths.cache_dir() / "digests.json"


def _known_digests() -> dict[str, str]:
    try:
        known = json.loads(_digests_file().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: dict[str, str]) -> None:
    # Only a shortcut: where the cache cannot be written the digest is computed again next time.
    with contextlib.suppress(OSError):
        file = _digests_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix="digests")
        with os.fdopen(handle, "w") as stream:
            json.dump(known, stream)
        Path(temporary).replace(file)
