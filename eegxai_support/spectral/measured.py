"""What the recording itself shows in each frequency band, without any network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mne
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import ShortTimeFFT, detrend, welch
from scipy.signal.windows import hann
from tqdm import tqdm

from eegxai_support.model import needed
from eegxai_support.trials import Trials

RANK_TOLERANCE = 1e-10  # variances below this share of the largest are rounding

Bands = Mapping[str, tuple[float, float]]


def band_power(trials: Trials, bands: Bands, *, segment: float = 1.0) -> np.ndarray:
    """Return the mean power density of every trial in frequency bands.

    Welch's method: Hann windows of `segment` seconds that overlap by half. The density is averaged over the frequencies
    of a band, so that neither the width of a band nor the length of a trial changes the value for white noise. Averages
    and tests over trials want its logarithm: ``np.log(band_power(trials.crop(1, 4), bands))``.

    Parameters
    ----------
    trials : Trials
    bands : dict of str to (float, float)
        Lowest and highest frequency in Hz of each band, both included. Outside the pass-band of the recording there is
        only what its filter left.
    segment : float
        Length of a window in seconds. The frequencies lie 1 / `segment` apart, and what is less than twice that
        beside a band leaks into it. Longer windows resolve more and average less; only powers of the same `segment`
        can be compared.

    Returns
    -------
    ndarray, shape (trial, channel, band)
        In the squared unit of the signal per Hz.

    Raises
    ------
    ValueError
        A band without a frequency, or a segment that does not fit into the trials.
    """
    _check_bands(bands)
    freqs, density = welch(trials.signal, trials.sfreq, nperseg=_segment_length(trials, segment))
    return np.stack([density[..., _inside(freqs, *item)].mean(axis=-1) for item in bands.items()], axis=-1)


def event_related_desynchronisation(
    trials: Trials,
    bands: Bands,
    *,
    reference: tuple[float, float] = (-2.0, 0.0),
    active: tuple[float, float] = (1.0, 4.0),
    segment: float = 1.0,
) -> np.ndarray:
    r"""Return the change of band power from before the cue to the task, per class.

    .. math:: \mathrm{ERD} = 100 \, \frac{A - R}{R},

    with the power :math:`A` of the active and :math:`R` of the reference interval, each averaged over the trials of
    the class [1]_. Instead of band-pass filters, which smear the task into the reference, it takes the `band_power` of
    each interval by itself, with windows of one length, so that a stationary signal shows no change.

    Parameters
    ----------
    trials : Trials
        With time before the cue, for example ``load_eegbci(42, tmin=-2.0)``.
    bands : dict of str to (float, float)
        Lowest and highest frequency in Hz of each band, both included.
    reference, active : (float, float)
        Beginning and end in seconds after the cue; the sample at the end is left out.
    segment : float
        Length of a window in seconds, see `band_power`; at most that of the shorter interval.

    Returns
    -------
    ndarray, shape (class, channel, band)
        In percent: negative for desynchronisation (ERD), positive for synchronisation (ERS).

    Raises
    ------
    ValueError
        An interval outside the trials or shorter than a segment, a class without a trial, a band without a frequency.

    References
    ----------
    .. [1] Pfurtscheller & Lopes da Silva (1999). Event-related EEG/MEG synchronization and desynchronization: basic
       principles. Clin. Neurophysiol. 110(11), 1842-1857.
    """
    _check_classes(trials)
    active_power, reference_power = (
        _class_means(band_power(trials.crop(*interval), bands, segment=segment), trials)
        for interval in (active, reference)
    )
    return 100 * (active_power / reference_power - 1)


def erds_map(trials: Trials, stft: ShortTimeFFT, *, reference: tuple[float, float] = (-2.0, 0.0)) -> np.ndarray:
    """Return the change of power from before the cue over frequency and time, per class.

    As `event_related_desynchronisation`, for every slice of a short-time Fourier transform instead of one active
    interval. The reference is the mean over the slices whose windows lie within the reference interval.

    Parameters
    ----------
    trials : Trials
        With time before the cue.
    stft : scipy.signal.ShortTimeFFT
        The transform, as for `time_frequency_relevance`: frequencies in ``stft.f``, times in
        ``trials.tmin + stft.t(n_times)``.
    reference : (float, float)
        Beginning and end in seconds after the cue; at least as long as the window.

    Returns
    -------
    ndarray, shape (class, channel, freq, time)
        In percent: negative for desynchronisation. NaN where a window reaches beyond the trial.

    Raises
    ------
    ValueError
        A transform for another sampling rate, an interval outside the trials or shorter than the window, a class
        without a trial.
    """
    _check_classes(trials)
    before = trials.crop(*reference)
    n_times, n_reference = trials.signal.shape[2], before.signal.shape[2]
    if not np.isclose(stft.fs, trials.sfreq):
        raise ValueError(f"stft is for {stft.fs:g} Hz; expected the sampling rate of the trials, {trials.sfreq:g} Hz.")
    start = stft.lower_border_end[1]
    if n_reference < stft.m_num or stft.upper_border_begin(n_reference)[1] <= start:
        raise ValueError(
            f"No window of stft, {stft.m_num} samples every {stft.hop}, lies within the {n_reference} samples of the"
            " reference. Shorten the window or the hop, or take a longer reference."
        )
    first, last = start - stft.p_min, stft.upper_border_begin(n_times)[1] - stft.p_min
    change = np.full((trials.n_classes, trials.signal.shape[1], stft.f_pts, stft.p_num(n_times)), np.nan)
    for label, result in enumerate(change):
        chosen = trials.label == label
        base = _mean_spectrogram(before.signal[chosen], stft).mean(axis=-1, keepdims=True)
        result[..., first:last] = 100 * (_mean_spectrogram(trials.signal[chosen], stft) / base - 1)
    return change


@dataclass(frozen=True, eq=False)
class FilterBankCSP:
    """Common spatial patterns of each class against the rest, per frequency band.

    Parameters
    ----------
    patterns : ndarray, shape (class, band, component, channel)
        Contribution of a component to every channel, in the unit of the signal: the power of a component is 1 when
        that of the class and that of the rest are added. The sign of a pattern is arbitrary.
    eigenvalues : ndarray, shape (class, band, component)
        Share of the class in that sum, 0 … 1: above 0.5 where the class has more power than the rest.
    contrast : ndarray, shape (class, channel, band)
        What the components explain of the difference between class and rest, see `filter_bank_csp`.
    """

    patterns: np.ndarray
    eigenvalues: np.ndarray
    contrast: np.ndarray


def filter_bank_csp(trials: Trials, bands: Bands, *, n_components: int = 4, segment: float = 1.0) -> FilterBankCSP:
    r"""Fit common spatial patterns in every band, each class against the others.

    The filter bank of [1]_ with the CSP of [2]_: shrunk covariances, components alternately from both ends of the
    spectrum. A filter keeps the Fourier coefficients that `band_power` averages, so that all measured maps mean the
    same by a band: on trials of a few seconds, the edges of a time-domain filter are 2 to 3 Hz wide and let in the
    rhythm next to it. Component :math:`j` with pattern :math:`a_j` and eigenvalue :math:`\lambda_j` puts the
    power :math:`\lambda_j a_{jc}^2` into channel :math:`c` in trials of the class and
    :math:`(1 - \lambda_j) a_{jc}^2` in the others. The map to compare with that of a network is the difference that the
    kept components explain, as a share of the power of all components:

    .. math:: \mathrm{contrast}_c = \frac{\sum_{j \text{ kept}} (2 \lambda_j - 1) \, a_{jc}^2}{\sum_j a_{jc}^2}.

    With all components it is, but for the shrinkage, :math:`(P - Q) / (P + Q)` with the mean `band_power` :math:`P` of
    the class and :math:`Q` of the rest.

    Parameters
    ----------
    trials : Trials
        Two classes or more.
    bands : dict of str to (float, float)
        Lowest and highest frequency in Hz of each band, both included.
    n_components : int
        Components kept per class and band: at most the rank of the signal, one less than channels with an average
        reference.
    segment : float
        Length of a window in seconds, see `band_power`.

    Returns
    -------
    FilterBankCSP

    Raises
    ------
    ValueError
        One class only, a class without a trial, too many components, a band without a frequency, a
        segment that does not fit into the trials.
    ModuleNotFoundError
        scikit-learn is not installed.

    References
    ----------
    .. [1] Ang et al. (2008). Filter bank common spatial pattern (FBCSP) in brain-computer interface. IEEE Int. Joint
       Conf. on Neural Networks, 2390-2397.
    .. [2] Blankertz et al. (2008). Optimizing spatial filters for robust EEG single-trial analysis.
       IEEE Signal Process. Mag. 25(1), 41-56.
    """
    with needed("filter_bank_csp", extra="decoders"):
        import sklearn  # noqa: F401 - by MNE's CSP
    trials.require_classes("filter_bank_csp")
    if trials.n_classes < 2:
        raise ValueError(f"The trials have one class, {trials.class_names[0]!r}; CSP compares at least two.")
    _check_classes(trials)
    _check_bands(bands)
    windows, fits = _windows(trials, segment), []
    rank = _rank(windows)
    if not 1 <= n_components <= rank:
        raise ValueError(f"n_components is {n_components}; expected 1 to {rank}, the rank of the signal.")
    for name, band in tqdm(bands.items(), desc="Filter-bank CSP", unit="band", leave=False, delay=2):
        filtered = _filtered(windows, trials.sfreq, name, band)
        fits.append([_csp(filtered, trials.label == label, n_components, rank) for label in range(trials.n_classes)])
    patterns, eigenvalues, contrast = (np.stack([[fit[i] for fit in row] for row in fits], axis=1) for i in range(3))
    return FilterBankCSP(patterns, eigenvalues, contrast.transpose(0, 2, 1))


def _segment_length(trials: Trials, segment: float) -> int:
    n_times, n_segment = trials.signal.shape[2], round(segment * trials.sfreq)
    if not 2 <= n_segment <= n_times:
        raise ValueError(
            f"segment is {segment:g} s, {n_segment} samples; expected 2 to {n_times}, the length of the trials."
        )
    return n_segment


def _windows(trials: Trials, segment: float) -> np.ndarray:
    """Windows as in Welch's method, shape (trial, channel, window, time)."""
    n_segment = _segment_length(trials, segment)
    step = n_segment - n_segment // 2
    windows = sliding_window_view(trials.signal.astype(float), n_segment, axis=2)[:, :, ::step]
    return detrend(windows, type="constant") * hann(n_segment, sym=False)


