"""One honest leaderboard for dense representations of Vision Transformers: any backbone x any repair x any dense task.

evaluate        measure a backbone by name, or a module in memory, and get a table
load_records    what `vitbench run` has measured, as a table
backbone, wrap  a backbone by name, or around a module of one's own: `.tokens(images, request, keys)`
register        make one's own repair, task, backbone, defect or data set known

The command line is `vitbench`. All of these are imported at first use, so that `import vitbench` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vitbench.api import evaluate
    from vitbench.backbones.load import load_backbone as backbone
    from vitbench.backbones.wrap import wrap
    from vitbench.plugins import register
    from vitbench.records.frames import load_records

_LAZY = {
    "evaluate": "vitbench.api:evaluate",
    "load_records": "vitbench.records.frames:load_records",
    "backbone": "vitbench.backbones.load:load_backbone",
    "wrap": "vitbench.backbones.wrap:wrap",
    "register": "vitbench.plugins:register",
    "register_repair": "vitbench.plugins:register",
    "register_task": "vitbench.plugins:register",
}

__all__ = ["__version__", "backbone", "evaluate", "load_records", "register", "wrap"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from vitbench.registry import resolve

        return resolve(_LAZY[name])
    raise AttributeError(f"module 'vitbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
