"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, models
from infoprobe.estimators import KNN, Gaussian, Histogram, MatrixRenyi
from infoprobe.functional import (
    conditional_mutual_information,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    mutual_information,
    total_correlation,
)
from infoprobe.measures import Divergence, Entropy
from infoprobe.neighbors import nearest_neighbors
from infoprobe.probing import Probe, probe
from infoprobe.report import Report

__version__ = "0.1.0"

__all__ = [
    "KNN",
    "Divergence",
    "Entropy",
    "Gaussian",
    "Histogram",
    "MatrixRenyi",
    "Probe",
    "Report",
    "conditional_mutual_information",
    "cross_entropy",
    "datasets",
    "entropy",
    "js_divergence",
    "kl_divergence",
    "models",
    "mutual_information",
    "nearest_neighbors",
    "probe",
    "total_correlation",
]
