"""Where a figure is drawn: in a figure of its own, or in axes of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .parts import new_figure, wrapped_axes


@dataclass(frozen=True, eq=False)
class Panels:
    """The axes of a figure, and what it writes beside them.

    Parameters
    ----------
    axes : ndarray of Axes, shape (panel,)
    own : bool
        Whether the figure was made for them. What belongs to a whole figure then stands at its edge; in a caller's,
        which holds more than these panels, it stands in the panels.
    """

    axes: np.ndarray
    own: bool

    @property
    def figure(self) -> Figure:
        """The figure of the panels, which may lie in a part of it."""
        return self.axes[0].figure.figure

    def legend(self, handles, labels=None, *, ncols: int = 4, **options) -> None:
        """Name what all panels hold: below them in a figure of their own, else in the last of them."""
        entries = {"handles": handles} if labels is None else {"handles": handles, "labels": labels}
        if self.own:
            self.axes[0].figure.legend(**entries, loc="outside lower center", ncols=ncols, **options)
        else:
            self.axes[-1].legend(**entries, **options)

    def label(self, *, x: str | None = None, y: str | None = None) -> None:
        """Name the quantities that all panels have: once in a figure of their own, else at each of them."""
        for axis, text in (("x", x), ("y", y)):
            if text is None:
                continue
            if self.own:
                getattr(self.figure, f"sup{axis}label")(text, fontsize=9)
                continue
            for ax in self.axes:
                ax.set(**{f"{axis}label": text})


def panels(
    axes,
    n: int,
    size: tuple[float, float],
    title: str | None,
    *,
    columns: int = 4,
    make: Callable | None = None,
    **grid,
) -> Panels:
    """Return the caller's axes once they are what is drawn in, or new ones.

    Parameters
    ----------
    axes : Axes, array or sequence of Axes, or None
        What the caller gave.
    n : int
        Number of panels.
    size : (float, float)
        Width and height in inches of a figure of their own.
    title : str or None
        Of a figure of their own.
    columns : int
        Panels side by side in it.
    make : callable, optional
        Takes that figure and returns its axes, where these are no grid.
    **grid
        For `matplotlib.figure.Figure.subplots`.

    Raises
    ------
    TypeError
        `axes` holds something else.
    ValueError
        Another number of axes than panels, axes of several figures, one of them twice, or a title for a figure that is
        not made here.
    """
    if axes is None:
        figure = new_figure(*size, title)
        return Panels(np.ravel(make(figure) if make else wrapped_axes(figure, n, columns, **grid)), own=True)
    given = np.ravel(np.asarray(axes, dtype=object))
    if others := {type(each).__name__ for each in given if not isinstance(each, Axes)}:
        raise TypeError(f"axes holds {', '.join(sorted(others))}; expected {n} Axes, such as plt.subplots returns.")
    n_different, n_figures = len(set(given)), len({each.figure for each in given})
    if not len(given) == n_different == n or n_figures != 1:
        raise ValueError(
            f"axes holds {len(given)} Axes, {n_different} of them different, of {n_figures} figures or subfigures;"
            f" expected {n} different ones of one figure, a panel each."
        )
    if title is not None:
        raise ValueError("title is of a figure made here. Leave it out with axes=, and give your figure its own.")
    return Panels(given, own=False)


def same_limits(axes, *names: str) -> None:
    """Give panels one scale along "x" or "y", whether they share an axis or not."""
    for name in names:
        low, high = np.transpose([getattr(ax, f"get_{name}lim")() for ax in axes])
        for ax in axes:
            ax.set(**{f"{name}lim": (low.min(), high.max())})
