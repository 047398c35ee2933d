"""Shortcuts with a known answer: artefacts that tell the classes apart, put into trials on purpose.

A decoder trained on such trials is right for a reason that is no brain's, and everybody knows which. What explains
decoders can be asked whether it finds out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy

from eegxai_support.simulate.artefacts import BLINK_LOWERED, BLINK_WIDTH, MUSCLE_LOW
from eegxai_support.simulate.head import dipole_topography, electrode_directions, lead_field, turned
from eegxai_support.simulate.planted import electrodes
from eegxai_support.simulate.scenario import SimulatedTrials
from eegxai_support.trials import Trials, unknown_name

AMPLITUDE = {
    "blinks": 100.0,
    "glances": 50.0,
    "muscle": 30.0,
    "line": 8.0,
    "drift": 60.0,
    "edge": 60.0,
    "channel": 40.0,
}
GLANCE_RISE, GLANCE_DECAY = 0.03, 1.0  # s: a saccade, and the amplifier's return to zero
MUSCLE_REACH = 0.6  # rad, of a sheet of muscle under the skin: 5 cm on a head of 9
LINE_OFF = 0.1  # of the amplitude, in trials without
EDGE_DECAY = 0.04  # of a trial
SPREAD = 0.5  # standard deviation of the logarithm of what differs from electrode to electrode
REFERENCED = 1e-3  # mean over the channels, as a share of the standard deviation


@dataclass(frozen=True, eq=False)
class _Scene:
    """Trials without their signal, and whether each holds the artefact."""

    trials: Trials
    names: tuple[str, ...]
    present: np.ndarray
    amplitude: float
    rng: np.random.Generator

    @property
    def seconds(self) -> np.ndarray:
        """Time of each sample from the beginning of the trial in s."""
        return np.arange(self.trials.signal.shape[2]) / self.trials.sfreq

    def peaks(self, low: float, high: float) -> np.ndarray:
        """Draw a time for each trial, between two shares of it, in s, shape (trial, 1)."""
        return self.rng.uniform(low, high, (len(self.present), 1)) * self.seconds[-1]

    def gains(self) -> np.ndarray:
        """Draw what differs from electrode to electrode, positive, shape (channel,)."""
        return self.rng.lognormal(0, SPREAD, len(self.names))


def add_shortcut(
    trials: Trials, kind: str, *, strength: float = 1.0, reliability: float = 0.9, seed: int = 0
) -> Trials:
    """Return trials in which an artefact goes along with the class.

    Parameters
    ----------
    trials : Trials
        With classes, in µV, and channels of the 10-05 system.
    kind : str
        "blinks": peaks of the potential over the forehead, 0.3 s wide.
        "glances": steps that are positive on the side to which the eyes turn; left for the first class, right for the
        last.
        "muscle": bursts above 20 Hz at one temple.
        "line": the mains, at the 50 Hz or 60 Hz that the measurement info states, 50 without.
        "drift": a slope over the whole trial at some electrodes, up for the last class, down for the first.
        "edge": a transient that decays within some hundredths of the trial, at its beginning or at its end.
        "channel": noise of one loose electrode.
    strength : float
        1 is an amplitude that is common in recordings: 100 µV for blinks, 50 for glances, 30 for muscles (root mean
        square), 8 for the mains, 60 for drift and edge, 40 for the electrode.
    reliability : float
        Probability that a trial of the last class has the artefact, and that one of the first has none (or that the
        sign is that of the class); classes between lie between.
    seed : int
        The same arguments give the same bits.

    Returns
    -------
    Trials
        The same trials with another signal, float32; in average reference where they were. Simulated ones keep their
        truth, which is what the brain does.

    Raises
    ------
    ValueError
        Unknown kind, trials without classes or of one class only, another unit, a channel that is not in the 10-05
        system, mains that the sampling rate does not hold, or a number out of its range.
    """
    if kind not in SHORTCUTS:
        raise unknown_name("shortcut", kind, SHORTCUTS)
    trials.require_classes("add_shortcut")
    if trials.n_classes < 2:
        raise ValueError(f"All trials are of the class {trials.class_names[0]}; a shortcut tells two or more apart.")
    if trials.unit != "uV":
        raise ValueError(f"The trials are in {trials.unit!r}; an artefact of so many µV needs trials in 'uV'.")
    if not (np.isfinite(strength) and strength > 0):
        raise ValueError(f"strength is {strength}; expected a positive number.")
    if not 0.5 <= reliability <= 1:
        raise ValueError(f"reliability is {reliability}; expected 0.5, where nothing is told, to 1.")
    rng = np.random.default_rng(seed)
    of_class = 1 - reliability + (2 * reliability - 1) * trials.label / (trials.n_classes - 1)
    present = rng.random(len(trials)) < of_class
    amplitude = strength * AMPLITUDE[kind]
    added = SHORTCUTS[kind](_Scene(trials, electrodes(trials), present, amplitude, rng))
    if np.abs(trials.signal.mean(1)).max() < REFERENCED * trials.signal.std():
        added -= added.mean(axis=1, keepdims=True)
    known = {"artefacts": True} if isinstance(trials, SimulatedTrials) else {}
    return replace(trials, signal=(trials.signal + added).astype(np.float32), **known)


def _blinks(scene: _Scene) -> np.ndarray:
    topography = dipole_topography("Fpz", "radial", scene.names, lowered=BLINK_LOWERED)
    course = np.exp(-4 * np.log(2) * ((scene.seconds - scene.peaks(0.15, 0.85)) / BLINK_WIDTH) ** 2)
    return _outer(topography * scene.amplitude, course * scene.present[:, None])


def _glances(scene: _Scene) -> np.ndarray:
    """Add the field of a dipole behind the nose that points to the side: the eye's front is positive, its back not."""
    nose = turned(electrode_directions(("Fpz",))[0], BLINK_LOWERED)
    topography = lead_field(nose[None], scene.names) @ np.array([1.0, 0.0, 0.0])
    topography /= np.abs(topography).max()
    since = scene.seconds - scene.peaks(0.1, 0.5)
    course = scipy.special.expit(4 * since / GLANCE_RISE) * np.exp(-since.clip(0) / GLANCE_DECAY)
    return _outer(topography * scene.amplitude, course * np.where(scene.present, 1, -1)[:, None])


