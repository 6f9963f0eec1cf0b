r"""Estimates from the distances to nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.arguments import Arguments, arguments_of
from infoprobe.estimators.errors import noise_of_parts
from infoprobe.estimators.gaussian import Gaussian
from infoprobe.estimators.knn import diagnosis, measures
from infoprobe.estimators.knn.calibration import Bias, bias_of
from infoprobe.estimators.knn.preparation import prepared
from infoprobe.estimators.knn.workings import Workings, work
from infoprobe.estimators.protocols import Estimate
from infoprobe.estimators.samples_in_doubt import with_doubts
from infoprobe.estimators.special import digamma
from infoprobe.findings import Finding
from infoprobe.neighbors import METRICS, Metric

# The least samples in a part from which a standard error is found.
_PART = 25


@dataclass(frozen=True)
class KNN:
    r"""Estimates from the distances to nearest neighbours, for jointly continuous variables.

    A sample is a vector of d features, and :math:`\varepsilon_i` the distance of the i-th of n
    samples to its k-th neighbour among the others. With the volume :math:`V_d` of the unit ball,
    Kozachenko & Leonenko's entropy is

    .. math:: \hat h = \psi(n) - \psi(k) + \ln V_d + \frac dn \sum_i \ln \varepsilon_i.

    All results are differential quantities in nats, returned as 0-dim float64 tensors on the
    device of the (first) argument, never clamped. Entropies, cross-entropies and divergences are
    differentiable; measures of mutual information rest on counts, which do not change with the
    data by a little, and carry no gradient: as a loss, take
    ``knn.entropy(x) + knn.entropy(y) - knn.entropy(torch.cat([x, y], 1))``.

    Arguments:
        k: The number of neighbours. More of them lower the variance and raise the bias.
        metric: ``"euclidean"`` or ``"chebyshev"``. Between samples of several variables, the
            distance is the largest of the distances in each.
        calibration: ``None``, or a way to remove bias:

            * ``"gaussian"`` subtracts the error that the same estimator makes, at the same n, d
              and k, on Gaussian surrogates with exactly the sample mean and covariance of the
              data, measured against :class:`~infoprobe.Gaussian`. For Gaussian data nothing
              but noise remains, in any dimension; for others, the error that is peculiar to
              their shape. Invariant under translation and scaling. Needs :math:`n \ge d + 3`.
            * ``"copula"`` first carries each feature to a standard Gaussian one by its ranks,
              calibrates there with surrogates whose copula is Gaussian or, where that is
              likelier, a Student copula, and adds the entropies of the features by themselves,
              which are easy to estimate. (Information does not change under maps of single
              features.) If the estimate changes with k by more than that of the surrogates, as it
              does where the dependence is curved, the bias is extrapolated from that. For
              entropy and all information; no gradient.
        variant: Which estimator of Kraskov, Stögbauer & Grassberger (2004), 1 or 2, of the
            mutual information of continuous variables and of total correlation.
        repeats: The number of surrogates; each costs another estimate.
        seed: The seed of the surrogates. Torch's global generator is not used.

    Bias and limits:
        Without calibration, an entropy is biased by the variation of the density within a
        neighbourhood, which hardly shrinks with n in many dimensions. Measured with k = 3 and
        n = 10,000 (``benchmarks/accuracy.py``), in nats, means of 5 seeds
        (1 seed for the last three and at d = 784 with ``"copula"``):

        ==========================  ===  =======  ==============  ============
        data                        d    None     ``"gaussian"``  ``"copula"``
        ==========================  ===  =======  ==============  ============
        independent Gaussian        2    -0.00    +0.01           +0.01
        independent Gaussian        20   +0.72    +0.01           +0.01
        independent Gaussian        784  +214.18  -0.13           -0.12
        Gaussian, correlations 0.9  20   +3.07    +0.00           +0.02
        Gaussian, correlations 0.9  784  +736.35  +0.00           +0.42
        independent Laplace         20   +1.10    +0.39           +0.06
        independent Laplace         784  +258.89  +44.56          -0.33
        Laplace, rotated            20   +1.10    +0.39           +0.04
        mixture of 4 Gaussians      20   +1.33    -1.18           +0.98
        banana                      20   +3.33    +2.62           +0.45
        ==========================  ===  =======  ==============  ============

        Divergences are biased in either direction, and ``"gaussian"`` repairs what is Gaussian
        about that: at d = 20, from +1.22 to -0.04 between Gaussians of scale 1 and 1.5, and from
        +1.35 to +0.08 between such Laplace data; at d = 784, from +30.4 to +0.2 between Gaussians
        of scale 1 and 1.1.

        Mutual information is underestimated in many dimensions, and cannot exceed
        :math:`\psi(n) - \psi(k)`, about :math:`\ln n`.

    Units:
        No estimate depends on the units of single features, up to rounding. For entropies and
        divergences, features are measured in units of their spreads, which are added again
        (``infoprobe.estimators.knn.scaling``). For information, they are made standard
        Gaussian by their ranks, so that no increasing map of a feature changes the estimate
        (``infoprobe.estimators.knn.ksg``, with the figures that chose it).

    Ties and copies:
        For an entropy or a divergence, a sample with k exact copies is an error, and so is a
        fifth of the samples with any copy: noise added in silence would decide the result. For
        information, values may repeat, as those of discrete, rounded or rectified variables do:
        where there are ties, the estimate is that of Gao et al. for mixtures of discrete and
        continuous variables. But rows that occur again with the values of *all* variables are
        an error, if a row has k copies or a tenth of the rows have any, unless all variables are
        discrete there (``infoprobe.estimators.knn.atoms`` says how they are told
        apart): of independent data that come twice, the estimate would be 0.8 nats.

    Standard error:
        It comes from estimates by parts of the samples, divided at random: up to 32 parts for
        entropies and divergences; halves, eight times, for information, whose counts of
        neighbours grow with n. It includes that neighbours depend on each other, by which the
        errors of their mean are up to twice as large as for independent terms, and the noise of
        the surrogates. Samples too few for parts get twice the error of independent terms.

    References:
        | L. Kozachenko & N. Leonenko (1987). Sample estimate of the entropy of a random vector.
          Probl. Inf. Transm. 23(2), 95-101.
        | Q. Wang, S. Kulkarni & S. Verdú (2009). Divergence estimation for multidimensional
          densities via k-nearest-neighbor distances. IEEE Trans. Inf. Theory 55(5), 2392-2405.
        | A. Kraskov, H. Stögbauer & P. Grassberger (2004). Estimating mutual information. Phys.
          Rev. E 69, 066138.
        | S. Frenzel & B. Pompe (2007). Partial mutual information for coupling analysis of
          multivariate time series. Phys. Rev. Lett. 99, 204101.
        | W. Gao, S. Kannan, S. Oh & P. Viswanath (2017). Estimating mutual information for
          discrete-continuous mixtures. NeurIPS 30.
        | B. Ross (2014). Mutual information between discrete and continuous data sets. PLoS ONE
          9(2), e87357.

    Example:
        >>> x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(float(ip.KNN().entropy(x)), 1)  # ln(2 pi e) = 2.84
        2.8
    """

    k: int = 3
    metric: Metric = "euclidean"
    calibration: Literal["gaussian", "copula"] | None = None
    _: KW_ONLY
    variant: Literal[1, 2] = 1
    repeats: int = 4
    seed: int = 0

    kind: ClassVar[Literal["differential"]] = "differential"

    def __post_init__(self) -> None:
        checks.require_integer_field(self, "k", 1)
        checks.require_one_of(self.metric, METRICS, "metric")
        checks.require_one_of(self.calibration, [None, "gaussian", "copula"], "calibration")
        checks.require_integer_field(self, "variant", 1, 2)
        checks.require_integer_field(self, "repeats", 1)
        checks.require_integer_field(self, "seed", 0, 2**62)

    @property
    def fewest_samples(self) -> int:
        """With how few samples there is an estimate: one more than there are neighbours."""
        return max(2, self.k + 1)

    def entropy(self, x: ArrayLike) -> Tensor:
        r"""Differential entropy :math:`h(X)` (Kozachenko & Leonenko).

        Arguments:
            x: Samples, (n, ...) with n > k; whatever follows the first axis is flattened.

        Raises:
            TypeError: ``x`` does not hold floating-point numbers.
            ValueError: ``x`` is not finite, has too few samples, constant features, or samples
                that coincide with k others, where the estimate would be minus infinity.
        """
        return work(self, measures.ENTROPY, [x]).value

    def cross_entropy(self, p: ArrayLike, q: ArrayLike) -> Tensor:
        r"""Cross-entropy :math:`-\int p \ln q = h(P) + KL(P \| Q)`.

        Arguments:
            p: Samples of the first distribution, (n, ...) with n > k.
            q: Samples of the second, (m, ...), with the same d features.

        Raises:
            TypeError: An argument does not hold floating-point numbers.
            ValueError: An argument is not fit for :meth:`entropy`, p and q differ in d, or k
                samples of q coincide with one of p.
        """
        return work(self, measures.CROSS_ENTROPY, [p, q]).value

    def kl_divergence(self, p: ArrayLike, q: ArrayLike) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q)` (Wang, Kulkarni & Verdú).

        .. math:: \frac dn \sum_i \ln \frac{\nu_i}{\varepsilon_i} + \ln \frac{m}{n - 1}

        where :math:`\nu_i` is the distance of the i-th sample of p to its k-th neighbour among
        the m samples of q. The arguments and errors are the same as in :meth:`cross_entropy`.
        """
        return work(self, measures.KL_DIVERGENCE, [p, q]).value

    def mutual_information(
        self, x: ArrayLike, y: ArrayLike, *, variant: Literal[1, 2] | None = None
    ) -> Tensor:
        r"""Mutual information :math:`I(X;Y)`.

        Between continuous variables it is estimated by the method of Kraskov, Stögbauer &
        Grassberger; where values are tied, by that of Gao et al.; and where one side is a vector
        of integer labels, by that of Ross (without calibration).

        Arguments:
            x: Samples, (n, ...), or integer labels, (n,).
            y: Samples in pairs with ``x``, (n, ...), or the labels of ``x``, (n,).
            variant: ``None`` for the variant of the estimator.

        Raises:
            TypeError: An argument does not hold floating-point numbers, nor integer labels.
            ValueError: An argument is not finite or has too few samples; rows are copies of
                others; a label has no more than k samples; or x and y differ in n.
        """
        if variant is not None:
            checks.require_integer(variant, 1, 2, "variant")
        estimator = self if variant is None else replace(self, variant=variant)
        return work(estimator, measures.MUTUAL_INFORMATION, [x, y]).value

    def conditional_mutual_information(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Tensor:
        r"""Conditional mutual information :math:`I(X;Y|Z)` (Frenzel & Pompe).

        The arguments and errors are the same as in :meth:`mutual_information`, but x, y and z
        must all be continuous.
        """
        return work(self, measures.CONDITIONAL_MUTUAL_INFORMATION, [x, y, z]).value

    def total_correlation(self, x: ArrayLike) -> Tensor:
        r"""Total correlation :math:`\sum_i h(X_i) - h(X)` of the d features of a sample.

        It is estimated by the method of Kraskov, Stögbauer & Grassberger, with each feature as a
        variable.

        Arguments:
            x: Samples, (n, ...) with n > k.

        Raises:
            TypeError: ``x`` does not hold floating-point numbers.
            ValueError: ``x`` is not finite, has too few samples, constant features, or rows that
                are copies of others.
        """
        return work(self, measures.TOTAL_CORRELATION, [x]).value

    def pointwise(self, measure: str, *tensors: ArrayLike) -> Tensor:
        """What each sample contributes to a measure; see :func:`infoprobe.pointwise`.

        A calibration takes the same from all samples. The arguments and errors are those of the
        method.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.
        """
        found = measures.MEASURES[arguments_of(measure, measures.MEASURES, tensors).measure]
        return work(self, found, tensors).terms

    def ceiling(self, n: int) -> float:
        r"""What the mutual information of ``n`` samples cannot exceed: :math:`\psi(n) - \psi(k)`.

        Raises:
            TypeError: ``n`` is no integer.
            ValueError: ``n`` is less than 1.
        """
        checks.require_integer(n, 1, None, "n")
        return digamma(n) - digamma(self.k)

    def bias(self, measure: str, *tensors: ArrayLike) -> Bias:
        """What the calibration subtracts, and its standard error over the surrogates.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Raises:
            ValueError: There is no such measure, or no calibration. Otherwise as the measure.

        Example:
            >>> x = torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
            >>> bias = ip.KNN(calibration="gaussian").bias("entropy", x)
            >>> bool(bias.stderr < 0.1 < bias.value)
            True
        """
        found = measures.MEASURES[arguments_of(measure, measures.MEASURES, tensors).measure]
        if self.calibration is None:
            raise ArgumentValueError(
                "calibration",
                "expected 'gaussian' or 'copula', got None, which knows no bias. "
                "Set it on the estimator.",
            )
        samples = prepared(self, found, tensors)
        return bias_of(self, found, samples, found.raw(self, *samples))

    def with_other_surrogates(self, number: int) -> KNN:
        """The same estimator with other surrogates, whose noise is independent of these."""
        return replace(self, seed=(self.seed + 2 * number) % 2**62)

    def estimate(self, measure: str, *tensors: Any) -> Estimate:
        """The value of a measure, its standard error and findings on it.

        The standard error tells how far the value would move with other samples. What it does
        not know of is bias, of which the findings tell. The section "Standard error" of the
        class says how it is found.

        Arguments:
            measure: The name of a method, such as ``"entropy"``.
            tensors: Its arguments.

        Returns:
            The value in nats; its standard error, ``None`` where there are too few samples to
            tell; and the findings.

        Raises:
            TypeError, ValueError: The method raises it, or there is no such measure.
        """
        return self._estimate(measure, tensors, with_error=True)

    def estimate_without_error(self, measure: str, *tensors: Any) -> Estimate:
        """The same without a standard error, which takes many times as long as the value.

        The arguments and errors are those of :meth:`estimate`.
        """
        return self._estimate(measure, tensors, with_error=False)

    def diagnose(
        self, measure: str, tensors: Sequence[Any], value: Tensor | None
    ) -> list[Finding]:
        """What stands in the way of trusting a value; see :func:`infoprobe.diagnose`.

        Arguments:
            measure: The name of the method that gave the value.
            tensors: Its arguments.
            value: What it returned, in nats; ``None`` if it raised an error.
        """
        found = measures.MEASURES[measure]
        workings = None if value is None else work(self, found, tensors)
        return self._doubts(found.arguments, tensors, value, workings)

    def _estimate(self, measure: str, tensors: Sequence[Any], *, with_error: bool) -> Estimate:
        arguments = arguments_of(measure, measures.MEASURES, tensors)
        workings = work(self, measures.MEASURES[measure], tensors)
        stderr = self._stderr(arguments, tensors, workings) if with_error else None
        value = workings.value
        return Estimate(value, stderr, self._doubts(arguments, tensors, value, workings))

    def _doubts(
        self,
        arguments: Arguments,
        tensors: Sequence[Any],
        value: Tensor | None,
        workings: Workings | None,
    ) -> list[Finding]:
        found = list(diagnosis.findings(self, arguments, tensors, value, workings))
        if value is None:
            return found
        return with_doubts(found, arguments, tensors, float(value), has_density=True)

    def _stderr(
        self, arguments: Arguments, tensors: Sequence[Any], workings: Workings
    ) -> Tensor | None:
        measure = arguments.measure
        samples = [
            checks.as_tensor(x, name) for name, x in zip(arguments.names, tensors, strict=True)
        ]
        least = max(_PART, 8 * self.k)
        if self.calibration is not None:
            least = max(least, 2 * sum(x[:1].numel() for x in samples))

        def of_part(number: int, *part: Tensor) -> Tensor:
            return work(self.with_other_surrogates(number), measures.MEASURES[measure], part).value

        orders = [arguments.independent] * len(samples)
        halves = not measures.MEASURES[measure].differentiable
        noise = noise_of_parts(of_part, samples, orders, least, halves=halves)
        return self._noise_of_terms(measure, tensors, workings) if noise is None else noise

    def _noise_of_terms(
        self, measure: str, tensors: Sequence[Any], workings: Workings
    ) -> Tensor | None:
        """The standard error where the samples are too few to be divided into parts.

        The mean of terms that depend on each other varies up to twice as much as that of
        independent ones. What a calibration takes for known, the covariance, varies besides.
        """
        found = measures.MEASURES[measure]
        with torch.no_grad():
            if workings.bias is None:
                return _noise_of_mean(workings.terms)
            noise = _noise_of_mean(work(replace(self, calibration=None), found, tensors).terms)
            known = Gaussian().estimate(measure, *prepared(self, found, tensors)).stderr
            bias = workings.bias.stderr
        return None if known is None else (noise.square() + known.square() + bias.square()).sqrt()


def _noise_of_mean(terms: Tensor) -> Tensor:
    return 2 * terms.std() / math.sqrt(len(terms))
