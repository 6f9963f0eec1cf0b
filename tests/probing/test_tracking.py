"""Steps: each window of passes is what a probe of its own would have measured."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import infoprobe as ip
from tests.probing.helpers import Mixes, probed, save_and_load

H = ip.Histogram(32, pseudocount=1)
MEASURES = [
    ip.Entropy(H),
    ip.Divergence(H, "input"),
    ip.Entropy(ip.Histogram(20, "own"), samples=15),
    ip.MutualInformation(ip.Histogram(3, over="samples"), samples=9, project=2),
]


def model_of():
    return nn.Sequential(Mixes(), nn.Hardtanh())


def batch(i, n=8):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(i)) * (1 + i)


def tracked(model, batches, every, passes, measures=MEASURES, **options):
    with ip.probe(model, measures=measures, **options).track(every, passes) as probe:
        for x in batches:
            model(x)
    return probe


def expected_rows(model, batches, every, passes, measures=MEASURES, **options):
    """Of each window, the rows of a probe that has seen it alone."""
    rows = []
    for start in range(0, len(batches), every):
        window = batches[start : min(start + passes, start + every)]
        found = probed(model, window, measures, **options).report().rows
        rows += [{**row, "step": start} for row in found]
    return rows


@pytest.fixture
def counted(monkeypatch):
    """Grows by one with each tensor that is counted."""
    calls = []
    for name in ("count", "count_blocks"):
        count = getattr(ip.Histogram, name)
        monkeypatch.setattr(ip.Histogram, name, _noting(calls, count))
    return calls


def _noting(calls, count):
    def noting(*arguments):
        calls.append(1)
        return count(*arguments)

    return noting


class TestWindows:
    @settings(max_examples=40)
    @given(st.integers(0, 13), st.integers(1, 6), st.data())
    @pytest.mark.filterwarnings("ignore:the probe has seen no pass")
    def test_are_probes_of_their_own(self, n, every, draw):
        passes = draw.draw(st.integers(1, every))
        model, batches = model_of(), [batch(i) for i in range(n)]
        probe = tracked(model, batches, every, passes)
        assert probe.report().rows == expected_rows(model, batches, every, passes)

    def test_steps_are_the_first_passes(self):
        probe = tracked(model_of(), [batch(i) for i in range(23)], 10, 3, ip.Entropy(H))
        rows = probe.report().rows
        assert [row["step"] for row in rows] == [0, 0, 10, 10, 20, 20]
        assert [row["n"] for row in rows] == [24] * 6
        assert [row["order"] for row in rows] == [0, 1] * 3

    def test_the_report_while_tracking(self):
        model, batches = model_of(), [batch(i) for i in range(12)]
        with ip.probe(model, measures=MEASURES).track(every=5, passes=3) as probe:
            for i, x in enumerate(batches):
                model(x)
                expected = expected_rows(model_of(), batches[: i + 1], 5, 3)
                assert probe.report().rows == expected
                assert probe.report().rows == expected  # asking changes nothing

    def test_a_report_is_a_snapshot(self):
        model = model_of()
        with ip.probe(model, measures=ip.Entropy(H)).track(every=2) as probe:
            model(batch(0))
            report = probe.report()
            before = [dict(row) for row in report.rows]
            for i in range(1, 5):
                model(batch(i))
        assert report.rows == before

    def test_samples_are_drawn_anew(self):
        given_ = []

        class Spy:
            def entropy(self, x):
                given_.append(x)
                return 0.0

        x = torch.arange(100.0)[:, None]
        windows = [x, x + 100, x + 200]
        tracked(nn.Identity(), windows, 1, 1, ip.Entropy(Spy(), samples=10)).report()
        assert [float(rows.min()) // 100 for rows in given_] == [0, 1, 2]
        assert [len(rows.unique()) for rows in given_] == [10, 10, 10]

    def test_layers_that_take_turns(self):
        class Turns(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers, self.passes = nn.ModuleList([Mixes(), Mixes()]), 0

            def forward(self, x):
                self.passes += 1
                return self.layers[self.passes % 2](x)

        model = Turns()
        probe = tracked(model, [batch(i) for i in range(4)], 1, 1, ip.Entropy(H))
        rows = probe.report().rows
        assert [(row["step"], row["layer"]) for row in rows] == [
            (0, "layers.1"),
            (1, "layers.0"),
            (2, "layers.1"),
            (3, "layers.0"),
        ]

    def test_training(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        x = torch.randn(64, 3)
        values = []
        with ip.probe(model, "2", ip.Entropy(H)).track(every=3) as probe:
            for step in range(7):
                y = model(x)
                if step % 3 == 0:
                    values.append((step, H.entropy(y).item()))
                optimizer.zero_grad()
                (y - x[:, :1]).square().mean().backward()
                optimizer.step()
        assert [(row["step"], row["value"]) for row in probe.report().rows] == values

    def test_what_was_before_is_forgotten(self):
        model = model_of()
        with ip.probe(model, measures=ip.Entropy(H)) as probe:
            model(batch(0))
            assert probe.track(every=2) is probe
            with pytest.warns(UserWarning, match="seen no pass"):
                assert probe.report().rows == []
            model(batch(1))
            model(batch(2))
            probe.track(every=1)
            model(batch(3))
        rows = probe.report().rows
        assert [row["step"] for row in rows] == [0, 0]
        assert rows[0]["value"] == H.entropy(model[0](batch(3))).item()

    def test_without_tracking_there_are_no_steps(self):
        assert {row["step"] for row in probed(model_of(), [batch(0)], MEASURES).report().rows} == {
            None
        }

    def test_silent_layers_are_named_once_all_were_seen(self):
        class Skips(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = Mixes(), Mixes()

            def forward(self, x):
                return self.used(x)

        probe = tracked(Skips(), [batch(i) for i in range(3)], 2, 1, ip.Entropy(H))
        with pytest.warns(UserWarning, match="gave no output: unused"):
            probe.report()

    def test_targets(self):
        model, measure = nn.Identity(), ip.MutualInformation(ip.Gaussian(), "target")
        with ip.probe(model, measures=measure).track(every=2) as probe:
            for i in range(4):
                x = batch(i, 50)
                probe.target(x[:, 0] + batch(9, 50)[:, 1])
                model(x)
        rows = probe.report().rows
        for row, i in zip(rows, (0, 2), strict=True):
            x = batch(i, 50)
            target = x[:, 0] + batch(9, 50)[:, 1]
            assert row["value"] == ip.Gaussian().mutual_information(target, x).item()

    def test_targets_of_passes_outside_are_not_kept(self):
        model, measure = nn.Identity(), ip.MutualInformation(ip.Gaussian(), "target")
        with ip.probe(model, measures=measure).track(every=2) as probe:
            probe.target(batch(9))
            model(batch(0) + batch(9))
            probe.target(batch(9))
            model(batch(1))
            with pytest.warns(
                RuntimeWarning, match="the target could not be measured: there is none"
            ):
                model(batch(2))
        assert [row["value"] is None for row in probe.report().rows] == [False, True]

    def test_some_values_of_each_batch(self):
        model, batches = model_of(), [batch(i, 200) for i in range(5)]
        probe = tracked(model, batches, 2, 1, ip.Entropy(H), values_per_batch=50)
        rows = probe.report().rows
        assert [row["step"] for row in rows] == [0, 0, 2, 2, 4, 4]
        assert all("of 600 values, drawn at random" in row["findings"][0] for row in rows)


class TestCost:
    def test_outside_of_windows_nothing_is_counted(self, counted):
        model = model_of()
        with ip.probe(model, measures=MEASURES[:2]).track(every=10, passes=2) as probe:
            for i in range(25):
                before = len(counted)
                model(batch(i))
                # The input and two outputs.
                assert len(counted) - before == (3 if i % 10 < 2 else 0)
        assert len({row["step"] for row in probe.report().rows}) == 3

    def test_outside_of_windows_tensors_are_not_looked_at(self):
        model = nn.Identity()
        with ip.probe(model, measures=ip.Entropy(H)).track(every=3) as probe:
            model(batch(0))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model(torch.full((2, 3), float("nan")))
                model("no tensor")
        assert len(probe.report().rows) == 1

    def test_memory_grows_by_the_rows_alone(self):
        model, sizes = model_of(), []
        with ip.probe(model, measures=MEASURES).track(every=5, passes=2) as probe:
            for i in range(100):
                model(batch(i % 7))
                if i % 5 == 4:
                    state = probe.state_dict()["record"]
                    assert state["calls"] == []
                    sizes.append(len(probe.state_dict()["rows"]))
        assert sizes == [8 * (i + 1) for i in range(20)]

    def test_a_window_is_computed_before_the_next_one_ends(self):
        asked = []

        class Spy:
            def entropy(self, x):
                asked.append(len(x))
                return 0.0

        model = nn.Identity()
        with ip.probe(model, measures=ip.Entropy(Spy())).track(every=4, passes=2) as probe:
            for i in range(8):
                model(batch(i))
                assert len(asked) in [(0,), (0, 1), (0, 1), (0, 1), (0, 1), (1, 2)][min(i, 5)]
            probe.report()
        assert asked == [16, 16]


class TestInterruptions:
    def test_pausing(self):
        model = model_of()
        with ip.probe(model, measures=MEASURES).track(every=3, passes=2) as probe:
            model(batch(0))
            with probe.pause():  # passes that do not count
                for i in range(10, 14):
                    model(batch(i))
            for i in range(1, 7):
                model(batch(i))
        expected = expected_rows(model, [batch(i) for i in range(7)], 3, 2)
        assert probe.report().rows == expected

    def test_reset(self):
        model = model_of()
        with ip.probe(model, measures=MEASURES).track(every=3, passes=2) as probe:
            for i in range(4):
                model(batch(10 + i))
            probe.reset()
            for i in range(5):
                model(batch(i))
        expected = expected_rows(model, [batch(i) for i in range(5)], 3, 2)
        assert probe.report().rows == expected

    def test_reset_within_a_pass(self):
        class Resets(nn.Module):
            def __init__(self):
                super().__init__()
                self.before, self.after, self.act = Mixes(), Mixes(), None

            def forward(self, x):
                x = self.before(x)
                if self.act is not None:
                    self.act()
                return self.after(x)

        model = Resets()
        with ip.probe(model, measures=ip.Entropy(H)).track(every=1) as probe:
            model(batch(0))
            model.act = probe.reset
            model(batch(1))
            model.act = None
            model(batch(2))
        assert [row["step"] for row in probe.report().rows] == [0, 0]

    def test_removing(self):
        model = model_of()
        probe = tracked(model, [batch(0)], 3, 2)
        model(batch(1))
        assert probe.report().rows == expected_rows(model, [batch(0)], 3, 2)

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    @pytest.mark.parametrize("at", range(4))
    def test_an_error_in_a_pass(self, error, at):
        class Fails(nn.Module):
            failing = False

            def forward(self, x):
                if self.failing:
                    raise error
                return x

        model = nn.Sequential(Mixes(), Fails(), Mixes())
        with ip.probe(model, measures=ip.Entropy(H)).track(every=3, passes=2) as probe:
            for i in range(8):
                model[1].failing = i == at
                if i == at:
                    with pytest.raises(error):
                        model(batch(i))
                else:
                    model(batch(i))
        rows = {(row["step"], row["layer"]): row["n"] for row in probe.report().rows}
        assert [rows[step, "0"] for step in (0, 3, 6)] == [16] * 3
        failed = at // 3 * 3 if at % 3 < 2 else None
        for step in (0, 3, 6):
            assert rows[step, "2"] == (8 if step == failed else 16)

    def test_a_window_of_passes_that_all_fail(self):
        class Fails(nn.Module):
            def forward(self, x):
                raise ZeroDivisionError

        model = nn.Sequential(Fails())
        with ip.probe(model, measures=ip.Entropy(H)).track(every=1) as probe:
            for i in range(3):
                with pytest.raises(ZeroDivisionError):
                    model(batch(i))
        with pytest.warns(UserWarning, match="seen no pass"):
            assert probe.report().rows == []

    def test_batches_that_are_not_finite(self):
        model = nn.Identity()
        bad = torch.full((8, 3), float("nan"))
        with ip.probe(model, measures=ip.Entropy(H)).track(every=2, passes=2) as probe:
            model(batch(0))
            model(batch(1))
            with pytest.warns(RuntimeWarning, match="In pass 3, the output"):
                model(bad)
            model(batch(2))
            model(batch(3))
        rows = probe.report().rows
        assert [row["n"] for row in rows] == [16, 8, 8]
        assert rows[1]["findings"][-1].startswith("1 call is left out. In pass 3, the output")
        assert rows[0]["findings"] == rows[2]["findings"] == []


class TestFiles:
    @pytest.mark.parametrize("at", range(10))
    def test_resuming_equals_going_on(self, at):
        model, batches = model_of(), [batch(i) for i in range(10)]
        whole = tracked(model, batches, 4, 2, seed=5)
        state = save_and_load(tracked(model, batches[:at], 4, 2, seed=5).state_dict())
        # The probe that loads need not track yet.
        with ip.probe(model, measures=MEASURES, seed=5) as probe:
            probe.load_state_dict(state)
            for x in batches[at:]:
                model(x)
        assert probe.report().rows == whole.report().rows

    def test_resuming_draws_the_same_values(self):
        model, batches = model_of(), [batch(i, 100) for i in range(10)]
        options = {"measures": MEASURES[:2], "values_per_batch": 30}
        whole = tracked(model, batches, 3, 2, **options)
        state = save_and_load(tracked(model, batches[:5], 3, 2, **options).state_dict())
        with ip.probe(model, **options) as probe:
            probe.load_state_dict(state)
            for x in batches[5:]:
                model(x)
        assert probe.report().rows == whole.report().rows

    def test_a_saved_report(self, tmp_path):
        report = tracked(model_of(), [batch(i) for i in range(5)], 2, 1).report()
        report.save(tmp_path / "report.json")
        assert ip.Report.load(tmp_path / "report.json").rows == report.rows

    def test_scalars_are_the_latest(self):
        model = model_of()
        with ip.probe(model, measures=MEASURES).track(every=2) as probe:
            for i in range(4):
                model(batch(i))
                expected = probed(model_of(), [batch(i - i % 2)], MEASURES).report().scalars()
                assert probe.report().scalars() == expected

    def test_numpy_numbers_can_be_saved(self):
        probe = tracked(model_of(), [batch(0)], np.int64(2), np.int64(1))
        save_and_load(probe.state_dict())


class TestMerging:
    def test_an_open_window_keeps_its_step(self):
        model = model_of()
        with ip.probe(model, measures=ip.Entropy(H)).track(every=5, passes=2) as probe:
            other = tracked(model_of(), [batch(20 + i) for i in range(3)], 5, 2, ip.Entropy(H))
            for i in range(6):
                model(batch(i))
            probe.merge(other)
            for i in range(6, 8):
                model(batch(i))
        own = expected_rows(model, [batch(i) for i in range(8)], 5, 2, ip.Entropy(H))
        rows = probe.report().rows
        assert all(row in rows for row in own)


class TestArguments:
    def test_numbers(self):
        with ip.probe(nn.Identity(), measures=ip.Entropy(H)) as probe:
            with pytest.raises(ValueError, match="every: expected an integer at least 1, got 0"):
                probe.track(0)
            with pytest.raises(ValueError, match="passes: expected an integer between 1 and 5"):
                probe.track(5, 6)
            with pytest.raises(ValueError, match="passes: expected an integer between 1 and 5"):
                probe.track(5, 0)
            with pytest.raises(TypeError, match=r"every: expected an integer, got 2\.5"):
                probe.track(2.5)
