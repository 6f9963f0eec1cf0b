"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, models
from infoprobe.bottleneck import BottleneckAccount, bottleneck_account
from infoprobe.dequantization import dequantize
from infoprobe.diagnostics import diagnose
from infoprobe.estimators import (
    KNN,
    Critic,
    Flow,
    Gaussian,
    Gaussianization,
    Histogram,
    MatrixRenyi,
)
from infoprobe.findings import Finding
from infoprobe.functional import (
    conditional_mutual_information,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    mutual_information,
    total_correlation,
)
from infoprobe.measures import Divergence, Entropy, EntropyChange, MutualInformation, Rate
from infoprobe.neighbors import nearest_neighbors
from infoprobe.probing import Probe, probe
from infoprobe.report import Report
from infoprobe.taps.calls import tap
from infoprobe.uncertainty import ConfidenceInterval, confidence_interval
from infoprobe.volume import check_invertible, entropy_change, jacobian_spectrum

__version__ = "0.1.0"

__all__ = [
    "KNN",
    "BottleneckAccount",
    "ConfidenceInterval",
    "Critic",
    "Divergence",
    "Entropy",
    "EntropyChange",
    "Finding",
    "Flow",
    "Gaussian",
    "Gaussianization",
    "Histogram",
    "MatrixRenyi",
    "MutualInformation",
    "Probe",
    "Rate",
    "Report",
    "bottleneck_account",
    "check_invertible",
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
    "models",
    "mutual_information",
    "nearest_neighbors",
    "probe",
    "tap",
    "total_correlation",
]
