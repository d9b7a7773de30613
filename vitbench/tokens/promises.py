"""What all contract tests share: the error of a broken promise, a finding, comparing tensors, and running a list of checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vitbench.errors import NotApplicableError, UnavailableError, VitbenchError, in_a_line

S = TypeVar("S")
TOLERANCE = 1e-5


class ContractError(VitbenchError):
    """A plug-in that breaks one of the promises of its kind."""

    exit_code = 1


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `problem` is empty where the promise is kept."""

    check: str
    problem: str = ""


def findings(checks: Mapping[str, Callable[[S], None]], subject: Callable[[], S]) -> list[Finding]:
    """Every check on what `subject` gives it. Whatever it raises is a finding too, save that it cannot be run here."""
    found = []
    for name, check in checks.items():
        try:
            check(subject())
        except (NotApplicableError, UnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - somebody's own code: what it raises is what is wrong with it
            found.append(Finding(name, in_a_line(error)))
        else:
            found.append(Finding(name))
    return found


def same(a: Tensor, b: Tensor, problem: str, tolerance: float = TOLERANCE) -> None:
    """Raises ContractError with the problem where two tensors differ."""
    if a.shape != b.shape:
        raise ContractError(f"{problem}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
        raise ContractError(f"{problem}: largest difference {float((a.double() - b.double()).abs().max()):.3g}")


def alike(a: Tensor, b: Tensor, problem: str, share: float) -> None:
    """Raises ContractError with the problem where two tensors differ by more than a share of their length."""
    if a.shape != b.shape:
        raise ContractError(f"{problem}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    apart = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-12))
    if not apart <= share:
        raise ContractError(f"{problem}: they are {apart:.2g} of their length apart, more than {share:g}")
