"""Whether a measure is larger than chance: tests by permutation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.arguments import ARGUMENTS, MUTUAL_INFORMATION, TOTAL_CORRELATION
from infoprobe.progress import progress_bar, showing
from infoprobe.trust.choose import Measure, measure_of
from infoprobe.trust.confidence import scalar_of


class PermutationTest(NamedTuple):
    """The result of a test by permutation.

    Attributes:
        value: The estimate from the samples as they are, 0-dim float64, as the measure gives it.
        p_value: The probability of an estimate at least as large if there were nothing to find.
        null: The estimates from permuted samples, (permutations,), float64. Their mean is what
            the estimator finds where there is nothing.
    """

    value: Tensor
    p_value: float
    null: Tensor


def permutation_test(
    measure: Measure,
    *tensors: ArrayLike,
    permutations: int = 199,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> PermutationTest:
    r"""Tests whether a dependence or a difference is more than chance, with any estimator.

    .. math:: p = \frac{1 + \#\{\hat\theta_i \ge \hat\theta\}}{1 + B}

    with the estimates :math:`\hat\theta_i` from B permutations that destroy what is looked for:
    of mutual information, the samples of ``y`` are exchanged; of the total correlation, those of
    each feature by themselves; of a divergence, both samples are pooled and divided anew.

    The test holds whatever the bias of the estimator, since permuted samples have it, too.

    Arguments:
        measure: A method such as ``ip.KNN().mutual_information``, the name of a measure, such as
            ``"mutual_information"``, for the estimator that :func:`infoprobe.choose` chooses, or
            any other function of two tensors of pairs.
        tensors: Its arguments, each (n, ...).
        permutations: The number B; the least p-value is 1 / (B + 1).
        generator: Draws the permutations; ``None`` for one that starts from seed 0. Torch's
            global generator is not used.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.

    Limits:
        Samples must be exchangeable: successive samples of a time series are not, and the test
        then finds dependence where there is none. Plain functions such as
        ``ip.mutual_information`` choose an estimator for each permutation anew, a name chooses
        one for all. Conditional mutual information cannot be tested in this way, since exchanging
        the samples of one variable also changes how it depends on the condition.

    Raises:
        TypeError: ``measure`` is neither a function nor a name, is not one of these measures, or
            has other arguments. Other errors are raised by the measure.
        ValueError: There is no measure of this name.

    References:
        B. Phipson & G. Smyth (2010). Permutation p-values should never be zero. Stat. Appl. Genet.
        Mol. Biol. 9(1), 39.

    Example:
        >>> x, noise = torch.randn(2, 300, 1, generator=torch.Generator().manual_seed(0))
        >>> ip.permutation_test(ip.KNN().mutual_information, x, x + noise).p_value
        0.005
    """
    estimate = measure_of(measure, tensors, "ip.KNN().mutual_information")
    permutations = checks.require_integer(permutations, 1, None, "permutations")
    checks.require_generator(generator, "generator")
    samples = [checks.as_tensor(x, f"tensors[{i}]") for i, x in enumerate(tensors)]
    shuffle = _shuffling(estimate, samples)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    found = []
    with torch.no_grad(), showing(progress):
        value = scalar_of(estimate(*samples))
        with progress_bar(permutations, "permutations", unit="estimate") as bar:
            for _ in range(permutations):
                found.append(scalar_of(estimate(*shuffle(samples, generator))).to(value.device))
                bar.update()
    null = torch.stack(found)
    exceeding = int((null >= value).sum())
    return PermutationTest(value, (1 + exceeding) / (1 + permutations), null)


Shuffle = Callable[[Sequence[Tensor], torch.Generator], list[Tensor]]


def _shuffling(measure: Callable[..., Tensor], samples: Sequence[Tensor]) -> Shuffle:
    """How samples are permuted for a measure."""
    while isinstance(measure, functools.partial):
        measure = measure.func
    name = getattr(measure, "__name__", "")
    arguments = ARGUMENTS.get(name, MUTUAL_INFORMATION)
    if arguments.of_pairs and len(arguments.names) > 2:
        raise ArgumentTypeError(
            "measure",
            f"expected mutual information, total correlation or a divergence, got {name}: "
            "exchanging samples of one variable would also change how it depends on the "
            "condition. Test the information of x and (y, z) against that of x and z.",
        )
    if len(arguments.names) == 1 and arguments is not TOTAL_CORRELATION:
        raise ArgumentTypeError(
            "measure",
            f"expected mutual information, total correlation or a divergence, got {name}, which "
            "no permutation changes.",
        )
    if len(samples) != len(arguments.names):
        raise ArgumentTypeError(
            "tensors",
            f"expected the arguments {arguments.all_names} of the measure, got {len(samples)}.",
        )
    named = dict(zip(arguments.names, samples, strict=True))
    for key, x in named.items():
        if checks.length(x) < 2:
            raise ArgumentValueError(
                key,
                "expected at least 2 samples along the first axis, got shape "
                f"{tuple(x.shape)}. Pass more.",
            )
    if arguments is TOTAL_CORRELATION:
        return _each_feature
    if arguments.independent:
        return _both_together
    checks.require_same_length(**named)
    return _second_alone


def _second_alone(samples: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    first, second = samples
    return [first, second[_order(len(second), second, generator)]]


def _each_feature(samples: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    (x,) = (sample.flatten(1) for sample in samples)
    columns = [column[_order(len(x), x, generator)] for column in x.unbind(1)]
    return [torch.stack(columns, 1)]


def _both_together(samples: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    p, q = samples
    both = torch.cat([p, q.to(p.device)])
    both = both[_order(len(both), both, generator)]
    return [both[: len(p)], both[len(p) :].to(q.device)]


def _order(n: int, x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device=generator.device).to(x.device)
