"""Simulated trials with a known answer: where, when and at which frequency the classes differ."""

from eegxai_support.montages import EEGBCI_CHANNELS
from eegxai_support.simulate.head import SOURCE_RADIUS, dipole_topography
from eegxai_support.simulate.regimes import REGIMES, simulate
from eegxai_support.simulate.scenario import Scenario, SimulatedTrials
from eegxai_support.simulate.shortcuts import SHORTCUTS, add_shortcut

__all__ = [
    "EEGBCI_CHANNELS",
    "REGIMES",
    "SHORTCUTS",
    "SOURCE_RADIUS",
    "Scenario",
    "SimulatedTrials",
    "add_shortcut",
    "dipole_topography",
    "simulate",
]
