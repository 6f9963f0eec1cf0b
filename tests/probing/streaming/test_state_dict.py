"""A probe that is saved and loaded goes on as if nothing had happened."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import probed, save_and_load
from tests.probing.streaming.helpers import ROWS, STREAMING, Turns, data, equal_states, model_of


def checkpoint_options():
    return [
        ("counts", STREAMING, {}),
        ("rows", ROWS, {}),
        ("both, with little memory", [*STREAMING, *ROWS], {"memory": 200}),
        ("some values", STREAMING, {"values_per_batch": 20}),
    ]


class TestStateDict:
    @pytest.mark.parametrize(
        ("measures", "options"), [each[1:] for each in checkpoint_options()], ids=lambda x: ""
    )
    @pytest.mark.parametrize("after", [0, 1, 5, 10])
    def test_resuming_equals_going_on(self, measures, options, after):
        model, batches = model_of(), data().split(10)
        whole = probed(model, batches, measures, seed=3, **options)
        state = save_and_load(
            probed(model, batches[:after], measures, seed=3, **options).state_dict()
        )
        with ip.probe(model, measures=measures, seed=3, **options) as probe:
            model(data(50, seed=9))  # is forgotten
            probe.load_state_dict(state)
            for batch in batches[after:]:
                model(batch)
        assert probe.report().rows == whole.report().rows
        assert equal_states(probe.state_dict(), whole.state_dict())

    def test_layers_and_findings_come_back(self):
        model = Turns()
        batches = [data(10), data(10) * 1e6, torch.full((2, 3), math.nan), data(10) * 1e-6]
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
            for batch in batches[:2]:
                model(batch)
            with pytest.warns(RuntimeWarning):
                model(batches[2])
            model(batches[3])
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as again:
            again.load_state_dict(save_and_load(probe.state_dict()))
        assert again.report().rows == probe.report().rows
        assert any("1 call is left out" in row["findings"][-1] for row in again.report().rows)

    def test_going_on_leaves_the_state_as_it_was(self):
        model, batches = model_of(), data().split(10)
        with ip.probe(model, measures=[*STREAMING, *ROWS]).track(every=4, passes=2) as probe:
            for batch in batches[:5]:
                model(batch)
            state = probe.state_dict()
            saved = save_and_load(state)
            for batch in batches[5:]:
                model(batch)
        assert equal_states(state, saved)

    def test_loading_leaves_the_state_as_it_was(self):
        model, batches = model_of(), data().split(10)
        state = probed(model, batches[:5], [*STREAMING, *ROWS]).state_dict()
        saved = save_and_load(state)
        with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
            probe.load_state_dict(state)
            for batch in batches[5:]:
                model(batch)
        assert equal_states(state, saved)

    def test_other_measures(self):
        model = model_of()
        state = probed(model, [data()], STREAMING).state_dict()
        for measures in (STREAMING[:2], STREAMING[::-1], ROWS, ip.Entropy()):
            with (
                ip.probe(model, measures=measures) as probe,
                pytest.raises(ValueError, match="state: expected the measures of this probe"),
            ):
                probe.load_state_dict(state)

    @pytest.mark.parametrize("state", [{}, None, [], {"weight": torch.ones(3)}])
    def test_no_state_at_all(self, state):
        model = model_of()
        with ip.probe(model, measures=STREAMING) as probe:
            model(data())
            before = probe.report().rows
            with pytest.raises(ValueError, match=r"state: expected what Probe\.state_dict"):
                probe.load_state_dict(state)
        assert probe.report().rows == before

    @pytest.mark.parametrize("version", [4, 6, 5.0, True, "5"])
    def test_another_version_is_named(self, version):
        state = probed(model_of(), [data()], STREAMING).state_dict()
        state["record"]["version"] = version
        probe = ip.probe(model_of(), measures=STREAMING)
        expected = f"of version 5, got version {version!r}. Measure again with this version"
        with pytest.raises(ValueError, match=re.escape(expected)):
            probe.load_state_dict(state)

    def test_the_projection_comes_with_the_rows(self):
        model, x = nn.Identity(), data(20, 30)
        measure = ip.Entropy(ip.Gaussian(), project=2)
        state = probed(model, [x], measure, seed=1).state_dict()
        with ip.probe(model, measures=measure, seed=2) as probe:
            probe.load_state_dict(state)
            model(x)
        assert probe.report().rows == probed(model, [x, x], measure, seed=1).report().rows

    def test_the_memory_of_the_probe_that_loads_holds(self):
        model, measure = nn.Identity(), ip.Entropy(ip.Gaussian())
        state = probed(model, [data(100)], measure).state_dict()
        with ip.probe(model, measures=measure, memory=120) as probe:
            probe.load_state_dict(state)
            model(data(100))
        assert probe.report().rows[0]["n"] <= 10

    def test_numpy_numbers_can_be_saved(self):
        model = model_of()
        options = {"values_per_batch": np.int64(20), "memory": np.int64(5000)}
        probe = probed(model, [data()], STREAMING, **options)
        save_and_load(probe.state_dict())

    def test_a_seed_of_numpy(self):
        probe = probed(model_of(), [data()], STREAMING, seed=np.int64(3))
        save_and_load(probe.state_dict())


def damages(state):
    """Copies of a state with one part of it damaged, and what was done."""
    yield "negative passes", {**state, "passes": [-1, 0]}
    yield "no tracking", {key: part for key, part in state.items() if key != "tracking"}
    yield "half a generator", {**state, "generator": state["generator"][:100]}
    yield "rows", {**state, "rows": 3}
    for what, change in {
        "negative counts": lambda part: {**part, "values": -part["values"]},
        "truncated counts": lambda part: {**part, "values": part["values"][:-1]},
        "float counts": lambda part: {**part, "values": part["values"].double()},
        "no grid": lambda part: {**part, "grid": {}},
        "a grid of texts": lambda part: {**part, "grid": dict.fromkeys(part["grid"], "x")},
        "a grid of bits": lambda part: {**part, "grid": dict.fromkeys(part["grid"], True)},
        "a grid of NaN": lambda part: {**part, "grid": dict.fromkeys(part["grid"], math.nan)},
    }.items():
        damaged = copy.deepcopy(state)
        kept = damaged["record"]["calls"][-1]["kept"]
        for part in kept:
            groups = part.get("groups", {})
            part |= {"groups": {group: change(one) for group, one in groups.items()}}
        yield what, damaged
    for key, value in {
        "n": -3,
        "values": 2.5,
        "left_out": "one",
        "inapplicable": KeyError,
    }.items():
        damaged = copy.deepcopy(state)
        part = damaged["record"]["calls"][-1]["kept"][0]
        if value is KeyError:
            del part[key]
        else:
            part[key] = value
        yield f"{key} {value}", damaged
    for key in ("numbers", "priorities", "marks"):
        damaged = copy.deepcopy(state)
        reservoir = damaged["record"]["reservoirs"][0]
        reservoir[key] = reservoir[key][:-1]
        yield f"truncated {key}", damaged
        damaged = copy.deepcopy(state)
        reservoir = damaged["record"]["reservoirs"][0]
        reservoir[key] = reservoir[key].to(torch.float32)
        yield f"other {key}", damaged
    for key in ("layer", "type", "direction", "call"):
        damaged = copy.deepcopy(state)
        damaged["record"]["calls"][-1][key] = torch.ones(2)
        yield f"another {key}", damaged
    damaged = copy.deepcopy(state)
    damaged["record"]["calls"].append({"layer": "nothing else"})
    yield "half a call", damaged


def test_a_damaged_state_is_refused_and_changes_nothing():
    model = model_of()
    state = probed(model, data().split(10), [*STREAMING, *ROWS]).state_dict()
    with ip.probe(model, measures=[*STREAMING, *ROWS]) as probe:
        model(data(30))
        before = probe.state_dict()
        for what, damaged in damages(state):
            with pytest.raises(ValueError, match=r"^state: "):
                probe.load_state_dict(damaged)
            assert equal_states(probe.state_dict(), before), what
