"""Gaussian background with a known law: many cortical dipoles, sensor noise, and noise that channels share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from eegxai_support.simulate.head import lead_field

BACKGROUND_RMS = 10.0  # µV, mean over the channels: eyes-open resting EEG
SENSOR_RMS = 1.0  # µV, a good amplifier and electrode
SILENT = 1e-6  # of the largest variance: axes that a reference or an interpolation has emptied
FLOOR = 1e-3  # of an axis's mean power: where a filter has left nothing, a quotient by the power has no meaning
_BATCH = 256  # trials whose spectra are in memory at a time


@dataclass(frozen=True, eq=False)
class Noise:
    """Stationary Gaussian noise whose principal axes on the scalp are independent.

    Parameters
    ----------
    axes : ndarray, shape (channel, axis)
        Orthonormal.
    variance : ndarray, shape (axis,)
        Of the noise with a 1/f spectrum along each axis, in µV². White sensor noise comes on top of it.
    n_times : int
    sfreq : float
    """

    axes: np.ndarray
    variance: np.ndarray
    n_times: int
    sfreq: float

    @property
    def channel_variance(self) -> np.ndarray:
        """Variance in each channel in µV², shape (channel,)."""
        return self.axes**2 @ (self.variance + SENSOR_RMS**2)

    @property
    def spectrum(self) -> np.ndarray:
        """Mean squared coefficient of the orthonormal DFT, shape (axis, frequency), in µV²."""
        frequency = np.fft.rfftfreq(self.n_times, 1 / self.sfreq)
        # Trials are cut from a longer recording, whose drifts end up at 0 Hz: as much as at the next frequency.
        power = 1 / np.maximum(frequency, frequency[1])
        power *= self.n_times / (self.weight @ power)  # unit variance in time
        return np.outer(self.variance, power) + SENSOR_RMS**2

    @property
    def weight(self) -> np.ndarray:
        """Number of DFT coefficients that each frequency stands for, shape (frequency,)."""
        weight = np.full(self.n_times // 2 + 1, 2.0)
        weight[0] = 1
        if self.n_times % 2 == 0:
            weight[-1] = 1
        return weight

    def draw(self, n_trials: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise, shape (trial, channel, time), float32 µV."""
        # irfft reads real and imaginary parts in every bin but DC and Nyquist, where it reads the real part alone.
        scale = np.sqrt(self.spectrum / self.weight).astype(np.float32)
        mixing = self.axes.astype(np.float32)
        signal = np.empty((n_trials, len(mixing), self.n_times), dtype=np.float32)
        for start in range(0, n_trials, _BATCH):
            batch = signal[start : start + _BATCH]
            size = len(batch), len(mixing), scale.shape[1], 2
            white = rng.standard_normal(size, dtype=np.float32).view(np.complex64)[..., 0]
            # White in the channels, not along the axes: an eigenvector's sign is whatever the linear algebra of the
            # processor leaves, and a draw along it would be another one there. Projected, the sign appears twice.
            along = np.matmul(mixing.T, white) * scale
            np.matmul(mixing, np.fft.irfft(along, self.n_times, norm="ortho"), out=batch)
        return signal

    def whiten(self, x: np.ndarray) -> np.ndarray:
        """Return coefficients in which the noise is white, shape (…, axis · frequency), complex.

        The real part of the product of two of them, one conjugated, is the product of the signals in the metric of the
        inverse noise covariance.
        """
        coefficients = np.fft.rfft(self.axes.T @ x, norm="ortho") * np.sqrt(self.weight / self.spectrum)
        return coefficients.reshape(*x.shape[:-2], -1)


@dataclass(frozen=True, eq=False)
class EstimatedNoise(Noise):
    """Noise of a recording, as if it were stationary and Gaussian, and independent along its principal axes.

    Parameters
    ----------
    measured : ndarray, shape (axis, frequency)
        Mean squared coefficient of the orthonormal DFT, in the square of the trials' unit.
    of_channel : ndarray, shape (channel,)
        Variance in each channel.
    """

    measured: np.ndarray
    of_channel: np.ndarray

    @property
    def channel_variance(self) -> np.ndarray:
        """Variance in each channel, shape (channel,)."""
        return self.of_channel

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Mean squared coefficient of the orthonormal DFT, shape (axis, frequency)."""
        return np.maximum(self.measured, FLOOR * self.measured.mean(axis=1, keepdims=True))

    @classmethod
    def of(cls, signal: np.ndarray, sfreq: float) -> EstimatedNoise:
        """Estimate the law from trials without a source: principal axes, and the mean spectrum along each."""
        flat = signal.astype(np.float64).swapaxes(0, 1).reshape(signal.shape[1], -1)
        variance, axes = np.linalg.eigh(np.cov(flat, ddof=0))
        kept = variance > SILENT * variance[-1]
        power = np.square(np.abs(np.fft.rfft(axes[:, kept].T @ signal, norm="ortho"))).mean(axis=0)
        return cls(axes[:, kept], variance[kept], signal.shape[2], sfreq, power, flat.var(axis=1))


@lru_cache(maxsize=16)
def background(ch_names: tuple[str, ...], head: str, n_times: int, sfreq: float) -> Noise:
    """Cortical background and sensor noise, average reference."""
    return _noise(cortical_covariance(ch_names, head), n_times, sfreq)


def background_with_suppressor(
    ch_names: tuple[str, ...], head: str, n_times: int, sfreq: float, suppressor: str, shared: np.ndarray
) -> Noise:
    """Add 1/f noise of topography `shared` (µV); the suppressor carries it without any cortical background."""
    others = np.array([name != suppressor for name in ch_names])
    covariance = np.outer(shared, shared)
    cortex = cortical_covariance(tuple(name for name in ch_names if name != suppressor), head)
    covariance[np.ix_(others, others)] += cortex
    return _noise(covariance, n_times, sfreq)


@lru_cache(maxsize=16)
def cortical_covariance(ch_names: tuple[str, ...], head: str) -> np.ndarray:
    """Covariance of uncorrelated dipoles all over the cortex in µV², average reference, shape (channel, channel)."""
    # A Fibonacci lattice spreads the places evenly; below z = -0.3 lie the face and the neck.
    n = 500
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    radius = np.sqrt(1 - z**2)
    lattice = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)[z > -0.3]
    gain = lead_field(lattice, ch_names, head)
    covariance = gain @ gain.T
    covariance = covariance * BACKGROUND_RMS**2 * len(ch_names) / np.trace(covariance)
    covariance.flags.writeable = False  # the cache hands out the same array again
    return covariance


def _noise(covariance: np.ndarray, n_times: int, sfreq: float) -> Noise:
    # Uncorrelated Gaussian dipoles give Gaussian scalp noise whose covariance is that of the lead field, so it is
    # drawn along the axes of that covariance: the same distribution as hundreds of dipoles, far cheaper. White
    # sensor noise has those axes too and joins in the spectrum. The average reference leaves no variance along the
    # first axis, for sensor noise as for cortex.
    variance, axes = np.linalg.eigh(covariance)
    variance.flags.writeable = axes.flags.writeable = False  # as above
    return Noise(axes[:, 1:], variance[1:], n_times, sfreq)
