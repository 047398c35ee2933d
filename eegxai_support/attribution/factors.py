"""The two factors of a map that is linear in its input: the multiplier and the change from the baseline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from eegxai_support.attribution.problem import METHODS
from eegxai_support.attribution.result import Attribution, OnDemand
from eegxai_support.model import given

SAME = 1e-6  # share of a map by which rounding may change its sum


def multiplier_of(attribution: Attribution) -> np.ndarray:
    """Return the multiplier, or refuse a map without one."""
    if attribution.multiplier is None:
        names = ", ".join(name for name, method in METHODS.items() if method.linear_in_input)
        raise ValueError(
            f"The map of {attribution.method!r} has no multiplier, which its relevance per frequency or component is"
            " made of. Dividing the map by x is no way out: the quotient explodes wherever x crosses zero. Use one of"
            f" {names} (LRP with first_layer=None)."
        )
    return attribution.multiplier


def factors(attribution: Attribution, x, batch_size: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield batches of trials: which ones, their multiplier and their change from the baseline, in float64.

    Parameters
    ----------
    attribution : Attribution
        With a multiplier.
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
        The trials that were explained.
    batch_size : int

    Raises
    ------
    ValueError
        The attribution has no multiplier, or `x` is not what was explained.
    """
    multiplier, x = multiplier_of(attribution), given(x).signal
    if np.shape(x) != multiplier.shape:
        raise ValueError(f"x has shape {tuple(np.shape(x))} but shape {multiplier.shape} was explained.")
    baseline = np.broadcast_to(attribution.baseline, multiplier.shape)
    # Reading the values of an OnDemand would take as much memory as the multiplier.
    on_demand = isinstance(attribution, OnDemand)
    total = attribution.total if on_demand else attribution.values.sum((1, 2), dtype=np.float64)
    for start in range(0, len(multiplier), batch_size):
        rows = slice(start, start + batch_size)
        each = multiplier[rows].astype(np.float64)
        change = _array(x[rows], multiplier.dtype) - baseline[rows].astype(np.float64)
        _check_explained(change * each, total[rows])
        yield rows, each, change


def _array(x, dtype) -> np.ndarray:
    return np.asarray(x.detach().cpu().double() if isinstance(x, torch.Tensor) else x, dtype)


def _check_explained(values: np.ndarray, total: np.ndarray) -> None:
    """Refuse trials whose maps do not sum to `total`, but for rounding."""
    missed = ~(np.abs(values.sum((1, 2)) - total) <= SAME * np.abs(values).sum((1, 2)))  # NaN is missed too
    if missed.any():
        raise ValueError(
            f"x is not what was explained: in {missed.sum()} of {len(total)} trials multiplier * (x - baseline) does"
            " not sum to the map. Give the very trials that `attribute` was given, in the same order and unit."
        )
