"""Figures of perturbation tests: what the output loses where a map says that it should."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from .panels import panels, same_limits
from .parts import WIDTH, check_columns, colour, n_rows, styled

INTERVAL = ("mean", "low", "high")


@styled
def plot_sensitivity(
    summary: pd.DataFrame, chance: pd.DataFrame | None = None, *, title: str | None = None, axes=None
) -> Figure:
    """Draw the correlation of maps with the losses of the logit over the length of the patches.

    Parameters
    ----------
    summary : DataFrame
        Columns method, share (length of the patches as a share of the trial, 1 for whole channels), mean, low, high.
    chance : DataFrame, optional
        The mean of what chance reaches and its interval: columns share, mean, low, high.
    title : str, optional
    axes : Axes, optional
        Of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure
        A line per method over the lengths, with bars for the interval; whole channels stand apart on the right. The
        grey bars are the interval of the mean of chance. It says where that mean lies, not how far a single blind map
        may fall from it: for a test, take the difference of each map and its surrogate, trial by trial.

    Raises
    ------
    ValueError
        A column is missing.
    """
    check_columns("summary", summary, ("method", "share", *INTERVAL))
    shares = sorted(summary["share"].unique())
    place = {share: float(i) for i, share in enumerate(shares)}
    methods = pd.unique(summary["method"])

    drawn = panels(axes, 1, (WIDTH, 3.6), title)
    (ax,) = drawn.axes
    if chance is not None:
        check_columns("chance", chance, ("share", *INTERVAL))
        x = chance["share"].map(place)
        ax.vlines(x, chance["low"], chance["high"], color="0.8", linewidth=9, label="chance", zorder=0)
    for i, (method, marker) in enumerate(zip(methods, cycle("os^Dv*"), strict=False)):
        rows = summary[summary["method"] == method].sort_values("share")
        x = rows["share"].map(place) + 0.5 * ((i + 0.5) / len(methods) - 0.5)  # side by side, bars stay apart
        ax.vlines(x, rows["low"], rows["high"], color=colour(i))
        ax.plot(x, rows["mean"], color=colour(i), marker=marker, markersize=4, linestyle="", label=method)
        patches = (rows["share"] < 1).to_numpy()
        ax.plot(x[patches], rows["mean"][patches], color=colour(i), linewidth=0.8)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(list(place.values()), ["whole\nchannel" if share == 1 else f"{share:.0%}" for share in shares])
    ax.set(xlabel="length of the patches (share of the trial)", ylabel="Pearson r with the loss of the logit")
    drawn.legend(*ax.get_legend_handles_labels())
    return drawn.figure


@styled
def plot_perturbation_curves(
    summary: pd.DataFrame,
    chance: pd.DataFrame | None = None,
    *,
    label: str = "logit",
    panel: str | None = None,
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw deletion or insertion curves, or the accuracy after retraining, with their intervals.

    Parameters
    ----------
    summary : DataFrame
        Columns method, share (of the points that are replaced), mean, low, high.
    chance : DataFrame, optional
        The mean of what chance reaches and its interval: columns share, mean, low, high.
    label : str
        Name and unit of the output.
    panel : str, optional
        Column of both tables with the name of the panel that a row belongs to, such as baseline.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure
        A line with its interval per method; grey and dashed, the mean of chance with its interval, to be read as in
        `plot_sensitivity`. Up to three panels in a row, on one scale.

    Raises
    ------
    ValueError
        A column is missing.
    """
    columns = ("share", *INTERVAL) if panel is None else (panel, "share", *INTERVAL)
    check_columns("summary", summary, ("method", *columns))
    if chance is not None:
        check_columns("chance", chance, columns)
    methods = pd.unique(summary["method"])
    names = [None] if panel is None else list(pd.unique(summary[panel]))

    drawn = panels(axes, len(names), (WIDTH, 0.9 + 2.3 * n_rows(len(names), 3)), title, columns=3)
    for ax, name in zip(drawn.axes, names, strict=True):
        rows, floor = (t if name is None or t is None else t[t[panel] == name] for t in (summary, chance))
        if floor is not None:
            _curve(ax, floor, "0.5", label="chance", linestyle="--")
        for i, (method, marker) in enumerate(zip(methods, cycle("os^Dv*"), strict=False)):
            _curve(ax, rows[rows["method"] == method], colour(i), label=method, marker=marker, markersize=3)
        ax.set(title=name or "", xlabel="points replaced")
        ax.xaxis.set_major_formatter("{x:.0%}")
    same_limits(drawn.axes, "y")
    drawn.label(y=label)
    drawn.legend(*drawn.axes[0].get_legend_handles_labels())
    return drawn.figure


def _curve(ax, rows: pd.DataFrame, ink: str, **style) -> None:
    rows = rows.sort_values("share")
    ax.plot(rows["share"], rows["mean"], color=ink, **style)
    ax.fill_between(rows["share"], rows["low"], rows["high"], color=ink, alpha=0.2, linewidth=0)
