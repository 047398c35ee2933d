"""Trials as a sum of pieces: independent components, frequencies, stretches of time, what one channel alone records.

Every decomposition is linear in the trials, and says how much power any weighted sum of its pieces has. So pieces can
be put together until they have as much power as a part that is in question, to the last fraction of a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mne
import numpy as np
import scipy

from eegxai_support.sources import matrices_of

AVERAGE_REFERENCE = 1e-3  # root mean square of the channels' mean, as a share of the signal's: below, it is subtracted
RIDGE = 1e-4  # of the mean variance, so that few samples of many channels do not predict each other perfectly
N_STRETCHES = 20  # of a trial
ROUNDING = 1e-9  # of power
MAINS = 50.0, 60.0  # Hz
LINE_WIDTH = 1.0  # Hz to either side


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of the trials of one recording.

    Parameters
    ----------
    inner : ndarray, shape (piece, piece)
        Sum over trials, channels and times of the product of two pieces: weights w have the power w' inner w.
    combined : callable
        Takes weights (piece,), returns the weighted sum of the pieces, shape (trial, channel, time).
    contiguous : bool
        Whether neighbours belong together: frequencies and times are drawn as one run, channels one by one.
    """

    inner: np.ndarray
    combined: Callable[[np.ndarray], np.ndarray]
    contiguous: bool = False

    def power(self, weights: np.ndarray) -> float:
        """Return the power of a weighted sum of pieces."""
        return float(weights @ self.inner @ weights)

    def holds(self, weights: np.ndarray) -> bool:
        """Whether a weighted sum of pieces is more than rounding."""
        return self.power(weights) > ROUNDING * np.trace(self.inner)

    def as_powerful(self, members: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Draw weights of other pieces that together have the power of `members`, or None where these have less.

        Parameters
        ----------
        members : ndarray of bool, shape (piece,)
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, shape (piece,)
            1 for each piece that is drawn, a fraction for the last, 0 for the rest and for all members.
        """
        weights, power = np.zeros(len(members)), 0.0
        target = self.power(members.astype(float))
        if not self.holds(members.astype(float)):
            return weights
        for piece in self._order(np.flatnonzero(~members), len(members), rng):
            # |s + f p|² = |s|² + 2 f s·p + f² |p|², which is to be the target: the positive root, if it is a fraction.
            mixed, own = self.inner[piece] @ weights, self.inner[piece, piece]
            if own > 0:
                fraction = (-mixed + np.sqrt(max(0.0, mixed**2 + own * (target - power)))) / own
                if fraction <= 1:
                    weights[piece] = fraction
                    return weights
            weights[piece] = 1
            power += 2 * mixed + own
        return None

    def _order(self, others: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return the other pieces in the order in which they are drawn."""
        if not self.contiguous or not len(others):
            return rng.permutation(others)
        return others[np.argsort((others - rng.choice(others)) % n)]  # from one upwards, and on from the lowest


def component_pieces(signal: np.ndarray, ica: mne.preprocessing.ICA) -> Pieces:
    """Return what each component puts on the scalp; the last piece is what they leave.

    ICA topographies are in average reference, while a recording may be against another electrode, which the eyes reach
    too: then every channel, also one at the back, holds a part of them. The sources are the same, since the unmixing
    ignores what all channels share; what of that each source explains is found by least squares and added to its
    topography.
    """
    unmixing, mixing = matrices_of(ica)
    sources = unmixing @ signal
    mean = (signal - mixing @ sources).mean(axis=1)
    flat = sources.swapaxes(0, 1).reshape(len(unmixing), -1)
    covariance = flat @ flat.T
    if np.square(mean).mean() > AVERAGE_REFERENCE**2 * np.square(signal).mean():
        mixing = mixing + np.linalg.lstsq(covariance, flat @ mean.ravel(), rcond=1e-10)[0]
    rest = np.eye(len(mixing)) - mixing @ unmixing
    scalp = np.einsum("nct,ndt->cd", signal, signal, optimize=True)
    # A piece is a matrix times the signal, so its products with others are traces of matrices and the covariance.
    matrices = np.concatenate([mixing.T[:, :, None] * unmixing[:, None, :], rest[None]])
    return _linear(signal, matrices, scalp)


def channel_pieces(signal: np.ndarray, channel: int) -> Pieces:
    """Return what one channel alone records, the first piece, and the signals of all others.

    To set a channel to zero takes two things at once: what happens at that electrode only, and its share of what the
    whole head sees, which is the brain's. The first is what makes a loose electrode a source of its own, so it alone is
    the part: the channel is replaced by its ridge regression on the others, as an interpolation would, but fitted to
    the recording. The average reference has put the channel into all others. They are taken against their own mean
    first, and the average reference is formed anew after the replacement.

    What is drawn against it are fractions of whole channels: what the others alone record has seldom as much power.
    """
    n = signal.shape[1]
    scalp = np.einsum("nct,ndt->cd", signal, signal, optimize=True)
    averaged = np.square(signal.mean(axis=1)).mean() <= AVERAGE_REFERENCE**2 * np.square(signal).mean()
    others = np.arange(n) != channel
    kept = np.eye(n)
    if averaged:
        kept -= others / (n - 1)  # the mean of the others, from every channel
    covariance = kept @ scalp @ kept.T
    among = covariance[np.ix_(others, others)]
    ridge = RIDGE * np.trace(among) / (n - 1) * np.eye(n - 1)
    kept[channel] = np.linalg.solve(among + ridge, covariance[others, channel]) @ kept[others]
    if averaged:
        kept -= kept.mean(axis=0)
    column = np.eye(n) - averaged / n
    whole = column.T[:, :, None] * np.eye(n)[:, None, :]  # each channel's signal, as it enters all of them
    return _linear(signal, np.concatenate([(np.eye(n) - kept)[None], whole[others]]), scalp)


def frequency_pieces(signal: np.ndarray) -> Pieces:
    """Return the signal at each frequency of the discrete cosine transform, k · sfreq / (2 · samples).

    The Fourier transform would take a trial for a period of something: a drift, which ends elsewhere than it began,
    jumps, and a jump has all frequencies. The cosine transform mirrors the trial at its ends instead.
    """
    spectrum = scipy.fft.dct(signal, norm="ortho")

    def combined(weights: np.ndarray) -> np.ndarray:
        return scipy.fft.idct(spectrum * weights.astype(spectrum.dtype), norm="ortho")

    power = np.square(spectrum, dtype=np.float64).sum(axis=(0, 1))
    return Pieces(np.diag(power), combined, contiguous=True)


def time_pieces(signal: np.ndarray) -> Pieces:
    """Return twenty stretches of each trial, less the channel's mean in the trial, which stays where one is removed."""
    centred = signal - signal.mean(axis=2, keepdims=True)
    stretch = stretches(signal.shape[2])
    power = np.bincount(stretch, np.square(centred, dtype=np.float64).sum(axis=(0, 1)))
    return Pieces(np.diag(power), lambda weights: centred * weights[stretch].astype(centred.dtype), contiguous=True)


def stretches(n_times: int) -> np.ndarray:
    """Return the stretch of each sample, shape (time,)."""
    return np.arange(n_times) * min(N_STRETCHES, n_times) // n_times


def _linear(signal: np.ndarray, matrices: np.ndarray, scalp: np.ndarray) -> Pieces:
    """Return pieces that are matrices (piece, channel, channel) times the signal."""
    flat = matrices.reshape(len(matrices), -1)
    inner = (matrices @ scalp).reshape(len(matrices), -1) @ flat.T

    def combined(weights: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, matrices, axes=1).astype(signal.dtype) @ signal

    return Pieces((inner + inner.T) / 2, combined)


def line_frequency(signal: np.ndarray, info: mne.Info) -> float | None:
    """Return the frequency of the mains, as `info` states it or by the higher peak; None above the pass-band."""
    highest = min(info["lowpass"] or np.inf, info["sfreq"] / 2)
    stated = info.get("line_freq")
    candidates = [each for each in ([stated] if stated else MAINS) if each - LINE_WIDTH < highest]
    power = np.square(np.abs(np.fft.rfft(signal)), dtype=np.float64).sum(axis=(0, 1))
    frequency = np.fft.rfftfreq(signal.shape[2], 1 / info["sfreq"])

    def peak(mains: float) -> float:
        away = np.abs(frequency - mains)
        inside, near = away <= LINE_WIDTH, (away > LINE_WIDTH) & (away <= 5 * LINE_WIDTH)
        return power[inside].mean() / max(power[near].mean(), np.finfo(float).tiny) if inside.any() & near.any() else 0

    return float(max(candidates, key=peak)) if candidates else None
