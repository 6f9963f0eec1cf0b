r"""Increasing maps of single features to standard Gaussian ones, fitted without descent.

The density of a feature is smoothed with a penalty on the third differences of its logarithm,
which leaves Gaussians alone (Silverman, 1982), and the map carries its quantiles to quantiles of a
standard Gaussian by a monotone rational-quadratic spline (Gregory & Delbourgo, 1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from infoprobe import checks, devices
from infoprobe.devices import ascending
from infoprobe.errors import ArgumentValueError

# Intervals of a map, and of the coarse map through quantiles that spaces the former.
_INTERVALS, _COARSE = 48, 10

# Weights of the penalty, in samples: from a Gaussian (in the coordinate that spaces the
# intervals) to hardly any smoothing. The width of the kernel grows with their sixth root.
_PENALTIES = (1e6, 1e4, 1e2, 1.0)

# Samples that are spread over all intervals alike, so that none is empty.
_PRIOR = 0.5

# A feature is mapped by a straight line unless x_stop gains this many nats in all by a curve.
_GAIN = 1.0

# Where the straight line would end, in deviations.
_FAR = 10.0

# The power by which the mass in the tails falls.
_TAIL = 2.0

_FEWEST = 10

_LOG_ROOT = math.log(2 * math.pi) / 2


class Marginals(nn.Module):
    r"""A strictly increasing, continuously differentiable map of each feature by itself.

    A rational-quadratic spline through knots :math:`(x_j, z_j)` with given slopes. Beyond the
    outermost knots, the mass S of the density that the map makes of a standard Gaussian one falls
    by a power,

    .. math:: S(x) = S_m \left(1 + \frac{p_m}{2 S_m} (x - x_m)\right)^{-2},
        \quad z = \Phi^{-1}(1 - S(x)),

    with the mass :math:`S_m` beyond the last knot and the density :math:`p_m` there. Few values
    lie out there, so that a lighter tail hardly gains where it is right, while it would make an
    outlier all but impossible.

    Arguments:
        positions: The knots :math:`x_j`, (d, m + 1), increasing in each row; float64.
        scores: Where they are carried, :math:`z_j`, (d, m + 1), increasing from below 0 to above.
        slopes: The derivatives there, (d, m + 1), above 0.
    """

    positions: Tensor
    scores: Tensor
    slopes: Tensor

    def __init__(self, positions: Tensor, scores: Tensor, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("positions", positions.contiguous())
        self.register_buffer("scores", scores.contiguous())
        self.register_buffer("slopes", slopes.contiguous())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, d) to scores (n, d), and the log-determinants (n,), all float64."""
        z, logs = self.features(x.double().T.contiguous())
        return z.T, logs.sum(0)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n, d) to samples (n, d), and the log-determinants (n,) of this direction."""
        x = self._inverse(z.double().T.contiguous())
        return x.T, -self.features(x)[1].sum(0)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """How likely the map makes each of the samples (n, d), feature by feature, (n, d)."""
        z, logs = self.features(x.double().T.contiguous())
        return (logs - z.square() / 2 - _LOG_ROOT).T

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and the logarithms of derivatives, (d, n), of samples (d, n)."""
        left, low, slope, width, height, above = self._at(self.positions, x)
        rise = height / width
        t = ((x - left) / width).clamp(0, 1)
        u = t * (1 - t)
        bottom = rise + (slope + above - 2 * rise) * u
        z = low + height * (rise * t.square() + slope * u) / bottom
        top = above * t.square() + 2 * rise * u + slope * (1 - t).square()
        logs = 2 * (rise.log() - bottom.log()) + top.log()
        for edge, _, sign, mass, density in self._ends():
            outside = sign * (x - edge) > 0
            away = torch.where(outside, sign * (x - edge), 0.0)
            fall = torch.log1p(density / mass * away / _TAIL)
            beyond = -torch.special.ndtri(mass * (-_TAIL * fall).exp())
            z = torch.where(outside, sign * beyond, z)
            steep = density.log() - (_TAIL + 1) * fall + beyond.square() / 2 + _LOG_ROOT
            logs = torch.where(outside, steep, logs)
        return z, logs

    def _inverse(self, z: Tensor) -> Tensor:
        left, low, slope, width, height, above = self._at(self.scores, z)
        rise = height / width
        y = torch.minimum((z - low).clamp(min=0), height)
        curve = y * (slope + above - 2 * rise)
        b = height * slope - curve
        root = (b.square() + 4 * rise * y * (height * (rise - slope) + curve)).sqrt()
        x = left + width * 2 * rise * y / (b + root)
        for edge, score, sign, mass, density in self._ends():
            outside = sign * (z - score) > 0
            beyond = torch.where(outside, sign * z, sign * score)
            fall = (mass.log() - torch.special.log_ndtr(-beyond)) / _TAIL
            away = torch.expm1(fall) * _TAIL * mass / density
            x = torch.where(outside, edge + sign * away, x)
        return x

    def _at(self, knots: Tensor, values: Tensor) -> list[Tensor]:
        """Both ends of the intervals in which values (d, n) lie, and their sizes."""
        k = torch.searchsorted(knots, values.detach(), right=True) - 1
        k = k.clamp(0, knots.shape[1] - 2)
        x, z, slopes = self.positions, self.scores, self.slopes
        table = (x, z, slopes, x.diff(), z.diff(), slopes[:, 1:])
        return [entries.gather(1, k) for entries in table]

    def _ends(self) -> Iterator[tuple[Tensor, Tensor, int, Tensor, Tensor]]:
        """For both ends: the knot, its score, the direction, the mass beyond, and the density."""
        for end, sign in ((0, -1), (-1, 1)):
            x, z, slope = (b[:, end, None] for b in (self.positions, self.scores, self.slopes))
            density = slope * (-z.square() / 2 - _LOG_ROOT).exp()
            # torch's ndtr is 0 from -9 on.
            yield x, z, sign, torch.special.log_ndtr(-z.abs()).exp(), density


