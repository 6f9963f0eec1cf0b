"""Models that run in several processes or threads."""

import itertools
import threading

import pytest
import torch
from torch import nn

import infoprobe as ip
from tests.probing.helpers import (
    MEASURES,
    Block,
    H,
    Lambda,
    assert_measured,
    layers_of,
    passes,
    run,
    small_model,
)


@pytest.fixture
def process_group(tmp_path):
    """One process that talks to itself."""
    if not torch.distributed.is_available():
        pytest.skip("needs torch.distributed")
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class TestParallelModels:
    @pytest.mark.parametrize("probed", ["before", "after", "inside"])
    def test_data_parallel_in_processes(self, process_group, probed):
        model, x = small_model(), torch.randn(50, 6)
        early = ip.probe(model, measures=MEASURES)
        parallel = nn.parallel.DistributedDataParallel(model)
        late = ip.probe(model if probed == "inside" else parallel, measures=MEASURES)
        with early, late:
            y = parallel(x)
            y.sum().backward()
            probe = early if probed == "before" else late
            probe.sync()
        report = probe.report()
        assert layers_of(report) == ["0", "1", "2", "3"]
        assert_measured(report, "3", x, model[:3](x), y)
        assert not any("entered" in f for row in report.rows for f in row["findings"])

    def test_data_parallel_in_threads(self):
        model, x = small_model(), torch.randn(50, 6)
        y, probe = run(nn.DataParallel(model), x)
        report = probe.report()
        assert layers_of(report) == ["0", "1", "2", "3"]
        assert_measured(report, "3", x, model[:3](x), y)


class TestThreads:
    def start(self, functions):
        barrier, errors = threading.Barrier(len(functions)), []

        def call(function):
            try:
                barrier.wait()
                function()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=call, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    @pytest.mark.parametrize("n", [2, 4])
    def test_one_probed_model(self, n):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.act = nn.Linear(6, 6), Block(), nn.ReLU(True)

            def forward(self, x):
                return self.act(self.a(self.b(self.a(x))))

        model, batches = Model(), torch.randn(n, 20, 30, 6)
        with ip.probe(model, measures=MEASURES) as sequential:
            for batch in batches.flatten(0, 1):
                model(batch)
        with ip.probe(model, measures=MEASURES) as probe:
            self.start([lambda part=part: [model(x) for x in part] for part in batches])

        def measured(probe):
            return {
                (row["layer"], row["call"], row["measure"], row["reference"]): (
                    row["value"],
                    row["n"],
                    [f for f in row["findings"] if "left out" not in f],
                )
                for row in probe.report().rows
            }

        assert measured(probe) == measured(sequential)
        assert passes(probe) == 20 * n

    def test_rows_of_one_probed_model_belong_together(self):
        class Keeps:
            def mutual_information(self, x, y):
                kept.append((x, y))
                return 0.0

        kept, model, batches = [], Lambda(lambda x: 2 * x), torch.randn(4, 10, 5, 2)
        with ip.probe(model, measures=ip.MutualInformation(Keeps())) as probe:
            self.start([lambda part=part: [model(x) for x in part] for part in batches])
        assert probe.report().rows[0]["n"] == 200
        ((given, gave),) = kept
        assert torch.equal(2 * given, gave)
        assert torch.equal(given.sort(0).values, batches.flatten(0, 2).sort(0).values)

    def test_two_models_and_two_probes(self):
        models, x = [small_model(), small_model()], torch.randn(30, 6)

        def measure(i):
            for _ in range(10):
                with ip.probe(models[i], measures=MEASURES) as probe:
                    y = models[i](x)
                found[i].append((probe, y))

        found = {0: [], 1: []}
        self.start([lambda i=i: measure(i) for i in found])
        for i, model in enumerate(models):
            for probe, y in found[i]:
                assert_measured(probe.report(), "3", x, model[:3](x), y)

    def test_reports_while_other_threads_run_the_model(self):
        class Grows(nn.Module):
            def forward(self, x):
                for i in range(50):
                    ip.tap(x, f"point {next(numbers)} {i}")
                return x

        numbers, errors = itertools.count(), []

        def look():
            try:
                probe.report()
                probe.state_dict()
                probe.counts("(model)")
            except RuntimeError as error:
                errors.append(error)

        with ip.probe(model := Grows(), measures=ip.Entropy(H)) as probe:
            model(torch.randn(5, 3))
            thread = threading.Thread(target=lambda: [model(torch.randn(5, 3)) for _ in range(20)])
            thread.start()
            while thread.is_alive():
                look()
            thread.join()
        assert not errors
        assert len(probe.report().rows) == 21 * 50 + 1

    def test_a_probe_removed_by_another_thread(self):
        entered, go_on = threading.Event(), threading.Event()

        def wait(x):
            entered.set()
            assert go_on.wait(10)
            return ip.tap(x, "point")

        model, x = nn.Sequential(nn.Identity(), Lambda(wait), nn.Tanh()), torch.randn(30, 6)
        probe = ip.probe(model, measures=MEASURES)
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        assert entered.wait(10)
        probe.remove()
        go_on.set()
        thread.join()
        with pytest.warns(UserWarning, match="gave no output: 1, 2"):
            assert layers_of(probe.report()) == ["0"]
