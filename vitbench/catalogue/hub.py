"""The Hugging Face hub as seen from here: what its cache holds, whether it answers, fetching one file. No torch.

The client itself retries a dead network for half a minute per file; here a hub that does not answer in five seconds
is not there.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitbench.errors import UnavailableError

ANSWER_SECONDS = 5.0
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class Snapshot(NamedTuple):
    """A weights file of a repository in the cache, and the revision it is of."""

    revision: str
    file: Path


def hub_cache() -> Path:
    """Where the hub's client keeps files, by its own environment variables."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache)
    general = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "huggingface"
    return Path(os.environ.get("HF_HOME", general)) / "hub"


def set_offline() -> bool:
    """Whether the environment forbids the hub (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cached(repo: str, names: Sequence[str] = WEIGHT_FILES) -> Snapshot | None:
    """The weights of `owner/name` at the revision that `main` pointed to when they were fetched, if they are here."""
    root = hub_cache() / f"models--{repo.replace('/', '--')}"
    ref = root / "refs" / "main"
    if not ref.is_file():
        return None
    revision = ref.read_text().strip()
    for name in names:
        file = root / "snapshots" / revision / name
        if file.is_file():
            return Snapshot(revision, file)
    return None


def reachable(seconds: float = ANSWER_SECONDS) -> bool:
    """Whether the hub answers at all; any HTTP status is an answer. Honours proxies and `HF_ENDPOINT`."""
    answered = threading.Event()
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            pass
        finally:
            done.set()

    done = threading.Event()  # a name lookup obeys no time limit, so the wait is ours
    threading.Thread(target=ask, daemon=True).start()
    done.wait(seconds)
    return answered.is_set()


def fetch(repo: str, names: Sequence[str] = WEIGHT_FILES) -> Snapshot:
    """Download the weights of a repository into the hub's cache. Raises UnavailableError with the reason."""
    if not reachable():
        raise UnavailableError(f"the hub does not answer, and {repo} is not in its cache", remedy(repo))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    for name in names:
        try:
            hf_hub_download(repo, name, etag_timeout=ANSWER_SECONDS)
        except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
            continue
        if snapshot := cached(repo, names):
            return snapshot
        reason = "the file was fetched but is not in the cache"
    raise UnavailableError(f"{repo} could not be downloaded ({reason})", remedy(repo))


def remedy(repo: str, name: str = "NAME") -> str:
    """What a person can do about weights that are not here."""
    return f"pass --weights {name}=FILE, or run `hf download {repo}` where there is a network"