def fit(x_fit: Tensor, x_stop: Tensor) -> Marginals:
    r"""The map of each feature that makes it standard Gaussian, as nearly as the samples tell.

    Candidates are a straight line, and curves from densities that are smoothed more or less on
    two kinds of intervals, even ones and ones that a coarse map through quantiles spaces; x_stop
    chooses one of them for each feature by its likelihood.

    Arguments:
        x_fit: Samples, (n, d), at least 10.
        x_stop: Other samples, (m, d), to choose by.

    Bias and limits:
        Measured at n = 8,000 and m = 1,000 on new samples, the likelihood of a feature falls short
        of the truth by 0.0003 nats if it is Gaussian; by 0.001 to 0.003 if it is Laplace,
        logistic, uniform, exponential, chi-squared, a mixture of two Gaussians, Cauchy, or Student
        with 3 degrees of freedom.

    Raises:
        ValueError: There are fewer than 10 samples, or constant features.

    References:
        | B. Silverman (1982). On the estimation of a probability density function by the maximum
          penalized likelihood method. Annals of Statistics 10(3), 795-810.
        | P. Eilers & B. Marx (1996). Flexible smoothing with B-splines and penalties. Statistical
          Science 11(2), 89-121.
        | J. Gregory & R. Delbourgo (1982). Piecewise rational quadratic interpolation to monotonic
          data. IMA J. Numerical Analysis 2(2), 123-130.
    """
    if len(x_fit) < _FEWEST:
        raise ArgumentValueError(
            "x_fit", f"expected at least {_FEWEST} samples, got {len(x_fit)}. Pass more of them."
        )
    checks.require_varying(x_fit, "x_fit")
    line = ascending(x_fit.T, 1).double().contiguous()
    chosen = _straight(line)
    best = chosen.log_likelihood(x_stop).sum(0) + _GAIN
    for edges in (_even(line), _spaced(line)):
        for masses in _smoothed(line, edges):
            curve = _through(edges, masses, line.shape[1])
            likelihood = curve.log_likelihood(x_stop).sum(0)
            better = likelihood > best  # false of NaN
            best = torch.where(better, likelihood, best)
            for name, buffer in chosen.named_buffers():
                other = curve.get_buffer(name)
                setattr(chosen, name, torch.where(better.unsqueeze(1), other, buffer))
    return chosen


def _grid(low: float, high: float, knots: int, like: Tensor) -> Tensor:
    """Evenly spaced numbers, one row for each feature."""
    grid = torch.linspace(low, high, knots, dtype=torch.float64, device=like.device)
    return grid.expand(len(like), -1).contiguous()


