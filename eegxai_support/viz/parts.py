"""What the figures share: style, colours, checks, topomaps, colour bars and annotated tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from textwrap import fill

import matplotlib.pyplot as plt
import mne
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.spatial import ConvexHull

from ..montages import name_places, scalp_places, scalp_positions

WIDTH = 6.4  # inches: the text column of a book page, so that 8 pt stay 8 pt
LANDMARKS = ("C3", "Cz", "C4")
NEXT_TO = 0.25  # head radii: neighbours of the 10-10 system are 0.2 to 0.25 apart
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
UNIT_NAMES = {"uV": "µV", "standardised": "SD"}
STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-2, 3),
    "axes.formatter.use_mathtext": True,
    "lines.linewidth": 1.3,
}

RESOLUTION = 96  # pixels across a head
MOST_NAMES = 16  # channels whose names fit beside bars as high as a head
RIM = 0.75  # head radii: what lies inside is always drawn at the same place
MARGIN = 0.1  # head radii beyond the outermost electrodes that are still coloured
ON_A_LINE = 0.05  # head radii, root mean square: electrodes nearer than this to a line span no area


def styled(draw):
    """Draw in the house style whatever the caller's settings are, but in the caller's where its axes are drawn in."""

    @wraps(draw)
    def wrapper(*args, **kwargs):
        if kwargs.get("axes") is not None:
            return draw(*args, **kwargs)
        with plt.style.context(["default", STYLE]):
            fig = draw(*args, **kwargs)
            fig.draw_without_rendering()  # ticks take their style when first drawn
        return fig

    return wrapper


def new_figure(width: float, height: float, title: str | None):
    """Return a figure that Jupyter shows when it is the value of a cell, and only then."""
    # Made through pyplot, which gives Jupyter its PNG formatter, and closed so that pyplot does not show it as well.
    fig = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(fig)
    if title is not None:
        fig.suptitle(fill(title, int(width * 13)))
    return fig


def wrapped_axes(fig, n: int, columns: int = 4, **options) -> np.ndarray:
    """Return `n` axes in as many rows of `columns` as they need; `options` are those of `fig.subplots`."""
    axes = fig.subplots(n_rows(n, columns), min(n, columns), squeeze=False, **options).ravel()
    for ax in axes[n:]:
        ax.remove()
    return axes[:n]


def n_rows(n: int, columns: int = 4) -> int:
    """Return the number of rows that `wrapped_axes` makes."""
    return -(-n // columns)


def colour(index: int) -> str:
    """Return the Okabe-Ito colour of a class, method or decoder."""
    return OKABE_ITO[index % len(OKABE_ITO)]


def checked(name: str, values, **sizes: int | None) -> np.ndarray:
    """Return `values` as a finite array with the named axes; a size of None takes any length."""
    values = np.asarray(values, dtype=float)
    if values.ndim != len(sizes) or any(n not in (None, m) for n, m in zip(sizes.values(), values.shape, strict=True)):
        expected = ", ".join(axis if n is None else f"{axis} = {n}" for axis, n in sizes.items())
        raise ValueError(f"{name} has shape {values.shape}; expected ({expected}).")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity. Leave those trials or channels out first.")
    return values


def check_count(name: str, labels, n: int, of: str) -> None:
    """Refuse a list of names that does not match its array."""
    if len(labels) != n:
        raise ValueError(f"{name} has {len(labels)} names; expected {n}, one per {of}.")


def check_columns(name: str, table, columns: tuple[str, ...]) -> None:
    """Refuse a table without the columns that are drawn."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")


def channel_indices(info: mne.Info, channels) -> list[int]:
    """Return the positions of named channels."""
    missing = [name for name in channels if name not in info.ch_names]
    if missing:
        raise ValueError(f"No channel {', '.join(missing)}. Pass channels= with some of: {', '.join(info.ch_names)}.")
    return [info.ch_names.index(name) for name in channels]


