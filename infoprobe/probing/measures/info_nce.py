"""A lower bound on the information that two views of the same samples share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.ceilings import near_ceiling
from infoprobe.estimators.views import best_temperature, infonce, most_of_infonce
from infoprobe.probing.kept.pooled import Pairing
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.measures.same_pairs import of_same_pairs


@dataclass(frozen=True)
class InfoNCE(Measure):
    r"""Bounds the information that two views of the same samples share at a layer, in nats.

    The two views of the samples are two passes, the second of which :meth:`Probe.pair` announces:

        model(augmented(x)); probe.pair(); model(augmented(x))

    Each prompt (t, d) counts as the mean over its tokens, of which a mask leaves padding out, and
    a sample without tokens counts as it is. With the cosine similarity s and n pairs,

    .. math::
        \hat I = \ln n + \frac1n \sum_i \left(\frac{s_{ii}}{\tau}
        - \frac12 \ln \sum_j e^{s_{ij} / \tau} - \frac12 \ln \sum_j e^{s_{ji} / \tau}\right).

    Its expectation is a lower bound on the mutual information of the two views, and at most ln n,
    or less if samples come again: then the entropy of the different ones. Near that, a finding
    says so. A layer has a high value if it tells samples apart and ignores what the augmentation
    changes. A low value shows little: a bound may be loose, and cosines see only one kind of
    dependence. Compare layers for the same data, n and temperature alone.

    Arguments:
        temperature: The temperature :math:`\tau`. Any gives a bound, and a wrong one a bound far
            below zero. ``None`` takes the one of eight between 0.02 and 5 whose bound is the
            highest, which raises the bound by less than its standard error.
        samples: The most pairs that are kept, drawn at random, the same at every layer.

    References:
        | A. van den Oord, Y. Li & O. Vinyals (2018). Representation learning with contrastive
          predictive coding. arXiv:1807.03748.
        | O. Skean et al. (2025). Layer by layer: uncovering hidden representations in language
          models. ICML. arXiv:2502.02013.

    Example:
        >>> model = torch.nn.Identity()
        >>> x = torch.randn(500, 3)
        >>> with ip.probe(model, measures=ip.InfoNCE()) as probe:
        ...     y = model(x + torch.randn(500, 3))
        ...     probe.pair()
        ...     y = model(x + torch.randn(500, 3))
        >>> 0 < probe.report().rows[0]["value"] < 0.43  # the truth
        True
    """

    temperature: float | None = None
    samples: int = 2048

    name: ClassVar[str] = "infonce"

    def __post_init__(self) -> None:
        if self.temperature is not None:
            checks.require_real_field(self, "temperature", 0)
        if self.temperature == 0:
            raise ArgumentValueError("temperature", "expected a positive number, got 0.")
        checks.require_integer_field(self, "samples", 2)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "I(view;view) by InfoNCE"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely two views of each sample."""
        return (Need("output", Pairing(self.samples)),)

    def compute(self, pairs: Tensor) -> Reading:
        """The bound, in nats."""
        require_pairs(pairs)
        temperature = self.temperature
        if temperature is None:
            temperature = best_temperature(pairs[:, 0], pairs[:, 1])
        value, stderr = infonce(pairs[:, 0], pairs[:, 1], float(temperature))
        n = len(pairs)
        most, number = most_of_infonce(pairs[:, 0], pairs[:, 1])
        different = number if number < n else None
        found = [*near_ceiling(float(value), most, n, different), *of_same_pairs(pairs)]
        findings = [str(finding._replace(argument="")) for finding in found]
        if stderr is None:
            return Reading(float(value), [*findings, "It has no standard error: too few pairs."])
        return Reading(float(value), findings, float(stderr))


def require_pairs(pairs: Tensor) -> None:
    """Raises a ValueError unless there are two pairs or more."""
    if len(pairs) < 2:
        way_out = (
            "Measure more samples."
            if len(pairs)
            else "Call probe.pair() between the passes of the two views of a batch."
        )
        raise ArgumentValueError(
            "pair",
            f"It has no value: expected 2 samples or more with two views, got {len(pairs)}. "
            f"{way_out}",
        )
