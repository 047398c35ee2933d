"""Figures of what is inside a network: kernels, spatial filters beside their patterns, and what its units do."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .panels import panels
from .parts import (
    WIDTH,
    band_mask,
    check_columns,
    check_count,
    checked,
    colour,
    new_figure,
    styled,
    topomap,
)

N_FFT = 512
RELATIVE = {"cmap": "RdBu_r", "vmin": -1.0, "vmax": 1.0}


@styled
def plot_filters(
    kernels,
    filters,
    patterns,
    info: mne.Info,
    *,
    names=None,
    band: tuple[float, float] = (0, 40),
    title: str | None = None,
) -> Figure:
    """Draw each unit of a network in a row: kernel, frequency response, spatial filter and its pattern.

    Every curve and every head is divided by its largest magnitude, since a network can double a kernel and halve what
    reads it. The frequency of the largest response is marked and named.

    Parameters
    ----------
    kernels : ndarray, shape (unit, tap)
        Such as `Filters.unit_kernels`.
    filters, patterns : ndarray, shape (unit, channel)
        Such as `Filters.unit_filters` and what `filter_patterns` returns.
    info : mne.Info
        With the sampling rate of the kernels.
    names : sequence of str, optional
        Of the units; by default they are numbered from 0.
    band : (float, float)
        Lowest and highest frequency drawn, in Hz.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Arrays that disagree in shape, NaN or infinity, nothing but zeros in a row, or no frequency inside the band.
    """
    kernels = _relative("kernels", kernels, unit=None, tap=None)
    sizes = {"unit": len(kernels), "channel": len(info.ch_names)}
    heads = {"filter": _relative("filters", filters, **sizes), "pattern": _relative("patterns", patterns, **sizes)}
    names = [f"unit {unit}" for unit in range(len(kernels))] if names is None else names
    check_count("names", names, len(kernels), "unit")
    n_taps = kernels.shape[1]
    times = 1000 * (np.arange(n_taps) - (n_taps - 1) / 2) / info["sfreq"]
    freqs = np.fft.rfftfreq(max(N_FFT, n_taps), 1 / info["sfreq"])
    shown = band_mask(freqs, band)
    gain = np.abs(np.fft.rfft(kernels, max(N_FFT, n_taps)))[:, shown]

    fig = new_figure(WIDTH, 1.0 + 0.9 * len(kernels), title)
    axes = fig.subplots(len(kernels), 4, width_ratios=[1.4, 1.4, 1, 1], squeeze=False, sharex="col")
    for unit, (left, right, *_) in enumerate(axes):
        left.plot(times, kernels[unit], color=colour(0))
        left.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        left.set(ylabel=names[unit], yticks=[], ylim=(-1.1, 1.1))
        _response(right, freqs[shown], gain[unit])
    for column, (name, values) in enumerate(heads.items(), start=2):
        for unit, ax in enumerate(axes[:, column]):
            image = topomap(ax, values[unit], info, RELATIVE, channels=())
        axes[0, column].set_title(name)
    axes[0, 0].set_title("kernel")
    axes[0, 1].set_title("frequency response")
    axes[-1, 0].set_xlabel("time (ms)")
    axes[-1, 1].set_xlabel("frequency (Hz)")
    bar = fig.colorbar(image, ax=axes[:, 2:], location="bottom", shrink=0.7, aspect=25, label="share of the largest")
    bar.set_ticks([-1, 0, 1])
    return fig


@styled
def plot_unit_averages(
    activations,
    label,
    times,
    class_names,
    *,
    names=None,
    unit: str = "activation",
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw the mean over the trials of each class of what every unit puts out, with its 95 % interval.

    Parameters
    ----------
    activations : ndarray, shape (trial, unit, time)
        Such as `unit_activations` returns.
    label : ndarray of int, shape (trial,)
    times : ndarray, shape (time,)
        In seconds.
    class_names : sequence of str
    names : sequence of str, optional
        Of the units; by default they are numbered from 0.
    unit : str
        Unit of the activations, for the axis.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each unit.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Arrays that disagree in shape, NaN or infinity, or a class with fewer than two trials.
    """
    activations = checked("activations", activations, trial=len(label), unit=None, time=len(times))
    label, n_units = np.asarray(label), activations.shape[1]
    names = [f"unit {index}" for index in range(n_units)] if names is None else names
    check_count("names", names, n_units, "unit")
    drawn = panels(axes, n_units, (WIDTH, 0.6 + 1.6 * -(-n_units // 2)), title, columns=2)
    for index, class_name in enumerate(class_names):
        of_class = activations[label == index]
        if len(of_class) < 2:
            raise ValueError(f"Class {class_name!r} has {len(of_class)} trials; an interval needs two at least.")
        mean, error = of_class.mean(0), 1.96 * of_class.std(0, ddof=1) / np.sqrt(len(of_class))
        for ax, centre, half in zip(drawn.axes, mean, error, strict=True):
            ax.plot(times, centre, color=colour(index), label=class_name)
            ax.fill_between(times, centre - half, centre + half, color=colour(index), alpha=0.2, linewidth=0)
    for position, (ax, name) in enumerate(zip(drawn.axes, names, strict=True)):
        lowest, leftmost = position >= n_units - 2, position % 2 == 0
        ax.set_title(name)
        ax.set(xlabel="time (s)" if lowest or not drawn.own else "", ylabel=unit if leftmost or not drawn.own else "")
    drawn.axes[0].legend(fontsize=7)
    return drawn.figure


@styled
def plot_ablation(table: pd.DataFrame, *, names=None, title: str | None = None, axes=None) -> Figure:
    """Draw by how much the accuracy falls without each unit, with its interval.

    Parameters
    ----------
    table : DataFrame
        From `ablate_units`.
    names : sequence of str, optional
        Of the units; by default they are numbered as in the table.
    title : str, optional
    axes : Axes, optional
        Of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A table without a column that is drawn, or another number of names than units.
    """
    check_columns("table", table, ("unit", "accuracy", "drop", "drop_low", "drop_high"))
    intact, units = table[table["unit"] < 0], table[table["unit"] >= 0]
    names = units["unit"].to_list() if names is None else names
    check_count("names", names, len(units), "unit")
    drawn = panels(axes, 1, (WIDTH, 2.4), title)
    (ax,) = drawn.axes
    drop = units["drop"].to_numpy()
    error = np.abs(units[["drop_low", "drop_high"]].to_numpy().T - drop)
    ax.errorbar(range(len(units)), drop, error, fmt="o", color=colour(0), markersize=4, capsize=2)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_xticks(range(len(units)), names)
    ax.ticklabel_format(axis="y", style="plain")
    ax.set(xlabel="unit held at its mean", ylabel=f"accuracy lost, of {intact['accuracy'].iloc[0]:.2f}")
    return drawn.figure


def _response(ax, freqs: np.ndarray, gain: np.ndarray) -> None:
    """Draw a frequency response and name the frequency of its peak."""
    peak = gain.argmax()
    ax.plot(freqs, gain / gain[peak], color=colour(1))
    ax.axvline(freqs[peak], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.set(yticks=[], ylim=(0, 1.15), xlim=(freqs[0], freqs[-1]))
    side = "right" if freqs[peak] > freqs.mean() else "left"
    ax.text(freqs[peak], 1.14, f" {freqs[peak]:.0f} Hz ", ha=side, va="top", fontsize=7)


def _relative(name: str, values, **sizes: int | None) -> np.ndarray:
    """Return rows divided by their largest magnitude."""
    values = checked(name, values, **sizes)
    largest = np.abs(values).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError(f"{name} has a row of zeros. Leave that unit out.")
    return values / largest
