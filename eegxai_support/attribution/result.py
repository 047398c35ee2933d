"""What `attribute` returns, and its receipt in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from eegxai_support.decoders.accuracy import Accuracy


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """Attribution maps and the evidence for them; printed, it reads as their receipt.

    Parameters
    ----------
    values : ndarray, shape (trial, channel, time)
        The maps.
    multiplier : ndarray, shape (trial, channel, time), optional
        ``values = multiplier * (x - baseline)`` for methods that are linear in their input, else None.
    baseline : ndarray, shape (1 or trial, channel, time), optional
        What the trials were compared with, for methods that compare; all baselines where a method takes many.
    delta : ndarray, shape (trial,), optional
        ``values.sum((1, 2)) - (f(x) - f(baseline))`` for methods that conserve; f(baseline) is the mean over the
        baselines where a method takes many. ``values.sum((1, 2)) + kept - f(x)`` for LRP. None where a method promises
        nothing.
    method : str
        Key of `METHODS`.
    target : object
        The target as it was given.
    standard_error : ndarray, shape (trial,), optional
        Of the sum of a map that is a mean over random draws.
    report : pandas.DataFrame, optional
        Where the relevance went, a row per layer, for the methods that start with ``lrp_``.
    kept : ndarray, shape (trial,), optional
        What of the output LRP left with biases and constants.
    change : ndarray, shape (trial,), optional
        What the maps account for where `delta` is given: f(x) - f(baseline), or f(x) for LRP.
    n_zero : int
        Maps that are zero everywhere.
    network : str
        Class of the network.
    at_baseline : float, optional
        Mean over the baselines of the probability that the network gives one class there, the one with the largest.
    decoder : Accuracy, optional
        How well the network decodes the explained trials, where these came with labels.
    """

    values: np.ndarray
    multiplier: np.ndarray | None = None
    baseline: np.ndarray | None = None
    delta: np.ndarray | None = None
    method: str = ""
    target: object = None
    standard_error: np.ndarray | None = None
    report: pd.DataFrame | None = None
    kept: np.ndarray | None = None
    change: np.ndarray | None = None
    n_zero: int = 0
    network: str = ""
    at_baseline: float | None = None
    decoder: Accuracy | None = None

    def __repr__(self) -> str:
        return receipt(self)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class OnDemand(Attribution):
    """An `Attribution` whose values are multiplied when they are first asked for, to save the memory of large ones.

    Parameters
    ----------
    x : ndarray, shape (trial, channel, time)
        The trials, not copied.
    total : ndarray, shape (trial,)
        What the values of each trial sum to.
    **fields
        Of `Attribution`. With `values`, as `dataclasses.replace` gives them, nothing is left to be multiplied.
    """

    x: np.ndarray
    total: np.ndarray

    def __init__(self, x: np.ndarray, total: np.ndarray, **fields):
        vars(self).update({"x": x, "total": total, **fields})

    @cached_property
    def values(self) -> np.ndarray:
        """The maps, ``multiplier * (x - baseline)``."""
        values = product(self.x, self.baseline, self.multiplier)
        total, before = np.nan_to_num(values.sum((1, 2), dtype=np.float64)), np.nan_to_num(self.total)
        if not np.allclose(total, before, rtol=0, atol=1e-6 * np.abs(before).max()):
            raise RuntimeError(
                "The trials were changed after `attribute` explained them, so their maps can no longer be multiplied."
                " Read `values` first, or give `attribute` a copy."
            )
        return values


def product(x: np.ndarray, baseline: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Return ``multiplier * (x - baseline)``."""
    values = x - baseline
    values *= multiplier
    return values


def receipt(attribution: Attribution) -> str:
    """Return the evidence for maps in words: what decodes, what is conserved, what it was compared with, what is empty.

    Parameters
    ----------
    attribution : Attribution
    """
    n_trials, n_channels, n_times = _shape(attribution)
    lines = {
        "map": f"{attribution.method} of {attribution.network or 'a network'}, target {_target(attribution.target)}:"
        f" {n_trials} trials × {n_channels} channels × {n_times} samples",
        "decoder": _decoder(attribution.decoder),
        "conservation": _conservation(attribution),
    }
    if attribution.standard_error is not None:
        lines["draws"] = f"standard error of a map's sum: at most {attribution.standard_error.max():.2g}"
    if attribution.at_baseline is not None:
        lines["baseline"] = f"the network gives one class a probability of {attribution.at_baseline:.2f} there"
    if attribution.n_zero:
        lines["empty"] = f"{attribution.n_zero} of {n_trials} maps are zero everywhere"
    return "\n".join(f"{name:<13}{text}" for name, text in lines.items())


def _shape(attribution: Attribution) -> tuple[int, ...]:
    return np.shape(attribution.values if attribution.multiplier is None else attribution.multiplier)


def _target(target) -> str:
    if callable(target):
        return getattr(target, "__name__", type(target).__name__)
    if isinstance(target, tuple):
        return " - ".join(map(str, target))
    return str(target) if np.ndim(target) == 0 else "of each trial"


def _decoder(decoder: Accuracy | None) -> str:
    if decoder is None:
        return "not known; give Trials with labels as x to see whether it decodes them"
    no_better = decoder.accuracy <= decoder.majority
    return f"{decoder}{'; no better than one class throughout' * no_better}"


def _conservation(attribution: Attribution) -> str:
    if attribution.delta is None:
        return "nothing is promised: the values need not sum to the output"
    size = np.abs(attribution.delta)
    worst = int(np.nanargmax(size)) if np.isfinite(size).any() else 0
    kept = "" if attribution.kept is None else f"; biases keep up to {np.abs(attribution.kept).max():.3g}"
    of = "f(x) - f(baseline)" if attribution.kept is None else "f(x)"
    return (
        f"sums miss {of} by {size[worst]:.2g} at most (trial {worst}, where it is"
        f" {attribution.change[worst]:.3g}){kept}"
    )
