"""Blinks and muscle activity, which reach the scalp but are no part of the background's law."""

from __future__ import annotations

import numpy as np
import scipy

from eegxai_support.simulate.head import dipole_topography
from eegxai_support.simulate.recording import Recording

BLINK_PEAK = 100.0  # µV
BLINK_WIDTH = 0.3  # s, full width at half the height
BLINK_LOWERED = 20.0  # degrees that the eyes are below Fpz
MUSCLE_RMS = 15.0  # µV
MUSCLE_WIDTH = 0.3  # s
MUSCLE_LOW = 20.0  # Hz


def add_blinks(signal: np.ndarray, recording: Recording, suppressor: str | None, rng: np.random.Generator) -> None:
    """Add blinks to trials in place: a Gaussian peak with the field of a dipole behind the forehead."""
    topography = BLINK_PEAK * _topography("Fpz", BLINK_LOWERED, recording, suppressor)
    for trial, course in _events(len(signal), recording.blink_rate, BLINK_WIDTH, recording, rng):
        signal[trial] += np.outer(topography, course).astype(np.float32)


def add_muscle_activity(
    signal: np.ndarray, recording: Recording, suppressor: str | None, rng: np.random.Generator
) -> None:
    """Add bursts of fast noise at a temple, left or right, to trials in place."""
    sides = [_topography(electrode, 0.0, recording, suppressor) for electrode in ("T7", "T8")]
    low = min(MUSCLE_LOW, 0.4 * recording.sfreq)
    high_pass = scipy.signal.butter(4, low, "highpass", fs=recording.sfreq, output="sos")
    for trial, course in _events(len(signal), recording.muscle_rate, MUSCLE_WIDTH, recording, rng):
        noise = scipy.signal.sosfiltfilt(high_pass, rng.standard_normal(recording.n_times), padlen=0)
        noise *= MUSCLE_RMS / noise.std()
        signal[trial] += np.outer(sides[rng.integers(2)], noise * course).astype(np.float32)


def _topography(electrode: str, lowered: float, recording: Recording, suppressor: str | None) -> np.ndarray:
    """Field of a radial dipole, zero on the suppressor."""
    reached = np.array([name != suppressor for name in recording.ch_names])
    topography = np.zeros(len(reached))
    names = tuple(np.array(recording.ch_names)[reached].tolist())
    topography[reached] = dipole_topography(electrode, "radial", names, recording.head, lowered=lowered)
    return topography


def _events(n_trials: int, rate: float, width: float, recording: Recording, rng: np.random.Generator):
    """Draw events of a Poisson process: the trial and the Gaussian course of each."""
    for trial, number in enumerate(rng.poisson(rate * recording.duration, n_trials)):
        for peak in recording.tmin + recording.duration * rng.random(number):
            yield trial, recording.envelope(peak, width, "event")
