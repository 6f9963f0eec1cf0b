"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, libraries, models
from infoprobe.arrays import ArrayLike
from infoprobe.estimators import (
    KNN,
    Critic,
    Flow,
    Gaussian,
    Gaussianization,
    GivenFlow,
    Histogram,
    MatrixRenyi,
)
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.knn.calibration import Bias
from infoprobe.estimators.transport.report import TransportReport, UpperBound
from infoprobe.findings import Finding, TrustWarning
from infoprobe.functional import (
    conditional_mutual_information,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    mutual_information,
    pointwise,
    total_correlation,
)
from infoprobe.maps.bottleneck import BottleneckAccount, bottleneck_account
from infoprobe.maps.dequantize import dequantize
from infoprobe.maps.entropy_change import EntropyChangeResult, entropy_change
from infoprobe.maps.invertibility import InvertibilityCheck, check_invertible
from infoprobe.maps.spectrum import JacobianSpectrum, jacobian_spectrum
from infoprobe.neighbors import Neighbors, nearest_neighbors
from infoprobe.probing.attach import probe
from infoprobe.probing.measures import (
    AttentionEntropy,
    Curvature,
    DiME,
    Divergence,
    Entropy,
    EntropyChange,
    InfoNCE,
    Measure,
    MutualInformation,
    PredictionDivergence,
    PredictionEntropy,
    PromptEntropy,
    Rate,
    Spectrum,
    TokenEntropy,
    TotalCorrelation,
)
from infoprobe.probing.measures.base import Reading
from infoprobe.probing.probe import Probe
from infoprobe.reporting.comparison import ComparedRow, Comparison
from infoprobe.reporting.ledger import Ledger
from infoprobe.reporting.report import Report
from infoprobe.rows import Row
from infoprobe.taps.points import tap
from infoprobe.trust.choose import Choice, choose
from infoprobe.trust.confidence import ConfidenceInterval, confidence_interval
from infoprobe.trust.diagnose import diagnose
from infoprobe.trust.permutation import PermutationTest, permutation_test
from infoprobe.version import __version__

__all__ = [
    "KNN",
    "ArrayLike",
    "AttentionEntropy",
    "Bias",
    "BottleneckAccount",
    "Choice",
    "ComparedRow",
    "Comparison",
    "ConfidenceInterval",
    "Counts",
    "Critic",
    "Curvature",
    "DiME",
    "Divergence",
    "Entropy",
    "EntropyChange",
    "EntropyChangeResult",
    "Finding",
    "Flow",
    "Gaussian",
    "Gaussianization",
    "GivenFlow",
    "Histogram",
    "InfoNCE",
    "InvertibilityCheck",
    "JacobianSpectrum",
    "Ledger",
    "MatrixRenyi",
    "Measure",
    "MutualInformation",
    "Neighbors",
    "PermutationTest",
    "PredictionDivergence",
    "PredictionEntropy",
    "Probe",
    "PromptEntropy",
    "Rate",
    "Reading",
    "Report",
    "Row",
    "Spectrum",
    "TokenEntropy",
    "TotalCorrelation",
    "TransportReport",
    "TrustWarning",
    "UpperBound",
    "__version__",
    "bottleneck_account",
    "check_invertible",
    "choose",
    "conditional_mutual_information",
    "confidence_interval",
    "cross_entropy",
    "datasets",
    "dequantize",
    "diagnose",
    "entropy",
    "entropy_change",
    "jacobian_spectrum",
    "js_divergence",
    "kl_divergence",
    "libraries",
    "models",
    "mutual_information",
    "nearest_neighbors",
    "permutation_test",
    "pointwise",
    "probe",
    "tap",
    "total_correlation",
]


def __dir__() -> list[str]:
    """Returns the public names, which are those that completion shows."""
    return __all__
