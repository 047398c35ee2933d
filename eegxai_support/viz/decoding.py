"""Figures of trials, of training and of accuracies."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.signal import welch

from ..trials import Trials
from .panels import panels, same_limits
from .parts import (
    OKABE_ITO,
    UNIT_NAMES,
    WIDTH,
    band_mask,
    channel_indices,
    check_columns,
    class_title,
    colour,
    colour_bar,
    colour_scale,
    landmarks,
    n_rows,
    styled,
    topomap,
    topomap_row,
    wrapped_axes,
)


@styled
def plot_trials(
    trials: Trials,
    *,
    channels: tuple[str, ...] | None = None,
    band: tuple[float, float] = (7, 13),
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw what differs between the classes: spectra at some channels and band power on the head.

    Parameters
    ----------
    trials : Trials
    channels : tuple of str, optional
        One spectrum panel each: mean over trials of the log power (Welch, segments of 2 s) and its 95 % interval. By
        default those at C3, Cz and C4 or next to them; where there are none, three spread from left to right.
    band : (float, float)
        Lowest and highest frequency in Hz of the topomaps, which show each class minus the mean over classes.
    title : str, optional
    axes : array of Axes, optional
        Of a figure of your own, first one for each spectrum, then one for each class that has a trial.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Unknown channel, or a band without a frequency bin.
    """
    picks = channel_indices(trials.info, landmarks(trials.info) if channels is None else channels)
    freqs, power = welch(trials.signal, trials.sfreq, nperseg=min(trials.signal.shape[2], round(2 * trials.sfreq)))
    classes = np.unique(trials.label)
    in_band = band_mask(freqs, band)
    band_power = _decibel(power[:, :, in_band].mean(axis=2))
    per_class = np.stack([band_power[trials.label == k].mean(axis=0) for k in classes])

    # Only the pass-band: what a filter removed would stretch the axis by tens of decibels.
    low, high = max(trials.info["highpass"], freqs[1]), min(trials.info["lowpass"], freqs[-1])
    shown = (freqs >= low) & (freqs <= high)
    heights = [2.2, 1.9 * n_rows(len(classes))]
    make = partial(_spectra_above_heads, n_spectra=len(picks), n_heads=len(classes), heights=heights)
    drawn = panels(axes, len(picks) + len(classes), (WIDTH, sum(heights)), title, make=make)
    spectra, heads = np.split(drawn.axes, [len(picks)])
    for ax, pick in zip(spectra, picks, strict=True):
        for k in classes:
            decibel = _decibel(power[trials.label == k, pick][:, shown])
            _spectrum(ax, freqs[shown], decibel, colour(k), trials.class_names[k])
        ax.set(title=trials.info.ch_names[pick], xlabel="frequency (Hz)", xlim=(low, high))
        ax.axvspan(*band, color="0.93", zorder=0)
    same_limits(spectra, "y")
    spectra[0].set_ylabel(f"power (dB re 1 {UNIT_NAMES[trials.unit]}²/Hz)")
    replace(drawn, axes=spectra).legend(*spectra[0].get_legend_handles_labels())
    label = f"{band[0]:g}-{band[1]:g} Hz power\n(dB re mean of classes)"
    topomap_row(heads, per_class - per_class.mean(axis=0), trials.info, label)
    for ax, k in zip(heads, classes, strict=True):
        class_title(ax, k, trials.class_names[k])
    return drawn.figure


@styled
def plot_known_answer(trials: Trials, trial: int = 0, *, title: str | None = None, axes=None) -> Figure:
    """Draw one simulated trial beside the signal that is known to be in it.

    Parameters
    ----------
    trials : Trials
        With `truth`.
    trial : int
    title : str, optional
    axes : array of Axes, optional
        Three of a figure of your own: trial, truth, and truth on the head.

    Returns
    -------
    matplotlib.figure.Figure
        The trial and its truth at the six channels where the truth is strongest, on one scale, and the root mean
        square of the truth on the head.

    Raises
    ------
    ValueError
        Trials without a truth, or no such trial.
    """
    if trials.truth is None:
        raise ValueError("These trials have no truth: only simulated trials have a known answer, see simulate().")
    if not -len(trials) <= trial < len(trials):
        raise ValueError(f"trial is {trial}; expected 0 … {len(trials) - 1}.")
    signal, truth = trials.signal[trial], trials.truth[trial]
    strength = np.sqrt(np.mean(truth**2, axis=1))
    strongest = np.sort(np.argsort(strength)[-6:])
    unit, step = UNIT_NAMES[trials.unit], 1.2 * np.percentile(np.abs(signal[strongest]), 98)

    if axes is None and title is None:
        title = f"{trials.class_names[trials.label[trial]]}, trial {trial}"
    drawn = panels(axes, 3, (WIDTH, 2.7), title, width_ratios=[1.1, 1.1, 1])
    left, right, head = drawn.axes
    _traces(left, trials.times, signal[strongest], step, "0.3")
    _traces(right, trials.times, truth[strongest], step, OKABE_ITO[1])
    left.set_title("trial")
    for ax in (left, right):
        ax.set_yticks(-step * np.arange(len(strongest)), [trials.info.ch_names[c] for c in strongest])
    same_limits([left, right], "y")
    if drawn.own:
        right.tick_params(labelleft=False)
    right.set_title("truth")
    left.set_ylabel(f"{step:.2g} {unit} from line to line")
    image = topomap(head, strength, trials.info, colour_scale(strength))
    head.set_title("truth on the head")
    head.set_anchor("S")
    colour_bar(image, head, f"root mean square ({unit})", orientation="horizontal", shrink=0.9)
    return drawn.figure


