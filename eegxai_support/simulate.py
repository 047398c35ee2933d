"""Simulated trials with a known answer: where, when and at which frequency the classes differ."""

from __future__ import annotations

from functools import lru_cache

import mne
import numpy as np
import pandas as pd

from eegxai_support.trials import MONTAGE, Trials, unknown_name

# The 64 electrodes of PhysioNet's EEGBCI, in its order.
EEGBCI_CHANNELS = tuple(
    "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6 Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8"
    " F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
    " Iz".split()
)
BACKGROUND_RMS = 10.0  # µV, mean over the channels: eyes-open resting EEG
SENSOR_RMS = 1.0  # µV, a good amplifier and electrode
SOURCE_RADIUS = 0.8  # of the head radius: 19 mm under the scalp, the depth of the cortex
SUPPORT_LEVEL = 0.05  # of the largest absolute value of the truth in a trial
_BATCH = 256  # trials whose spectra are in memory at a time


def simulate(regime: str, *, n_trials: int = 400, snr_db: float = 0.0, seed: int = 0, **options) -> Trials:
    """Simulate trials whose class-specific signal is known.

    Parameters
    ----------
    regime : {"spectral"}
        What tells the classes apart. "spectral": the frequency of an oscillatory burst, the same place
        and time in every class, with a random phase in every trial.
    n_trials : int
        Number of trials, the classes balanced within each run and in random order.
    snr_db : float
        Signal-to-noise ratio in dB: mean power on the scalp of the noise-free class signal over that of
        the background, over the support of the truth. The support of a trial holds the channels and
        samples where ``abs(truth)`` is at least 5 % of its maximum.
    seed : int
        Seed of the trials. The same arguments give the same bits.
    **options
        Options of the regime; those of "spectral" are the arguments of `spectral`.

    Returns
    -------
    Trials
        ``signal`` and ``truth`` in µV, common average reference. Metadata: subject 1, session 1, runs 1 … `n_runs`.

    Raises
    ------
    ValueError
        Unknown regime, or an option out of its range.
    TypeError
        Unknown option.

    Notes
    -----
    Forward model: MNE's four-shell sphere (brain, fluid, skull, scalp), electrodes moved onto it. Background:
    three orthogonal dipoles at each of several hundred places in the cortex, uncorrelated, power falling as 1/f,
    10 µV on average over the channels; 1 µV of white sensor noise is added. The design follows [1]_, whose
    trials came from another simulator; the definition of the ratio is ours.

    References
    ----------
    .. [1] Sujatha Ravindran & Contreras-Vidal (2023), Scientific Reports 13:17709, doi 10.1038/s41598-023-43871-8.
    """
    if regime not in REGIMES:
        raise unknown_name("regime", regime, REGIMES)
    return REGIMES[regime](n_trials, snr_db, seed, **options)


