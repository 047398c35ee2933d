"""Figures of one trial whose traces carry the colours of a map, after Cui et al. (2023)."""

from __future__ import annotations

from collections.abc import Mapping

import mne
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .panels import panels
from .parts import (
    WIDTH,
    channel_indices,
    checked,
    colour_bar,
    colour_scale,
    n_rows,
    new_figure,
    styled,
    topomap,
)

GREY = "0.72"
# From the grey of a plain trace, darker and redder, so that print and colour-blind readers see the order too.
PEAKS = {
    "cmap": LinearSegmentedColormap.from_list("peaks", [GREY, "#E69F00", "#D55E00", "#5A0010"]),
    "vmin": -1.0,
    "vmax": 1.0,
}
SIGNED = LinearSegmentedColormap.from_list("signed", ["#053061", "#4393C3", GREY, "#D6604D", "#67001F"])


@styled
def plot_single_trial(
    signal,
    points,
    channels,
    info: mne.Info,
    times,
    numbers: Mapping[str, str],
    *,
    signal_label: str = "µV",
    title: str | None = None,
) -> Figure:
    """Draw a trial's traces in the colours of a processed map, the map of its channels, and what tests say of both.

    The single-trial figure of Cui et al. [1]_.

    Parameters
    ----------
    signal : ndarray, shape (channel, time)
    points, channels : ndarray, shapes (channel, time) and (channel,)
        The map, from `process_maps`. Colours run from -1, where nothing stands out, to 1.
    info : mne.Info
    times : ndarray, shape (time,)
        In seconds.
    numbers : dict of str to str
        Printed beside the traces, a line each: method, correlations, what deletion did.
    signal_label : str
        Unit of the signal.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        The three channels of the highest value are named on the head.

    Raises
    ------
    ValueError
        Arrays that disagree in shape.

    References
    ----------
    .. [1] Cui, J., et al. (2023). Towards best practice of interpreting deep learning models for EEG-based brain
       computer interfaces. Frontiers in Computational Neuroscience, 17, 1232925.
    """
    sizes = {"channel": len(info.ch_names), "time": len(times)}
    signal, points = checked("signal", signal, **sizes), checked("points", points, **sizes)
    channels = checked("channels", channels, channel=len(info.ch_names))

    fig = new_figure(WIDTH, 1.4 + 0.155 * max(len(signal), 24), title)
    left, right = fig.subfigures(1, 2, width_ratios=[1.55, 1])
    ax = left.subplots()
    lines = _coloured_traces(ax, times, signal, points, PEAKS, info.ch_names, signal_label)
    colour_bar(lines, ax, "map, processed", orientation="horizontal", aspect=40, pad=0.02)
    head, text = right.subplots(2, 1, height_ratios=[1.1, 1])
    named = [info.ch_names[i] for i in np.argsort(channels)[-3:]]
    image = topomap(head, channels, info, colour_scale(channels, 100), channels=named)
    colour_bar(image, head, "map averaged over time, processed", orientation="horizontal", aspect=30)
    _lines_of_text(text, numbers)
    return fig


@styled
def plot_processing(
    signal,
    stages: Mapping[str, np.ndarray],
    info: mne.Info,
    times,
    *,
    channels: tuple[str, ...],
    signal_label: str = "µV",
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw some traces of a trial in the colours of a map after each step of its processing.

    Parameters
    ----------
    signal : ndarray, shape (channel, time)
    stages : dict of str to ndarray, shape (channel, time)
        The map after each step, by name. One whose lowest value is -1, as after the threshold, has the colours of
        `plot_single_trial`; another has colours that diverge from zero.
    info : mne.Info
    times : ndarray, shape (time,)
        In seconds.
    channels : tuple of str
        Channels to draw.
    signal_label : str
        Unit of the signal.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each step.

    Returns
    -------
    matplotlib.figure.Figure
        Up to two panels in a row, each with its own colours.

    Raises
    ------
    ValueError
        Arrays that disagree in shape, or an unknown channel.
    """
    sizes = {"channel": len(info.ch_names), "time": len(times)}
    signal = checked("signal", signal, **sizes)
    stages = {name: checked(f"stages[{name!r}]", values, **sizes) for name, values in stages.items()}
    picks = channel_indices(info, channels)

    size = WIDTH, (1.5 + 0.2 * len(picks)) * n_rows(len(stages), 2)
    drawn = panels(axes, len(stages), size, title, columns=2)
    for ax, (name, values) in zip(drawn.axes, stages.items(), strict=True):
        scale = PEAKS if values.min() == PEAKS["vmin"] else colour_scale(values, 99.5) | {"cmap": SIGNED}
        lines = _coloured_traces(ax, times, signal[picks], values[picks], scale, channels, signal_label)
        colour_bar(lines, ax, name, orientation="horizontal")
    return drawn.figure


def _coloured_traces(ax, times, traces, values, scale: dict, names, unit: str) -> LineCollection:
    """Draw traces below each other, every stretch from sample to sample in the colour of the mean of its ends."""
    step = 1.2 * np.percentile(np.abs(traces), 98) or 1.0
    offset = -step * np.arange(len(traces))
    corners = np.stack(np.broadcast_arrays(times, traces + offset[:, None]), axis=-1)
    stretches = np.stack([corners[:, :-1], corners[:, 1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(stretches, cmap=scale["cmap"], linewidths=1.1, capstyle="round")
    lines.set_array((values[:, :-1] + values[:, 1:]).ravel() / 2)
    lines.set_clim(scale["vmin"], scale["vmax"])
    ax.add_collection(lines)
    ax.set_yticks(offset, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="time (s)", xlim=(times[0], times[-1]), ylim=(offset[-1] - 1.5 * step, 1.5 * step))
    ax.set_ylabel(f"{step:.2g} {unit} from line to line", fontsize=8)
    return lines


def _lines_of_text(ax, numbers: Mapping[str, str]) -> None:
    ax.set_axis_off()
    for row, (name, value) in enumerate(numbers.items()):
        height = 1 - (row + 0.5) / len(numbers)
        ax.text(0, height, name, ha="left", va="center", fontsize=8, color="0.35")
        ax.text(1, height, value, ha="right", va="center", fontsize=8)
