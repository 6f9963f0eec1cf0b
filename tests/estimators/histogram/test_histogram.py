import math

import numpy as np
import pytest
import scipy.stats
import torch
from FrEIA.modules import HaarDownsampling
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import infoprobe as ip
from infoprobe.estimators.histogram.counts import count
from infoprobe.estimators.histogram.grids import UniformGrid
from tests import textbook
from tests.estimators.histogram.cases import CORRECTIONS, histograms, samples

PAPER = ip.Histogram(bins=1000, range="own", pseudocount=1)


class TestGoldenValues:
    """The model-independent values of Callahan & Paskett (2021), figures 3 and 4."""

    def test_mnist(self, mnist_test_images):
        x = mnist_test_images / 255
        (haar,), _ = HaarDownsampling([(1, 28, 28)])((x,))
        assert PAPER.entropy(x).item() == pytest.approx(1.331631, abs=1e-6)
        # Many Haar coefficients lie on edges of bins, so rounding moves the fourth digit.
        assert PAPER.entropy(haar).item() == pytest.approx(1.9538, abs=2e-3)
        assert PAPER.kl_divergence(x, haar).item() == pytest.approx(7.4290, abs=2e-3)

    def test_cifar10(self, cifar10_test_images):
        x = cifar10_test_images / 255
        (haar,), _ = HaarDownsampling([(3, 32, 32)])((x,))
        assert PAPER.entropy(x).item() == pytest.approx(5.488225, abs=1e-4)
        assert PAPER.entropy(haar).item() == pytest.approx(5.327101, abs=1e-4)
        assert PAPER.kl_divergence(x, haar).item() == pytest.approx(2.469802, abs=1e-4)

    def test_the_definition_is_blind_to_affine_maps(self, mnist_test_images):
        x = mnist_test_images[:100] / 255
        assert PAPER.kl_divergence(x, 2 * x.flip(0)).item() == 0.0

    def test_it_rates_uniform_noise_better_than_most(self, mnist_test_images):
        x = mnist_test_images / 255
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        assert PAPER.kl_divergence(x, noise).item() == pytest.approx(5.54, abs=0.1)

    def test_and_sees_an_invisible_noise(self, mnist_test_images):
        x = mnist_test_images / 255
        noisy = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        # More than the 5.54 of uniform noise in place of the digits; 10.22 +- 0.6 by seed.
        assert PAPER.kl_divergence(x, noisy).item() > 9.5


class TestClosedForms:
    def test_uniform_on_its_bins(self):
        x = torch.arange(64).repeat(7)
        for bins in (2, 4, 16, 64):
            assert ip.Histogram(bins).entropy(x).item() == pytest.approx(math.log(bins))

    def test_a_constant_has_no_entropy(self):
        for mode in ("dyadic", "minmax", "own", (0, 1)):
            assert ip.Histogram(range=mode).entropy([0.3, 0.3]).item() == 0.0

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
    def test_bernoulli(self, share):
        n = 1000
        x = torch.arange(n) < share * n
        expected = scipy.stats.bernoulli(share).entropy()
        assert ip.Histogram().entropy(x).item() == pytest.approx(expected)

    def test_a_gaussian_in_narrow_bins_approaches_its_differential_entropy(self):
        # H(bins of width w) -> h(X) - ln w
        x = torch.randn(1_000_000, dtype=torch.float64)
        width = ip.Histogram(256).count(x).grid.edges().diff()[0].item()
        expected = scipy.stats.norm().entropy() - math.log(width)
        assert ip.Histogram(256).entropy(x).item() == pytest.approx(expected, abs=2e-3)

    def test_divergence_of_shifted_gaussians(self):
        # KL(N(0, 1) || N(m, 1)) = m**2 / 2; bins lose a little of it
        p, q = torch.randn(2, 1_000_000, dtype=torch.float64)
        h = ip.Histogram(1000, pseudocount=0.5)
        assert h.kl_divergence(p, q + 0.8).item() == pytest.approx(0.32, abs=0.01)

    def test_divergence_of_two_coins(self):
        p, q = torch.arange(10) < 3, torch.arange(100) < 60
        expected = 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)
        assert ip.Histogram().kl_divergence(p, q).item() == pytest.approx(expected)

    def test_disjoint_supports(self):
        h, p, q = ip.Histogram(), torch.zeros(5), torch.ones(7)
        assert h.kl_divergence(p, q).item() == math.inf
        assert h.cross_entropy(p, q).item() == math.inf
        assert h.js_divergence(p, q).item() == pytest.approx(math.log(2))
        assert h.uncovered(p, q).item() == 1.0

    def test_an_edge_at_zero(self):
        # Half an atom moves from one side of zero to the other: all of KL is between two bins.
        p, q = [0.0] * 8 + [1.0] * 8, [0.0] * 4 + [-1e-9] * 4 + [1.0] * 8
        h = ip.Histogram(8)
        assert h.kl_divergence(p, q).item() == pytest.approx(0.5 * math.log(2))
        assert h.kl_at_zero(p, q).item() == pytest.approx(0.5 * math.log(2))
        # A real difference beside it stays.
        q[-4:] = [-1.0] * 4
        expected = h.kl_divergence(p, q).item() - 0.5 * math.log(2)
        assert expected > 0.3
        assert h.kl_at_zero(p, q).item() == pytest.approx(0.5 * math.log(2))
        assert ip.Histogram(4, range=(-1, 1)).kl_at_zero(p, q) > 0
        for without in (ip.Histogram(3, range=(-1, 1)), ip.Histogram(4, range="own")):
            assert without.kl_at_zero(p, q).item() == 0.0

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_equal_data_have_no_edge_at_zero(self, value):
        x = torch.full((9,), value)
        assert ip.Histogram(range="minmax").kl_at_zero(x, x).item() == 0.0


