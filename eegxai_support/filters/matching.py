"""Which of a network's patterns resemble those of another method, against the chance of finding a match."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment


def match_patterns(patterns, reference, covariance, *, n: int = 1000, seed: int = 0) -> pd.DataFrame:
    r"""Pair patterns with reference patterns so that they resemble each other most, and say what chance gives.

    The pairs have the largest sum of :math:`|r|` of all one-to-one assignments, with :math:`r` Pearson's correlation
    over channels. It is the cosine of the two maps after an average reference, so that neither the reference electrode
    nor the amplitude counts [1]_; the sign of a pattern is arbitrary and does not count either. Best pairs correlate
    by selection, and maps of one recording because a few strong sources shape all of them. The chance level
    has both: random filters :math:`w \sim N(0, I)`, as many as there are patterns, have the patterns :math:`\Sigma w`
    and are assigned to the reference anew in each draw.

    Parameters
    ----------
    patterns : ndarray, shape (unit, channel)
        For instance from `filter_patterns`. Not filters: to them a constant over channels is no change of reference.
    reference : ndarray, shape (reference, channel)
        For instance those of one class and band from `filter_bank_csp`.
    covariance : ndarray, shape (channel, channel)
        Of the trials, in the frequency band of the patterns: ``np.cov(np.hstack(signal))`` with the filtered signal
        (trial, channel, time).
    n : int
        Number of draws.
    seed : int
        Seed of the random filters.

    Returns
    -------
    DataFrame
        A row per pair, most alike first: unit, reference, correlation (:math:`|r|`), and from the draws, for the same
        reference pattern, chance (mean), chance_95 (95 % quantile) and p_value: one more than the draws that are at
        least as alike, over :math:`n + 1` [2]_. A draw that leaves the reference pattern without a pair counts as 0.
        The p-values of pairs are not corrected for their number; ``.attrs`` holds correlation, chance and p_value of
        the mean over pairs, one test for all.

    Raises
    ------
    ValueError
        Not (pattern, channel) with the same two or more channels, a covariance of another shape, NaN or infinity, a
        pattern that is the same on all channels, or no draw.

    References
    ----------
    .. [1] Murray, Brunet & Michel (2008). Topographic ERP analyses: a step-by-step tutorial review. Brain Topography
       20(4), 249-264.
    .. [2] Phipson & Smyth (2010). Permutation P-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9(1), 39.
    """
    covariance, n_channels = np.asarray(covariance, float), np.shape(patterns)[-1]
    if covariance.shape != (n_channels, n_channels) or not np.isfinite(covariance).all() or n < 1:
        raise ValueError(
            f"covariance has shape {covariance.shape} and n is {n}; expected finite values (channel, channel) for the"
            f" {n_channels} channels of the patterns, and at least one draw."
        )
    patterns, reference = _maps("patterns", patterns, n_channels), _maps("reference", reference, n_channels)
    unit, matched, correlation = _matched(patterns, reference)
    rng = np.random.default_rng(seed)
    drawn = np.zeros((n, len(reference)))
    for row in drawn:
        random = _maps("patterns of random filters", rng.standard_normal(patterns.shape) @ covariance, n_channels)
        _, index, row[index] = _matched(random, reference)
    chance = drawn[:, matched]
    table = pd.DataFrame({
        "unit": unit,
        "reference": matched,
        "correlation": correlation,
        "chance": chance.mean(0),
        "chance_95": np.quantile(chance, 0.95, axis=0),
        "p_value": _p_value(chance, correlation),
    })  # fmt: skip
    table = table.sort_values("correlation", ascending=False, ignore_index=True)
    mean, means = correlation.mean(), drawn.sum(1) / len(correlation)
    table.attrs = {"correlation": mean, "chance": means.mean(), "p_value": _p_value(means, mean)}
    return table


def _maps(name: str, patterns, n_channels: int) -> np.ndarray:
    """Return checked patterns (pattern, channel), centred and of norm 1."""
    patterns = np.asarray(patterns, float)
    if patterns.ndim != 2 or patterns.shape[1] != n_channels or n_channels < 2 or not len(patterns):
        raise ValueError(
            f"{name} have shape {patterns.shape}; expected (pattern, channel) with the same {n_channels} channels, two"
            " or more."
        )
    constant = np.ptp(patterns, axis=1) == 0
    if constant.any() or not np.isfinite(patterns).all():
        raise ValueError(f"{name} hold NaN or infinity, or the same value on all channels; leave those out.")
    centred = patterns - patterns.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _matched(patterns: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs with the largest sum of absolute correlations, and those."""
    correlation = np.abs(patterns @ reference.T)
    unit, matched = linear_sum_assignment(correlation, maximize=True)
    return unit, matched, correlation[unit, matched]


def _p_value(drawn: np.ndarray, observed) -> np.ndarray:
    return (1 + (drawn >= observed).sum(0)) / (1 + len(drawn))
