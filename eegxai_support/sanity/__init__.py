"""Sanity checks: a map has to change when the label, the weights or the training labels are replaced."""

from eegxai_support.sanity.checks import (
    data_randomisation_test,
    efficient_mprt,
    label_randomisation_test,
    random_target,
    smooth_mprt,
    weight_randomisation_test,
)
from eegxai_support.sanity.weights import randomize

__all__ = [
    "data_randomisation_test",
    "efficient_mprt",
    "label_randomisation_test",
    "random_target",
    "randomize",
    "smooth_mprt",
    "weight_randomisation_test",
]
