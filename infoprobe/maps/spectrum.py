"""How a map stretches the surroundings of samples: the singular values of its Jacobian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from infoprobe.arrays import ArrayLike
from infoprobe.maps.passage import Map, Passage, undisturbed
from infoprobe.progress import showing


class JacobianSpectrum(NamedTuple):
    """How a map stretches the surroundings of samples along its inputs.

    Attributes:
        singular_values: The singular values of each sample's Jacobian, in descending order,
            (n, d) float64.
        rank: The number of singular values that rounding does not explain, (n,) int64; below d,
            some directions of the input have collapsed.
        log_volume: The sum of their logarithms in nats, (n,) float64; minus infinity if the rank
            is below d.
    """

    singular_values: Tensor
    rank: Tensor
    log_volume: Tensor


def jacobian_spectrum(
    module: Map,
    x: ArrayLike | Sequence[Tensor],
    *,
    c: Tensor | Sequence[Tensor] | None = None,
    rev: bool = False,
    batch_size: int = 256,
    progress: bool = False,
) -> JacobianSpectrum:
    r"""Computes the singular values of a map's Jacobian at samples.

    For a decoder at codes, they tell how far the output moves along the directions of the code,
    and the rank tells how many directions count: collapsed ones do not move the output at all.
    They are computed by autograd, with one pass for each input.

    Arguments:
        module: The map or function, such as ``decoder`` or ``lambda z: inn(pad(z), rev=True)[0]``.
        x: Samples of its input, such as codes: (n, ...) with d numbers each, at most 3,072.
        c: The condition, or a tuple of conditions, as in :func:`entropy_change`.
        rev: Whether the module runs backwards.
        batch_size: The number of samples that go through at a time, as in
            :func:`entropy_change`.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.

    Returns:
        ``(singular_values, rank, log_volume)``.

    Bias and limits:
        Singular values below 4 eps of the root sum of their squares, with the eps of the module's
        precision, cannot be told from rounding, and do not count for the rank.

    Raises:
        TypeError, ValueError: As in :func:`entropy_change`, but the map may have fewer outputs
            than inputs.

    Example:
        >>> decoder = lambda z: torch.stack([3 * z[:, 0], 0 * z[:, 1], z[:, 0]], 1)
        >>> ip.jacobian_spectrum(decoder, torch.ones(5, 2)).rank
        tensor([1, 1, 1, 1, 1])
    """
    passage = Passage.of(module, x, c, rev, batch_size)
    with showing(progress), undisturbed(passage):
        passage.check_independence()
        found = passage.spectra()
    return JacobianSpectrum(found.singular_values, found.rank, found.log_volume)
