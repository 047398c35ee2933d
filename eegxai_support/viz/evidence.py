"""Figures of the evidence for and against attribution methods: randomisation tests and scores."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from .panels import panels, same_limits
from .parts import WIDTH, annotated_image, check_columns, checked, colour, n_rows, styled

FAMILIES = ("Cosine", "Relevance", "Pearson", "SSIM")
SHORT_NAMES = {"RelevanceMassAccuracy": "RMA", "RelevanceRankAccuracy": "RRA", "_": " "}


@styled
def plot_conservation(
    sums: Mapping[str, np.ndarray],
    changes: Mapping[str, np.ndarray],
    *,
    errors: Mapping[str, np.ndarray] | None = None,
    label: str = "logit",
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw what the maps of each trial add up to against what they should add up to.

    Parameters
    ----------
    sums : dict of str to ndarray, shape (trial,)
        Sum of each map, by name of the method.
    changes : dict of str to ndarray, shape (trial,)
        What it should be, such as f(x) - f(baseline), for the same names.
    errors : dict of str to ndarray, shape (trial,), optional
        Standard errors of the sums of methods that draw at random; bars reach 1.96 of them to each side.
    label : str
        Unit of the sums.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each method.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per method, three in a row, with the line on which sum and change are equal and the median share of
        the change that is missing. Three quarters of a page wide, so that a phone shows it large enough.

    Raises
    ------
    ValueError
        A method without its changes, or arrays that disagree in length.
    """
    if without := [name for name in sums if name not in changes]:
        raise ValueError(f"No entry in changes for {', '.join(without)}: every sum needs what it should be.")
    points = {}
    for name, total in sums.items():
        total = checked(f"sums[{name!r}]", total, trial=None)
        points[name] = checked(f"changes[{name!r}]", changes[name], trial=len(total)), total

    drawn = panels(axes, len(points), (0.75 * WIDTH, 0.4 + 1.6 * n_rows(len(points), 3)), title, columns=3)
    for ax, (name, (change, total)) in zip(drawn.axes, points.items(), strict=True):
        ax.axline((0, 0), slope=1, color="0.6", linewidth=1, zorder=0)
        half = 1.96 * np.asarray((errors or {}).get(name, 0.0))
        if half.any():
            ax.errorbar(change, total, half, color="0.4", linestyle="", linewidth=1)
        ax.plot(change, total, "o", color=colour(0), markersize=4, alpha=0.6, markeredgewidth=0)
        ends = np.min([change, total - half]), np.max([change, total + half])
        margin = 0.1 * (ends[1] - ends[0]) or 1.0
        limits = ends[0] - margin, ends[1] + margin
        ax.set(xlim=limits, ylim=limits, aspect="equal", box_aspect=1)
        ax.locator_params(nbins=3)
        ax.set_title(f"{name}\n{_missing(change, total)}", fontsize=8)
    drawn.label(x=f"change of the output ({label})", y=f"sum of the map ({label})")
    return drawn.figure


@styled
def plot_randomisation(label: pd.DataFrame, weights: pd.DataFrame, *, title: str | None = None, axes=None) -> Figure:
    """Draw how much of a map is left after labels or weights are randomised.

    A dot is a trial; where a trial has several draws their mean. Intervals are 95 % by Student's t over these means:
    other trials with the same draws of weights. Other draws may move all trials at once, which the intervals of
    `mean_and_interval` hold too.

    Parameters
    ----------
    label : DataFrame
        Label randomisation. Columns method, trial and pearson: correlation of the map for a wrong class with the map
        for the explained class.
    weights : DataFrame
        Cascading weight randomisation. Columns method, trial, pearson, level (0, 1, … in the order of the resets) and
        layer (name of the layer that this level resets).
    title : str, optional
    axes : array of Axes, optional
        Two of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure
        Left, label randomisation and the last level of the weight randomisation; right, all levels. The dotted line
        at 0.5 is the limit below which Sujatha Ravindran & Contreras-Vidal (2023) call a map specific.
    """
    check_columns("label", label, ("method", "trial", "pearson"))
    check_columns("weights", weights, ("method", "trial", "pearson", "level", "layer"))
    methods = pd.unique(weights["method"])
    colours = {method: colour(index) for index, method in enumerate(methods)}
    layers = weights.drop_duplicates("level").set_index("level")["layer"].sort_index()

    drawn = panels(axes, 2, (WIDTH, 3.8), title, sharey=True)
    left, right = drawn.axes
    _strips(left, label, methods, colours, shift=-0.18, marker="o", name="labels randomised")
    full = weights[weights["level"] == layers.index[-1]]
    _strips(left, full, methods, colours, shift=0.18, marker="s", name="all weights randomised")
    _cascade(right, weights, methods, colours)
    left.set_xticks(range(len(methods)), methods, rotation=45, ha="right", rotation_mode="anchor")
    right.set_xticks(layers.index, layers, rotation=45, ha="right", rotation_mode="anchor")
    left.set_ylabel("Pearson r with original map")
    right.set_xlabel("layers reset, from the output on")
    for ax in (left, right):
        ax.axhline(0.5, color="0.2", linestyle=":", linewidth=1, zorder=0)
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    handles = [handle for ax in (left, right) for handle in ax.get_legend_handles_labels()[0]]
    same_limits(drawn.axes, "y")
    drawn.legend(handles)
    return drawn.figure


