"""vitbench: one honest leaderboard for dense representations of Vision Transformers."""

from __future__ import annotations

__version__ = "0.1.0"
