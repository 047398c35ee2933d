"""Errors that say what cannot be explained, and warnings that point at the line that asked for it."""

from __future__ import annotations

import sys
import warnings

OURS = ("eegxai_support", "torch")  # whose decorators lie between


class UnsupportedOperation(NotImplementedError):
    """A method has no meaning or no rule for an operation of the network; the message names it."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's own code, however deep in this package the reason was found."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
