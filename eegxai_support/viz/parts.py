"""What the figures share: style, colours, checks, topomaps, colour bars and annotated tables."""

from __future__ import annotations

from functools import wraps
from textwrap import fill

import matplotlib.pyplot as plt
import mne
import numpy as np
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

WIDTH = 6.4  # inches: the text column of a book page, so that 8 pt stay 8 pt
LANDMARKS = ("C3", "Cz", "C4")
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

# Head of the colin27 template in MNE's head frame: the plane of the lowest 10-20 ring (F7, T7, P7) is tilted against
# the plane through nasion and ears, and its centre lies in front of them. An upright sphere around the origin, MNE's
# default, draws Fpz outside the head and Oz halfway to the vertex.
HEAD_CENTRE = (0.0, 0.018, 0.035)
HEAD_TILT = np.deg2rad(8)
HEAD_EDGE = np.deg2rad(95)


def styled(draw):
    """Draw in the house style whatever the caller's settings are."""

    @wraps(draw)
    def wrapper(*args, **kwargs):
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


def wrapped_axes(fig, n: int, columns: int = 4) -> np.ndarray:
    """Return `n` axes in as many rows of `columns` as they need."""
    axes = fig.subplots(n_rows(n, columns), min(n, columns), squeeze=False).ravel()
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


def head_positions(info: mne.Info) -> np.ndarray:
    """Project electrodes on the plane, angle from the vertex kept, head radius 1.

    Returns
    -------
    ndarray, shape (channel, 2)
        To the right and to the front.
    """
    xyz = np.array([channel["loc"][:3] for channel in info["chs"]])
    if not (np.isfinite(xyz).all() and xyz.any(axis=1).all()):
        raise ValueError("info has channels without a position. Set a montage: info.set_montage('colin27_1005').")
    x, y, z = (xyz - HEAD_CENTRE).T
    cos, sin = np.cos(HEAD_TILT), np.sin(HEAD_TILT)
    x, y, z = x, cos * y - sin * z, sin * y + cos * z
    radius = np.arctan2(np.hypot(x, y), z) / HEAD_EDGE
    direction = np.arctan2(y, x)
    return np.column_stack([radius * np.cos(direction), radius * np.sin(direction)])


def colour_scale(values, percentile: float = 98) -> dict:
    """Return the colour map and limits of some values, for imshow.

    Diverging and symmetric about zero where there is a negative value, else sequential from zero. The limit is a
    percentile of the magnitudes, so that one channel cannot wash out the others.
    """
    limit = np.percentile(np.abs(values), percentile) or 1.0
    if np.min(values) < 0:
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    return {"cmap": "magma_r", "vmin": 0.0, "vmax": limit}


def topomap(ax, values, info: mne.Info, scale: dict, *, channels=LANDMARKS):
    """Draw one value per channel on the head, with the electrodes as dots and `channels` named."""
    image, _ = mne.viz.plot_topomap(
        values,
        head_positions(info),
        sphere=(0, 0, 0, 1),
        names=[name if name in channels else "" for name in info.ch_names],
        contours=0,
        res=96,
        cmap=scale["cmap"],
        vlim=(scale["vmin"], scale["vmax"]),
        axes=ax,
        show=False,
    )
    # Electrodes below the ring keep their dot, but colour ends with the head.
    image.set_clip_path(Circle((0, 0), 1, transform=ax.transData))
    for text in ax.texts:
        text.set(fontsize=8, va="bottom", path_effects=[withStroke(linewidth=2, foreground="white")])
    return image


def colour_bar(image, axes, label: str, **options):
    """Add a labelled colour bar; its pointed ends say that values go beyond the limits."""
    ends = "both" if image.norm.vmin < 0 else "max"
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
    named = [LANDMARKS, *[()] * (len(values) - 1)]
    images = [topomap(ax, row, info, scale, channels=c) for ax, row, c in zip(axes, values, named, strict=True)]
    colour_bar(images[0], axes, label, shrink=0.9)


def class_title(ax, index: int, name: str) -> None:
    """Name a class above its axes, in its colour."""
    ax.set_title(name, color=colour(index), fontweight="bold")