def spectral(
    n_trials: int,
    snr_db: float,
    seed: int,
    *,
    frequencies: tuple[float, ...] = (6.0, 10.0, 22.0),
    burst_time: float | None = None,
    burst_width: float | None = None,
    source: str = "C3",
    orientation: str = "radial",
    sfreq: float = 250.0,
    duration: float = 1.0,
    tmin: float = 0.0,
    n_runs: int = 4,
    ch_names: tuple[str, ...] = EEGBCI_CHANNELS,
) -> Trials:
    """Simulate bursts whose frequency is the class; called through `simulate`.

    Parameters
    ----------
    n_trials, snr_db, seed
        As in `simulate`.
    frequencies : tuple of float
        Frequency of each class in Hz, two at least. Three or more keep the gradients of the classes from being
        mirror images of each other.
    burst_time : float, optional
        Peak of the Gaussian envelope in seconds on the time axis of the trials; by default the middle.
    burst_width : float, optional
        Full width of the envelope at half its height in seconds; by default 0.4 times `duration`.
    source : str
        The electrode under which the dipole lies.
    orientation : {"radial", "tangential"}
        Radial points to the electrode; tangential lies along the scalp and points to the nose.
    sfreq : float
        Sampling rate in Hz.
    duration : float
        Length of a trial in seconds.
    tmin : float
        Time of the first sample in seconds.
    n_runs : int
        Number of runs that the trials are divided into.
    ch_names : tuple of str
        Electrodes of the 10-05 system; by default the 64 of EEGBCI.

    Returns
    -------
    Trials
    """
    n_times = round(duration * sfreq)
    burst_time = tmin + duration / 2 if burst_time is None else burst_time
    burst_width = 0.4 * duration if burst_width is None else burst_width
    frequencies, ch_names = tuple(map(float, frequencies)), tuple(ch_names)
    _check(n_trials >= n_runs >= 1, f"{n_trials} trials in {n_runs} runs", "at least one trial in every run")
    _check(np.isfinite(snr_db), f"snr_db is {snr_db}", "a finite number of dB")
    _check(n_times >= 2, f"{duration:g} s at {sfreq:g} Hz are {n_times} samples", "two at least")
    _check(
        len(set(frequencies)) == len(frequencies) >= 2 and all(0 < f < sfreq / 2 for f in frequencies),
        f"frequencies are {frequencies}",
        f"two or more different ones between 0 and {sfreq / 2:g} Hz, half the sampling rate",
    )
    _check(
        tmin <= burst_time < tmin + duration and burst_width > 0,
        f"the burst peaks at {burst_time:g} s and is {burst_width:g} s wide",
        f"a peak between {tmin:g} and {tmin + duration:g} s and a positive width",
    )
    topography = dipole_topography(source, orientation, ch_names)

    rng = np.random.default_rng(seed)
    label, run = _design(n_trials, len(frequencies), n_runs, rng)
    times = tmin + np.arange(n_times) / sfreq
    envelope = np.exp(-4 * np.log(2) * ((times - burst_time) / burst_width) ** 2)

    def burst(frequency, phase):
        return envelope * np.cos(2 * np.pi * frequency[:, None] * (times - burst_time) + phase[:, None])

    # The amplitude comes from a grid of phases, so that it depends on neither the seed nor the number of trials.
    grid = np.meshgrid(frequencies, np.linspace(0, 2 * np.pi, 16, endpoint=False))
    amplitude = _amplitude(topography, burst(*(axis.ravel() for axis in grid)), ch_names, snr_db)
    course = burst(np.array(frequencies)[label], rng.uniform(0, 2 * np.pi, n_trials))
    truth = (amplitude * topography).astype(np.float32)[:, None] * course.astype(np.float32)[:, None, :]
    signal = _background(n_trials, n_times, sfreq, ch_names, rng)
    signal += truth
    return Trials(
        signal=signal,
        unit="uV",
        label=label,
        info=_info(ch_names, sfreq),
        class_names=tuple(f"{f:g} Hz" for f in frequencies),
        metadata=pd.DataFrame({"subject": 1, "session": 1, "run": run}),
        truth=truth,
        tmin=tmin,
    )


REGIMES = {"spectral": spectral}


@lru_cache(maxsize=32)
def dipole_topography(electrode: str, orientation: str, ch_names: tuple[str, ...]) -> np.ndarray:
    """Potential of one cortical dipole under an electrode, average reference.

    Parameters
    ----------
    electrode : str
        Name in `ch_names`.
    orientation : {"radial", "tangential"}
    ch_names : tuple of str

    Returns
    -------
    ndarray, shape (channel,)
        Scaled to a largest absolute value of 1.
    """
    if electrode not in ch_names:
        raise unknown_name("electrode", electrode, ch_names)
    info, sphere = _head(ch_names)
    radial = info["chs"][ch_names.index(electrode)]["loc"][:3] - sphere["r0"]
    radial /= np.linalg.norm(radial)
    forwards = np.array([0.0, 1.0, 0.0])  # head coordinates: y runs to the nose
    tangential = forwards - radial * (radial @ forwards)
    directions = {"radial": radial, "tangential": tangential}
    if orientation not in directions:
        raise unknown_name("orientation", orientation, directions)
    potential = _lead_field(radial[None], ch_names) @ directions[orientation]
    potential /= np.abs(potential).max()
    potential.flags.writeable = False  # the cache hands out the same array again
    return potential


def _check(valid: bool, given: str, expected: str) -> None:
    if not valid:
        raise ValueError(f"Cannot simulate: {given}; expected {expected}.")


