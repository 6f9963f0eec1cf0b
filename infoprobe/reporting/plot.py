"""Figures of measures over layers."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from infoprobe.errors import ArgumentValueError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_STYLES = ("-", "--", ":", "-.")


def layers(
    rows: list[dict[str, Any]], measure: str, reference: str | None, ax: Axes | None
) -> Axes:
    """A line a reference and estimator over the layers, in the order of their calls.

    Rows of several steps are a line a layer over the steps instead.

    The inverse pass is set apart by its background, values with findings are hollow, infinite
    ones are triangles at the top.
    """
    chosen = [
        row for row in rows if row["measure"] == measure and reference in (None, row["reference"])
    ]
    if not chosen:
        there = sorted({(row["measure"], row["reference"]) for row in rows}, key=str)
        raise ArgumentValueError(
            "measure",
            f"no row has measure {measure!r} and reference {reference!r}. "
            f"The report has (measure, reference): {', '.join(map(str, there))}.",
        )
    ax = _new_axes() if ax is None else ax
    if len({row["step"] for row in chosen}) > 1:
        _over_steps(ax, chosen)
    else:
        _over_layers(ax, chosen)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def _over_layers(ax: Axes, chosen: list[dict[str, Any]]) -> None:
    places = list(dict.fromkeys(_place(row) for row in chosen))
    series: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for row in chosen:
        if row["value"] is not None:
            series.setdefault((row["reference"], row["estimator"]), []).append(row)
    estimators = {estimator for _, estimator in series}
    measure = chosen[0]["measure"]
    names = [
        label(measure, of) + (f", {estimator}" if len(estimators) > 1 else "")
        for of, estimator in series
    ]
    for name, line in zip(names, series.values(), strict=True):
        _draw(ax, [places.index(_place(row)) for row in line], line, name)
    _shade_inverse(ax, [direction == "inverse" for _, direction, _ in places])
    ax.set_xticks(range(len(places)), [_tick(*place) for place in places], rotation=90)
    ax.set_xlim(-0.5, len(places) - 0.5)
    # A single line is named by the axis, several by the legend.
    ax.set_ylabel(f"{names[0] if len(names) == 1 else measure} ({chosen[0]['unit']})")
    if len(names) > 1:
        ax.legend(frameon=False)


def _over_steps(ax: Axes, chosen: list[dict[str, Any]]) -> None:
    """A line a layer, from dark for the first to light for the last."""
    from matplotlib import colormaps

    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in chosen:
        if row["value"] is not None:
            key = _place(row), (row["reference"], row["estimator"])
            lines.setdefault(key, []).append(row)
    measure = chosen[0]["measure"]
    places, series = ([*dict.fromkeys(key[i] for key in lines)] for i in (0, 1))
    references, estimators = ({one[i] for one in series} for i in (0, 1))
    for (place, one), line in lines.items():
        name = _tick(*place)
        name += f", {label(measure, one[0])}" if len(references) > 1 else ""
        name += f", {one[1]}" if len(estimators) > 1 else ""
        color = colormaps["viridis"](0.9 * places.index(place) / max(1, len(places) - 1))
        linestyle = _STYLES[series.index(one) % len(_STYLES)]
        steps = [row["step"] for row in line]
        _draw(ax, steps, line, name, color=color, linestyle=linestyle)
    ax.set_xlabel("step")
    name = label(measure, *references) if len(references) == 1 else measure
    ax.set_ylabel(f"{name} ({chosen[0]['unit']})")
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=1 + len(lines) // 20,
    )


def label(measure: str, reference: str | None) -> str:
    """How a measure is written in tables and figures."""
    if measure == "entropy":
        return "H(output)"
    if measure == "divergence":
        return f"KL({reference}||output)"
    if measure == "entropy_change":
        return "E log|det J|"
    if measure == "rate":
        return "E KL(q(z|x)||p(z))"
    if measure == "mutual_information":
        return f"I({reference};output)"
    return measure if reference is None else f"{measure}({reference})"


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["layer"], row["direction"], row["call"]


def _tick(layer: str, direction: str, call: int) -> str:
    # A dollar sign would begin a formula.
    return (
        layer.replace("$", r"\$")
        + ("⁻¹" if direction == "inverse" else "")
        + (f" #{call}" if call else "")
    )


def _draw(ax: Axes, x: list[int], line: list[dict[str, Any]], name: str, **style: Any) -> None:
    # Matplotlib leaves a gap at NaN, so that no line suggests a finite value there.
    y = [row["value"] if math.isfinite(row["value"]) else math.nan for row in line]
    (drawn,) = ax.plot(x, y, marker="o", markersize=4, label=name, **style)
    noted = [i for i, row in enumerate(line) if row["findings"]]
    ax.plot(
        [x[i] for i in noted],
        [y[i] for i in noted],
        marker="o",
        markersize=5,
        linestyle="none",
        color=drawn.get_color(),
        markerfacecolor="white",
    )
    infinite = [place for place, row in zip(x, line, strict=True) if math.isinf(row["value"])]
    if infinite:
        ax.plot(
            infinite,
            [0.98] * len(infinite),
            marker="^",
            linestyle="none",
            color=drawn.get_color(),
            transform=ax.get_xaxis_transform(),
            label=f"{name} = ∞",
        )


def _shade_inverse(ax: Axes, inverse: list[bool]) -> None:
    end = 0
    for is_inverse, run in itertools.groupby(inverse):
        start, end = end, end + len(list(run))
        if is_inverse:
            ax.axvspan(start - 0.5, end - 0.5, color="0.94", linewidth=0, zorder=0)
            ax.annotate(
                "inverse",
                ((start + end - 1) / 2, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, -4),
                textcoords="offset points",
                ha="center",
                va="top",
                color="0.5",
            )


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'infoprobe[plot]'.") from error
    _, ax = pyplot.subplots(layout="constrained")
    return ax