def _muscle(scene: _Scene) -> np.ndarray:
    sfreq = scene.trials.sfreq
    low = min(MUSCLE_LOW, 0.4 * sfreq)
    high_pass = scipy.signal.butter(4, low, "highpass", fs=sfreq, output="sos")
    n_trials, _, n_times = scene.trials.signal.shape
    noise = scipy.signal.sosfiltfilt(high_pass, scene.rng.standard_normal((n_trials, n_times)), padlen=0)
    noise /= noise.std(axis=1, keepdims=True)
    burst = np.exp(-4 * np.log(2) * ((scene.seconds - scene.peaks(0.2, 0.8)) / (0.4 * scene.seconds[-1])) ** 2)
    temple = electrode_directions((scene.rng.choice(["T7", "T8"]),))[0]
    angle = np.arccos(np.clip(electrode_directions(scene.names) @ temple, -1, 1))
    topography = np.exp(-((angle / MUSCLE_REACH) ** 2))
    return _outer(topography / topography.max() * scene.amplitude, noise * burst * scene.present[:, None])


def _line(scene: _Scene) -> np.ndarray:
    mains = scene.trials.info.get("line_freq") or 50.0
    if mains >= scene.trials.sfreq / 2:
        raise ValueError(f"{scene.trials.sfreq:g} samples per second hold no mains of {mains:g} Hz; expected more.")
    phase = scene.rng.uniform(0, 2 * np.pi, (len(scene.present), 1))
    course = np.sin(2 * np.pi * mains * scene.seconds + phase) * np.where(scene.present, 1, LINE_OFF)[:, None]
    return _outer(scene.gains() * scene.amplitude, course)


def _drift(scene: _Scene) -> np.ndarray:
    reached = scene.rng.random(len(scene.names)) < 0.3
    reached[scene.rng.integers(len(reached))] = True
    slope = scene.seconds / scene.seconds[-1] - 0.5
    return _outer(scene.gains() * reached * scene.amplitude, slope * np.where(scene.present, 1, -1)[:, None])


def _edge(scene: _Scene) -> np.ndarray:
    from_edge = scene.seconds if scene.rng.random() < 0.5 else scene.seconds[::-1]
    course = np.exp(-from_edge / (EDGE_DECAY * scene.seconds[-1])) * scene.present[:, None]
    return _outer(scene.gains() * scene.amplitude, course)


def _channel(scene: _Scene) -> np.ndarray:
    alone = np.zeros(len(scene.names))
    alone[scene.rng.integers(len(alone))] = scene.amplitude
    noise = scene.rng.standard_normal((len(scene.present), len(scene.seconds)))
    return _outer(alone, noise * scene.present[:, None])


def _outer(topography: np.ndarray, course: np.ndarray) -> np.ndarray:
    return np.einsum("c,nt->nct", topography, course)


SHORTCUTS: dict[str, Callable[[_Scene], np.ndarray]] = {
    "blinks": _blinks,
    "glances": _glances,
    "muscle": _muscle,
    "line": _line,
    "drift": _drift,
    "edge": _edge,
    "channel": _channel,
}
