"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, models
from infoprobe.diagnostics import Finding, diagnose
from infoprobe.estimators import KNN, Critic, Gaussian, Histogram, MatrixRenyi
from infoprobe.functional import (
    conditional_mutual_information,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    mutual_information,
    total_correlation,
)
from infoprobe.measures import Divergence, Entropy, MutualInformation
from infoprobe.neighbors import nearest_neighbors
from infoprobe.probing import Probe, probe
from infoprobe.report import Report
from infoprobe.taps.calls import tap
from infoprobe.uncertainty import ConfidenceInterval, confidence_interval

__version__ = "0.1.0"

__all__ = [
    "KNN",
    "ConfidenceInterval",
    "Critic",
    "Divergence",
    "Entropy",
    "Finding",
    "Gaussian",
    "Histogram",
    "MatrixRenyi",
    "MutualInformation",
    "Probe",
    "Report",
    "conditional_mutual_information",
    "confidence_interval",
    "cross_entropy",
    "datasets",
    "diagnose",
    "entropy",
    "js_divergence",
    "kl_divergence",
    "models",
    "mutual_information",
    "nearest_neighbors",
    "probe",
    "tap",
    "total_correlation",
]
