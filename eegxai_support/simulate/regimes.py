"""The four regimes, each a function from the options to what the classes look like without noise."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from eegxai_support.montages import electrode_info
from eegxai_support.simulate import noise as noises
from eegxai_support.simulate.artefacts import add_blinks, add_muscle_activity
from eegxai_support.simulate.head import dipole_topography
from eegxai_support.simulate.noise import Noise
from eegxai_support.simulate.recording import Recording, check, several
from eegxai_support.simulate.scenario import Scenario, SimulatedTrials, amplitude
from eegxai_support.trials import unknown_name


class Classes(NamedTuple):
    """What a regime is made of: `components` as in `Scenario`, their amplitude not yet set."""

    names: tuple[str, ...]
    components: np.ndarray
    noise: Noise
    suppressor: str | None = None


def simulate(regime: str, *, n_trials: int = 400, snr_db: float = 0.0, seed: int = 0, **options) -> SimulatedTrials:
    """Simulate trials whose class-specific signal is known.

    Parameters
    ----------
    regime : {"temporal", "spectral", "spatial", "suppressor"}
        What tells the classes apart.

        temporal: the latency of the peak of an event-related potential. Options `latencies` (s; four by default),
        `width` (0.1 s, full width at half the height), `source` ("Pz"), `orientation` ("radial" or "tangential").

        spectral: the frequency of an oscillatory burst, the same place and time in every class, with a random phase in
        every trial. Options `frequencies` ((6, 10, 22) Hz), `burst_time` (s; the middle), `burst_width` (s; 0.4 times
        the duration), `source` ("C3"), `orientation`.

        spatial: which of several dipoles is active, at the same time with the same course. Options `sources` (("C3",
        "C4", "Fz", "POz")), `latency` (s; the middle), `width` (0.2 s), `orientation`.

        suppressor: the latency of a peak, as in "temporal" with three classes, under strong noise with the topography
        of the source. One channel carries that noise only: no brain activity reaches it and it has its own reference,
        so the best decoder subtracts it although the signal is not there [2]_. Options `latencies`, `width`, `source`
        ("Cz"), `orientation`, `suppressor` (channel "Iz") and `shared_rms` (30 µV, of the noise where it is largest).
    n_trials : int
        Number of trials, the classes balanced within each run and in random order.
    snr_db : float
        Signal-to-noise ratio in dB: mean power on the scalp of the noise-free class signal over that of
        the background, over the support of the truth. The support of a trial holds the channels and
        samples where ``abs(truth)`` is at least 5 % of its maximum.
    seed : int
        Seed of the trials. The same arguments give the same bits.
    **options
        Those of the regime above, and for every regime: `sfreq` (250 Hz), `duration` (1 s), `tmin` (0 s, time of the
        first sample), `n_runs` (4), `ch_names` (electrodes of the 10-05 system; by default the 64 of EEGBCI), `head`
        ("sphere", or "fsaverage" where MNE's template subject is installed), `blink_rate` and `muscle_rate` (0, events
        per second).

    Returns
    -------
    SimulatedTrials
        ``signal`` and ``truth`` in µV, common average reference (of all channels but the suppressor), with
        ``ideal_map``, ``ideal_log_likelihood()`` and ``ideal_accuracy``. Metadata: subject 1, session 1, runs 1 …
        `n_runs`.

    Raises
    ------
    ValueError
        Unknown regime, or an option out of its range.
    TypeError
        Unknown option.

    Notes
    -----
    Forward model: the series for three concentric shells (brain, skull, scalp), electrodes moved onto the sphere; or
    the boundary elements and the cortex of fsaverage. Background: three orthogonal dipoles at each of several hundred
    places in the cortex, uncorrelated, power falling as 1/f, 10 µV on average over the channels; 1 µV of white sensor
    noise is added. Blinks are peaks of 100 µV and 0.3 s at the forehead; muscle activity is noise above 20 Hz in bursts
    of 0.3 s and 15 µV at one temple. Neither counts in `snr_db`. The design follows [1]_, whose trials came from
    another simulator; the definition of the ratio is ours.

    References
    ----------
    .. [1] Sujatha Ravindran & Contreras-Vidal (2023), Scientific Reports 13:17709, doi 10.1038/s41598-023-43871-8.
    .. [2] Haufe et al. (2014), NeuroImage 87, 96-110.
    """
    if regime not in REGIMES:
        raise unknown_name("regime", regime, REGIMES)
    shared = {field.name for field in fields(Recording)}
    known = shared | set(list(inspect.signature(REGIMES[regime]).parameters)[1:])
    for name in options:
        if name not in known:
            raise TypeError(f"simulate({regime!r}): {unknown_name('option', name, known)}")
    recording = Recording(**{name: value for name, value in options.items() if name in shared})
    classes = REGIMES[regime](recording, **{name: value for name, value in options.items() if name not in shared})
    check(
        n_trials >= recording.n_runs >= 1,
        f"{n_trials} trials in {recording.n_runs} runs",
        "at least one trial in every run",
    )
    check(np.isfinite(snr_db), f"snr_db is {snr_db}", "a finite number of dB")
    return _draw(recording, classes, n_trials, snr_db, seed)


def temporal(
    recording: Recording,
    latencies: tuple[float, ...] | None = None,
    width: float = 0.1,
    source: str = "Pz",
    orientation: str = "radial",
) -> Classes:
    """Peaks whose latency is the class."""
    latencies = recording.latencies(latencies, 4)
    courses = np.stack([recording.envelope(latency, width, "potential") for latency in latencies])
    components = np.einsum("c,kt->kct", recording.topography(source, orientation), courses)
    return Classes(_in_ms(latencies), components[:, None], recording.background)


def spectral(
    recording: Recording,
    frequencies: tuple[float, ...] = (6.0, 10.0, 22.0),
    burst_time: float | None = None,
    burst_width: float | None = None,
    source: str = "C3",
    orientation: str = "radial",
) -> Classes:
    """Bursts whose frequency is the class."""
    burst_time = recording.tmin + recording.duration / 2 if burst_time is None else burst_time
    burst_width = 0.4 * recording.duration if burst_width is None else burst_width
    frequencies = tuple(map(float, frequencies))
    check(
        len(set(frequencies)) == len(frequencies) >= 2 and all(0 < f < recording.sfreq / 2 for f in frequencies),
        f"frequencies are {frequencies}",
        f"two or more different ones between 0 and {recording.sfreq / 2:g} Hz, half the sampling rate",
    )
    envelope = recording.envelope(burst_time, burst_width, "burst")
    angle = 2 * np.pi * np.array(frequencies)[:, None] * (recording.times - burst_time)
    courses = np.stack([np.cos(angle), -np.sin(angle)], axis=1) * envelope
    components = np.einsum("c,kit->kict", recording.topography(source, orientation), courses)
    return Classes(tuple(f"{f:g} Hz" for f in frequencies), components, recording.background)


def spatial(
    recording: Recording,
    sources: tuple[str, ...] = ("C3", "C4", "Fz", "POz"),
    latency: float | None = None,
    width: float = 0.2,
    orientation: str = "radial",
) -> Classes:
    """Peaks whose place is the class."""
    latency = recording.tmin + recording.duration / 2 if latency is None else latency
    sources = several("sources", tuple(sources))
    topographies = np.stack([recording.topography(source, orientation) for source in sources])
    components = np.einsum("kc,t->kct", topographies, recording.envelope(latency, width, "potential"))
    return Classes(sources, components[:, None], recording.background)


def suppressor(
    recording: Recording,
    latencies: tuple[float, ...] | None = None,
    width: float = 0.1,
    source: str = "Cz",
    orientation: str = "radial",
    suppressor: str = "Iz",
    shared_rms: float = 30.0,
) -> Classes:
    """Peaks whose latency is the class, under noise that a channel without signal carries too."""
    check(shared_rms > 0, f"shared_rms is {shared_rms}", "a positive number of µV")
    if suppressor not in recording.ch_names:
        raise unknown_name("electrode", suppressor, recording.ch_names)
    check(len(recording.ch_names) >= 3, f"ch_names are {recording.ch_names}", "three or more, one the suppressor")
    check(suppressor != source, f"source and suppressor are both {source}", "a suppressor that no signal reaches")
    latencies = recording.latencies(latencies, 3)
    reached = np.array([name != suppressor for name in recording.ch_names])
    brain = tuple(np.array(recording.ch_names)[reached].tolist())
    topography = np.zeros(len(reached))
    topography[reached] = dipole_topography(source, orientation, brain, recording.head)
    shared = np.where(reached, topography, 1.0) * shared_rms
    noise = noises.background_with_suppressor(
        recording.ch_names, recording.head, recording.n_times, recording.sfreq, suppressor, shared
    )
    courses = np.stack([recording.envelope(latency, width, "potential") for latency in latencies])
    components = np.einsum("c,kt->kct", topography, courses)
    return Classes(_in_ms(latencies), components[:, None], noise, suppressor)


REGIMES: dict[str, Callable[..., Classes]] = {
    "temporal": temporal,
    "spectral": spectral,
    "spatial": spatial,
    "suppressor": suppressor,
}


def _in_ms(latencies: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{1000 * latency:.0f} ms" for latency in latencies)


def _draw(recording: Recording, classes: Classes, n_trials: int, snr_db: float, seed: int) -> SimulatedTrials:
    scenario = Scenario(classes.components * amplitude(classes.components, classes.noise, snr_db), classes.noise)
    rng = np.random.default_rng(seed)
    label, run = _design(n_trials, len(classes.names), recording.n_runs, rng)
    truth = _truth(scenario.components, label, rng)
    signal = classes.noise.draw(n_trials, rng)
    signal += truth
    if recording.blink_rate:
        add_blinks(signal, recording, classes.suppressor, rng)
    if recording.muscle_rate:
        add_muscle_activity(signal, recording, classes.suppressor, rng)
    return SimulatedTrials(
        signal=signal,
        unit="uV",
        label=label,
        info=electrode_info(recording.ch_names, recording.sfreq),
        class_names=classes.names,
        metadata=pd.DataFrame({"subject": 1, "session": 1, "run": run}),
        truth=truth,
        tmin=recording.tmin,
        scenario=scenario,
        suppressor=classes.suppressor,
        artefacts=recording.blink_rate > 0 or recording.muscle_rate > 0,
    )


def _design(n_trials: int, n_classes: int, n_runs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Class and run of each trial; the surplus classes of an uneven run move on, so that the total stays balanced."""
    run = np.sort(np.arange(n_trials) % n_runs) + 1
    label = np.arange(n_trials) % n_classes
    for r in range(1, n_runs + 1):
        label[run == r] = rng.permutation(label[run == r])
    return label, run


def _truth(components: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise-free signal of each trial, its phase drawn at random where it has one, float32."""
    n_components = components.shape[1]
    weight = np.ones((len(label), 1), np.float32)
    if n_components == 2:
        phase = rng.uniform(0, 2 * np.pi, len(label))
        weight = np.stack([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)
    components = components.astype(np.float32)
    truth = np.empty((len(label), *components.shape[2:]), np.float32)
    for k, component in enumerate(components):
        truth[label == k] = np.tensordot(weight[label == k], component, axes=1)
    return truth