class TestAgainstOthers:
    @given(samples, samples, st.integers(2, 50), st.sampled_from([0.0, 0.5, 1.0]))
    def test_dyadic_equals_the_textbook(self, x, y, bins, pseudocount):
        counts = textbook.dyadic_counts(x.tolist(), y.tolist(), bins=bins)
        p, q = (textbook.probabilities(c, pseudocount) for c in counts)
        h = ip.Histogram(bins, pseudocount=pseudocount)
        assert h.kl_divergence(x, y).item() == pytest.approx(textbook.kl_divergence(p, q))
        alone = textbook.dyadic_counts(x.tolist(), bins=bins)[0]
        expected = textbook.entropy(textbook.probabilities(alone, pseudocount))
        assert h.entropy(x).item() == pytest.approx(expected)

    @given(samples, samples, st.integers(1, 50), st.sampled_from([0.0, 0.5, 1.0]))
    def test_the_other_ranges_equal_scipy_on_numpy_counts(self, x, y, bins, pseudocount):
        x, y = x.astype(np.float64), y.astype(np.float64)
        joint = (min(x.min(), y.min()), max(x.max(), y.max()))
        cases = {"own": [None, None], "minmax": [joint, joint], (-1e3, 1e3): [(-1e3, 1e3)] * 2}
        for mode, limits in cases.items():
            p, q = (
                _numpy_counts(values, bins, limit) + pseudocount
                for values, limit in zip([x, y], limits, strict=True)
            )
            h = ip.Histogram(bins, range=mode, pseudocount=pseudocount)
            assert h.kl_divergence(x, y).item() == pytest.approx(scipy.stats.entropy(p, q))
            mixture = (p / p.sum() + q / q.sum()) / 2
            js = (scipy.stats.entropy(p, mixture) + scipy.stats.entropy(q, mixture)) / 2
            assert h.js_divergence(x, y).item() == pytest.approx(js, abs=1e-12)
            if mode != "minmax":
                assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(p))


def _numpy_counts(x, bins, limits):
    low, high = limits or (x.min(), x.max())
    if low == high or (high - low) / bins < 4 * np.spacing(max(abs(low), abs(high))):
        # Constant, or bins that numpy refuses as narrower than the spacing of floats.
        return count(torch.tensor(x), UniformGrid(low, high, bins)).values.numpy()
    return np.histogram(x, bins, (low, high))[0]


