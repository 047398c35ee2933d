"""Errors that say what cannot be explained or is not installed, and warnings that point at the line that asked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("eegxai_support", "torch")  # whose decorators lie between


class UnsupportedOperation(NotImplementedError):
    """A method has no meaning or no rule for an operation of the network; the message names it."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's own code, however deep in this package the reason was found."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def needed(what: str, *, extra: str) -> Iterator[None]:
    """Import packages of an extra inside; where one is missing, say what needs it and how to install it.

    Parameters
    ----------
    what : str
        The public function that cannot do without.
    extra : str
        The extra of ``pyproject.toml`` that brings the packages.

    Raises
    ------
    ModuleNotFoundError
        A package, or one that it imports itself, is not installed.

    Examples
    --------
    >>> with needed("embed_filters", extra="filters"):
    ...     from umap import UMAP
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{what} needs {error.name}, which is not installed: pip install "eegxai-support[{extra}]"',
            name=error.name,
        ) from error
