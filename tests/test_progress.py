"""Calls that may take long show how far they are, if they are asked to."""

import sys
import threading

import pytest
import torch

import infoprobe as ip
from infoprobe.progress import progress_bar, showing

X = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
Y = X + X.flip(0)
LINEAR = torch.nn.Linear(2, 2).eval()


def report(**settings):
    model = torch.nn.Linear(2, 3)
    with ip.probe(model) as probe:
        model(X)
    return probe.report(**settings)


LONG = {
    "report": (report, "3/3"),
    "interval": (
        lambda **settings: ip.confidence_interval(ip.Gaussian().entropy, X, **settings),
        "51/51",
    ),
    "surrogates": (
        lambda **settings: ip.entropy(X, ip.KNN(calibration="gaussian"), **settings),
        "4/4",
    ),
    "Critic": (
        lambda **settings: ip.mutual_information(X, Y, ip.Critic(steps=3), **settings),
        "3/3",
    ),
    "Flow": (lambda **settings: ip.entropy(X, ip.Flow(steps=3), **settings), "3/3"),
    "Gaussianization": (
        lambda **settings: ip.total_correlation(X, ip.Gaussianization(), **settings),
        "3/3",
    ),
    "Jacobians": (lambda **settings: ip.jacobian_spectrum(LINEAR, X, **settings), "1/1"),
}


@pytest.mark.parametrize("name", LONG)
def test_bars_are_shown_if_asked_for_and_change_nothing(name, capsys):
    call, complete = LONG[name]
    torch.manual_seed(0)
    with_bar = call(progress=True)
    shown = capsys.readouterr().err
    assert name in shown
    assert complete in shown
    torch.manual_seed(0)
    without = call()
    assert capsys.readouterr().err == ""
    if isinstance(without, ip.Report):
        without, with_bar = without.scalars(), with_bar.scalars()
    torch.testing.assert_close(without, with_bar, rtol=0, atol=0)


def test_of_maps_without_their_own_log_determinants(capsys):
    ip.entropy_change(LINEAR, X, progress=True)
    ip.check_invertible(torch.distributions.ExpTransform(), X, progress=True)
    assert capsys.readouterr().err.count("Jacobians: 100%") >= 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: ip.cross_entropy(X, Y, ip.KNN(calibration="gaussian"), progress=True),
        lambda: ip.kl_divergence(X, Y, ip.KNN(calibration="gaussian"), progress=True),
        lambda: ip.conditional_mutual_information(X, Y, X**2, progress=True),
        lambda: ip.js_divergence(X, Y, progress=True),
    ],
)
def test_every_plain_function_takes_it(call, capsys):
    call()
    capsys.readouterr()


def test_a_bar_within_another_one_goes_when_it_is_complete(capsys):
    with showing(True), progress_bar(2, "outer") as outer:
        for _ in range(2):
            with progress_bar(1, "inner") as inner:
                inner.update()
            outer.update()
    shown = capsys.readouterr().err
    assert "outer: 100%" in shown
    assert "inner" not in shown  # it took less than half a second


def test_bars_end_with_the_call_that_was_to_show_them(capsys):
    def fails():
        raise RuntimeError("no estimate")

    with pytest.raises(RuntimeError), showing(True), progress_bar(2, "first"):
        fails()
    capsys.readouterr()
    with progress_bar(1, "second") as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_other_threads_are_left_alone(capsys):
    def other():
        with progress_bar(1, "other") as bar:
            bar.update()

    with showing(True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert capsys.readouterr().err == ""


def test_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"needs tqdm: pip install 'infoprobe\[progress\]'"):
        report(progress=True)
    assert len(report().rows) == 3
