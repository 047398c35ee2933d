"""What a network reads in the spectrum of its input, and what the spectrum itself shows."""

from eegxai_support.spectral.gradients import amplitude_gradients
from eegxai_support.spectral.perturbation import AmplitudeEffect, amplitude_perturbation
from eegxai_support.spectral.relevance import frequency_relevance, time_frequency_relevance

__all__ = [
    "AmplitudeEffect",
    "amplitude_gradients",
    "amplitude_perturbation",
    "frequency_relevance",
    "time_frequency_relevance",
]