def _design(n_trials: int, n_classes: int, n_runs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Class and run of each trial; the surplus classes of an uneven run move on, so that the total stays balanced."""
    run = np.sort(np.arange(n_trials) % n_runs) + 1
    label = np.arange(n_trials) % n_classes
    for r in range(1, n_runs + 1):
        label[run == r] = rng.permutation(label[run == r])
    return label, run


def _info(ch_names: tuple[str, ...], sfreq: float) -> mne.Info:
    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose=False)
    try:
        info.set_montage(MONTAGE, verbose=False)
    except ValueError:
        known = mne.channels.make_standard_montage(MONTAGE).ch_names
        name = next(name for name in ch_names if name not in known)
        raise unknown_name("electrode", name, known) from None
    return info


@lru_cache(maxsize=8)
def _head(ch_names: tuple[str, ...]) -> tuple[mne.Info, mne.bem.ConductorModel]:
    """Electrodes and head model of the forward solution, the electrodes moved onto the sphere along its radii."""
    # MNE evaluates the potential where the electrodes are, which its formula allows only on the surface: off it by up
    # to 1 cm, as in a real montage, the potential beside a dipole is wrong by a third.
    sphere = mne.make_sphere_model("auto", "auto", _info(EEGBCI_CHANNELS, 1.0), verbose=False)
    info = _info(ch_names, 1.0)
    for channel in info["chs"]:
        radial = channel["loc"][:3] - sphere["r0"]
        channel["loc"][:3] = sphere["r0"] + radial * sphere.radius / np.linalg.norm(radial)
    return info, sphere


def _lead_field(direction: np.ndarray, ch_names: tuple[str, ...]) -> np.ndarray:
    """Potential of cortical dipoles along three axes, average reference, shape (channel, 3 · place)."""
    info, sphere = _head(ch_names)
    places = {"rr": sphere["r0"] + SOURCE_RADIUS * sphere.radius * direction, "nn": direction}
    space = mne.setup_volume_source_space(pos=places, sphere=sphere, mindist=0.0, verbose=False)
    forward = mne.make_forward_solution(info, None, space, sphere, meg=False, verbose=False)
    gain = forward["sol"]["data"]
    return gain - gain.mean(axis=0)


@lru_cache(maxsize=8)
def _background_components(ch_names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of the cortical background on the scalp and the variance along each in µV²."""
    # A Fibonacci lattice spreads the places evenly; below z = -0.3 lie the face and the neck.
    n = 500
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    radius = np.sqrt(1 - z**2)
    lattice = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)[z > -0.3]
    gain = _lead_field(lattice, ch_names)
    variance, axes = np.linalg.eigh(gain @ gain.T)
    # The average reference leaves no variance along the first axis, for sensor noise as for cortex.
    variance, axes = variance[1:], axes[:, 1:]
    return axes, variance * BACKGROUND_RMS**2 * len(ch_names) / variance.sum()


def _background_variance(ch_names: tuple[str, ...]) -> np.ndarray:
    """Variance of cortical and sensor noise in each channel in µV²."""
    axes, variance = _background_components(ch_names)
    return axes**2 @ (variance + SENSOR_RMS**2)


def _background(
    n_trials: int, n_times: int, sfreq: float, ch_names: tuple[str, ...], rng: np.random.Generator
) -> np.ndarray:
    """1/f cortical background and sensor noise, shape (trial, channel, time), float32 µV."""
    # Uncorrelated Gaussian dipoles give Gaussian scalp noise whose covariance is that of the lead field, so it is
    # drawn along the axes of that covariance: the same distribution as hundreds of dipoles, far cheaper. White
    # sensor noise has those axes too and joins in the spectrum.
    axes, variance = _background_components(ch_names)
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    power = np.zeros_like(frequency)
    power[1:] = 1 / frequency[1:]
    weight = np.full(len(frequency), 2.0)
    weight[0] = 1
    if n_times % 2 == 0:
        weight[-1] = 1
    power *= n_times / (weight @ power)  # unit variance in time
    spectrum = np.outer(variance, power) + SENSOR_RMS**2
    # irfft reads real and imaginary parts in every bin but DC and Nyquist, where it reads the real part alone.
    scale = np.sqrt(spectrum / weight).astype(np.float32)
    mixing = axes.astype(np.float32)
    signal = np.empty((n_trials, len(ch_names), n_times), dtype=np.float32)
    for start in range(0, n_trials, _BATCH):
        batch = signal[start : start + _BATCH]
        draw = rng.standard_normal((len(batch), *scale.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        np.matmul(mixing, np.fft.irfft(draw * scale, n_times, norm="ortho"), out=batch)
    return signal


def _amplitude(topography: np.ndarray, course: np.ndarray, ch_names: tuple[str, ...], snr_db: float) -> float:
    """Factor that brings topography x course to the signal-to-noise ratio over its support."""
    power = (topography[:, None] * course[:, None, :]) ** 2
    support = power >= SUPPORT_LEVEL**2 * power.max(axis=(1, 2), keepdims=True)
    background = np.broadcast_to(_background_variance(ch_names)[:, None], power.shape)
    return np.sqrt(10 ** (snr_db / 10) * background[support].mean() / power[support].mean())
