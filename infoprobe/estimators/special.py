"""Special functions of plain numbers."""

from __future__ import annotations

import torch


def digamma(x: float) -> float:
    r""":math:`\psi(x)`, the derivative of :math:`\ln \Gamma`."""
    return float(torch.special.digamma(torch.tensor(x, dtype=torch.float64, device="cpu")))
