"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, libraries, models
from infoprobe.estimators import (
    KNN,
    Critic,
    Flow,
    Gaussian,
    Gaussianization,
    Histogram,
    MatrixRenyi,
)
from infoprobe.findings import Finding, TrustWarning
from infoprobe.functional import (
    conditional_mutual_information,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    mutual_information,
    total_correlation,
)
from infoprobe.maps.bottleneck import BottleneckAccount, bottleneck_account
from infoprobe.maps.dequantize import dequantize
from infoprobe.maps.entropy_change import entropy_change
from infoprobe.maps.invertibility import check_invertible
from infoprobe.maps.spectrum import jacobian_spectrum
from infoprobe.neighbors import nearest_neighbors
from infoprobe.probing.measures import (
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
)
from infoprobe.probing.probe import Probe, probe
from infoprobe.reporting.report import Report
from infoprobe.rows import Row
from infoprobe.taps.points import tap
from infoprobe.trust.choose import Choice, choose
from infoprobe.trust.confidence import ConfidenceInterval, confidence_interval
from infoprobe.trust.diagnose import diagnose
from infoprobe.version import __version__

__all__ = [
    "KNN",
    "BottleneckAccount",
    "Choice",
    "ConfidenceInterval",
    "Critic",
    "Curvature",
    "DiME",
    "Divergence",
    "Entropy",
    "EntropyChange",
    "Finding",
    "Flow",
    "Gaussian",
    "Gaussianization",
    "Histogram",
    "InfoNCE",
    "MatrixRenyi",
    "Measure",
    "MutualInformation",
    "PredictionDivergence",
    "PredictionEntropy",
    "Probe",
    "PromptEntropy",
    "Rate",
    "Report",
    "Row",
    "Spectrum",
    "TokenEntropy",
    "TrustWarning",
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
    "probe",
    "tap",
    "total_correlation",
]
