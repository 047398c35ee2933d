"""Per-trial attribution maps, one file per family of methods; importing a family registers its methods."""

# METHODS keeps this order, and so do the tables made of it.
# isort: off
from eegxai_support.attribution import gradients, integrated, sampling, deep_lift, lrp, guided, grad_cam  # noqa: F401
from eegxai_support.attribution import perturbation, shapley, random  # noqa: F401

# isort: on
from eegxai_support.attribution.baselines import make_baseline
from eegxai_support.attribution.core import BaselineWarning, attribute
from eegxai_support.attribution.problem import METHODS, Maps, Method, Problem, register
from eegxai_support.attribution.result import Attribution

__all__ = [
    "METHODS",
    "Attribution",
    "BaselineWarning",
    "Maps",
    "Method",
    "Problem",
    "attribute",
    "make_baseline",
    "register",
]
