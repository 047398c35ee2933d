"""What is known about simulated trials: the classes without noise, the law of the noise, the best possible decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

import mne
import numpy as np
import scipy

from eegxai_support.simulate.noise import EstimatedNoise, Noise
from eegxai_support.trials import Trials

SUPPORT_LEVEL = 0.05  # of the largest absolute value of the truth in a trial
N_PHASES = 64  # of the average over the phase; its error falls exponentially with their number


@dataclass(frozen=True, eq=False)
class Scenario:
    """The law that simulated trials were drawn from.

    Parameters
    ----------
    components : ndarray, shape (class, component, channel, time)
        Noise-free signal of each class. One component: the signal itself. Two: sine parts u and v of a signal
        u cos φ + v sin φ whose phase φ is drawn uniformly in each trial.
    noise : Noise
        Of the background without artefacts; an `EstimatedNoise` where that is a recording.
    unit : str
        Of components and noise.
    """

    components: np.ndarray
    noise: Noise
    unit: str = "uV"

    def log_likelihood(self, signal: np.ndarray) -> np.ndarray:
        """Log-likelihood ratio of each class against noise alone, averaged over the unknown phase.

        Parameters
        ----------
        signal : ndarray, shape (trial, channel, time)
            In the scenario's unit.

        Returns
        -------
        ndarray, shape (trial, class)
            With K = noise covariance and s the class signal: xᵀK⁻¹s − sᵀK⁻¹s / 2; the energy detector where the phase
            is unknown.
        """
        template = self.noise.whiten(self.components)
        energy = np.einsum("kif,kjf->kij", template, template.conj()).real
        score = np.stack([self.noise.whiten(x).conj() @ template.reshape(-1, template.shape[2]).T for x in signal])
        mixture = mixtures(self.components.shape[1], N_PHASES)
        ratio = np.einsum("tki,pi->tkp", score.real.reshape(len(signal), *template.shape[:2]), mixture)
        ratio -= np.einsum("pi,kij,pj->kp", mixture, energy, mixture) / 2
        return scipy.special.logsumexp(ratio, axis=2) - np.log(len(mixture))


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedTrials(Trials):
    """Trials whose answer is known.

    Parameters
    ----------
    scenario : Scenario, optional
        The law that the trials were drawn from; None once their channels were picked, re-referenced or mixed.
    suppressor : str, optional
        Name of the channel that carries only noise.
    artefacts : bool
        Whether blinks or muscle activity were added.
    """

    scenario: Scenario | None = None
    suppressor: str | None = None
    artefacts: bool = False

    @property
    def ideal_map(self) -> np.ndarray:
        """What a perfect map of the signal looks like: ``abs(truth)``, shape (trial, channel, time)."""
        return np.abs(self.truth)

    def apply_matrix(self, matrix: np.ndarray, info: mne.Info | None = None) -> SimulatedTrials:
        """Return trials whose channels are linear combinations of these; their noise follows another law."""
        return replace(super().apply_matrix(matrix, info), scenario=None)

    def ideal_log_likelihood(self) -> np.ndarray:
        """Log-likelihood ratio of each class for these trials, shape (trial, class).

        Raises
        ------
        ValueError
            The background is a recording; the trials hold artefacts, or were cropped or their channels or unit changed
            since they were simulated.
        """
        if self.planted:
            raise ValueError(
                "These sources were planted in a recording, whose law nobody knows, so that no decoder is known to be"
                " ideal. estimated_log_likelihood() takes the law for a stationary Gaussian one with the covariance and"
                " the spectra of these trials."
            )
        return self._log_likelihood("ideal")

    def estimated_log_likelihood(self) -> np.ndarray:
        """Log-likelihood ratio of each class for trials in a recording, shape (trial, class).

        The noise is taken for stationary, Gaussian, and independent along its principal axes. Axes and spectra are
        those of all trials without their source, in which no label enters. Where the recording is none of that, a
        decoder may be better than this one.

        Raises
        ------
        ValueError
            The background is simulated, and its law known; or as `ideal_log_likelihood`.
        """
        if self.scenario is not None and not self.planted:
            raise ValueError("The law of a simulated background is known: ask ideal_log_likelihood() instead.")
        return self._log_likelihood("estimated")

    @property
    def planted(self) -> bool:
        """Whether the background is a recording, as far as it is known."""
        return self.scenario is not None and isinstance(self.scenario.noise, EstimatedNoise)

    def _log_likelihood(self, which: str) -> np.ndarray:
        drawn = self.scenario is not None and not self.artefacts and self.unit == self.scenario.unit
        if not drawn or self.signal.shape[1:] != self.scenario.components.shape[2:]:
            raise ValueError(
                f"The {which} decoder knows the law of simulated trials as they were drawn: without artefacts, whole,"
                " in their unit. Ask it before trials are cropped or scaled or their channels change, and set"
                " blink_rate and muscle_rate to 0."
            )
        return self.scenario.log_likelihood(self.signal)

    @property
    def ideal_accuracy(self) -> float:
        """Accuracy on these trials of the decoder that knows signal and noise: none can be better on average.

        Raises
        ------
        ValueError
            See `ideal_log_likelihood`.
        """
        return float((self.ideal_log_likelihood().argmax(axis=1) == self.label).mean())


def mixtures(n_components: int, n_phases: int) -> np.ndarray:
    """Weights of the components on a grid of phases, shape (phase, component)."""
    if n_components == 1:
        return np.ones((1, 1))
    phase = 2 * np.pi * np.arange(n_phases) / n_phases
    return np.stack([np.cos(phase), np.sin(phase)], axis=1)


def amplitude(components: np.ndarray, noise: Noise, snr_db: float) -> float:
    """Factor that brings the components to the signal-to-noise ratio over their support."""
    # A grid of phases, so that the amplitude depends on neither the seed nor the number of trials.
    signal = np.einsum("pi,kict->kpct", mixtures(components.shape[1], 16), components)
    power = signal.reshape(-1, *components.shape[2:]) ** 2
    support = power >= SUPPORT_LEVEL**2 * power.max(axis=(1, 2), keepdims=True)
    background = np.broadcast_to(noise.channel_variance[:, None], power.shape)
    return np.sqrt(10 ** (snr_db / 10) * background[support].mean() / power[support].mean())
