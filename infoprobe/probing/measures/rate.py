"""The rate of a variational bottleneck, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from infoprobe.errors import ArgumentTypeError
from infoprobe.models.variational import GaussianBottleneck
from infoprobe.probing.functions import OwnFunction
from infoprobe.probing.kept.base import Problem
from infoprobe.probing.kept.moments import Averaging, Moments, Numbers, Quantity
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind
from infoprobe.taps.calls import unobserved
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import plain


class Posterior(OwnFunction):
    """A function of the user's that tells the distribution of codes from what a layer returns."""

    def __call__(self, returned: Any) -> Distribution:
        """The distribution of the codes of a batch."""
        found = self.function(returned)
        if not isinstance(found, Distribution):
            raise ArgumentTypeError(
                "posterior",
                "expected a function that returns a distribution of torch.distributions, such as "
                f"Normal(mean, deviation), got one that returned a {type(found).__name__}.",
            )
        return found


@dataclass(frozen=True)
class Rates(Quantity):
    """The rate of the code that a layer gives to each sample.

    Attributes:
        posterior: Tells the distribution of the codes; ``None`` for a Gaussian bottleneck's.
        prior: The distribution that codes are compared with; ``None`` for a standard normal one.
    """

    posterior: Posterior | None = None
    prior: Distribution | None = None

    def of(self, event: Event) -> Numbers | Problem:
        """The rates of the samples, or why there are none."""
        with torch.no_grad(), unobserved():
            if self.posterior is not None:
                rates = _rates(self.posterior(event.returned), self.prior)
            elif not isinstance(event.module, GaussianBottleneck):
                return Problem(
                    "It has no value: the layer is no ip.models.GaussianBottleneck. Of another "
                    "layer, ip.Rate(posterior=...) must say the distribution of its codes.",
                    applies=False,
                )
            elif self.prior is None:
                rates = event.module.rate(*event.args, **event.kwargs)
            else:
                mean, log_variance = event.module.posterior(*event.args, **event.kwargs)
                rates = _rates(Normal(mean, (log_variance / 2).exp()), self.prior)
            return Numbers(plain(rates).double())


@dataclass(frozen=True, repr=False)
class Rate(Measure):
    r"""Measures what the codes of a variational bottleneck cost, exactly, in nats.

    .. math:: R = E_x\, KL(q(z|x) \| p(z)) = I(X; Z) + KL(q(z) \| p(z)) \ge I(X; Z)

    No estimator is needed. The value is the mean over all samples of the closed form, with its
    standard error. It bounds the information about the input that codes drawn in training carry,
    whatever the prior p. In evaluation mode, where the code is the mean, the value is the same but
    bounds nothing.

    Without arguments, the codes are those of :class:`infoprobe.models.GaussianBottleneck`, in
    whatever model, and layers of other classes have no value. Of your own model, choose the layer
    that returns the parameters of the codes, and say by ``posterior`` what they mean.

    Arguments:
        posterior: A function that takes what the layer returns and returns the distribution of
            the codes of the batch, (n, ...), as an object of ``torch.distributions``. It must draw
            no random numbers.
        prior: The distribution of ``torch.distributions`` that codes are compared with, on the
            device of the model; ``None`` for the standard normal one.

    Raises:
        TypeError: The posterior is no function, or the prior no distribution. Later, the row says
            why it has no value: torch knows no closed form of their divergence, for example.

    References:
        | D. Kingma & M. Welling (2014). Auto-encoding variational Bayes. ICLR. arXiv:1312.6114.
        | A. Alemi et al. (2018). Fixing a broken ELBO. ICML. arXiv:1711.00464.

    Example:
        >>> from torch.distributions import Normal
        >>> def posterior(output):
        ...     mean, log_variance = output.chunk(2, 1)
        ...     return Normal(mean, (log_variance / 2).exp())
        >>> encoder = torch.nn.Linear(10, 6)
        >>> with ip.probe(encoder, measures=ip.Rate(posterior)) as probe:
        ...     output = encoder(torch.randn(500, 10))
        >>> probe.report().rows[0]["value"] > 0
        True
    """

    posterior: Callable[[Any], Distribution] | None = None
    prior: Distribution | None = None

    name: ClassVar[str] = "rate"
    kind: ClassVar[Kind] = "exact"
    method: ClassVar[str] = "KL(q(z|x)||p(z))"

    def __post_init__(self) -> None:
        if self.posterior is not None and not isinstance(self.posterior, Posterior):
            if not callable(self.posterior):
                raise ArgumentTypeError(
                    "posterior",
                    "expected a function that returns a distribution of torch.distributions, or "
                    f"None, got {type(self.posterior).__name__}.",
                )
            object.__setattr__(self, "posterior", Posterior(self.posterior))
        if not isinstance(self.prior, Distribution | None):
            raise ArgumentTypeError(
                "prior",
                "expected a distribution of torch.distributions or None, got "
                f"{type(self.prior).__name__}.",
            )

    def __repr__(self) -> str:
        """The measure with the arguments that were given."""
        given = {"posterior": self.posterior, "prior": self.prior}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Rate({', '.join(shown)})"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "E KL(q(z|x)||p(z))"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the moments of the rate."""
        posterior = self.posterior
        assert posterior is None or isinstance(posterior, Posterior)
        return (Need("layer", Averaging(Rates(posterior, self.prior))),)

    def compute(self, moments: Moments) -> Reading:
        """The mean of the rate, in nats."""
        return Reading(moments.mean, [], moments.stderr)


def _rates(posterior: Distribution, prior: Distribution | None) -> Tensor:
    """The divergences of the codes of a batch from the prior, (n,)."""
    prior = _standard_normal(posterior) if prior is None else prior
    # Codes with independent entries may be written with or without saying so.
    inner = len(prior.event_shape) - len(posterior.event_shape)
    if inner > 0:
        posterior = Independent(posterior, inner)
    elif inner < 0:
        prior = Independent(prior.expand(posterior.event_shape[:-inner]), -inner)
    try:
        rates = kl_divergence(posterior, prior)
    except NotImplementedError as error:
        raise ArgumentTypeError(
            "prior",
            "expected one whose divergence torch knows in closed form, got "
            f"{type(prior).__name__} for codes of {type(posterior).__name__}. Register it by "
            "torch.distributions.kl.register_kl.",
        ) from error
    return rates.flatten(1).sum(1) if rates.dim() > 1 else rates


def _standard_normal(posterior: Distribution) -> Distribution:
    inner = posterior
    while isinstance(inner, Independent):
        inner = inner.base_dist
    mean = posterior.mean
    if isinstance(inner, Normal):
        standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        inner_axes = len(posterior.event_shape)
        return Independent(standard, inner_axes) if inner_axes else standard
    if isinstance(inner, MultivariateNormal):
        unit = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        return MultivariateNormal(torch.zeros_like(mean), unit)
    raise ArgumentTypeError(
        "prior",
        f"expected a prior for codes of {type(inner).__name__}, which are not Gaussian, got none. "
        "Pass prior=...",
    )
