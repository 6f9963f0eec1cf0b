"""Estimators: they hold settings, and their methods take tensors and return nats."""

from infoprobe.estimators.critic.critic import Critic
from infoprobe.estimators.gaussian import Gaussian
from infoprobe.estimators.histogram.histogram import Histogram
from infoprobe.estimators.knn.knn import KNN
from infoprobe.estimators.renyi import MatrixRenyi
from infoprobe.estimators.transport.flow import Flow
from infoprobe.estimators.transport.gaussianization import Gaussianization
from infoprobe.estimators.transport.given_flow import GivenFlow

__all__ = [
    "KNN",
    "Critic",
    "Flow",
    "Gaussian",
    "Gaussianization",
    "GivenFlow",
    "Histogram",
    "MatrixRenyi",
]
