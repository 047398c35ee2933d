"""The one data type that every other module takes and returns."""

from eegxai_support.trials.checks import (
    METADATA_COLUMNS,
    UNITS,
    check_complete,
    check_shape,
    flat_channels,
    stacked,
    unknown_name,
    with_usual_names,
)
from eegxai_support.trials.data import Trials
from eegxai_support.trials.joined import concatenate

__all__ = [
    "METADATA_COLUMNS",
    "UNITS",
    "Trials",
    "check_complete",
    "check_shape",
    "concatenate",
    "flat_channels",
    "stacked",
    "unknown_name",
    "with_usual_names",
]
