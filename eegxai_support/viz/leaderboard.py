"""Figures of the leaderboard: scores with intervals, and mean ranks with their critical difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .panels import panels
from .parts import WIDTH, check_columns, colour, n_rows, styled

ROW = 0.17  # inches that a method takes


@styled
def plot_leaderboard(
    rankings: Mapping[str, pd.DataFrame],
    chance: Mapping[str, float] | None = None,
    *,
    label: str = "score",
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw the mean score of each method with its interval, a panel per regime.

    Parameters
    ----------
    rankings : dict of str to DataFrame
        By panel: a row per method, from top to bottom, with columns method, value, low, high.
    chance : dict of str to float, optional
        By panel: what a map that knows nothing scores, a dotted line.
    label : str
        What the score is.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels side by side. Each names its own methods, since their order differs.

    Raises
    ------
    ValueError
        No panel, or a column is missing.
    """
    if not rankings:
        raise ValueError("rankings is empty; expected a table for each panel.")
    longest = max(map(len, rankings.values()))
    size = WIDTH, (0.7 + ROW * longest) * n_rows(len(rankings), 2)
    drawn = panels(axes, len(rankings), size, title, columns=2)
    for ax, (name, table) in zip(drawn.axes, rankings.items(), strict=True):
        check_columns(f"rankings[{name!r}]", table, ("method", "value", "low", "high"))
        y = np.arange(len(table))
        ax.hlines(y, table["low"], table["high"], color=colour(0), linewidth=4, alpha=0.4)
        ax.plot(table["value"], y, "o", color=colour(0), markersize=3)
        if name in (chance or {}):
            ax.axvline(chance[name], color="0.4", linestyle=":", linewidth=1, zorder=0)
        ax.set_yticks(y, table["method"], fontsize=7)
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.grid(axis="x", color="0.92")
        ax.set_axisbelow(True)
        ax.set_title(name)
    drawn.label(x=label)
    return drawn.figure


@styled
def plot_critical_difference(
    ranking: pd.DataFrame, critical_difference: float, *, title: str | None = None, axes=None
) -> Figure:
    """Draw mean ranks on a line; a bar joins methods that are closer than the critical difference.

    Parameters
    ----------
    ranking : DataFrame
        A row per method with columns method and rank (mean over blocks, 1 the best).
    critical_difference : float
        Distance at which two mean ranks differ.
    title : str, optional
    axes : Axes, optional
        Of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure
        The best methods on the left, the worst on the right, as in Demšar (2006).

    Raises
    ------
    ValueError
        A column is missing.
    """
    check_columns("ranking", ranking, ("method", "rank"))
    ranking = ranking.sort_values("rank")
    names, ranks = ranking["method"].to_list(), ranking["rank"].to_numpy()
    groups = joined(ranks, critical_difference)
    n_left = -(-len(names) // 2)
    deepest = 0.9 + 0.35 * len(groups) + 0.75 * n_left

    drawn = panels(axes, 1, (WIDTH, 0.5 + 0.24 * deepest), title)
    (ax,) = drawn.axes
    lowest, highest = np.floor(ranks[0]), np.ceil(ranks[-1])
    ax.hlines(0, lowest, highest, color="black", linewidth=1)
    for tick in np.arange(lowest, highest + 1):
        ax.vlines(tick, -0.15, 0.15, color="black", linewidth=1)
        ax.text(tick, -0.3, f"{tick:g}", ha="center", va="bottom", fontsize=8)
    ax.hlines(-1.5, lowest, lowest + critical_difference, color=colour(1), linewidth=2, clip_on=False)
    ax.text(lowest, -1.7, f"critical difference {critical_difference:.1f}", va="bottom", fontsize=8, color=colour(1))
    for row, (first, last) in enumerate(groups):
        ax.hlines(0.45 + 0.35 * row, ranks[first] - 0.05, ranks[last] + 0.05, color="0.35", linewidth=3)
    margin = 0.04 * (highest - lowest)
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = place < n_left
        depth = 0.9 + 0.35 * len(groups) + 0.75 * (place if left else len(names) - 1 - place)
        end = lowest - margin if left else highest + margin
        ax.plot([rank, rank, end], [0, depth, depth], color=colour(0), linewidth=0.8)
        ax.text(end, depth, f" {name} ", ha="right" if left else "left", va="center", fontsize=8)
    ax.set(ylim=(deepest + 0.3, -2.6), xlim=(lowest - margin, highest + margin))
    ax.axis("off")
    return drawn.figure


def joined(ranks: np.ndarray, critical_difference: float) -> list[tuple[int, int]]:
    """Longest runs of sorted ranks that span less than the critical difference: first and last of each."""
    runs = [(first, int(np.searchsorted(ranks, rank + critical_difference)) - 1) for first, rank in enumerate(ranks)]
    ends = [-1, *(last for _, last in runs)]
    return [(first, last) for (first, last), before in zip(runs, ends, strict=False) if last > first and last > before]
