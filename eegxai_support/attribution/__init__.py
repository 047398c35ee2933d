"""Per-trial attribution maps, one file per family of methods; importing a family registers its methods."""

from eegxai_support.attribution import (  # noqa: F401
    deep_lift,
    grad_cam,
    gradients,
    guided,
    integrated,
    lrp,
    perturbation,
    random,
    sampling,
    shapley,
)
from eegxai_support.attribution.baselines import make_baseline
from eegxai_support.attribution.core import Attribution, BaselineWarning, attribute
from eegxai_support.attribution.problem import METHODS, Method, UnsupportedOperation
from eegxai_support.attribution.simplify import simplify

__all__ = [
    "METHODS",
    "Attribution",
    "BaselineWarning",
    "Method",
    "UnsupportedOperation",
    "attribute",
    "make_baseline",
    "simplify",
]
