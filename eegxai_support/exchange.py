"""Trials, maps and filters as MNE's objects, for its plots and statistics, and the numbers of such objects back.

MNE has no unit for relevance. It takes what an EEG channel holds for volts, and whatever it shows of it for microvolts:
figures of time courses and heads, and data frames, hold a million times the number inside, spectra the square of that,
and not every function has an argument against it. So these functions keep one unit of the numbers that they are given,
a logit or a standard deviation of standardised trials, as one microvolt. Every figure and table of MNE's then shows the
numbers themselves, and only the name of the unit is wrong where it cannot be set (``units="logit"``). A channel of the
type "misc" would keep its numbers as they are, but has no place on the head.
"""

from __future__ import annotations

import mne
import numpy as np
from mne.time_frequency import EpochsSpectrum, EpochsSpectrumArray, Spectrum

from eegxai_support.attribution import Attribution
from eegxai_support.filters import Filters
from eegxai_support.model import needed
from eegxai_support.trials import Trials

# How many times the number inside MNE shows, by the type of the channel: µV for V, and mV/m² for V/m².
SHOWN = {"eeg": 1e6, "csd": 1e3}


def to_epochs(trials: Trials, maps: Attribution | np.ndarray | None = None) -> mne.EpochsArray:
    """Return trials, or the maps of trials, as epochs of MNE.

    Parameters
    ----------
    trials : Trials
        Their channels, times, classes and metadata become those of the epochs.
    maps : Attribution or ndarray, shape (trial, channel, time), optional
        Instead of the recording. Projectors of the recording, such as its reference, are then left out: they say
        nothing of a map.

    Returns
    -------
    mne.EpochsArray
        float64, without a baseline. A recording in µV is in volts. Of what has another unit, one unit is one µV, so
        that MNE shows the numbers themselves: give ``units="logit"`` to `mne.Evoked.plot_topomap` and
        ``units=dict(eeg="logit")`` to `mne.Epochs.plot_image`, and ``scalings`` to neither. ``event_id`` holds the
        classes that have a trial, 1 for the first; without classes all trials are "trial", and a continuous label is
        the column "label" of the metadata, in place of one of that name.

    Raises
    ------
    ValueError
        Maps of another shape than the trials, or channels that are neither EEG nor current source densities.

    See Also
    --------
    to_array : the numbers back, in the unit that they had.
    from_epochs : trials of epochs.

    Examples
    --------
    A data frame with a row for each trial, channel and sample, and the names of the classes:

    >>> table = xs.to_epochs(trials, attribution).to_data_frame(long_format=True)  # doctest: +SKIP

    A cluster test over space and time of whether maps differ from zero, in MNE's order of axes:

    >>> epochs = xs.to_epochs(trials, attribution)  # doctest: +SKIP
    >>> adjacency, _ = mne.channels.find_ch_adjacency(epochs.info, "eeg")  # doctest: +SKIP
    >>> data = epochs.get_data().transpose(0, 2, 1)  # doctest: +SKIP
    >>> mne.stats.spatio_temporal_cluster_1samp_test(data, adjacency=adjacency)  # doctest: +SKIP
    """
    values = trials.signal if maps is None else _of_trials(trials, "maps", maps, trials.signal.shape)
    info = trials.info if maps is None else _info_of_maps(trials, _named(maps))
    events, event_id, metadata = _events(trials)
    return mne.EpochsArray(
        values / _shown(info),
        info,
        events,
        tmin=trials.tmin,
        event_id=event_id,
        metadata=metadata,
        proj=False,
        verbose=False,
    )


