r"""Entropies, divergences and mutual information of the bin that a value falls in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.histogram import corrections, tables
from infoprobe.estimators.histogram.counts import (
    Counts,
    DyadicGrid,
    Grid,
    UniformGrid,
    count,
    share,
)
from infoprobe.estimators.histogram.tables import Table, joint_tally, tally

_MAX_BINS = 1 << 24
# With up to so many cells for each pair, a joint histogram is faster than sorting the pairs.
_DENSE = 2


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
        remove it, may exceed :math:`\ln B`, and that of a constant need not be 0. Where each
        value is the only one in its bin, ``"chao-shen"`` knows nothing: its entropy is infinite
        (the limit for a coverage of 0, where other implementations pretend that one value were
        not alone), and mutual information raises an error.

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
    range: Literal["dyadic", "minmax", "own"] | tuple[float, float] = "dyadic"
    over: Literal["values", "units", "samples"] = "values"
    pseudocount: float = 0.0
    correction: Literal["miller-madow", "james-stein", "chao-shen", "grassberger"] | None = None
    _: KW_ONLY
    outside: Literal["raise", "clip", "drop"] = "raise"

    def __post_init__(self) -> None:
        checks.require_integer(self.bins, 1, _MAX_BINS, "bins")
        checks.require_one_of(self.over, ["values", "units", "samples"], "over")
        checks.require_one_of(self.outside, ["raise", "clip", "drop"], "outside")
        if isinstance(self.range, str):
            checks.require_one_of(self.range, ["dyadic", "minmax", "own"], "range")
            if self.outside != "raise":
                raise ArgumentValueError(
                    "outside",
                    f"expected 'raise' with range={self.range!r}, under which no value "
                    f"lies outside, got {self.outside!r}. Give an explicit range=(low, high).",
                )
            if self.range == "dyadic" and self.bins < 2:
                raise ArgumentValueError(
                    "bins",
                    "expected at least 2 with range='dyadic', where zero is always an "
                    f"edge, got {self.bins}. Use range='minmax' for a single bin.",
                )
        else:
            object.__setattr__(self, "range", _explicit_range(self.range))
        checks.require_real(self.pseudocount, 0, "pseudocount")
        checks.require_one_of(
            self.correction, [None, "james-stein", *corrections.OF_ENTROPY], "correction"
        )
        if self.pseudocount and self.correction:
            raise ArgumentValueError(
                "pseudocount",
                f"expected 0 with correction={self.correction!r}, got "
                f"{self.pseudocount!r}. Both make up for few data: choose one.",
            )
        if self.over == "samples" and (self.pseudocount or self.correction == "james-stein"):
            setting = "correction='james-stein'" if self.correction else "a pseudocount"
            raise ArgumentValueError(
                "over",
                f"'samples' cannot have {setting}, which gives mass to each of up to "
                "bins**d symbols. Use correction='miller-madow', 'chao-shen' or 'grassberger', "
                "which ask for the observed symbols only.",
            )

    def entropy(self, x: Any) -> Tensor:
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
        return _total(self._entropy(table) for (table,) in self._tables(x=x))

    def cross_entropy(self, p: Any, q: Any) -> Tensor:
        r"""Cross-entropy :math:`H(P, Q) = -\sum_i \hat p_i \ln \hat q_i = H(P) + KL(P \| Q)`.

        Arguments:
            p: Sample of the first distribution, any shape.
            q: Sample of the second; its size may differ, and over values its shape.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument is empty, not finite, outside an explicit range, or counts on
                other bins than this estimator's; or the ``correction`` gives no probabilities.
        """
        return self._divergence(_cross_entropy, p, q)

    def kl_divergence(self, p: Any, q: Any) -> Tensor:
        r"""Relative entropy :math:`KL(P \| Q) = \sum_i \hat p_i \ln (\hat p_i / \hat q_i)`.

        Infinite where ``p`` has mass in a bin that ``q`` leaves empty, unless a ``pseudocount``
        or ``correction="james-stein"`` fills it. Arguments and errors as in
        :meth:`cross_entropy`.
        """
        return self._divergence(_relative_entropy, p, q)

    def js_divergence(self, p: Any, q: Any) -> Tensor:
        r"""Jensen-Shannon divergence :math:`\tfrac12 KL(P \| M) + \tfrac12 KL(Q \| M)`.

        Here :math:`M = (P + Q) / 2`. It is symmetric, and at most :math:`\ln 2` (for each unit).
        Arguments and errors as in :meth:`cross_entropy`.
        """
        return self._divergence(_jensen_shannon, p, q)

    def mutual_information(self, x: Any, y: Any) -> Tensor:
        r"""Mutual information :math:`I(X; Y) = H(X) + H(Y) - H(X, Y)` from a joint histogram.

        Over values, the pairs are the values at the same place in ``x`` and ``y``; over units
        likewise, a joint histogram for each unit, summed up. Their bins are shared as in
        :meth:`kl_divergence`, and a pseudo-count is added to each of the :math:`B^2` cells of a
        joint histogram. Over samples, the pairs are the symbols of ``x`` and ``y``. These are
        two variables of their own, such as an activation and a label, that may have different
        numbers of units: each has its own grid.

        Arguments:
            x: Tensor or array, any shape.
            y: Of the same shape; over samples with as many samples.

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
        return _total(self._information(*three) for three in self._joint_tables(x, y))

    def uncovered(self, p: Any, q: Any) -> Tensor:
        r"""The share of ``p``'s values (or samples) that lie in bins where ``q`` has none.

        Where it is positive, :math:`KL(P \| Q)` is infinite, or a product of the pseudo-count.
        Arguments and errors as in :meth:`cross_entropy`.
        """
        counts = [
            torch.stack([(a.counts * (b.counts == 0)).sum(), a.counts.sum()])
            for a, b in self._tables(p=p, q=q)
        ]
        alone, total = torch.stack(counts).sum(0).to(torch.float64).unbind()
        return alone / total

    def kl_at_zero(self, p: Any, q: Any) -> Tensor:
        r"""The part of :math:`KL(P \| Q)` that the edge at zero accounts for.

        That is how much less it is when the two bins beside zero are one. With
        ``range="dyadic"``, zero is always an edge, so that an atom at 0 (black pixels, the output
        of a ReLU) and the same atom with the least noise fall into one bin and into two. Without
        an edge at zero it is 0, and where the divergence is infinite either way, NaN. Arguments
        and errors as in :meth:`cross_entropy`; only over values.
        """
        self._require_probabilities()
        if self.over != "values":
            raise ArgumentValueError(
                "over",
                f"kl_at_zero looks at one pooled histogram, got {self.over!r}. Use over='values'.",
            )
        a, b = self._counts(p=p, q=q)
        p, q = (self._probability(_pooled(counts)).squeeze(0) for counts in (a, b))
        whole = _relative_entropy(p, q)
        (edge,) = (a.grid.edges()[1:-1] == 0).nonzero(as_tuple=True)
        if a.grid != b.grid or not len(edge):
            return torch.zeros_like(whole)
        left = int(edge)
        return whole - _relative_entropy(_merged(p, left), _merged(q, left))

    @property
    def uncorrected(self) -> Histogram:
        """The same bins, plainly counted: estimators that agree in this can share counts."""
        return dataclasses.replace(self, pseudocount=0.0, correction=None)

    @property
    def streams(self) -> bool:
        """Whether data may come in batches: over values, with ``"dyadic"`` and ``(low, high)``."""
        return self.over == "values" and (
            self.range == "dyadic" or not isinstance(self.range, str)
        )

    def count(self, x: Any) -> Counts:
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
        self._require_streaming()
        return self._count(_values(x, "x"))

    def _require_streaming(self) -> None:
        if self.over != "values":
            raise ArgumentValueError(
                "over",
                f"{self.over!r} needs all the data at once, since counts know of no "
                f"{self.over}. Use over='values', or pass the tensors themselves.",
            )
        if not self.streams:
            raise ArgumentValueError(
                "range",
                f"{self.range!r} needs all the values at once, so counts cannot be added "
                "up over batches. Use range='dyadic' or an explicit (low, high).",
            )

    def _require_probabilities(self) -> None:
        if self.correction in corrections.OF_ENTROPY:
            raise ArgumentValueError(
                "correction",
                f"{self.correction!r} corrects entropies and gives no probabilities, "
                "which this measure compares. Use correction='james-stein', a pseudocount, or "
                "correction=None.",
            )

    def _check_grid(self, counts: Counts, name: str) -> None:
        self._require_streaming()
        if isinstance(self.range, str):
            same = isinstance(counts.grid, DyadicGrid) and counts.grid.bins == self.bins
        else:
            same = counts.grid == UniformGrid(*self.range, self.bins)
        if not same:
            raise ArgumentValueError(
                name,
                f"expected counts made by an estimator with bins={self.bins} and "
                f"range={self.range!r}, got counts on {counts.grid}. Count again with this one.",
            )

    # From tables of counts to numbers, one for each row.

    def _weight(self, table: Table) -> Tensor:
        if self.correction == "james-stein":
            return corrections.james_stein(table)
        return corrections.pseudocount(table, self.pseudocount)

    def _probability(self, table: Table) -> Tensor:
        return corrections.probabilities(table, self._weight(table))

    def _entropy(self, table: Table) -> Tensor:
        if self.correction in corrections.OF_ENTROPY:
            return corrections.OF_ENTROPY[self.correction](table)
        return corrections.entropy(table, self._weight(table))

    def _divergence(self, of: Callable[[Tensor, Tensor], Tensor], p: Any, q: Any) -> Tensor:
        self._require_probabilities()
        return _total(
            of(self._probability(a), self._probability(b)) for a, b in self._tables(p=p, q=q)
        )

    def _information(self, x: Table, y: Table, joint: Table) -> Tensor:
        if self.correction in corrections.OF_ENTROPY:
            entropies = [self._entropy(table) for table in (x, y, joint)]
        else:
            # Margins of the shrunk joint probabilities are margins, shrunk by the same weight.
            weight = self._weight(joint)
            entropies = [corrections.entropy(table, weight) for table in (x, y, joint)]
        if any(bool(entropy.isinf().any()) for entropy in entropies):
            unit = " of some unit" if self.over == "units" else ""
            raise ArgumentValueError(
                "correction",
                "'chao-shen' leaves mutual information undefined, since no two pairs"
                f"{unit} fall into the same bins and their entropy is infinite. Use fewer bins, "
                "more data or another correction.",
            )
        of_x, of_y, of_both = entropies
        return of_x + of_y - of_both

    # From arguments to tables of counts.

    def _tables(self, **arguments: Any) -> Iterator[list[Table]]:
        """A table for each argument, cell for cell, on the device of the first.

        Over units they come in parts, each with the rows of other units.
        """
        if self.over == "values":
            yield [_pooled(counts) for counts in self._counts(**arguments)]
            return
        samples = [self._samples(x, name) for name, x in arguments.items()]
        checks.require_same_width(**{x.name: x.tensor for x in samples})
        if self.over == "units":
            yield from self._unit_tables(samples)
        else:
            labels = all(x.labels for x in samples)
            samples = [self._kept(x._replace(labels=labels))[0] for x in samples]
            symbols, cells = self._symbols(samples)
            yield [tally([of_x], cells) for of_x in symbols]

    def _unit_tables(self, samples: Sequence[_Argument]) -> Iterator[list[Table]]:
        self._check_inside(*samples)
        for parts in tables.columns([x.tensor for x in samples], cells=self.bins):
            found = []
            for x, part, grids in zip(samples, parts, self._grids(parts), strict=True):
                places = map(self._indexer(grids, part.device), tables.rows(part))
                table = tally(places, tables.cells_of(grids, part.device))
                self._check_left(table.counts, x.name)
                found.append(table)
            yield found

    def _joint_tables(self, x: Any, y: Any) -> Iterator[list[Table]]:
        """The tables of x, of y and of their pairs, in parts as in :meth:`_tables`."""
        for name, argument in (("x", x), ("y", y)):
            if isinstance(argument, Counts):
                raise ArgumentValueError(
                    name,
                    "expected a tensor or an array, got counts, which do not know which "
                    "values belong together. Pass the values themselves.",
                )
        if self.over == "values":
            yield from self._pairs(_values(x, "x"), _values(y, "y"))
        elif self.over == "units":
            yield from self._pairs(self._samples(x, "x"), self._samples(y, "y"))
        else:
            yield self._pairs_of_symbols(self._samples(x, "x"), self._samples(y, "y"))

    def _pairs(self, x: _Argument, y: _Argument) -> Iterator[list[Table]]:
        if x.tensor.shape != y.tensor.shape:
            raise ArgumentValueError(
                "x, y",
                f"expected the same shape, since {self.over} are taken in pairs, got "
                f"{tuple(x.tensor.shape)} and {tuple(y.tensor.shape)}. Pass what belongs "
                "together, or use over='samples' for variables of different width.",
            )
        self._check_inside(x, y)
        if self.over == "values":
            x, y = (z._replace(tensor=z.tensor.reshape(-1, 1)) for z in (x, y))
        n = len(x.tensor)
        dense = self.bins**2 <= _DENSE * n
        for parts in tables.columns(
            [x.tensor, y.tensor], self.bins**2 if dense else max(n, self.bins)
        ):
            grids = self._grids(parts)
            of_x, of_y = (self._indexer(grid, parts[0].device) for grid in grids)
            blocks = zip(*(tables.rows(part) if dense else [part] for part in parts), strict=True)
            places = ((of_x(a), of_y(b)) for a, b in blocks)
            x_cells, y_cells = (tables.cells_of(grid, parts[0].device) for grid in grids)
            found = joint_tally(places, x_cells, y_cells, dense)
            self._check_left(found[0].counts, "x, y")
            yield found

    def _pairs_of_symbols(self, x: _Argument, y: _Argument) -> list[Table]:
        checks.require_same_length(x=x.tensor, y=y.tensor)
        x, y = self._kept(x, y)
        (of_x,), x_cells = self._symbols([x])
        (of_y,), y_cells = self._symbols([y])
        y_cells, of_y = y_cells.to(of_x.device), of_y.to(of_x.device)
        dense = float(x_cells * y_cells) <= _DENSE * len(of_x)
        return joint_tally([(of_x, of_y)], x_cells, y_cells, dense)

    def _samples(self, x: Any, name: str) -> _Argument:
        if isinstance(x, Counts):
            self._require_streaming()
        tensor = checks.as_tensor(x, name).detach()
        labels = self.over == "samples" and tensor.dim() == 1 and not tensor.is_floating_point()
        tensor = checks.samples(tensor, name)
        return _Argument(name, tensor, *checks.extent(tensor, name), labels)

    def _kept(self, *samples: _Argument) -> list[_Argument]:
        """The samples of all arguments, less those that are outside the range in any."""
        binned = [x for x in samples if not x.labels]
        self._check_inside(*binned)
        if self.outside != "drop":
            return list(samples)
        low, high = cast("tuple[float, float]", self.range)
        keep = torch.ones(len(samples[0].tensor), dtype=torch.bool, device="cpu")
        for x in binned:
            least, greatest = x.tensor.amin(1).double().cpu(), x.tensor.amax(1).double().cpu()
            keep &= (least >= low) & (greatest <= high)
        self._check_left(keep.unsqueeze(0), ", ".join(x.name for x in samples))
        return [x._replace(tensor=x.tensor[keep.to(x.tensor.device)]) for x in samples]

    def _symbols(self, samples: Sequence[_Argument]) -> tuple[Sequence[Tensor], Tensor]:
        """The symbols (n, 1) of each argument, numbered from 0, and how many there are (1, 1)."""
        device = samples[0].tensor.device
        lengths = [len(x.tensor) for x in samples]
        if samples[0].labels:
            symbols = tables.numbered(torch.cat([x.tensor.to(device) for x in samples]))
        else:
            grids = self._shared([(x.low, x.high) for x in samples])
            indexers = [self._indexer([grid], device) for grid in grids]
            blocks = (
                torch.cat([index(part) for index, part in zip(indexers, parts, strict=True)])
                for parts in tables.columns([x.tensor for x in samples], cells=sum(lengths))
            )
            symbols = tables.symbols(blocks, self.bins)
        cells = (symbols.max() + 1).to(torch.float64).reshape(1, 1)
        return torch.split(symbols, lengths), cells

    def _counts(self, **arguments: Any) -> list[Counts]:
        """The counts of one or two arguments over values, on the device of the first."""
        for name, x in arguments.items():
            if isinstance(x, Counts):
                self._check_grid(x, name)
        values = {
            name: x if isinstance(x, Counts) else _values(x, name) for name, x in arguments.items()
        }
        if self.streams:
            counted = [v if isinstance(v, Counts) else self._count(v) for v in values.values()]
        else:
            given = cast("list[_Argument]", list(values.values()))
            grids = self._shared([(v.low, v.high) for v in given])
            counted = [count(v.tensor, grid) for v, grid in zip(given, grids, strict=True)]
        device = counted[0].values.device
        counted = [c.to(device) for c in counted]
        if self.streams and len(counted) == 2:
            counted = list(share(*counted))
        for name, c in zip(values, counted, strict=True):
            self._check_left(c.values.unsqueeze(0), name)
        return counted

    def _count(self, x: _Argument) -> Counts:
        """Counts of a single argument over values."""
        return count(self._inside(x), self._grid(x.low, x.high))

    # Bins, and what lies outside of them.

    def _grid(self, low: float, high: float) -> Grid:
        """The grid for values from ``low`` to ``high``."""
        if self.range == "dyadic":
            return DyadicGrid.spanning(low, high, self.bins)
        if not isinstance(self.range, str):
            return UniformGrid(*self.range, self.bins)
        if not math.isfinite(high - low):
            raise ArgumentValueError(
                "range",
                f"the values span {low} to {high}, which overflows float64. "
                "Rescale them, or use range='dyadic'.",
            )
        return UniformGrid(low, high, self.bins)

    def _shared(self, extents: Sequence[tuple[float, float]]) -> list[Grid]:
        """The grid of each argument: the same for all, unless each has its own."""
        if self.range == "own":
            return [self._grid(*extent) for extent in extents]
        lows, highs = zip(*extents, strict=True)
        return [self._grid(min(lows), max(highs))] * len(extents)

    def _grids(self, parts: Sequence[Tensor]) -> list[tuple[Grid, ...]]:
        """The grids of each argument, one for each of its columns."""
        extents = (
            zip(part.amin(0).tolist(), part.amax(0).tolist(), strict=True) for part in parts
        )
        by_column = [self._shared(column) for column in zip(*extents, strict=True)]
        return list(zip(*by_column, strict=True))

    def _indexer(self, grids: Sequence[Grid], device: torch.device) -> Callable[[Tensor], Tensor]:
        """What finds the places of values (n, columns) on the grids; -1 for one to be dropped."""
        index = tables.indexer(grids, device)
        if isinstance(self.range, str):
            return index
        low, high = self.range

        def within(x: Tensor) -> Tensor:
            x = x.to(torch.float64)  # where the edges are what the user wrote
            places = index(x.clamp(low, high))
            if self.outside == "drop":
                places.masked_fill_((x < low) | (x > high), -1)
            return places

        return within

    def _inside(self, x: _Argument) -> Tensor:
        self._check_inside(x)
        if isinstance(self.range, str):
            return x.tensor
        low, high = self.range
        if low <= x.low and x.high <= high:
            return x.tensor
        values = x.tensor.to(torch.float64)
        if self.outside == "clip":
            return values.clamp(low, high)
        return values[(values >= low) & (values <= high)]

    def _check_inside(self, *arguments: _Argument) -> None:
        if isinstance(self.range, str) or self.outside != "raise":
            return
        low, high = self.range
        for x in arguments:
            if x.low < low or x.high > high:
                values = x.tensor.to(torch.float64)
                outside = ((values < low) | (values > high)).to(torch.float64).mean()
                raise ArgumentValueError(
                    x.name,
                    f"expected values within range=({low}, {high}), got values from "
                    f"{x.low!r} to {x.high!r}, {float(outside):.3%} of them outside. Widen the "
                    "range, or pass outside='clip' or outside='drop'.",
                )

    def _check_left(self, counts: Tensor, name: str) -> None:
        """Raises if a row has no count."""
        if self.outside == "drop" and not bool(counts.any(1).all()):
            where = " in a unit" if self.over == "units" else ""
            raise ArgumentValueError(
                name,
                f"expected values within range={self.range}, but outside='drop' left "
                f"none{where}. Widen the range.",
            )


