"""Figures that stay readable with few and with many layers, in large and in small."""

import math

import matplotlib as mpl
import pytest
from matplotlib import pyplot

import infoprobe as ip
from tests.reporting.rows import report

# The width and height in inches, and the size of the font.
SIZES = {"screen": (6.4, 4.8, 10), "column": (3.3, 2.4, 8)}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(params=SIZES)
def ax(request):
    *size, font = SIZES[request.param]
    with mpl.rc_context({"font.size": font}):
        yield pyplot.figure(figsize=size, layout="constrained").subplots()


def network(n, steps=(None,), inverse=True):
    """A report of all that figures show, of a network of n layers."""
    rows = []
    for step in steps:
        for i in range(n):
            place = {"layer": f"encoder.layer.{i // 4}.attention.linear{i % 4}", "step": step}
            noted = {"findings": ["look here [few]"]} if i % 3 == 0 else {}
            for direction in ("forward", "inverse") if inverse else ("forward",):
                here = place | {"direction": direction}
                rows += [
                    {**here, **noted, "value": 5 - i / n, "stderr": 0.1},
                    {**here, "measure": "divergence", "reference": "previous", "value": math.inf},
                    {**here, "measure": "divergence", "reference": "input", "value": i / n},
                    {**here, "measure": "entropy_change", "value": i / n - 0.5, "stderr": 0.1},
                ]
            for reference in ("input", "target"):
                known = {"measure": "mutual_information", "reference": reference}
                rows.append({**place, **known, "value": 2 - i / n, "stderr": 0.1})
    return report(*rows)


FIGURES = {
    "profile": lambda found, ax: found.plot(ax=ax),
    "divergences": lambda found, ax: found.plot("divergence", ax=ax),
    "mirrored": lambda found, ax: found.plot_mirrored(ax=ax),
    "ledger": lambda found, ax: found.ledger().plot(ax=ax),
    "comparison": lambda found, ax: found.compare(found).plot(ax=ax),
    "depth": lambda found, ax: found.compare(network(5)).plot(ax=ax),
    "plane": lambda found, ax: found.plot_plane(ax=ax),
}