def band_mask(freqs: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Return which frequencies lie in a band, both ends included."""
    mask = (freqs >= band[0]) & (freqs <= band[1])
    if not mask.any():
        raise ValueError(
            f"No frequency lies in {band[0]:g}-{band[1]:g} Hz; they run from {freqs[0]:g} to {freqs[-1]:g} Hz."
        )
    return mask


def landmarks(info: mne.Info) -> tuple[str, ...]:
    """Return the channels at C3, Cz and C4 or next to them; where none is, three spread from left to right."""
    places = scalp_places(info)
    distance = np.linalg.norm(name_places(LANDMARKS)[:, None] - places, axis=2)
    near = [int(np.nanargmin(row)) for row in distance if np.nanmin(row, initial=np.inf) < NEXT_TO]
    if not near:
        order = np.argsort(places[:, 0], kind="stable")
        near = order[np.linspace(0, len(order) - 1, min(3, len(order))).round().astype(int)]
    return tuple(dict.fromkeys(info.ch_names[pick] for pick in near))


def head_positions(info: mne.Info) -> np.ndarray:
    """Place electrodes inside a head of radius 1, as seen from above.

    The distance from the vertex is the angle, 1 at the lowest 10-20 ring. Where there are electrodes below that ring,
    on ears, neck or cheeks, what lies outside `RIM` is drawn together until they are inside the head as well.

    Returns
    -------
    ndarray, shape (channel, 2)
        To the right and to the front; NaN for a channel without a position.

    Raises
    ------
    ValueError
        Positions that are not those of a head.
    """
    plane = scalp_positions(info)
    radius = np.linalg.norm(plane, axis=1, keepdims=True)
    farthest = max(1.0, np.nanmax(radius))
    drawn = np.where(radius <= RIM, radius, RIM + (radius - RIM) * (1 - RIM) / (farthest - RIM))
    return plane * drawn / np.maximum(radius, np.finfo(float).tiny)


def colour_scale(values, percentile: float = 98) -> dict:
    """Return the colour map and limits of some values, for imshow.

    Diverging and symmetric about zero where there is a negative value, else sequential from zero. The limit is a
    percentile of the magnitudes, so that one channel cannot wash out the others.
    """
    limit = np.percentile(np.abs(values), percentile) or 1.0
    if np.min(values) < 0:
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    return {"cmap": "magma_r", "vmin": 0.0, "vmax": limit}


def topomap(ax, values, info: mne.Info, scale: dict, *, channels: Sequence[str] | None = None, size: float = 8):
    """Draw one value per channel on the head, with the electrodes as dots and `channels` named.

    Colour ends a little outside the electrodes, and no colour is stronger than that of an electrode: nothing is known
    beyond them. Channels that make no head (one or two, on a line, without positions) are drawn as bars, and the
    figure says once why. By default `landmarks` are named, in letters of `size` points.
    """
    values = np.asarray(values, dtype=float)
    try:
        position = _spread_positions(info)
    except ValueError as error:
        return _channel_bars(ax, values, info, scale, str(error))
    located = np.isfinite(position).all(axis=1)
    if not located.all():
        note(ax, f"no position: {', '.join(np.array(info.ch_names)[~located])}")
    # Electrodes in one place, such as T3 and T7, share their mean: interpolation takes one value for a place.
    spots, spot = np.unique(position[located].round(6), axis=0, return_inverse=True)
    image, _ = mne.viz.plot_topomap(
        np.bincount(spot, values[located]) / np.bincount(spot),
        spots,
        sphere=(0, 0, 0, 1),
        extrapolate="local",
        border="mean",
        contours=0,
        res=RESOLUTION,
        cmap=scale["cmap"],
        vlim=(scale["vmin"], scale["vmax"]),
        axes=ax,
        show=False,
    )
    _keep_to_electrodes(image, spots, values[located])
    for name in landmarks(info) if channels is None else channels:
        style = {"fontsize": size, "path_effects": [withStroke(linewidth=2, foreground="white")]}
        if np.isfinite(place := position[info.ch_names.index(name)]).all():
            ax.text(*place, name, ha="center", va="bottom", **style)
    return image


def _spread_positions(info: mne.Info) -> np.ndarray:
    """Return the places of electrodes that span an area, and refuse others."""
    position = head_positions(info)
    located = position[np.isfinite(position).all(axis=1)]
    if len(located) < 3:
        raise ValueError(f"{len(located)} electrode{'s' * (len(located) > 1)}: no head")
    across = np.linalg.svd(located - located.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(located))
    if across < ON_A_LINE:
        raise ValueError("electrodes on a line: no head")
    return position


def _keep_to_electrodes(image, spots: np.ndarray, values: np.ndarray) -> None:
    """Limit an interpolated image to the values of the electrodes and to the area that they span."""
    left, right, bottom, top = image.get_extent()
    pixels = image.get_array()
    x, y = np.meshgrid(np.linspace(left, right, pixels.shape[1]), np.linspace(bottom, top, pixels.shape[0]))
    # The path cuts between pixels; those just outside it stay for the interpolation on the screen.
    beyond = 2 * (right - left) / pixels.shape[1]
    inside = _outline(spots, MARGIN + beyond, 1 + beyond).contains_points(np.c_[x.ravel(), y.ravel()])
    image.set_data(np.ma.array(np.clip(pixels, values.min(), values.max()), mask=~inside.reshape(pixels.shape)))
    image.set_clip_path(_outline(spots, MARGIN), transform=image.axes.transData)


def _outline(spots: np.ndarray, margin: float, rim: float = 1.0) -> Path:
    """Return the convex hull of electrodes widened by a margin, up to a rim."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    corners = spots[ConvexHull(spots).vertices]
    widened = (corners[:, None] + margin * np.column_stack([np.cos(angle), np.sin(angle)])).reshape(-1, 2)
    widened = widened[ConvexHull(widened).vertices]
    widened /= np.maximum(1.0, np.linalg.norm(widened, axis=1, keepdims=True) / rim)
    return Path(np.append(widened, widened[:1], axis=0), closed=True)


def _channel_bars(ax, values: np.ndarray, info: mne.Info, scale: dict, reason: str) -> ScalarMappable:
    """Draw one value per channel as bars in the colours that a head would have."""
    image = ScalarMappable(Normalize(scale["vmin"], scale["vmax"]), scale["cmap"])
    rows, few = np.arange(len(values)), len(values) <= MOST_NAMES
    ax.barh(rows, values, color=image.to_rgba(values), edgecolor="0.4", linewidth=0.5 * few)
    ax.axvline(0, color="0.4", linewidth=0.6)
    ax.set_yticks(rows if few else [], info.ch_names if few else [])
    reach = max(scale["vmax"], np.abs(values).max())
    ax.set(xlim=(-reach if scale["vmin"] < 0 else 0, reach), ylim=(len(rows) - 0.4, -0.6))
    ax.locator_params(axis="x", nbins=3)
    note(ax, reason)
    return image


def note(ax, reason: str) -> None:
    """Write the first sentence of a reason below axes, unless others of the figure say so already."""
    text = fill(reason.split(". ")[0].rstrip("."), 24)
    if all(other.get_xlabel() != text for other in ax.figure.axes):
        ax.set_xlabel(text, fontsize=8)


def colour_bar(image, axes, label: str, **options):
    """Add a labelled colour bar; its pointed ends say that values go beyond the limits."""
    ends = "both" if image.norm.vmin < 0 else "max"
    if options.get("orientation") == "horizontal":
        # Few, so that they do not touch under a head. With these steps a symmetric scale always has one on either side.
        options.setdefault("ticks", MaxNLocator(3, steps=[1, 1.5, 2, 3, 4, 6, 8, 10]))
    bar = np.ravel(axes)[0].figure.colorbar(image, ax=axes, label=label, extend=ends, **options)
    bar.ax.xaxis.offsetText.set_horizontalalignment("left")  # the power of ten goes beside the label, not over it
    return bar


def annotated_image(ax, values, scale: dict, rows, columns, text_format: str, hidden=None):
    """Draw a table as coloured cells with their numbers; cells that are `hidden` stay grey."""
    hidden = np.zeros(values.shape, dtype=bool) if hidden is None else hidden
    image = ax.imshow(np.ma.array(values, mask=hidden | np.isnan(values)), aspect="auto", **scale)
    image.set_cmap(image.get_cmap().with_extremes(bad="0.9"))
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        luminance = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114))
        ink = "0.45" if hidden[row, column] else "white" if luminance < 0.5 else "black"
        ax.text(column, row, format(value, text_format), ha="center", va="center", fontsize=8, color=ink)
    return image


def topomap_row(axes, values, info: mne.Info, label: str) -> None:
    """Draw topomaps on one scale, with one colour bar; electrodes are named on the first head.

    Parameters
    ----------
    axes : sequence of Axes, length n
    values : ndarray, shape (n, channel)
    info : mne.Info
    label : str
        Quantity and unit of the colour bar.
    """
    scale = colour_scale(values)
    named = [None, *[()] * (len(values) - 1)]
    grid = axes[0].get_gridspec()  # none where the caller placed axes one by one
    size = min(8, 38 / (grid.ncols if grid else len(axes)))  # so that C3 and Cz do not touch on small heads
    heads = zip(axes, values, named, strict=True)
    images = [topomap(ax, row, info, scale, channels=names, size=size) for ax, row, names in heads]
    colour_bar(images[0], axes, label, shrink=0.9)


def class_title(ax, index: int, name: str) -> None:
    """Name a class above its axes, in its colour."""
    ax.set_title(name, color=colour(index), fontweight="bold")
