"""Score maps against a reference, or by what the decoder loses without what they point at; each with its chance."""

from eegxai_support.scoring.faithfulness import area_under_curve, deletion_test, perturbation_curves, sensitivity_test
from eegxai_support.scoring.intervals import mean_and_interval
from eegxai_support.scoring.maps import PROTOCOLS, pearson, score_maps
from eegxai_support.scoring.metrics import METRICS, Metric
from eegxai_support.scoring.processing import process_maps
from eegxai_support.scoring.retraining import roar

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Metric",
    "area_under_curve",
    "deletion_test",
    "mean_and_interval",
    "pearson",
    "perturbation_curves",
    "process_maps",
    "roar",
    "score_maps",
    "sensitivity_test",
]