@styled
def plot_scores(
    scores: pd.DataFrame, *, low=None, high=None, higher_is_better: bool = True, title: str | None = None, axes=None
) -> Figure:
    """Draw scores and ranks of methods on the twelve metrics and four SSIM, grouped by family.

    Parameters
    ----------
    scores : DataFrame, rows method, columns metric
    low, high : DataFrame like `scores`, or Series by metric, optional
        Chance interval. A score inside it is drawn grey and its rank too: it tells nothing.
    higher_is_better : bool
        Rank 1 is the highest score, or the lowest (randomisation protocol).
    title : str, optional
    axes : array of Axes, optional
        Two of a figure of your own, for scores and ranks.

    Returns
    -------
    matplotlib.figure.Figure
        Rows are metrics, columns are methods; up to eight methods side by side, more below each other.
    """
    scores = scores[sorted(scores.columns, key=_family)]  # sorted() keeps the order within a family
    chance = _inside(scores, low, high)
    ranks = scores.rank(ascending=not higher_is_better, method="min")
    names = [_short(name) for name in scores.columns]
    side_by_side = len(scores) <= 8

    size = WIDTH, (1.4 + 0.22 * len(names)) * (1 if side_by_side else 2)
    drawn = panels(axes, 2, size, title, columns=2 if side_by_side else 1, sharex=True, sharey=True)
    left, right = drawn.axes
    signed = scores.to_numpy().min() < 0
    scale = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if signed else {"cmap": "magma_r", "vmin": 0, "vmax": 1}
    image = _metric_table(left, scores, scale, names, ".2f", chance)
    rank_scale = {"cmap": "Blues_r", "vmin": 1, "vmax": len(scores) + 1}
    _metric_table(right, ranks, rank_scale, names, ".0f", chance)
    left.set_title("score (grey: inside chance)" if chance.any() else "score")
    right.set_title(f"rank (1 = {'highest' if higher_is_better else 'lowest'})")
    left.figure.colorbar(image, ax=left, label="score", location="bottom", shrink=0.8)
    return drawn.figure


def _missing(change: np.ndarray, total: np.ndarray) -> str:
    share = np.median(np.abs(total - change) / np.maximum(np.abs(change), np.finfo(float).tiny))
    return f"misses {share:.0%}" if share >= 0.01 else "misses < 0.1%" if share < 0.001 else f"misses {share:.1%}"


def _strips(ax, table: pd.DataFrame, methods, colours, *, shift: float, marker: str, name: str) -> None:
    """Draw the trials of each method as dots, and their mean with its interval."""
    means = _mean_and_interval(table, ["method"])
    for x, method in enumerate(methods):
        r = _per_trial(table[table["method"] == method], ["method"]).to_numpy()
        spread = np.linspace(-0.1, 0.1, len(r)) if len(r) > 1 else np.zeros(len(r))
        ax.scatter(x + shift + spread, r, s=5, color=colours[method], alpha=0.35, linewidths=0)
        mean, low, high = means.loc[method]
        ax.vlines(x + shift, low, high, color="black", linewidth=1.2)
        ax.plot(x + shift, mean, marker, color=colours[method], markeredgecolor="black", markersize=5)
    ax.plot([], [], marker, color="0.7", markeredgecolor="black", markersize=5, linestyle="", label=name)


def _cascade(ax, table: pd.DataFrame, methods, colours) -> None:
    """Draw mean and interval of each method over the levels of the cascade."""
    means = _mean_and_interval(table, ["method", "level"])
    for method, marker in zip(methods, cycle("os^Dv*"), strict=False):  # curves that coincide stay distinguishable
        curve = means.loc[method].sort_index()
        style = {"marker": marker, "markersize": 5, "fillstyle": "none"}
        ax.plot(curve.index, curve["mean"], color=colours[method], label=method, **style)
        ax.fill_between(curve.index, curve["low"], curve["high"], color=colours[method], alpha=0.2, linewidth=0)


def _per_trial(table: pd.DataFrame, by: list[str]) -> pd.Series:
    return table.groupby([*by, "trial"])["pearson"].mean()


def _mean_and_interval(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return mean, low and high per group: 95 % interval over trials, draws averaged within a trial."""
    summary = _per_trial(table, by).groupby(by).agg(["mean", "sem", "count"])
    half = stats.t.ppf(0.975, summary["count"] - 1) * summary["sem"]
    return pd.DataFrame({"mean": summary["mean"], "low": summary["mean"] - half, "high": summary["mean"] + half})


def _inside(scores: pd.DataFrame, low, high) -> np.ndarray:
    """Return which scores lie in the chance interval, shape (method, metric)."""
    if low is None or high is None:
        return np.zeros(scores.shape, dtype=bool)
    # A Series holds one end per metric; both are brought to the order of the scores before numbers are compared.
    ends = [end.loc[scores.index] if isinstance(end, pd.DataFrame) else end for end in (low, high)]
    lowest, highest = (end[scores.columns].to_numpy() for end in ends)
    return (scores.to_numpy() >= lowest) & (scores.to_numpy() <= highest)


def _metric_table(ax, table: pd.DataFrame, scale: dict, names, text_format: str, hidden):
    """Draw metrics in rows and methods in columns, with a gap between families of metrics."""
    image = annotated_image(ax, table.T.to_numpy(), scale, names, table.index, text_format, hidden.T)
    edges = np.flatnonzero(np.diff([_family(name) for name in table.columns])) + 0.5
    ax.hlines(edges, -0.5, len(table) - 0.5, color="white", linewidth=4)
    return image


def _family(metric: str) -> int:
    """Return the position of a metric's family, that of unknown metrics last."""
    return next((i for i, family in enumerate(FAMILIES) if metric.startswith(family)), len(FAMILIES))


def _short(metric: str) -> str:
    for long, short in SHORT_NAMES.items():
        metric = metric.replace(long, short)
    return metric
