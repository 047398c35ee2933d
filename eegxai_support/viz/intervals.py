"""Figures of means with their intervals, several series side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .panels import panels, same_limits
from .parts import WIDTH, check_columns, colour, styled

MARKERS = "osD^vP*"


@styled
def plot_intervals(
    table: pd.DataFrame,
    row: str,
    series: str,
    *,
    panel: str | None = None,
    reference: float | Mapping[str, float] | None = None,
    label: str,
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw means with their intervals, such as an accuracy for each intervention or a share for each method.

    Parameters
    ----------
    table : DataFrame
        As `mean_and_interval` returns it: columns mean, low, high and those named below. Rows, series
        and panels are drawn in order of appearance.
    row : str
        Column that says in which line a mean is drawn.
    series : str
        Column that says with which colour and marker.
    panel : str, optional
        Column that says in which of several panels, side by side.
    reference : float or dict of str to float, optional
        A dotted line at what chance or ignorance gives, the same for all panels or by panel.
    label : str
        Quantity and unit of the means.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A table without one of the columns, or without a row.
    """
    check_columns("table", table, (row, series, *([panel] if panel else []), "mean", "low", "high"))
    if table.empty:
        raise ValueError("table has no row; expected the means to draw.")
    names, kinds = pd.unique(table[row]), pd.unique(table[series])
    parts = dict(list(table.groupby(panel, sort=False))) if panel else {"": table}
    if not isinstance(reference, Mapping):
        reference = dict.fromkeys(parts, reference)
    size = WIDTH, 1.1 + (0.14 + 0.035 * len(kinds)) * len(names)
    drawn = panels(axes, len(parts), size, title, columns=len(parts), sharex=True, sharey=True)
    offset = dict(zip(kinds, 0.8 * (np.arange(len(kinds)) - (len(kinds) - 1) / 2) / len(kinds), strict=True))
    for ax, (name, part) in zip(drawn.axes, parts.items(), strict=True):
        for index, kind in enumerate(kinds):
            shown = part[part[series] == kind]
            y = pd.Index(names).get_indexer(shown[row]) + offset[kind]
            ax.hlines(y, shown["low"], shown["high"], color=colour(index), linewidth=1.2)
            marker = MARKERS[index % len(MARKERS)]
            ax.plot(shown["mean"], y, marker, color=colour(index), markersize=4, label=kind)
        if reference.get(name) is not None:
            ax.axvline(reference[name], color="0.4", linestyle=":", linewidth=1, zorder=0)
        ax.set(title=name, xlabel=label, ylim=(len(names) - 0.4, -0.6))
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
    same_limits(drawn.axes, "x")
    if len(kinds) > 1:
        drawn.legend(*drawn.axes[0].get_legend_handles_labels(), ncols=min(len(kinds), 4))
    return drawn.figure
