"""Ranks of features, against SciPy's."""

import numpy as np
import scipy.stats
import torch

from infoprobe.estimators.ranks import normal_scores, standard_ranks
from tests.estimators.samples import laplace


def test_normal_scores():
    x = torch.tensor([[3.0, -1.0], [1e9, -2.0], [-5.0, -3.0]], dtype=torch.float64)
    third = scipy.stats.norm.ppf(5 / 6)
    expected = torch.tensor([[0, third], [third, 0], [-third, -third]], dtype=torch.float64)
    torch.testing.assert_close(normal_scores(x), expected)
    x = laplace(101, 3)
    scores = normal_scores(x)
    assert torch.equal(scores.argsort(0), x.argsort(0))
    expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x.numpy(), axis=0) - 0.5) / 101)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)
    # Equal values have the mean of their ranks.
    x = (2 * x).round()
    expected = scipy.stats.norm.ppf((scipy.stats.rankdata(x.numpy(), axis=0) - 0.5) / 101)
    np.testing.assert_allclose(normal_scores(x), expected, rtol=1e-9, atol=1e-12)


def test_standard_ranks():
    x = torch.cat([laplace(101, 300), torch.zeros(101, 300)], 1)
    x[:, 2] = x[:, 2].round()
    ranks = standard_ranks(x)
    assert len(ranks) == 200  # every third feature
    expected = scipy.stats.zscore(scipy.stats.rankdata(x[:, :300:3].numpy(), axis=0), axis=0)
    np.testing.assert_allclose(ranks[:100].T, expected, rtol=1e-9, atol=1e-12)
    assert (ranks[100:] == 0).all()
