"""How widely a layer's attention is spread over the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from infoprobe import checks
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.sequences.outcomes import Outcome
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.attention import Attending
from infoprobe.probing.kept.averages import Average
from infoprobe.probing.measures.averaged import findings_on, reading_of
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind


@dataclass(frozen=True)
class AttentionEntropy(Measure):
    r"""Measures how widely a layer's attention is spread over the tokens, averaged over queries.

    The layer must return its attention probabilities :math:`p_{ij}`, of query i over keys j,
    besides its output. The value is the mean of

    .. math:: - \sum_j p_{ij} \ln p_{ij}

    over the queries of all prompts and heads, in nats: 0 where each query attends to one token,
    and ln t where it attends to t tokens alike. Queries that a mask leaves out
    (:meth:`Probe.mask`) do not count. The standard error takes the prompts for independent, and
    the queries of one prompt not.

    Attention modules are chosen by ``layers=``, such as ``[b.attn for b in
    model.transformer.h]``. Those of the transformers library return probabilities if the model
    was loaded with ``attn_implementation="eager"``, and :class:`torch.nn.MultiheadAttention` if it
    is called with ``need_weights=True, average_attn_weights=False``. Others say on their rows
    that they return none. Under dropout, probabilities do not add up to 1, and such queries are
    left out, which a finding says: measure in evaluation mode. A model that was compiled runs
    uncompiled in passes that are measured.

    It is a property of the layer's weights on tokens, and no information about the tokens: values
    that a layer attends to may be small, or the same at all tokens.

    Arguments:
        head: The number of one head, from 0; ``None`` for the mean over all heads.
        normalize: ``None``, or ``"ln n"`` to divide each entropy by the logarithm of the number of
            keys that the query can see; the unit is then ``"share"``. Keys that are padding, later
            ones under causal attention, and those beyond a sliding window are told by the
            probabilities, which are 0 there. A query that can see one key only, as the first
            one under causal attention, does not count.

    References:
        | S. Zhai et al. (2023). Stabilizing transformer training by preventing attention entropy
          collapse. ICML. arXiv:2303.06296.
        | K. Clark, U. Khandelwal, O. Levy & C. D. Manning (2019). What does BERT look at? An
          analysis of BERT's attention. BlackboxNLP. arXiv:1906.04341.

    Example:
        >>> model = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        >>> x = torch.ones(2, 3, 4)
        >>> with ip.probe(model, measures=ip.AttentionEntropy()) as probe:
        ...     y = model(x, x, x, average_attn_weights=False)
        >>> round(probe.report().rows[0]["value"], 4)  # ln 3
        1.0986
    """

    head: int | None = None
    normalize: Literal["ln n"] | None = None

    name: ClassVar[str] = "attention_entropy"
    kind: ClassVar[Kind] = "exact"

    def __post_init__(self) -> None:
        if self.head is not None:
            checks.require_integer_field(self, "head", 0)
        if self.normalize is not None:
            checks.require_one_of(self.normalize, ["ln n"], "normalize")

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "H(attention)"

    @property
    def full_name(self) -> str:
        """The name in the rows of a report, with the head."""
        return self.name if self.head is None else f"{self.name}@head{self.head}"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Nats, or the share of the most."""
        return "nats" if self.normalize is None else "share"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept: the average over queries."""
        return (Need("layer", Attending(self.head, self.normalize is not None)),)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Which queries were left out."""
        yield from findings_on(kept[0], "queries")

    def compute(self, average: Average) -> Reading:
        """The mean entropy of a query's attention."""
        if not average.used and average.of_outcome(Outcome.FEW):
            raise ArgumentValueError(
                "normalize",
                "It has no value: each query can see one key only, and ln 1 is 0. Pass longer "
                "sequences.",
            )
        return reading_of(average, "queries")
