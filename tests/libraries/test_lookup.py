"""A stranger's library: made up, with one adapter in this one file."""

import math

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.libraries import Library, LogDeterminant, library_of
from tests.maps.textbook_maps import Pair, normal


class Bend(nn.Module):
    """A map in the manner of no library that infoprobe knows."""

    def __init__(self, slope=2.0):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.inner = nn.Identity()

    def forward(self, batch, backwards=False):
        x = self.inner(batch["points"])
        sign = -1 if backwards else 1
        log_det = sign * x.shape[1] * self.slope.log().expand(len(x))
        return {"points": x / self.slope if backwards else x * self.slope, "log_det": log_det}


class Unbend(nn.Module):
    """Another, whose way back is a method."""

    def forward(self, x):
        return 3 * x, torch.full((len(x),), x.shape[1] * math.log(3))

    def undo(self, z):
        return z / 3, torch.full((len(z),), -z.shape[1] * math.log(3))


class Bends(Library):
    def recognises(self, module):
        return isinstance(module, (Bend, Unbend))

    def run(self, module, xs, conditions, *, rev, log_determinant):
        if isinstance(module, Unbend):
            return module.undo(*xs) if rev else module(*xs)
        output = module({"points": xs[0]}, backwards=rev)
        return output["points"], output["log_det"]

    def direction(self, module, args, kwargs):
        return "inverse" if kwargs.get("backwards") else "forward"

    def inputs(self, module, args, kwargs):
        return [args[0]["points"]] if isinstance(module, Bend) else [args[0]]

    def outputs(self, module, direction, output):
        return [output["points"] if isinstance(module, Bend) else output[0]]

    def reported(self, module, direction, args, kwargs, output):
        return LogDeterminant(output["log_det"] if isinstance(module, Bend) else output[1])

    def inverse_methods(self, module):
        return ("undo",) if isinstance(module, Unbend) else ()


class Doubtful(Bends):
    def known_wrong(self, module, rev):
        return "Bend forgets its slope" if rev else ""

    def is_stochastic(self, module):
        return True


class Chain(nn.Module):
    """Runs maps of the made-up library in both directions."""

    def __init__(self):
        super().__init__()
        self.first, self.last = Bend(), Unbend()

    def forward(self, x):
        z, _ = self.last(self.first({"points": x})["points"])
        y, _ = self.last.undo(z)
        return self.first({"points": y}, backwards=True)["points"]


@pytest.fixture
def adapter(request):
    library = getattr(request, "param", Bends)()
    ip.libraries.register(library)
    yield library
    ip.libraries.unregister(library)


@pytest.mark.usefixtures("adapter")
class TestAStrangersLibrary:
    @pytest.mark.parametrize(("module", "slope"), [(Bend(), 2), (Unbend(), 3)])
    def test_exact_measures(self, module, slope):
        x = normal(20, 4)
        change, back = ip.entropy_change(module, x), ip.entropy_change(module, x, rev=True)
        assert change.value.item() == pytest.approx(4 * math.log(slope), abs=1e-6)
        assert back.value.item() == pytest.approx(-4 * math.log(slope), abs=1e-6)
        check = ip.check_invertible(module, x)
        assert check.ok, check.verdict
        assert check.compared
        spectrum = ip.jacobian_spectrum(module, x)
        assert spectrum.singular_values == pytest.approx(slope * torch.ones(20, 4))

    def test_a_probe_in_both_directions(self):
        model, x = Chain(), normal(20, 4)
        measures = [ip.EntropyChange(), ip.Entropy(ip.Histogram())]
        with ip.probe(model, measures=measures) as probe, torch.no_grad():
            assert torch.allclose(model(x), x)
        rows = {
            (row["layer"], row["direction"], row["measure"]): row for row in probe.report().rows
        }
        exact = {key[:2]: row["value"] for key, row in rows.items() if key[2] == "entropy_change"}
        assert exact == {
            ("first", "forward"): pytest.approx(4 * math.log(2)),
            ("last", "forward"): pytest.approx(4 * math.log(3)),
            ("last", "inverse"): pytest.approx(-4 * math.log(3)),
            ("first", "inverse"): pytest.approx(-4 * math.log(2)),
        }
        entropy = rows["first", "forward", "entropy"]["value"]
        assert entropy == ip.Histogram().entropy(2 * x).item()
        totals = probe.report().ledger().totals
        assert totals["forward"]["exact"] == pytest.approx(4 * math.log(6))
        assert totals["inverse"]["exact"] == pytest.approx(-4 * math.log(6))

    def test_subnets_run_in_the_direction_of_their_map(self):
        with ip.probe(model := Chain(), "first.inner", ip.Entropy()) as probe:
            model(normal(20, 4))
        assert [row["direction"] for row in probe.report().rows] == ["forward", "inverse"]

    @pytest.mark.parametrize("adapter", [Doubtful], indirect=True)
    def test_doubts(self):
        x = normal(20, 200)
        with pytest.warns(UserWarning, match=r"wrong log-determinants \(Bend forgets its slope\)"):
            change = ip.entropy_change(Bend(), x, rev=True)
        assert change.value.item() == pytest.approx(-200 * math.log(2))
        with ip.probe(model := Chain(), "first", ip.EntropyChange()) as probe:
            model(x)
        forward, inverse = probe.report().rows
        assert forward["value"] == pytest.approx(200 * math.log(2))
        assert "a stochastic estimate (Bend), not exact" in forward["findings"][0]
        assert inverse["value"] is None
        assert "Bend forgets its slope" in inverse["findings"][0]


class TestRegistration:
    def test_the_last_one_is_asked_first(self, adapter):
        assert library_of(Bend()) is adapter
        ip.libraries.register(newer := Bends())
        assert library_of(Bend()) is newer
        assert library_of(Pair()) is not newer
        ip.libraries.unregister(newer)
        assert library_of(Bend()) is adapter

    def test_without_an_adapter_nothing_is_known(self):
        with pytest.raises(TypeError, match="got Bend without a method 'inverse'"):
            ip.check_invertible(Bend(), normal(5, 2))

    def test_errors(self):
        with pytest.raises(TypeError, match=r"^library: expected an infoprobe.libraries.Library"):
            ip.libraries.register(Bends)
        with pytest.raises(ValueError, match=r"^library: expected an adapter that was registered"):
            ip.libraries.unregister(Bends())

    def test_every_adapter_answers_for_every_module(self):
        module = nn.Linear(3, 3)
        for known in (module, Pair(), torch.distributions.ExpTransform(), torch.exp, "nothing"):
            library = library_of(known)
            assert library.known_wrong(known, rev=True) == ""
            assert not library.is_stochastic(known)
        assert library_of(module) is library_of(torch.exp)
