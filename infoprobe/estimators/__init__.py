"""Estimators: they hold settings, and their methods take tensors and return nats."""

from infoprobe.estimators.critic import Critic
from infoprobe.estimators.flow import Flow
from infoprobe.estimators.gaussian import Gaussian
from infoprobe.estimators.gaussianization import Gaussianization
from infoprobe.estimators.histogram import Histogram
from infoprobe.estimators.knn import KNN
from infoprobe.estimators.renyi import MatrixRenyi

__all__ = ["KNN", "Critic", "Flow", "Gaussian", "Gaussianization", "Histogram", "MatrixRenyi"]