class TestProperties:
    @given(samples, histograms)
    def test_bounds(self, x, h):
        value = h.entropy(x).item()
        assert 0 <= value <= math.log(h.bins) + 1e-9

    @given(samples, samples, histograms)
    def test_identities(self, x, y, h):
        cross, kl = h.cross_entropy(x, y).item(), h.kl_divergence(x, y).item()
        assert kl >= -1e-12
        assert h.kl_divergence(x, x).item() == 0.0
        if h.range == "own" or not isinstance(h.range, str):
            # Elsewhere the bins of x alone differ from those that x and y share.
            assert cross == pytest.approx(h.entropy(x).item() + kl)
        js = h.js_divergence(x, y).item()
        assert js == pytest.approx(h.js_divergence(y, x).item())
        assert -1e-12 <= js <= math.log(2) + 1e-12
        assert (kl == math.inf) == (h.pseudocount == 0 and h.uncovered(x, y) > 0)

    @given(samples, histograms, st.randoms())
    def test_order_and_shape_do_not_matter(self, x, h, random):
        shuffled = x.tolist()
        random.shuffle(shuffled)
        shuffled = torch.tensor(shuffled, dtype=torch.tensor(x).dtype).reshape(1, -1, 1)
        assert h.entropy(x) == h.entropy(shuffled)

    @given(samples, st.integers(-20, 20))
    def test_powers_of_two_do_not_change_dyadic_values(self, x, exponent):
        x = torch.tensor(x, dtype=torch.float64)
        h = ip.Histogram(32)
        assert h.entropy(x) == h.entropy(x * 2.0**exponent)

    @given(st.lists(samples, min_size=1, max_size=5), samples)
    def test_counts_of_batches_stand_for_the_data(self, batches, y):
        h = ip.Histogram(32, pseudocount=0.5)
        x = np.concatenate([batch.astype(np.float64) for batch in batches])
        counts = h.count(batches[0])
        for batch in batches[1:]:
            counts = counts + h.count(batch)
        assert h.entropy(counts) == h.entropy(x)
        assert h.kl_divergence(counts, y) == h.kl_divergence(x, y)
        assert h.kl_divergence(y, counts) == h.kl_divergence(y, x)

    @given(hnp.arrays(np.int16, st.integers(1, 50)))
    def test_the_same_integers_in_another_type(self, x):
        h = ip.Histogram(64)
        expected = h.entropy(x)
        for dtype in (torch.int32, torch.int64, torch.float32, torch.float64):
            assert h.entropy(torch.tensor(x).to(dtype)) == expected

    @pytest.mark.parametrize(
        "dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.bool]
    )
    def test_small_types(self, dtype):
        x = (torch.rand(100) * 100).to(dtype)
        assert ip.Histogram().entropy(x) == ip.Histogram().entropy(x.to(torch.float64))