def to_evoked(trials: Trials, maps: Attribution | np.ndarray | None = None) -> dict[str, mne.Evoked]:
    """Return the mean over the trials of each class, of the recording or of maps, as evoked responses of MNE.

    Parameters
    ----------
    trials : Trials
    maps : Attribution or ndarray, shape (trial, channel, time), optional
        Instead of the recording.

    Returns
    -------
    dict of str to mne.Evoked
        By class, those without a trial left out; "trial" for all where there are no classes. This is what
        `mne.viz.plot_compare_evokeds` takes. ``nave`` is the number of trials, ``comment`` says of what the mean is,
        and units are those of `to_epochs`.

    Raises
    ------
    ValueError
        See `to_epochs`.
    """
    epochs = to_epochs(trials, maps)
    what = "recording" if maps is None else _named(maps)
    evoked = {}
    for name, code in epochs.event_id.items():
        evoked[name] = epochs[epochs.events[:, 2] == code].average(picks="all")  # by name, "a" is also every "a/b"
        evoked[name].comment = f"{name}: {what}"
    return evoked


def to_spectrum(trials: Trials, relevance: np.ndarray) -> EpochsSpectrumArray:
    """Return relevance per frequency as a spectrum of each trial, for MNE.

    Parameters
    ----------
    trials : Trials
    relevance : ndarray, shape (trial, channel, freq)
        From `frequency_relevance`, or one output of `amplitude_gradients`: the frequencies of `numpy.fft.rfft`, zero
        included.

    Returns
    -------
    mne.time_frequency.EpochsSpectrumArray
        One unit of relevance is one µV²/Hz, which is what MNE then writes beside it. Relevance has a sign and is no
        power: leave decibels (``dB=False``), amplitudes and normalisation alone; ``plot`` then draws it, and calls
        channels with negative values dead in a warning. It adds up over frequencies:
        ``plot_topomap(bands, agg_fun=numpy.sum)`` shows what a band carries, where the default is a mean over its
        bins. A bin at the edge of a band counts as outside, so that a band from 0 Hz leaves out the zero frequency.

    Raises
    ------
    ValueError
        Another shape than that of the trials' spectra, or see `to_epochs`.

    See Also
    --------
    to_array : the numbers back, in the unit that they had.
    """
    n_trials, n_channels, n_times = trials.signal.shape
    relevance = _of_trials(trials, "relevance", relevance, (n_trials, n_channels, n_times // 2 + 1))
    info = _info_of_maps(trials, "relevance")
    freqs = np.fft.rfftfreq(n_times, 1 / trials.sfreq)
    events, event_id, metadata = _events(trials)
    spectrum = EpochsSpectrumArray(relevance / _shown(info) ** 2, info, freqs, events, event_id, verbose=False)
    with mne.use_log_level("WARNING"):
        spectrum.metadata = metadata
    return spectrum


def to_array(instance, dtype=np.float32) -> np.ndarray:
    """Return the numbers of epochs, evoked responses or spectra in the unit in which this package holds them.

    Parameters
    ----------
    instance : mne.BaseEpochs, mne.Evoked, mne.time_frequency.Spectrum or EpochsSpectrum
        All channels are taken, and it is as well what MNE's functions made of the results of `to_epochs`, `to_evoked`
        and `to_spectrum`.
    dtype : dtype
        MNE holds float64. As float32, maps are to the bit what `to_epochs` was given; in float64 they are rounded
        twice.

    Returns
    -------
    ndarray
        Epochs (trial, channel, time) in µV or the unit of the maps, evoked responses without the first axis, and
        spectra (trial, channel, freq) or (channel, freq).

    Raises
    ------
    TypeError
        Something else.
    ValueError
        Channels that are neither EEG nor current source densities.
    """
    if not isinstance(instance, mne.BaseEpochs | mne.Evoked | Spectrum | EpochsSpectrum):
        raise TypeError(
            f"instance is a {type(instance).__name__}; expected epochs, an evoked response, or a spectrum of either."
        )
    power = 2 if isinstance(instance, Spectrum | EpochsSpectrum) else 1
    options = {"verbose": False} if isinstance(instance, mne.BaseEpochs) else {}
    return (instance.get_data(picks="all", **options) * _shown(instance.info) ** power).astype(dtype)


def to_spatial_filter(
    filters: Filters | np.ndarray, patterns: np.ndarray, info: mne.Info
) -> mne.decoding.SpatialFilter:
    """Return spatial filters with their patterns for MNE.

    Parameters
    ----------
    filters : Filters or ndarray, shape (unit, channel)
        Of `Filters`, the spatial filters ``unit_filters``.
    patterns : ndarray, shape (unit, channel)
        From `filter_patterns` or `haufe_patterns`.
    info : mne.Info
        Of the trials.

    Returns
    -------
    mne.decoding.SpatialFilter
        As if it had been fitted on the result of `to_epochs`, in volts: filters in outputs per volt, patterns in volts
        per output. Figures of patterns show µV; with ``scalings=1e-6``, `mne.decoding.SpatialFilter.plot_filters` shows
        the weights for µV.

    Raises
    ------
    ValueError
        Filters and patterns that differ in shape or are of other channels, or channels that are neither EEG nor current
        source densities.
    ModuleNotFoundError
        scikit-learn is not installed, which MNE's decoding needs.
    """
    with needed("to_spatial_filter", extra="filters"):
        import sklearn  # noqa: F401, what MNE's decoding is built on

    from mne.decoding import SpatialFilter

    weights = np.asarray(filters.unit_filters if isinstance(filters, Filters) else filters, dtype=float)
    patterns = np.asarray(patterns, dtype=float)
    if weights.ndim != 2 or weights.shape != patterns.shape or weights.shape[1] != len(info.ch_names):
        raise ValueError(
            f"filters have shape {weights.shape} and patterns {patterns.shape}; expected (unit, {len(info.ch_names)})"
            " for both: a row per unit, a column per channel of info."
        )
    shown = _shown(info)[:, 0]
    return SpatialFilter(info, weights * shown, patterns=patterns / shown, patterns_method="haufe")


def _shown(info: mne.Info) -> np.ndarray:
    """Return how many times its number MNE shows of each channel, shape (channel, 1)."""
    types = info.get_channel_types()
    if others := sorted(set(types) - SHOWN.keys()):
        raise ValueError(
            f"Some channels are of the type {', '.join(others)}; expected EEG or current source densities ('csd'). Set"
            " the types of those that are EEG, info.set_channel_types({name: 'eeg'}), and leave out the others."
        )
    return np.array([[SHOWN[kind]] for kind in types])


def _of_trials(trials: Trials, name: str, maps: Attribution | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(maps.values if isinstance(maps, Attribution) else maps)
    if values.shape != shape:
        raise ValueError(
            f"{name} has shape {values.shape}; expected {shape}, that of {len(trials)} trials. Where only some of them"
            " were explained, give those: trials.subset(index)."
        )
    return values.astype(float)


def _named(maps: Attribution | np.ndarray) -> str:
    method = maps.method if isinstance(maps, Attribution) else ""
    return f"relevance ({method})" if method else "relevance"


def _info_of_maps(trials: Trials, description: str) -> mne.Info:
    info = trials.info.copy()
    with info._unlock():  # MNE has no public way to leave out projectors that were applied
        info["projs"] = []
    info["description"] = f"{description}, one unit of it as 1 µV"
    return info


def _events(trials: Trials) -> tuple[np.ndarray, dict[str, int], object]:
    """Return events a trial apart, the names of those classes that have a trial, and the metadata."""
    code = trials.label + 1 if trials.n_classes else np.ones(len(trials), int)  # to MNE, 0 is no event
    names = trials.class_names or ("trial",)
    event_id = {name: k for k, name in enumerate(names, start=1) if (code == k).any()}
    sample = np.arange(len(trials)) * trials.signal.shape[2]
    continuous = trials.label is not None and not trials.n_classes
    metadata = trials.metadata.assign(label=trials.label) if continuous else trials.metadata
    return np.column_stack([sample, np.zeros_like(sample), code]), event_id, metadata.reset_index(drop=True)
