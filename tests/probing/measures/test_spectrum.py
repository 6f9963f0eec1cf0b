import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.errors import ArgumentError
from infoprobe.findings import code_of
from tests import textbook_spectrum as textbook
from tests.probing.helpers import but_errors, probed, save_and_load

NAMES = ["effective_rank", "rankme", "participation_ratio", "saturation"]
IDENTITY = nn.Identity()


def spectrum(x, batches=1, **options):
    """The rows for data, by name."""
    probe = probed(IDENTITY, x.tensor_split(batches), ip.Spectrum(**options))
    return {row["measure"]: row for row in probe.report().rows}


def values(rows):
    return {name: row["value"] for name, row in rows.items()}


def data(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator)
    return x * torch.rand(d, generator=generator) + torch.randn(d, generator=generator)


class TestTextbook:
    @pytest.mark.parametrize("shape", [(50, 7), (20, 1), (200, 130), (30, 60), (4, 3)])
    @pytest.mark.parametrize("batches", [1, 4])
    def test_definitions(self, shape, batches):
        x = data(*shape)
        rows = spectrum(x, batches)
        assert list(rows) == NAMES
        for name in NAMES:
            expected = getattr(textbook, name)(x)
            assert rows[name]["value"] == pytest.approx(expected, rel=1e-6), name
            assert (rows[name]["n"], rows[name]["d"]) == shape

    @pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 0.99, 0.999])
    @pytest.mark.parametrize("seed", range(3))
    def test_saturation_is_that_of_delve(self, threshold, seed):
        x = data(300, 40, seed)
        found = spectrum(x, 3, threshold=threshold)["saturation"]["value"]
        assert found == pytest.approx(textbook.saturation(x, threshold))
        metrics = pytest.importorskip("delve.metrics")
        covariance = torch.cov(x.double().T, correction=0)
        assert found == pytest.approx(metrics.compute_saturation(covariance, threshold))

    def test_tokens(self):
        x = data(24 * 9, 5).reshape(24, 9, 5)
        mask = torch.arange(9) < torch.randint(1, 10, (24, 1))
        with ip.probe(IDENTITY, measures=ip.Spectrum(select="tokens")) as probe:
            for part, of in zip(x.chunk(4), mask.chunk(4), strict=True):
                probe.mask(of)
                IDENTITY(torch.where(of.unsqueeze(2), part, torch.nan))
        for row in probe.report().rows:
            name = row["measure"].removesuffix("@tokens")
            assert row["value"] == pytest.approx(getattr(textbook, name)(x[mask]), rel=1e-6)
            assert row["n"] == int(mask.sum())


class TestClosedForms:
    def test_all_directions_alike(self):
        x = torch.cat([torch.eye(16), -torch.eye(16)]).double()
        found = values(spectrum(x, 2))
        assert found["effective_rank"] == pytest.approx(16)
        assert found["participation_ratio"] == pytest.approx(16)
        assert found["rankme"] == pytest.approx(16, rel=1e-4)
        assert found["saturation"] == 15 / 16  # the last one reaches 0.99

    def test_one_hot_tokens(self):
        # Of d equally frequent symbols: d - 1 equal eigenvalues and a zero.
        x = torch.eye(10).repeat(6, 1)
        found = values(spectrum(x, 3))
        assert found["effective_rank"] == pytest.approx(9)
        assert found["participation_ratio"] == pytest.approx(9)
        assert found["rankme"] == pytest.approx(10, rel=1e-4)

    def test_two_tokens_that_are_repeated(self):
        a, b = torch.randn(2, 50)
        found = values(spectrum(torch.stack([a, b]).repeat(40, 1), 4))
        assert found["effective_rank"] == pytest.approx(1)
        assert found["participation_ratio"] == pytest.approx(1)
        assert found["saturation"] == 1 / 50

    def test_low_rank_and_noise(self):
        generator = torch.Generator().manual_seed(0)
        directions = torch.linalg.qr(torch.randn(60, 60, generator=generator))[0]
        scale = torch.full((60,), 0.1)
        scale[:4] = 3.0
        x = torch.randn(40_000, 60, generator=generator) * scale @ directions.T
        shares = (scale.double().square() / scale.double().square().sum()).tolist()
        expected = math.exp(-sum(p * math.log(p) for p in shares))
        row = spectrum(x, 40)["effective_rank"]
        assert abs(row["value"] - expected) < 4 * row["stderr"]
        assert row["stderr"] < 0.02
        assert row["findings"] == []

    def test_exact_low_rank_in_single_precision(self):
        # Products in float32 would leave a floor of singular values, and RankMe 5 % too large.
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(-8, 9, (5000, 3), generator=generator).float()
        x = x @ torch.randint(-8, 9, (3, 200), generator=generator).float()
        assert values(spectrum(x, 5))["rankme"] == pytest.approx(textbook.rankme(x), rel=1e-4)


