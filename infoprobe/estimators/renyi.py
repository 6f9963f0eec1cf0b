r"""Matrix-based Rényi entropies: functionals of the spectrum of a kernel matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.arguments import ENTROPY, MUTUAL_INFORMATION, Arguments
from infoprobe.estimators.ceilings import near_ceiling
from infoprobe.estimators.estimator import Estimator
from infoprobe.findings import Finding

# How many groups of samples are left out in turn for a standard error: each costs an estimate.
_GROUPS = 10

# An n x n matrix of float64 is not made by accident: from here on it takes more than 8 GiB.
_MOST_SAMPLES = 1 << 15

# Squares below it have fewer digits than others, and the least have none.
_LEAST_SQUARE = torch.finfo(torch.float64).tiny / torch.finfo(torch.float64).eps

_RULES = ["median", "scott", "tapia"]

# The share of ln n from which an entropy tells of the kernel alone; one minus it at the other end.
_EXTREME = 0.95


@dataclass(frozen=True)
class MatrixRenyi(Estimator):
    r"""Matrix-based Rényi entropies of order :math:`\alpha`, without density estimation.

    From the samples :math:`x_1, \ldots, x_n \in \mathbb R^d` and a kernel width :math:`\sigma`,

    .. math::
        A_{ij} = \frac1n \exp\left(-\frac{\|x_i - x_j\|^2}{2 \sigma^2}\right), \qquad
        S_\alpha(A) = \frac{1}{1 - \alpha} \ln \operatorname{tr} A^\alpha
                    = \frac{1}{1 - \alpha} \ln \sum_i \lambda_i(A)^\alpha .

    The joint entropy of several variables is the entropy of the Hadamard product of their
    matrices, rescaled to trace 1. The limit :math:`\alpha = 1` is the von Neumann entropy
    :math:`-\sum_i \lambda_i \ln \lambda_i`.

    Samples lie along the first axis, and the rest is flattened to :math:`(n, d)`; integers count
    as the real numbers that they are. Classes are no points on a line: pass labels one-hot. All
    results are in nats, 0-dim float64 tensors on the device of the first argument, never clamped,
    and :math:`0 \le S_\alpha \le \ln n`. Memory is :math:`O(n^2)`, in float64. An entropy takes
    :math:`O(n^3 + n^2 d)` time; with ``alpha=2`` it needs no eigenvalues, only
    :math:`O(n^2 d)`.

    Results are differentiable (once), through the bandwidth too. Gradients are finite and exact
    also where eigenvalues or samples coincide; but for :math:`\alpha \le 1/2`, entropies have a
    cusp where samples coincide, and the gradient there leaves out the directions of the cusp.
    Where several pairs have the median distance, it is the mean of their gradients.

    Arguments:
        alpha: The order :math:`\alpha > 0`. Eigenvalues below the rounding of float64, 2.2e-16,
            count as 0. Orders far below 1 weigh the small eigenvalues most, and lose accuracy by
            it: about :math:`n \cdot 10^{-16 \alpha}` in :math:`\operatorname{tr} A^\alpha`.
        bandwidth: The kernel width :math:`\sigma`, of each variable by itself; see
            :meth:`kernel_width`.

            * ``"median"``: the median distance of the :math:`n (n - 1) / 2` pairs
              :math:`i < j`, the lower of the middle two where their number is even. Entropies do
              not change when the variable is scaled.
            * ``"scott"``: :math:`\gamma n^{-1 / (4 + d)}`, whatever the scale of the variable.
              The rule of the first information planes of autoencoders, with ``gamma=5``.
            * ``"tapia"``: :math:`\gamma \sqrt d\, n^{-1 / (4 + d)}`, after each feature is
              divided by its standard deviation, :math:`\sqrt{\tfrac1n \sum_i (x_i - \bar x)^2}`.
              Constant features count in :math:`d` and add nothing to distances.
            * a positive number, for every variable.
        gamma: The factor :math:`\gamma` of ``"scott"`` and ``"tapia"``.

    Bias and limits:
        The kernel width decides the result: as :math:`\sigma` grows, entropies go from
        :math:`\ln n` to 0. Independent variables have positive mutual information, the more the
        narrower the kernel: two Gaussian vectors in the plane, with 500 samples, 0.04 nats under
        ``"median"`` and 1.0 under ``"tapia"``. Compare only values of equal :math:`n`, and report
        the width.

        Unlike Shannon's, this mutual information changes under bijections, and can violate the
        data processing inequality. In a trained invertible autoencoder (500 images,
        :math:`\alpha = 1.01`), the code had 0.10 bits in common with the input, and what was
        decoded from it 5.03, under ``"scott"`` with ``gamma=5``; under ``"median"``, 1.27 and
        1.46. Of an invertible layer, the change of differential entropy is known exactly: it is
        :math:`\mathrm E \ln |\det J|`.

        Of a variable with itself, it is :math:`I(X; X) = 2 S(A) - S(A \circ A / \operatorname{tr}
        (A \circ A))`, at most :math:`S(A)` and in general less. (Conditional) mutual information
        and total correlation cannot be negative for :math:`\alpha = 1`; for other orders they can.

    Standard error:
        The delete-a-group jackknife with ten groups of samples. It is about the functional of
        matrices of this size, whatever it would be for more samples.

    References:
        | L. G. Sanchez Giraldo, M. Rao & J. C. Príncipe (2015). Measures of entropy from data
          using infinitely divisible kernels. IEEE Transactions on Information Theory 61(1).
        | S. Yu, L. G. Sanchez Giraldo, R. Jenssen & J. C. Príncipe (2020). Multivariate extension
          of matrix-based Rényi's α-order entropy functional. IEEE TPAMI 42(11). arXiv:1808.07912
        | N. I. Tapia & P. A. Estévez (2020). On the information plane of autoencoders.
          arXiv:2005.07783

    Example:
        >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> ip.MatrixRenyi(bandwidth=0.1).entropy(x)
        tensor(0.6931, dtype=torch.float64)
    """

    alpha: float = 1.01
    bandwidth: Literal["median", "scott", "tapia"] | float = "median"
    _: KW_ONLY
    gamma: float = 1.0

    kind: ClassVar[Literal["discrete"]] = "discrete"

    def __post_init__(self) -> None:
        _require_positive(self, "alpha")
        _require_positive(self, "gamma")
        if isinstance(self.bandwidth, str):
            checks.require_one_of(self.bandwidth, _RULES, "bandwidth")
        else:
            _require_positive(self, "bandwidth")
        if self.gamma != 1 and self.bandwidth not in ("scott", "tapia"):
            raise ArgumentValueError(
                "gamma",
                f"expected 1 with bandwidth={self.bandwidth!r}, which has no such factor, "
                f"got {self.gamma!r}. Use bandwidth='scott', 'tapia' or the width as a number.",
            )

    def entropy(self, x: ArrayLike) -> Tensor:
        r"""Entropy :math:`S_\alpha(A)`.

        Arguments:
            x: Samples along the first axis, at least 2.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument has fewer than 2 samples or more than 32,768, values that are
                not finite, or too few distinct ones for the bandwidth's rule; or arguments differ
                in length.
        """
        return self.joint_entropy(x)

    def joint_entropy(self, *xs: ArrayLike) -> Tensor:
        r"""Joint entropy :math:`S_\alpha(A_1 \circ \dots \circ A_k / \operatorname{tr}(\cdot))`.

        It is at least the entropy of each variable. The errors are the same as in :meth:`entropy`.

        Arguments:
            xs: Samples of each variable; row i of one belongs to row i of the others.
        """
        if not xs:
            raise ArgumentTypeError("xs", "expected at least one variable, got none.")
        names = ["x"] if len(xs) == 1 else [f"xs[{i}]" for i in range(len(xs))]
        first, *others = self._exponents(**dict(zip(names, xs, strict=True)))
        return self._entropy(sum(others, first))

    def mutual_information(self, x: ArrayLike, y: ArrayLike) -> Tensor:
        r"""Mutual information :math:`S(X) + S(Y) - S(X, Y)`.

        Arguments:
            x: Samples of the first variable.
            y: Samples of the second; row i belongs to row i of ``x``.

        The errors are the same as in :meth:`entropy`.
        """
        a, b = self._exponents(x=x, y=y)
        return self._entropy(a) + self._entropy(b) - self._entropy(a + b)

    def conditional_mutual_information(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Tensor:
        r"""Conditional mutual information :math:`S(X, Z) + S(Y, Z) - S(Z) - S(X, Y, Z)`.

        Arguments:
            x: Samples of the first variable.
            y: Samples of the second.
            z: Samples of the condition.

        The errors are the same as in :meth:`entropy`.
        """
        a, b, c = self._exponents(x=x, y=y, z=z)
        entropy = self._entropy
        return entropy(a + c) + entropy(b + c) - entropy(c) - entropy(a + b + c)

    def total_correlation(self, x: ArrayLike) -> Tensor:
        r"""Total correlation :math:`\sum_j S(X_j) - S(X_1, \ldots, X_d)` among the d features.

        Each feature is a variable with a kernel width of its own, so that there are d + 1
        spectra to compute, and memory is :math:`O(d n^2)` where gradients are recorded. The
        arguments and errors are the same as in :meth:`entropy`.
        """
        x = checks.samples(x, "x")
        total = joint = torch.zeros((), dtype=torch.float64, device=x.device)
        for j, column in enumerate(x.unbind(1)):
            (exponents,) = self._exponents(**{f"x[:, {j}]": column})
            total, joint = total + self._entropy(exponents), joint + exponents
        return total - self._entropy(joint)

    def kernel_width(self, x: ArrayLike) -> Tensor:
        r"""The kernel width :math:`\sigma` that the methods use for ``x``.

        With ``bandwidth="tapia"``, it is in units of the standardised features. The arguments and
        errors are the same as in :meth:`entropy`.
        """
        return self._kernel(checks.samples(x, "x"), "x")[1]

    def ceiling(self, n: int) -> float:
        r"""What the mutual information of ``n`` samples hardly exceeds: :math:`\ln n`.

        Raises:
            TypeError: ``n`` is no integer.
            ValueError: ``n`` is less than 2.
        """
        checks.require_integer(n, 2, None, "n")
        return math.log(n)

    def _with_error(
        self, arguments: Arguments, tensors: Sequence[Any]
    ) -> tuple[Tensor, Tensor | None]:
        return self._jackknifed(arguments, tensors, _GROUPS)

    def _findings(
        self, arguments: Arguments, tensors: Sequence[Any], value: Tensor | None
    ) -> list[Finding]:
        if value is None:
            return []
        n = len(tensors[0])
        if arguments is MUTUAL_INFORMATION:
            return list(near_ceiling(float(value), self.ceiling(n), n))
        share = float(value) / math.log(n)
        if arguments is not ENTROPY or 1 - _EXTREME < share < _EXTREME:
            return []
        narrow = share >= _EXTREME
        finding = Finding(
            "warning",
            f"the entropy is {share:.1%} of ln n: the kernel takes "
            f"{'all samples to be different' if narrow else 'all samples to be equal'}",
            share,
            f"Use a {'larger' if narrow else 'smaller'} bandwidth than "
            f"{float(self.kernel_width(tensors[0])):.3g}, or bandwidth='median'.",
            "x",
            code="kernel-width",
        )
        return [finding]

    def _exponents(self, **variables: Any) -> list[Tensor]:
        """For each variable -ln K of all pairs i < j, on the device of the first."""
        tensors = {name: checks.samples(x, name) for name, x in variables.items()}
        checks.require_same_length(**tensors)
        exponents = []
        for name, x in tensors.items():
            squares, width = self._kernel(x, name)
            exponents.append(squares / width / (2 * width))
        return [e.to(exponents[0].device) for e in exponents]

    def _kernel(self, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Squared distances of all pairs i < j, and the kernel width for them."""
        n, d = x.shape
        if n > _MOST_SAMPLES:
            raise ArgumentValueError(
                name,
                f"expected at most {_MOST_SAMPLES:,} samples, whose matrix takes 8 GiB, got "
                f"{n:,}, whose matrix would take {8 * n * n / 2**30:,.0f} GiB. Pass a random "
                "choice of samples, x[torch.randperm(len(x))[:4096]], the same of all variables.",
            )
        features = x.to(torch.float64)
        if self.bandwidth == "tapia":
            features = _standardised(features, name)
        squares: Tensor = _SquaredDistances.apply(features)  # type: ignore[no-untyped-call]
        if not squares.isfinite().all():
            raise ArgumentValueError(
                name,
                f"expected values whose squared differences fit into float64, got "
                f"{float(x.min())} to {float(x.max())}. Rescale them.",
            )
        if self.bandwidth == "median":
            return squares, _median_width(squares, features, name)
        if isinstance(self.bandwidth, str):
            width = self.gamma * n ** (-1 / (4 + d))
            width *= math.sqrt(d) if self.bandwidth == "tapia" else 1
        else:
            width = self.bandwidth
        return squares, squares.new_tensor(float(width))

    def _entropy(self, exponents: Tensor) -> Tensor:
        """The entropy of the matrix with these -ln K of all pairs i < j."""
        order = float(self.alpha)
        if order == 2:  # tr A^2 is the squared Frobenius norm
            n = _number_of_samples(exponents)
            return 2 * math.log(n) - (n + 2 * (-2 * exponents).exp().sum()).log()
        kernel = _symmetric((-exponents).exp())
        kernel = kernel + torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
        # With eigenvectors V, its gradient is V diag(g) V^T, finite where eigenvalues are equal.
        spectrum: Tensor = torch.linalg.eigvalsh(kernel / len(kernel))
        # What is left out contributes nothing to the gradient: v^T dA v = 0 where A v = 0, for A
        # has no negative eigenvalues, whatever the samples.
        spectrum = spectrum[spectrum > torch.finfo(torch.float64).eps]
        # Relative to the largest eigenvalue m, and with tr A = 1, tr A^order is m^(order - 1)
        # times 1 + sum(l ((l / m)^(order - 1) - 1)): accurate for orders near 1 and large ones.
        largest = spectrum[-1].detach().log()
        logs = spectrum.log() - largest
        if order == 1:
            return -largest - (spectrum * logs).sum()
        excess = (spectrum * torch.expm1((order - 1) * logs)).sum()
        return -largest - excess.log1p() / (order - 1)


