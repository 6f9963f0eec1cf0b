"""The measures, one in each file, and what a new one is made of."""

from infoprobe.probing.kept.counts import Counting
from infoprobe.probing.kept.moments import Averaging, Numbers, Quantity
from infoprobe.probing.kept.samples import Sampling
from infoprobe.probing.kept.second_moments import Correlating
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.measures.divergence import Divergence
from infoprobe.probing.measures.entropy import Entropy
from infoprobe.probing.measures.entropy_change import EntropyChange
from infoprobe.probing.measures.mutual_information import MutualInformation
from infoprobe.probing.measures.rate import Rate
from infoprobe.probing.measures.spectrum import (
    EffectiveRank,
    ParticipationRatio,
    RankMe,
    Saturation,
    Spectrum,
)

__all__ = [
    "Averaging",
    "Correlating",
    "Counting",
    "Divergence",
    "EffectiveRank",
    "Entropy",
    "EntropyChange",
    "Measure",
    "MutualInformation",
    "Need",
    "Numbers",
    "ParticipationRatio",
    "Quantity",
    "RankMe",
    "Rate",
    "Reading",
    "Sampling",
    "Saturation",
    "Spectrum",
]