class _Argument(NamedTuple):
    """A checked argument: its values, exact in floating point, and their extent."""

    name: str
    tensor: Tensor
    low: float
    high: float
    labels: bool = False


def _values(x: Any, name: str) -> _Argument:
    tensor = checks.exact_float(checks.as_tensor(x, name).detach(), name)
    return _Argument(name, tensor, *checks.extent(tensor, name))


def _explicit_range(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(edge) for edge in value)
    except (TypeError, ValueError) as error:
        raise ArgumentValueError(
            "range",
            f"expected 'dyadic', 'minmax', 'own' or a pair (low, high) of numbers, got {value!r}.",
        ) from error
    if not (math.isfinite(high - low) and low < high):
        raise ArgumentValueError("range", f"expected finite low < high, got ({low}, {high}).")
    return low, high


def _pooled(counts: Counts) -> Table:
    return Table(counts.values.unsqueeze(0), tables.cells_of([counts.grid], counts.values.device))


def _merged(p: Tensor, i: int) -> Tensor:
    """Probabilities with the bins ``i`` and ``i + 1`` as one."""
    return torch.cat([p[:i], p[i : i + 2].sum(0, keepdim=True), p[i + 2 :]])


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(parts)).sum()


def _cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return -torch.xlogy(p, q).sum(-1)


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(-1)


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    mixture = (p + q) / 2
    return (_relative_entropy(p, mixture) + _relative_entropy(q, mixture)) / 2