class _SquaredDistances(torch.autograd.Function):
    """Squared distances of all pairs i < j, from differences: no offset makes them inaccurate.

    The gradient takes O(n^2) memory, and is finite also where samples coincide.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.pdist(x).square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        weights = 2 * _symmetric(gradient)
        x = x - x.mean(0)
        return weights.sum(1, keepdim=True) * x - weights @ x


def _require_positive(estimator: MatrixRenyi, name: str) -> None:
    checks.require_real_field(estimator, name, 0)
    value = getattr(estimator, name)
    if value == 0:
        raise ArgumentValueError(name, f"expected a positive number, got {value!r}.")


def _standardised(x: Tensor, name: str) -> Tensor:
    """The features that vary, divided by their standard deviations."""
    x = x - x[0].detach()  # so that constant features are 0 exactly
    x = x[:, (x != 0).any(0)]
    if not x.shape[1]:
        raise ArgumentValueError(
            name,
            f"expected a feature that varies with bandwidth='tapia', which standardises "
            f"them, but all {len(x):,} samples are equal. Pass a number as the bandwidth.",
        )
    # By a power of two first, which is exact, so that no square leaves float64.
    reach = torch.frexp(x.detach().abs().amax(0)).exponent
    x = x / torch.ldexp(torch.ones_like(reach, dtype=x.dtype), reach)
    return x / x.std(0, correction=0)


def _median_width(squares: Tensor, x: Tensor, name: str) -> Tensor:
    median = squares.median()
    if median < _LEAST_SQUARE:
        # The largest difference of two samples needs no squares.
        ties = int((torch.pdist(x.detach(), math.inf) == 0).sum())
        if ties <= (len(squares) - 1) // 2:
            raise ArgumentValueError(
                name,
                "expected values whose squared differences fit into float64, got a median of "
                f"{float(median):.3g}. Rescale them.",
            )
        raise ArgumentValueError(
            name,
            f"expected mostly distinct samples with bandwidth='median', but {ties:,} of "
            f"{len(squares):,} pairs are equal, so that their median distance is 0. Pass a number "
            "as the bandwidth.",
        )
    return median.sqrt()


def _number_of_samples(pairs: Tensor) -> int:
    return math.isqrt(2 * len(pairs)) + 1  # n (n - 1) / 2 of them


def _symmetric(pairs: Tensor) -> Tensor:
    """The symmetric matrix with these values of all pairs i < j, and 0 on the diagonal."""
    n = _number_of_samples(pairs)
    upper = torch.ones(n, n, dtype=torch.bool, device=pairs.device).triu(1)
    matrix: Tensor = pairs.new_zeros(n, n).masked_scatter(upper, pairs)
    return matrix + matrix.T
