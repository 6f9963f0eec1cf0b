"""Scores of features for scikit-learn's selection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.protocols import InformationEstimator
from infoprobe.functional import mutual_information


def mutual_information_scores(
    X: ArrayLike,  # noqa: N803 (the name in scikit-learn)
    y: ArrayLike,
    estimator: InformationEstimator | None = None,
) -> NDArray[np.float64]:
    """Returns the mutual information between each feature and a target, in nats.

    It serves as ``score_func`` in scikit-learn, where ``mutual_info_classif`` and
    ``mutual_info_regression`` are used otherwise. Unlike these, it adds no noise to the data, and
    may return slightly negative values for features that tell nothing.

    Arguments:
        X: The samples, (n, d), with any scales of the features.
        y: The target of each sample, (n,): integers are labels, other numbers are continuous.
        estimator: The estimator; ``None`` chooses one for each feature by the data, as
            :func:`infoprobe.mutual_information` does.

    Returns:
        A score for each feature, (d,).

    Raises:
        ValueError: ``X`` is not a matrix, or the two have different numbers of samples.

    Example:
        >>> import numpy as np
        >>> from infoprobe.integrations.scikit_learn import mutual_information_scores
        >>> random = np.random.default_rng(0)
        >>> X = random.normal(size=(500, 3))
        >>> scores = mutual_information_scores(X, X[:, 1] + 0.1 * random.normal(size=500))
        >>> int(scores.argmax())
        1
    """
    samples = checks.as_tensor(X, "X")
    if samples.ndim != 2:
        raise ArgumentValueError(
            "X",
            f"expected a matrix (n, d) of samples, got shape {tuple(samples.shape)}. Reshape it.",
        )
    target = checks.as_tensor(y, "y")
    return np.array(
        [float(mutual_information(feature, target, estimator)) for feature in samples.unbind(1)]
    )