def require_apart(texts):
    """No two texts overlap, and none is empty."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert not box.overlaps(other)


def require_readable(ax):
    """Names lie apart, the axes keep at least a third of the figure, and the legend hides nothing.

    A legend within the axes lies above all that is drawn.
    """
    figure = ax.figure
    figure.canvas.draw()
    for axes in figure.axes:
        require_apart(axes.get_xticklabels())
        require_apart(axes.get_yticklabels())
    width, height = figure.get_size_inches() * figure.dpi
    assert ax.bbox.width > width / 3
    assert ax.bbox.height > height / 3
    legend = ax.get_legend()
    if legend is None:
        return
    box = legend.get_window_extent()
    assert box.x1 <= width + 1
    if box.x0 < ax.bbox.x1 - 1:
        drawn = [
            y
            for line in ax.lines
            for y in line.get_ydata()
            if line.get_transform() == ax.transData
        ]
        top = ax.transData.transform((0, max(y for y in drawn if math.isfinite(y))))[1]
        assert box.y0 >= top - 3


@pytest.mark.parametrize("n", [5, 60, 200])
@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_overlaps(figure, n, ax):
    assert FIGURES[figure](network(n), ax) is ax
    require_readable(ax)


@pytest.mark.parametrize("n", [5, 20, 60])
@pytest.mark.parametrize("measure", ["entropy", "divergence"])
def test_nothing_overlaps_over_steps(measure, n, ax):
    network(n, steps=(0, 100, 200), inverse=False).plot(measure, ax=ax)
    require_readable(ax)


def test_lines_differ_in_more_than_colour(ax):
    network(5).plot_mirrored("divergence", ax=ax)
    lines = [line for line in ax.get_legend().get_lines() if line.get_linestyle() != "None"]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines) == 4


def test_colours_are_those_of_the_user(ax):
    with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=["#123456", "#654321"])}):
        fresh = pyplot.figure().subplots()
        network(5).plot_mirrored(ax=fresh)
    forward, inverse = fresh.get_legend().get_lines()
    assert (forward.get_color(), inverse.get_color()) == ("#123456", "#654321")


def test_mirrored_passes_face_each_other(ax):
    rows = [
        {"layer": "a", "value": 1.0},
        {"layer": "b", "value": 2.0},
        {"layer": "b", "direction": "inverse", "value": 3.0},
        {"layer": "a", "direction": "inverse", "value": 4.0},
    ]
    report(*rows).plot_mirrored(ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["H(output), forward"].get_xydata().tolist() == [[0, 1], [1, 2]]
    assert lines["H(output), inverse"].get_xydata().tolist() == [[0, 4], [1, 3]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match=r"both directions, .* has none of the inverse pass"):
        report(*rows[:2]).plot_mirrored()


class TestPlane:
    def test_a_point_for_each_layer(self, ax):
        network(3).plot_plane(ax=ax)
        assert ax.get_xlabel() == "I(input; layer) (nats)"
        assert ax.get_ylabel() == "I(layer; target) (nats)"
        expected = [[2 - i / 3] * 2 for i in range(3)]
        assert ax.lines[0].get_xydata().tolist() == expected

    def test_a_line_through_the_steps_for_each_layer(self, ax):
        rows = [
            {"measure": "mutual_information", "reference": ref, "step": step, "value": value}
            for step, x, y in ((10, 3.0, 1.5), (0, 4.0, 1.0))
            for ref, value in (("input", x), ("target", y))
        ]
        report(*rows).plot_plane(ax=ax)
        paths = [line.get_xydata().tolist() for line in ax.lines]
        assert [[4.0, 1.0], [3.0, 1.5]] in paths
        assert [[3.0, 1.5]] in paths  # the larger mark at the last step

    def test_values_beyond_the_bound_lie_above_the_dashed_line(self, ax):
        places = {"input": 1.0, "target": 2.0}
        rows = [
            {"measure": "mutual_information", "reference": ref, "value": x, "layer": layer}
            for layer, factor in (("a", 1), ("b", 2))
            for ref, x in ((k, factor * v) for k, v in places.items())
        ]
        report(*rows).plot_plane(ax=ax)
        bound = ax.lines[-1]
        assert bound.get_linestyle() == "--"
        assert bound.get_xdata().tolist() == bound.get_ydata().tolist()

    def test_one_estimator_and_both_references(self):
        one = {"measure": "mutual_information", "reference": "input", "value": 1.0}
        with pytest.raises(ValueError, match=r"no layer has values of both.*probe\.target\(y\)"):
            report(one).plot_plane()
        other = one | {"reference": "target", "estimator": "F()"}
        with pytest.raises(ValueError, match=r"by one estimator, got E\(\), F\(\)"):
            report(one, other).plot_plane()


class TestDashboard:
    def test_a_panel_for_all_that_is_there(self):
        figure = network(5).plot_dashboard()
        labels = [ax.get_ylabel() for ax in figure.axes]
        assert labels == [
            "H(output) (nats)",
            "divergence (nats)",
            "change of entropy (nats)",
            "mutual_information (nats)",
            "I(layer; target) (nats)",
            "",
        ]
        counted = figure.axes[-1]
        assert [text.get_text() for text in counted.get_yticklabels()] == ["few"]
        assert [patch.get_width() for patch in counted.patches] == [4]  # 2 layers, both ways
        for ax in figure.axes:
            require_apart(ax.get_xticklabels())

    def test_steps_have_panels_of_their_own(self):
        figure = network(2, steps=(0, 10)).select(measure="entropy").plot_dashboard()
        assert [ax.get_xlabel() for ax in figure.axes[:2]] == ["", "step"]

    def test_in_the_figure_of_the_caller(self):
        figure = pyplot.figure(figsize=(12, 12), layout="constrained")
        assert network(3).plot_dashboard(figure) is figure
        assert network(3).plot_dashboard(figure.subfigures()) is not figure

    def test_of_nothing(self):
        with pytest.raises(ValueError, match="report: expected rows with values"):
            ip.Report([]).plot_dashboard()
