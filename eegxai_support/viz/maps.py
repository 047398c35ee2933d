"""Figures of attributions, gradients and patterns."""

from __future__ import annotations

from collections.abc import Mapping

import mne
import numpy as np
from matplotlib.figure import Figure

from ..montages import scalp_places
from .panels import panels, same_limits
from .parts import (
    WIDTH,
    annotated_image,
    band_mask,
    channel_indices,
    check_count,
    checked,
    class_title,
    colour,
    colour_bar,
    colour_scale,
    landmarks,
    n_rows,
    new_figure,
    styled,
    topomap,
    topomap_row,
)

BANDS = {"mu 7-13 Hz": (7, 13), "beta 14-30 Hz": (14, 30)}
REGIONS = ("frontal", "central", "parietal", "occipital", "unplaced")
FEW = 8  # rows that are named one by one
REGION_EDGES = (0.37, -0.40, -0.64)  # head radii to the front; between F and FC, CP and P, P and PO of the 10-10 system


@styled
def plot_trial_maps(
    signal,
    maps: Mapping[str, np.ndarray],
    receipts: Mapping[str, str],
    info: mne.Info,
    times,
    *,
    signal_label: str = "µV",
    labels: str | Mapping[str, str] = "logit",
    title: str | None = None,
) -> Figure:
    """Draw one trial beside what several methods attribute to it, each with its receipt.

    Rows of the images are channels, region by region from front to back and from left to right within a region; up to
    eight channels are named instead of their regions, and those without a name or position come last. Under
    each attribution stands its sum over time, so that the electrodes of the topomap add up to the sum of the map; under
    the trial its root mean square.

    Parameters
    ----------
    signal : ndarray, shape (channel, time)
    maps : dict of str to ndarray, shape (channel, time)
        Attributions, by name of the method.
    receipts : dict of str to str
        Printed under each map: what shows that it can be trusted, such as its sum, f(x) - f(x0) and delta.
    info : mne.Info
    times : ndarray, shape (time,)
        In seconds.
    signal_label : str
        Unit of the signal.
    labels : str or dict of str to str
        Unit of the attributions, or one per method ("logit", or "logit/µV" for a gradient).
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A map without a receipt, or arrays that disagree in shape.
    """
    units = dict.fromkeys(maps, labels) if isinstance(labels, str) else labels
    for entries, argument in ((receipts, "receipts"), (units, "labels")):
        without = [name for name in maps if name not in entries]
        if without:
            raise ValueError(f"No entry in {argument} for {', '.join(without)}: every map needs one.")
    sizes = {"channel": len(info.ch_names), "time": len(times)}
    signal = checked("signal", signal, **sizes)
    maps = {name: checked(f"maps[{name!r}]", values, **sizes) for name, values in maps.items()}

    columns = min(1 + len(maps), 4)
    rows = n_rows(1 + len(maps), columns)
    fig = new_figure(WIDTH, 5.4 * rows, title)
    axes = fig.subplots(3 * rows, columns, height_ratios=[2.2, 1.2, 0.6] * rows, squeeze=False)
    panels = axes.reshape(rows, 3, columns).transpose(0, 2, 1).reshape(-1, 3)  # (panel, image or head or receipt)
    order, region = front_to_back(info)
    for index, (image, _, _) in enumerate(panels[: 1 + len(maps)]):
        image.set_title(["trial", *maps][index])
        labels = [info.ch_names[row] for row in order] if index % columns == 0 else None
        _region_ticks(image, region[order], labels)

    _channel_image(panels[0, 0], signal[order], times, signal_label)
    _channel_summary(panels[0, 1], np.sqrt(np.mean(signal**2, axis=1)), info, f"root mean\nsquare ({signal_label})")
    panels[0, 2].set_axis_off()
    for (image, head, foot), (name, values) in zip(panels[1:], maps.items(), strict=False):
        _channel_image(image, values[order], times, f"{units[name]}\nper sample")
        _channel_summary(head, values.sum(axis=1), info, f"sum over\ntime ({units[name]})")
        _receipt(foot, receipts[name])
    for ax in panels[1 + len(maps) :].ravel():
        ax.remove()
    return fig


