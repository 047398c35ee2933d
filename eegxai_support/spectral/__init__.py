"""What a network reads in the spectrum of its input, and what the spectrum itself shows."""

from eegxai_support.spectral.gradients import amplitude_gradients
from eegxai_support.spectral.measured import (
    FilterBankCSP,
    band_power,
    erds_map,
    event_related_desynchronisation,
    filter_bank_csp,
)
from eegxai_support.spectral.perturbation import AmplitudeEffect, amplitude_perturbation
from eegxai_support.spectral.regions import REGIONS, region_relevance
from eegxai_support.spectral.relevance import frequency_relevance, time_frequency_relevance

__all__ = [
    "REGIONS",
    "AmplitudeEffect",
    "FilterBankCSP",
    "amplitude_gradients",
    "amplitude_perturbation",
    "band_power",
    "erds_map",
    "event_related_desynchronisation",
    "filter_bank_csp",
    "frequency_relevance",
    "region_relevance",
    "time_frequency_relevance",
]
