r"""The matrix-based entropy of the tokens of each sequence, under a linear kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.sequences.outcomes import Outcomes, lengths_of, sequences_at_once

# Eigenvalues below the rounding of float64 count as zero.
_ROUNDING = torch.finfo(torch.float64).eps


def matrix_entropies(x: Tensor, mask: Tensor | None, alpha: float) -> Outcomes:
    r"""The entropy of order :math:`\alpha` of the token matrix of each sequence, in nats.

    With the eigenvalues :math:`\lambda_i` of :math:`Z Z^\top / \operatorname{tr} Z Z^\top`, where
    Z has the tokens of a sequence as its rows, it is
    :math:`\frac{1}{1 - \alpha} \ln \sum_i \lambda_i^\alpha`, and :math:`-\sum_i \lambda_i \ln
    \lambda_i` for :math:`\alpha = 1`. The matrix :math:`Z^\top Z` has the same eigenvalues apart
    from zeros, so the smaller of the two is taken. All is computed in float64. Nothing waits for
    a device, apart from what its eigenvalue solver does.

    Arguments:
        x: Sequences of tokens, (n, t, d).
        mask: Which tokens count, (n, t), bool; ``None`` if all do. Others change nothing,
            whatever they hold.
        alpha: The order.
    """
    size = sequences_at_once(x)
    parts = [
        _entropies(x[i : i + size], None if mask is None else mask[i : i + size], alpha)
        for i in range(0, len(x), size)
    ]
    return Outcomes(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _entropies(x: Tensor, mask: Tensor | None, alpha: float) -> Outcomes:
    tokens = x.to(torch.float64)
    if mask is not None:
        tokens = tokens.masked_fill(~mask.unsqueeze(-1), 0.0)
    t, d = tokens.shape[1:]
    gram = tokens @ tokens.mT if t <= d else tokens.mT @ tokens
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    finite, empty = trace.isfinite(), trace == 0
    usable = finite & ~empty
    # Solvers raise at NaN, which must not stop anybody's forward pass.
    scaled = torch.where(
        usable[:, None, None], gram / torch.where(usable, trace, 1.0)[:, None, None], 0.0
    )
    few = lengths_of(x, mask) < 2
    return Outcomes.of(spectral_entropy(scaled, alpha), few=few, empty=empty, not_finite=~finite)


def spectral_entropy(matrices: Tensor, alpha: float) -> Tensor:
    r"""The entropies of order :math:`\alpha` of symmetric matrices of trace 1, in nats.

    Arguments:
        matrices: (..., k, k), float64, without negative eigenvalues but for rounding. A matrix
            of zeros has no entropy; what comes out for it is not finite.
        alpha: The order; the matrix's eigenvalues are not needed for 2.
    """
    if alpha == 2:
        return -matrices.square().sum((-2, -1)).log()
    spectrum: Tensor = torch.linalg.eigvalsh(matrices)
    there = spectrum > _ROUNDING
    # As in MatrixRenyi: relative to the largest, which is accurate for orders near 1.
    largest = spectrum[..., -1:].detach().log()
    logs = torch.where(there, spectrum, spectrum[..., -1:].detach()).log() - largest
    weights = torch.where(there, spectrum, 0.0)
    if alpha == 1:
        return -largest.squeeze(-1) - (weights * logs).sum(-1)
    excess = (weights * torch.expm1((alpha - 1) * logs)).sum(-1)
    return -largest.squeeze(-1) - excess.log1p() / (alpha - 1)


def entropy_of_samples(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    r"""The entropy of order :math:`\alpha` of samples under a linear kernel, and its error.

    The error is that of the infinitesimal jackknife (Efron, 1982): the root of
    :math:`\frac{1}{n (n - 1)} \sum_i U_i^2` with the derivatives :math:`U_i` of the entropy with
    respect to the samples' weights, times n.

    Arguments:
        x: Samples, (n, d).
        alpha: The order.

    Returns:
        Both in nats, 0-dim float64.

    Raises:
        ValueError: All samples are zero.
    """
    n = len(x)
    samples = x.to(torch.float64)
    squares = samples.square().sum(1)
    if not bool(squares.any()):
        raise ArgumentValueError(
            "x", f"expected samples that are not zero, got {n:,} that are. Choose another layer."
        )
    with torch.enable_grad():
        weights = torch.ones(n, dtype=torch.float64, device=x.device, requires_grad=True)
        rows = weights.sqrt().unsqueeze(1) * samples
        matrix = rows @ rows.T if n <= x.shape[1] else rows.T @ rows
        value = spectral_entropy(matrix / (weights * squares).sum(), alpha)
        (influence,) = torch.autograd.grad(value, weights)
    noise = n * (influence - influence.mean())
    return value.detach(), (noise.square().sum() / (n * (n - 1))).sqrt()
