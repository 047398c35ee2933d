"""Figures of the frequency domain: one trial over frequency and time, and maps of decoder and recording on the head."""

from __future__ import annotations

from collections.abc import Mapping

import mne
import numpy as np
from matplotlib.figure import Figure

from .panels import panels, same_limits
from .parts import (
    WIDTH,
    band_mask,
    check_count,
    checked,
    colour_bar,
    colour_scale,
    styled,
    topomap_row,
)


@styled
def plot_time_frequency(
    maps: Mapping[str, np.ndarray],
    freqs,
    times: Mapping[str, np.ndarray],
    channels: tuple[str, ...],
    *,
    labels: Mapping[str, str],
    band: tuple[float, float] = (5, 40),
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw quantities over frequency and time: a row per quantity, a column per channel, on common axes.

    Each quantity has its own scale and colour bar. A dashed line marks the cue at 0 s; grey is where there is no value.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (channel, freq, time)
        By name of the quantity. NaN where there is no value.
    freqs : ndarray, shape (freq,)
        In Hz, equally spaced.
    times : dict of str to ndarray, shape (time,)
        In seconds after the cue, equally spaced, for each quantity.
    channels : tuple of str
    labels : dict of str to str
        Unit of each quantity, for the colour bars.
    band : (float, float)
        Lowest and highest frequency drawn, in Hz.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, row by row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Arrays that disagree in shape, infinity, nothing but NaN, or no frequency inside the band.
    """
    freqs = np.asarray(freqs)
    shown = band_mask(freqs, band)
    size, columns = (WIDTH, 0.6 + 1.9 * len(maps)), len(channels)
    drawn = panels(axes, len(maps) * columns, size, title, columns=columns, sharex=True, sharey=True)
    rows = drawn.axes.reshape(len(maps), columns)
    for row, (name, values) in zip(rows, maps.items(), strict=True):
        sizes = {"channel": len(channels), "freq": len(freqs), "time": len(times[name])}
        missing = np.isnan(values)
        checked(f"maps[{name!r}]", np.where(missing, 0, values), **sizes)
        values = np.ma.array(values, mask=missing)[:, shown]
        if not values.count():
            raise ValueError(f"maps[{name!r}] holds nothing but NaN inside {band[0]:g}-{band[1]:g} Hz.")
        scale = colour_scale(values.compressed())
        for ax, channel, of_channel in zip(row, channels, values, strict=True):
            image = ax.pcolormesh(times[name], freqs[shown], of_channel, shading="nearest", rasterized=True, **scale)
            ax.set_facecolor("0.88")
            ax.axvline(0, color="black", linewidth=0.9, linestyle="--")
            ax.set_title(f"{channel}: {name}")
        row[0].set_ylabel("frequency (Hz)")
        colour_bar(image, row, labels[name])
    for ax in rows[-1]:
        ax.set_xlabel("time after the cue (s)")
    same_limits(drawn.axes, "x", "y")
    return drawn.figure


@styled
def plot_map_comparison(
    maps: Mapping[str, np.ndarray],
    info: mne.Info,
    columns,
    *,
    labels: Mapping[str, str],
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw several quantities on the head, to compare: a row per quantity, a column per class or band.

    Each row has its own scale and colour bar, since quantities differ in unit.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (column, channel)
        By name of the quantity.
    info : mne.Info
    columns : sequence of str
        Names of the columns.
    labels : dict of str to str
        Unit of each quantity, for the colour bars.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, row by row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Arrays that disagree in shape, or NaN or infinity.
    """
    check_count("columns", columns, len(next(iter(maps.values()))), "column")
    size = WIDTH, 0.3 + (0.2 + 5.4 / max(4, len(columns))) * len(maps)  # heads as wide as high
    drawn = panels(axes, len(maps) * len(columns), size, title, columns=len(columns))
    rows = drawn.axes.reshape(len(maps), len(columns))
    for row, (name, values) in zip(rows, maps.items(), strict=True):
        values = checked(f"maps[{name!r}]", values, column=len(columns), channel=len(info.ch_names))
        topomap_row(row, values, info, labels[name])
        row[0].set_ylabel(name)
    for ax, name in zip(rows[0], columns, strict=True):
        ax.set_title(name)
    return drawn.figure
