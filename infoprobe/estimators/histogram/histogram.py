r"""Entropies, divergences and mutual information of the bin that a value falls in."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.arguments import (
    ARGUMENTS,
    arguments_of,
)
from infoprobe.estimators.errors import bias_findings
from infoprobe.estimators.histogram import corrections, diagnosis, formulas, gaps, surprisals
from infoprobe.estimators.histogram.binning import Binning, Outside, Over, Range, checked_range
from infoprobe.estimators.histogram.counts import Counts, GroupedCounts
from infoprobe.estimators.histogram.formulas import Formulas
from infoprobe.estimators.histogram.tables import Table
from infoprobe.estimators.histogram.tabulation import (
    counts_of,
    counts_of_blocks,
    tabulate,
    tabulate_pairs,
)
from infoprobe.estimators.histogram.unread import Unread, count_unread, why_refused
from infoprobe.estimators.protocols import Estimate
from infoprobe.findings import Finding


@dataclass(frozen=True)
class Histogram:
    r"""Estimates from a histogram: the random variable is the bin that a value falls in.

    With :math:`n_i` of :math:`N` values in bin :math:`i` of :math:`B`, and the pseudo-count
    :math:`a`,

    .. math:: \hat p_i = \frac{n_i + a}{N + a B}.

    All results are discrete quantities in nats, returned as 0-dim float64 tensors on the device
    of the (first) argument. They are not differentiable and never clamped.

    Arguments:
        bins: The number of bins :math:`B`; with ``range="dyadic"`` the most there may be, at
            least 2.
        range: Where the bins lie.

            * ``"dyadic"``: the finest grid whose bin width is a power of two, aligned at zero,
              that spans *all* arguments with at most ``bins`` bins. :math:`B` is the number of
              bins from the joint minimum to the joint maximum, more than half of ``bins``
              unless all values are nearly equal. Bins are shared by construction, and the
              result is the same whether the data come in one call or in batches.
            * ``"minmax"``: ``bins`` equal-width bins over the joint minimum and maximum of all
              arguments.
            * ``"own"``: each argument over its *own* minimum and maximum, bins compared by
              their index. This is the definition of Callahan & Paskett (2021), whose setting is
              ``Histogram(bins=1000, range="own", pseudocount=1)``. It is blind to any
              increasing affine map of either argument: ``2 * x + 1`` equals ``x``.
            * ``(low, high)``: ``bins`` equal-width bins over this range.
        over: What the random variable is.

            * ``"values"`` pools every scalar of a tensor, whatever its position, into one
              distribution.
            * ``"units"``: the first axis counts samples, and the rest is flattened to units,
              each with a range and a histogram of its own. The result is the sum over units.
            * ``"samples"``: the first axis counts samples, and the bins of all of a sample's
              values together are one symbol. Every value of an argument lies on one grid. A
              one-dimensional tensor of integers holds labels: each is a symbol by itself,
              whatever ``bins`` and ``range``.
        pseudocount: The :math:`a` above, added to each bin. Not with ``over="samples"``, whose
            alphabet has up to :math:`B^d` symbols.
        correction: How entropies, and mutual information with them, are corrected for the bias
            that few data cause: ``None``, not at all, or one of the following, without a
            ``pseudocount``.

            * ``"miller-madow"`` adds :math:`(K - 1) / 2N`, with :math:`K` occupied bins.
            * ``"james-stein"`` shrinks the :math:`\hat p_i` towards :math:`1 / B`, by the weight
              of least estimated risk (Hausser & Strimmer, 2009). As it corrects probabilities,
              it serves divergences too, and in mutual information it is the joint ones that are
              shrunk. Not with ``over="samples"``, for the size of the alphabet.
            * ``"chao-shen"`` makes up for bins that were missed, judging by how many hold a
              single value (Chao & Shen, 2003).
            * ``"grassberger"`` replaces the logarithm of a count by Grassberger's (2003)
              :math:`G(n)`.
        outside: What an explicit ``(low, high)`` does with values outside: ``"raise"`` an error,
            ``"clip"`` them to the nearest edge, or ``"drop"`` them. In mutual information the
            whole pair is dropped, and over samples the whole sample.

    Bias and limits:
        The plug-in entropy is biased downwards by about :math:`(K - 1) / 2N` (Miller, 1955),
        which assumes independent values; pixels of one image are not independent. Plug-in
        mutual information is biased upwards, by about :math:`(K_x - 1)(K_y - 1) / 2N` for each
        unit. Corrections assume independent values as well; they reduce the bias and do not
        remove it, an entropy may then exceed :math:`\ln B`, and the entropy of a constant need
        not be 0. Where each value is the only one in its bin, ``"chao-shen"`` knows nothing: its
        entropy is infinite (the limit for a coverage of 0, where other implementations pretend
        that one value were not alone), and mutual information raises an error.

        Over samples no plug-in entropy exceeds :math:`\ln n`. With many units each sample is
        soon the only one of its kind: the entropy is then :math:`\ln n` whatever the data, and
        mutual information the entropy of the other argument.

        The value depends on the bins: halving their width adds up to :math:`\ln 2` to an
        entropy. A divergence is infinite as soon as ``p`` has values in a bin where ``q`` has
        none and no probability is smoothed; with a pseudo-count those bins contribute about
        :math:`\hat p_i \ln(\hat p_i N / a)`, which grows with the amount of data: see
        :meth:`uncovered`.

        Beyond the data, memory is taken by a few blocks of values and a few numbers for each
        bin; over samples by a few for each sample too, and in mutual information for each cell
        of the joint histogram or for each pair, whichever are fewer.

    References:
        | J. Callahan & T. Paskett (2021). Analyzing Information Loss of Invertible Variational
          Autoencoders. Section 3.
        | A. Chao & T.-J. Shen (2003). Nonparametric estimation of Shannon's index of diversity
          when there are unseen species in sample. Environ. Ecol. Stat. 10.
        | P. Grassberger (2003). Entropy estimates from insufficient samplings.
          arXiv:physics/0307138.
        | J. Hausser & K. Strimmer (2009). Entropy inference and the James-Stein estimator, with
          application to nonlinear gene association networks. JMLR 10.
        | G. Miller (1955). Note on the bias of information estimates.

    Example:
        >>> x = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> ip.Histogram(bins=4).entropy(x)
        tensor(0.6931, dtype=torch.float64)
        >>> both = torch.stack([x, x], dim=1)
        >>> ip.Histogram(bins=4, over="units").entropy(both)
        tensor(1.3863, dtype=torch.float64)
        >>> ip.Histogram(bins=4, over="samples").entropy(both)
        tensor(0.6931, dtype=torch.float64)
    """

    bins: int = 256
    range: Range = "dyadic"
    over: Over = "values"
    pseudocount: float = 0.0
    correction: Literal["miller-madow", "james-stein", "chao-shen", "grassberger"] | None = None
    _: KW_ONLY
    outside: Outside = "raise"

    kind: ClassVar[Literal["discrete"]] = "discrete"
    allows_pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.require_integer_field(self, "bins", 1)
        range = checked_range(self.bins, self.range, self.over, self.outside)
        object.__setattr__(self, "range", range)
        checks.require_real_field(self, "pseudocount", 0, corrections.LARGEST_PSEUDOCOUNT)
        corrections.require_one_correction(self.pseudocount, self.correction, self.over)

    def entropy(self, x: ArrayLike | Counts) -> Tensor:
        r"""Shannon entropy :math:`H(X) = -\sum_i \hat p_i \ln \hat p_i`.

        Arguments:
            x: Tensor or array, any shape; over units and samples of at least 2 samples along
                its first axis. Over values also
                :class:`~infoprobe.estimators.histogram.counts.Counts`.

        Raises:
            TypeError: ``x`` does not hold real numbers.
            ValueError: ``x`` is empty, not finite, outside an explicit range, or counts on other
                bins than this estimator's.
        """
        return self._estimate("entropy", x)

    def cross_entropy(self, p: ArrayLike | Counts, q: ArrayLike | Counts) -> Tensor:
        r"""Cross-entropy :math:`H(P, Q) = -\sum_i \hat p_i \ln \hat q_i = H(P) + KL(P \| Q)`.

        Arguments:
            p: Values or samples of the first distribution, any shape.
            q: Values or samples of the second; their number may differ, and over values the
                shape.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument is empty, not finite, outside an explicit range, or counts on
                other bins than this estimator's; or the ``correction`` gives no probabilities.
        """
        return self._estimate("cross_entropy", p, q)

    def kl_divergence(self, p: ArrayLike | Counts, q: ArrayLike | Counts) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q) = \sum_i \hat p_i \ln (\hat p_i / \hat q_i)`.

        It is infinite where ``p`` has mass in a bin that ``q`` leaves empty, unless a
        ``pseudocount`` or ``correction="james-stein"`` fills it. The arguments and errors are
        the same as in :meth:`cross_entropy`.
        """
        return self._estimate("kl_divergence", p, q)

    def js_divergence(self, p: ArrayLike | Counts, q: ArrayLike | Counts) -> Tensor:
        r"""Jensen-Shannon divergence :math:`\tfrac12 KL(P \| M) + \tfrac12 KL(Q \| M)`.

        Here :math:`M = (P + Q) / 2`. It is symmetric, and at most :math:`\ln 2` (for each unit).
        The arguments and errors are the same as in :meth:`cross_entropy`.
        """
        return self._estimate("js_divergence", p, q)

    def mutual_information(self, x: ArrayLike, y: ArrayLike) -> Tensor:
        r"""Mutual information :math:`I(X; Y) = H(X) + H(Y) - H(X, Y)` from a joint histogram.

        Over values, the pairs are the values at the same place in ``x`` and ``y``; over units too,
        with a joint histogram for each unit, summed up. Their bins are shared as in
        :meth:`kl_divergence`, and a pseudo-count is added to each of the :math:`B^2` cells of a
        joint histogram. Over samples, the pairs are the symbols of ``x`` and ``y``. These are
        two variables of their own, such as an activation and a label, that may have different
        numbers of units: each has its own grid.

        Arguments:
            x: Tensor or array, any shape.
            y: Tensor or array of the same shape; over samples only n must be the same.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument is empty, not finite, outside an explicit range, or counts,
                which do not know of pairs; the shapes differ; or all pairs are different under
                ``correction="chao-shen"``.

        Example:
            >>> label = torch.tensor([0, 0, 1, 1])
            >>> h = ip.Histogram(bins=2, over="samples")
            >>> h.mutual_information([[0.1, 7], [0.2, 7], [9, 8], [9, 1]], label)
            tensor(0.6931, dtype=torch.float64)
        """
        return self._estimate("mutual_information", x, y)

    def pointwise(self, measure: str, *tensors: ArrayLike) -> Tensor:
        """What each sample contributes to a measure; see :func:`infoprobe.pointwise`.

        Only over samples. A correction adds the same to all of them.

        Arguments:
            measure: ``"entropy"`` or ``"mutual_information"``.
            tensors: The arguments of the method of this name, whose errors it has, too.
        """
        terms = surprisals.pointwise(self._binning, measure, tensors)
        return terms + (self._estimate(measure, *tensors) - terms.mean())

    def uncovered(self, p: ArrayLike | Counts, q: ArrayLike | Counts) -> Tensor:
        r"""The share of ``p``'s values (or samples) that lie in bins where ``q`` has none.

        Where it is positive, :math:`KL(P \| Q)` is infinite or owed to the pseudo-count. The
        arguments and errors are the same as in :meth:`cross_entropy`.
        """
        return gaps.uncovered(self._binning, p, q)

    def kl_at_zero(self, p: ArrayLike | Counts, q: ArrayLike | Counts) -> Tensor:
        r"""The part of :math:`KL(P \| Q)` that the edge at zero accounts for.

        It says by how many nats the divergence falls when the two bins beside zero are made one.
        With ``range="dyadic"``, zero is always an edge, so that an atom at 0 (black pixels, the
        output of a ReLU) falls into one bin, and the same atom with the least noise into two.
        Without an edge at zero it is 0, and where the divergence is infinite either way, NaN. The
        arguments and errors are the same as in :meth:`cross_entropy`; only over values.
        """
        corrections.require_probabilities(self.correction)
        if self.over != "values":
            raise ArgumentValueError(
                "over",
                f"kl_at_zero looks at one pooled histogram, got {self.over!r}. Use over='values'.",
            )
        return gaps.kl_at_zero(self._binning, self._formulas, p, q)

    @property
    def uncorrected(self) -> Histogram:
        """The same bins without correction: equal for estimators that can share counts."""
        return dataclasses.replace(self, pseudocount=0.0, correction=None)

    @property
    def streams(self) -> bool:
        """Whether data may come in batches: over values, with ``"dyadic"`` and ``(low, high)``."""
        return self._binning.streams

    def count(self, x: ArrayLike) -> Counts:
        """Counts of ``x`` that can stand for it in every method, and be added up over batches.

        Only over values, for ranges that need not know all data beforehand: :attr:`streams`.

        Example:
            >>> h = ip.Histogram()
            >>> a, b = torch.randn(1000), torch.rand(50)
            >>> bool(h.entropy(h.count(a) + h.count(b)) == h.entropy(torch.cat([a, b])))
            True

        Raises:
            TypeError: ``x`` does not hold real numbers.
            ValueError: ``x`` is empty, not finite, or outside an explicit range; or ``range`` or
                ``over`` needs all the data at once.
        """
        binning = self._binning
        binning.require_streaming()
        return counts_of(binning, x, "x")

    def count_blocks(self, x: ArrayLike, blocks: int) -> GroupedCounts:
        """The same as :meth:`count`, apart for ``blocks`` blocks of neighbouring samples."""
        binning = self._binning
        binning.require_streaming()
        return counts_of_blocks(binning, x, "x", blocks)

    def count_unread(
        self, tensors: Sequence[Tensor], blocks: int, of_samples: Sequence[Tensor] | None = None
    ) -> Unread:
        """The counts of some tensors on one device, which stay there until they are read.

        Arguments:
            tensors: The tensors, with samples along the first axis.
            blocks: The number of blocks of neighbouring samples that are counted apart.
            of_samples: The block of each sample, on the CPU, for each tensor; ``None`` for blocks
                of about the same size.
        """
        return count_unread(self._binning, tensors, blocks, of_samples)

    def why_refused(self, low: float, high: float) -> str:
        """Why values with these extremes are not counted."""
        if isinstance(self.range, str) or not math.isfinite(low + high):
            return why_refused(low, high)
        return (
            f"expected values within range={self.range}, got values from {low!r} to {high!r}. "
            "Widen the range, or pass outside='clip' or outside='drop'."
        )

    def estimate(self, measure: str, *tensors: ArrayLike | Counts) -> Estimate:
        """The value of a measure, its standard error and findings on it.

        The standard error is the root of the mean squared error, of noise and of the bias that is
        left after a ``correction``, by the delete-a-group jackknife: up to 32 groups of whole
        samples are left out in turn, the same in all arguments, from the same bins. Tensors are
        divided at random. Counts of a probe are in groups of passes, so that their standard
        error, unlike the value, may depend on the batches. It is ``None`` where the value is
        infinite, with fewer than two groups of samples, and for counts without groups.
        ``measure`` is the name of a method; the arguments and errors are those of the method.
        """
        arguments_of(measure, ARGUMENTS, tensors)
        of, parts = self._parts(measure, tensors, apart=True)
        value, error = formulas.total_with_error(measure, self.over, of, parts)
        findings = self.diagnose(measure, tensors, value)
        # A finding must not depend on batches, as the error from counts does.
        if error and not findings and not any(isinstance(x, Counts) for x in tensors):
            findings = bias_findings(error, "Use fewer bins, or more samples.")
        return Estimate(value, error.stderr if error else None, findings)

    def require_measure(self, measure: str) -> None:
        """Raises a ValueError if a ``correction`` of entropies alone stands against the method.

        Arguments:
            measure: The name of the method.
        """
        if ARGUMENTS[measure].independent and self.correction in corrections.OF_ENTROPY:
            raise ArgumentValueError(
                "estimator",
                f"expected one that gives probabilities, got correction={self.correction!r}, "
                "which corrects entropies alone. Use a pseudocount, correction='james-stein' or "
                "None.",
            )

    def diagnose(
        self, measure: str, tensors: Sequence[Any], value: Tensor | None
    ) -> list[Finding]:
        """What stands in the way of trusting a value; see :func:`infoprobe.diagnose`.

        Arguments:
            measure: The name of the method that gave the value.
            tensors: Its arguments.
            value: What it returned, in nats; ``None`` if it raised an error.
        """
        return [] if value is None else diagnosis.diagnose(self, measure, tensors, float(value))

    @functools.cached_property
    def _binning(self) -> Binning:
        return Binning(self.bins, self.range, self.over, self.outside)

    @property
    def _formulas(self) -> Formulas:
        return Formulas(self.pseudocount, self.correction)

    def _parts(
        self, measure: str, tensors: Sequence[Any], apart: bool
    ) -> tuple[Callable[..., Tensor], Iterator[list[Table]]]:
        """What gives the measure of each row of some tables, and the tables in parts."""
        arguments = ARGUMENTS[measure]
        if arguments.independent:
            corrections.require_probabilities(self.correction)
        given = dict(zip(arguments.names, tensors, strict=True))
        tables = (tabulate_pairs if arguments.of_pairs else tabulate)(
            self._binning, **given, apart=apart
        )
        return self._formulas.of(measure), tables

    def _estimate(self, measure: str, *tensors: ArrayLike | Counts) -> Tensor:
        of, parts = self._parts(measure, tensors, apart=False)
        return formulas.total(measure, self.over, (of(*tables) for tables in parts))
