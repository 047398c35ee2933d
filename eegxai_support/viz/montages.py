"""Figures of where electrodes are."""

from __future__ import annotations

from collections.abc import Mapping

import mne
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse

from .maps import REGIONS, front_to_back
from .panels import panels
from .parts import WIDTH, colour, head_positions, landmarks, n_rows, note, styled

COLUMNS = 4


@styled
def plot_montages(montages: Mapping[str, mne.Info] | None = None, *, title: str | None = None, axes=None) -> Figure:
    """Draw where the electrodes of montages are on the head, in the colours of their regions.

    Look at the montage of a recording of your own before you believe a topomap of it.

    Parameters
    ----------
    montages : dict of str to mne.Info, optional
        What positions belong to, by what stands above the head. By default every montage that MNE ships.
    title : str, optional
    axes : Axes or array of Axes, optional
        Of a figure of your own, one for each montage.

    Returns
    -------
    matplotlib.figure.Figure
        Up to four heads in a row, nose up and left on the left. Rings are drawn round the channels that stand for C3,
        Cz and C4 where a figure names channels by default. Positions that make no head are replaced by the reason.
    """
    montages = _built_in() if montages is None else montages
    drawn = panels(axes, len(montages), (WIDTH, 0.3 + 1.75 * n_rows(len(montages), COLUMNS)), title, columns=COLUMNS)
    for ax, (name, info) in zip(drawn.axes, montages.items(), strict=True):
        ax.set_title(name, fontsize=8)
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.05, 1.2), aspect="equal", xticks=[], yticks=[], frame_on=False)
        try:
            _electrodes(ax, info)
        except ValueError as error:
            note(ax, str(error))
    shown = [
        drawn.axes[0].plot([], [], "o", color=colour(k), markersize=4, label=region)[0]
        for k, region in enumerate(REGIONS[:-1])
    ]
    drawn.legend(shown)
    return drawn.figure


def _built_in() -> dict[str, mne.Info]:
    infos = {}
    for name in mne.channels.get_builtin_montages():
        montage = mne.channels.make_standard_montage(name)
        infos[name] = mne.create_info(montage.ch_names, 1.0, "eeg", verbose=False)
        infos[name].set_montage(montage, verbose=False)
    return infos


def _electrodes(ax, info: mne.Info) -> None:
    """Draw a head with a dot for each electrode."""
    position, (_, region) = head_positions(info), front_to_back(info)
    line = {"facecolor": "none", "edgecolor": "0.3", "linewidth": 0.8}
    for shape in (Circle((0, 0), 1, **line), *(Ellipse((x, 0), 0.1, 0.35, zorder=0, **line) for x in (-1.04, 1.04))):
        ax.add_patch(shape)
    ax.plot([-0.13, 0, 0.13], [0.99, 1.15, 0.99], color="0.3", linewidth=0.8)
    size = 12 if len(position) < 40 else 6 if len(position) < 150 else 3
    ax.scatter(*position.T, size, c=[colour(k) for k in region], linewidths=0)
    named = position[[info.ch_names.index(name) for name in landmarks(info)]]
    ax.scatter(*named.T, 22, facecolors="none", edgecolors="black", linewidths=0.7)