class TestCorrections:
    @pytest.mark.parametrize("correction", ["miller-madow", "chao-shen"])
    def test_they_equal_another_library(self, correction):
        infomeasure = pytest.importorskip("infomeasure")
        x = torch.randint(0, 9, (60,))
        y = (x + torch.randint(0, 3, (60,))) % 9
        approach = correction.replace("-", "_")
        for over in ("values", "units", "samples"):
            h = ip.Histogram(16, over=over, correction=correction)
            expected = infomeasure.entropy(x.numpy(), approach=approach, base="e")
            assert h.entropy(x).item() == pytest.approx(expected)
            expected = infomeasure.mutual_information(
                x.numpy(), y.numpy(), approach=approach, base="e"
            )
            assert h.mutual_information(x, y).item() == pytest.approx(expected)

    def test_they_apply_to_counts_of_batches(self):
        x = torch.randn(300)
        for correction in CORRECTIONS:
            h = ip.Histogram(32, correction=correction)
            counts = h.count(x[:100]) + h.count(x[100:])
            assert h.entropy(counts) == h.entropy(x)
            assert counts.total == 300
        h = ip.Histogram(32, correction="james-stein")
        assert h.kl_divergence(counts, x[:50]) == h.kl_divergence(x, x[:50])

    def test_james_stein_takes_all_bins_into_account(self):
        # Two of the four bins of an explicit range are empty: 1 - 5/8 over 3 * (5/8 - 1/4).
        h = ip.Histogram(4, (0, 4), correction="james-stein")
        weight = (3 / 8) / (3 * 3 / 8)
        p = [weight / 4 + (1 - weight) * n / 4 for n in (3, 1, 0, 0)]
        x = torch.tensor([0.5, 0.5, 0.5, 1.5])
        assert h.entropy(x).item() == pytest.approx(scipy.stats.entropy(p))
        q = [weight / 4 + (1 - weight) * n / 4 for n in (0, 0, 1, 3)]
        expected = scipy.stats.entropy(p, q)
        assert h.kl_divergence(x, 4 - x).item() == pytest.approx(expected)
        assert h.cross_entropy(x, 4 - x).item() == pytest.approx(expected + h.entropy(x).item())

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_chao_shen_without_coverage(self, over):
        h = ip.Histogram(256, over=over, correction="chao-shen")
        x = torch.arange(64.0)
        assert h.entropy(x).item() == math.inf
        with pytest.raises(ValueError, match=r"no two pairs .*fall into the same bins"):
            h.mutual_information(x, x)
        with pytest.raises(ValueError, match=r"no two pairs .*fall into the same bins"):
            h.mutual_information(x, x // 2)

    @pytest.mark.parametrize("correction", ["miller-madow", "chao-shen", "grassberger"])
    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    def test_most_have_no_probabilities(self, correction, over):
        h = ip.Histogram(over=over, correction=correction)
        names = ["cross_entropy", "kl_divergence", "js_divergence"]
        if over == "values":
            names.append("kl_at_zero")
        for name in names:
            with pytest.raises(ValueError, match=rf"correction: '{correction}' .*'james-stein'"):
                getattr(h, name)(torch.randn(9), torch.randn(9))

    def test_who_shares_counts(self):
        plain = ip.Histogram(32)
        for h in (
            ip.Histogram(32, pseudocount=1),
            *(ip.Histogram(32, correction=c) for c in CORRECTIONS),
        ):
            assert h.uncorrected == plain
        assert ip.Histogram(64, correction="grassberger").uncorrected != plain


class TestGuestManners:
    def test_result(self, device):
        x = torch.randn(10, device=device, requires_grad=True)
        value = ip.Histogram().kl_divergence(x, x.detach().cpu())
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert value.device == x.device
        assert not value.requires_grad

    @pytest.mark.parametrize("over", ["values", "units", "samples"])
    @pytest.mark.parametrize("correction", CORRECTIONS)
    def test_every_result(self, device, over, correction):
        x = torch.randint(0, 9, (40, 3), generator=torch.Generator().manual_seed(0)).float()
        x, y = x.to(device).requires_grad_(), x.roll(1)
        if over == "samples" and correction == "james-stein":
            return
        h = ip.Histogram(4, over=over, correction=correction)
        values = {"entropy": h.entropy(x), "mutual_information": h.mutual_information(x, y)}
        if correction in (None, "james-stein"):
            for name in ("cross_entropy", "kl_divergence", "js_divergence", "uncovered"):
                values[name] = getattr(h, name)(x, y)
        for name, value in values.items():
            assert value.shape == ()
            assert value.dtype == torch.float64
            assert value.device == x.device
            assert not value.requires_grad
            there = (x.detach().cpu(),) if name == "entropy" else (x.detach().cpu(), y)
            assert value.item() == pytest.approx(getattr(h, name)(*there).item())

    def test_devices_agree(self, device):
        x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
        for mode in ("dyadic", "minmax", "own", (-9, 9)):
            h = ip.Histogram(range=mode)
            assert h.entropy(x.to(device)).item() == pytest.approx(h.entropy(x).item(), abs=1e-12)

    def test_the_argument_is_left_as_it_was(self):
        x = torch.randn(100)
        x[0], x[1] = 5, -5
        before, version = x.clone(), x._version
        for mode in ("dyadic", "minmax", "own", (-9, 9)):
            for over in ("values", "units", "samples"):
                h = ip.Histogram(range=mode, over=over)
                h.entropy(x)
                h.js_divergence(x, x)
                h.mutual_information(x, x)
                assert torch.equal(x, before)
                assert x._version == version

    def test_no_random_number_is_drawn(self):
        state = torch.random.get_rng_state()
        ip.Histogram().entropy(torch.arange(10))
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_arrays_that_torch_refuses_or_warns_about(self):
        x = np.arange(10.0)
        x.flags.writeable = False
        assert ip.Histogram().entropy(x) == ip.Histogram().entropy(x[::-1])
