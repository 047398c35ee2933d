"""The four regimes, each a function from the options to what the classes look like without noise."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from eegxai_support.montages import electrode_info
from eegxai_support.simulate.artefacts import add_blinks, add_muscle_activity
from eegxai_support.simulate.head import dipole_topography
from eegxai_support.simulate.noise import EstimatedNoise, Noise
from eegxai_support.simulate.planted import drawn, new_labels, recording_of, without_class
from eegxai_support.simulate.recording import Recording, check, several
from eegxai_support.simulate.scenario import Scenario, SimulatedTrials, amplitude
from eegxai_support.trials import Trials, unknown_name

N_TRIALS = 400
ALONE = 0.1  # of a source's power


class Classes(NamedTuple):
    """What a regime is made of: `components` as in `Scenario`, their amplitude not yet set.

    A suppressor carries noise of the amplitude `shared` (channel,), in µV, as the other channels do, and nothing else.
    """

    names: tuple[str, ...]
    components: np.ndarray
    suppressor: str | None = None
    shared: np.ndarray | None = None


def simulate(
    regime: str,
    *,
    n_trials: int | None = None,
    snr_db: float = 0.0,
    seed: int = 0,
    background: Trials | None = None,
    **options,
) -> SimulatedTrials:
    """Simulate trials whose class-specific signal is known, in simulated noise or in a recording.

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
    n_trials : int, optional
        Number of trials, the classes balanced within each run and in random order: by default 400, or as many as
        the background has. More than that are refused, since a trial that came twice would stand on both sides of a
        split; of fewer, each of its runs and classes keeps its share.
    snr_db : float
        Signal-to-noise ratio in dB: mean power on the scalp of the noise-free class signal over that of
        the background, over the support of the truth. The support of a trial holds the channels and
        samples where ``abs(truth)`` is at least 5 % of its maximum.
    seed : int
        Seed of the trials. The same arguments give the same bits.
    background : Trials, optional
        Real trials, in which the sources are planted. Unit, sampling rate, window, channels, montage and metadata are
        theirs. New labels are drawn in equal numbers within each run and old class, so that nothing of the old classes
        is left in them; what these were stands in the metadata as ``background_class``. `snr_db` counts the
        background's own variance in each channel. A suppressor loses what it recorded. Fields of sources are those of
        the template's electrodes, in average reference, as the background should be; and a source is not filtered as
        the recording was.
    **options
        Those of the regime above. For every regime: `head` ("sphere", or "fsaverage" where MNE's template subject is
        installed), `blink_rate` and `muscle_rate` (0, events per second); and where there is no background: `sfreq`
        (250 Hz), `duration` (1 s), `tmin` (0 s, time of the first sample), `n_runs` (4), `ch_names` (electrodes of the
        10-05 system; by default the 64 of EEGBCI).

    Returns
    -------
    SimulatedTrials
        ``signal`` and ``truth`` in µV, common average reference (of all channels but the suppressor), with
        ``ideal_map``, ``ideal_log_likelihood()`` and ``ideal_accuracy``. Metadata: subject 1, session 1, runs 1 …
        `n_runs`. In a background, whose unit they have, no decoder is known to be ideal: there is
        ``estimated_log_likelihood()``.

    Raises
    ------
    ValueError
        Unknown regime, or an option out of its range; of a background: more trials than it has, an option that it
        decides, an option in µV where it has no unit, or a channel that is not in the 10-05 system.
    TypeError
        Unknown option.

    Warns
    -----
    UserWarning
        More than a tenth of a source's power lies where a filter has left nothing of the background.

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
    given = {name: value for name, value in options.items() if name in shared}
    recording = Recording(**given) if background is None else recording_of(background, given)
    classes = REGIMES[regime](recording, **{name: value for name, value in options.items() if name not in shared})
    check(np.isfinite(snr_db), f"snr_db is {snr_db}", "a finite number of dB")
    if background is not None:
        return _planted(background, recording, classes, n_trials, snr_db, seed)
    n_trials = N_TRIALS if n_trials is None else n_trials
    check(
        n_trials >= recording.n_runs >= 1,
        f"{n_trials} trials in {recording.n_runs} runs",
        "at least one trial in every run",
    )
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
    return Classes(_in_ms(latencies), components[:, None])


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
    return Classes(tuple(f"{f:g} Hz" for f in frequencies), components)


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
    return Classes(sources, components[:, None])


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
    courses = np.stack([recording.envelope(latency, width, "potential") for latency in latencies])
    components = np.einsum("c,kt->kct", topography, courses)
    return Classes(_in_ms(latencies), components[:, None], suppressor, shared)


