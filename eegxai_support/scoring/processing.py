"""The processing of maps for display, and for the deletion test."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import correlate1d

from eegxai_support.trials import unknown_name

PROCESSING = ("z_score", "threshold", "smooth")
FLOOR = -1.0  # of points after the threshold
SMOOTHED = 10  # samples of the moving average


def process_maps(maps: np.ndarray, steps: Iterable[str] = PROCESSING) -> tuple[np.ndarray, np.ndarray]:
    """Process maps for display, as Cui et al. do [1]_.

    Parameters
    ----------
    maps : ndarray, shape (trial, channel, time)
    steps : iterable of {"z_score", "threshold", "smooth"}
        In this order; a part of them shows what each does.

        - z_score: mean 0 and standard deviation 1 over the points of a trial, and over its channels.
        - threshold: points less 2, values below -1 raised to it; channels less 1.
        - smooth: mean of the five samples before a point, the point and the four after it, fewer at the ends. Channels
          stay as they are.

    Returns
    -------
    points : ndarray, shape (trial, channel, time)
        After all steps, above -1 where one of the ten samples is more than a standard deviation above the mean.
    channels : ndarray, shape (trial, channel, 1)
        Mean of the map over time, processed; after all steps above 0 where it is more than a standard deviation above
        the mean over channels.

    Raises
    ------
    ValueError
        An unknown step.

    References
    ----------
    .. [1] Cui, J., et al. (2023). Towards best practice of interpreting deep learning models for EEG-based brain
       computer interfaces. Frontiers in Computational Neuroscience, 17, 1232925.
    """
    points = np.asarray(maps, dtype=float)
    channels = points.mean(axis=2, keepdims=True)
    for step in steps:
        if step not in PROCESSING:
            raise unknown_name("step", step, PROCESSING)
        if step == "z_score":
            points, channels = _z_scored(points, (1, 2)), _z_scored(channels, 1)
        elif step == "threshold":
            points, channels = np.maximum(points - 2, FLOOR), channels - 1
        else:
            points = _smoothed(points)
    return points, channels


def _smoothed(points: np.ndarray) -> np.ndarray:
    # Above the floor, so that a window without a peak sums to exactly zero.
    peaks, window = points - FLOOR, np.ones(SMOOTHED)
    total, count = (correlate1d(values, window, mode="constant") for values in (peaks, np.ones_like(peaks[:1, :1])))
    return total / count + FLOOR


def _z_scored(values: np.ndarray, axis) -> np.ndarray:
    mean, spread = values.mean(axis=axis, keepdims=True), values.std(axis=axis, keepdims=True)
    # What rounding leaves of a constant map has no peaks.
    return (values - mean) / np.where(spread > 1e-12 * np.abs(mean), spread, np.inf)