def _filtered(windows: np.ndarray, sfreq: float, name: str, band: tuple[float, float]) -> np.ndarray:
    """Keep the Fourier coefficients of a band, the windows one after the other: shape (trial, channel, time)."""
    n_segment = windows.shape[-1]
    spectrum = np.fft.rfft(windows)
    spectrum[..., ~_inside(np.fft.rfftfreq(n_segment, 1 / sfreq), name, band)] = 0
    return np.fft.irfft(spectrum, n_segment).reshape(*windows.shape[:2], -1)


def _rank(windows: np.ndarray) -> int:
    """Return the number of independent channels, to the precision of float32 signals."""
    covariance = np.einsum("tcws,tdws->cd", windows, windows, optimize=True)
    return np.linalg.matrix_rank(covariance, rtol=RANK_TOLERANCE, hermitian=True)


def _csp(signal, of_class: np.ndarray, n_components: int, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patterns (component, channel), eigenvalues (component,) and contrast (channel,) of a class against the rest."""
    csp = mne.decoding.CSP(n_components, reg="ledoit_wolf", rank={"eeg": rank}, component_order="alternate")
    with mne.use_log_level("ERROR"):
        csp.fit(signal, ~of_class)  # eigenvalues are shares of the first class, False
    power = csp.patterns_**2
    kept = slice(n_components)
    contrast = (2 * csp.evals_[kept] - 1) @ power[kept] / power.sum(axis=0)
    return csp.patterns_[kept], csp.evals_[kept], contrast


def _inside(freqs: np.ndarray, name: str, band: tuple[float, float]) -> np.ndarray:
    low, high = band
    inside = (freqs >= low) & (freqs <= high)
    if not inside.any():
        raise ValueError(
            f"Band {name!r} ({low:g}-{high:g} Hz) holds none of the frequencies 0 to {freqs[-1]:g} Hz in steps of"
            f" {freqs[1]:g} Hz. Widen it, or take longer segments."
        )
    return inside


def _check_bands(bands: Bands) -> None:
    if not bands:
        raise ValueError("No band given; expected a dict such as {'mu': (8, 12), 'beta': (13, 30)}.")


def _check_classes(trials: Trials) -> None:
    trials.require_classes("A comparison of classes")
    empty = set(range(trials.n_classes)) - set(trials.label.tolist())
    if empty:
        names = ", ".join(trials.class_names[label] for label in sorted(empty))
        raise ValueError(f"No trial of the class {names}: every class needs at least one.")


def _class_means(values: np.ndarray, trials: Trials) -> np.ndarray:
    return np.stack([values[trials.label == label].mean(axis=0) for label in range(trials.n_classes)])


def _mean_spectrogram(signal: np.ndarray, stft: ShortTimeFFT) -> np.ndarray:
    """Average over trials the slices whose windows lie within them, shape (channel, freq, time)."""
    whole = {"p0": stft.lower_border_end[1], "p1": stft.upper_border_begin(signal.shape[-1])[1]}
    return sum(stft.spectrogram(trial, **whole) for trial in signal) / len(signal)  # one trial in memory at a time