REGIMES: dict[str, Callable[..., Classes]] = {
    "temporal": temporal,
    "spectral": spectral,
    "spatial": spatial,
    "suppressor": suppressor,
}


def _in_ms(latencies: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{1000 * latency:.0f} ms" for latency in latencies)


def _draw(recording: Recording, classes: Classes, n_trials: int, snr_db: float, seed: int) -> SimulatedTrials:
    noise = recording.background(classes.suppressor, classes.shared)
    rng = np.random.default_rng(seed)
    label, run = _design(n_trials, len(classes.names), recording.n_runs, rng)
    scenario, truth = _sources(classes, noise, label, snr_db, rng)
    signal = noise.draw(n_trials, rng)
    signal += truth
    _add_artefacts(signal, recording, classes.suppressor, rng)
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


def _planted(background: Trials, recording: Recording, classes: Classes, n_trials, snr_db, seed) -> SimulatedTrials:
    rng = np.random.default_rng(seed)
    background = drawn(background, n_trials, rng)
    label = new_labels(background, len(classes.names), rng)
    names = background.info.ch_names
    suppressor = None if classes.suppressor is None else names[recording.ch_names.index(classes.suppressor)]
    signal = without_class(background, suppressor, classes.shared, rng)
    _warn_of_filter(background, classes)
    scenario, truth = _sources(classes, EstimatedNoise.of(signal, background.sfreq), label, snr_db, rng)
    scenario = replace(scenario, unit=background.unit)
    signal += truth
    _add_artefacts(signal, recording, classes.suppressor, rng)
    metadata = background.metadata
    if background.label is not None:
        metadata = metadata.assign(background_class=np.array(background.class_names)[background.label])
    return SimulatedTrials(
        signal=signal,
        unit=background.unit,
        label=label,
        info=background.info,
        class_names=classes.names,
        metadata=metadata,
        truth=truth,
        tmin=background.tmin,
        scenario=scenario,
        suppressor=suppressor,
        artefacts=recording.blink_rate > 0 or recording.muscle_rate > 0,
    )


def _sources(classes: Classes, noise: Noise, label: np.ndarray, snr_db: float, rng) -> tuple[Scenario, np.ndarray]:
    """Return the law of the trials, and the noise-free signal of each."""
    scenario = Scenario(classes.components * amplitude(classes.components, noise, snr_db), noise)
    return scenario, _truth(scenario.components, label, rng)


def _add_artefacts(signal: np.ndarray, recording: Recording, suppressor: str | None, rng: np.random.Generator) -> None:
    if recording.blink_rate:
        add_blinks(signal, recording, suppressor, rng)
    if recording.muscle_rate:
        add_muscle_activity(signal, recording, suppressor, rng)


def _warn_of_filter(background: Trials, classes: Classes) -> None:
    """Warn of a source that would be alone where the recording was filtered."""
    low, high = background.info["highpass"], background.info["lowpass"]
    power = np.square(np.abs(np.fft.rfft(classes.components))).sum(axis=(0, 1, 2))
    frequency = np.fft.rfftfreq(classes.components.shape[-1], 1 / background.sfreq)
    width = frequency[1]  # the spectrum of a window is as wide: what is nearer to the band may be inside
    alone = power[(frequency < low - width) | (frequency > high + width)].sum() / power.sum()
    if alone > ALONE:
        warnings.warn(
            f"{alone:.0%} of the source's power lies outside the background's pass-band, {low:g}-{high:g} Hz, where it"
            " has nothing beside it: any decoder sees it there. Take another latency, width or frequency, or a"
            " background with a wider band.",
            stacklevel=4,
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
