import numpy as np
import pytest
import scipy.stats
import torch

from infoprobe.estimators.knn import surrogates
from tests.estimators.samples import laplace, normal


class TestSurrogates:
    @pytest.mark.parametrize(("n", "d"), [(4, 1), (24, 20), (500, 3)])
    def test_they_have_the_covariance_of_the_data(self, n, d):
        x = laplace(n, d) @ (normal(d, d, seed=1) + 3) + 100
        drawn = list(surrogates.paired([x[:, :1], x[:, 1:]] if d > 1 else [x], 3, seed=0))
        assert len(drawn) == 3
        for parts in drawn:
            z = torch.cat(parts, 1)
            assert z.dtype == x.dtype
            # Their offset would only cost digits.
            assert z.mean(0).abs().max() < 1e-10 * x.std(0).max()
            torch.testing.assert_close(z.T.cov(), x.T.cov(), rtol=1e-8, atol=1e-8)
            assert (z - x).abs().min() > 0
        assert not torch.equal(drawn[0][0], drawn[1][0])

    def test_those_of_two_samples_have_their_own(self):
        p, q = normal(50, 3) + 1, 5 * normal(70, 3, seed=1) - 100
        for a, b in surrogates.separate([p, q], 2, seed=0):
            for z, x in ((a, p), (b, q)):
                assert z.shape == x.shape
                torch.testing.assert_close(z.T.cov(), x.T.cov())
            torch.testing.assert_close(b.mean(0) - a.mean(0), q.mean(0) - p.mean(0))
            assert a.mean(0).abs().max() < 1e-10
            # Independent of each other.
            assert np.corrcoef(a[:, 0], b[:50, 0])[0, 1] < 0.5

    def test_they_are_gaussian(self):
        (z,) = next(surrogates.paired([laplace(3000, 2)], 1, seed=0))
        assert scipy.stats.kstest(z[:, 0] / z[:, 0].std(), "norm").pvalue > 0.01
        z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
        radii = z.square().sum(1)
        assert scipy.stats.kstest(radii, "chi2", args=(2,)).pvalue > 0.01
