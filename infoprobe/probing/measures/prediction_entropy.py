"""The entropy of what a model would predict from each of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from infoprobe import checks
from infoprobe.findings import Finding
from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.kept.read_outs import KeptPredictions, ReadingOut, ReadOut
from infoprobe.probing.measures.averaged import findings_on, reading_of
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.rows import Kind


@dataclass(frozen=True)
class PredictionEntropy(Measure):
    r"""Measures the entropy of the prediction that is read out of a layer, in nats.

    The layer's vector z at a position is turned into logits by the model's own read-out, as if
    the layer were the last (the *logit lens*), and the value is the mean of
    :math:`- \sum_v p_v \ln p_v` with :math:`p = \operatorname{softmax}(\text{read-out}(z))`.

    At most ``positions`` positions of each pass are read out, drawn at random from those that the
    mask lets count, the same at every layer: reading out costs as much as the model's last layer
    does. While a pass lasts, the layers' vectors at these positions are kept, layers × positions
    × d numbers; when it is over, they are read out in blocks, with about 3 × 2²⁴ logits in memory
    at once. Exponentials are computed in float32 from logits of half precision, and sums over the
    vocabulary in float64, so that a value is off by about 1e-8 of itself with 150,000 tokens. Only
    averages remain. The standard error takes the prompts for independent, and the positions of
    one prompt not.

    Choose the blocks by ``layers=`` of :func:`probe`, such as ``[*model.transformer.h]``; a glob
    such as ``"transformer.h.*"`` would choose the modules within them. A layer that
    the read-out does not fit has no value. Of a pass that raises an error nothing is read out.

    A read-out that was trained for the last layer may misread earlier ones: a high entropy can
    mean that the layer predicts little, or that it does so in another basis.

    Arguments:
        read_out: What turns vectors (m, d) into logits (m, vocabulary): a module or a function,
            or several in their order, mostly the final norm and the unembedding. Modules run
            without hooks, without gradients and in evaluation mode, and neither they nor random
            numbers are changed; a function is called as it is.
        positions: The most positions of each pass to read out.

    References:
        | R. Ali et al. (2025). Entropy-Lens: the information signature of transformer
          computations. arXiv:2502.16570.
        | nostalgebraist (2020). Interpreting GPT: the logit lens. LessWrong.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 50))
        >>> measure = ip.PredictionEntropy(model[1])
        >>> with ip.probe(model, "0", measure) as probe:
        ...     y = model(torch.randn(8, 5, 3))
        >>> 3 < probe.report().rows[0]["value"] < 3.92
        True
    """

    read_out: Any
    _: KW_ONLY
    positions: int = 64

    name: ClassVar[str] = "prediction_entropy"
    kind: ClassVar[Kind] = "exact"

    def __post_init__(self) -> None:
        if not isinstance(self.read_out, ReadOut):
            object.__setattr__(self, "read_out", ReadOut(self.read_out))
        checks.require_integer_field(self, "positions", 1)

    @classmethod
    def label(cls, reference: str | None) -> str:
        """How tables and figures write the measure."""
        return "H(prediction)"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is to be kept, namely the averages of what is read out."""
        return (Need("output", ReadingOut(self.read_out, self.positions)),)

    def remarks(self, circumstances: Circumstances, *kept: Any) -> Iterator[Finding]:
        """Which positions were left out."""
        if kept[0].entropy is not None:
            yield from findings_on(kept[0].entropy, "positions")

    def compute(self, predictions: KeptPredictions) -> Reading:
        """The mean entropy of the predictions, in nats."""
        assert predictions.entropy is not None
        return reading_of(predictions.entropy, "positions")
