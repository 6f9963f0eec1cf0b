import json
import math

import pytest
import torch

import infoprobe as ip

N, SETS, BOTTLENECK = 20, 2, 3


@pytest.fixture
def inequalities(load_example, monkeypatch):
    module = load_example("paper.inequalities")
    monkeypatch.setattr(module, "SETS", SETS)
    return module


@pytest.fixture
def bounds(load_example, monkeypatch):
    module = load_example("paper.bounds")
    monkeypatch.setattr(module, "CRITIC", ip.Critic(steps=5, batch=8))
    return module


@pytest.fixture
def checks(inequalities, bounds, load_example, monkeypatch, mnist5k):
    module = load_example("paper.checks")
    monkeypatch.setattr(module, "load", lambda *_: mnist5k["test"][: N * SETS])
    return module


def model(family):
    """An untrained model, moved away from the identity, whose codes would be black pixels."""
    if family == "classical":
        return ip.models.MNISTAutoencoder(BOTTLENECK).eval()
    inn = ip.models.mnist_inn()
    with torch.no_grad():
        for parameter in inn.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return ip.models.InvertibleAutoencoder(inn, BOTTLENECK).eval()


@pytest.fixture
def trained(load_example):
    """Stands in for the training of a model of a family."""

    def untrained(family, seed=0):
        return load_example("paper.training").Trained(
            name=f"untrained-{family}",
            dataset="mnist",
            family=family,
            seed=seed,
            model=model(family),
            schedule=ip.models.Schedule(epochs=1),
            history=[0.1],
            seconds=1.0,
            test_l1=0.1,
            n_images=64,
        )

    return untrained


@pytest.fixture
def plan(checks, trained, tmp_path):
    class Untrained(checks.Plan):
        def model(self, family, seed):
            return trained(family, seed)

    return Untrained(
        dataset="mnist",
        data_root=None,
        artifacts=tmp_path / "artifacts",
        out=tmp_path,
        bottleneck=BOTTLENECK,
        images=64,
        measured=N,
        epochs={"invertible": 1, "classical": 1},
        seeds={"invertible": [0], "classical": [0]},
    )


def test_from_the_models_to_the_page(checks, inequalities, bounds, plan, tmp_path, monkeypatch):
    found = checks.run(plan)
    families = found["inequalities"]["families"]
    assert found["inequalities"]["n"] == N
    for family, steps in (("invertible", (12, 5, 7)), ("classical", (7, 3, 4))):
        assert set(families[family]["rules"]) == set(inequalities.RULES)
        for chains in families[family]["rules"].values():
            assert tuple(len(chain["step"]) for chain in chains.values()) == steps
            for chain in chains.values():
                assert all(math.isfinite(value) for value in chain["value"])
    measured = found["bounds"]
    assert measured["ceilings"]["infonce"] == pytest.approx(math.log(measured["held out"]))
    assert measured["ceilings"]["dv"] is None
    assert measured["distinct images"] == N * SETS
    assert [pair["truth"] for pair in measured["pairs"].values()] == [2, 5, 10, None, None, None]

    checks.figure(found, tmp_path / "checks.png")
    assert (tmp_path / "checks.png").stat().st_size > 10_000
    assert (tmp_path / "bounds.png").stat().st_size > 10_000
    page = checks.page(json.loads(json.dumps(found)))
    assert page == checks.page(found)
    assert page.startswith("## The references' checks\n\n")
    page += checks.details(found)
    assert "| invertible code | ∞ |" in page

    # Once measured, everything is read from the artifacts.
    monkeypatch.setattr(bounds, "values_by_bound", None)
    monkeypatch.setattr(inequalities, "chains_of", None)
    assert checks.run(plan) == found


def test_outputs_of_the_layers(inequalities, trained, mnist5k):
    x = mnist5k["test"][:N] / 255
    for family in ("invertible", "classical"):
        one = trained(family)
        places = inequalities.places_of("mnist", family)
        outputs = dict(
            zip(
                [(place.layer, place.direction) for place in places],
                inequalities.layer_outputs(one.model, places, x),
                strict=True,
            )
        )
        with torch.no_grad():
            code, reconstruction = one.model.encode(x), one.model(x)
        if family == "invertible":
            last, padded = outputs["haar_down", "inverse"], outputs["bottleneck", "forward"]
            assert torch.equal(one.model.bottleneck.code(padded), code)
        else:
            last = outputs["decoder.output", "forward"]
            assert torch.equal(outputs["encoder.code", "forward"], code)
        torch.testing.assert_close(last, reconstruction.flatten(1), atol=1e-6, rtol=0)


def test_chains(inequalities):
    x, t, z, u, y = torch.randn(5, N, 4, generator=torch.Generator().manual_seed(0))
    estimator = ip.MatrixRenyi()
    chains = inequalities.chains_of(estimator, ["X", "T", "Z", "T′", "X′"], 2, [x, t, z, u, y])
    expected = {
        "input": {"T": (x, t), "Z": (x, z), "T′": (x, u), "X′": (x, y)},
        "reconstruction": {"T′": (y, u), "Z": (y, z)},
        "symmetric": {"T, T′": (t, u), "X, X′": (x, y)},
    }
    assert chains["symmetric"].pop("S(Z)") == pytest.approx(float(estimator.entropy(z)))
    assert list(chains) == list(expected)
    for name, pairs in expected.items():
        assert list(chains[name]) == list(pairs)
        for place, pair in pairs.items():
            value = float(estimator.mutual_information(*pair))
            assert chains[name][place] == pytest.approx(value, abs=1e-9)


def test_a_code_in_small_units_seems_to_be_filled_with_information(inequalities):
    """With a fixed width, a change of scale alone makes the numbers fall and rise again."""
    generator = torch.Generator().manual_seed(0)
    names = ["X", "T", "Z", "T′", "X′"]
    sets = []
    for _ in range(3):
        x = torch.randn(N, 4, generator=generator)
        sets.append(
            inequalities.chains_of(ip.MatrixRenyi(bandwidth=1), names, 2, [x, x, x / 9, x, x])
        )
    chain = inequalities.summary(sets)["input"]
    assert chain["places"] == names[1:]
    assert chain["falls"] == [True, False, False]
    assert chain["rises"] == [False, True, False]
    assert inequalities.rising_steps(chain) == [chain["step"][1]]
    # Under the median rule, a change of units changes nothing.
    sets = [inequalities.chains_of(ip.MatrixRenyi(), names, 2, [x, x, x / 9, x, x])] * 2
    assert inequalities.summary(sets)["input"]["step"] == pytest.approx([0, 0, 0], abs=1e-6)


def test_gaussian_pairs(bounds):
    for nats in (0.5, 4):
        x, y = bounds.gaussian_pair(20_000, 3, nats)
        assert float(ip.Gaussian().mutual_information(x, y)) == pytest.approx(nats, abs=0.03)
    x, y = bounds.gaussian_pair(10, 3, math.inf)
    assert torch.equal(x, y)
