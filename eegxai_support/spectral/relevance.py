"""From relevance over time to relevance over frequency, and over frequency and time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import ShortTimeFFT

from eegxai_support.attribution import Attribution
from eegxai_support.attribution.factors import factors, multiplier_of
from eegxai_support.spectral.fourier import bin_weights

COEFFICIENTS = 2**20  # transformed at a time, 16 bytes each


def frequency_relevance(attribution: Attribution, x) -> np.ndarray:
    r"""Return how much of each trial's map every channel and frequency carries.

    A map that is a multiplier :math:`m` times the change :math:`d` of the input from its baseline goes through a linear
    transform as through any other layer: each Fourier coefficient gets what it adds to the sum of the map [1]_. With
    :math:`D = \mathrm{rfft}(d)` and :math:`M = \mathrm{rfft}(m)`,

    .. math:: R_k = \frac{w_k}{T} \, \mathrm{Re}(D_k \overline{M_k}),

    where :math:`w_k` is 1 at zero frequency and, for an even number of samples :math:`T`, at the Nyquist frequency, and
    2 elsewhere. By Parseval's theorem the relevance of a trial's channel sums to the sum of its map. Nothing is divided
    by the input, so the relevance is as stable as the map.

    Parameters
    ----------
    attribution : Attribution
        Of a method that is linear in its input, so that ``values = multiplier * (x - baseline)``.
    x : ndarray or Tensor, shape (trial, channel, time)
        The trials that were explained.

    Returns
    -------
    ndarray, shape (trial, channel, freq)
        In units of the output, ``freq = time // 2 + 1`` as in `numpy.fft.rfft`; of the attribution's type, computed in
        float64.

    Raises
    ------
    ValueError
        The attribution has no multiplier, or `x` is not what was explained.

    See Also
    --------
    time_frequency_relevance

    Notes
    -----
    Of "integrated_gradients" this is cross-domain integrated gradients [2]_ in the frequency domain: the Fourier
    transform is linear, so the straight line from one spectrum to another is the straight line from baseline to trial.
    The relevance sums to f(x) - f(baseline) as closely as the map does. The baseline
    ``irfft(A * exp(1j * angle(rfft(x))), x.shape[-1])``, the trials' own phases with other amplitudes A, asks what the
    amplitudes alone do.

    References
    ----------
    .. [1] Vielhaben, Lapuschkin, Montavon & Samek (2024). Explainable AI for time series via virtual inspection layers.
       Pattern Recognition 150, 110309.
    .. [2] Kechris, Dan & Atienza (2025). Time series saliency maps: explaining models across multiple domains.
       arXiv:2505.13100.
    """
    n_times = multiplier_of(attribution).shape[-1]
    return _relevance(attribution, x, np.fft.rfft, np.fft.rfft, bin_weights(n_times) / n_times)


def time_frequency_relevance(attribution: Attribution, x, stft: ShortTimeFFT) -> np.ndarray:
    r"""Return how much of each trial's map every channel, frequency and time slice carries.

    The short-time Fourier transform writes the change :math:`d` of the input from its baseline as a sum of dual
    windows, one per frequency and slice, weighted by coefficients. Each coefficient gets what it adds to the sum of the
    map [1]_. With :math:`D` the transform of :math:`d` by the window and :math:`M` that of the multiplier by the dual
    window, both of length :math:`L` = ``stft.mfft``,

    .. math:: R_{kq} = \frac{w_k}{L} \, \mathrm{Re}(D_{kq} \overline{M_{kq}}),

    where :math:`w_k` is 1 at zero frequency and, for even :math:`L`, at the Nyquist frequency, and 2 elsewhere. The
    relevance of a trial's channel sums to the sum of its map, slices that reach beyond the trial included.

    Parameters
    ----------
    attribution : Attribution
        Of a method that is linear in its input, so that ``values = multiplier * (x - baseline)``.
    x : ndarray or Tensor, shape (trial, channel, time)
        The trials that were explained.
    stft : scipy.signal.ShortTimeFFT
        One-sided and invertible. Its scaling and phase shift do not change the relevance.

    Returns
    -------
    ndarray, shape (trial, channel, freq, time)
        In units of the output, at the frequencies ``stft.f`` and the times ``stft.t(x.shape[-1])``, in seconds from the
        first sample; of the attribution's type, computed in float64.

    Raises
    ------
    ValueError
        The attribution has no multiplier, `x` is not what was explained or shorter than half a window, or `stft` is
        two-sided or not invertible.

    See Also
    --------
    frequency_relevance

    Notes
    -----
    Of "integrated_gradients" this is cross-domain integrated gradients [2]_ in the time-frequency domain, since the
    short-time Fourier transform and its inverse are linear.

    A slice overlaps its neighbours, so the relevance of a slice is spread over the length of a window.

    References
    ----------
    .. [1] Vielhaben, Lapuschkin, Montavon & Samek (2024). Explainable AI for time series via virtual inspection layers.
       Pattern Recognition 150, 110309.
    .. [2] Kechris, Dan & Atienza (2025). Time series saliency maps: explaining models across multiple domains.
       arXiv:2505.13100.
    """
    _check_invertible(stft)
    weights = bin_weights(stft.mfft)[:, None] / stft.mfft
    return _relevance(attribution, x, partial(_slices, stft, stft.win), partial(_slices, stft, stft.dual_win), weights)


def _relevance(attribution, x, analyse: Callable, adjoint: Callable, weights: np.ndarray) -> np.ndarray:
    """Return the share of each coefficient in the sum of its channel's map.

    `analyse` turns a signal into coefficients, and `weights` times `adjoint` is the adjoint of its inverse.
    """
    multiplier = multiplier_of(attribution)
    n_trials, n_channels, n_times = multiplier.shape
    shape = (n_channels, *analyse(np.zeros(n_times)).shape)
    relevance = np.empty((n_trials, *shape), multiplier.dtype)
    batch_size = max(1, COEFFICIENTS // int(np.prod(shape)))
    for rows, each, change in factors(attribution, x, batch_size):
        relevance[rows] = weights * (analyse(change) * adjoint(each).conj()).real
    return relevance


def _check_invertible(stft: ShortTimeFFT) -> None:
    if not stft.onesided_fft:
        raise ValueError(f"stft has fft_mode={stft.fft_mode!r}; expected 'onesided', since trials are real.")
    if not stft.invertible:
        raise ValueError(f"stft is not invertible: choose a hop below {stft.hop} or another window.")
    overlap = np.bincount(np.arange(stft.m_num) % stft.hop, stft.win * stft.dual_win, stft.hop)
    if not np.allclose(overlap, 1):
        raise ValueError("stft does not rebuild a signal: its dual_win is not dual to its win. Leave dual_win out.")


def _slices(stft: ShortTimeFFT, window: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the transform of every slice under any window, shape (..., freq, slice).

    Without the phase shift, which drops out of the product of two transforms.
    """
    n_times = x.shape[-1]
    before = stft.m_num_mid - stft.p_min * stft.hop
    after = (stft.p_max(n_times) - 1) * stft.hop - stft.m_num_mid + stft.m_num - n_times
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])
    slices = sliding_window_view(padded, stft.m_num, axis=-1)[..., :: stft.hop, :]
    return np.fft.rfft(slices * window, stft.mfft).swapaxes(-1, -2)