class TestErrors:
    def test_of_independent_samples_they_cover(self):
        covered = dict.fromkeys(NAMES[:3], 0)
        scale = torch.linspace(1, 3, 8)
        shares = scale.double().square() / scale.double().square().sum()
        truth = {
            "effective_rank": math.exp(-float((shares * shares.log()).sum())),
            "participation_ratio": 1 / float(shares.square().sum()),
            "rankme": math.exp(-float((scale / scale.sum() * (scale / scale.sum()).log()).sum())),
        }
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            rows = spectrum(torch.randn(2000, 8, generator=generator) * scale, 20)
            for name, expected in truth.items():
                row = rows[name]
                covered[name] += abs(row["value"] - expected) < 1.96 * row["stderr"]
        assert all(34 <= times <= 40 for times in covered.values()), covered

    def test_tokens_of_a_sequence_depend_on_each_other(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(400, 1, 6, generator=generator).expand(400, 30, 6)
        alike = spectrum(x, 20, select="tokens")["effective_rank@tokens"]
        single = spectrum(x[:, 0], 20)["effective_rank"]
        assert alike["value"] == pytest.approx(single["value"])
        assert alike["stderr"] == pytest.approx(single["stderr"])

    def test_too_few_samples_are_told(self):
        generator = torch.Generator().manual_seed(0)
        rows = spectrum(torch.randn(200, 100, generator=generator), 20)
        for name in ("effective_rank", "participation_ratio"):
            assert [code_of(found) for found in rows[name]["findings"]] == ["few-for-a-spectrum"]
            assert rows[name]["value"] + 1.96 * rows[name]["stderr"] > 85

    def test_a_single_sample_batch_has_none(self):
        row = spectrum(data(2, 3), 1)["effective_rank"]
        assert row["value"] == pytest.approx(1)
        assert row["stderr"] is None
        assert any("no standard error" in found for found in row["findings"])


class TestStates:
    def test_merging_saving_and_batches(self):
        x = data(240, 140)
        expected = values(spectrum(x))
        parts = x.tensor_split([10, 11, 100])
        for order in (parts, parts[::-1]):
            a = probed(IDENTITY, order[:2], ip.Spectrum())
            b = probed(IDENTITY, order[2:], ip.Spectrum())
            again = ip.probe(IDENTITY, measures=ip.Spectrum())
            again.load_state_dict(save_and_load(a.state_dict()))
            again.merge(b)
            again.remove()
            found = {row["measure"]: row["value"] for row in again.report().rows}
            assert found == pytest.approx(expected, rel=1e-12)

    def test_windows(self):
        with ip.probe(IDENTITY, measures=ip.Spectrum()).track(3, passes=2) as probe:
            batches = [data(20, 4, i) for i in range(6)]
            for batch in batches:
                IDENTITY(batch)
        rows = [row for row in probe.report().rows if row["measure"] == "participation_ratio"]
        expected = [textbook.participation_ratio(torch.cat(batches[i : i + 2])) for i in (0, 3)]
        assert [row["value"] for row in rows] == pytest.approx(expected)

    def test_wide_samples_are_projected(self):
        x = torch.randn(50, 3) @ torch.randn(3, 5000)
        row = spectrum(x, 2)["effective_rank"]
        assert row["value"] == pytest.approx(textbook.effective_rank(x), rel=0.15)
        assert any("projected onto 1,024 random directions" in found for found in row["findings"])
        assert row["d"] == 5000

    def test_memory_does_not_grow(self):
        with ip.probe(IDENTITY, measures=ip.Spectrum()) as probe:
            sizes = []
            for i in range(60):
                IDENTITY(data(40, 6, i))
                sizes.append(len(torch_bytes(probe.state_dict())))
        assert sizes[-1] == sizes[40]


def torch_bytes(state):
    import io

    buffer = io.BytesIO()
    torch.save(state["record"]["calls"], buffer)
    return buffer.getvalue()


class TestBadInput:
    def test_constant_samples(self):
        rows = spectrum(torch.full((30, 4), 0.3), 3)
        assert all(row["value"] is None for row in rows.values())
        assert all("equal up to rounding" in row["findings"][0] for row in rows.values())

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_samples_that_rounding_alone_makes_differ(self, dtype):
        x, eps = torch.randn(4, dtype=dtype), torch.finfo(dtype).eps
        sign = torch.randn(30, 4).sign().to(dtype)
        rows = spectrum(x * (1 + eps * sign), 3)
        assert all("equal up to rounding" in row["findings"][0] for row in rows.values())
        rows = spectrum(x * (1 + 100 * eps * sign.to(x)), 3)
        assert all(row["value"] is not None for row in rows.values())

    def test_one_sample(self):
        rows = spectrum(torch.randn(1, 4))
        assert all("at least 2 samples" in row["findings"][0] for row in rows.values())

    def test_integers_do_not_apply(self):
        rows = spectrum(torch.randint(0, 9, (30, 4)))
        assert all("symbols" in row["findings"][0] for row in rows.values())

    def test_not_a_number(self):
        x = data(30, 4)
        x[20, 1] = torch.nan
        with pytest.warns(RuntimeWarning, match="finite"):
            rows = spectrum(x, 3)
        expected = textbook.participation_ratio(x[:20])
        assert rows["participation_ratio"]["value"] == pytest.approx(expected)
        assert "1 call is left out" in rows["participation_ratio"]["findings"][-1]

    def test_ragged_widths(self):
        with pytest.warns(RuntimeWarning, match="as before"):
            probe = probed(IDENTITY, [data(9, 4), data(9, 5)], ip.Spectrum())
        assert probe.report().rows[0]["n"] == 9
        other = probed(IDENTITY, [data(9, 6)], ip.Spectrum())
        probe.merge(other)
        assert probe.report().rows[0]["n"] == 9
        assert probe.report().rows[0]["findings"][-1].startswith("2 calls are left out")

    @pytest.mark.parametrize(
        "options",
        [{"threshold": 1.5}, {"threshold": "a"}, {"project": 0}, {"select": "words"}],
    )
    def test_arguments(self, options):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            ip.Spectrum(**options)


def test_rows_of_one_layer_share_their_state():
    with ip.probe(IDENTITY, measures=ip.Spectrum()) as probe:
        IDENTITY(data(30, 4))
    (call,) = probe.state_dict()["record"]["calls"]
    assert len(call["kept"]) == 1
    assert but_errors(probe.report()) == but_errors(probe.report())
