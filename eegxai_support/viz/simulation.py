"""Figures of known answers: the ideal maps of simulated trials, and how well decoders do as the noise grows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..trials import Trials
from .panels import panels
from .parts import (
    UNIT_NAMES,
    WIDTH,
    check_columns,
    class_title,
    colour,
    colour_bar,
    colour_scale,
    n_rows,
    new_figure,
    styled,
    topomap,
)


@styled
def plot_ideal_maps(simulated: Mapping[str, Trials], *, title: str | None = None) -> Figure:
    """Draw the ideal map of each class in several sets of simulated trials.

    Parameters
    ----------
    simulated : dict of str to Trials
        Trials with `truth`, by the name of their regime.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        A row per regime. Left, the ideal map ``abs(truth)`` of the first trial of each class, over time at the channel
        where it is largest, all on one scale. Right, the mean over time and over the trials of each class on the head,
        with the names of the largest channel and of those that the signal never reaches.

    Raises
    ------
    ValueError
        Trials without a truth, or classes without a trial.
    """
    for regime, trials in simulated.items():
        if trials.truth is None:
            raise ValueError(f"The trials of {regime!r} have no truth: only simulated trials have a known answer.")
        missing = set(range(trials.n_classes)) - set(trials.label)
        if missing:
            name = trials.class_names[min(missing)]
            raise ValueError(f"The trials of {regime!r} have none of class {name}: every class needs one.")
    columns = 1 + max(trials.n_classes for trials in simulated.values())
    fig = new_figure(WIDTH, 1.45 * len(simulated), title)
    grid = fig.subplots(len(simulated), columns, width_ratios=[1.5] + [1] * (columns - 1), squeeze=False)
    for (courses, *heads), (regime, trials) in zip(grid, simulated.items(), strict=True):
        ideal = np.abs(trials.truth)
        courses.set_title(regime, loc="left", fontweight="bold")
        _ideal_courses(courses, ideal, trials)
        _ideal_heads(heads, ideal, trials)
    grid[-1, 0].set_xlabel("time (s)")
    return fig


def _ideal_courses(ax, ideal, trials: Trials) -> None:
    first = ideal[[np.flatnonzero(trials.label == k)[0] for k in range(trials.n_classes)]]
    step = 1.15 * first.max()
    for k, values in enumerate(first):
        course = values[values.max(axis=1).argmax()]
        ax.fill_between(trials.times, -k * step, course - k * step, color=colour(k), linewidth=0.5)
    ax.set_yticks(-step * np.arange(len(first)), trials.class_names)
    for k, label in enumerate(ax.get_yticklabels()):
        label.set_color(colour(k))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(trials.times[0], trials.times[-1]), ylim=(-(len(first) - 0.95) * step, None))


def _ideal_heads(axes, ideal, trials: Trials) -> None:
    heads = np.stack([ideal[trials.label == k].mean(axis=(0, 2)) for k in range(trials.n_classes)])
    unreached = [name for name, reached in zip(trials.info.ch_names, heads.any(axis=0), strict=True) if not reached]
    scale = colour_scale(heads, percentile=100)
    for k, (ax, values) in enumerate(zip(axes, heads, strict=False)):
        named = (trials.info.ch_names[values.argmax()], *unreached)
        image = topomap(ax, values, trials.info, scale, channels=named)
        class_title(ax, k, trials.class_names[k])
    for ax in axes[len(heads) :]:
        ax.set_axis_off()
    colour_bar(image, axes, f"mean ({UNIT_NAMES[trials.unit]})", shrink=0.9)


@styled
def plot_accuracy_over_snr(
    table: pd.DataFrame, chance: Mapping[str, float], *, title: str | None = None, axes=None
) -> Figure:
    """Draw the accuracy of decoders over the signal-to-noise ratio.

    Parameters
    ----------
    table : DataFrame
        A row per regime, decoder and ratio; columns regime, decoder, snr_db, accuracy, low and high (ends of the
        interval).
    chance : dict of str to float
        Accuracy of guessing in each regime, drawn as a dashed line.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each regime.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per regime, a line with its interval per decoder.

    Raises
    ------
    ValueError
        A column is missing, or the chance of a regime.
    """
    check_columns("table", table, ("regime", "decoder", "snr_db", "accuracy", "low", "high"))
    regimes, decoders = pd.unique(table["regime"]), pd.unique(table["decoder"])
    missing = [regime for regime in regimes if regime not in chance]
    if missing:
        raise ValueError(f"chance has no entry for {', '.join(missing)}: every regime needs one.")
    drawn = panels(axes, len(regimes), (WIDTH, 0.6 + 1.9 * n_rows(len(regimes))), title)
    for ax, regime in zip(drawn.axes, regimes, strict=True):
        ax.axhline(chance[regime], color="0.4", linestyle="--", linewidth=1, label="chance", zorder=0)
        for k, decoder in enumerate(decoders):
            rows = table[(table["regime"] == regime) & (table["decoder"] == decoder)].sort_values("snr_db")
            style = {"color": colour(k), "marker": "os^Dv*"[k % 6], "markersize": 3}
            ax.plot(rows["snr_db"], rows["accuracy"], label=decoder, **style)
            ax.fill_between(rows["snr_db"], rows["low"], rows["high"], color=colour(k), alpha=0.2, linewidth=0)
        ax.set(title=regime, xlabel="SNR (dB)", ylim=(0, 1.02))
        if drawn.own:
            ax.label_outer()
    drawn.axes[0].set_ylabel("accuracy")
    handles = {name: line for ax in drawn.axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    drawn.legend([*handles.values()], [*handles])
    return drawn.figure
