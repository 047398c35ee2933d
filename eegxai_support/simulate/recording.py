"""What a simulated recording is, whatever tells its classes apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eegxai_support.montages import EEGBCI_CHANNELS
from eegxai_support.simulate import noise as noises
from eegxai_support.simulate.head import dipole_topography
from eegxai_support.simulate.noise import Noise
from eegxai_support.trials import unknown_name


@dataclass(frozen=True)
class Recording:
    """Options that all regimes share; see `simulate`."""

    sfreq: float = 250.0
    duration: float = 1.0
    tmin: float = 0.0
    n_runs: int = 4
    ch_names: tuple[str, ...] = EEGBCI_CHANNELS
    head: str = "sphere"
    blink_rate: float = 0.0
    muscle_rate: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "ch_names", several("ch_names", tuple(self.ch_names)))
        check(self.n_times >= 2, f"{self.duration:g} s at {self.sfreq:g} Hz are {self.n_times} samples", "two at least")
        for rate in ("blink_rate", "muscle_rate"):
            value = getattr(self, rate)
            check(0 <= value < np.inf, f"{rate} is {value}", "a number of events per second, 0 or more")

    @property
    def n_times(self) -> int:
        """Samples of a trial."""
        return round(self.duration * self.sfreq)

    @cached_property
    def times(self) -> np.ndarray:
        """Time of each sample in seconds, shape (time,)."""
        return self.tmin + np.arange(self.n_times) / self.sfreq

    def background(self, suppressor: str | None, shared: np.ndarray | None) -> Noise:
        """Noise without artefacts."""
        about = self.ch_names, self.head, self.n_times, self.sfreq
        if suppressor is None:
            return noises.background(*about)
        return noises.background_with_suppressor(*about, suppressor, shared)

    def envelope(self, peak: float, width: float, what: str) -> np.ndarray:
        """Gaussian over the time axis; `width` is its full width at half its height."""
        end = self.tmin + self.duration
        check(
            self.tmin <= peak < end and width > 0,
            f"the {what} peaks at {peak:g} s and is {width:g} s wide",
            f"a peak between {self.tmin:g} and {end:g} s and a positive width",
        )
        return np.exp(-4 * np.log(2) * ((self.times - peak) / width) ** 2)

    def latencies(self, given: tuple[float, ...] | None, n: int) -> tuple[float, ...]:
        """Latencies in s; by default n of them evenly from 20 to 80 % of a trial."""
        if given is None:
            return tuple(np.round(self.tmin + self.duration * np.linspace(0.2, 0.8, n), 3).tolist())
        return several("latencies", tuple(map(float, given)))

    def topography(self, source: str, orientation: str) -> np.ndarray:
        """Field of a dipole under one of the electrodes, shape (channel,)."""
        if source not in self.ch_names:
            raise unknown_name("electrode", source, self.ch_names)
        return dipole_topography(source, orientation, self.ch_names, self.head)


def check(valid: bool, given: str, expected: str) -> None:
    """Raise the error of an option that is out of its range."""
    if not valid:
        raise ValueError(f"Cannot simulate: {given}; expected {expected}.")


def several(what: str, values: tuple) -> tuple:
    """Return class-specific values, of which there must be two different ones at least."""
    check(len(set(values)) == len(values) >= 2, f"{what} are {values}", "two or more different ones")
    return values
