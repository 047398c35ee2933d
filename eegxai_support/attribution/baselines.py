"""What a trial may be compared with."""

from __future__ import annotations

import numpy as np
import scipy

from eegxai_support.trials import unknown_name

BASELINES = ("zero", "trial_mean", "phase_scrambled")


def make_baseline(x, kind: str, *, label=None, seed: int = 0) -> np.ndarray:
    """Return one baseline per trial.

    Parameters
    ----------
    x : array-like, shape (trial, channel, time)
    kind : {"zero", "trial_mean", "phase_scrambled", "mean_amplitude", "other_class"}
        zero: no signal.
        trial_mean: each channel's mean over the trial, constant in time.
        phase_scrambled: the trial with its Fourier phases turned at random, each frequency by the same angle on all
        channels, so that spectra and the correlations between channels stay and everything timed is lost [1]_.
        mean_amplitude: the trial's own phases with the mean amplitudes of all trials, so that a map says what the
        amplitudes of this trial add.
        other_class: a trial of another class, drawn at random; needs `label`.
    label : array-like of int, shape (trial,), optional
    seed : int

    Returns
    -------
    ndarray, shape (trial, channel, time), of the type of `x`; floats where integers would round

    Raises
    ------
    ValueError
        Unknown kind, `label` missing or of the wrong length, or only one class.

    References
    ----------
    .. [1] Prichard & Theiler (1994). Generating surrogate data for time series with several simultaneously measured
       variables. Phys. Rev. Lett. 73, 951.
    """
    x, rng = np.asarray(x), np.random.default_rng(seed)
    if x.ndim != 3:
        raise ValueError(f"x has shape {x.shape}; expected (trial, channel, time).")
    if kind == "zero":
        return np.zeros_like(x)
    if kind == "trial_mean":
        return np.broadcast_to(x.mean(2, keepdims=True), x.shape).copy()
    if kind == "phase_scrambled":
        return _phase_scrambled(x, rng)
    if kind == "mean_amplitude":
        spectrum = scipy.fft.rfft(x)
        return _rebuilt(np.abs(spectrum).mean(0) * np.exp(1j * np.angle(spectrum)), x)
    if kind == "other_class":
        return x[_of_other_class(label, len(x), rng)]
    raise unknown_name("baseline", kind, (*BASELINES, "mean_amplitude", "other_class"))


def _phase_scrambled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spectrum = scipy.fft.rfft(x)
    angle = rng.uniform(0, 2 * np.pi, (len(x), 1, spectrum.shape[2]))
    angle[..., 0] = 0  # zero frequency and Nyquist are real: they have no phase to turn
    if x.shape[2] % 2 == 0:
        angle[..., -1] = 0
    return _rebuilt(spectrum * np.exp(1j * angle), x)


def _rebuilt(spectrum: np.ndarray, x: np.ndarray) -> np.ndarray:
    return scipy.fft.irfft(spectrum, n=x.shape[2]).astype(np.result_type(x, np.float32))


def _of_other_class(label, n_trials: int, rng: np.random.Generator) -> np.ndarray:
    label = np.asarray(label)
    if label.shape != (n_trials,):
        raise ValueError(
            f"label has shape {label.shape}; baseline 'other_class' needs the class of each of the {n_trials} trials."
        )
    if len(np.unique(label)) < 2:
        raise ValueError("All trials are of one class; baseline 'other_class' needs trials of at least two.")
    return np.array([rng.choice(np.flatnonzero(label != own)) for own in label])
