"""The measures, one in each file, and what a new one is made of."""

from infoprobe.probing.kept.counts import Counting
from infoprobe.probing.kept.moments import Averaging, Numbers, Quantity
from infoprobe.probing.kept.sampling import Sampling
from infoprobe.probing.kept.second_moments import Correlating
from infoprobe.probing.measures.attention_entropy import AttentionEntropy
from infoprobe.probing.measures.base import Measure, Need, Reading
from infoprobe.probing.measures.curvature import Curvature
from infoprobe.probing.measures.dime import DiME
from infoprobe.probing.measures.divergence import Divergence
from infoprobe.probing.measures.entropy import Entropy
from infoprobe.probing.measures.entropy_change import EntropyChange
from infoprobe.probing.measures.info_nce import InfoNCE
from infoprobe.probing.measures.mutual_information import MutualInformation
from infoprobe.probing.measures.prediction_divergence import PredictionDivergence
from infoprobe.probing.measures.prediction_entropy import PredictionEntropy
from infoprobe.probing.measures.prompt_entropy import PromptEntropy
from infoprobe.probing.measures.rate import Rate
from infoprobe.probing.measures.spectrum import (
    EffectiveRank,
    ParticipationRatio,
    RankMe,
    Saturation,
    Spectrum,
)
from infoprobe.probing.measures.token_entropy import TokenEntropy
from infoprobe.probing.measures.total_correlation import TotalCorrelation

__all__ = [
    "AttentionEntropy",
    "Averaging",
    "Correlating",
    "Counting",
    "Curvature",
    "DiME",
    "Divergence",
    "EffectiveRank",
    "Entropy",
    "EntropyChange",
    "InfoNCE",
    "Measure",
    "MutualInformation",
    "Need",
    "Numbers",
    "ParticipationRatio",
    "PredictionDivergence",
    "PredictionEntropy",
    "PromptEntropy",
    "Quantity",
    "RankMe",
    "Rate",
    "Reading",
    "Sampling",
    "Saturation",
    "Spectrum",
    "TokenEntropy",
    "TotalCorrelation",
]