@styled
def plot_history(history: pd.DataFrame, *, title: str | None = None, axes=None) -> Figure:
    """Draw loss and accuracy of a training, epoch by epoch.

    Parameters
    ----------
    history : DataFrame
        Columns epoch, train_loss, train_accuracy and, where there was a validation group, valid_loss and
        valid_accuracy.
    title : str, optional
    axes : array of Axes, optional
        Two of a figure of your own, for loss and accuracy.

    Returns
    -------
    matplotlib.figure.Figure
    """
    check_columns("history", history, ("epoch", "train_loss", "train_accuracy"))
    drawn = panels(axes, 2, (WIDTH, 2.4), title)
    for ax, quantity, label in zip(drawn.axes, ("loss", "accuracy"), ("loss (nats)", "accuracy"), strict=True):
        for index, group in enumerate(("train", "valid")):
            if f"{group}_{quantity}" in history:
                ax.plot(history["epoch"], history[f"{group}_{quantity}"], color=colour(index), label=group)
        ax.set(xlabel="epoch", ylabel=label)
        ax.set_ylim(0, 1.02 if quantity == "accuracy" else None)
    ax.legend(loc="lower right")
    return drawn.figure


@styled
def plot_accuracies(table: pd.DataFrame, chance: float, *, title: str | None = None, axes=None) -> Figure:
    """Draw the accuracy of each decoder on each subject, with its interval.

    Parameters
    ----------
    table : DataFrame
        A row per subject and decoder; columns subject, decoder, accuracy, low, high (ends of the interval) and
        significant (bool; drawn as a filled dot).
    chance : float
        Accuracy of guessing, drawn as a line.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each decoder.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per decoder, with the mean over subjects above it.
    """
    check_columns("table", table, ("subject", "decoder", "accuracy", "low", "high", "significant"))
    subjects, decoders = pd.unique(table["subject"]), pd.unique(table["decoder"])
    size, n = (WIDTH, 1.3 + 0.19 * len(subjects)), len(decoders)
    drawn = panels(axes, n, size, title, columns=n, sharex=True, sharey=True)
    for index, (ax, decoder) in enumerate(zip(drawn.axes, decoders, strict=True)):
        rows = table[table["decoder"] == decoder].set_index("subject").reindex(subjects)
        _dots(ax, rows, colour(index))
        ax.axvline(chance, color="0.4", linestyle="--", linewidth=1, zorder=0)
        ax.set_title(f"{decoder}\nmean {rows['accuracy'].mean():.2f}")
        ax.set_yticks(range(len(subjects)), subjects)
        ax.set(xlabel="accuracy", xlim=(0, 1.02), ylim=(len(subjects) - 0.4, -0.6))
    first = drawn.axes[0]
    first.set_ylabel("subject")
    marks = [
        first.plot([], [], "o", color="0.2", markersize=5, label="significant")[0],
        first.plot([], [], "o", color="0.2", markersize=5, markerfacecolor="white", label="not significant")[0],
        first.plot([], [], "--", color="0.4", linewidth=1, label=f"chance {chance:.2g}")[0],
    ]
    drawn.legend(marks, ncols=3)
    return drawn.figure


def _spectra_above_heads(fig: Figure, n_spectra: int, n_heads: int, heights: list[float]) -> list:
    top, bottom = fig.subfigures(2, 1, height_ratios=heights)
    return [*top.subplots(1, n_spectra, sharey=True, squeeze=False)[0], *wrapped_axes(bottom, n_heads)]


def _decibel(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, np.finfo(np.float32).tiny))


def _spectrum(ax, freqs, decibel, line_colour, label) -> None:
    """Draw a mean over trials and its 95 % interval (normal approximation)."""
    mean = decibel.mean(axis=0)
    half = 1.96 * decibel.std(axis=0) / np.sqrt(len(decibel))
    ax.plot(freqs, mean, color=line_colour, label=label)
    ax.fill_between(freqs, mean - half, mean + half, color=line_colour, alpha=0.2, linewidth=0)


def _traces(ax, times, traces, step: float, line_colour: str) -> None:
    ax.plot(times, (traces - step * np.arange(len(traces))[:, None]).T, color=line_colour, linewidth=0.8)
    ax.set(xlabel="time (s)", xlim=(times[0], times[-1]))


def _dots(ax, rows: pd.DataFrame, dot_colour: str) -> None:
    y = np.arange(len(rows))
    ax.hlines(y, rows["low"], rows["high"], color=dot_colour, linewidth=1)
    face = np.where(rows["significant"].eq(True), dot_colour, "white")
    ax.scatter(rows["accuracy"], y, s=22, c=face, edgecolors=dot_colour, zorder=3)
