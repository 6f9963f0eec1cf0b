"""Jacobians of maps, sample by sample, and their singular values."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The largest number of inputs for which a Jacobian is taken. A float64 matrix of this size has
# 75 MB, and its singular values take some seconds.
LARGEST = 3072

# Numbers in the Jacobians that are held at a time: 128 MB of float64.
_HELD = 2**24

# Autograd is compared with differences of the outputs over this fraction of the way to another
# sample, and may differ from them by this share: outputs may be curved, have kinks, or come from
# an iteration.
_STEP, _ROUGH = 1e-3, 0.1


class Spectra(NamedTuple):
    """The singular values of Jacobians, for n samples of a map from d to D numbers.

    Attributes:
        singular_values: The singular values of each Jacobian in descending order, (n, d) float64;
            zeros where D < d.
        rank: The number of singular values that rounding does not explain, (n,) int64.
        log_volume: The sum of their logarithms in nats, (n,) float64, which is log|det J| if
            D = d; minus infinity if the rank is below d.
        rounding: The distance in nats by which rounding in the map's own precision may move that
            sum, (n,) float64.
    """

    singular_values: Tensor
    rank: Tensor
    log_volume: Tensor
    rounding: Tensor


def slice_length(inputs: int, outputs: int, rows: int) -> int:
    """The number of samples whose Jacobians to take at a time, at most ``rows``."""
    return max(1, min(rows, _HELD // (inputs * outputs)))


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """The Jacobian of each sample's output with respect to its own input.

    It is taken by forward-mode differentiation along each input, or, where an operation has no
    forward mode, by reverse mode from each output.

    Arguments:
        function: Maps (n, d) to (n, D), each sample on its own.
        x: The samples, (n, d).
        rows: The number of samples that the function may work on at a time; each direction in
            which a sample is differentiated counts as a sample.

    Returns:
        The matrices, (n, D, d).

    Warns:
        UserWarning: Something in the function hides its derivative from autograd.
    """
    try:
        with torch.no_grad():  # no graph of the parameters
            matrices = _by_directions(function, x, rows)
    except RuntimeError:  # no forward mode, or no batching, for some operation in there
        matrices = _by_outputs(function, x)
    _compare_with_differences(function, x, matrices)
    return matrices


def _compare_with_differences(
    function: Callable[[Tensor], Tensor], x: Tensor, matrices: Tensor
) -> None:
    """Warns if Jacobians do not tell how the outputs change towards the other samples."""
    with torch.no_grad():
        # Steps towards other samples stay in their convex hull, where the function is defined.
        target = x.roll(1, 0) if len(x) > 1 else x.mean()
        step = _STEP * (target - x)
        before, after = function(x).double(), function(x + step).double()
        change = after - before
        told = (matrices.double() @ step.double().unsqueeze(2)).squeeze(2)
        noise = 16 * torch.finfo(matrices.dtype).eps * before.norm()
        off = (told - change).norm() - noise
        if off > _ROUGH * change.norm():
            warnings.warn(
                "module: over a small step, the change of the outputs differs from what "
                f"autograd's Jacobians predict by {float(off / change.norm()):.0%}. So the "
                "Jacobians are wrong, unless the map is very rough. Take out whatever detaches, "
                "rounds, runs under no_grad, or iterates towards a solution.",
                stacklevel=2,
            )


def _by_directions(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """Jacobians by forward mode, along each input."""

    def along(direction: Tensor) -> Tensor:
        tangent = direction.expand_as(x).clone()
        derivative: Tensor = torch.func.jvp(function, (x,), (tangent,))[1]
        return derivative

    _load_forward_mode()
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    chunk = max(1, rows // len(x))
    columns: Tensor = torch.func.vmap(along, chunk_size=chunk, randomness="same")(basis)
    return columns.permute(1, 2, 0)


@functools.cache
def _load_forward_mode() -> None:
    """Uses forward mode once: some versions of torch then warn about code of their own."""
    zero = torch.zeros((), device="cpu")
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(zero, zero)  # type: ignore[no-untyped-call]


def _by_outputs(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Jacobians by reverse mode, from each output."""
    x = x.detach().requires_grad_()
    y = function(x)
    matrices = x.new_zeros(len(x), y.shape[1], x.shape[1], dtype=y.dtype)
    if y.requires_grad:
        for i, output in enumerate(y.sum(0)):
            (gradient,) = torch.autograd.grad(output, x, retain_graph=True, allow_unused=True)
            if gradient is not None:
                matrices[:, i] = gradient
    return matrices


def spectra(matrices: Tensor) -> Spectra:
    r"""The singular values of matrices, and the volumes that their columns span.

    .. math:: \tfrac12 \ln \det J^\top J = \sum_i \ln \sigma_i

    which is :math:`\ln |\det J|` of square matrices. The singular values are those of J, since
    those of :math:`J^\top J` are their squares, of which float64 holds half as many digits.

    Arguments:
        matrices: The matrices, (n, D, d), in the precision in which they were computed.
    """
    n, outputs, d = matrices.shape
    eps = torch.finfo(matrices.dtype).eps
    matrices = matrices.double()
    values = torch.zeros(n, d, dtype=torch.float64, device=matrices.device)
    values[:, : min(outputs, d)] = torch.linalg.svdvals(matrices)
    # Independent relative errors of a matrix's entries change its singular values this much.
    noise = 4 * eps * torch.linalg.matrix_norm(matrices).unsqueeze(1)
    rank = (values > noise).sum(1)
    full = rank == d
    log_volume = torch.where(full, values.log().sum(1), -torch.inf)
    rounding = torch.where(full, (noise / values).square().sum(1).sqrt(), 0.0)
    return Spectra(values, rank, log_volume, rounding)
