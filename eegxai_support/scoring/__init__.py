"""Score maps against a reference: twelve metrics, four SSIM, and the level that chance reaches on each."""

from eegxai_support.scoring.maps import PROTOCOLS, pearson, score_maps
from eegxai_support.scoring.metrics import METRICS, Metric

__all__ = ["METRICS", "PROTOCOLS", "Metric", "pearson", "score_maps"]
