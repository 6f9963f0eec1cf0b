"""The rate of a variational bottleneck, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from infoprobe.models.variational import GaussianBottleneck
from infoprobe.probing.kept.base import Problem
from infoprobe.probing.kept.moments import Averaging, Moments, Numbers, Quantity
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind
from infoprobe.taps.sink import Event
from infoprobe.torch_internals import plain


@dataclass(frozen=True)
class Rates(Quantity):
    """The rate of the code that a Gaussian bottleneck gives to each sample."""

    def of(self, event: Event) -> Numbers | Problem:
        """The rates of the samples, or why there are none."""
        if not isinstance(event.module, GaussianBottleneck):
            return Problem(
                "It has no value: the layer is no ip.models.GaussianBottleneck.", applies=False
            )
        with torch.no_grad():
            return Numbers(plain(event.module.rate(*event.args, **event.kwargs)).double())


@dataclass(frozen=True)
class Rate(Measure):
    r"""Measures what the codes of a variational bottleneck cost, exactly, in nats.

    .. math:: R = E_x\, KL(q(z|x) \| p(z)) = I(X; Z) + KL(q(z) \| p(z)) \ge I(X; Z)

    No estimator is needed. The value is the mean over all samples of the closed form for Gaussian
    codes and a standard-normal prior, with its standard error: see
    :class:`infoprobe.models.GaussianBottleneck`, in whatever model. It bounds the information
    about the input that codes drawn in training carry. In evaluation mode, where the code is the
    mean, the value is the same but bounds nothing. Layers of other classes have no value.

    References:
        | D. Kingma & M. Welling (2014). Auto-encoding variational Bayes. ICLR. arXiv:1312.6114.
        | A. Alemi et al. (2018). Fixing a broken ELBO. ICML. arXiv:1711.00464.
    """

    name: ClassVar[str] = "rate"
    kind: ClassVar[Kind] = "exact"
    method: ClassVar[str] = "KL(q(z|x)||p(z))"

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "E KL(q(z|x)||p(z))"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: the moments of the rate."""
        return (Need("layer", Averaging(Rates())),)

    def compute(self, moments: Moments) -> Reading:
        """The mean of the rate, in nats."""
        return Reading(moments.mean, [], moments.stderr)