@styled
def plot_agreement(matrix, names, *, label: str = "Pearson correlation", title: str | None = None, axes=None) -> Figure:
    """Draw how much the maps of several methods agree.

    Parameters
    ----------
    matrix : ndarray, shape (method, method)
        Correlations between -1 and 1.
    names : sequence of str
    label : str
        Quantity, for the colour bar.
    title : str, optional
    axes : Axes, optional
        Of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = len(names)
    matrix = checked("matrix", matrix, method=n, other=n)
    side = 1.6 + 0.5 * n
    drawn = panels(axes, 1, (side + 0.6, side), title)
    (ax,) = drawn.axes
    scale = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
    image = annotated_image(ax, matrix, scale, names, names, ".2f")
    ax.figure.colorbar(image, ax=ax, label=label)
    return drawn.figure


@styled
def plot_channel_topomaps(
    values, info: mne.Info, titles, *, label: str, shared: bool = True, title: str | None = None, axes=None
) -> Figure:
    """Draw one value per channel on the head, once or several times.

    Parameters
    ----------
    values : ndarray, shape (map, channel)
    info : mne.Info
    titles : sequence of str
        One per map.
    label : str
        Quantity and unit, for the colour bars.
    shared : bool
        One colour scale for all maps, or one per map.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each map.

    Returns
    -------
    matplotlib.figure.Figure
        Rows of up to four heads.
    """
    values = checked("values", values, map=None, channel=len(info.ch_names))
    check_count("titles", titles, len(values), "map")
    columns = min(len(values), 4)
    size = WIDTH * columns / 4 + (columns < 4), (1.8 if shared else 2.3) * n_rows(len(values))
    drawn = panels(axes, len(values), size, title)
    if shared:
        topomap_row(drawn.axes, values, info, label)
    for ax, row, name in zip(drawn.axes, values, titles, strict=True):
        if not shared:
            image = topomap(ax, row, info, colour_scale(row))
            colour_bar(image, ax, label, orientation="horizontal", shrink=0.9)
        ax.set_title(name)
    return drawn.figure


@styled
def plot_band_topomaps(
    values,
    freqs,
    info: mne.Info,
    class_names: tuple[str, ...],
    *,
    label: str,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw a quantity per channel and frequency as topomaps: a row per band, a column per class.

    Each band has its own scale and colour bar; within a band the classes share them.

    Parameters
    ----------
    values : ndarray, shape (class, channel, freq)
    freqs : ndarray, shape (freq,)
        In Hz.
    info : mne.Info
    class_names : tuple of str
    label : str
        Quantity and unit, for the colour bars.
    bands : dict of str to (float, float)
        Lowest and highest frequency in Hz of each band, both included; the values are averaged over it.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, row by row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Arrays that disagree in shape, or a band without a frequency.
    """
    freqs = np.asarray(freqs)
    values = checked("values", values, **{"class": len(class_names), "channel": len(info.ch_names), "freq": len(freqs)})
    size, columns = (WIDTH, 0.4 + 1.5 * len(bands)), len(class_names)
    drawn = panels(axes, len(bands) * columns, size, title, columns=columns)
    rows = drawn.axes.reshape(len(bands), columns)
    for row, (name, band) in zip(rows, bands.items(), strict=True):
        topomap_row(row, values[:, :, band_mask(freqs, band)].mean(axis=2), info, label)
        row[0].set_ylabel(name)
    for index, (ax, name) in enumerate(zip(rows[0], class_names, strict=True)):
        class_title(ax, index, name)
    return drawn.figure


@styled
def plot_spectra_of_patterns(
    values,
    freqs,
    info: mne.Info,
    class_names: tuple[str, ...],
    *,
    label: str,
    channels: tuple[str, ...] | None = None,
    title: str | None = None,
    axes=None,
) -> Figure:
    """Draw a quantity per channel and frequency as spectra: a panel per channel, a line per class.

    Parameters
    ----------
    values : ndarray, shape (class, channel, freq)
    freqs : ndarray, shape (freq,)
        In Hz.
    info : mne.Info
    class_names : tuple of str
    label : str
        Quantity and unit, for the axis.
    channels : tuple of str, optional
        By default those at C3, Cz and C4 or next to them; where there are none, three spread from left to right.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each channel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = checked("values", values, **{"class": len(class_names), "channel": len(info.ch_names), "freq": len(freqs)})
    picks = channel_indices(info, landmarks(info) if channels is None else channels)
    drawn = panels(axes, len(picks), (WIDTH, 2.5), title, columns=len(picks), sharey=True)
    for ax, pick in zip(drawn.axes, picks, strict=True):
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        for index, name in enumerate(class_names):
            ax.plot(freqs, values[index, pick], color=colour(index), label=name)
        ax.set(title=info.ch_names[pick], xlabel="frequency (Hz)")
    same_limits(drawn.axes, "y")
    drawn.axes[0].set_ylabel(label)
    drawn.legend(*drawn.axes[0].get_legend_handles_labels())
    return drawn.figure


def front_to_back(info: mne.Info) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the channels in an image and the region of each channel."""
    x, y = scalp_places(info).T
    region = np.where(np.isnan(y), len(REGIONS) - 1, np.digitize(y, REGION_EDGES))
    return np.lexsort((x, region)), region


def _channel_image(ax, values, times, label: str) -> None:
    extent = (times[0], times[-1], len(values), 0)
    image = ax.imshow(values, aspect="auto", interpolation="nearest", extent=extent, **colour_scale(values))
    ax.set_xlabel("time (s)")
    colour_bar(image, ax, label, orientation="horizontal")


def _channel_summary(ax, values, info: mne.Info, label: str) -> None:
    image = topomap(ax, values, info, colour_scale(values))
    colour_bar(image, ax, label, orientation="horizontal")


def _receipt(ax, text: str) -> None:
    ax.set_axis_off()
    style = {"family": "monospace", "fontsize": 8, "multialignment": "left", "backgroundcolor": "0.94"}
    ax.text(0.5, 0.5, text, ha="center", va="center", **style)


def _region_ticks(ax, region: np.ndarray, names: list[str] | None) -> None:
    """Separate the regions of sorted channels by lines, and name them or, where they are few, the channels."""
    present, first, size = np.unique(region, return_index=True, return_counts=True)
    for row in first[1:]:
        ax.axhline(row, color="black", linewidth=0.6)
    places, labels = first + size / 2, [REGIONS[r] for r in present]
    if len(region) <= FEW:
        places, labels = np.arange(len(region)) + 0.5, names
    ax.set_yticks(places, labels if names else [])
    ax.tick_params(axis="y", length=0)
