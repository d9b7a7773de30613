"""Numbers of every protocol on a tiny fixed input. They may change only together with the protocol's version.

After raising a version: `python -m tests.tasks.protocol_numbers` from the root of the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitbench.catalogue.tasks import TASK_CARDS
from vitbench.metrics import measures

from .clip_streams import stream_for
from .live import as_live
from .streams import context, light

FILE = Path(__file__).with_name("protocol_golden.json")


def numbers() -> dict[str, dict[str, Any]]:
    """task@protocol -> version and every defined measure, with the frozen settings (less work where those are heavy)."""
    torch.set_num_threads(1)
    ctx = context(6, (2, 3, 4, 5), 4)
    out = {}
    for card in TASK_CARDS:
        train, val = stream_for(card, 16, "train", 7, noise=1.0), stream_for(card, 6, "val", 8, noise=1.0)
        for protocol in card.protocols:
            task = light(card, protocol.name).load()
            sources = (as_live(train), as_live(val)) if protocol.streams else (train, val)
            head = task.fit(sources[0], ctx) if "train" in card.splits else None
            rows = task.measure(head, sources[1], ctx)
            values = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(card.metric)}
            defined = {name: round(v, 5) for name, v in values.items() if np.isfinite(v)}
            out[f"{card.name}@{protocol.name}"] = {"version": protocol.version, "values": defined}
    return out


def update() -> None:
    """Write the file; numbers of a version that is already there stay as they are."""
    kept = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for name, found in numbers().items():
        if kept.get(name, {}).get("version") != found["version"]:
            kept[name] = found
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    update()