def _straight(line: Tensor) -> Marginals:
    mean, deviation = line.mean(1, keepdim=True), line.std(1, keepdim=True)
    scores = _grid(-_FAR, _FAR, _INTERVALS + 1, line)
    return Marginals(mean + deviation * scores, scores, (1 / deviation).expand_as(scores))


def _even(line: Tensor) -> Tensor:
    low, high = line[:, :1], line[:, -1:]
    edges = low + (high - low) * _grid(0, 1, _INTERVALS + 1, line)
    edges[:, -1:] = high
    return edges


def _spaced(line: Tensor) -> Tensor:
    """Edges (d, m + 1) of intervals, which a coarse map carries to even ones."""
    n = line.shape[1]
    scores = torch.special.ndtri((_grid(0, n - 1, n, line[:1]) + 0.5) / n).squeeze(0)
    top = float(scores[-1])
    coarse = _grid(-top, top, _COARSE + 1, line)
    rank = (torch.special.ndtr(coarse) * n - 0.5).clamp(0, n - 1)
    below = rank.long().clamp(max=n - 2)
    low, high = line.gather(1, below), line.gather(1, below + 1)
    knots = low + (rank - below) * (high - low)
    rise = coarse.diff() / knots.diff()
    slopes = torch.cat([rise[:, :1], (rise[:, 1:] * rise[:, :-1]).sqrt(), rise[:, -1:]], 1)
    edges = Marginals(knots, coarse, slopes)._inverse(_grid(-top, top, _INTERVALS + 1, line))
    edges[:, :1], edges[:, -1:] = line[:, :1], line[:, -1:]
    # Where values repeat, there may be no room between quantiles.
    usable = (edges.diff() > 0).all(1, keepdim=True)
    return torch.where(usable, edges, _even(line))


def _smoothed(line: Tensor, edges: Tensor) -> Iterator[Tensor]:
    r"""The share of each interval, (d, m), for one penalty after another.

    The logarithms :math:`\eta` of expected counts :math:`\mu` are those that maximise the
    likelihood :math:`\sum_j y_j \eta_j - \mu_j` of the counts y, less
    :math:`\tfrac\lambda2 \|\Delta^3 \eta\|^2`, by Newton's method.
    """
    d, n = line.shape
    inner = torch.searchsorted(line, edges[:, 1:-1].contiguous())
    ends = inner.new_tensor([0, n]).expand(d, 2)
    counts = torch.cat([ends[:, :1], inner, ends[:, 1:]], 1).diff().double() + _PRIOR / _INTERVALS
    eye = torch.eye(_INTERVALS, dtype=torch.float64, device=line.device)
    differences = eye.diff(n=3, dim=0)
    roughness = differences.T @ differences
    logs = (counts + 1).log()
    for penalty in _PENALTIES:
        for _ in range(50):
            expected = logs.exp()
            curvature = torch.diag_embed(expected) + penalty * roughness
            ascent = counts - expected - penalty * (logs @ roughness)
            factor = torch.linalg.cholesky(curvature)
            step = torch.cholesky_solve(ascent.unsqueeze(2), factor).squeeze(2)
            size = step.abs().amax(1, keepdim=True)
            logs = logs + step / (size / 2).clamp(min=1)
            if size.max() < 1e-3:
                break
        yield (torch.softmax(logs, 1) * n + _PRIOR / _INTERVALS) / (n + _PRIOR)


def _through(edges: Tensor, masses: Tensor, n: int) -> Marginals:
    """The map that carries a density with these masses to a standard Gaussian one."""
    # Beyond the least of n values, and beyond the greatest, lies 1 / (n + 1) in expectation.
    tail = torch.full_like(masses[:, :1], 1 / (n + 1))
    masses = masses * ((n - 1) / (n + 1))
    below = devices.cumsum(torch.cat([tail, masses], 1), 1)
    above = devices.cumsum(torch.cat([masses, tail], 1).flip(1), 1).flip(1)
    # Of both, the smaller has the digits.
    tails = torch.special.ndtri(torch.minimum(below, above))
    scores = torch.where(below < above, tails, -tails)
    logs = (masses / edges.diff()).log()
    ends = [1.5 * logs[:, i, None] - 0.5 * logs[:, j, None] for i, j in ((0, 1), (-1, -2))]
    logs = torch.cat([ends[0], (logs[:, 1:] + logs[:, :-1]) / 2, ends[1]], 1)
    return Marginals(edges, scores, (logs + scores.square() / 2 + _LOG_ROOT).exp())
