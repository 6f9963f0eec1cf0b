"""infoprobe: how much information each layer of a network keeps, gains or loses, both ways."""

from infoprobe import datasets, models
from infoprobe.estimators import Histogram
from infoprobe.functional import cross_entropy, entropy, js_divergence, kl_divergence
from infoprobe.measures import Divergence, Entropy
from infoprobe.probing import Probe, probe
from infoprobe.report import Report

__version__ = "0.1.0"

__all__ = [
    "Divergence",
    "Entropy",
    "Histogram",
    "Probe",
    "Report",
    "cross_entropy",
    "datasets",
    "entropy",
    "js_divergence",
    "kl_divergence",
    "models",
    "probe",
]
