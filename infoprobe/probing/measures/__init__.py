"""The measures: what is computed at every layer. Each has a file of its own."""

from infoprobe.probing.measures.base import Measure
from infoprobe.probing.measures.divergence import Divergence
from infoprobe.probing.measures.entropy import Entropy
from infoprobe.probing.measures.entropy_change import EntropyChange
from infoprobe.probing.measures.mutual_information import MutualInformation
from infoprobe.probing.measures.rate import Rate

__all__ = ["Divergence", "Entropy", "EntropyChange", "Measure", "MutualInformation", "Rate"]
