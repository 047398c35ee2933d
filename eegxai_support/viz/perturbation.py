"""Figures of amplitude perturbation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import mne
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .panels import panels
from .parts import WIDTH, check_columns, checked, colour, styled, topomap_row


@styled
def plot_convergence(
    maps: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    info: mne.Info,
    *,
    label: str,
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw how a map that random perturbations make approaches its limit as their number grows.

    Above, topomaps on one colour scale; below, over the number of iterations, the correlation of the whole map with its
    limit (dots) and what the reliability of the map predicts for it (lines).

    Parameters
    ----------
    maps : dict of str to ndarray, shape (channel,)
        One frequency of one output, by what stands above the head, such as the number of iterations.
    table : DataFrame
        Columns ``output``, ``iterations``, ``r`` and ``predicted``.
    info : mne.Info
    label : str
        Quantity and unit of the topomaps.
    title : str, optional
    axes : array of Axes, optional
        Of a figure of your own, one for each map and the last for the correlations.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A column is missing, maps that do not fit `info`, or values that are not finite.
    """
    check_columns("table", table, ("output", "iterations", "r", "predicted"))
    values = checked("maps", list(maps.values()), map=len(maps), channel=len(info.ch_names))
    checked("table", table[["iterations", "r", "predicted"]], row=len(table), column=3)

    drawn = panels(axes, len(maps) + 1, (WIDTH, 4.1), title, make=partial(_heads_above, n_heads=len(maps)))
    *heads, ax = drawn.axes
    topomap_row(heads, values, info, label)
    for head, name in zip(heads, maps, strict=True):
        head.set_title(name)

    for index, (output, rows) in enumerate(table.groupby("output", sort=False)):
        rows = rows.sort_values("iterations")
        ax.plot(rows["iterations"], rows["predicted"], color=colour(index), linewidth=1, linestyle="--")
        ax.plot(rows["iterations"], rows["r"], "o", color=colour(index), markersize=5, label=output)
    ax.plot([], [], color="0.4", linewidth=1, linestyle="--", label="predicted")
    ax.set(xscale="log", xlabel="iterations", ylabel="correlation with\nthe limit", ylim=(min(0, table["r"].min()), 1))
    counts = np.unique(table["iterations"])
    ax.set_xticks(counts, [f"{count:g}" for count in counts])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn.figure


def _heads_above(fig: Figure, n_heads: int) -> list:
    above, below = fig.subfigures(2, 1, height_ratios=[1.45, 2.5])
    return [*above.subplots(1, n_heads, squeeze=False)[0], below.subplots()]
