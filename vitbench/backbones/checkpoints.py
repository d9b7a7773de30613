"""Reading weights files safely, and loading them into a module with errors that say what the file looks like.

Safetensors, or torch's own files with weights only: a pickle that wants to run code is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import struct
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitbench.backbones.layouts import at_root, optional, rekeyed
from vitbench.errors import WeightsError

# What training scripts wrap a state in, the wanted one first: averaged weights before the raw ones.
_NESTED = ("teacher", "model_ema", "state_dict_ema", "model", "state_dict", "student", "module")
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1152: "so400m", 1280: "huge", 1536: "giant"}
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, struct.error)


def load_weights(
    module: nn.Module, path: Path, name: str, drops: re.Pattern[str] | None = None, keeps: Collection[str] = ()
) -> None:
    """Put a weights file of any known layout into a timm ViT, every tensor of it or none.

    `name` is the backbone's, for messages. drops: further keys of the file that an encoder does not have; keeps: what the
    module has of its own where the file has nothing. Raises WeightsError: unreadable, unsafe, or of another architecture.
    """
    state = at_root(read_state(path))
    if state is None:
        raise WeightsError(
            f"weights {path} hold no ViT in a layout that is known", "timm, DINO, DINOv2 or Hugging Face"
        )
    state = {key: value for key, value in rekeyed(state, module).items() if drops is None or not drops.search(key)}
    own = module.state_dict()
    if problem := _first_problem(state, own, keeps):
        raise WeightsError(
            f"weights {path} do not fit {name!r}: {problem}; the file looks like {looks_like(state)}",
            f"{name!r} is {looks_like(own)}",
        )
    module.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by key, unwrapped from what training scripts put around them. Raises WeightsError."""
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    while nested := next((found[k] for k in _NESTED if isinstance(found.get(k), Mapping)), None):
        found = nested
    state = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"weights {path} hold no tensors by name", "pass a state dict")
    return state


def looks_like(state: Mapping[str, Tensor]) -> str:
    """What a state in timm's layout is of, in words: "vit_small, embed_dim 384, depth 12, patch 14, 4 registers"."""
    projection = state["patch_embed.proj.weight"]
    blocks = {int(m[1]) for key in state if (m := re.match(r"blocks\.(\d+)\.", key))}
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    width = projection.shape[0]
    facts = [f"vit_{_SIZES[width]}"] if width in _SIZES else []
    facts += [f"embed_dim {width}", f"depth {max(blocks, default=-1) + 1}", f"patch {projection.shape[-1]}"]
    return ", ".join([*facts, f"{registers} registers"] if registers else facts)


def state_digest(module: nn.Module) -> str:
    """16 hex of the sha256 of a module's tensors, names, shapes and dtypes included."""
    sha = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        sha.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _first_problem(state: Mapping[str, Tensor], own: Mapping[str, Tensor], keeps: Collection[str]) -> str:
    for key, value in state.items():
        if key in own and own[key].shape != value.shape:
            return f"{key!r} is {tuple(value.shape)} instead of {tuple(own[key].shape)}"
    for key in own:
        if key not in state and key not in keeps and not optional(key):
            return f"{key!r} is missing"
    return next((f"{key!r} is not part of the model" for key in state if key not in own), "")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = load_file(path)
    except (SafetensorError, *_DAMAGED) as error:
        raise WeightsError(
            f"weights {path} are truncated or not safetensors ({error})", "fetch the file again"
        ) from error
    return content


def _read_torch(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as stream:
        start = stream.read(2)
    if start != b"PK" and start[:1] != b"\x80":  # neither a zip nor a pickle: torch would say that it wants to run code
        raise WeightsError(
            f"weights {path} are truncated or not a torch file", "name a .safetensors, .pth or .bin file"
        )
    try:
        # DINO and MAE keep their command line beside the weights; a Namespace only holds attributes.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle's protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wants = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WeightsError(
            f"weights {path} want to run code when read{f' ({wants[1]})' if wants else ''}: refused",
            "save the state dict alone, best as safetensors",
        ) from error
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"weights {path} are truncated or not a torch file ({reason})", "fetch it again") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"weights {path} hold a {type(content).__name__}, not a state dict", "pass a state dict")
    return content
