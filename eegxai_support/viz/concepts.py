"""Figures of filters as concepts: where they lie, what they see, and on which components a decision rests."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .panels import panels, same_limits
from .parts import (
    WIDTH,
    annotated_image,
    check_columns,
    checked,
    colour,
    colour_bar,
    colour_scale,
    n_rows,
    styled,
    topomap,
)

MARKERS = "os^DvP*X"
NO_CLUSTER = "0.7"  # grey
SHARE = {"cmap": "magma_r", "vmin": 0, "vmax": 1}
SIGNED = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
LARGEST = 160  # points squared, of the filter with most relevance


@styled
def plot_filter_map(
    table: pd.DataFrame, *, by: str, shared: bool = True, title: str | None = None, axes=None
) -> Figure:
    """Draw filters in the plane of `embed_filters`.

    Colour and shape of a dot are those of its cluster, its area is the size of its relevance, and filters of no cluster
    are grey. The axes of such a plane have no scale.

    Parameters
    ----------
    table : DataFrame
        A row per filter with the columns x, y, cluster, relevance and `by`.
    by : str
        Column that says where a filter is from, such as the decoder; each of its values has a panel.
    shared : bool
        One plane for all panels, or one for each.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A column is missing.
    """
    check_columns("table", table, ("x", "y", "cluster", "relevance", by))
    groups = dict(list(table.groupby(by, sort=False)))
    columns = min(len(groups), 3)
    drawn = panels(axes, len(groups), (WIDTH, 0.4 + 2.3 * n_rows(len(groups), columns)), title, columns=columns)
    for ax, (name, rows) in zip(drawn.axes, groups.items(), strict=True):
        for cluster, part in rows.groupby("cluster"):
            area = LARGEST * part["relevance"].abs() / rows["relevance"].abs().max()
            style = {"color": NO_CLUSTER if cluster < 0 else colour(cluster), "alpha": 0.8, "linewidth": 0}
            label = "none" if cluster < 0 else f"{cluster}"
            ax.scatter(part["x"], part["y"], area + 4, marker=MARKERS[max(cluster, 0) % 8], label=label, **style)
        ax.set(title=name, xticks=[], yticks=[], xlabel="UMAP 1")
        handles = ax.legend(title="cluster", loc="best", handletextpad=0.1, borderpad=0.2).legend_handles
        for handle in handles:
            handle.set_sizes([30])
    if shared:
        same_limits(drawn.axes, "x", "y")
    drawn.axes[0].set_ylabel("UMAP 2")
    return drawn.figure


@styled
def plot_cluster_topographies(
    relevance, power, info: mne.Info, rows, bands, *, label: str = "logit", title: str | None = None, axes=None
) -> Figure:
    """Draw relevance and power of clusters on the head, band by band.

    Each row has its own scale, so that a band without relevance looks empty beside the others of its cluster.

    Parameters
    ----------
    relevance : ndarray, shape (cluster, band, channel)
    power : ndarray, shape (cluster, band, channel)
    info : mne.Info
    rows : sequence of str
        Name of each cluster.
    bands : sequence of str
    label : str
        Unit of the relevance.
    title : str, optional
    axes : array of Axes, optional
        Of a figure of your own, row by row.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows of heads for each cluster.

    Raises
    ------
    ValueError
        Arrays that disagree in shape.
    """
    sizes = {"cluster": len(rows), "band": len(bands), "channel": len(info.ch_names)}
    values = [checked(name, each, **sizes) for name, each in (("relevance", relevance), ("power", power))]
    n_heads = 2 * len(rows) * len(bands)
    drawn = panels(axes, n_heads, (WIDTH, 0.3 + 2.3 * len(rows)), title, columns=len(bands))
    lines = drawn.axes.reshape(-1, len(bands))
    for k, (line, name) in enumerate(zip(lines, np.repeat(rows, 2), strict=True)):
        row = values[k % 2][k // 2]
        scale, what = colour_scale(row), ("relevance", "power")[k % 2]
        images = [topomap(ax, each, info, scale, channels=()) for ax, each in zip(line, row, strict=True)]
        line[0].set_ylabel(f"{name}\n{what}")
        colour_bar(images[0], line, label if what == "relevance" else "power", shrink=0.8)
    for ax, band in zip(lines[0], bands, strict=True):
        ax.set_title(band)
    return drawn.figure


@styled
def plot_component_shares(absolute: pd.DataFrame, net: pd.DataFrame, *, title: str | None = None, axes=None) -> Figure:
    """Draw how the relevance of decoders is divided among kinds of components.

    Parameters
    ----------
    absolute : DataFrame
        Share of the absolute relevance: a row per decoder, a column per kind of component, such as eye blink.
    net : DataFrame
        Of the same shape: share of the relevance that speaks for the trials' own class. What cancels over trials is
        gone, and a share may be negative.
    title : str, optional
    axes : array of Axes, optional
        Two of a figure of your own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Tables that differ in their rows or columns.
    """
    if not (absolute.index.equals(net.index) and absolute.columns.equals(net.columns)):
        raise ValueError("absolute and net have different rows or columns; expected the same in both.")
    drawn = panels(axes, 2, (WIDTH, 1.9 + 0.3 * len(net)), title)
    shares = {"share of |relevance|": (absolute, SHARE), "share of net relevance": (net, SIGNED)}
    for ax, (name, (table, scale)) in zip(drawn.axes, shares.items(), strict=True):
        values = checked(name, table, decoder=None, kind=None)
        annotated_image(ax, _rounded(values), scale, table.index, table.columns, ".2f")
        ax.set_title(name)
    if drawn.own:
        drawn.axes[1].set_yticklabels([])
    return drawn.figure


@styled
def plot_region_relevance(
    table: pd.DataFrame, *, by: str, label: str = "logit", title: str | None = None, axes=None
) -> Figure:
    """Draw relevance by region and band, a panel for each decoder on its own scale.

    Parameters
    ----------
    table : DataFrame
        Columns region, band, value and `by`.
    by : str
        Column that has a panel for each of its values.
    label : str
        Quantity and unit.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A column is missing.
    """
    check_columns("table", table, ("region", "band", "value", by))
    names = list(table[by].unique())
    columns = min(len(names), 2)
    drawn = panels(axes, len(names), (WIDTH, 3.2 * n_rows(len(names), columns)), title, columns=columns)
    for position, (ax, name) in enumerate(zip(drawn.axes, names, strict=True)):
        part = table[table[by] == name]
        values = part.pivot(index="region", columns="band", values="value")
        values = values.loc[part["region"].unique(), part["band"].unique()]
        image = annotated_image(ax, _rounded(values), colour_scale(values, 100), values.index, values.columns, ".2f")
        ax.set_title(name)
        colour_bar(image, ax, label, shrink=0.9)
        if drawn.own and position % columns:
            ax.set_yticklabels([])
    return drawn.figure


def _rounded(values) -> np.ndarray:
    """Return values as they are printed, without a sign where that is zero."""
    return np.round(np.asarray(values, float), 2) + 0.0
