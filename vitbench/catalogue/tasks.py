"""Cards of the tasks, each with its protocols: frozen, versioned settings."""

from __future__ import annotations

from vitbench.catalogue.cards import TaskCard

TASK_CARDS: tuple[TaskCard, ...] = ()
